//! The store's commands, as a person types them.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Command, Output};

use jiff::Timestamp;
use serde_json::Value;
use unimodel_model::store::{Publication, Store};

/// Runs the program in that directory.
fn unimodel(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_unimodel"))
        .args(arguments)
        .current_dir(directory)
        .env_remove("RUST_LOG")
        .env_remove("UNIMODEL_STORE")
        .output()
        .unwrap()
}

/// What it prints where it succeeds.
fn succeeds(directory: &Path, arguments: &[&str]) -> String {
    let output = unimodel(directory, arguments);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), errors.as_str()), (Some(0), ""), "{arguments:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The one line that it prints where it fails.
fn fails(directory: &Path, arguments: &[&str]) -> String {
    let output = unimodel(directory, arguments);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{arguments:?}: {errors}");
    assert!(errors.starts_with("error: ") && errors.lines().count() == 1, "{errors}");
    errors
}

/// Publishes so many versions into `store/` and returns their names.
fn publish(directory: &Path, count: i64) -> Vec<String> {
    let model = directory.join("model");
    std::fs::create_dir(&model).unwrap();
    std::fs::write(model.join("schema.json"), "{}").unwrap();
    let store = Store::open(directory.join("store").to_str().unwrap()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let publish = |second| {
        std::fs::write(model.join("model.safetensors"), [second as u8; 1500]).unwrap();
        let publication = Publication {
            created: Timestamp::from_second(1_795_533_300 + second).unwrap(),
            data_time: Timestamp::from_second(893_286_638).unwrap(),
            parent: None,
            pipeline: Some("movielens".to_owned()),
            metrics: Default::default(),
        };
        runtime.block_on(store.publish(&model, publication)).unwrap().version.to_string()
    };
    (0..count).map(publish).collect()
}

#[test]
fn a_channel_moves_and_goes_back_and_old_versions_go() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let versions = publish(dir, 4);
    let run = |command: &str, arguments: &[&str]| {
        succeeds(dir, &[&[command, "--store", "file://./store"], arguments].concat())
    };

    assert_eq!(run("promote", &[&versions[0], "--channel", "stable"]), format!("stable -> {}\n", versions[0]));
    let moved = run("promote", &[&versions[2], "--channel", "stable"]);
    assert_eq!(moved, format!("stable -> {} (before: {})\n", versions[2], versions[0]));

    let table = run("versions", &[]);
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 5, "{table}");
    assert!(lines[0].starts_with("VERSION"), "{table}");
    for (line, version) in lines[1..].iter().zip(&versions) {
        assert!(line.starts_with(version.as_str()) && line.contains("1.5 kB") && line.contains("movielens"), "{table}");
        assert_eq!(line.contains("stable"), *version == versions[2], "{table}");
        assert!(line.contains("2026-11-24 15:15:0") && line.contains("1998-04-22 23:10:38Z"), "{table}");
    }
    let json: Value = serde_json::from_str(&run("versions", &["--output", "json"])).unwrap();
    assert_eq!(json[2]["version"], Value::from(versions[2].as_str()));
    assert_eq!(json[2]["channels"], serde_json::json!(["stable"]));
    assert_eq!(json[2]["manifest"]["dataTime"], "1998-04-22T23:10:38Z");

    let would = run("prune", &["--keep", "1", "--dry-run"]);
    assert!(would.contains(&format!("{}  deleted", versions[1])) && would.contains("WOULD BE"), "{would}");
    let pruned = run("prune", &["--keep", "1", "--output", "json"]);
    let pruned: Value = serde_json::from_str(&pruned).unwrap();
    assert_eq!(pruned["versions"], serde_json::json!([versions[1]]));
    assert_eq!(pruned["kept"][&versions[0]], serde_json::json!(["stable"]));
    assert_eq!(run("versions", &[]).lines().count(), 4);
    assert!(run("prune", &["--keep", "3"]).starts_with("Nothing to prune"));

    assert_eq!(run("rollback", &["--channel", "stable"]), format!("stable -> {}\n", versions[0]));
    let error = fails(dir, &["rollback", "--store", "file://./store", "--channel", "stable"]);
    assert_eq!(error, format!("error: channel `stable` has no version before `{}`\n", versions[0]));
}

#[test]
fn what_is_wrong_is_said_on_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let version = &publish(dir, 1)[0];
    let weights = dir.join("store/versions").join(version).join("model.safetensors");
    std::fs::write(&weights, [0; 1499]).unwrap();
    let promote = ["promote", "--store", "store", version, "--channel", "stable"];
    let error = fails(dir, &promote);
    assert!(error.contains("`model.safetensors` is damaged: expected 1500 bytes with SHA-256 "), "{error}");
    assert!(error.contains(", found 1499 bytes with SHA-256 "), "{error}");
    assert!(!dir.join("store/channels").exists());

    let error = fails(dir, &["versions", "--store", "file://./stroe"]);
    assert!(error.ends_with("stroe: No such file or directory (os error 2)\n"), "{error}");
    let error = fails(dir, &["versions", "--store", "hdfs://x/y"]);
    assert!(error.contains("store `hdfs://x/y`: `hdfs://` is not known; use file://"), "{error}");
    let error = fails(dir, &["promote", "--store", "store", "v1", "--channel", "stable"]);
    assert_eq!(error, "error: store store has no version `v1`\n");
}

#[test]
fn wrong_usage_is_exit_code_2() {
    let dir = tempfile::tempdir().unwrap();
    for (arguments, expected) in [
        (&["versions"][..], "--store <URL>"),
        (&["promote", "--store", "x", "../y", "--channel", "stable"][..], "`../y` is not a version name"),
        (&["prune", "--store", "x", "--keep", "-1"][..], "--keep"),
        (&["frobnicate"][..], "frobnicate"),
    ] {
        let output = unimodel(dir.path(), arguments);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(errors.contains(expected), "{errors}");
    }
}

#[test]
fn logs_go_to_standard_error() {
    let dir = tempfile::tempdir().unwrap();
    let version = &publish(dir.path(), 1)[0];
    let output = unimodel(dir.path(), &["-v", "promote", "--store", "store", version, "--channel", "stable"]);
    let (out, log) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(out, format!("stable -> {version}\n"));
    assert!(log.contains("INFO") && log.contains("moved") && !log.contains('\x1b'), "{log}");
}

#[test]
fn completions_know_the_commands() {
    let dir = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let script = succeeds(dir.path(), &["completions", shell]);
        assert!(script.contains("rollback") && script.contains("channel"), "{shell}");
    }
}
