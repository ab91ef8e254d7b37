//! A folder with synthetic data, and `unimodel` run in it as a person would.
#![allow(dead_code)] // Not every test file uses all of it.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// A network and a run small enough for a test.
const SMALL: &str = "
model: {width: 16, hidden: 32, historyWidth: 16, textBuckets: 512, textWidth: 16, linear: {width: 16}}
training: {steps: 40, batch: 64, validateEvery: 5}
";

pub(crate) struct Place {
    dir: TempDir,
}

impl Place {
    /// A folder with synthetic data and its pipeline, made small.
    pub(crate) fn new(users: u32, items: u32, events: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let place = Self { dir };
        let out = place.path("data");
        let mut command = place.command(&["data", "synthetic", "--seed", "1", "--out", &out]);
        for (option, count) in [("--users", users), ("--items", items), ("--events", events)] {
            command.arg(option).arg(count.to_string());
        }
        succeeded(&command.output().unwrap());
        place.edit_pipeline(|text| {
            let (before, _) = text.split_once("\ntraining:").unwrap();
            format!("{before}{SMALL}")
        });
        place
    }

    pub(crate) fn edit_pipeline(&self, edit: impl FnOnce(String) -> String) {
        let file = self.path("data/pipeline.yaml");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, edit(text)).unwrap();
    }

    pub(crate) fn path_buf(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.path_buf(name).display().to_string()
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_unimodel"));
        command.current_dir(self.dir.path()).env("UNIMODEL_CACHE", self.path("cache")).args(args);
        command
    }

    pub(crate) fn train(&self, store: &str, more: &[&str]) -> Command {
        let mut command = self.command(&["train", "-f", "data/pipeline.yaml", "--output", "json", "--no-compare"]);
        command.args(["--work", &format!("work-{store}"), "--store", store]).args(more);
        command
    }
}

pub(crate) fn succeeded(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
}

/// `unimodel serve`, which ends with the test.
pub(crate) struct Serving {
    pub(crate) child: Child,
    /// What it says once it serves.
    pub(crate) line: String,
}

impl Serving {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, line }
    }

    pub(crate) fn address(&self) -> &str {
        let said = self.line.split_once(" at http://").and_then(|(_, said)| said.split_once(';'));
        said.unwrap_or_else(|| panic!("{}", self.line)).0
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
