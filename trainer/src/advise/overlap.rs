//! What tasks have in common, counted in their label tables at training time.

use std::collections::BTreeMap;
use std::path::Path;

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Float64Type};
use serde::{Deserialize, Serialize};
use unimodel_model::catalogue::Catalogue;
use unimodel_model::columns::required;
use unimodel_model::error::ModelError;
use unimodel_model::schema::Head;

use crate::evaluate::rows;
use crate::label_table::POSITIVE;

/// What the tasks of a version have in common.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Relations {
    /// Each task's training labels.
    pub labels: BTreeMap<String, TaskLabels>,
    /// For two tasks: how far they rank the same items.
    pub item_overlap: BTreeMap<String, BTreeMap<String, ItemOverlap>>,
    /// For two tasks: the cosine between their gradients of the shared parameters, a mean over training. Above zero,
    /// a step for one helps the other.
    #[serde(default)]
    pub gradient_cosine: BTreeMap<String, BTreeMap<String, f64>>,
}

/// The training labels of a task.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskLabels {
    /// Rows.
    pub rows: u64,
    /// Rows with a label of at least 0.5.
    pub positives: u64,
    /// Items with a positive.
    pub items: u64,
    /// Context elements that its requests carry.
    pub elements: Vec<String>,
}

/// How far one task ranks the items that another ranks.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ItemOverlap {
    /// Items with positives in both ÷ items with positives in either.
    pub jaccard: f64,
    /// Share of the first task's positives whose item has a positive in the second.
    pub share: f64,
}

/// Reads the label tables of all heads once, their item, label and split alone.
///
/// # Errors
/// A table cannot be read.
pub fn relations(
    labels: &Path,
    heads: &[Head],
    catalogue: &Catalogue,
    gradient_cosine: BTreeMap<String, BTreeMap<String, f64>>,
) -> Result<Relations, ModelError> {
    let mut relations = Relations { gradient_cosine, ..Relations::default() };
    let mut counts: Vec<(&str, Vec<u32>)> = Vec::new();
    for head in heads {
        let table = labels.join("tasks").join(format!("{}.parquet", head.name));
        let (rows, positives) = count(&table, catalogue)?;
        let of_task = TaskLabels {
            rows,
            positives: positives.iter().map(|&n| u64::from(n)).sum(),
            items: positives.iter().filter(|&&n| n > 0).count() as u64,
            elements: head.elements.clone(),
        };
        relations.labels.insert(head.name.clone(), of_task);
        counts.push((&head.name, positives));
    }
    relations.item_overlap = item_overlap(&counts);
    Ok(relations)
}

/// Training rows, and the positives among them by item.
fn count(table: &Path, catalogue: &Catalogue) -> Result<(u64, Vec<u32>), ModelError> {
    let mut rows = 0;
    let mut positives = vec![0; catalogue.len()];
    let name = rows::table_name(table);
    for batch in rows::columns(table, &["item_id", "label", "split"])? {
        let batch = batch?;
        let items = required(&batch, "item_id", &DataType::Utf8, &name)?;
        let splits = required(&batch, "split", &DataType::Utf8, &name)?;
        let labels = required(&batch, "label", &DataType::Float64, &name)?;
        let (items, splits) = (items.as_string::<i32>().iter(), splits.as_string::<i32>().iter());
        for ((item, split), label) in items.zip(splits).zip(labels.as_primitive::<Float64Type>()) {
            if split != Some("train") {
                continue;
            }
            rows += 1;
            if let Some(item) = item.and_then(|id| catalogue.find(id))
                && label.is_some_and(|l| l >= POSITIVE)
            {
                positives[item as usize] += 1;
            }
        }
    }
    Ok((rows, positives))
}

fn item_overlap(counts: &[(&str, Vec<u32>)]) -> BTreeMap<String, BTreeMap<String, ItemOverlap>> {
    let mut overlap: BTreeMap<String, BTreeMap<String, ItemOverlap>> = BTreeMap::new();
    for (task, own) in counts {
        for (other, theirs) in counts.iter().filter(|(other, _)| other != task) {
            let (mut both, mut either, mut shared, mut all) = (0u64, 0u64, 0u64, 0u64);
            for (&a, &b) in own.iter().zip(theirs) {
                both += u64::from(a > 0 && b > 0);
                either += u64::from(a > 0 || b > 0);
                shared += if b > 0 { u64::from(a) } else { 0 };
                all += u64::from(a);
            }
            let share = |part: u64, whole: u64| part as f64 / whole.max(1) as f64;
            let between = ItemOverlap { jaccard: share(both, either), share: share(shared, all) };
            overlap.entry((*task).to_owned()).or_default().insert((*other).to_owned(), between);
        }
    }
    overlap
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlap_by_hand() {
        let overlap = item_overlap(&[("a", vec![6, 3, 1, 0]), ("b", vec![0, 1, 1, 8]), ("c", vec![0, 0, 0, 0])]);
        assert_eq!(overlap["a"]["b"], ItemOverlap { jaccard: 0.5, share: 0.4 });
        assert_eq!(overlap["b"]["a"], ItemOverlap { jaccard: 0.5, share: 0.2 });
        assert_eq!(overlap["c"]["a"], ItemOverlap { jaccard: 0.0, share: 0.0 });
        assert!(!overlap["a"].contains_key("a"));
    }
}
