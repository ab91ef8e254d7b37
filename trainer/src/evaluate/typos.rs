//! Typing errors for the misspelt slice: as a person on a keyboard makes them, one edit in five characters.
//!
//! This is not the generator that training uses: a model that is trained and measured with the same errors has learned
//! the generator.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// One edit for so many letters and digits, and one at least.
pub const CHARACTERS_AN_EDIT: usize = 5;

/// Keys of a QWERTY keyboard by row; neighbours are the keys to the left and right, above and below.
const KEYBOARD: [&str; 4] = ["1234567890", "qwertyuiop", "asdfghjkl", "zxcvbnm"];

/// The text with one edit for every five letters or digits (rounded, one at least), each at a place of its own:
/// two neighbours swapped, a letter dropped, a letter doubled, or the key beside it hit. A text with fewer than two
/// letters stays as it is. The same seed and text give the same errors.
pub fn misspell(text: &str, seed: u64) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    let mut places: Vec<usize> = (0..chars.len()).filter(|&i| chars[i].is_alphanumeric()).collect();
    if places.len() < 2 {
        return text.to_owned();
    }
    let edits = (places.len() + CHARACTERS_AN_EDIT / 2) / CHARACTERS_AN_EDIT;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    // Partial Fisher–Yates: distinct places; from the right, so that an edit does not move what is still to be edited.
    let edits = edits.clamp(1, places.len());
    for chosen in 0..edits {
        let other = rng.random_range(chosen..places.len());
        places.swap(chosen, other);
    }
    places.truncate(edits);
    places.sort_unstable_by(|a, b| b.cmp(a));
    for place in places {
        edit(&mut chars, place, &mut rng);
    }
    chars.into_iter().collect()
}

/// One edit at that place. Where an edit would change nothing (two equal letters swapped, a letter with no key beside
/// it), the letter is doubled.
fn edit(chars: &mut Vec<char>, place: usize, rng: &mut ChaCha8Rng) {
    let letter = chars[place];
    match rng.random_range(0..4) {
        0 if chars.get(place + 1).is_some_and(|next| next.is_alphanumeric() && *next != letter) => {
            chars.swap(place, place + 1);
        }
        1 => {
            chars.remove(place);
        }
        2 => {
            let keys = neighbours(letter);
            if keys.is_empty() {
                chars.insert(place, letter);
            } else {
                chars[place] = keys[rng.random_range(0..keys.len())];
            }
        }
        _ => chars.insert(place, letter),
    }
}

/// The keys beside a letter's key, in the letter's case; none for a letter that is not on the keyboard.
fn neighbours(letter: char) -> Vec<char> {
    let lower = letter.to_ascii_lowercase();
    let Some((row, column)) = KEYBOARD.iter().enumerate().find_map(|(r, keys)| keys.find(lower).map(|c| (r, c))) else {
        return Vec::new();
    };
    let key = |row: usize, column: usize| KEYBOARD.get(row).and_then(|keys| keys.as_bytes().get(column).copied());
    [
        column.checked_sub(1).and_then(|c| key(row, c)),
        key(row, column + 1),
        row.checked_sub(1).and_then(|r| key(r, column)),
        key(row + 1, column),
    ]
    .into_iter()
    .flatten()
    .map(char::from)
    .filter(|k| k.is_ascii_alphabetic() || !letter.is_alphabetic())
    .map(|k| if letter.is_ascii_uppercase() { k.to_ascii_uppercase() } else { k })
    .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn errors_are_those_of_a_keyboard() {
        let misspelt: Vec<String> = (0..8).map(|seed| misspell("the matrix", seed)).collect();
        insta::assert_debug_snapshot!(misspelt);
    }

    #[test]
    fn keys_beside_a_key() {
        assert_eq!(neighbours('a'), ['s', 'q', 'z']);
        assert_eq!(neighbours('Q'), ['W', 'A']);
        assert_eq!(neighbours('5'), ['4', '6', 't']);
        assert!(neighbours('é').is_empty());
    }

    /// Levenshtein distance.
    fn distance(a: &str, b: &str) -> usize {
        let b: Vec<char> = b.chars().collect();
        let mut row: Vec<usize> = (0..=b.len()).collect();
        for (i, x) in a.chars().enumerate() {
            let mut diagonal = std::mem::replace(&mut row[0], i + 1);
            for (j, y) in b.iter().enumerate() {
                let next = (diagonal + usize::from(x != *y)).min(row[j] + 1).min(row[j + 1] + 1);
                diagonal = std::mem::replace(&mut row[j + 1], next);
            }
        }
        row[b.len()]
    }

    proptest! {
        #[test]
        fn one_edit_in_five_letters(text in "[a-z]{2,12}( [a-z]{1,8}){0,3}", seed: u64) {
            let letters = text.chars().filter(|c| c.is_alphanumeric()).count();
            let edits = ((letters + 2) / 5).max(1);
            // A swap is two substitutions in Levenshtein's measure.
            prop_assert!(distance(&text, &misspell(&text, seed)) <= 2 * edits);
            prop_assert_eq!(misspell(&text, seed), misspell(&text, seed));
        }

        #[test]
        fn a_single_edit_always_changes_the_word(word in "[a-z]{2,7}", seed: u64) {
            prop_assert_ne!(misspell(&word, seed), word);
        }

        #[test]
        fn any_text_is_accepted(text in "\\PC*", seed: u64) {
            misspell(&text, seed);
        }
    }
}
