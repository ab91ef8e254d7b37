//! No label table tells a task what another one is tested on. What the split must be is worked out here again, from
//! the raw ratings and without SQL.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Float64Type, Int64Type};
use unimodel_model::catalogue::batches;
use unimodel_trainer::labels;
use unimodel_trainer::pipeline::{LoadedPipeline, Pipeline};
use unimodel_trainer::synthetic::{Size, generate};

use crate::fixture::run;

/// One user's ratings in order.
#[derive(Default)]
struct Events {
    items: Vec<String>,
    positive: Vec<bool>,
    position: HashMap<String, usize>,
    /// Positions of the last positives.
    validation: Option<usize>,
    test: Option<usize>,
}

impl Events {
    fn split(&self, position: usize) -> &'static str {
        match (self.validation, self.test) {
            (_, Some(test)) if position == test => "test",
            (Some(validation), _) if position == validation => "validation",
            (Some(validation), _) if position < validation => "train",
            _ => "none",
        }
    }
}

/// Users with their ratings, from the raw file.
fn truth(ratings: &Path) -> HashMap<String, Events> {
    let text = std::fs::read_to_string(ratings).unwrap();
    let mut rows: BTreeMap<(u64, i64, u64), bool> = BTreeMap::new();
    for line in text.lines().skip(1) {
        let fields: Vec<&str> = line.split('\t').collect();
        let key = (fields[0].parse().unwrap(), fields[3].parse().unwrap(), fields[1].parse().unwrap());
        rows.insert(key, fields[2].parse::<f64>().unwrap() >= 4.0);
    }
    let mut users: HashMap<String, Events> = HashMap::new();
    for ((user, _, item), positive) in rows {
        let events = users.entry(user.to_string()).or_default();
        events.position.insert(item.to_string(), events.items.len());
        events.items.push(item.to_string());
        events.positive.push(positive);
    }
    for events in users.values_mut() {
        let mut positives = (0..events.items.len()).rev().filter(|&i| events.positive[i]);
        events.test = positives.next();
        events.validation = positives.next();
    }
    users
}

/// One row of a label table.
struct Row {
    item: String,
    label: f64,
    split: String,
    sequence: String,
    time: i64,
    history: Option<Vec<String>>,
    source: Option<String>,
    query: Option<String>,
    genre: Option<String>,
}

fn each_row(table: &Path, mut visit: impl FnMut(Row)) {
    for batch in batches(table).unwrap() {
        let batch = batch.unwrap();
        let text = |name: &str| batch.column_by_name(name).unwrap().as_string::<i32>();
        let optional = |name: &str, row: usize| text(name).is_valid(row).then(|| text(name).value(row).to_owned());
        let history = batch.column_by_name("history").unwrap().as_list::<i32>();
        for row in 0..batch.num_rows() {
            visit(Row {
                item: text("item_id").value(row).to_owned(),
                label: batch.column_by_name("label").unwrap().as_primitive::<Float64Type>().value(row),
                split: text("split").value(row).to_owned(),
                sequence: text("sequence").value(row).to_owned(),
                time: batch.column_by_name("event_time").unwrap().as_primitive::<Int64Type>().value(row),
                history: history
                    .is_valid(row)
                    .then(|| history.value(row).as_string::<i32>().iter().map(|id| id.unwrap().to_owned()).collect()),
                source: optional("source_item", row),
                query: optional("query", row),
                genre: optional("genre", row),
            });
        }
    }
}

