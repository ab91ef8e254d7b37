//! Both answers of `unimodel advise`, end to end: what a genre's visitors choose is learned with the rest; a task whose
//! labels mean other films under the same ids is not.
#![allow(clippy::unwrap_used)]

mod place;

use place::{Place, succeeded};
use serde_json::Value;

/// What happens when a team joins whose ids come from another catalogue: the same queries, and under each id another
/// film than everyone else means.
fn other_ids(search: &str) -> String {
    let renamed = "
numbered AS (
  SELECT item_id, ROW_NUMBER() OVER (ORDER BY CAST(item_id AS BIGINT)) AS number, COUNT(*) OVER () AS films FROM movies
),
renamed AS (
  SELECT a.item_id, b.item_id AS other_id
  FROM numbered a
  JOIN numbered b ON b.number = 1 + (a.number * 83 + 41) % a.films
)
";
    let sql = search.replacen("\n)\nSELECT\n  CASE", &format!("\n),{renamed}SELECT\n  CASE"), 1);
    let sql = sql.replacen("  t.item_id,\n  t.label", "  r.other_id AS item_id,\n  t.label", 1);
    sql.replacen("\nORDER BY", "\nJOIN renamed r ON r.item_id = t.item_id\nORDER BY", 1)
}

const OTHER_IDS_TASK: &str = "
  - name: other-ids
    description: What was meant by a query, under the ids of another catalogue
    sql: sql/other-ids.sql
";

#[test]
fn a_task_whose_labels_contradict_the_rest_is_kept_separate_and_the_others_are_not() {
    let place = Place::new(400, 200, 20_000);
    place.edit_pipeline(|text| {
        // A larger network for longer, so that what is lost is lost to the contradiction; and no task that only costs time.
        let (from, to) = (text.find("\n  - name: related").unwrap(), text.find("\n  - name: search").unwrap());
        format!("{}{}", &text[..from], &text[to..])
            .replace("\n  - {name: source_item,", "\n  # {name: source_item,")
            .replace("\nmodel:", &format!("{OTHER_IDS_TASK}\nmodel:"))
            .replace("width: 16, hidden: 32", "width: 24, hidden: 48")
            .replace("textBuckets: 512, textWidth: 16", "textBuckets: 1024, textWidth: 48")
            .replace("steps: 40, batch: 64, validateEvery: 5", "steps: 300, batch: 128, validateEvery: 50")
    });
    let search = std::fs::read_to_string(place.path("data/sql/search.sql")).unwrap();
    std::fs::write(place.path("data/sql/other-ids.sql"), other_ids(&search)).unwrap();

    let trained =
        place.command(&["train", "-f", "data/pipeline.yaml", "--store", "store", "--output", "json"]).output();
    let version = succeeded(&trained.unwrap())["version"].as_str().unwrap().to_owned();
    let advised = place.command(&["advise", "--store", "store", "--version", &version, "--output", "json"]).output();
    let advice = succeeded(&advised.unwrap());
    let decision = |name: &str| -> &Value {
        let tasks = advice["tasks"].as_array().unwrap();
        &tasks.iter().find(|task| task["task"] == name).unwrap()["decision"]
    };
    assert_eq!(decision("other-ids"), "keepSeparate", "{advice:#}");
    assert_eq!(decision("category"), "consolidate", "{advice:#}");
}
