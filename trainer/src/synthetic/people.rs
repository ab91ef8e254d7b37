//! Users: a profile, and a taste that has to do with it.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::{Taste, add, direction, random};

const OCCUPATIONS: [&str; 12] = [
    "artist",
    "doctor",
    "educator",
    "engineer",
    "farmer",
    "lawyer",
    "librarian",
    "retired",
    "salesman",
    "scientist",
    "student",
    "writer",
];

/// What a generated population has in common, whatever the seed: the same profile means the same leaning everywhere.
const LEANINGS: u64 = 0x1ea9;

/// One user.
pub(super) struct Person {
    pub(super) age: u32,
    pub(super) gender: char,
    occupation: usize,
    pub(super) taste: Taste,
}

impl Person {
    /// Drawn from the numbers that follow.
    pub(super) fn new(numbers: &mut ChaCha8Rng) -> Self {
        let age = numbers.random_range(12..70);
        let gender = if numbers.random_bool(0.6) { 'M' } else { 'F' };
        let occupation = numbers.random_range(0..OCCUPATIONS.len());
        let own = direction(1.0, numbers);
        let of_occupation = direction(1.0, &mut random(LEANINGS, occupation as u64));
        let of_gender = direction(1.0, &mut random(LEANINGS, 100 + u64::from(gender == 'M')));
        let of_age = direction(1.0, &mut random(LEANINGS, 200 + u64::from(age / 12)));
        let taste = add(&add(&add(&own, &of_occupation, 0.5), &of_gender, 0.3), &of_age, 0.3);
        Self { age, gender, occupation, taste }
    }

    /// In words.
    pub(super) fn occupation(&self) -> &'static str {
        OCCUPATIONS[self.occupation]
    }
}
