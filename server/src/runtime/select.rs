//! Candidates by the attributes of items.

use std::collections::{BTreeSet, HashMap};
use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use unimodel_model::catalogue::{AttributeColumn, Catalogue};
use unimodel_model::context::{Context, Value};
use unimodel_model::schema::Attribute;

use crate::error::RankError;
use crate::request::check_select;

/// Finds items by attribute without looking at all of them.
#[derive(Debug)]
pub(super) struct AttributeIndex {
    attributes: Vec<Attribute>,
    by_attribute: Vec<ByValue>,
    hasher: RandomState,
}

/// Items of one attribute's values; those of one value in item order.
#[derive(Debug)]
enum ByValue {
    /// Of attributes with one value an item: all items that have one, those of a value together. Numbers are in order;
    /// strings are in order of their hash, since an order of their own takes several times as long and is of no use. The
    /// values themselves stay in the catalogue.
    Sorted(Vec<u32>),
    /// Of lists.
    Lists(HashMap<String, Vec<u32>>),
}

impl AttributeIndex {
    pub(super) fn new(catalogue: &Catalogue) -> Self {
        let all = || 0..catalogue.len() as u32;
        let hasher = RandomState::default();
        let by_attribute = catalogue.attributes().iter().map(|(_, column)| match column {
            AttributeColumn::Number(values) => {
                let mut items: Vec<u32> = all().filter(|i| values[*i as usize].is_some()).collect();
                items.sort_by(|a, b| order(values[*a as usize], values[*b as usize]));
                ByValue::Sorted(items)
            }
            AttributeColumn::Category(values) | AttributeColumn::Text(values) => {
                let hashed = all().filter_map(|item| Some((hasher.hash_one(values.get(item)?), item)));
                let mut hashed: Vec<(u64, u32)> = hashed.collect();
                hashed.sort_unstable();
                // All of one string but by a rare chance.
                for same in hashed.chunk_by_mut(|a, b| a.0 == b.0) {
                    same.sort_by(|a, b| values.get(a.1).cmp(&values.get(b.1)));
                }
                ByValue::Sorted(hashed.into_iter().map(|(_, item)| item).collect())
            }
            AttributeColumn::CategoryList(values) => {
                let mut lists: HashMap<String, Vec<u32>> = HashMap::new();
                for (item, values) in all().zip(values.iter()) {
                    for value in values {
                        let Some(items) = lists.get_mut(value) else {
                            lists.insert(value.to_owned(), vec![item]);
                            continue;
                        };
                        if items.last() != Some(&item) {
                            items.push(item);
                        }
                    }
                }
                ByValue::Lists(lists)
            }
        });
        Self {
            by_attribute: by_attribute.collect(),
            hasher,
            attributes: catalogue.attributes().iter().map(|(attribute, _)| attribute.clone()).collect(),
        }
    }

    /// The items whose every attribute in `select` has one of the values given for it, in item order.
    ///
    /// # Errors
    /// What [`check_select`] finds wrong.
    pub(super) fn select(&self, select: &Context, catalogue: &Catalogue) -> Result<Vec<u32>, RankError> {
        check_select(select, &self.attributes)?;
        let mut found: Option<Vec<u32>> = None;
        for (position, attribute) in self.attributes.iter().enumerate() {
            let Some(value) = select.get(&attribute.name) else { continue };
            let fitting = self.fitting(position, value, catalogue);
            found = Some(match found {
                None => fitting,
                Some(found) => both(&found, &fitting),
            });
        }
        Ok(found.unwrap_or_else(|| (0..catalogue.len() as u32).collect()))
    }

    fn fitting(&self, position: usize, value: &Value, catalogue: &Catalogue) -> Vec<u32> {
        match value {
            Value::Null => Vec::new(),
            Value::Number(x) => self.number(position, *x, catalogue).to_vec(),
            Value::Text(text) => self.text(position, text, catalogue).to_vec(),
            Value::List(texts) => {
                let texts: BTreeSet<&String> = texts.iter().collect();
                let mut items: Vec<u32> =
                    texts.into_iter().flat_map(|text| self.text(position, text, catalogue)).copied().collect();
                items.sort_unstable();
                items.dedup();
                items
            }
        }
    }

    fn text(&self, position: usize, wanted: &str, catalogue: &Catalogue) -> &[u32] {
        match (&self.by_attribute[position], &catalogue.attributes()[position].1) {
            (ByValue::Lists(lists), _) => lists.get(wanted).map_or(&[], |items| items),
            (ByValue::Sorted(items), AttributeColumn::Category(values) | AttributeColumn::Text(values)) => {
                let hash = self.hasher.hash_one(wanted);
                let hashed = |item| values.get(item).map(|value| (self.hasher.hash_one(value), value));
                equal(items, |item| hashed(item).cmp(&Some((hash, wanted))))
            }
            (ByValue::Sorted(_), _) => &[],
        }
    }

    fn number(&self, position: usize, wanted: f64, catalogue: &Catalogue) -> &[u32] {
        match (&self.by_attribute[position], &catalogue.attributes()[position].1) {
            (ByValue::Sorted(items), AttributeColumn::Number(values)) => {
                equal(items, |item| order(values[item as usize], Some(wanted)))
            }
            _ => &[],
        }
    }
}

