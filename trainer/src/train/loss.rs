//! Losses over a batch of scores, as one differentiable operation: the catalogue is wide, and a chain of tensor
//! operations would go over it a dozen times.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

/// What one row of scores is to become.
#[derive(Clone, Debug)]
pub(super) enum Goal {
    /// Cross entropy between the softmax over the candidates and the targets `(column, share)`, whose shares sum to one.
    Softmax {
        /// Targets.
        targets: Vec<(u32, f32)>,
        /// Columns that are no candidates; never a target.
        excluded: Vec<u32>,
        /// Where given, the only columns that are candidates.
        within: Option<Arc<Vec<bool>>>,
    },
    /// Binary cross entropy of one column against a label in 0 to 1.
    Binary {
        /// Column.
        column: u32,
        /// Label.
        label: f32,
    },
}

/// The weighted mean loss of the rows.
pub(super) struct RankingLoss {
    goals: Arc<Vec<(Goal, f32)>>,
    total: f32,
}

impl RankingLoss {
    /// The loss of `[rows, columns]` scores under one goal and weight a row, a scalar.
    pub(super) fn of(scores: &Tensor, goals: Vec<(Goal, f32)>) -> Result<Tensor> {
        let total = goals.iter().map(|g| g.1).sum::<f32>().max(f32::MIN_POSITIVE);
        scores.contiguous()?.apply_op1(Self { goals: Arc::new(goals), total })
    }
}

impl Goal {
    /// The row's loss, and its gradient in `gradient` if wanted.
    fn row(&self, scores: &[f32], weight: f32, gradient: Option<&mut [f32]>) -> f32 {
        match self {
            Self::Binary { column, label } => {
                let x = scores[*column as usize];
                if let Some(gradient) = gradient {
                    gradient[*column as usize] = weight * (1.0 / (1.0 + (-x).exp()) - label);
                }
                // log(1 + e^x) - label x, without overflow.
                weight * (x.max(0.0) - x * label + (-x.abs()).exp().ln_1p())
            }
            Self::Softmax { targets, excluded, within } => {
                let mut probabilities = scores.to_vec();
                excluded.iter().for_each(|&c| probabilities[c as usize] = f32::NEG_INFINITY);
                if let Some(within) = within {
                    let outside = probabilities.iter_mut().zip(within.iter()).filter(|(_, inside)| !**inside);
                    outside.for_each(|(p, _)| *p = f32::NEG_INFINITY);
                }
                targets.iter().for_each(|&(c, _)| probabilities[c as usize] = scores[c as usize]);
                let max = probabilities.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let mut sum = 0f32;
                probabilities.iter_mut().for_each(|p| {
                    *p = (*p - max).exp();
                    sum += *p;
                });
                let log_sum = max + sum.ln();
                if let Some(gradient) = gradient {
                    let scale = weight / sum;
                    gradient.iter_mut().zip(&probabilities).for_each(|(g, p)| *g = scale * p);
                    targets.iter().for_each(|&(c, share)| gradient[c as usize] -= weight * share);
                }
                weight * targets.iter().map(|&(c, share)| share * (log_sum - scores[c as usize])).sum::<f32>()
            }
        }
    }
}

impl CustomOp1 for RankingLoss {
    fn name(&self) -> &'static str {
        "ranking-loss"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (_, columns) = layout.shape().dims2()?;
        let (from, to) = layout
            .contiguous_offsets()
            .ok_or_else(|| candle_core::Error::Msg("loss: scores must be contiguous".into()))?;
        let scores = &storage.as_slice::<f32>()?[from..to];
        let rows: Vec<f32> =
            scores.par_chunks(columns).zip(self.goals.par_iter()).map(|(s, (g, w))| g.row(s, *w, None)).collect();
        Ok((CpuStorage::F32(vec![rows.iter().sum::<f32>() / self.total]), Shape::from(())))
    }

    fn bwd(&self, scores: &Tensor, _res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (rows, columns) = scores.dims2()?;
        let scale = grad.to_scalar::<f32>()? / self.total;
        let values = scores.flatten_all()?.to_vec1::<f32>()?;
        let mut gradient = vec![0f32; values.len()];
        gradient.par_chunks_mut(columns).zip(values.par_chunks(columns)).zip(self.goals.par_iter()).for_each(
            |((into, scores), (goal, weight))| {
                goal.row(scores, weight * scale, Some(into));
            },
        );
        Ok(Some(Tensor::from_vec(gradient, (rows, columns), scores.device())?))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    fn goals() -> Vec<(Goal, f32)> {
        let softmax = |targets, excluded, within| Goal::Softmax { targets, excluded, within };
        vec![
            (softmax(vec![(1, 0.75), (2, 0.25)], vec![0], None), 1.0),
            (softmax(vec![(3, 1.0)], vec![], Some(Arc::new(vec![true, false, false, true]))), 2.0),
            (Goal::Binary { column: 2, label: 0.3 }, 0.5),
        ]
    }

    fn loss(x: &[f32]) -> f32 {
        RankingLoss::of(&Tensor::from_slice(x, (3, 4), &Device::Cpu).unwrap(), goals()).unwrap().to_scalar().unwrap()
    }

    #[test]
    fn the_value_is_that_of_the_definition() {
        let x = [9.0, 1.0, 2.0, 0.0, 1.0, 9.0, 9.0, 2.0, 0.0, 0.0, 0.5, 0.0];
        let log_sum = |v: &[f32]| v.iter().map(|x| x.exp()).sum::<f32>().ln();
        let first = log_sum(&[1.0, 2.0, 0.0]) - 0.75 - 0.5;
        let second = log_sum(&[1.0, 2.0]) - 2.0;
        let p = 1.0 / (1.0 + (-0.5f32).exp());
        let third = -(0.3 * p.ln() + 0.7 * (1.0 - p).ln());
        assert!((loss(&x) - (first + 2.0 * second + 0.5 * third) / 3.5).abs() < 1e-5);
    }

    #[test]
    fn the_gradient_is_that_of_finite_differences() {
        let x: Vec<f32> = (0..12).map(|i| (i as f32 * 1.7).sin()).collect();
        let var = Var::from_slice(&x, (3, 4), &Device::Cpu).unwrap();
        let gradient = RankingLoss::of(&var, goals()).unwrap().backward().unwrap();
        let gradient = gradient.get(&var).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        for i in 0..12 {
            let (mut up, mut down) = (x.clone(), x.clone());
            up[i] += 1e-2;
            down[i] -= 1e-2;
            let slope = (loss(&up) - loss(&down)) / 2e-2;
            assert!((slope - gradient[i]).abs() < 2e-3, "{i}: {slope} {}", gradient[i]);
        }
    }
}
