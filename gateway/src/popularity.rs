//! The static answer: the most popular items of a version, as far as they fit the request.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet};

use crate::routes;

/// A version's static lists, put into one order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ranking {
    /// All items of all lists, the most popular first.
    items: Vec<String>,
    /// Positions in `items`.
    ranks: HashMap<String, u32>,
    /// Positions of the items of `all`.
    all: Vec<u32>,
    /// By attribute and value, positions of items.
    by: BTreeMap<String, BTreeMap<String, Vec<u32>>>,
}

/// What a request wants ranked, as far as a static list can tell.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wanted {
    /// Where candidates come from.
    pub source: Source,
    /// Not these.
    pub exclude: HashSet<String>,
    /// At most so many.
    pub limit: Option<usize>,
}

/// Where candidates come from.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Source {
    /// These.
    Ids(Vec<String>),
    /// Those whose attributes fit: per attribute, values of which one must fit.
    Select(Vec<(String, Vec<String>)>),
    /// All.
    #[default]
    All,
}

impl Ranking {
    /// Puts the lists into one order that agrees with each of them: they all come from one order, of which each shows a
    /// part. Where lists contradict each other, `all` holds first.
    pub fn new(popularity: &routes::Popularity) -> Self {
        let lists = std::iter::once(&popularity.all).chain(popularity.by.values().flat_map(BTreeMap::values));
        let items = merge(lists.map(Vec::as_slice));
        let ranks: HashMap<String, u32> =
            items.iter().enumerate().map(|(rank, id)| (id.clone(), rank as u32)).collect();
        let positions = |ids: &Vec<String>| ids.iter().filter_map(|id| ranks.get(id).copied()).collect::<Vec<u32>>();
        let all = positions(&popularity.all);
        let by = popularity.by.iter().map(|(attribute, lists)| {
            (attribute.clone(), lists.iter().map(|(value, ids)| (value.clone(), positions(ids))).collect())
        });
        Self { all, by: by.collect(), items, ranks }
    }

    /// Ids in order with falling scores. None: the request selects by an attribute that no list is by, so that a static
    /// list cannot answer it.
    pub fn rank(&self, wanted: &Wanted) -> Option<Vec<(String, f32)>> {
        let mut found: Vec<(u32, &str)> = match &wanted.source {
            Source::Ids(ids) => {
                let unlisted = self.items.len() as u32;
                ids.iter().map(|id| (self.ranks.get(id).copied().unwrap_or(unlisted), id.as_str())).collect()
            }
            Source::Select(select) => {
                let mut fitting: Option<HashSet<u32>> = None;
                for (attribute, values) in select {
                    let lists = self.by.get(attribute)?;
                    let of_any = values.iter().filter_map(|value| lists.get(value)).flatten().copied();
                    fitting = Some(match fitting {
                        None => of_any.collect(),
                        Some(before) => of_any.filter(|item| before.contains(item)).collect(),
                    });
                }
                match fitting {
                    Some(fitting) => fitting.into_iter().map(|rank| (rank, self.id(rank))).collect(),
                    None => self.all.iter().map(|rank| (*rank, self.id(*rank))).collect(),
                }
            }
            Source::All => self.all.iter().map(|rank| (*rank, self.id(*rank))).collect(),
        };
        found.retain(|(_, id)| !wanted.exclude.contains(*id));
        // Ids of no list stay in the order in which they were given.
        found.sort_by_key(|(rank, _)| *rank);
        found.truncate(wanted.limit.unwrap_or(match &wanted.source {
            Source::Ids(ids) => ids.len(),
            Source::Select(_) | Source::All => 100,
        }));
        Some(found.into_iter().map(|(rank, id)| (id.to_owned(), self.score(rank))).collect())
    }

    fn id(&self, rank: u32) -> &str {
        &self.items[rank as usize]
    }

    /// From 1 for the most popular item down to 0 for what is in no list.
    fn score(&self, rank: u32) -> f32 {
        let count = self.items.len() as f32;
        if count == 0.0 { 0.0 } else { (count - rank as f32) / count }
    }
}

