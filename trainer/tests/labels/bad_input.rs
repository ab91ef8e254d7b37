//! What goes wrong with data and SQL is said, and leaves what was there.

use crate::fixture::{Fixture, rows};

/// The one change, and what the error must say.
fn says(file: &str, from: &str, to: &str, expected: &[&str]) {
    let fixture = Fixture::with(file, from, to);
    let error = fixture.labels().unwrap_err();
    for part in expected {
        assert!(error.contains(part), "{error}\nshould say: {part}");
    }
    assert!(!fixture.out().exists(), "a failed run leaves nothing");
}

#[test]
fn a_source_that_is_not_there() {
    says("pipeline.yaml", "path: log.csv", "path: lag.csv", &["source `log`, lag.csv: there is no such file"]);
    says("pipeline.yaml", "path: log.csv", "path: a/b/log.csv", &["source `log`, a/b/log.csv: cannot read folder"]);
    says("pipeline.yaml", "path: films-*", "path: series-*", &["source `films`", "no file matches `series-*.csv`"]);
    says(
        "pipeline.yaml",
        "path: log.csv",
        "path: sql",
        &["source `log`, sql: it is a folder; name its files by a glob"],
    );
}

#[test]
fn a_source_that_is_something_else() {
    let has = "the file has user_id, item, label, weight, event_time, split, query";
    says("pipeline.yaml", "from: item", "from: title", &["source `log`, log.csv: there is no column `title`", has]);
    says("films-2.csv", "item_id;title", "title;item_id", &["films-2.csv has columns title, item_id, kind, but"]);
    says("log.csv", "b,2,1,0.5,11,", "b,2,1,0.5,soon,", &["sql/split.sql: table `events`: ", "'soon'", "line"]);
    let fixture = Fixture::new();
    fixture.write("log.csv", "");
    assert!(fixture.labels().unwrap_err().contains("log.csv is empty; it needs a header line"));
    says(
        "pipeline.yaml",
        "path: log.csv\n    format: csv",
        "path: log.csv\n    format: parquet",
        &["source `log`, log.csv: ", "Parquet"],
    );
}

#[test]
fn sql_that_cannot_be_planned_has_its_place() {
    says("sql/find.sql", "  label,\n", "  lable,\n", &["sql/find.sql:5:3: ", "lable"]);
    says("sql/find.sql", "FROM events", "FORM events", &["sql/find.sql:10:6: ", "events"]);
    says("sql/find.sql", "FROM events", "FROM event", &["sql/find.sql:10:6: ", "event' not found"]);
    says("sql/find.sql", "array_agg(", "array_egg(", &["sql/find.sql", "array_egg"]);
    says("sql/users.sql", "FROM log\n", "FROM log; SELECT 1", &["sql/users.sql", "supports a single SQL statement"]);
    says(
        "sql/users.sql",
        "SELECT DISTINCT user_id FROM log",
        "DROP TABLE log",
        &["sql/users.sql", "DDL not supported"],
    );
}

#[test]
fn all_tasks_are_planned_before_any_is_said_to_be_wrong() {
    let fixture = Fixture::with("sql/find.sql", "  label,\n", "  lable,\n");
    fixture.write("sql/like.sql", "SELECT nothing FROM events");
    let error = fixture.check().unwrap_err();
    assert!(error.contains("sql/find.sql:5:3") && error.contains("sql/like.sql:1:8"), "{error}");
}

#[test]
fn columns_that_a_table_must_have() {
    says(
        "sql/find.sql",
        "  weight,\n",
        "",
        &["sql/find.sql: column `weight` (double) is missing; the result has query"],
    );
    says(
        "sql/find.sql",
        "  sequence\n",
        "  sequence AS chain\n",
        &["column `sequence` (varchar) is missing", "column `chain` is neither declared nor part of the table"],
    );
    says(
        "sql/find.sql",
        "  weight,\n",
        "  1 AS weight,\n",
        &["column `weight` is bigint, it must be double: write CAST(… AS double) AS weight"],
    );
    says(
        "sql/find.sql",
        "  query,\n",
        "  query AS querry,\n",
        &["column `querry` is neither declared nor part of the table; did you mean `query`?"],
    );
    says("sql/find.sql", "  query,\n", "  1.5 AS query,\n", &["column `query` is double, it must be varchar"]);
    says(
        "sql/items.sql",
        "kind FROM",
        "kind AS sort FROM",
        &["column `kind` (varchar) is missing", "`sort` is neither"],
    );
    says("sql/users.sql", "user_id FROM", "item_id FROM", &["column `user_id` (varchar) is missing"]);
    says("sql/split.sql", "label, event_time", "event_time", &["sql/split.sql: column `label` (double) is missing"]);
}

