//! The linear item–item term: EASE (Steck 2019) over the training events, as two thin matrices.
//!
//! With `G = XᵀX` over sequences and `P = (G + λI)⁻¹`, EASE scores item `j` after item `i ≠ j` by `-P[i,j] / P[j,j]`.
//! For `G = V Σ Vᵀ`, `P = I/λ - V diag(1/λ - 1/(σ+λ)) Vᵀ`: off the diagonal only eigenvalues that are not small against
//! λ count, so that the leading eigenvectors carry nearly all of it. They come from subspace iteration with a final
//! Rayleigh–Ritz step (Halko, Martinsson and Tropp 2011), which reads the events as sparse rows and never makes `G`.

use candle_core::{Device, Tensor};
use nalgebra::{DMatrix, SymmetricEigen};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use unimodel_model::catalogue::Catalogue;
use unimodel_model::network::{LINEAR_CONTEXT, LINEAR_ITEM, LinearConfig, Tensors};

use super::{TrainError, normal};
use crate::evaluate::Events;
use crate::evaluate::events::Counted;

/// Rounds of the subspace iteration; the spectrum of co-occurrence falls fast.
const ROUNDS: usize = 12;

/// The two fixed tensors of the term.
pub(super) fn tensors(events: &Events, catalogue: &Catalogue, config: &LinearConfig) -> Result<Tensors, TrainError> {
    let mut sets: Vec<Vec<u32>> = Vec::new();
    events.item_sets(catalogue, Counted::All, |set| sets.push(set.to_vec()))?;
    // The order of the sets decides how sums round: sort, so that the same events give the same tensors.
    sets.sort_unstable();
    let (context, item) = factors(&sets, catalogue.len(), config);
    let (items, width) = (catalogue.len(), config.width);
    Ok(Tensors::from([
        (LINEAR_CONTEXT.to_owned(), Tensor::from_vec(context, (items + 1, width), &Device::Cpu)?),
        (LINEAR_ITEM.to_owned(), Tensor::from_vec(item, (items, width), &Device::Cpu)?),
    ]))
}

/// History side `[items + 1, width]`, with a last row of zeros for unknown items, and item side `[items, width]`.
fn factors(sets: &[Vec<u32>], items: usize, config: &LinearConfig) -> (Vec<f32>, Vec<f32>) {
    let width = config.width.min(items);
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut basis = DMatrix::from_fn(items, width, |_, _| normal(&mut rng));
    for _ in 0..ROUNDS {
        basis = gram_times(sets, &basis).qr().q();
    }
    let image = gram_times(sets, &basis);
    let ritz = SymmetricEigen::new(basis.transpose() * &image);
    let vectors = &basis * &ritz.eigenvectors;
    let lambda = config.regularisation;
    let strength: Vec<f64> = ritz.eigenvalues.iter().map(|s| 1.0 / lambda - 1.0 / (s.max(0.0) + lambda)).collect();
    let (mut context, mut item) = (vec![0f32; (items + 1) * config.width], vec![0f32; items * config.width]);
    for row in 0..items {
        let removed: f64 = (0..width).map(|k| vectors[(row, k)].powi(2) * strength[k]).sum();
        let diagonal = (1.0 / lambda - removed).max(f64::MIN_POSITIVE);
        for k in 0..width {
            context[row * config.width + k] = (vectors[(row, k)] * strength[k].sqrt()) as f32;
            item[row * config.width + k] = (vectors[(row, k)] * strength[k].sqrt() / diagonal) as f32;
        }
    }
    (context, item)
}

/// `G` times a matrix of columns, by way of the sets.
fn gram_times(sets: &[Vec<u32>], columns: &DMatrix<f64>) -> DMatrix<f64> {
    // Rows are what a set adds up, and nalgebra stores columns: work on the transpose.
    let from = columns.transpose();
    let mut to = DMatrix::zeros(from.nrows(), from.ncols());
    for set in sets {
        let mut sum = vec![0.0; from.nrows()];
        for &item in set {
            sum.iter_mut().zip(from.column(item as usize).iter()).for_each(|(s, x)| *s += x);
        }
        for &item in set {
            to.column_mut(item as usize).iter_mut().zip(&sum).for_each(|(t, s)| *t += s);
        }
    }
    to.transpose()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn at_full_width_it_is_ease() {
        let sets = vec![vec![0, 1, 2], vec![0, 1], vec![2, 3], vec![1, 3], vec![0, 3]];
        let config = LinearConfig { width: 4, regularisation: 0.7, decay: 0.2 };
        let (context, item) = factors(&sets, 4, &config);
        let mut gram = DMatrix::<f64>::identity(4, 4) * 0.7;
        for set in &sets {
            for &i in set {
                set.iter().for_each(|&j| gram[(i as usize, j as usize)] += 1.0);
            }
        }
        let inverse = gram.try_inverse().unwrap();
        for i in 0..4 {
            for j in (0..4).filter(|j| *j != i) {
                let got: f32 = (0..4).map(|k| context[i * 4 + k] * item[j * 4 + k]).sum();
                let expected = -inverse[(i, j)] / inverse[(j, j)];
                assert!((f64::from(got) - expected).abs() < 1e-5, "{i} {j}: {got} {expected}");
            }
        }
        assert_eq!(context[16..], [0.0; 4]);
    }
}
