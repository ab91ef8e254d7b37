//! Power of two choices: of two endpoints by chance, the one with the lower load.
//!
//! Mitzenmacher, "The power of two choices in randomized load balancing": nearly as even as looking at all of them, and
//! many gateways that look at the same loads do not all run to the same endpoint.

use rand::Rng;

/// How often chance may hit an endpoint that cannot be used before the others are looked at in order.
const DRAWS: usize = 8;

/// An index below `count` whose load is known; None where no load is.
pub fn choose(count: usize, rng: &mut impl Rng, mut load: impl FnMut(usize) -> Option<f64>) -> Option<usize> {
    match count {
        0 => return None,
        1 => return load(0).map(|_| 0),
        _ => {}
    }
    let mut first: Option<(usize, f64)> = None;
    let mut consider = |index: usize| -> Option<usize> {
        if first.is_some_and(|(chosen, _)| chosen == index) {
            return None;
        }
        let found = load(index)?;
        match first {
            None => {
                first = Some((index, found));
                None
            }
            Some((chosen, chosen_load)) => Some(if found < chosen_load { index } else { chosen }),
        }
    };
    for _ in 0..DRAWS {
        if let Some(chosen) = consider(rng.random_range(0..count)) {
            return Some(chosen);
        }
    }
    let start = rng.random_range(0..count);
    for index in (start..count).chain(0..start) {
        if let Some(chosen) = consider(index) {
            return Some(chosen);
        }
    }
    first.map(|(chosen, _)| chosen)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn the_most_loaded_of_many_is_never_chosen() {
        let mut rng = StdRng::seed_from_u64(1);
        let loads = [3.0, 1.0, 2.0, 9.0];
        let mut counts = [0; 4];
        for _ in 0..1000 {
            if let Some(chosen) = choose(4, &mut rng, |i| Some(loads[i])) {
                counts[chosen] += 1;
            }
        }
        assert_eq!(counts[3], 0);
        assert!(counts[1] > counts[2] && counts[2] > counts[0] && counts[0] > 0, "{counts:?}");
    }

    #[test]
    fn equal_loads_are_chosen_evenly() {
        let mut rng = StdRng::seed_from_u64(2);
        let mut counts = [0; 3];
        for _ in 0..3000 {
            if let Some(chosen) = choose(3, &mut rng, |_| Some(1.0)) {
                counts[chosen] += 1;
            }
        }
        assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
    }

    proptest! {
        #[test]
        fn one_that_can_be_used_is_found(loads in prop::collection::vec(prop::option::of(0.0_f64..9.0), 0..40), seed: u64) {
            let mut rng = StdRng::seed_from_u64(seed);
            let usable: Vec<usize> = (0..loads.len()).filter(|i| loads[*i].is_some()).collect();
            match choose(loads.len(), &mut rng, |i| loads[i]) {
                None => prop_assert!(usable.is_empty()),
                Some(chosen) => {
                    prop_assert!(usable.contains(&chosen));
                    if usable.len() == 2 {
                        let lower = usable.iter().filter_map(|i| loads[*i]).fold(f64::MAX, f64::min);
                        prop_assert_eq!(loads[chosen], Some(lower));
                    }
                }
            }
        }
    }
}
