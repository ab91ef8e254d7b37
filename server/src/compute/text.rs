//! Texts as unit vectors, of queries and of items alike.

use std::collections::HashMap;
use std::num::NonZeroUsize;

use unimodel_model::error::ModelError;
use unimodel_model::text::{for_each_word, word_ngrams};
use unimodel_model::weights::Weights;

use super::items::ItemMatrix;
use super::kernels::{Activation, Kernels};
use super::packed::Packed;
use super::vector::{add, unit_scale};

/// Words whose sums are kept: with the sizes that networks have by themselves 12 MiB.
const KEPT_WORDS: usize = 1 << 14;

/// The n-grams' vectors.
#[derive(Clone, Debug)]
pub(super) struct TextTable {
    kernels: Kernels,
    rows: ItemMatrix,
    idf: Vec<f32>,
}

impl TextTable {
    pub(super) fn new(kernels: Kernels, weights: &Weights) -> Result<Self, ModelError> {
        Ok(Self {
            kernels,
            rows: ItemMatrix::read(weights, "text.table", NonZeroUsize::MIN)?,
            idf: weights.read("text.log_idf")?.into_iter().map(f32::exp).collect(),
        })
    }

    /// Width of the vectors.
    pub(super) fn width(&self) -> usize {
        self.rows.width()
    }

    /// The table with the product of each row and some weights beside it, `[n-grams, width + outputs]`.
    pub(super) fn beside_product(&self, weights: &Packed) -> ItemMatrix {
        let (width, outputs, count) = (self.width(), weights.outputs(), self.rows.count());
        let mut products = vec![0.0; count * outputs];
        self.kernels.linear(self.rows.all(width), weights, &vec![0.0; outputs], Activation::Identity, &mut products);
        let mut both = ItemMatrix::zeros(count, width + outputs);
        for (gram, product) in (0..count as u32).zip(products.chunks_exact(outputs.max(1))) {
            let row = both.row_mut(gram);
            row[..width].copy_from_slice(self.rows.row(gram));
            row[width..].copy_from_slice(product);
        }
        both
    }

    /// Adds the unit vector of a text that is given by its n-grams to zeros; leaves them for a text without.
    ///
    /// # Panics
    /// If the vector is not as wide, or an n-gram is not in the table.
    pub(super) fn add_unit_vector(&self, grams: &[(u32, f32)], vector: &mut [f32]) {
        self.add_weighted_sum(&self.rows, grams, vector);
        let scale = unit_scale(vector);
        vector.iter_mut().for_each(|x| *x *= scale);
    }

    /// Adds the n-grams' rows of a table by how much each says.
    ///
    /// # Panics
    /// If the sum is not as wide as the table, or an n-gram is not in it.
    pub(super) fn add_weighted_sum(&self, table: &ItemMatrix, grams: &[(u32, f32)], sum: &mut [f32]) {
        let (buckets, weights): (Vec<u32>, Vec<f32>) =
            grams.iter().map(|&(bucket, count)| (bucket, count * self.idf[bucket as usize])).unzip();
        self.kernels.add_weighted_sum(table.some(&buckets, table.width()), &weights, sum);
    }
}

/// Sums of the rows of a table by a text's n-grams, of many texts: the sum of a text is that of its words, and most words
/// occur in many texts.
pub(super) struct WordSums<'a> {
    text: &'a TextTable,
    table: &'a ItemMatrix,
    /// Rows of `sums` by word.
    known: HashMap<Box<[char]>, usize>,
    /// One row after the other, as wide as the table.
    sums: Vec<f32>,
}

impl<'a> WordSums<'a> {
    /// Of a table with a row for each n-gram.
    pub(super) fn new(text: &'a TextTable, table: &'a ItemMatrix) -> Self {
        Self { text, table, known: HashMap::new(), sums: Vec::new() }
    }

    /// Adds what [`TextTable::add_weighted_sum`] adds for all n-grams of the text.
    ///
    /// # Panics
    /// If the sum is not as wide as the table.
    pub(super) fn add(&mut self, text: impl Iterator<Item = char>, sum: &mut [f32]) {
        for_each_word(text, |word| {
            let row = self.row(word);
            add(sum, &self.sums[row * self.table.width()..][..self.table.width()]);
        });
    }

    fn row(&mut self, word: &[char]) -> usize {
        if let Some(row) = self.known.get(word) {
            return *row;
        }
        if self.known.len() == KEPT_WORDS {
            self.known.clear();
            self.sums.clear();
        }
        let mut grams = Vec::new();
        word_ngrams(word, self.table.count(), |bucket| grams.push((bucket, 1.0)));
        let row = self.known.len();
        self.known.insert(word.into(), row);
        self.sums.resize((row + 1) * self.table.width(), 0.0);
        self.text.add_weighted_sum(self.table, &grams, &mut self.sums[row * self.table.width()..]);
        row
    }
}

#[cfg(test)]
mod tests {
    use unimodel_model::text::ngrams;

    use super::*;

    #[test]
    fn sums_of_words_are_those_of_their_n_grams_also_of_more_words_than_are_kept() {
        const BUCKETS: usize = 50;
        let values: Vec<f32> = (0..BUCKETS * 2).map(|x| (x as f32).sin()).collect();
        let rows = ItemMatrix::new(&values, 2);
        let idf = (0..BUCKETS).map(|bucket| 1.0 + bucket as f32 / 10.0).collect();
        let table = TextTable { kernels: Kernels::detect(), rows: rows.clone(), idf };
        let mut words = WordSums::new(&table, &rows);
        for number in 0..KEPT_WORDS + 100 {
            let text = format!("The {number} of the {}: a Sequel", number / 7);
            let (mut expected, mut got) = ([0.5; 2], [0.5; 2]);
            table.add_weighted_sum(&rows, &ngrams(&text, BUCKETS), &mut expected);
            words.add(text.chars(), &mut got);
            for (expected, got) in expected.iter().zip(got) {
                assert!((expected - got).abs() < 1e-4 * expected.abs().max(10.0), "{text}: {got}, not {expected}");
            }
        }
    }
}
