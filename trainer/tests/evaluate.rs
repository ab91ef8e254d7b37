//! Evaluation over a small labels directory whose every figure can be checked by hand.
#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, ListBuilder, RecordBatch, StringArray, StringBuilder};
use parquet::arrow::ArrowWriter;
use tempfile::TempDir;
use unimodel_model::catalogue::Catalogue;
use unimodel_model::context::Value;
use unimodel_model::schema::{Attribute, AttributeType, Element, ElementType, Entity, Head};
use unimodel_trainer::advise::{AdviseInput, ItemOverlap, advise, relations};
use unimodel_trainer::evaluate::report::{Evaluation, Slice};
use unimodel_trainer::evaluate::{
    Baselines, Case, Cases, EvaluateError, Events, Kind, Ranking, Ranks, Scorer, Split, System, TaskEvaluation,
};
use unimodel_trainer::pipeline::{self, Baseline, Loss, Metric, Task};

const HOUR: i64 = 3600;

fn text(values: &[Option<&str>]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

fn lists(values: &[&[&str]]) -> ArrayRef {
    let mut builder = ListBuilder::new(StringBuilder::new());
    for list in values {
        list.iter().for_each(|id| builder.values().append_value(id));
        builder.append(!list.is_empty());
    }
    Arc::new(builder.finish())
}

fn write(path: &Path, columns: Vec<(&str, ArrayRef)>) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, a)| (n, a, true))).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

/// An event: sequence, item, label, hour, split.
type Event = (&'static str, &'static str, f64, i64, &'static str);

/// Liked together: a and b by three, c and d by one. Everybody who came saw e and nobody liked it.
const EVENTS: [Event; 14] = [
    ("u1", "a", 1.0, 0, "train"),
    ("u1", "e", 0.0, 1, "train"),
    ("u1", "b", 1.0, 2, "train"),
    ("u2", "b", 1.0, 3, "train"),
    ("u2", "e", 0.0, 4, "train"),
    ("u2", "a", 1.0, 5, "train"),
    ("u3", "c", 1.0, 6, "train"),
    ("u3", "d", 1.0, 7, "train"),
    ("u4", "a", 1.0, 8, "train"),
    ("u4", "b", 1.0, 9, "train"),
    ("u5", "a", 1.0, 95, "train"),
    ("u5", "e", 0.0, 96, "train"),
    // What is held out must not count.
    ("u5", "d", 1.0, 98, "test"),
    ("u6", "d", 1.0, 99, "validation"),
];

fn write_events(path: &Path, events: &[Event]) {
    let column = |of: fn(&Event) -> &'static str| text(&events.iter().map(|e| Some(of(e))).collect::<Vec<_>>());
    write(
        path,
        vec![
            ("sequence", column(|e| e.0)),
            ("item_id", column(|e| e.1)),
            ("label", Arc::new(Float64Array::from_iter_values(events.iter().map(|e| e.2)))),
            ("event_time", Arc::new(Int64Array::from_iter_values(events.iter().map(|e| e.3 * HOUR)))),
            ("split", column(|e| e.4)),
        ],
    );
}

/// The labels directory: five items, events in two part files, and one task.
fn labels() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    write(
        &at("items.parquet"),
        vec![
            ("item_id", text(&[Some("a"), Some("b"), Some("c"), Some("d"), Some("e")])),
            ("title", text(&[Some("Star Wars"), Some("Stargate"), Some("Heat"), Some("Lone Star"), None])),
            ("genres", lists(&[&["space"], &["space", "war"], &["crime"], &["west"], &["war"]])),
        ],
    );
    write_events(&at("events.parquet/part-0.parquet"), &EVENTS[..6]);
    write_events(&at("events.parquet/part-1.parquet"), &EVENTS[6..]);
    write(
        &at("tasks/next.parquet"),
        vec![
            ("history", lists(&[&["a", "e"], &[], &["a"], &["b"], &["a"]])),
            ("genre", text(&[Some("war"), None, None, Some("opera"), None])),
            ("query", text(&[Some("star wars"), Some("heat"), None, None, None])),
            ("sequence", text(&[Some("u5"), Some("u1"), Some("u1/war"), None, Some("u4")])),
            ("item_id", text(&[Some("b"), Some("c"), Some("b"), Some("e"), Some("e")])),
            ("label", Arc::new(Float64Array::from(vec![1.0, 0.5, 1.0, 0.0, 1.0]))),
            ("weight", Arc::new(Float64Array::from(vec![1.0; 5]))),
            ("event_time", Arc::new(Int64Array::from(vec![98 * HOUR, 1, 2, 3, 4]))),
            ("split", text(&[Some("test"), Some("test"), Some("test"), Some("test"), Some("train")])),
        ],
    );
    dir
}

