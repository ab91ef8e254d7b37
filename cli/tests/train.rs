//! `unimodel train` as a person types it, on synthetic data: one version from label tables to serving, a run that is
//! killed and taken up again, and a fifth task that costs one SQL file and one entry.
#![allow(clippy::unwrap_used)]

mod place;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use place::{Place, Serving, succeeded};

/// What another team would add to have its own task: what an item is followed by in the same hands.
const FIFTH_SQL: &str = "
WITH following AS (
  SELECT
    sequence, position, item_id, label, event_time, split,
    LAG(item_id) OVER (PARTITION BY sequence ORDER BY position) AS source_item
  FROM events
)
SELECT
  source_item, item_id, label, CAST(1 AS DOUBLE) AS weight, event_time, split, sequence
FROM following
WHERE source_item IS NOT NULL
ORDER BY sequence, position
";
const FIFTH_TASK: &str = "
  - name: continue
    description: What comes right after
    sql: sql/continue.sql
    evaluation: {exclude: [source_item]}
";

/// Ends the process by KILL as soon as the file is there; whether it was still running then.
fn kill_when(child: &mut Child, file: &Path) -> bool {
    loop {
        if file.exists() {
            let running = child.try_wait().unwrap().is_none();
            child.kill().unwrap();
            child.wait().unwrap();
            return running;
        }
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        std::thread::yield_now();
    }
}

#[test]
fn a_run_that_was_killed_goes_on_to_the_same_metrics() {
    let place = Place::new(120, 200, 6_000);
    let unbroken = succeeded(&place.train("unbroken", &[]).output().unwrap());

    let mut child = place.train("broken", &[]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let checkpoint = place.path_buf("work-broken/checkpoints/unified.safetensors");
    assert!(kill_when(&mut child, &checkpoint), "the run ended before it could be killed");
    assert!(!place.path_buf("broken").exists(), "a killed run has touched the store");

    let resumed = succeeded(&place.train("broken", &["--resume"]).output().unwrap());
    assert_eq!(resumed["metrics"], unbroken["metrics"]);
    assert_eq!(resumed["validations"], unbroken["validations"]);
    assert!(!checkpoint.exists(), "checkpoints of a published run are of no use");
}

#[test]
fn a_checkpoint_of_another_seed_is_refused() {
    let place = Place::new(120, 200, 6_000);
    let mut child = place.train("store", &[]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let checkpoint = place.path_buf("work-store/checkpoints/unified.safetensors");
    assert!(kill_when(&mut child, &checkpoint));
    let refused = place.train("store", &["--resume", "--seed", "2"]).output().unwrap();
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && error.contains("another pipeline, seed or label set"), "{error}");
}

#[test]
fn a_fifth_task_is_one_sql_file_and_one_entry() {
    let place = Place::new(120, 200, 6_000);
    let first = succeeded(&place.train("store", &[]).output().unwrap());
    let parent = first["version"].as_str().unwrap();

    std::fs::write(place.path("data/sql/continue.sql"), FIFTH_SQL).unwrap();
    let file = place.path("data/pipeline.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("\nmodel:", &format!("{FIFTH_TASK}\nmodel:"))).unwrap();
    let second = succeeded(&place.train("store", &["--parent", parent]).output().unwrap());
    assert!(second["metrics"]["continue"]["hitRate@10"].as_f64().unwrap() > 0.0, "{}", second["metrics"]);
    let changes = second["againstParent"].as_object().unwrap();
    assert_eq!(changes.len(), 4, "{changes:?}");

    let version = second["version"].as_str().unwrap();
    let promoted = place.command(&["promote", "--store", "store", version, "--channel", "stable"]).output().unwrap();
    succeeded(&promoted);
    let evaluated = place.command(&["evaluate", "--store", "store", "--version", version, "--output", "json"]);
    let evaluated = succeeded(&{ evaluated }.output().unwrap());
    assert_eq!(evaluated["tasks"].as_array().unwrap().len(), 5);
    serves(&place, version);
}

/// `unimodel serve`: one line says where, the tasks answer, and SIGTERM ends it well.
fn serves(place: &Place, version: &str) {
    let addresses = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--store", "store"];
    let serve = |tasks: &[&str]| {
        let mut command = place.command(&["serve"]);
        command.args(addresses).args(tasks);
        command
    };
    let refused = serve(&["--task", "serch"]).output().unwrap();
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{error}");
    assert!(error.contains("has no head `serch` (did you mean `search`?)"), "{error}");
    let refused = serve(&["--version", "20990101T000000Z-00000000"]).output().unwrap();
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && error.contains("has no version `20990101T000000Z-00000000`"), "{error}");

    let mut serving = Serving::start(serve(&["--task", "search", "--task", "next=continue"]));
    let line = &serving.line;
    let said = line.strip_prefix(&format!("Serving {version} at http://")).unwrap_or_else(|| panic!("{line}"));
    let (_, example) = said.split_once(';').unwrap();
    assert!(example.starts_with(" try: curl -s http://"), "{line}");
    let body = r#"{"candidates":{"all":true},"limit":5}"#;
    assert!(example.contains(body), "{line}");
    for task in ["search", "next"] {
        let mut stream = TcpStream::connect(serving.address()).unwrap();
        let head = format!("POST /v1/tasks/{task}:rank HTTP/1.1\r\nhost: x\r\nconnection: close\r\n");
        write!(stream, "{head}content-length: {}\r\n\r\n{body}", body.len()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(version), "{answer}");
    }
    let killed = Command::new("kill").args(["-s", "TERM", &serving.child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    assert!(serving.child.wait().unwrap().success());
}

#[test]
fn sampled_and_graded_losses_and_the_ranker_learn() {
    let place = Place::new(300, 200, 15_000);
    place.edit_pipeline(|text| {
        let soft = "    loss: {type: softmax, softTargets: {decay: 2, window: 8, belowHalf: 0.3}}\n";
        assert!(text.find(soft) < text.find("name: related"), "the first is of notifications");
        text.replacen(soft, "    loss: {type: bce}\n", 1)
            .replace("    loss: {type: softmax}\n", "    loss: {type: sampledSoftmax, samples: 50}\n")
            .replace("linear: {width: 16}", "linear: null, ranker: {hidden: [16], candidates: 50}")
            .replace("steps: 40", "steps: 150")
            .replace("validateEvery: 5", "validateEvery: 50")
    });
    let trained = succeeded(&place.train("store", &[]).output().unwrap());
    for effect in ["on", "off"] {
        assert!(trained["ranker"][effect].as_f64().unwrap() > 0.0, "{}", trained["ranker"]);
    }
    // Chance would hit one of twenty.
    for (task, least) in [("notifications", 0.09), ("search", 0.6)] {
        let reached = trained["metrics"][task]["hitRate@10"].as_f64().unwrap();
        assert!(reached > least, "{task}: {reached}");
    }
}
