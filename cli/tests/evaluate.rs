//! `unimodel evaluate` and `unimodel advise` on a published version, as a person types them.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Command, Output};

use jiff::Timestamp;
use serde_json::{Value, json};
use tempfile::TempDir;
use unimodel_model::store::{Publication, Store};
use unimodel_trainer::advise::{ItemOverlap, Relations, TaskLabels};
use unimodel_trainer::evaluate::{Evaluation, Kind, Ranks, Split, SystemRanks, TaskEvaluation};
use unimodel_trainer::pipeline::{Baseline, Loss, Metric};

/// A task of 200 cases of as many users: the unified model hits every second one, the task's own model those that
/// `single` says, and the baseline every fourth. A tenth is cold.
fn task(name: &str, misspelt: bool, single: fn(u32) -> bool) -> TaskEvaluation {
    let ranks = |hits: fn(u32) -> bool| (0..200).map(|case| if hits(case) { 2.0 } else { 30.0 }).collect::<Vec<f32>>();
    let system = |kind, name: &str, hits: fn(u32) -> bool| SystemRanks {
        kind,
        name: name.to_owned(),
        clean: ranks(hits),
        misspelt: if misspelt { ranks(hits) } else { Vec::new() },
    };
    let ease = Baseline::Ease { all_events: true, lambda: 800.0, decay: 0.8 }.name();
    let ranks = Ranks {
        sequences: (0..200).collect(),
        cold: (0..200).map(|case| case % 10 == 0).collect(),
        systems: vec![
            system(Kind::Unified, "unified", |case| case % 2 == 0),
            system(Kind::SingleTask, "single task", single),
            system(Kind::Baseline, &ease, |case| case % 4 == 0),
        ],
    };
    let metrics = [Metric::HitRateAt10, Metric::NdcgAt10, Metric::Mrr];
    TaskEvaluation::new(name, &Loss::default(), &metrics, &ranks, 1)
}

/// Two tasks, one of which the unified model serves as well as a model of its own, and one that it serves worse.
fn evaluation() -> Evaluation {
    let tasks = vec![task("category", false, |case| case % 2 == 1), task("search", true, |case| case % 10 < 9)];
    let labels = TaskLabels { rows: 100, positives: 50, items: 10, elements: vec!["query".into()] };
    let overlap = |task: &str, other: &str| {
        (task.to_owned(), [(other.to_owned(), ItemOverlap { jaccard: 0.9, share: 0.95 })].into())
    };
    let relations = Relations {
        labels: ["category", "search"].map(|name| (name.to_owned(), labels.clone())).into(),
        item_overlap: [overlap("category", "search"), overlap("search", "category")].into(),
        gradient_cosine: Default::default(),
    };
    let time = |seconds| Timestamp::from_second(seconds).unwrap();
    Evaluation::new(1, Split::Test, time(893_286_638), time(889_239_600), tasks, relations)
}

/// Publishes a version that carries that `evaluation.json`, or none.
fn publish(evaluation: Option<Value>) -> (TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("model");
    std::fs::create_dir(&model).unwrap();
    for (name, content) in [("schema.json", "{}".to_owned()), ("model.safetensors", "weights".to_owned())]
        .into_iter()
        .chain(evaluation.map(|e| ("evaluation.json", e.to_string())))
    {
        std::fs::write(model.join(name), content).unwrap();
    }
    let store = Store::open(dir.path().join("store").to_str().unwrap()).unwrap();
    let publication = Publication {
        created: Timestamp::from_second(1_795_533_300).unwrap(),
        data_time: Timestamp::from_second(893_286_638).unwrap(),
        parent: None,
        pipeline: None,
        metrics: Default::default(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let version = runtime.block_on(store.publish(&model, publication)).unwrap().version.to_string();
    (dir, version)
}

fn unimodel(directory: &Path, command: &str, version: &str, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_unimodel"))
        .args([command, "--store", "file://./store", "--version", version])
        .args(more)
        .current_dir(directory)
        .env_remove("RUST_LOG")
        .output()
        .unwrap()
}

fn succeeds(directory: &Path, command: &str, version: &str, more: &[&str]) -> String {
    let output = unimodel(directory, command, version, more);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn fails(directory: &Path, command: &str, version: &str) -> String {
    let output = unimodel(directory, command, version, &[]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn an_evaluation_is_printed_in_100_columns_and_as_it_is_in_json() {
    let (dir, version) = publish(Some(serde_json::to_value(evaluation()).unwrap()));
    let printed = succeeds(dir.path(), "evaluate", &version, &[]);
    assert!(printed.lines().all(|line| line.chars().count() <= 100), "{printed}");
    assert!(printed.contains("category (test cases: 200 all, 20 coldStart)"), "{printed}");
    assert!(printed.contains("search (test cases: 200 clean, 200 misspelt, 20 coldStart)"), "{printed}");
    let line = |name: &str| printed.lines().find(|line| line.contains(name)).unwrap().split_whitespace();
    assert_eq!(line("unified").nth(2), Some("0.500"), "{printed}");
    assert_eq!(line("EASE").rev().take(2).collect::<Vec<_>>(), ["*", "2.00"], "{printed}");

    let json = succeeds(dir.path(), "evaluate", &version, &["--output", "json"]);
    assert_eq!(serde_json::from_str::<Evaluation>(&json).unwrap(), evaluation());
}

#[test]
fn advice_is_printed_for_each_task() {
    let (dir, version) = publish(Some(serde_json::to_value(evaluation()).unwrap()));
    let printed = succeeds(dir.path(), "advise", &version, &[]);
    assert!(printed.lines().all(|line| line.chars().count() <= 100), "{printed}");
    assert!(printed.contains("category: consolidate\n"), "{printed}");
    assert!(printed.contains("search: keep separate\nwhy significant loss: hitRate@10 on clean is 0.56"), "{printed}");

    let json: Value = serde_json::from_str(&succeeds(dir.path(), "advise", &version, &["--output", "json"])).unwrap();
    assert_eq!(json["tasks"][0]["decision"], "consolidate");
    assert_eq!(json["tasks"][1]["decision"], "keepSeparate");
    assert_eq!(json["tasks"][1]["findings"][0]["rule"], "measured");
}

#[test]
fn what_cannot_be_printed_is_one_line() {
    let (dir, version) = publish(None);
    let error = fails(dir.path(), "evaluate", &version);
    assert_eq!(error, format!("error: version `{version}` was published without evaluation.json\n"));
    let error = fails(dir.path(), "advise", "20200101T000000Z-00000000");
    assert!(error.contains("has no version `20200101T000000Z-00000000`") && error.lines().count() == 1, "{error}");

    let (dir, version) = publish(Some(json!({"format": 2})));
    let error = fails(dir.path(), "advise", &version);
    assert_eq!(error, format!("error: version `{version}`: evaluation.json has format 2, this program reads 1\n"));

    let (dir, version) = publish(Some(serde_json::to_value(evaluation()).unwrap()));
    let file = dir.path().join("store/versions").join(&version).join("evaluation.json");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[1000] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let error = fails(dir.path(), "evaluate", &version);
    assert!(error.contains("`evaluation.json` is damaged: expected") && error.lines().count() == 1, "{error}");
}