fn element(name: &str, kind: ElementType, of: Entity) -> Element {
    Element { name: name.into(), kind, of, default: Value::Null, dropout: 0.0, max_length: None, description: None }
}

fn elements() -> Vec<Element> {
    vec![
        element("history", ElementType::IdList, Entity::Item),
        element("source_item", ElementType::Id, Entity::Item),
        element("query", ElementType::Text, Entity::Other),
        element("genre", ElementType::Category, Entity::Other),
    ]
}

fn catalogue(labels: &Path) -> Catalogue {
    let attribute = |name: &str, kind| Attribute { name: name.into(), kind };
    let attributes = [attribute("title", AttributeType::Text), attribute("genres", AttributeType::CategoryList)];
    Catalogue::read(&labels.join("items.parquet"), &attributes).unwrap()
}

fn task(evaluation: pipeline::Evaluation) -> Task {
    Task {
        name: "next".into(),
        description: None,
        sql: "next.sql".into(),
        weight: 1.0,
        loss: Loss::default(),
        augmentation: pipeline::Augmentation::default(),
        evaluation,
    }
}

fn test_cases(labels: &Path) -> Vec<Case> {
    let (elements, catalogue) = (elements(), catalogue(labels));
    let cases = Cases::read(&labels.join("tasks/next.parquet"), Split::Test, &elements, &catalogue).unwrap();
    cases.flat_map(Result::unwrap).collect()
}

/// Scores of one case under a baseline.
fn scores(labels: &Path, baseline: &Baseline, case: &Case) -> Vec<f32> {
    let (elements, catalogue) = (elements(), catalogue(labels));
    let events = Events::open(&labels.join("events.parquet")).unwrap();
    let scorer = Baselines::new(&events, &catalogue, &elements).unwrap().scorer(baseline).unwrap();
    let mut out = vec![f32::NAN; catalogue.len()];
    scorer.score(std::slice::from_ref(case), &vec![true; catalogue.len()], &mut out).unwrap();
    out
}

fn assert_near(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5), "{found:?}, expected {expected:?}");
}

#[test]
fn cases_are_the_positives_of_the_split_without_what_is_null() {
    let labels = labels();
    let cases = test_cases(labels.path());
    assert_eq!(cases.len(), 3);
    let ids = |ids: &[&str]| Value::List(ids.iter().map(|id| (*id).to_owned()).collect());
    assert_eq!(cases[0].target, 1);
    assert_eq!(cases[0].event_time, 98 * HOUR);
    assert_eq!(cases[0].sequence.as_deref(), Some("u5"));
    assert_eq!(cases[0].context["history"], ids(&["a", "e"]));
    assert_eq!(cases[0].context["genre"], Value::Text("war".into()));
    assert_eq!(cases[1].context.keys().collect::<Vec<_>>(), ["query"]);
}

#[test]
fn popularity_counts_the_positives_of_the_training_split() {
    let labels = labels();
    let case = &test_cases(labels.path())[0];
    assert_eq!(scores(labels.path(), &Baseline::Popularity, case), [4.0, 3.0, 1.0, 1.0, 0.0]);
}

#[test]
fn item_cosine_of_positives_leaves_out_what_was_not_liked() {
    let labels = labels();
    let case = &test_cases(labels.path())[0];
    // The history is a (liked) and e (not): a's cosine with b is 3 / sqrt(4 × 3).
    let cosine = Baseline::ItemCosine { all_events: false };
    assert_near(&scores(labels.path(), &cosine, case), &[0.0, 3.0 / 12f32.sqrt(), 0.0, 0.0, 0.0]);
}