#[test]
fn a_row_that_breaks_the_contract() {
    let find = "sql/find.sql: table `find`, row";
    says("sql/find.sql", "  weight,\n", "  CAST('NaN' AS DOUBLE) AS weight,\n", &[find, "`weight` is NaN"]);
    says("log.csv", "b,2,1,0.5", "b,2,1,-0.5", &[find, " 5: `weight` is -0.5; it must be at least 0"]);
    says("sql/find.sql", "  weight,\n", "  NULL AS weight,\n", &[find, "`weight` is null"]);
    says(
        "log.csv",
        "b,2,1,0.5",
        "b,2,1.5,0.5",
        &["table `events`, row 5: `label` is 1.5 for item 2; it must be from 0"],
    );
    says("log.csv", "b,2,1,0.5", "b,2,,0.5", &["table `events`, row 5: `label` is null"]);
    says("log.csv", "b,2,1,0.5", "b,,1,0.5", &["table `events`, row 5: `item_id` is null"]);
    says("log.csv", "11,train", "11,training", &["`split` is training for item 2; it must be train, validation, test"]);
    says("log.csv", "0.5,11,", "0.5,,", &["`event_time` is null for item 2; it must be Unix seconds"]);
    says("log.csv", "b,2,1,0.5", "b,9,1,0.5", &[find, "`item_id` 9 is not in the catalogue; join with `items`"]);
    says("log.csv", "b,2,1,0.5", ",2,1,0.5", &["table `events`", "`sequence` is null"]);
    says("sql/like.sql", "CAST(40 AS REAL)", "CAST('inf' AS DOUBLE)", &["table `like`, row 1: `age` is inf"]);
    says(
        "sql/find.sql",
        "ORDER BY sequence, event_time, item_id\n",
        "ORDER BY sequence, event_time DESC, item_id\n",
        &[find, "2: `event_time` 20 comes after 30 in sequence a; end the SQL with ORDER BY sequence and time"],
    );
}

#[test]
fn a_text_may_have_a_mebibyte_and_no_more() {
    let text = |bytes: usize| Fixture::with("log.csv", "train,red\n", &format!("train,{}\n", "x".repeat(bytes)));
    let fixture = text(1 << 20);
    fixture.labels().unwrap();
    assert_eq!(rows(&fixture.out().join("tasks/find.parquet")).len(), 6);
    let error = text((1 << 20) + 1).labels().unwrap_err();
    assert!(error.contains("`query` has 1048577 bytes; a string may have 1048576, so cut it in SQL"), "{error}");
    let list = Fixture::with("sql/find.sql", "array_agg(item_id)", "array_agg(repeat(item_id, 2000000))");
    let error = list.labels().unwrap_err();
    assert!(error.contains("table `find`, row 2: `seen` has 2000000 bytes"), "{error}");
}

#[test]
fn a_table_that_cannot_be_trained_on() {
    let find = "sql/find.sql: table `find`: ";
    let none = "WHERE split <> 'train'\nORDER BY sequence, event_time, item_id\n";
    says("sql/find.sql", "ORDER BY sequence, event_time, item_id\n", none, &[find, "no row has split `train`"]);
    let none = "WHERE label < 0.5\nORDER BY sequence, event_time, item_id\n";
    says(
        "sql/find.sql",
        "ORDER BY sequence, event_time, item_id\n",
        none,
        &[find, "none of 2 rows of split `train` has a label of at least 0.5; there is nothing to learn from"],
    );
    says(
        "sql/like.sql",
        "e.label",
        "CAST(1 AS DOUBLE) AS label",
        &[
            "table `like`: all 4 rows of split `train` have a label of at least 0.5; loss bce needs labels below 0.5 too",
        ],
    );
}

#[test]
fn a_catalogue_that_is_none() {
    says(
        "films-2.csv",
        "3;",
        "1;",
        &["table `items`, row 2: `item_id` 1 is in row 1 already; item ids must be unique"],
    );
    says("films-2.csv", "3;", ";", &["table `items`", "`item_id` is null"]);
    let none = "FROM films WHERE title = 'none'";
    says("sql/items.sql", "FROM films", none, &["sql/items.sql: table `items`: the catalogue is empty"]);
    says("sql/users.sql", "DISTINCT ", "", &["table `users`, row 2: the key `user_id` a is there twice"]);
}

#[test]
fn an_element_that_no_task_selects() {
    says(
        "sql/find.sql",
        "  query,\n",
        "",
        &["pipeline.yaml:33:6: context[1].name: no task's SQL selects `query`; select it in one, or remove it here"],
    );
}

#[test]
fn memory_is_bounded_and_the_error_says_how_to_stay_within() {
    let fixture = Fixture::new();
    let many: String = (0..9).map(|i| format!("CROSS JOIN digits d{i} ")).collect();
    fixture.write(
        "sql/like.sql",
        &format!(
            "WITH digits AS (SELECT * FROM (VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9)) AS d (n)),
             long AS (SELECT repeat('x', 100000) AS text, d0.n + 10 * d1.n + 100 * d2.n AS n FROM digits d {many})
             SELECT e.sequence AS user_id, CAST(40 AS REAL) AS age, l.text AS shelf, e.item_id, e.label, e.weight,
               e.event_time, e.split FROM long l JOIN events e ON e.event_time = l.n"
        ),
    );
    let error = fixture.labels().unwrap_err();
    assert!(error.contains("put the short one first: FROM short JOIN long"), "{error}");
}

#[test]
fn a_failed_run_leaves_what_was_there_and_nothing_else() {
    let fixture = Fixture::new();
    fixture.labels().unwrap();
    let before = rows(&fixture.out().join("tasks/find.parquet"));
    let listed = || {
        let mut names: Vec<_> = fixture.path("").read_dir().unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let names = listed();
    // The last table fails when the others are written.
    fixture.write(
        "sql/like.sql",
        &std::fs::read_to_string(fixture.path("sql/like.sql")).unwrap().replace("e.weight", "-e.weight AS weight"),
    );
    assert!(fixture.labels().unwrap_err().contains("table `like`"));
    assert_eq!(rows(&fixture.out().join("tasks/find.parquet")), before);
    assert_eq!(listed(), names);
}

#[test]
fn a_folder_of_something_else_is_not_replaced() {
    let fixture = Fixture::new();
    std::fs::create_dir(fixture.out()).unwrap();
    fixture.write("labels/letter.txt", "dear");
    let error = fixture.labels().unwrap_err();
    assert!(error.contains("labels exists and holds no label tables; choose another folder, or remove it"), "{error}");
    assert!(fixture.path("labels/letter.txt").exists());
}
