//! The contract of the rows, checked while they pass.

use std::collections::{HashMap, HashSet};

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type, Int64Type};

use super::summary::{SplitRows, Splits};
use crate::label_table::POSITIVE;
use crate::pipeline::Loss;

/// The longest string of a table in bytes. Longer ones are accidents, such as a whole file in one CSV value.
pub(super) const MAX_TEXT_BYTES: i32 = 1 << 20;

/// A row that breaks the contract: its number in the batch, and why.
pub(super) struct Broken {
    pub(super) row: usize,
    pub(super) problem: String,
}

type Checked = Result<(), Broken>;

fn broken(row: usize, problem: impl Into<String>) -> Broken {
    Broken { row, problem: problem.into() }
}

/// Numbers are finite and strings of bearable length, in any table.
pub(super) fn values(batch: &RecordBatch) -> Checked {
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        match field.data_type() {
            DataType::Float64 => {
                for (row, x) in column.as_primitive::<Float64Type>().iter().enumerate() {
                    if let Some(x) = x.filter(|x| !x.is_finite()) {
                        return Err(broken(row, format!("`{}` is {x}; a number must be finite", field.name())));
                    }
                }
            }
            DataType::Utf8 => strings(field.name(), column, column, |value| value)?,
            DataType::List(inner) if *inner.data_type() == DataType::Utf8 => {
                let list = column.as_list::<i32>();
                strings(field.name(), column, list.values(), |value| {
                    list.value_offsets().partition_point(|&o| (o as usize) <= value).saturating_sub(1)
                })?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn strings(name: &str, column: &ArrayRef, strings: &ArrayRef, row_of: impl Fn(usize) -> usize) -> Checked {
    for (value, ends) in strings.as_string::<i32>().value_offsets().windows(2).enumerate() {
        let length = ends[1] - ends[0];
        // A null may still have a value beneath it.
        if length > MAX_TEXT_BYTES && column.is_valid(row_of(value)) {
            let problem = format!("`{name}` has {length} bytes; a string may have {MAX_TEXT_BYTES}, so cut it in SQL");
            return Err(broken(row_of(value), problem));
        }
    }
    Ok(())
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> &'a ArrayRef {
    &batch.columns()[batch.schema_ref().index_of(name).expect("every table's schema has the columns of its contract")]
}

/// Ids of the catalogue, each with its row.
#[derive(Default)]
pub(super) struct Items(HashMap<String, u64>);

impl Items {
    /// Takes the ids of the next batch.
    pub(super) fn add(&mut self, batch: &RecordBatch, before: u64) -> Checked {
        let ids = column(batch, "item_id").as_string::<i32>();
        for (row, id) in ids.iter().enumerate() {
            let id = id.ok_or_else(|| broken(row, "`item_id` is null; every item needs an id"))?;
            if let Some(first) = self.0.insert(id.to_owned(), before + row as u64 + 1) {
                return Err(broken(row, format!("`item_id` {id} is in row {first} already; item ids must be unique")));
            }
        }
        Ok(())
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Keys of the profile snapshot.
pub(super) struct Users<'a> {
    key: &'a str,
    seen: HashSet<String>,
}

impl<'a> Users<'a> {
    /// Profiles by that element.
    pub(super) fn new(key: &'a str) -> Self {
        Self { key, seen: HashSet::new() }
    }

    /// Takes the keys of the next batch.
    pub(super) fn add(&mut self, batch: &RecordBatch) -> Checked {
        let key = self.key;
        for (row, id) in column(batch, key).as_string::<i32>().iter().enumerate() {
            let id = id.ok_or_else(|| broken(row, format!("the key `{key}` is null; every profile needs one")))?;
            if !self.seen.insert(id.to_owned()) {
                return Err(broken(row, format!("the key `{key}` {id} is there twice; give one row for each")));
            }
        }
        Ok(())
    }
}

/// What events and label tables have in common: sequence, item, label, time and split.
#[derive(Default)]
pub(super) struct Labels {
    pub(super) splits: Splits,
    /// The sequence and time of the row before.
    last: Option<(String, i64)>,
}

impl Labels {
    /// Checks the next batch of `events`.
    pub(super) fn events(&mut self, batch: &RecordBatch) -> Checked {
        let sequences = column(batch, "sequence").as_string::<i32>();
        if let Some(row) = (0..batch.num_rows()).find(|&r| sequences.is_null(r)) {
            return Err(broken(row, "`sequence` is null; it says whose event it is"));
        }
        self.rows(batch, None)
    }

    /// Checks the next batch of a label table, and says which rows are in a split.
    pub(super) fn task(&mut self, batch: &RecordBatch, items: &Items) -> Result<BooleanArray, Broken> {
        self.rows(batch, Some(items))?;
        for (row, weight) in column(batch, "weight").as_primitive::<Float64Type>().iter().enumerate() {
            match weight {
                Some(weight) if weight >= 0.0 => {}
                Some(weight) => return Err(broken(row, format!("`weight` is {weight}; it must be at least 0"))),
                None => {
                    return Err(broken(
                        row,
                        "`weight` is null; write CAST(1 AS DOUBLE) for rows that all count the same",
                    ));
                }
            }
        }
        let splits = column(batch, "split").as_string::<i32>();
        Ok(splits.iter().map(|s| Some(s != Some("none"))).collect())
    }

    fn rows(&mut self, batch: &RecordBatch, items: Option<&Items>) -> Checked {
        let ids = column(batch, "item_id").as_string::<i32>();
        let labels = column(batch, "label").as_primitive::<Float64Type>();
        let times = column(batch, "event_time").as_primitive::<Int64Type>();
        let splits = column(batch, "split").as_string::<i32>();
        let sequences = column(batch, "sequence").as_string::<i32>();
        for row in 0..batch.num_rows() {
            if ids.is_null(row) {
                return Err(broken(row, "`item_id` is null; every row names an item"));
            }
            let id = ids.value(row);
            if items.is_some_and(|items| !items.0.contains_key(id)) {
                return Err(broken(row, format!("`item_id` {id} is not in the catalogue; join with `items`")));
            }
            let label = labels.is_valid(row).then(|| labels.value(row));
            let Some(label) = label.filter(|l| (0.0..=1.0).contains(l)) else {
                let found = label.map_or("null".to_owned(), |l| l.to_string());
                return Err(broken(row, format!("`label` is {found} for item {id}; it must be from 0 to 1")));
            };
            if times.is_null(row) {
                return Err(broken(row, format!("`event_time` is null for item {id}; it must be Unix seconds")));
            }
            let split = splits.is_valid(row).then(|| splits.value(row));
            let counted = match split {
                Some("train") => &mut self.splits.train,
                Some("validation") => &mut self.splits.validation,
                Some("test") => &mut self.splits.test,
                Some("none") => &mut self.splits.none,
                other => {
                    let found = other.unwrap_or("null");
                    let right = "it must be train, validation, test or none";
                    return Err(broken(row, format!("`split` is {found} for item {id}; {right}")));
                }
            };
            *counted += label >= POSITIVE;
            if sequences.is_valid(row) {
                self.order(row, sequences.value(row), times.value(row))?;
            }
        }
        Ok(())
    }

    /// Soft targets and the baselines rely on the order within a sequence.
    fn order(&mut self, row: usize, sequence: &str, time: i64) -> Checked {
        match &mut self.last {
            Some((last, before)) if last == sequence => {
                if time < *before {
                    let problem = format!(
                        "`event_time` {time} comes after {before} in sequence {sequence}; end the SQL with ORDER BY \
                         sequence and time"
                    );
                    return Err(broken(row, problem));
                }
                *before = time;
            }
            last => *last = Some((sequence.to_owned(), time)),
        }
        Ok(())
    }

    /// What is missing for training, once all rows have passed.
    pub(super) fn shortage(&self, loss: &Loss) -> Option<String> {
        let train = self.splits.train;
        if train.rows == 0 {
            return Some("no row has split `train`; there is nothing to learn from".into());
        }
        if train.positives == 0 {
            let problem = "there is nothing to learn from";
            return Some(format!(
                "none of {} rows of split `train` has a label of at least 0.5; {problem}",
                train.rows
            ));
        }
        (matches!(loss, Loss::Bce {}) && train.positives == train.rows).then(|| {
            let right = "loss bce needs labels below 0.5 too, or use loss softmax";
            format!("all {} rows of split `train` have a label of at least 0.5; {right}", train.rows)
        })
    }
}

impl std::ops::AddAssign<bool> for SplitRows {
    fn add_assign(&mut self, positive: bool) {
        self.rows += 1;
        self.positives += u64::from(positive);
    }
}
