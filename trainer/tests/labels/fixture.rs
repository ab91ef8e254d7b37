//! A pipeline small enough to break one thing at a time.

use std::path::{Path, PathBuf};

use tempfile::TempDir;
use unimodel_trainer::labels::{self, LabelsSummary};
use unimodel_trainer::pipeline::{LoadedPipeline, Pipeline};

const FILES: [(&str, &str); 7] = [
    (
        "pipeline.yaml",
        "\
apiVersion: unimodel.dev/v1alpha1
kind: Pipeline
metadata: {name: small}
sources:
  log:
    path: log.csv
    format: csv
    columns:
      user_id: {type: string}
      item_id: {from: item, type: string}
      label: {type: double}
      weight: {type: double}
      event_time: {type: bigint}
      split: {type: string}
      query: {type: string}
  films:
    path: films-*.csv
    format: csv
    delimiter: ;
    columns:
      item_id: {type: string}
      title: {type: string}
      kind: {type: string}
split: {sql: sql/split.sql}
items:
  sql: sql/items.sql
  attributes:
    - {name: title, type: text}
    - {name: kind, type: category}
users: {sql: sql/users.sql, key: user_id}
context:
  - {name: user_id, type: id, default: null}
  - {name: query, type: text, default: \"\"}
  - {name: age, type: number, default: null}
  - {name: seen, type: list<id>, of: item, default: [], maxLength: 10}
  - {name: shelf, type: category, default: null}
tasks:
  - name: find
    sql: sql/find.sql
    weight: 2
    loss:
      type: softmax
      softTargets: {decay: 2, window: 3}
    augmentation: {element: query, typos: 0.5}
    evaluation: {exclude: [seen], within: {kind: shelf}, misspell: query}
  - name: like
    sql: sql/like.sql
    loss: {type: bce}
",
    ),
    (
        "log.csv",
        "\
user_id,item,label,weight,event_time,split,query
a,1,1,1,10,train,red
a,2,0,1,20,train,blue
a,3,1,1,20,validation,
a,1,1,1,30,test,red
b,2,1,0.5,11,train,blue
b,3,0,1,12,train,green
b,1,0,1,13,none,green
",
    ),
    ("films-1.csv", "item_id;title;kind\n1;The Red One;warm\n2;\"The Blue; One\";cold\n"),
    ("films-2.csv", "item_id;title;kind\n3;The Green One;cold\n"),
    (
        "sql/split.sql",
        "SELECT user_id AS sequence, item_id, label, event_time, split, weight, query FROM log \
         ORDER BY sequence, event_time, item_id\n",
    ),
    ("sql/items.sql", "SELECT item_id, title, kind FROM films ORDER BY item_id\n"),
    ("sql/users.sql", "SELECT DISTINCT user_id FROM log\n"),
];

const TASKS: [(&str, &str); 2] = [
    (
        "sql/find.sql",
        "\
SELECT
  query,
  CASE WHEN item_id <> '1' THEN array_agg(item_id) OVER (PARTITION BY sequence ORDER BY event_time, item_id) END AS seen,
  item_id,
  label,
  weight,
  event_time,
  split,
  sequence
FROM events
ORDER BY sequence, event_time, item_id
",
    ),
    (
        "sql/like.sql",
        "\
SELECT e.sequence AS user_id, CAST(40 AS REAL) AS age, i.kind AS shelf, e.item_id, e.label, e.weight, e.event_time,
  e.split
FROM items i
JOIN events e ON e.item_id = i.item_id
",
    ),
];

/// The pipeline in a folder of its own.
pub struct Fixture {
    dir: TempDir,
}

impl Fixture {
    /// As it is right.
    pub fn new() -> Self {
        let fixture = Self { dir: tempfile::tempdir().unwrap() };
        std::fs::create_dir(fixture.path("sql")).unwrap();
        for (name, text) in FILES.iter().chain(&TASKS) {
            fixture.write(name, text);
        }
        fixture
    }

    /// With one change, which must be one.
    pub fn with(file: &str, from: &str, to: &str) -> Self {
        let fixture = Self::new();
        let text = std::fs::read_to_string(fixture.path(file)).unwrap();
        assert_eq!(text.matches(from).count(), 1, "`{from}` in {file}");
        fixture.write(file, &text.replace(from, to));
        fixture
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// Errors say the folder's name, which differs from run to run.
    fn without_folder(&self, error: impl std::error::Error) -> String {
        let folder = format!("{}/", self.dir.path().canonicalize().unwrap().display());
        error.to_string().replace(&folder, "").replace(&format!("{}/", self.dir.path().display()), "")
    }

    pub fn load(&self) -> Result<LoadedPipeline, String> {
        Pipeline::load(&self.path("pipeline.yaml")).map_err(|e| self.without_folder(e))
    }

    pub fn out(&self) -> PathBuf {
        self.path("labels")
    }

    pub fn labels(&self) -> Result<LabelsSummary, String> {
        let pipeline = self.load()?;
        run(labels::prepare(&pipeline, &self.out(), &|_| {})).map_err(|e| self.without_folder(e))
    }

    pub fn check(&self) -> Result<(), String> {
        run(labels::check(&self.load()?)).map_err(|e| self.without_folder(e))
    }
}

/// Waits for it.
pub fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(future)
}

/// All rows of a table as text, in order.
pub fn rows(table: &Path) -> Vec<String> {
    use arrow::util::display::{ArrayFormatter, FormatOptions};
    let options = FormatOptions::new().with_null("-");
    let mut rows = Vec::new();
    for batch in unimodel_model::catalogue::batches(table).unwrap() {
        let batch = batch.unwrap();
        let columns: Vec<_> =
            batch.columns().iter().map(|c| ArrayFormatter::try_new(c.as_ref(), &options).unwrap()).collect();
        for row in 0..batch.num_rows() {
            rows.push(columns.iter().map(|c| c.value(row).to_string()).collect::<Vec<_>>().join(" | "));
        }
    }
    rows
}

/// Names and types of a table's columns.
pub fn columns(table: &Path) -> Vec<String> {
    let batch = unimodel_model::catalogue::batches(table).unwrap().next().unwrap().unwrap();
    batch.schema().fields().iter().map(|f| format!("{} {}", f.name(), f.data_type())).collect()
}