#[test]
fn item_cosine_of_all_events_counts_them_all() {
    let labels = labels();
    let case = &test_cases(labels.path())[0];
    let cosine = Baseline::ItemCosine { all_events: true };
    // a with b: 3 / sqrt(4 × 3); a with e, and e with a: 3 / sqrt(4 × 3); e with b: 2 / sqrt(3 × 3).
    let with_e = 3.0 / 12f32.sqrt();
    assert_near(&scores(labels.path(), &cosine, case), &[with_e, 3.0 / 12f32.sqrt() + 2.0 / 3.0, 0.0, 0.0, with_e]);
}

#[test]
fn a_source_item_stands_for_a_history_that_is_absent() {
    let labels = labels();
    let mut case = test_cases(labels.path()).swap_remove(1);
    case.context.insert("source_item".into(), Value::Text("c".into()));
    let cosine = Baseline::ItemCosine { all_events: false };
    assert_near(&scores(labels.path(), &cosine, &case), &[0.0, 0.0, 0.0, 1.0, 0.0]);
}

#[test]
fn decay_weighs_the_most_recent_of_a_history_most() {
    let labels = labels();
    let ease = |decay| Baseline::Ease { all_events: true, lambda: 1.0, decay };
    let of_history = |ids: &[&str], decay| {
        let mut case = test_cases(labels.path()).swap_remove(0);
        case.context.insert("history".into(), Value::List(ids.iter().map(|id| (*id).to_owned()).collect()));
        scores(labels.path(), &ease(decay), &case)
    };
    let (a, e) = (of_history(&["a"], 1.0), of_history(&["e"], 1.0));
    let sum = |older: f32| e.iter().zip(&a).map(|(e, a)| e + older * a).collect::<Vec<_>>();
    assert_near(&of_history(&["a", "e"], 1.0), &sum(1.0));
    assert_near(&of_history(&["a", "e"], 0.5), &sum(0.5));
    assert!(a[1] > 0.1 && a[0] == 0.0, "{a:?}");
}

#[test]
fn a_baseline_that_cannot_be_computed_says_so() {
    let wrong = |baseline: Baseline, items| baseline.check(items).unwrap_err().to_string();
    insta::assert_snapshot!(wrong(Baseline::ItemCosine { all_events: false }, 50_000));
    insta::assert_snapshot!(wrong(Baseline::Ease { all_events: false, lambda: 0.0, decay: 1.0 }, 5));
    insta::assert_snapshot!(wrong(Baseline::Ease { all_events: true, lambda: 1.0, decay: 1.5 }, 5));
    assert!(Baseline::Popularity.check(50_000_000).is_ok());
}

#[test]
fn the_time_cut_is_the_hour_after_which_the_rest_of_the_events_came() {
    let labels = labels();
    let events = Events::open(&labels.path().join("events.parquet")).unwrap();
    // 80 % of 14 events are 11.2: the twelfth is that of hour 96.
    let arrivals = events.arrivals(0.8).unwrap();
    assert_eq!(arrivals.cut, 97 * HOUR);
    assert!(!arrivals.is_cold("u5") && arrivals.is_cold("u6"));
    assert!(arrivals.is_cold("u6/war"), "a part of a sequence is as cold as the whole");
    assert!(!arrivals.is_cold("nobody"));
    assert!(events.arrivals(0.5).unwrap().is_cold("u5"));
}

/// Scores the items by their place in the catalogue, the last one most.
struct LastFirst;

impl Scorer for LastFirst {
    fn name(&self) -> String {
        "last first".into()
    }

    fn score(&self, cases: &[Case], _: &[bool], out: &mut [f32]) -> Result<(), EvaluateError> {
        out.chunks_mut(out.len() / cases.len())
            .for_each(|row| row.iter_mut().zip(0u8..).for_each(|(s, i)| *s = i.into()));
        Ok(())
    }
}

/// Divides by zero somewhere.
struct Broken;

impl Scorer for Broken {
    fn name(&self) -> String {
        "broken".into()
    }

    fn score(&self, _: &[Case], _: &[bool], out: &mut [f32]) -> Result<(), EvaluateError> {
        out[2] = f32::NAN;
        Ok(())
    }
}

