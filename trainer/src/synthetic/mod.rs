//! Data of any size with structure to learn, in the shape of MovieLens, so that the sample's SQL runs on it.
//!
//! Genres, titles and users are vectors in a space of tastes. A user picks among popular titles those near to the own
//! taste and to the title before, and rates them by how near they are. Everything depends on the seed alone, and one
//! user at a time is in memory.

mod people;
mod titles;

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use self::people::Person;
use self::titles::Titles;
use crate::folder::{FolderError, NewFolder, write_error};

/// How much to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Users.
    pub users: u64,
    /// Items.
    pub items: u64,
    /// Ratings in all.
    pub events: u64,
    /// What everything depends on.
    pub seed: u64,
}

/// Why data cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum SyntheticError {
    /// Counts that do not go together.
    #[error("{0}")]
    Size(String),
    /// The folder, or a file in it.
    #[error(transparent)]
    Folder(#[from] FolderError),
}

/// Width of the space of tastes.
const TASTES: usize = 8;
type Taste = [f32; TASTES];

/// Titles that a user looks at before choosing one.
const LOOKED_AT: usize = 24;

/// 1997-09-20, when MovieLens-100K begins.
const BEGIN: i64 = 874_724_710;
/// The months in which users arrive.
const ARRIVALS: i64 = 215 * 86_400;

/// The files of the sample that go with the data.
const SQL: [(&str, &str); 7] = [
    ("split.sql", include_str!("../../../manifests/samples/movielens/sql/split.sql")),
    ("items.sql", include_str!("../../../manifests/samples/movielens/sql/items.sql")),
    ("users.sql", include_str!("../../../manifests/samples/movielens/sql/users.sql")),
    ("notifications.sql", include_str!("../../../manifests/samples/movielens/sql/notifications.sql")),
    ("related.sql", include_str!("../../../manifests/samples/movielens/sql/related.sql")),
    ("search.sql", include_str!("../../../manifests/samples/movielens/sql/search.sql")),
    ("category.sql", include_str!("../../../manifests/samples/movielens/sql/category.sql")),
];
const PIPELINE: &str = include_str!("../../../manifests/samples/movielens/pipeline.yaml");

/// Writes `ratings.tsv`, `movies.tsv`, `people.tsv`, `pipeline.yaml` and `sql/` into the folder `out`, which appears
/// when all is written. `progress` hears how many ratings there are so far.
///
/// # Errors
/// Counts that do not go together; `out` has something else in it, or cannot be written.
pub fn generate(size: Size, out: &Path, progress: &mut dyn FnMut(u64)) -> Result<(), SyntheticError> {
    check(size)?;
    let folder = NewFolder::new(out, "synthetic data", "ratings.tsv")?;
    let titles = Titles::new(size.items, &mut random(size.seed, 0));
    file(&folder, "movies.tsv", |to| titles.write(to))?;
    file(&folder, "people.tsv", |to| people(size, to))?;
    file(&folder, "ratings.tsv", |to| ratings(size, &titles, to, progress))?;
    file(&folder, "pipeline.yaml", |to| to.write_all(pipeline().as_bytes()))?;
    let sql = folder.content().join("sql");
    std::fs::create_dir(&sql).map_err(write_error(&sql))?;
    for (name, text) in SQL {
        file(&folder, &format!("sql/{name}"), |to| to.write_all(text.as_bytes()))?;
    }
    Ok(folder.complete()?)
}

fn check(size: Size) -> Result<(), SyntheticError> {
    let Size { users, items, events, .. } = size;
    let refuse = |problem: String| Err(SyntheticError::Size(problem));
    if users == 0 || items < 2 * LOOKED_AT as u64 {
        return refuse(format!("{users} users and {items} items; there must be 1 user and {} items", 2 * LOOKED_AT));
    }
    let most = users.saturating_mul(items / 2);
    if events < users * LEAST || events > most {
        return refuse(format!(
            "{events} events; {users} users and {items} items make at least {} and at most {most}",
            users * LEAST
        ));
    }
    Ok(())
}

/// Ratings that every user has, so that there is something to train, validate and test on.
const LEAST: u64 = 5;

/// The sample's pipeline, reading these files.
fn pipeline() -> String {
    let mut text = PIPELINE.replace("name: movielens", "name: synthetic");
    for (of_sample, own) in
        [("ml-100k.inter", "ratings.tsv"), ("ml-100k.item", "movies.tsv"), ("ml-100k.user", "people.tsv")]
    {
        text = text.replace(&format!("../../../data/ml-100k/{of_sample}"), own);
    }
    let (_, rest) = text.split_once('\n').unwrap_or_default();
    format!("# One model for four tasks, learned from synthetic data in the shape of MovieLens.\n{rest}")
}