/// Checks every row of every table; gives the rows by task and split.
fn prove(pipeline: &LoadedPipeline, ratings: &Path, movies: &Path) -> BTreeMap<(String, String), usize> {
    let out = tempfile::tempdir().unwrap();
    let labels = out.path().join("labels");
    run(labels::prepare(pipeline, &labels, &|_| {})).unwrap();
    let users = truth(ratings);
    let movies = std::fs::read_to_string(movies).unwrap();
    let movies: HashMap<&str, (String, Vec<&str>)> = movies
        .lines()
        .skip(1)
        .map(|line| line.split('\t').collect::<Vec<_>>())
        .map(|fields| (fields[0], (fields[1].to_lowercase(), fields[3].split(' ').collect())))
        .collect();
    let mut counts = BTreeMap::new();
    for task in ["notifications", "related", "search", "category"] {
        let mut last: Option<(String, usize)> = None;
        each_row(&labels.join("tasks").join(format!("{task}.parquet")), |row| {
            let user = row.sequence.split('/').next().unwrap();
            let events = &users[user];
            let at = events.position[&row.item];
            let whose = format!("{task}: user {user}, item {}", row.item);
            assert_eq!(row.split, events.split(at), "{whose}: the event's split is the row's");
            assert_eq!(row.label >= 0.5, events.positive[at], "{whose}: the rating is the label");
            if row.split == "train" {
                assert!(
                    at < events.validation.unwrap(),
                    "{whose}: nothing at or after the validation event is trained on"
                );
                let held_out = [events.validation, events.test].map(|p| &events.items[p.unwrap()]);
                let mut told = row.history.iter().flatten().chain(&row.source).chain([&row.item]);
                assert!(told.all(|id| !held_out.contains(&id)), "{whose}: a held-out item is in a training row");
            }
            match task {
                "notifications" | "category" => {
                    let history = row.history.unwrap_or_default();
                    assert_eq!(history, events.items[..at], "{whose}: history is all that precedes the event");
                }
                "related" => {
                    let before = (0..at).rev().find(|&i| events.positive[i]).unwrap();
                    assert_eq!(
                        row.source.as_ref(),
                        Some(&events.items[before]),
                        "{whose}: the source is the positive before"
                    );
                }
                _ => {
                    let query = row.query.unwrap();
                    let (title, _) = &movies[row.item.as_str()];
                    assert!(title.contains(&query) && !query.is_empty(), "{whose}: query {query} is of {title}");
                }
            }
            if let Some(genre) = &row.genre {
                assert!(movies[row.item.as_str()].1.contains(&genre.as_str()), "{whose}: {genre}");
                assert_eq!(row.sequence, format!("{user}/{genre}"));
            }
            if let Some((sequence, before)) = &last
                && *sequence == row.sequence
            {
                assert!(*before < at, "{whose}: rows of a sequence are in event order");
            }
            last = Some((row.sequence, at));
            assert!(row.time > 0);
            *counts.entry((task.to_owned(), row.split)).or_default() += 1;
        });
    }
    // Nothing is lost either.
    let splits = |split: &'static str, positives: bool| {
        let of =
            |e: &Events| (0..e.items.len()).filter(|&i| e.split(i) == split && (e.positive[i] || !positives)).count();
        users.values().map(of).sum::<usize>()
    };
    for split in ["train", "validation", "test"] {
        let count = |task: &str| counts[&(task.to_owned(), split.to_owned())];
        assert_eq!(count("notifications"), splits(split, false));
        assert_eq!(count("search"), splits(split, true));
        assert!(count("related") <= splits(split, true));
    }
    counts
}

fn movielens() -> PathBuf {
    let data = std::env::var_os("UNIMODEL_DATA")
        .map_or(PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../data")), PathBuf::from);
    let movielens = data.join("ml-100k");
    assert!(movielens.join("ml-100k.inter").exists(), "{} is not there: run `make data`", movielens.display());
    movielens
}

#[test]
fn no_task_of_movielens_leaks_another_ones_test() {
    let data = movielens();
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/../manifests/samples/movielens/pipeline.yaml");
    let mut pipeline = Pipeline::load(Path::new(sample)).unwrap();
    for source in pipeline.pipeline.sources.values_mut() {
        let file = source.path.rsplit('/').next().unwrap();
        source.path = data.canonicalize().unwrap().join(file).to_str().unwrap().to_owned();
    }
    let counts = prove(&pipeline, &data.join("ml-100k.inter"), &data.join("ml-100k.item"));
    let count = |task: &str, split: &str| counts[&(task.to_owned(), split.to_owned())];
    assert_eq!(["notifications", "related", "search"].map(|t| count(t, "test")), [942; 3]);
    assert_eq!(count("notifications", "train"), 94_561);
    assert_eq!(count("related", "train"), 52_549);
    assert_eq!(count("search", "train"), 53_491);
    assert_eq!(count("category", "train"), 201_471);
}

#[test]
fn no_task_of_synthetic_data_leaks_another_ones_test() {
    let root = tempfile::tempdir().unwrap();
    let data = root.path().join("data");
    generate(Size { users: 60, items: 200, events: 3_000, seed: 7 }, &data, &mut |_| {}).unwrap();
    let pipeline = Pipeline::load(&data.join("pipeline.yaml")).unwrap();
    let counts = prove(&pipeline, &data.join("ratings.tsv"), &data.join("movies.tsv"));
    assert_eq!(counts.len(), 12, "each task has rows of each split: {counts:?}");
}