fn rank(labels: &Path, evaluation: pipeline::Evaluation, systems: &[System]) -> Result<Ranks, EvaluateError> {
    let catalogue = catalogue(labels);
    let arrivals = Events::open(&labels.join("events.parquet"))?.arrivals(0.5)?;
    let cases = test_cases(labels);
    let task = task(evaluation);
    // Two chunks.
    let chunks = [Ok(cases[..2].to_vec()), Ok(cases[2..].to_vec())];
    Ranking::new(&task, &catalogue, &arrivals, 1)?.rank(Split::Test, chunks.into_iter(), systems)
}

const LAST_FIRST: System = System { kind: Kind::Unified, scorer: &LastFirst };

#[test]
fn candidates_are_within_without_what_is_excluded_and_the_target_always() {
    let labels = labels();
    let all = rank(labels.path(), pipeline::Evaluation::default(), &[LAST_FIRST]).unwrap();
    assert_eq!(all.systems[0].clean, [4.0, 3.0, 4.0]);
    assert!(all.systems[0].misspelt.is_empty());
    assert_eq!(all.sequences, [0, 1, 1], "a part of a sequence is drawn with the whole");
    assert_eq!(all.cold, [true, false, false]);

    let exclude = pipeline::Evaluation { exclude: vec!["history".into()], ..Default::default() };
    let ranks = rank(labels.path(), exclude, &[LAST_FIRST]).unwrap();
    assert_eq!(ranks.systems[0].clean, [3.0, 3.0, 4.0], "e is excluded in the first case");

    // The first case asks for war: b and e. A genre that is null does not narrow.
    let within = [("genres".to_owned(), "genre".to_owned())].into();
    let ranks = rank(labels.path(), pipeline::Evaluation { within, ..Default::default() }, &[LAST_FIRST]).unwrap();
    assert_eq!(ranks.systems[0].clean, [2.0, 3.0, 4.0]);

    let within = [("title".to_owned(), "genre".to_owned())].into();
    let error = rank(labels.path(), pipeline::Evaluation { within, ..Default::default() }, &[LAST_FIRST]).unwrap_err();
    insta::assert_snapshot!(error);
}

#[test]
fn a_score_that_is_not_a_number_is_an_error() {
    let labels = labels();
    let broken = System { kind: Kind::Unified, scorer: &Broken };
    let error = rank(labels.path(), pipeline::Evaluation::default(), &[broken]).unwrap_err();
    insta::assert_snapshot!(error);
}

#[test]
fn a_task_without_cases_is_an_error() {
    let labels = labels();
    let catalogue = catalogue(labels.path());
    let arrivals = Events::open(&labels.path().join("events.parquet")).unwrap().arrivals(0.5).unwrap();
    let task = task(pipeline::Evaluation::default());
    let ranking = Ranking::new(&task, &catalogue, &arrivals, 1).unwrap();
    let error = ranking.rank(Split::Validation, std::iter::empty(), &[LAST_FIRST]).unwrap_err();
    insta::assert_snapshot!(error);
}

#[test]
fn a_label_of_an_item_that_is_not_in_the_catalogue_is_an_error() {
    let labels = labels();
    write(
        &labels.path().join("tasks/next.parquet"),
        vec![
            ("item_id", text(&[Some("z")])),
            ("label", Arc::new(Float64Array::from(vec![1.0]))),
            ("event_time", Arc::new(Int64Array::from(vec![0]))),
            ("split", text(&[Some("test")])),
        ],
    );
    let catalogue = catalogue(labels.path());
    let elements = elements();
    let path = labels.path().join("tasks/next.parquet");
    let error = Cases::read(&path, Split::Test, &elements, &catalogue).unwrap().next().unwrap().unwrap_err();
    let message = error.to_string().replace(&path.display().to_string(), "next.parquet");
    insta::assert_snapshot!(message);
}

