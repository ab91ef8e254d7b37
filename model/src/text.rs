//! Text as hashed character n-grams, so that a misspelt word shares most of its features with the right one.
//!
//! After fastText's subwords (Bojanowski et al. 2017): words are padded with boundary marks and cut into bigrams,
//! trigrams and skip-grams (first and third character), and the whole word is one feature more, which is what makes
//! an exact match stand out.

/// Characters of a text that count; what follows is ignored, so that a text of a megabyte costs no more than a title.
pub const MAX_CHARACTERS: usize = 256;

/// Lower-case words of letters and digits, any other character separating them. Any UTF-8 is accepted.
pub fn words(text: &str) -> impl Iterator<Item = String> {
    let mut words = Vec::new();
    for_each_word(text.chars(), |marked| words.push(marked[1..marked.len() - 1].iter().collect()));
    words.into_iter()
}

/// Calls `found` with each word, lower-case and between its boundary marks.
pub fn for_each_word(text: impl Iterator<Item = char>, mut found: impl FnMut(&[char])) {
    let mut word = vec!['<'];
    let mut end = |word: &mut Vec<char>| {
        if word.len() > 1 {
            word.push('>');
            found(word);
            word.truncate(1);
        }
    };
    for c in text.take(MAX_CHARACTERS).flat_map(char::to_lowercase) {
        if c.is_alphanumeric() { word.push(c) } else { end(&mut word) }
    }
    end(&mut word);
}

/// The buckets of a text with how often each occurs, by rising bucket; empty for a text without letters or digits.
pub fn ngrams(text: &str, buckets: usize) -> Vec<(u32, f32)> {
    ngrams_of(text.chars(), buckets)
}

/// The same of a text that comes character by character.
pub fn ngrams_of(text: impl Iterator<Item = char>, buckets: usize) -> Vec<(u32, f32)> {
    let mut found: Vec<u32> = Vec::new();
    for_each_word(text, |word| word_ngrams(word, buckets, |bucket| found.push(bucket)));
    found.sort_unstable();
    let mut counts: Vec<(u32, f32)> = Vec::with_capacity(found.len());
    for bucket in found {
        match counts.last_mut() {
            Some((last, n)) if *last == bucket => *n += 1.0,
            _ => counts.push((bucket, 1.0)),
        }
    }
    counts
}

/// Calls `found` with the bucket of each n-gram of a word that stands between its boundary marks.
pub fn word_ngrams(word: &[char], buckets: usize, mut found: impl FnMut(u32)) {
    let mut push = |kind: u8, gram: &[char]| found((hash(kind, gram) % buckets as u64) as u32);
    push(0, word);
    word.windows(2).for_each(|pair| push(2, pair));
    for triple in word.windows(3) {
        push(3, triple);
        push(1, &[triple[0], triple[2]]);
    }
}

/// FNV-1a, 64 bits, with a final mix since the low bits choose the bucket. It is part of the version format: a changed
/// hash makes every trained table meaningless.
fn hash(kind: u8, gram: &[char]) -> u64 {
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let mut h = (0xcbf2_9ce4_8422_2325 ^ u64::from(kind)).wrapping_mul(PRIME);
    for c in gram {
        for byte in (*c as u32).to_le_bytes() {
            h = (h ^ u64::from(byte)).wrapping_mul(PRIME);
        }
    }
    h ^= h >> 33;
    h = h.wrapping_mul(0xff51_afd7_ed55_8ccd);
    h ^ (h >> 33)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn overlap(a: &str, b: &str) -> f32 {
        let (a, b) = (ngrams(a, 4096), ngrams(b, 4096));
        let dot: f32 = a.iter().flat_map(|x| b.iter().filter(|y| y.0 == x.0).map(|y| x.1 * y.1)).sum();
        let norm = |v: &[(u32, f32)]| v.iter().map(|x| x.1 * x.1).sum::<f32>().sqrt();
        dot / (norm(&a) * norm(&b))
    }

    #[test]
    fn a_misspelt_query_is_nearer_to_its_title_than_another_is() {
        assert!(overlap("teh matrx", "The Matrix") > 2.0 * overlap("teh matrx", "Heat"));
    }

    #[test]
    fn case_and_punctuation_do_not_matter() {
        assert_eq!(ngrams("Schindler's  List", 4096), ngrams("schindler s list", 4096));
        assert_eq!(ngrams(" .,;", 4096), vec![]);
    }

    #[test]
    fn the_hash_is_part_of_the_format() {
        assert_eq!(ngrams("heat", 1 << 30).iter().map(|g| g.0).fold(0u32, |a, b| a.rotate_left(5) ^ b), HEAT);
    }
    const HEAT: u32 = 2_452_402_140;

    proptest! {
        #[test]
        fn any_text_is_accepted(text in "\\PC*", buckets in 1usize..10_000) {
            let grams = ngrams(&text, buckets);
            prop_assert!(grams.windows(2).all(|w| w[0].0 < w[1].0));
            prop_assert!(grams.iter().all(|g| (g.0 as usize) < buckets && g.1 >= 1.0));
        }
    }
}
