//! Text baselines: the query against the items' titles (the first declared text attribute).

use std::collections::HashMap;
use std::sync::Arc;

use rayon::prelude::*;
use unimodel_model::catalogue::Catalogue;
use unimodel_model::context::Value;
use unimodel_model::schema::{Element, ElementType};
use unimodel_model::text::words;

use crate::evaluate::cases::Case;
use crate::evaluate::error::EvaluateError;
use crate::evaluate::scorer::Scorer;
use crate::pipeline::Baseline;

type Trigram = [char; 3];

/// Titles by their character trigrams.
pub(super) struct TitleIndex {
    /// Lower-case words with one space between.
    titles: Vec<String>,
    /// Items and how often the trigram occurs in their titles.
    postings: HashMap<Trigram, Vec<(u32, f32)>>,
    /// Trigrams of each title.
    lengths: Vec<f32>,
}

impl TitleIndex {
    pub(super) fn new(catalogue: &Catalogue) -> Self {
        match catalogue.title() {
            Some(titles) => Self::of(titles.iter()),
            None => Self::of((0..catalogue.len()).map(|_| None)),
        }
    }

    fn of<'t>(titles: impl Iterator<Item = Option<&'t str>>) -> Self {
        let titles: Vec<String> = titles.map(|title| normal(title.unwrap_or_default())).collect();
        let mut postings: HashMap<Trigram, Vec<(u32, f32)>> = HashMap::new();
        let mut lengths = Vec::with_capacity(titles.len());
        for (item, title) in titles.iter().enumerate() {
            let grams = trigrams(title);
            lengths.push(grams.iter().map(|g| g.1).sum());
            for (gram, count) in grams {
                postings.entry(gram).or_default().push((item as u32, count));
            }
        }
        Self { titles, postings, lengths }
    }
}

/// Lower-case words with one space between.
fn normal(text: &str) -> String {
    words(text).collect::<Vec<_>>().join(" ")
}

/// Trigrams of the words with a mark before and after each, and how often they occur; in order, so that sums over
/// them do not depend on a hash.
fn trigrams(text: &str) -> Vec<(Trigram, f32)> {
    let mut grams: Vec<Trigram> = Vec::new();
    for word in words(text) {
        let marked: Vec<char> = std::iter::once('<').chain(word.chars()).chain(std::iter::once('>')).collect();
        grams.extend(marked.windows(3).map(|w| [w[0], w[1], w[2]]));
    }
    grams.sort_unstable();
    grams.chunk_by(|a, b| a == b).map(|same| (same[0], same.len() as f32)).collect()
}

/// Where a request's query stands: its first element of type text that is not null.
struct Query(Vec<String>);

impl Query {
    fn new(elements: &[Element]) -> Self {
        let text = elements.iter().filter(|e| e.kind == ElementType::Text);
        Self(text.map(|e| e.name.clone()).collect())
    }

    /// Empty without one.
    fn of<'c>(&self, case: &'c Case) -> &'c str {
        let texts = self.0.iter().filter_map(|element| match case.context.get(element) {
            Some(Value::Text(text)) => Some(text.as_str()),
            _ => None,
        });
        texts.into_iter().next().unwrap_or_default()
    }
}

/// Items whose title holds the query, the most popular first; then the others, without an order.
pub(super) struct Substring {
    index: Arc<TitleIndex>,
    popularity: Arc<Vec<f32>>,
    query: Query,
}

impl Substring {
    pub(super) fn new(index: Arc<TitleIndex>, popularity: Arc<Vec<f32>>, elements: &[Element]) -> Self {
        Self { index, popularity, query: Query::new(elements) }
    }
}

impl Scorer for Substring {
    fn name(&self) -> String {
        Baseline::Substring.name()
    }

    fn score(&self, cases: &[Case], _: &[bool], out: &mut [f32]) -> Result<(), EvaluateError> {
        let titles = &self.index.titles;
        out.par_chunks_mut(titles.len()).zip(cases).for_each(|(row, case)| {
            let query = normal(self.query.of(case));
            for ((score, title), popularity) in row.iter_mut().zip(titles).zip(self.popularity.iter()) {
                *score = if title.contains(&query) { *popularity } else { -1.0 };
            }
        });
        Ok(())
    }
}

