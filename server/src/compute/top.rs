//! The best of many, without sorting them all.

/// An item and its score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scored {
    /// Index in the catalogue.
    pub item: u32,
    /// The greater, the better.
    pub score: f32,
}

impl Scored {
    /// One number that is the greater the better the item is: by score, then by lower index. A NaN is worse than all.
    fn key(self) -> u64 {
        // Both zeros are one score.
        let bits = (self.score + 0.0).to_bits();
        let ordered = match self.score {
            x if x.is_nan() => 0,
            // The bits of floats above zero rise with them, those below zero fall.
            _ if bits >> 31 == 0 => bits | 1 << 31,
            _ => !bits,
        };
        u64::from(ordered) << 32 | u64::from(!self.item)
    }

    /// What has that key. All NaN are one.
    fn of(key: u64) -> Self {
        let ordered = (key >> 32) as u32;
        let score = match ordered {
            0 => f32::NAN,
            _ if ordered >> 31 == 1 => f32::from_bits(ordered & !(1 << 31)),
            _ => f32::from_bits(!ordered),
        };
        Self { item: !(key as u32), score }
    }
}

/// Keeps the best of what is pushed.
///
/// It holds up to twice as many as it keeps, and halves them by selection when it is full: a push costs constant time,
/// and most pushes one comparison.
#[derive(Clone, Debug)]
pub struct Top {
    limit: usize,
    /// Keys, which are compared by one instruction.
    held: Vec<u64>,
    /// Key of the worst that is surely kept: what is not above it need not be held.
    floor: u64,
}

impl Top {
    /// Keeps the best `limit`.
    pub fn new(limit: usize) -> Self {
        Self { limit, held: Vec::new(), floor: 0 }
    }

    /// Takes one.
    pub fn push(&mut self, item: u32, score: f32) {
        self.push_key(Scored { item, score }.key());
    }

    fn push_key(&mut self, key: u64) {
        if self.floor == 0 || key > self.floor {
            self.held.push(key);
            if self.held.len() >= self.limit.saturating_mul(2).max(64) {
                self.select();
            }
        }
    }

    /// Takes those that another kept.
    pub fn merge(&mut self, other: Self) {
        other.held.into_iter().for_each(|key| self.push_key(key));
    }

    /// The best, the best first; equal scores by index.
    pub fn into_sorted(mut self) -> Vec<Scored> {
        self.select();
        self.held.sort_unstable();
        self.held.into_iter().rev().map(Scored::of).collect()
    }

    fn select(&mut self) {
        if self.limit == 0 {
            self.held.clear();
        } else if self.held.len() > self.limit {
            let worse = self.held.len() - self.limit;
            let (_, worst, _) = self.held.select_nth_unstable(worse);
            self.floor = *worst;
            self.held.drain(..worse);
        }
    }
}

/// Sorts by falling score, equal scores by index, NaN last.
pub fn sort(scored: &mut [Scored]) {
    scored.sort_unstable_by_key(|s| !s.key());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scores() -> impl Strategy<Value = Vec<f32>> {
        let score = prop_oneof![
            4 => -2f32..2.0,
            4 => (-3i8..3).prop_map(f32::from),
            1 => prop_oneof![Just(f32::NAN), Just(-f32::NAN), Just(f32::INFINITY), Just(f32::NEG_INFINITY), Just(-0.0)],
        ];
        proptest::collection::vec(score, 0..500)
    }

    /// A full sort by the definition.
    fn oracle(scores: &[f32]) -> Vec<u32> {
        let mut items: Vec<u32> = (0..scores.len() as u32).collect();
        items.sort_by(|a, b| {
            let (a, b) = (scores[*a as usize], scores[*b as usize]);
            a.is_nan().cmp(&b.is_nan()).then(b.partial_cmp(&a).unwrap_or(std::cmp::Ordering::Equal))
        });
        items
    }

    proptest! {
        #[test]
        fn the_best_are_those_of_a_full_sort(scores in scores(), limit in 0usize..600, shuffled: bool) {
            let mut order: Vec<u32> = (0..scores.len() as u32).collect();
            if shuffled {
                order.sort_by_key(|i| i.wrapping_mul(2_654_435_761));
            }
            let mut top = Top::new(limit);
            order.iter().for_each(|&i| top.push(i, scores[i as usize]));
            let got: Vec<u32> = top.into_sorted().into_iter().map(|s| s.item).collect();
            let expected: Vec<u32> = oracle(&scores).into_iter().take(limit).collect();
            prop_assert_eq!(got, expected);
        }

        #[test]
        fn parts_merge_to_the_whole(scores in scores(), limit in 0usize..100, cut in 0usize..500) {
            let mut parts = [Top::new(limit), Top::new(limit)];
            for (i, &score) in scores.iter().enumerate() {
                parts[usize::from(i >= cut)].push(i as u32, score);
            }
            let [mut first, second] = parts;
            first.merge(second);
            let got: Vec<u32> = first.into_sorted().into_iter().map(|s| s.item).collect();
            let expected: Vec<u32> = oracle(&scores).into_iter().take(limit).collect();
            prop_assert_eq!(got, expected);
        }
    }
}