/// Numbers in order; both zeros are one value.
fn order(a: Option<f64>, b: Option<f64>) -> std::cmp::Ordering {
    let plain = |x: Option<f64>| x.map_or(f64::NEG_INFINITY, |x| x + 0.0);
    plain(a).total_cmp(&plain(b))
}

/// The stretch of sorted items that `compare` finds equal.
fn equal(items: &[u32], compare: impl Fn(u32) -> std::cmp::Ordering) -> &[u32] {
    let from = items.partition_point(|item| compare(*item).is_lt());
    let to = items.partition_point(|item| compare(*item).is_le());
    &items[from..to]
}

/// What two sorted lists share.
fn both(a: &[u32], b: &[u32]) -> Vec<u32> {
    let (small, large) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    small.iter().copied().filter(|item| large.binary_search(item).is_ok()).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;
    use unimodel_model::schema::AttributeType;

    use super::*;

    const WORDS: [&str; 4] = ["a", "b", "c", ""];

    fn catalogue() -> impl Strategy<Value = Catalogue> {
        let word = || prop::sample::select(&WORDS[..]).prop_map(str::to_owned);
        let item = (
            prop::option::of(word()),
            prop::option::of(word()),
            prop::collection::vec(word(), 0..3),
            prop::option::of(prop::sample::select(&[-1.5, -0.0, 0.0, 2.0][..])),
        );
        prop::collection::vec(item, 1..30).prop_map(|items| {
            let attribute = |name: &str, kind| Attribute { name: name.into(), kind };
            let columns = vec![
                (
                    attribute("title", AttributeType::Text),
                    AttributeColumn::Text(items.iter().map(|i| i.0.as_ref()).collect()),
                ),
                (
                    attribute("genre", AttributeType::Category),
                    AttributeColumn::Category(items.iter().map(|i| i.1.as_ref()).collect()),
                ),
                (
                    attribute("genres", AttributeType::CategoryList),
                    AttributeColumn::CategoryList(items.iter().map(|i| &i.2).collect()),
                ),
                (
                    attribute("year", AttributeType::Number),
                    AttributeColumn::Number(items.iter().map(|i| i.3).collect()),
                ),
            ];
            Catalogue::new((0..items.len()).map(|i| i.to_string()), columns).unwrap()
        })
    }

    fn selectors() -> impl Strategy<Value = Context> {
        let word = || prop::sample::select(vec!["a", "b", "c", "", "never"]).prop_map(str::to_owned);
        let words = || {
            prop_oneof![word().prop_map(Value::Text), prop::collection::vec(word(), 0..4).prop_map(Value::List)].boxed()
        };
        let number = prop::sample::select(&[-1.5, -0.0, 0.0, 2.0, 7.0][..]).prop_map(Value::Number).boxed();
        let fields = [("title", words()), ("genre", words()), ("genres", words()), ("year", number)];
        let fields =
            fields.map(|(name, value)| prop::option::of(value).prop_map(move |v| v.map(|v| (name.to_owned(), v))));
        fields.prop_map(|fields| fields.into_iter().flatten().collect())
    }

    /// Looks at all items.
    fn oracle(select: &Context, catalogue: &Catalogue) -> Vec<u32> {
        let any = |value: &Value, has: &dyn Fn(&str) -> bool| match value {
            Value::Text(text) => has(text),
            Value::List(texts) => texts.iter().any(|text| has(text)),
            _ => false,
        };
        let fits = |item: u32, name: &str, value: &Value| match catalogue.attribute(name).unwrap() {
            AttributeColumn::Number(values) => values[item as usize].map(Value::Number).as_ref() == Some(value),
            AttributeColumn::Category(values) | AttributeColumn::Text(values) => {
                any(value, &|text| values.get(item) == Some(text))
            }
            AttributeColumn::CategoryList(values) => any(value, &|text| values.get(item).any(|v| v == text)),
        };
        (0..catalogue.len() as u32).filter(|item| select.iter().all(|(name, value)| fits(*item, name, value))).collect()
    }

    proptest! {
        #[test]
        fn the_index_finds_what_looking_at_all_items_finds(catalogue in catalogue(), select in selectors()) {
            let index = AttributeIndex::new(&catalogue);
            prop_assert_eq!(index.select(&select, &catalogue).unwrap(), oracle(&select, &catalogue));
        }
    }

    #[test]
    fn a_selector_that_does_not_fit_is_refused() {
        let title = Attribute { name: "title".into(), kind: AttributeType::Text };
        let catalogue =
            Catalogue::new(["1"], vec![(title, AttributeColumn::Text([None::<&str>].into_iter().collect()))]).unwrap();
        let index = AttributeIndex::new(&catalogue);
        let select =
            |name: &str, value| index.select(&Context::from([(name.to_owned(), value)]), &catalogue).unwrap_err();
        assert!(
            matches!(select("titel", Value::Null), RankError::UnknownAttribute { nearest: Some(name), .. } if name == "title")
        );
        assert!(matches!(select("title", Value::Number(1.0)), RankError::AttributeType { .. }));
    }
}
