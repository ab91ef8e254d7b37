//! Item–item baselines: a square matrix learned from who had what, applied to the history of a request.

use std::collections::HashMap;
use std::sync::Arc;

use nalgebra::{DMatrix, DMatrixViewMut};
use rayon::prelude::*;
use unimodel_model::catalogue::Catalogue;
use unimodel_model::context::Value;
use unimodel_model::item_ids::ItemIds;
use unimodel_model::schema::{Element, ElementType, Entity};

use crate::evaluate::cases::Case;
use crate::evaluate::error::EvaluateError;
use crate::evaluate::events::{Counted, Events, of_owner};
use crate::evaluate::scorer::Scorer;

/// What each item (row) says for each other (column), `items × items`; nothing for itself.
pub(super) struct Matrix {
    items: usize,
    values: Vec<f32>,
}

impl Matrix {
    /// Cosine between the sets of sequences that hold the items.
    pub(super) fn cosine(events: &Events, catalogue: &Catalogue, counted: Counted) -> Result<Self, EvaluateError> {
        let mut matrix = Self::cooccurrence(events, catalogue, counted)?;
        matrix.normalise();
        Ok(matrix)
    }

    fn normalise(&mut self) {
        let n = self.items;
        let norms: Vec<f32> = (0..n).map(|i| self.values[i * n + i].sqrt()).collect();
        for (i, row) in self.values.chunks_mut(n).enumerate() {
            for (value, norm) in row.iter_mut().zip(&norms) {
                if *value > 0.0 {
                    *value /= norms[i] * norm;
                }
            }
            row[i] = 0.0;
        }
    }

    /// EASE: `B = I − P / diag(P)` with `P = (XᵀX + λI)⁻¹`, after Steck, "Embarrassingly Shallow Autoencoders for
    /// Sparse Data", 2019, equation 8.
    pub(super) fn ease(
        events: &Events,
        catalogue: &Catalogue,
        counted: Counted,
        lambda: f64,
    ) -> Result<Self, EvaluateError> {
        let gram = Self::cooccurrence(events, catalogue, counted)?;
        gram.autoencoder(lambda).ok_or_else(|| EvaluateError::Baseline {
            baseline: "EASE".into(),
            problem: format!("lambda is {lambda}, too small for the events to be inverted; a larger one is needed"),
        })
    }

    /// `None` if the matrix is not positive definite in 32 bits.
    fn autoencoder(self, lambda: f64) -> Option<Self> {
        let n = self.items;
        let mut gram = DMatrix::from_vec(n, n, self.values);
        for i in 0..n {
            gram[(i, i)] += lambda as f32;
        }
        let mut values: Vec<f32> = inverse(gram)?.data.into();
        let diagonal: Vec<f32> = (0..n).map(|i| values[i * n + i]).collect();
        // The inverse is symmetric, so that its columns are our rows.
        for (i, row) in values.chunks_mut(n).enumerate() {
            row.iter_mut().zip(&diagonal).for_each(|(value, d)| *value = -*value / d);
            row[i] = 0.0;
        }
        Some(Self { items: n, values })
    }

    /// `XᵀX`: how many sequences hold both items. Exact in 32 bits up to 16 million sequences.
    fn cooccurrence(events: &Events, catalogue: &Catalogue, counted: Counted) -> Result<Self, EvaluateError> {
        let n = catalogue.len();
        let mut values = vec![0f32; n * n];
        events.item_sets(catalogue, counted, |set| add_pairs(&mut values, n, set))?;
        mirror(&mut values, n);
        Ok(Self { items: n, values })
    }
}

/// Counts the pairs of a set in rising order, above the diagonal and on it.
fn add_pairs(values: &mut [f32], n: usize, set: &[u32]) {
    for (at, &i) in set.iter().enumerate() {
        let row = &mut values[i as usize * n..][..n];
        set[at..].iter().for_each(|&j| row[j as usize] += 1.0);
    }
}

fn mirror(values: &mut [f32], n: usize) {
    for i in 0..n {
        for j in 0..i {
            values[i * n + j] = values[j * n + i];
        }
    }
}

/// The inverse of a symmetric positive definite matrix: `A = LLᵀ`, `A⁻¹ = L⁻ᵀL⁻¹`. Column j of `L⁻¹` starts at row j,
/// which spares two thirds of the general inverse's work.
fn inverse(matrix: DMatrix<f32>) -> Option<DMatrix<f32>> {
    let n = matrix.nrows();
    let lower = matrix.cholesky()?.unpack();
    let mut inverted = DMatrix::<f32>::identity(n, n);
    inverted.as_mut_slice().par_chunks_mut(n).enumerate().for_each(|(j, column)| {
        let mut tail = DMatrixViewMut::from_slice(&mut column[j..], n - j, 1);
        // The diagonal of a Cholesky factor has no zero.
        let _ = lower.view((j, j), (n - j, n - j)).solve_lower_triangular_mut(&mut tail);
    });
    drop(lower);
    Some(inverted.transpose() * inverted)
}