#[test]
fn an_evaluation_is_the_same_after_a_journey_through_json() {
    let labels = labels();
    let (elements, catalogue) = (elements(), catalogue(labels.path()));
    let events = Events::open(&labels.path().join("events.parquet")).unwrap();
    let mut baselines = Baselines::new(&events, &catalogue, &elements).unwrap();
    let substring = baselines.scorer(&Baseline::Substring).unwrap();
    let systems = [LAST_FIRST, System { kind: Kind::SingleTask, scorer: substring.as_ref() }];
    let misspell = pipeline::Evaluation { misspell: Some("query".into()), ..Default::default() };
    let ranks = rank(labels.path(), misspell, &systems).unwrap();
    // "star wars" finds a and not b, which ties with three others; "heat" finds c; without a query every title matches
    // and popularity decides. Misspelt, "star wars" finds nothing, and of "heat" a part
    // is left, which still finds it.
    assert_eq!(ranks.systems[1].clean, [3.5, 1.0, 2.0]);
    assert_eq!(ranks.systems[1].misspelt, [3.0, 1.0, 2.0]);

    let metrics = [Metric::HitRateAt10, Metric::Mrr];
    let next = TaskEvaluation::new("next", &Loss::default(), &metrics, &ranks, 1);
    let slices: Vec<(Slice, usize)> = next.slices.iter().map(|s| (s.name, s.cases)).collect();
    assert_eq!(slices, [(Slice::Clean, 3), (Slice::Misspelt, 3), (Slice::ColdStart, 1)]);
    let clean = next.slice(Slice::Clean).unwrap();
    let against = clean.system(Kind::SingleTask).unwrap();
    let comparison = against.comparison.as_ref().unwrap()[&Metric::Mrr];
    let (ours, theirs) = ((1.0 / 4.0 + 1.0 / 3.0 + 1.0 / 4.0) / 3.0, (1.0 / 3.5 + 1.0 + 1.0 / 2.0) / 3.0);
    assert!((comparison.difference - (ours - theirs)).abs() < 1e-6);
    assert!((comparison.ratio.unwrap() - ours / theirs).abs() < 1e-6);
    assert!(clean.system(Kind::Unified).unwrap().comparison.is_none());

    let head = Head { name: "next".into(), description: None, elements: vec!["history".into()] };
    let time = |seconds| jiff::Timestamp::from_second(seconds).unwrap();
    let relations = relations(labels.path(), &[head], &catalogue, Default::default()).unwrap();
    assert_eq!((relations.labels["next"].rows, relations.labels["next"].positives), (1, 1));
    let evaluation = Evaluation::new(1, Split::Test, time(96 * HOUR), time(9 * HOUR), vec![next], relations);
    let json = serde_json::to_string(&evaluation).unwrap();
    assert_eq!(serde_json::from_str::<Evaluation>(&json).unwrap(), evaluation);
    let evaluation = Evaluation { program: "0.0.0".into(), ..evaluation };
    insta::assert_snapshot!(serde_json::to_string_pretty(&evaluation).unwrap());
    let table = evaluation.tables().remove(0);
    let lines: Vec<String> = std::iter::once(&table.header).chain(&table.rows).map(|row| row.join(" | ")).collect();
    insta::assert_snapshot!(format!("{}\n{}", table.title, lines.join("\n")));
    let advice = advise(&AdviseInput::from(&evaluation));
    assert_eq!(advice.tasks[0].because, "there is no other task to share a model with");
}

#[test]
fn relations_of_two_tasks_are_counted_in_their_training_rows() {
    let labels = labels();
    let other = |item: &[Option<&str>]| {
        vec![
            ("item_id", text(item)),
            ("label", Arc::new(Float64Array::from(vec![1.0, 1.0, 0.0, 1.0])) as ArrayRef),
            ("split", text(&[Some("train"), Some("train"), Some("train"), Some("test")])),
        ]
    };
    write(&labels.path().join("tasks/other.parquet"), other(&[Some("e"), Some("a"), Some("b"), Some("c")]));
    let head = |name: &str| Head { name: name.into(), description: None, elements: Vec::new() };
    let found = relations(labels.path(), &[head("next"), head("other")], &catalogue(labels.path()), Default::default())
        .unwrap();
    assert_eq!((found.labels["other"].rows, found.labels["other"].positives, found.labels["other"].items), (3, 2, 2));
    assert_eq!(found.item_overlap["next"]["other"], ItemOverlap { jaccard: 0.5, share: 1.0 });
    assert_eq!(found.item_overlap["other"]["next"], ItemOverlap { jaccard: 0.5, share: 0.5 });
}
