//! Adam (Kingma and Ba 2015) on a one-cycle schedule (Smith and Topin 2019), with a moving average of the weights.

use std::collections::BTreeMap;

use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor, Var};
use rayon::prelude::*;

type Result<T> = std::result::Result<T, candle_core::Error>;

const BETA1: f32 = 0.9;
const BETA2: f32 = 0.999;
const EPSILON: f32 = 1e-8;
/// Share of the steps in which the learning rate rises.
const WARM_UP: f64 = 0.25;

/// What Adam keeps of one tensor.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Moments {
    /// Mean of the gradient.
    pub mean: Vec<f32>,
    /// Mean of its square.
    pub square: Vec<f32>,
    /// Moving average of the weights.
    pub average: Vec<f32>,
}

/// The optimiser's state.
pub(super) struct Optimizer {
    vars: BTreeMap<String, Var>,
    moments: BTreeMap<String, Moments>,
    step: usize,
    average: f32,
}

impl Optimizer {
    /// Starts at step 0 with the variables' values as their own average.
    pub(super) fn new(vars: BTreeMap<String, Var>, average: f64) -> Result<Self> {
        let mut moments = BTreeMap::new();
        for (name, var) in &vars {
            let start = var.flatten_all()?.to_vec1::<f32>()?;
            let zero = vec![0f32; start.len()];
            moments.insert(name.clone(), Moments { mean: zero.clone(), square: zero, average: start });
        }
        Ok(Self { vars, moments, step: 0, average: average as f32 })
    }

    /// Takes up a run that was interrupted: sets the variables, moments and step.
    pub(super) fn restore(
        &mut self,
        step: usize,
        weights: &BTreeMap<String, Vec<f32>>,
        moments: BTreeMap<String, Moments>,
    ) -> Result<()> {
        for (name, var) in &self.vars {
            var.set(&Tensor::from_vec(weights[name].clone(), var.shape(), &Device::Cpu)?)?;
        }
        self.moments = moments;
        self.step = step;
        Ok(())
    }

    /// The moments by tensor.
    pub(super) fn moments(&self) -> &BTreeMap<String, Moments> {
        &self.moments
    }

    /// The variables by name.
    pub(super) fn vars(&self) -> &BTreeMap<String, Var> {
        &self.vars
    }

    /// One update. A variable without gradient stays as it is.
    pub(super) fn update(&mut self, gradients: &GradStore, learning_rate: f64) -> Result<()> {
        self.step += 1;
        // Both moments start at zero; the corrections undo that bias. The average's own horizon grows with the steps,
        // so that it does not drag the starting weights along.
        let correct1 = 1.0 - BETA1.powi(self.step as i32);
        let correct2 = 1.0 - BETA2.powi(self.step as i32);
        let keep = self.average.min((1.0 + self.step as f32) / (10.0 + self.step as f32));
        let rate = learning_rate as f32 / correct1;
        for (name, var) in &self.vars {
            let Some(moments) = self.moments.get_mut(name) else { continue };
            let mut weights = var.flatten_all()?.to_vec1::<f32>()?;
            let Moments { mean, square, average } = moments;
            if let Some(gradient) = gradients.get(var) {
                let gradient = gradient.flatten_all()?.to_vec1::<f32>()?;
                weights
                    .par_iter_mut()
                    .zip(mean.par_iter_mut())
                    .zip(square.par_iter_mut())
                    .zip(&gradient)
                    .with_min_len(1 << 14)
                    .for_each(|(((w, m), s), g)| {
                        *m = BETA1 * *m + (1.0 - BETA1) * g;
                        *s = BETA2 * *s + (1.0 - BETA2) * g * g;
                        *w -= rate * *m / ((*s / correct2).sqrt() + EPSILON);
                    });
                var.set(&Tensor::from_vec(weights.clone(), var.shape(), &Device::Cpu)?)?;
            }
            average.iter_mut().zip(&weights).for_each(|(a, w)| *a = keep * *a + (1.0 - keep) * w);
        }
        Ok(())
    }

    /// The averaged weights by name.
    pub(super) fn averaged(&self) -> Result<BTreeMap<String, Tensor>> {
        self.vars
            .iter()
            .map(|(name, var)| {
                let average = self.moments[name].average.clone();
                Ok((name.clone(), Tensor::from_vec(average, var.shape(), &Device::Cpu)?))
            })
            .collect()
    }
}

/// Learning rate of a step: up from a 25th of the peak, then down to nearly nothing, both along a cosine.
pub(super) fn one_cycle(step: usize, steps: usize, peak: f64) -> f64 {
    let (low, end) = (peak / 25.0, peak / 1e4);
    let done = (step as f64 / steps.max(1) as f64).min(1.0);
    let cosine = |from: f64, to: f64, share: f64| to + (from - to) * (1.0 + (std::f64::consts::PI * share).cos()) / 2.0;
    if done < WARM_UP {
        cosine(low, peak, done / WARM_UP)
    } else {
        cosine(peak, end, (done - WARM_UP) / (1.0 - WARM_UP))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn one_cycle_rises_to_the_peak_and_falls_to_nearly_nothing() {
        assert!((one_cycle(0, 100, 1.0) - 0.04).abs() < 1e-12);
        assert!((one_cycle(25, 100, 1.0) - 1.0).abs() < 1e-12);
        assert!(one_cycle(100, 100, 1.0) < 2e-4);
    }

    #[test]
    fn adam_finds_the_minimum_of_a_parabola() {
        let x = Var::from_vec(vec![3f32, -2.0], 2, &Device::Cpu).unwrap();
        let mut optimizer = Optimizer::new(BTreeMap::from([("x".to_owned(), x.clone())]), 0.9).unwrap();
        for _ in 0..400 {
            let loss = (x.as_tensor() - 1.0).unwrap().sqr().unwrap().sum_all().unwrap();
            optimizer.update(&loss.backward().unwrap(), 0.05).unwrap();
        }
        for value in optimizer.averaged().unwrap()["x"].to_vec1::<f32>().unwrap() {
            assert!((value - 1.0).abs() < 1e-2, "{value}");
        }
    }
}
