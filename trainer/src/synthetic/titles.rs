//! Items: titles made of words, genres, and how often they are looked at.

use std::io::Write;

use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

use super::{Taste, add, direction};

const GENRES: [&str; 12] = [
    "Action",
    "Adventure",
    "Animation",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Western",
];

/// Words that titles of one genre share.
const GENRE_WORDS: usize = 80;
/// Words of any title.
const COMMON_WORDS: usize = 1_200;

/// One item.
struct Title {
    name: String,
    year: u32,
    genres: Vec<usize>,
    taste: Taste,
}

/// The catalogue.
pub(super) struct Titles {
    titles: Vec<Title>,
    /// Running sums of popularity.
    sums: Vec<f64>,
}

impl Titles {
    pub(super) fn new(items: u64, random: &mut ChaCha8Rng) -> Self {
        let tastes: Vec<Taste> = GENRES.iter().map(|_| direction(1.0, random)).collect();
        let common: Vec<String> = (0..COMMON_WORDS).map(|_| word(random)).collect();
        let own: Vec<Vec<String>> = GENRES.iter().map(|_| (0..GENRE_WORDS).map(|_| word(random)).collect()).collect();
        let (mut titles, mut sums) = (Vec::new(), Vec::new());
        let mut sum = 0.0;
        for _ in 0..items {
            let count = *[1, 1, 1, 2, 2, 3].choose(random).unwrap_or(&1);
            let mut genres: Vec<usize> = rand::seq::index::sample(random, GENRES.len(), count).into_vec();
            genres.sort_unstable();
            let mean = genres.iter().fold([0.0; super::TASTES], |sum, &g| add(&sum, &tastes[g], 1.0 / count as f32));
            let taste = add(&mean, &direction(1.0, random), 0.7);
            let mut words: Vec<&str> = Vec::new();
            words.extend(own[genres[0]].choose(random).map(String::as_str));
            for _ in 0..random.random_range(0..4) {
                words.extend(common.choose(random).map(String::as_str));
            }
            titles.push(Title { name: capitals(&words), year: random.random_range(1930..1999), genres, taste });
            // Popularity falls as a power law, in no order of id.
            sum += (1.0 - random.random::<f64>()).powf(-0.7);
            sums.push(sum);
        }
        Self { titles, sums }
    }

    pub(super) fn len(&self) -> usize {
        self.titles.len()
    }

    pub(super) fn taste(&self, item: usize) -> &Taste {
        &self.titles[item].taste
    }

    /// One title, by popularity.
    pub(super) fn popular(&self, random: &mut ChaCha8Rng) -> usize {
        let at = random.random::<f64>() * self.sums[self.sums.len() - 1];
        self.sums.partition_point(|&s| s <= at).min(self.sums.len() - 1)
    }

    pub(super) fn write(&self, to: &mut dyn Write) -> std::io::Result<()> {
        writeln!(to, "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq")?;
        for (index, title) in self.titles.iter().enumerate() {
            let genres: Vec<&str> = title.genres.iter().map(|&g| GENRES[g]).collect();
            writeln!(to, "{}\t{}\t{}\t{}", index + 1, title.name, title.year, genres.join(" "))?;
        }
        Ok(())
    }
}

/// A word that can be said.
fn word(random: &mut ChaCha8Rng) -> String {
    const ONSETS: [&str; 20] =
        ["b", "br", "d", "f", "g", "h", "k", "l", "m", "n", "p", "r", "s", "st", "t", "th", "tr", "v", "w", "z"];
    const VOWELS: [&str; 7] = ["a", "e", "i", "o", "u", "ai", "ou"];
    const CODAS: [&str; 6] = ["", "", "n", "r", "l", "sk"];
    let mut word = String::new();
    for _ in 0..random.random_range(2..4) {
        for part in [&ONSETS[..], &VOWELS[..], &CODAS[..]] {
            word += part.choose(random).unwrap_or(&"");
        }
    }
    word
}

fn capitals(words: &[&str]) -> String {
    let capital = |w: &&str| w[..1].to_ascii_uppercase() + &w[1..];
    words.iter().map(capital).collect::<Vec<_>>().join(" ")
}