/// One order that agrees with all lists (Kahn's algorithm): next comes an item that no list still has something before;
/// of several, the one that stands nearest to the head of a list.
fn merge<'a>(lists: impl Iterator<Item = &'a [String]>) -> Vec<String> {
    let mut indices: HashMap<&str, usize> = HashMap::new();
    let mut items: Vec<&str> = Vec::new();
    let mut best: Vec<(usize, usize)> = Vec::new();
    let mut after: Vec<Vec<usize>> = Vec::new();
    let mut before: Vec<usize> = Vec::new();
    for (number, list) in lists.enumerate() {
        let mut previous: Option<usize> = None;
        for (position, id) in list.iter().enumerate() {
            let index = *indices.entry(id).or_insert_with(|| {
                items.push(id);
                best.push((position, number));
                after.push(Vec::new());
                before.push(0);
                items.len() - 1
            });
            best[index] = best[index].min((position, number));
            if let Some(previous) = previous {
                after[previous].push(index);
                before[index] += 1;
            }
            previous = Some(index);
        }
    }
    let mut free: BinaryHeap<Reverse<((usize, usize), usize)>> =
        (0..items.len()).filter(|i| before[*i] == 0).map(|i| Reverse((best[i], i))).collect();
    let mut is_placed = vec![false; items.len()];
    let mut next_unplaced = 0;
    let mut merged = Vec::with_capacity(items.len());
    while merged.len() < items.len() {
        let index = match free.pop() {
            Some(Reverse((_, index))) => index,
            // The lists contradict each other: the earliest that is left goes first.
            None => {
                while is_placed[next_unplaced] {
                    next_unplaced += 1;
                }
                next_unplaced
            }
        };
        if std::mem::replace(&mut is_placed[index], true) {
            continue;
        }
        merged.push(items[index].to_owned());
        for following in &after[index] {
            before[*following] = before[*following].saturating_sub(1);
            if before[*following] == 0 && !is_placed[*following] {
                free.push(Reverse((best[*following], *following)));
            }
        }
    }
    merged
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn strings(ids: &[&str]) -> Vec<String> {
        ids.iter().map(|id| (*id).to_owned()).collect()
    }

    fn films() -> Ranking {
        let by = [("Comedy", strings(&["3", "7", "5", "9"])), ("Drama", strings(&["1", "5", "8"]))];
        Ranking::new(&routes::Popularity {
            all: strings(&["1", "3", "7"]),
            by: [("genres".to_owned(), by.map(|(value, ids)| (value.to_owned(), ids)).into())].into(),
        })
    }

    fn ids(wanted: &Wanted) -> Vec<String> {
        films().rank(wanted).unwrap().into_iter().map(|(id, _)| id).collect()
    }

    fn select(pairs: &[(&str, &[&str])]) -> Source {
        Source::Select(pairs.iter().map(|(name, values)| ((*name).to_owned(), strings(values))).collect())
    }

    #[test]
    fn selectors_exclusions_and_limits_are_respected() {
        let wanted = |source| Wanted { source, ..Default::default() };
        assert_eq!(ids(&wanted(Source::All)), ["1", "3", "7"]);
        assert_eq!(ids(&wanted(select(&[("genres", &["Comedy"])]))), ["3", "7", "5", "9"]);
        assert_eq!(ids(&wanted(select(&[("genres", &["Comedy", "Drama"])]))), ["1", "3", "7", "5", "8", "9"]);
        assert_eq!(ids(&wanted(select(&[("genres", &["Western"])]))), strings(&[]));
        let both = select(&[("genres", &["Comedy"]), ("genres", &["Drama"])]);
        assert_eq!(ids(&wanted(both)), ["5"]);
        assert_eq!(films().rank(&wanted(select(&[("year", &["1997"])]))), None);
        let exclude = HashSet::from(["3".to_owned()]);
        assert_eq!(ids(&Wanted { source: Source::All, exclude, limit: Some(1) }), ["1"]);
        assert_eq!(ids(&wanted(Source::Ids(strings(&["x", "9", "1", "a"])))), ["1", "9", "x", "a"]);
    }

    #[test]
    fn scores_fall() {
        let scores: Vec<f32> = films()
            .rank(&Wanted { source: Source::Ids(strings(&["1", "9", "x"])), ..Default::default() })
            .unwrap()
            .into_iter()
            .map(|(_, score)| score)
            .collect();
        assert!(scores[0] == 1.0 && scores[0] > scores[1] && scores[1] > scores[2] && scores[2] == 0.0, "{scores:?}");
    }

    #[test]
    fn lists_that_contradict_each_other_still_have_an_order() {
        let by = [("x".to_owned(), strings(&["2", "1"]))];
        let ranking = Ranking::new(&routes::Popularity {
            all: strings(&["1", "2", "3"]),
            by: [("genres".to_owned(), by.into())].into(),
        });
        assert_eq!(ranking.items, ["1", "2", "3"]);
    }

    proptest! {
        #[test]
        fn the_one_order_agrees_with_every_list(
            order in Just((0..30).map(|i| i.to_string()).collect::<Vec<_>>()).prop_shuffle(),
            parts in prop::collection::vec(prop::collection::vec(any::<bool>(), 30), 1..6),
        ) {
            let lists: Vec<Vec<String>> = parts
                .iter()
                .map(|part| order.iter().zip(part).filter(|(_, is_in)| **is_in).map(|(id, _)| id.clone()).collect())
                .collect();
            let merged = merge(lists.iter().map(Vec::as_slice));
            let rank = |id: &String| merged.iter().position(|m| m == id);
            for list in &lists {
                prop_assert!(list.windows(2).all(|pair| rank(&pair[0]) < rank(&pair[1])));
            }
            prop_assert_eq!(merged.len(), lists.iter().flatten().collect::<HashSet<_>>().len());
        }
    }
}