/// Cosine between query and title as TF-IDF weighted trigrams: `tf × (ln((1 + N) / (1 + df)) + 1)`, the smoothed
/// weighting of scikit-learn.
pub(super) struct TrigramTfidf {
    index: Arc<TitleIndex>,
    /// Euclidean length of each title's vector.
    norms: Vec<f32>,
    query: Query,
}

impl TrigramTfidf {
    pub(super) fn new(index: Arc<TitleIndex>, elements: &[Element]) -> Self {
        let items = index.titles.len();
        let mut norms = vec![0f32; items];
        let mut grams: Vec<_> = index.postings.iter().collect();
        grams.sort_unstable_by_key(|g| g.0);
        for (_, posting) in grams {
            let idf = smoothed_idf(items, posting.len());
            posting.iter().for_each(|&(item, tf)| norms[item as usize] += (tf * idf).powi(2));
        }
        norms.iter_mut().for_each(|n| *n = n.sqrt());
        Self { index, norms, query: Query::new(elements) }
    }
}

fn smoothed_idf(items: usize, with: usize) -> f32 {
    ((1.0 + items as f32) / (1.0 + with as f32)).ln() + 1.0
}

impl Scorer for TrigramTfidf {
    fn name(&self) -> String {
        Baseline::TrigramTfidf.name()
    }

    fn score(&self, cases: &[Case], _: &[bool], out: &mut [f32]) -> Result<(), EvaluateError> {
        let items = self.norms.len();
        out.par_chunks_mut(items).zip(cases).for_each(|(row, case)| {
            row.fill(0.0);
            // The query's own length divides all scores alike and changes no order.
            for (gram, count) in trigrams(self.query.of(case)) {
                let Some(posting) = self.index.postings.get(&gram) else { continue };
                let idf = smoothed_idf(items, posting.len());
                posting.iter().for_each(|&(item, tf)| row[item as usize] += count * tf * idf * idf);
            }
            row.iter_mut().zip(&self.norms).filter(|(_, n)| **n > 0.0).for_each(|(score, norm)| *score /= norm);
        });
        Ok(())
    }
}

/// Okapi BM25 (Robertson and Zaragoza 2009) with trigrams for terms, k₁ = 1.2 and b = 0.75.
pub(super) struct TrigramBm25 {
    index: Arc<TitleIndex>,
    mean_length: f32,
    query: Query,
}

impl TrigramBm25 {
    pub(super) fn new(index: Arc<TitleIndex>, elements: &[Element]) -> Self {
        let mean_length = index.lengths.iter().sum::<f32>() / index.lengths.len() as f32;
        Self { index, mean_length, query: Query::new(elements) }
    }
}

impl Scorer for TrigramBm25 {
    fn name(&self) -> String {
        Baseline::TrigramBm25.name()
    }

