//! The item tower: what a version knows of its items before any request, once for the version.
//!
//! It computes what [`Network::items`] computes in plain candle, without memory for what lies between: that is the
//! reference of what each attribute adds.

use std::num::NonZeroUsize;

use unimodel_model::error::ModelError;
use unimodel_model::network::{Categories, ITEM_BIAS, ItemReader, LINEAR_ITEM, LOG_POPULARITY, Network, Numbers};

use super::items::ItemMatrix;
use super::kernels::{Activation, Kernels, Rows};
use super::packed::Packed;
use super::tensor::{Values, floats, values};
use super::text::TextTable;
use super::vector::{add, add_scaled};

/// Items whose texts are projected together.
const CHUNK: usize = 256;

/// The item half.
pub(super) struct ItemHalf {
    /// `[vector of the shared tower; vector of the linear term; unit vector of the text]` of all items.
    pub(super) vectors: ItemMatrix,
    /// What is added to each item's score whatever the context, `[items, heads]`.
    pub(super) biases: Vec<f32>,
}

/// Computes the item half on so many threads.
///
/// # Errors
/// A tensor that cannot be read.
pub(super) fn item_half(
    kernels: Kernels,
    network: &Network,
    text: &TextTable,
    threads: NonZeroUsize,
) -> Result<ItemHalf, ModelError> {
    let reader = ItemReader::new(network.schema(), network.catalogue());
    let tower = Tower::new(kernels, network, &reader, text)?;
    let (count, heads) = (network.catalogue().len(), network.schema().heads.len());
    let mut vectors = ItemMatrix::zeros(count, tower.width + tower.linear_width + text.width());
    let mut biases = vec![0.0; count * heads];
    let (stride, share) = (vectors.stride(), count.div_ceil(threads.get()).max(1));
    std::thread::scope(|scope| {
        let shares = vectors.data_mut().chunks_mut(share * stride).zip(biases.chunks_mut(share * heads));
        for (first, (rows, biases)) in (0..count as u32).step_by(share).zip(shares) {
            let tower = &tower;
            scope.spawn(move || tower.compute(first, rows, stride, biases));
        }
    });
    Ok(ItemHalf { vectors, biases })
}

/// The tower's weights, of large tables where they are.
struct Tower<'a> {
    kernels: Kernels,
    width: usize,
    linear_width: usize,
    heads: usize,
    table: Values<'a>,
    linear: Option<Values<'a>>,
    log_popularity: Values<'a>,
    popularity: Vec<f32>,
    item_bias: Values<'a>,
    categories: Vec<CategoryWeights<'a>>,
    numbers: Vec<(&'a Numbers<'a>, Vec<f32>)>,
    reader: &'a ItemReader<'a>,
    text: &'a TextTable,
    project: Option<Packed>,
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
    fn new(
        kernels: Kernels,
        network: &'a Network,
        reader: &'a ItemReader<'a>,
        text: &'a TextTable,
    ) -> Result<Self, ModelError> {
        let config = &network.schema().network;
        let tensor = |name: &str| values(network.tensor(name));
        let copied = |name: String| floats(network.tensor(&name));
        let categories = reader.categories().iter().map(|categories| {
            let table = copied(format!("item.{}.table", categories.attribute))?;
            Ok(CategoryWeights { categories, table, priors: copied(format!("head.prior.{}", categories.attribute))? })
        });
        let numbers = reader.numbers().iter();
        let numbers = numbers.map(|numbers| Ok((numbers, copied(format!("item.{}.weight", numbers.attribute))?)));
        let project = match network.tensors().get("item.text.project") {
            Some(weights) => Some(Packed::new(kernels, &values(weights)?, config.text_width, config.width)),
            None => None,
        };
        Ok(Self {
            kernels,
            width: config.width,
            linear_width: config.linear.as_ref().map_or(0, |linear| linear.width),
            heads: network.schema().heads.len(),
            table: tensor("item.table")?,
            linear: config.linear.as_ref().map(|_| tensor(LINEAR_ITEM)).transpose()?,
            log_popularity: tensor(LOG_POPULARITY)?,
            popularity: copied("head.popularity".to_owned())?,
            item_bias: tensor(ITEM_BIAS)?,
            categories: categories.collect::<Result<_, ModelError>>()?,
            numbers: numbers.collect::<Result<_, ModelError>>()?,
            reader,
            text,
            project,
        })
    }

    /// Rows of zeros, `stride` apart, and biases of the items from `first` on.
    fn compute(&self, first: u32, rows: &mut [f32], stride: usize, biases: &mut [f32]) {
        let mut projected = vec![0.0; CHUNK * self.width];
        let nothing = vec![0.0; self.width];
        let text_at = self.width + self.linear_width;
        let chunks = rows.chunks_mut(CHUNK * stride).zip(biases.chunks_mut(CHUNK * self.heads));
        for (start, (rows, biases)) in (first..).step_by(CHUNK).zip(chunks) {
            let count = rows.len() / stride;
            let items = rows.chunks_exact_mut(stride).zip(biases.chunks_exact_mut(self.heads));
            for (item, (row, biases)) in (start..).zip(items) {
                let (vector, rest) = row.split_at_mut(self.width);
                let (linear, text) = rest.split_at_mut(self.linear_width);
                self.add_item(item, vector, linear, biases);
                self.text.add_unit_vector(&self.reader.ngrams(item), &mut text[..self.text.width()]);
            }
            if let Some(project) = &self.project {
                let projected = &mut projected[..count * self.width];
                let texts = Rows::dense(&rows[text_at..], stride, self.text.width(), count);
                self.kernels.linear(texts, project, &nothing, Activation::Identity, projected);
                for (row, more) in rows.chunks_exact_mut(stride).zip(projected.chunks_exact(self.width)) {
                    add(&mut row[..self.width], more);
                }
            }
        }
    }

    /// All but its text.
    fn add_item(&self, item: u32, vector: &mut [f32], linear: &mut [f32], biases: &mut [f32]) {
        let at = item as usize;
        vector.copy_from_slice(row(&self.table, at, self.width));
        biases.copy_from_slice(row(&self.item_bias, at, self.heads));
        add_scaled(biases, self.log_popularity[at], &self.popularity);
        for CategoryWeights { categories, table, priors } in &self.categories {
            let rows = categories.rows(item);
            let weight = 1.0 / (rows.len() as f32).sqrt();
            for category in rows.map(|category| category as usize) {
                add_scaled(vector, weight, row(table, category, self.width));
                add(biases, row(priors, category, self.heads));
            }
        }
        for (numbers, weights) in &self.numbers {
            add_scaled(vector, numbers.value(item), weights);
        }
        if let Some(table) = &self.linear {
            linear.copy_from_slice(row(table, at, self.linear_width));
        }
    }
}

fn row(table: &[f32], at: usize, width: usize) -> &[f32] {
    &table[at * width..][..width]
}
