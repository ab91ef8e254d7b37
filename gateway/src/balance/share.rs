//! A share of requests: by a key the same in every gateway and at every time, without one by chance.

use rand::Rng;

/// Parts of a percent that are told apart: 0.01 %.
const PARTS: u64 = 10_000;

/// Whether a request falls into a share of so many percent. With a key it does at 5 % whenever it does at 2 %, and one
/// task's shares say nothing about another's.
pub fn falls_into(percent: f64, task: &str, key: Option<&[u8]>, rng: &mut impl Rng) -> bool {
    if percent <= 0.0 {
        return false;
    }
    let part = match key {
        Some(key) => hash(task.as_bytes(), key) % PARTS,
        None => rng.random_range(0..PARTS),
    };
    (part as f64) < percent * (PARTS as f64 / 100.0)
}

/// FNV-1a of task and key, and a last round of SplitMix64, since the low bits of FNV-1a alone are not even. Written
/// here because it must never change: it decides who is in a canary.
fn hash(task: &[u8], key: &[u8]) -> u64 {
    let bytes = task.iter().chain([&0]).chain(key);
    let fnv = bytes
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let mixed = (fnv ^ (fnv >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    fn keyed(percent: f64, task: &str, key: &str) -> bool {
        falls_into(percent, task, Some(key.as_bytes()), &mut StdRng::seed_from_u64(0))
    }

    #[test]
    fn a_key_stays_where_it_is_through_releases() {
        let inside: Vec<u32> = (0..40).filter(|i| keyed(10.0, "search", &format!("user-{i}"))).collect();
        assert_eq!(inside, [4, 6, 16, 17, 21, 23, 33]);
    }

    #[test]
    fn shares_are_as_large_as_they_say() {
        for percent in [1.0, 10.0, 50.0] {
            let keys = (0..20_000).filter(|i| keyed(percent, "search", &i.to_string())).count() as f64;
            let mut rng = StdRng::seed_from_u64(3);
            let chance = (0..20_000).filter(|_| falls_into(percent, "search", None, &mut rng)).count() as f64;
            for count in [keys, chance] {
                assert!((count / 200.0 - percent).abs() < 0.12 * percent + 0.2, "{count} of 20,000 at {percent} %");
            }
        }
    }

    proptest! {
        #[test]
        fn a_larger_share_holds_the_smaller_one(key: String, low in 0.0_f64..100.0, more in 0.0_f64..100.0) {
            let high = (low + more).min(100.0);
            prop_assert!(!keyed(low, "search", &key) || keyed(high, "search", &key));
            prop_assert!(keyed(100.0, "search", &key));
            prop_assert!(!keyed(0.0, "search", &key));
        }
    }
}
