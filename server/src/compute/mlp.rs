//! A perceptron that ends in one number.

use super::aligned::AlignedVec;
use super::kernels::{Activation, Kernels, Rows};
use super::packed::Packed;

/// One layer as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct DenseWeights {
    /// Width of what goes in.
    pub inputs: usize,
    /// Width of what comes out.
    pub outputs: usize,
    /// `[inputs, outputs]` in row-major order.
    pub weights: Vec<f32>,
    /// `[outputs]`.
    pub bias: Vec<f32>,
}

/// A perceptron as it is stored: layers with ReLU, then one output without.
#[derive(Clone, Debug, PartialEq)]
pub struct MlpWeights {
    /// Layers followed by ReLU, each as wide as the next takes.
    pub hidden: Vec<DenseWeights>,
    /// Weights of the output, as many as the last layer is wide.
    pub out: Vec<f32>,
    /// Bias of the output.
    pub out_bias: f32,
}

/// One layer, packed.
#[derive(Clone, Debug)]
pub struct Dense {
    weights: Packed,
    bias: AlignedVec,
}

impl Dense {
    /// Packs a layer.
    ///
    /// # Panics
    /// If the sizes do not fit.
    pub fn new(kernels: Kernels, layer: &DenseWeights) -> Self {
        assert_eq!(layer.bias.len(), layer.outputs, "bias of {} outputs", layer.outputs);
        let weights = Packed::new(kernels, &layer.weights, layer.inputs, layer.outputs);
        Self { weights, bias: AlignedVec::from(&layer.bias[..]) }
    }

    /// `out = activation(x · weights + bias)`, `[x.count, outputs]`.
    pub fn apply(&self, kernels: Kernels, x: Rows, activation: Activation, out: &mut [f32]) {
        kernels.linear(x, &self.weights, &self.bias, activation, out);
    }

    /// Width of what comes out.
    pub fn outputs(&self) -> usize {
        self.weights.outputs()
    }
}

/// A perceptron, packed.
#[derive(Clone, Debug)]
pub struct Mlp {
    kernels: Kernels,
    inputs: usize,
    hidden: Vec<Dense>,
    out: AlignedVec,
    out_bias: f32,
}

impl Mlp {
    /// Packs a perceptron.
    ///
    /// # Panics
    /// If a layer is not as wide as the next takes.
    pub fn new(kernels: Kernels, weights: &MlpWeights) -> Self {
        for (layer, next) in weights.hidden.iter().zip(weights.hidden.iter().skip(1)) {
            assert_eq!(layer.outputs, next.inputs, "width between two layers");
        }
        let inputs = weights.hidden.first().map_or(weights.out.len(), |l| l.inputs);
        assert_eq!(weights.out.len(), weights.hidden.last().map_or(inputs, |l| l.outputs), "width before the output");
        Self {
            kernels,
            inputs,
            hidden: weights.hidden.iter().map(|layer| Dense::new(kernels, layer)).collect(),
            out: AlignedVec::from(&weights.out[..]),
            out_bias: weights.out_bias,
        }
    }

    /// Width of what goes in.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Adds the perceptron's output of each row to `scores`. All rows go through a layer together: give as many as stay
    /// in the second cache. `layers` is memory for the layers' outputs.
    ///
    /// # Panics
    /// If a width or length does not fit.
    pub fn add_scores(&self, x: Rows, layers: &mut (AlignedVec, AlignedVec), scores: &mut [f32]) {
        let count = x.count();
        assert_eq!(scores.len(), count, "length of the scores");
        let Some((first, rest)) = self.hidden.split_first() else { return self.output(x, scores) };
        let (mut out, mut spare) = (&mut layers.0, &mut layers.1);
        first.apply(self.kernels, x, Activation::Relu, out.reuse(count * first.outputs()));
        let mut width = first.outputs();
        for layer in rest {
            let x = Rows::dense(out, width, width, count);
            layer.apply(self.kernels, x, Activation::Relu, spare.reuse(count * layer.outputs()));
            (out, spare) = (spare, out);
            width = layer.outputs();
        }
        self.output(Rows::dense(out, width, width, count), scores);
    }

    fn output(&self, x: Rows, scores: &mut [f32]) {
        scores.iter_mut().for_each(|score| *score += self.out_bias);
        self.kernels.add_dots(&self.out, x, scores);
    }
}
