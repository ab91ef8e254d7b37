//! The named baselines that a model has to beat, computed in the same run from the training split alone.

mod items;
mod text;

use std::collections::HashMap;
use std::sync::Arc;

use unimodel_model::catalogue::Catalogue;
use unimodel_model::schema::Element;

use self::items::{History, ItemItem, Matrix};
use self::text::{Substring, TitleIndex, TrigramBm25, TrigramTfidf};
use super::cases::Case;
use super::error::EvaluateError;
use super::events::{Counted, Events};
use super::scorer::Scorer;
use crate::pipeline::Baseline;

/// Item–item baselines hold a square matrix of the catalogue: 400 MB for so many items.
pub const MAX_ITEMS: usize = 10_000;

impl Baseline {
    /// The name in a report and a table.
    pub fn name(&self) -> String {
        let counted = |all: bool| if all { "all events" } else { "positives" };
        match self {
            Self::Popularity => "popularity".into(),
            Self::ItemCosine { all_events } => format!("item cosine, {}", counted(*all_events)),
            Self::Ease { all_events, lambda, decay } if *decay == 1.0 => {
                format!("EASE, {}, λ {lambda}", counted(*all_events))
            }
            Self::Ease { all_events, lambda, decay } => {
                format!("EASE, {}, λ {lambda}, decay {decay}", counted(*all_events))
            }
            Self::Substring => "substring".into(),
            Self::TrigramTfidf => "trigram TF-IDF".into(),
            Self::TrigramBm25 => "trigram BM25".into(),
        }
    }

    /// Whether it can be computed for a catalogue of that size; to be asked before a long training.
    ///
    /// # Errors
    /// Too many items, a `lambda` that is not above zero, or a `decay` outside of 0 to 1.
    pub fn check(&self, items: usize) -> Result<(), EvaluateError> {
        let wrong = |problem: String| Err(EvaluateError::Baseline { baseline: self.name(), problem });
        match self {
            Self::ItemCosine { .. } | Self::Ease { .. } if items > MAX_ITEMS => wrong(format!(
                "the catalogue has {items} items and its item–item matrix would not fit in memory; \
                 declare it for catalogues of up to {MAX_ITEMS} items"
            )),
            Self::Ease { lambda, .. } if !(lambda.is_finite() && *lambda > 0.0) => {
                wrong(format!("lambda is {lambda}, expected a number above 0"))
            }
            Self::Ease { decay, .. } if !(*decay > 0.0 && *decay <= 1.0) => {
                wrong(format!("decay is {decay}, expected a number above 0 and up to 1"))
            }
            _ => Ok(()),
        }
    }
}

/// Makes baselines; what several of them need is computed once.
pub struct Baselines<'a> {
    events: &'a Events,
    catalogue: &'a Catalogue,
    elements: &'a [Element],
    popularity: Arc<Vec<f32>>,
    cosine: HashMap<Counted, Arc<Matrix>>,
    ease: HashMap<(Counted, u64), Arc<Matrix>>,
    liked: Option<Arc<HashMap<String, Vec<u32>>>>,
    titles: Option<Arc<TitleIndex>>,
}

impl<'a> Baselines<'a> {
    /// Counts the popularity of the items; the rest is computed when a baseline asks for it.
    ///
    /// # Errors
    /// The events cannot be read.
    pub fn new(events: &'a Events, catalogue: &'a Catalogue, elements: &'a [Element]) -> Result<Self, EvaluateError> {
        let popularity = Arc::new(events.popularity(catalogue)?);
        Ok(Self {
            events,
            catalogue,
            elements,
            popularity,
            cosine: HashMap::new(),
            ease: HashMap::new(),
            liked: None,
            titles: None,
        })
    }

    /// The scorer of that baseline.
    ///
    /// # Errors
    /// See [`Baseline::check`]; the events cannot be read.
    pub fn scorer(&mut self, baseline: &Baseline) -> Result<Box<dyn Scorer>, EvaluateError> {
        baseline.check(self.catalogue.len())?;
        Ok(match *baseline {
            Baseline::Popularity => Box::new(Popularity(self.popularity.clone())),
            Baseline::ItemCosine { all_events } => {
                let counted = counted(all_events);
                let matrix = match self.cosine.get(&counted) {
                    Some(matrix) => matrix.clone(),
                    None => {
                        let matrix = Arc::new(Matrix::cosine(self.events, self.catalogue, counted)?);
                        self.cosine.entry(counted).or_insert(matrix).clone()
                    }
                };
                Box::new(ItemItem::new(baseline.name(), matrix, 1.0, self.history(counted)?))
            }
            Baseline::Ease { all_events, lambda, decay } => {
                let counted = counted(all_events);
                let key = (counted, lambda.to_bits());
                let matrix = match self.ease.get(&key) {
                    Some(matrix) => matrix.clone(),
                    None => {
                        let matrix = Arc::new(Matrix::ease(self.events, self.catalogue, counted, lambda)?);
                        self.ease.entry(key).or_insert(matrix).clone()
                    }
                };
                Box::new(ItemItem::new(baseline.name(), matrix, decay as f32, self.history(counted)?))
            }
            Baseline::Substring => Box::new(Substring::new(self.titles(), self.popularity.clone(), self.elements)),
            Baseline::TrigramTfidf => Box::new(TrigramTfidf::new(self.titles(), self.elements)),
            Baseline::TrigramBm25 => Box::new(TrigramBm25::new(self.titles(), self.elements)),
        })
    }

    fn history(&mut self, counted: Counted) -> Result<History, EvaluateError> {
        let liked = match (counted, &self.liked) {
            (Counted::All, _) => None,
            (Counted::Positives, Some(liked)) => Some(liked.clone()),
            (Counted::Positives, None) => {
                self.liked.insert(Arc::new(self.events.positives(self.catalogue)?)).clone().into()
            }
        };
        Ok(History::new(self.catalogue, self.elements, liked))
    }

    fn titles(&mut self) -> Arc<TitleIndex> {
        self.titles.get_or_insert_with(|| Arc::new(TitleIndex::new(self.catalogue))).clone()
    }
}

fn counted(all_events: bool) -> Counted {
    if all_events { Counted::All } else { Counted::Positives }
}

/// The same order for every request.
struct Popularity(Arc<Vec<f32>>);

impl Scorer for Popularity {
    fn name(&self) -> String {
        Baseline::Popularity.name()
    }

    fn score(&self, cases: &[Case], _: &[bool], out: &mut [f32]) -> Result<(), EvaluateError> {
        debug_assert_eq!(out.len(), cases.len() * self.0.len());
        out.chunks_mut(self.0.len()).for_each(|row| row.copy_from_slice(&self.0));
        Ok(())
    }
}
