//! Typing errors for training queries. Evaluation has a generator of its own, so that the network is not tested on the
//! errors that it was taught.

use rand::Rng;

/// Characters that a slip of the finger may put in.
const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz";

/// The text with errors: each character is dropped, replaced, followed by another or swapped with the next one, with
/// this probability in all.
pub(super) fn misspell(text: &str, probability: f64, rng: &mut impl Rng) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len() + 4);
    let letter = |rng: &mut dyn rand::RngCore| char::from(LETTERS[rng.random_range(0..LETTERS.len())]);
    let mut at = 0;
    while at < chars.len() {
        let c = chars[at];
        at += 1;
        if !rng.random_bool(probability) {
            out.push(c);
            continue;
        }
        match rng.random_range(0..4) {
            0 => {}
            1 => out.push(letter(rng)),
            2 => out.extend([c, letter(rng)]),
            _ => {
                if let Some(&next) = chars.get(at) {
                    out.push(next);
                    at += 1;
                }
                out.push(c);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn errors_come_at_the_asked_rate_and_none_at_zero() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let text = "the shawshank redemption".repeat(50);
        assert_eq!(misspell(&text, 0.0, &mut rng), text);
        let changed = misspell(&text, 0.2, &mut rng).chars().zip(text.chars()).any(|(a, b)| a != b);
        assert!(changed);
    }
}
