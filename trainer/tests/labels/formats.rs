//! What is written, and from what.

use std::sync::Arc;

use arrow::array::{Float64Array, Int32Array, RecordBatch, StringArray};
use unimodel_trainer::labels::{SplitRows, Splits};

use crate::fixture::{Fixture, columns, rows};

#[test]
fn tables_have_all_columns_and_the_rows_of_the_splits() {
    let fixture = Fixture::new();
    let summary = fixture.labels().unwrap();
    let names: Vec<_> = summary.tables.iter().map(|t| (t.table.as_str(), t.rows)).collect();
    assert_eq!(names, [("events", 7), ("items", 3), ("users", 2), ("find", 6), ("like", 6)]);
    let some = |rows, positives| SplitRows { rows, positives };
    let splits = Splits { train: some(4, 2), validation: some(1, 1), test: some(1, 1), none: some(1, 0) };
    assert_eq!(summary.tables[3].splits, Some(splits));

    let task = |name: &str| fixture.out().join("tasks").join(name);
    let expected = "user_id Utf8, query Utf8, age Float64, seen List(Utf8), shelf Utf8, item_id Utf8, label Float64, \
                    weight Float64, event_time Int64, split Utf8, sequence Utf8";
    assert_eq!(columns(&task("find.parquet")).join(", "), expected);
    assert_eq!(columns(&task("like.parquet")).join(", "), expected);
    let find = rows(&task("find.parquet"));
    assert_eq!(find[0], "- | red | - | - | - | 1 | 1.0 | 1.0 | 10 | train | a");
    assert_eq!(find[1], "- | blue | - | [1, 2] | - | 2 | 0.0 | 1.0 | 20 | train | a");
    assert_eq!(find.len(), 6, "the row in no split is not kept");
    let like = rows(&task("like.parquet"));
    assert!(like.contains(&"b | - | 40.0 | - | cold | 2 | 1.0 | 0.5 | 11 | train | -".to_owned()), "{like:?}");
    assert_eq!(rows(&fixture.out().join("items.parquet"))[1], "2 | The Blue; One | cold");
    assert_eq!(rows(&fixture.out().join("events.parquet")).len(), 7);
}

#[test]
fn parquet_sources_give_the_same_tables() {
    let csv = Fixture::new();
    csv.labels().unwrap();
    let parquet =
        Fixture::with("pipeline.yaml", "path: log.csv\n    format: csv", "path: log.parquet\n    format: parquet");
    // Other widths than declared, and a column that nobody asked for.
    let batch = RecordBatch::try_from_iter([
        ("user_id", Arc::new(StringArray::from(vec!["a", "a", "a", "a", "b", "b", "b"])) as _),
        ("item", Arc::new(StringArray::from(vec!["1", "2", "3", "1", "2", "3", "1"])) as _),
        ("extra", Arc::new(Int32Array::from(vec![0; 7])) as _),
        ("label", Arc::new(Int32Array::from(vec![1, 0, 1, 1, 1, 0, 0])) as _),
        ("weight", Arc::new(Float64Array::from(vec![1.0, 1.0, 1.0, 1.0, 0.5, 1.0, 1.0])) as _),
        ("event_time", Arc::new(Int32Array::from(vec![10, 20, 20, 30, 11, 12, 13])) as _),
        (
            "split",
            Arc::new(StringArray::from(vec!["train", "train", "validation", "test", "train", "train", "none"])) as _,
        ),
        (
            "query",
            Arc::new(StringArray::from(vec![
                Some("red"),
                Some("blue"),
                None,
                Some("red"),
                Some("blue"),
                Some("green"),
                Some("green"),
            ])) as _,
        ),
    ])
    .unwrap();
    let file = std::fs::File::create(parquet.path("log.parquet")).unwrap();
    let mut writer = parquet::arrow::ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    parquet.labels().unwrap();
    for table in ["events.parquet", "tasks/find.parquet"] {
        assert_eq!(rows(&csv.out().join(table)), rows(&parquet.out().join(table)), "{table}");
    }
}

#[test]
fn a_csv_file_without_declared_columns_has_its_own_names_and_types() {
    let declared = "    columns:
      item_id: {type: string}
      title: {type: string}
      kind: {type: string}
";
    let fixture = Fixture::with("pipeline.yaml", declared, "");
    fixture
        .write("sql/items.sql", "SELECT CAST(item_id AS VARCHAR) AS item_id, title, kind FROM films ORDER BY item_id");
    fixture.labels().unwrap();
    assert_eq!(rows(&fixture.out().join("items.parquet"))[0], "1 | The Red One | warm");
}

#[test]
fn quoted_text_may_hold_line_breaks() {
    let fixture = Fixture::with("films-2.csv", "The Green One", "\"The\nGreen \"\"One\"\"\"");
    fixture.labels().unwrap();
    assert_eq!(rows(&fixture.out().join("items.parquet"))[2], "3 | The\nGreen \"One\" | cold");
}

#[test]
fn a_second_run_replaces_the_first() {
    let fixture = Fixture::new();
    fixture.labels().unwrap();
    fixture.write("films-2.csv", "item_id;title;kind\n3;The Grey One;cold\n");
    fixture.labels().unwrap();
    assert_eq!(rows(&fixture.out().join("items.parquet"))[2], "3 | The Grey One | cold");
}
