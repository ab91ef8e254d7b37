//! Synthetic data: of the asked size, the same for the same seed, and with something to learn.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use unimodel_trainer::synthetic::{Size, generate};

const SIZE: Size = Size { users: 50, items: 300, events: 2_500, seed: 3 };

fn table(folder: &Path, name: &str) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(folder.join(name)).unwrap();
    text.lines().skip(1).map(|l| l.split('\t').map(str::to_owned).collect()).collect()
}

fn made(size: Size) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    generate(size, folder.path(), &mut |_| {}).unwrap();
    folder
}

#[test]
fn it_has_the_asked_size_and_no_rating_twice() {
    let folder = made(SIZE);
    let ratings = table(folder.path(), "ratings.tsv");
    assert_eq!(ratings.len(), 2_500);
    assert_eq!(table(folder.path(), "movies.tsv").len(), 300);
    assert_eq!(table(folder.path(), "people.tsv").len(), 50);
    let pairs: HashSet<_> = ratings.iter().map(|r| (&r[0], &r[1])).collect();
    assert_eq!(pairs.len(), 2_500);
    let users: HashSet<_> = ratings.iter().map(|r| &r[0]).collect();
    assert_eq!(users.len(), 50);
}

#[test]
fn the_seed_is_all_that_it_depends_on() {
    let read = |size| std::fs::read_to_string(made(size).path().join("ratings.tsv")).unwrap();
    assert_eq!(read(SIZE), read(SIZE));
    assert_ne!(read(SIZE), read(Size { seed: 4, ..SIZE }));
}

#[test]
fn there_is_something_to_learn() {
    let folder = made(Size { users: 200, items: 300, events: 10_000, seed: 1 });
    let genres: HashMap<String, HashSet<String>> = table(folder.path(), "movies.tsv")
        .into_iter()
        .map(|m| (m[0].clone(), m[3].split(' ').map(str::to_owned).collect()))
        .collect();
    let ratings = table(folder.path(), "ratings.tsv");
    let shared = |a: &str, b: &str| usize::from(!genres[a].is_disjoint(&genres[b]));
    let positives: Vec<_> = ratings.iter().filter(|r| r[2].parse::<u8>().unwrap() >= 4).collect();
    // A user's next positive against one that some other user chose.
    let next: usize = positives.windows(2).filter(|w| w[0][0] == w[1][0]).map(|w| shared(&w[0][1], &w[1][1])).sum();
    let other: usize =
        positives.iter().zip(positives.iter().skip(positives.len() / 2)).map(|(a, b)| shared(&a[1], &b[1])).sum();
    let (next, other) = (next as f64 / positives.len() as f64, other as f64 / (positives.len() / 2) as f64);
    assert!(next > 1.3 * other, "genres in common: {next} with the next, {other} with any");
    let share = positives.len() as f64 / ratings.len() as f64;
    assert!((0.3..0.8).contains(&share), "share of positives {share}");
}

#[test]
fn sizes_that_do_not_go_together_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |size: Size| generate(size, &folder.path().join("out"), &mut |_| {}).unwrap_err().to_string();
    let error = refused(Size { events: 100, ..SIZE });
    assert_eq!(error, "100 events; 50 users and 300 items make at least 250 and at most 7500");
    assert!(refused(Size { events: 1 << 40, ..SIZE }).ends_with("at most 7500"));
    assert_eq!(refused(Size { items: 3, ..SIZE }), "50 users and 3 items; there must be 1 user and 48 items");
    assert!(!folder.path().join("out").exists());
}

#[test]
fn what_is_in_the_folder_already_is_not_lost() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("letter"), "dear").unwrap();
    let error = generate(SIZE, folder.path(), &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("holds no synthetic data"), "{error}");
}