fn file(
    folder: &NewFolder,
    name: &str,
    write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> Result<(), FolderError> {
    let path = folder.content().join(name);
    let mut to = BufWriter::with_capacity(1 << 20, File::create(&path).map_err(write_error(&path))?);
    write(&mut to).and_then(|()| to.flush()).map_err(write_error(&path))
}

/// Independent random numbers for each use: the first is the catalogue's, then each user has one.
fn random(seed: u64, stream: u64) -> ChaCha8Rng {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(stream);
    random
}

fn people(size: Size, to: &mut dyn Write) -> std::io::Result<()> {
    writeln!(to, "user_id:token\tage:token\tgender:token\toccupation:token")?;
    for user in 1..=size.users {
        let person = Person::new(&mut random(size.seed, user));
        writeln!(to, "{user}\t{}\t{}\t{}", person.age, person.gender, person.occupation())?;
    }
    Ok(())
}

fn ratings(size: Size, titles: &Titles, to: &mut dyn Write, progress: &mut dyn FnMut(u64)) -> std::io::Result<()> {
    writeln!(to, "user_id:token\titem_id:token\trating:float\ttimestamp:float")?;
    let mut rated = HashSet::new();
    let mut written = 0;
    for user in 1..=size.users {
        let mut random = random(size.seed, user);
        let person = Person::new(&mut random);
        let count = share(size, user, written, &mut random);
        let mut time = BEGIN + random.random_range(0..ARRIVALS);
        let mut before: Option<usize> = None;
        rated.clear();
        for _ in 0..count {
            let item = choose(&person, titles, before, &rated, &mut random);
            rated.insert(item);
            let rating = rating(near(&person.taste, titles.taste(item)), &mut random);
            writeln!(to, "{user}\t{}\t{rating}\t{time}", item + 1)?;
            if rating >= 4 {
                before = Some(item);
            }
            // Several in a sitting, often in the same second; then days of nothing.
            time += match random.random_range(0..20) {
                0 => random.random_range(3_600..7 * 86_400),
                1..8 => 0,
                _ => random.random_range(1..120),
            };
        }
        written += count;
        progress(written);
    }
    Ok(())
}

/// How many ratings a user has: few have many. The last ones take what is left over.
fn share(size: Size, user: u64, written: u64, random: &mut ChaCha8Rng) -> u64 {
    let left = size.events - written;
    let after = size.users - user;
    let most = size.items / 2;
    let mean = left as f64 / (after + 1) as f64;
    // Exponential beyond the least.
    let drawn = LEAST as f64 + (mean - LEAST as f64) * -(1.0 - random.random::<f64>()).ln();
    let (low, high) = (left.saturating_sub(after * most).max(LEAST), (left - after * LEAST).min(most));
    (drawn as u64).clamp(low, high)
}

fn near(a: &Taste, b: &Taste) -> f32 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

/// One title that the user has not rated: popular ones are looked at, and the nearest is likely.
fn choose(
    person: &Person,
    titles: &Titles,
    before: Option<usize>,
    rated: &HashSet<usize>,
    random: &mut ChaCha8Rng,
) -> usize {
    let mut best: Option<(f32, usize)> = None;
    let mut looked_at = 0;
    while best.is_none() || looked_at < LOOKED_AT {
        looked_at += 1;
        // Who has seen all popular titles looks further.
        let item =
            if looked_at > 4 * LOOKED_AT { random.random_range(0..titles.len()) } else { titles.popular(random) };
        if rated.contains(&item) {
            continue;
        }
        let taste = titles.taste(item);
        let liking = 3.0 * near(&person.taste, taste) + before.map_or(0.0, |b| 2.0 * near(titles.taste(b), taste));
        // Gumbel noise makes the largest a draw from the softmax.
        let noise = -(-(random.random::<f32>().max(f32::MIN_POSITIVE)).ln()).ln();
        if best.is_none_or(|(most, _)| liking + noise > most) {
            best = Some((liking + noise, item));
        }
    }
    best.map_or(0, |(_, item)| item)
}

fn rating(liking: f32, random: &mut ChaCha8Rng) -> u8 {
    let noise: f32 = (0..4).map(|_| random.random_range(-0.5..0.5f32)).sum();
    (3.2 + 1.2 * liking + 1.4 * noise).round().clamp(1.0, 5.0) as u8
}

/// A direction at random, of about that length.
fn direction(length: f32, random: &mut ChaCha8Rng) -> Taste {
    std::array::from_fn(|_| {
        let uniform: f32 = (0..4).map(|_| random.random_range(-0.5..0.5f32)).sum();
        // Four uniform numbers have variance 1/3 in sum.
        uniform * length * (3.0 / TASTES as f32).sqrt()
    })
}

fn add(a: &Taste, b: &Taste, share: f32) -> Taste {
    std::array::from_fn(|i| a[i] + share * b[i])
}