    fn score(&self, cases: &[Case], _: &[bool], out: &mut [f32]) -> Result<(), EvaluateError> {
        const K1: f32 = 1.2;
        const B: f32 = 0.75;
        let items = self.index.titles.len();
        out.par_chunks_mut(items).zip(cases).for_each(|(row, case)| {
            row.fill(0.0);
            for (gram, count) in trigrams(self.query.of(case)) {
                let Some(posting) = self.index.postings.get(&gram) else { continue };
                let with = posting.len() as f32;
                let idf = (1.0 + (items as f32 - with + 0.5) / (with + 0.5)).ln();
                for &(item, tf) in posting {
                    let length = self.index.lengths[item as usize] / self.mean_length;
                    row[item as usize] += count * idf * tf * (K1 + 1.0) / (tf + K1 * (1.0 - B + B * length));
                }
            }
        });
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use unimodel_model::context::Context;
    use unimodel_model::schema::Entity;

    use super::*;

    fn elements() -> Vec<Element> {
        vec![Element {
            name: "query".into(),
            kind: ElementType::Text,
            of: Entity::Other,
            default: Value::Text(String::new()),
            dropout: 0.0,
            max_length: None,
            description: None,
        }]
    }

    fn index(titles: &[&str]) -> Arc<TitleIndex> {
        Arc::new(TitleIndex::of(titles.iter().copied().map(Some)))
    }

    fn scores(scorer: &dyn Scorer, query: &str, items: usize) -> Vec<f32> {
        let context = Context::from([("query".to_owned(), Value::Text(query.into()))]);
        let mut out = vec![f32::NAN; items];
        scorer
            .score(&[Case { context, sequence: None, event_time: 0, target: 0 }], &vec![true; items], &mut out)
            .unwrap();
        out
    }

    #[test]
    fn trigrams_mark_where_words_begin_and_end() {
        let grams: Vec<String> = trigrams("A cat").iter().map(|g| g.0.iter().collect()).collect();
        assert_eq!(grams, ["<a>", "<ca", "at>", "cat"]);
        assert_eq!(trigrams("oooo")[2], (['o', 'o', 'o'], 2.0));
        assert!(trigrams(" .").is_empty());
    }

    #[test]
    fn substring_ignores_case_and_breaks_ties_by_popularity() {
        let scorer = Substring::new(
            index(&["Star Wars", "Stargate", "Heat", "Lone Star"]),
            Arc::new(vec![5.0, 2.0, 9.0, 0.0]),
            &elements(),
        );
        assert_eq!(scores(&scorer, "STAR", 4), [5.0, 2.0, -1.0, 0.0]);
        assert_eq!(scores(&scorer, "star-wars", 4), [5.0, -1.0, -1.0, -1.0]);
        assert_eq!(scores(&scorer, "", 4), [5.0, 2.0, 9.0, 0.0]);
    }

    #[test]
    fn tfidf_by_hand() {
        // Trigrams: "ab" gives <ab, ab>; "abc" gives <ab, abc, bc>. With N = 2: idf(<ab) = ln(3/3) + 1 = 1, of the
        // others ln(3/2) + 1 = 1.405465. For the query "ab": (1 + x²) / sqrt(1 + x²) and 1 / sqrt(1 + 2x²).
        let scorer = TrigramTfidf::new(index(&["ab", "abc"]), &elements());
        let x = 1.405_465_1_f32;
        let found = scores(&scorer, "ab", 2);
        assert!((found[0] - (1.0 + x * x).sqrt()).abs() < 1e-5, "{found:?}");
        assert!((found[1] - 1.0 / (1.0 + 2.0 * x * x).sqrt()).abs() < 1e-5, "{found:?}");
    }

    #[test]
    fn bm25_by_hand() {
        // Lengths 2 and 3, mean 2.5. idf(<ab) = ln(1 + 0.5/2.5) = 0.182322, idf(ab>) = ln(1 + 1.5/1.5) = 0.693147.
        // The first: 2.2 / (1 + 1.2 (0.25 + 0.75 × 0.8)) = 2.2 / 2.02 for each; the second, for <ab alone:
        // 2.2 / (1 + 1.2 (0.25 + 0.75 × 1.2)) = 2.2 / 2.38.
        let scorer = TrigramBm25::new(index(&["ab", "abc"]), &elements());
        let found = scores(&scorer, "ab", 2);
        assert!((found[0] - 0.875_469 * 2.2 / 2.02).abs() < 1e-5, "{found:?}");
        assert!((found[1] - 0.182_322 * 2.2 / 2.38).abs() < 1e-5, "{found:?}");
    }

    #[test]
    fn a_catalogue_without_text_matches_nothing() {
        let nothing = Arc::new(TitleIndex::of([None, None].into_iter()));
        assert_eq!(scores(&TrigramTfidf::new(nothing.clone(), &elements()), "cat", 2), [0.0, 0.0]);
        assert_eq!(scores(&TrigramBm25::new(nothing, &elements()), "cat", 2), [0.0, 0.0]);
    }
}
