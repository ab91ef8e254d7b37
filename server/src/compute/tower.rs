//! The item tower: what a version knows of its items before any request, once for the version.
//!
//! It computes what [`Network::items`](unimodel_model::network::Network::items) computes in plain candle, without memory
//! for what lies between: that is the reference of what each attribute adds.

use std::num::NonZeroUsize;

use unimodel_model::error::ModelError;
use unimodel_model::network::{Categories, ITEM_BIAS, ItemReader, LINEAR_ITEM, LOG_POPULARITY, Numbers};
use unimodel_model::schema::Schema;
use unimodel_model::weights::Weights;

use super::items::{ItemMatrix, read_columns};
use super::kernels::Kernels;
use super::packed::Packed;
use super::text::{TextTable, WordSums};
use super::threads::in_parallel;
use super::vector::{add, add_scaled, unit_scale};

/// Items whose rows are read together: few enough that they stay in the second cache.
const CHUNK: usize = 256;

const ITEM_TABLE: &str = "item.table";

/// The item half.
pub(super) struct ItemHalf {
    /// `[vector of the shared tower; vector of the linear term; unit vector of the text]` of all items.
    pub(super) vectors: ItemMatrix,
    /// What is added to each item's score whatever the context, `[items, heads]`.
    pub(super) biases: Vec<f32>,
}

/// The tower's weights, of tables of all items where they are.
pub(super) struct Tower<'a> {
    width: usize,
    linear_width: usize,
    heads: usize,
    weights: &'a Weights,
    popularity: Vec<f32>,
    categories: Vec<CategoryWeights<'a>>,
    numbers: Vec<(&'a Numbers<'a>, Vec<f32>)>,
    reader: &'a ItemReader<'a>,
    text: &'a TextTable,
    /// Of texts the table, and beside it what it adds to the vector, `[n-grams, text_width + width]`: a sum of its rows is
    /// the text's vector before it gets its length, and that times the projection.
    projected: Option<ItemMatrix>,
}

/// Of an attribute of categories.
struct CategoryWeights<'a> {
    categories: &'a Categories<'a>,
    /// `[categories, width]`
    table: Vec<f32>,
    /// `[categories, heads]`
    priors: Vec<f32>,
}

impl<'a> Tower<'a> {
    /// Reads what is not a table of all items.
    ///
    /// # Errors
    /// A tensor that cannot be read.
    pub(super) fn new(
        kernels: Kernels,
        schema: &'a Schema,
        weights: &'a Weights,
        reader: &'a ItemReader<'a>,
        text: &'a TextTable,
    ) -> Result<Self, ModelError> {
        const PROJECT: &str = "item.text.project";
        let config = &schema.network;
        let categories = reader.categories().iter().map(|categories| {
            let table = weights.read(&format!("item.{}.table", categories.attribute))?;
            let priors = weights.read(&format!("head.prior.{}", categories.attribute))?;
            Ok(CategoryWeights { categories, table, priors })
        });
        let numbers = reader.numbers().iter();
        let numbers =
            numbers.map(|numbers| Ok((numbers, weights.read(&format!("item.{}.weight", numbers.attribute))?)));
        let projected = match weights.contains(PROJECT) {
            true => Some(text.beside_product(&Packed::new(
                kernels,
                &weights.read(PROJECT)?,
                config.text_width,
                config.width,
            ))),
            false => None,
        };
        Ok(Self {
            width: config.width,
            linear_width: config.linear.as_ref().map_or(0, |linear| linear.width),
            heads: schema.heads.len(),
            weights,
            popularity: weights.read("head.popularity")?,
            categories: categories.collect::<Result<_, ModelError>>()?,
            numbers: numbers.collect::<Result<_, ModelError>>()?,
            reader,
            text,
            projected,
        })
    }

    /// The item half of so many items, computed on so many threads.
    ///
    /// # Errors
    /// A tensor that cannot be read.
    pub(super) fn item_half(&self, items: usize, threads: NonZeroUsize) -> Result<ItemHalf, ModelError> {
        let mut vectors = ItemMatrix::zeros(items, self.width + self.linear_width + self.text.width());
        let mut biases = vec![0.0; items * self.heads];
        let stride = vectors.stride();
        let chunks = vectors.data_mut().chunks_mut(CHUNK * stride).zip(biases.chunks_mut(CHUNK * self.heads));
        let chunks = (0..items as u32).step_by(CHUNK).zip(chunks);
        let words = || self.projected.as_ref().map(|table| WordSums::new(self.text, table));
        in_parallel(threads, chunks, words, |words, (first, (rows, biases))| {
            self.compute(first, rows, stride, biases, words.as_mut())
        })?;
        Ok(ItemHalf { vectors, biases })
    }

    /// Rows of zeros, `stride` apart, and biases of the items from `first` on.
    fn compute(
        &self,
        first: u32,
        rows: &mut [f32],
        stride: usize,
        biases: &mut [f32],
        mut words: Option<&mut WordSums>,
    ) -> Result<(), ModelError> {
        let (count, at, text_at) = (rows.len() / stride, first as usize, self.width + self.linear_width);
        read_columns(self.weights, ITEM_TABLE, at, rows, stride, 0..self.width)?;
        if self.linear_width > 0 {
            read_columns(self.weights, LINEAR_ITEM, at, rows, stride, self.width..text_at)?;
        }
        self.weights.read_at(ITEM_BIAS, at * self.heads, biases)?;
        let (mut log_popularity, mut sums) = (vec![0.0; count], vec![0.0; self.text.width() + self.width]);
        self.weights.read_at(LOG_POPULARITY, at, &mut log_popularity)?;
        let items = rows.chunks_exact_mut(stride).zip(biases.chunks_exact_mut(self.heads)).zip(&log_popularity);
        for (item, ((row, biases), log_popularity)) in (first..).zip(items) {
            add_scaled(biases, *log_popularity, &self.popularity);
            self.add_attributes(item, &mut row[..self.width], biases);
            if let Some(words) = &mut words {
                sums.fill(0.0);
                words.add(self.reader.text(item), &mut sums);
                let (text, product) = sums.split_at(self.text.width());
                let scale = unit_scale(text);
                add_scaled(&mut row[text_at..], scale, text);
                add_scaled(&mut row[..self.width], scale, product);
            }
        }
        Ok(())
    }

    /// What an item's attributes add to its vector and biases.
    fn add_attributes(&self, item: u32, vector: &mut [f32], biases: &mut [f32]) {
        for CategoryWeights { categories, table, priors } in &self.categories {
            let rows = categories.rows(item);
            let weight = 1.0 / (rows.clone().count() as f32).sqrt();
            for category in rows.map(|category| category as usize) {
                add_scaled(vector, weight, row(table, category, self.width));
                add(biases, row(priors, category, self.heads));
            }
        }
        for (numbers, weights) in &self.numbers {
            add_scaled(vector, numbers.value(item), weights);
        }
    }
}

fn row(table: &[f32], at: usize, width: usize) -> &[f32] {
    &table[at * width..][..width]
}
