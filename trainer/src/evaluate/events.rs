//! What the baselines know: the events that training may see, read a part at a time.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use unimodel_model::catalogue::Catalogue;
use unimodel_model::columns::required;
use unimodel_model::error::ModelError;

use super::rows;
use crate::label_table::POSITIVE;

/// Rows whose sequences are held at once. A larger table is read several times, each time for a share of its
/// sequences, so that memory does not grow with it whatever order its rows have.
const ROWS_A_PASS: u64 = 2_000_000;

/// Which events count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Counted {
    /// Those with a label of at least 0.5.
    Positives,
    /// All.
    All,
}

/// `events.parquet` of a labels directory, a file or a folder of part files.
pub struct Events {
    path: PathBuf,
    passes: u64,
}

/// One event, its strings borrowed from the batch.
struct Event<'a> {
    sequence: &'a str,
    item: &'a str,
    positive: bool,
    time: Option<i64>,
    split: &'a str,
}

impl Events {
    /// Opens the table.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        Ok(Self { path: path.to_owned(), passes: rows::count(path)? / ROWS_A_PASS + 1 })
    }

    /// Positives of the training split by item.
    pub fn popularity(&self, catalogue: &Catalogue) -> Result<Vec<f32>, ModelError> {
        let mut counts = vec![0.0; catalogue.len()];
        self.each(|event| {
            if event.split == "train"
                && event.positive
                && let Some(item) = catalogue.find(event.item)
            {
                counts[item as usize] += 1.0;
            }
        })?;
        Ok(counts)
    }

    /// Visits the training split's sequences, each as the set of its items (in rising order).
    pub fn item_sets(
        &self,
        catalogue: &Catalogue,
        counted: Counted,
        mut visit: impl FnMut(&[u32]),
    ) -> Result<(), ModelError> {
        for pass in 0..self.passes {
            let mut sets: HashMap<String, Vec<u32>> = HashMap::new();
            self.each(|event| {
                let counts = event.split == "train" && (counted == Counted::All || event.positive);
                if counts
                    && self.pass_of(event.sequence) == pass
                    && let Some(item) = catalogue.find(event.item)
                {
                    push(&mut sets, event.sequence, item);
                }
            })?;
            for set in sets.values_mut() {
                set.sort_unstable();
                set.dedup();
                visit(set);
            }
        }
        Ok(())
    }

    /// Each sequence's positives of the training and validation splits, in rising order: which part of a history was
    /// liked. The test split's are not read.
    pub fn positives(&self, catalogue: &Catalogue) -> Result<HashMap<String, Vec<u32>>, ModelError> {
        let mut sets = HashMap::new();
        self.each(|event| {
            if event.positive
                && matches!(event.split, "train" | "validation")
                && let Some(item) = catalogue.find(event.item)
            {
                push(&mut sets, event.sequence, item);
            }
        })?;
        for set in sets.values_mut() {
            set.sort_unstable();
            set.dedup();
            set.shrink_to_fit();
        }
        Ok(sets)
    }

    /// When the sequences began, and the hour at which `share` of all events had happened.
    pub fn arrivals(&self, share: f64) -> Result<Arrivals, ModelError> {
        const HOUR: i64 = 3600;
        let mut first: HashMap<String, i64> = HashMap::new();
        let mut hours: BTreeMap<i64, u64> = BTreeMap::new();
        self.each(|event| {
            let Some(time) = event.time else { return };
            *hours.entry(time.div_euclid(HOUR)).or_default() += 1;
            match first.get_mut(event.sequence) {
                Some(earliest) => *earliest = (*earliest).min(time),
                None => drop(first.insert(event.sequence.to_owned(), time)),
            }
        })?;
        let wanted = share * hours.values().sum::<u64>() as f64;
        let mut before = 0;
        let mut cut = i64::MIN;
        for (hour, events) in hours {
            before += events;
            cut = (hour + 1) * HOUR;
            if before as f64 >= wanted {
                break;
            }
        }
        Ok(Arrivals { cut, first })
    }

    fn pass_of(&self, sequence: &str) -> u64 {
        let mut hasher = DefaultHasher::new();
        sequence.hash(&mut hasher);
        hasher.finish() % self.passes
    }

    /// Visits every event that has a sequence and an item.
    fn each(&self, mut visit: impl FnMut(Event)) -> Result<(), ModelError> {
        const COLUMNS: [&str; 5] = ["sequence", "item_id", "label", "event_time", "split"];
        for batch in rows::columns(&self.path, &COLUMNS)? {
            let batch = batch?;
            let column = |name: &str, kind: &DataType| required(&batch, name, kind, "events");
            let text = |name: &str| column(name, &DataType::Utf8);
            let (sequences, items, splits) = (text("sequence")?, text("item_id")?, text("split")?);
            let labels = column("label", &DataType::Float64)?;
            let times = column("event_time", &DataType::Int64)?;
            let (labels, times) = (labels.as_primitive::<Float64Type>(), times.as_primitive::<Int64Type>());
            let rows = sequences.as_string::<i32>().iter().zip(items.as_string::<i32>()).enumerate();
            for (row, ids) in rows {
                let (Some(sequence), Some(item)) = ids else { continue };
                visit(Event {
                    sequence,
                    item,
                    positive: labels.is_valid(row) && labels.value(row) >= POSITIVE,
                    time: times.is_valid(row).then(|| times.value(row)),
                    split: if splits.is_valid(row) { splits.as_string::<i32>().value(row) } else { "none" },
                });
            }
        }
        Ok(())
    }
}

/// Adds to a set, allocating a key only for a sequence that is new.
fn push(sets: &mut HashMap<String, Vec<u32>>, sequence: &str, item: u32) {
    match sets.get_mut(sequence) {
        Some(set) => set.push(item),
        None => drop(sets.insert(sequence.to_owned(), vec![item])),
    }
}

/// When sequences began, against a global time cut: what the cold-start slice is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Arrivals {
    /// Unix seconds; a full hour.
    pub cut: i64,
    first: HashMap<String, i64>,
}

impl Arrivals {
    /// Whether the sequence is known and has no event before the cut.
    pub fn is_cold(&self, sequence: &str) -> bool {
        of_owner(&self.first, sequence).is_some_and(|(_, &first)| first >= self.cut)
    }

    /// The sequence of the events that a label table's sequence is part of; itself where none is known.
    pub fn owner<'s>(&'s self, sequence: &'s str) -> &'s str {
        of_owner(&self.first, sequence).map_or(sequence, |(owner, _)| owner)
    }
}

/// What is known of a label table's sequence. A task may follow a part of a sequence alone, such as a user's events in
/// one genre; it then names it `<sequence>/<part>`.
pub(crate) fn of_owner<'m, T>(by_sequence: &'m HashMap<String, T>, sequence: &str) -> Option<(&'m str, &'m T)> {
    let find = |name: &str| by_sequence.get_key_value(name).map(|(owner, value)| (owner.as_str(), value));
    find(sequence).or_else(|| find(sequence.rsplit_once('/')?.0))
}
