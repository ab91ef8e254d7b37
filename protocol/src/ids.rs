//! Many short strings in one buffer.

use std::collections::HashSet;
use std::fmt;
use std::hash::BuildHasher;
use std::ops::Range;

/// Ids of which few share a bit of so many words.
const FEW: usize = 256;
const WORDS: usize = 1024;

/// A list of ids that takes two allocations however many there are: a request often has hundreds of candidates of a
/// few bytes each.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Ids {
    text: String,
    /// Where each id ends in `text`.
    ends: Vec<usize>,
}

impl Ids {
    /// An empty list with room for `count` ids of `bytes` bytes together.
    pub fn with_capacity(count: usize, bytes: usize) -> Self {
        Self { text: String::with_capacity(bytes), ends: Vec::with_capacity(count) }
    }

    /// Appends an id.
    pub fn push(&mut self, id: &str) {
        self.text.push_str(id);
        self.ends.push(self.text.len());
    }

    /// Appends what `value` prints, without a string in between.
    pub fn push_display(&mut self, value: impl fmt::Display) {
        use fmt::Write;
        let _ = write!(self.text, "{value}");
        self.ends.push(self.text.len());
    }

    /// Number of ids.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// True when there is no id.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes of all ids together.
    pub fn bytes(&self) -> usize {
        self.text.len()
    }

    /// The id at a position.
    pub fn get(&self, index: usize) -> Option<&str> {
        (index < self.ends.len()).then(|| &self.text[self.range(index)])
    }

    /// Ids in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> + Clone {
        (0..self.ends.len()).map(|i| &self.text[self.range(i)])
    }

    /// The first id that came before, if any.
    pub fn first_duplicate(&self) -> Option<&str> {
        let hasher = foldhash::fast::RandomState::default();
        // Most lists are short and without duplicates, which so many bits show without memory for a set: of 100 ids two
        // share a bit in one list of thirteen.
        if self.len() <= FEW && self.share_no_bit(&hasher) {
            return None;
        }
        let mut seen = HashSet::with_capacity_and_hasher(self.len(), hasher);
        self.iter().find(|id| !seen.insert(*id))
    }

    fn share_no_bit(&self, hasher: &impl BuildHasher) -> bool {
        let mut seen = [0u64; WORDS];
        self.iter().all(|id| {
            let hash = hasher.hash_one(id);
            let (word, bit) = (&mut seen[(hash >> 6) as usize % WORDS], 1 << (hash % 64));
            let is_new = *word & bit == 0;
            *word |= bit;
            is_new
        })
    }

    /// Removes all ids and keeps the memory.
    pub fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
    }

    fn range(&self, index: usize) -> Range<usize> {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        start..self.ends[index]
    }
}

impl fmt::Debug for Ids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<S: AsRef<str>> Extend<S> for Ids {
    fn extend<I: IntoIterator<Item = S>>(&mut self, ids: I) {
        for id in ids {
            self.push(id.as_ref());
        }
    }
}

impl<S: AsRef<str>> FromIterator<S> for Ids {
    fn from_iter<I: IntoIterator<Item = S>>(ids: I) -> Self {
        let mut list = Self::default();
        list.extend(ids);
        list
    }
}

#[cfg(test)]
mod tests {
    use super::Ids;

    #[test]
    fn ids_keep_order_and_empty_ids() {
        let ids: Ids = ["50", "", "né", "50"].into_iter().collect();
        assert_eq!(ids.iter().collect::<Vec<_>>(), ["50", "", "né", "50"]);
        assert_eq!((ids.len(), ids.bytes(), ids.get(2), ids.get(4)), (4, 7, Some("né"), None));
    }

    #[test]
    fn a_duplicate_is_found_wherever_it_stands_and_in_lists_of_any_length() {
        for count in [1, 2, 3, 100, 255, 256, 257, 1000] {
            let ids = (0..count).map(|i| format!("item-{i}"));
            assert_eq!(ids.clone().collect::<Ids>().first_duplicate(), None, "{count}");
            for twice in [0, count / 2, count - 1] {
                let again = format!("item-{twice}");
                let ids: Ids = ids.clone().chain([again.clone()]).collect();
                assert_eq!(ids.first_duplicate(), Some(again.as_str()), "{count}");
            }
        }
    }

    #[test]
    fn duplicates_are_found_by_whole_id() {
        let distinct: Ids = ["1", "11", "111", ""].into_iter().collect();
        assert_eq!(distinct.first_duplicate(), None);
        let twice: Ids = ["1", "11", "2", "11", "1"].into_iter().collect();
        assert_eq!(twice.first_duplicate(), Some("11"));
    }

    #[test]
    fn numbers_print_as_ids() {
        let mut ids = Ids::with_capacity(2, 8);
        ids.push_display(-50_i64);
        ids.push_display(172_u64);
        assert_eq!(ids.iter().collect::<Vec<_>>(), ["-50", "172"]);
    }
}
