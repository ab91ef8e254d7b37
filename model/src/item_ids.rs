//! The ids of a catalogue's items: many, short, and looked up for every candidate of every request.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

/// Ids in item order, each once. They lie in one text, so that a catalogue of millions is a few allocations.
#[derive(Clone, Debug, Default)]
pub struct ItemIds {
    text: String,
    /// Where each id ends in `text`.
    ends: Vec<usize>,
    /// Items by their id. It holds ids of the version alone, so that no request can fill it with ids of one hash.
    index: HashTable<u32>,
    hasher: RandomState,
}

/// An id is another item's already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TakenBy(pub u32);

impl ItemIds {
    /// Appends an item of that id.
    ///
    /// # Errors
    /// [`TakenBy`]: nothing changes.
    pub fn push(&mut self, id: &str) -> Result<(), TakenBy> {
        let item = self.ends.len() as u32;
        let Self { text, ends, index, hasher } = self;
        let entry = index.entry(
            hasher.hash_one(id),
            |other| slice(text, ends, *other) == id,
            |other| hasher.hash_one(slice(text, ends, *other)),
        );
        match entry {
            hashbrown::hash_table::Entry::Occupied(other) => Err(TakenBy(*other.get())),
            hashbrown::hash_table::Entry::Vacant(place) => {
                place.insert(item);
                text.push_str(id);
                ends.push(text.len());
                Ok(())
            }
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The item's id.
    ///
    /// # Panics
    /// If there is no such item.
    pub fn id(&self, item: u32) -> &str {
        slice(&self.text, &self.ends, item)
    }

    /// The item of that id.
    pub fn find(&self, id: &str) -> Option<u32> {
        self.index.find(self.hasher.hash_one(id), |item| self.id(*item) == id).copied()
    }

    /// All, in item order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> + Clone {
        (0..self.ends.len()).map(|item| self.id(item as u32))
    }
}

fn slice<'a>(text: &'a str, ends: &[usize], item: u32) -> &'a str {
    let item = item as usize;
    let start = item.checked_sub(1).map_or(0, |before| ends[before]);
    &text[start..ends[item]]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ids_are_found_where_they_were_put(ids in prop::collection::vec("[ab]{0,4}|\\PC{0,3}", 0..200)) {
            let mut all = ItemIds::default();
            let mut expected: Vec<&str> = Vec::new();
            for id in &ids {
                match expected.iter().position(|known| known == id) {
                    Some(item) => prop_assert_eq!(all.push(id), Err(TakenBy(item as u32))),
                    None => {
                        prop_assert_eq!(all.push(id), Ok(()));
                        expected.push(id);
                    }
                }
            }
            prop_assert_eq!(all.iter().collect::<Vec<_>>(), expected.clone());
            for (item, id) in expected.iter().enumerate() {
                prop_assert_eq!((all.find(id), all.id(item as u32)), (Some(item as u32), *id));
            }
            prop_assert_eq!(all.find("absent"), None);
        }
    }
}