/// The items that a request comes with.
pub(super) struct History {
    items: Arc<ItemIds>,
    /// Elements that hold a list of items.
    lists: Vec<String>,
    /// Elements that hold one item.
    single: Vec<String>,
    /// Each sequence's positives, where only those of a history count.
    liked: Option<Arc<HashMap<String, Vec<u32>>>>,
}

impl History {
    pub(super) fn new(
        catalogue: &Catalogue,
        elements: &[Element],
        liked: Option<Arc<HashMap<String, Vec<u32>>>>,
    ) -> Self {
        let of_kind = |kind: ElementType| {
            let elements = elements.iter().filter(move |e| e.of == Entity::Item && e.kind == kind);
            elements.map(|e| e.name.clone()).collect()
        };
        Self {
            items: catalogue.ids().clone(),
            lists: of_kind(ElementType::IdList),
            single: of_kind(ElementType::Id),
            liked,
        }
    }

    /// Its history, the most recent last; without one, its source item.
    fn of(&self, case: &Case) -> Vec<u32> {
        let liked = self.liked.as_ref().zip(case.sequence.as_ref()).and_then(|(liked, s)| of_owner(liked, s));
        let likes = |item: &u32| match (&self.liked, &case.sequence) {
            (Some(_), Some(_)) => liked.is_some_and(|(_, items)| items.binary_search(item).is_ok()),
            _ => true,
        };
        let lists = self.lists.iter().filter_map(|element| match case.context.get(element) {
            Some(Value::List(ids)) => Some(ids),
            _ => None,
        });
        let mut items: Vec<u32> = lists.flatten().filter_map(|id| self.items.find(id)).filter(likes).collect();
        if items.is_empty() {
            items.extend(self.single.iter().filter_map(|element| match case.context.get(element) {
                Some(Value::Text(id)) => self.items.find(id),
                _ => None,
            }));
        }
        items
    }
}

/// The sum of the matrix rows of the history, each weighted by its age.
pub(super) struct ItemItem {
    name: String,
    matrix: Arc<Matrix>,
    /// Weight of an item by its age in steps; the most recent one's is 1.
    decay: f32,
    history: History,
}

impl ItemItem {
    pub(super) fn new(name: String, matrix: Arc<Matrix>, decay: f32, history: History) -> Self {
        Self { name, matrix, decay, history }
    }
}

impl Scorer for ItemItem {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn score(&self, cases: &[Case], _: &[bool], out: &mut [f32]) -> Result<(), EvaluateError> {
        /// A weight below this moves no score that 32 bits can tell.
        const NEGLIGIBLE: f32 = 1e-9;
        let n = self.matrix.items;
        out.par_chunks_mut(n).zip(cases).for_each(|(row, case)| {
            row.fill(0.0);
            let mut weight = 1.0;
            for &item in self.history.of(case).iter().rev() {
                let says = &self.matrix.values[item as usize * n..][..n];
                row.iter_mut().zip(says).for_each(|(score, says)| *score += weight * says);
                weight *= self.decay;
                if weight < NEGLIGIBLE {
                    break;
                }
            }
        });
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Sequences {0, 1}, {0, 1}, {1, 2}.
    fn counted() -> Matrix {
        let mut values = vec![0.0; 9];
        for set in [[0, 1], [0, 1], [1, 2]] {
            add_pairs(&mut values, 3, &set);
        }
        mirror(&mut values, 3);
        Matrix { items: 3, values }
    }

    fn assert_near(found: &[f32], expected: &[f32]) {
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5), "{found:?}");
    }

    #[test]
    fn cooccurrence_by_hand() {
        assert_eq!(counted().values, [2.0, 2.0, 0.0, 2.0, 3.0, 1.0, 0.0, 1.0, 1.0]);
    }

    #[test]
    fn cosine_by_hand() {
        let mut matrix = counted();
        matrix.normalise();
        let (a, b) = (2.0 / 6f32.sqrt(), 1.0 / 3f32.sqrt());
        assert_near(&matrix.values, &[0.0, a, 0.0, a, 0.0, b, 0.0, b, 0.0]);
    }

    #[test]
    fn ease_by_hand() {
        // XᵀX + I = [[3,2,0],[2,4,1],[0,1,2]], determinant 13, and its inverse is
        // [[7,-4,2],[-4,6,-3],[2,-3,8]] / 13; each column divided by minus its diagonal element.
        let matrix = counted().autoencoder(1.0).unwrap();
        let expected = [0.0, 4.0 / 6.0, -2.0 / 8.0, 4.0 / 7.0, 0.0, 3.0 / 8.0, -2.0 / 7.0, 3.0 / 6.0, 0.0];
        assert_near(&matrix.values, &expected);
    }

    #[test]
    fn a_matrix_that_cannot_be_inverted_is_found() {
        let matrix = Matrix { items: 2, values: vec![1.0, 2.0, 2.0, 1.0] };
        assert!(matrix.autoencoder(0.5).is_none());
    }
}
