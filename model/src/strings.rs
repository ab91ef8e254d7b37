//! Strings of many items: one after the other in one piece of memory, since a piece for each takes longer to fill than to
//! read its file.

use arrow::array::{Array, LargeStringArray, LargeStringBuilder};

/// At most one string an item.
#[derive(Clone, Debug, PartialEq)]
pub struct Strings(LargeStringArray);

impl Strings {
    /// The item's; `None` where it has none.
    ///
    /// # Panics
    /// If there is no such item.
    pub fn get(&self, item: u32) -> Option<&str> {
        let item = item as usize;
        self.0.is_valid(item).then(|| self.0.value(item))
    }

    /// All items', in item order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Option<&str>> {
        self.0.iter()
    }
}

impl<S: AsRef<str>> FromIterator<Option<S>> for Strings {
    fn from_iter<I: IntoIterator<Item = Option<S>>>(strings: I) -> Self {
        let mut builder = StringsBuilder::default();
        builder.extend(strings);
        builder.finish()
    }
}

/// [`Strings`] that come bit by bit.
#[derive(Debug, Default)]
pub(crate) struct StringsBuilder(LargeStringBuilder);

impl StringsBuilder {
    pub(crate) fn finish(mut self) -> Strings {
        Strings(self.0.finish())
    }
}

impl<S: AsRef<str>> Extend<Option<S>> for StringsBuilder {
    fn extend<I: IntoIterator<Item = Option<S>>>(&mut self, strings: I) {
        strings.into_iter().for_each(|string| self.0.append_option(string));
    }
}

/// Any number of strings an item.
#[derive(Clone, Debug, PartialEq)]
pub struct StringLists {
    /// Where each item's end in `strings`.
    ends: Vec<usize>,
    strings: LargeStringArray,
}

impl StringLists {
    /// The item's.
    ///
    /// # Panics
    /// If there is no such item.
    pub fn get(&self, item: u32) -> impl ExactSizeIterator<Item = &str> + Clone {
        let item = item as usize;
        let start = item.checked_sub(1).map_or(0, |before| self.ends[before]);
        (start..self.ends[item]).map(|at| self.strings.value(at))
    }

    /// All items', in item order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = impl ExactSizeIterator<Item = &str>> {
        (0..self.ends.len() as u32).map(|item| self.get(item))
    }
}

impl<L: IntoIterator<Item: AsRef<str>>> FromIterator<L> for StringLists {
    fn from_iter<I: IntoIterator<Item = L>>(lists: I) -> Self {
        let mut builder = StringListsBuilder::default();
        lists.into_iter().for_each(|list| builder.push(list));
        builder.finish()
    }
}

/// [`StringLists`] that come bit by bit.
#[derive(Debug, Default)]
pub(crate) struct StringListsBuilder {
    ends: Vec<usize>,
    strings: LargeStringBuilder,
}

impl StringListsBuilder {
    pub(crate) fn push(&mut self, list: impl IntoIterator<Item: AsRef<str>>) {
        let before = self.ends.last().copied().unwrap_or_default();
        let added = list.into_iter().map(|string| self.strings.append_value(string)).count();
        self.ends.push(before + added);
    }

    pub(crate) fn finish(mut self) -> StringLists {
        StringLists { ends: self.ends, strings: self.strings.finish() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn strings_are_found_where_they_were_put(all in prop::collection::vec(prop::option::of("\\PC{0,3}"), 0..50)) {
            let strings: Strings = all.iter().map(Option::as_ref).collect();
            prop_assert_eq!(strings.iter().collect::<Vec<_>>(), all.iter().map(Option::as_deref).collect::<Vec<_>>());
            for (item, string) in (0..).zip(&all) {
                prop_assert_eq!(strings.get(item), string.as_deref());
            }
        }

        #[test]
        fn lists_are_found_where_they_were_put(
            all in prop::collection::vec(prop::collection::vec("\\PC{0,3}", 0..4), 0..50),
        ) {
            let lists: StringLists = all.iter().collect();
            prop_assert_eq!(lists.iter().len(), all.len());
            for (item, (found, list)) in (0..).zip(lists.iter().zip(&all)) {
                let found: Vec<&str> = found.collect();
                prop_assert_eq!(&found, list);
                prop_assert_eq!(lists.get(item).collect::<Vec<_>>(), found);
            }
        }
    }
}
