//! What is wrong in a routes file is said with its path, what is there and what would be right; and the documents of the
//! repository are right.

#![allow(clippy::unwrap_used)]

use unimodel_gateway::routes::{self, Routes, RoutesError};

const FILE: &str = "\
apiVersion: unimodel.dev/v1alpha1
kind: Routes
versions:
- name: v7
  dataTime: 1998-04-23T00:10:38Z
  items: 1682
  context: [{name: query, type: text}]
  popularity: {all: ['50', '100'], by: {genres: {Comedy: ['100']}}}
- name: v8
  dataTime: 1998-04-23T00:10:38Z
  items: 1682
tasks:
- name: search
  version: v7
  required: [query]
  timeout: {default: 50ms, max: 200ms}
  endpoints:
  - {address: '10.0.0.1:8080', weight: 2}
  - {address: '[::1]:8080'}
  fallback: [{task: search-cpu}, {static: Popularity}]
  canary: {percent: 5, endpoints: [{address: 'canary.example:80'}]}
  hedging: {minDelay: 5ms}
- name: search-cpu
  version: v8
  maxConcurrency: 16
...
";

fn parse(text: &str) -> Result<Routes, RoutesError> {
    routes::parse("routes.yaml", text)
}

/// The one change, and the whole error.
fn says(from: &str, to: &str, expected: &str) {
    assert!(FILE.contains(from), "{from}");
    assert_eq!(parse(&FILE.replacen(from, to, 1)).unwrap_err().to_string(), format!("routes.yaml: {expected}"));
}

#[test]
fn the_file_is_right_in_both_forms_and_after_a_journey() {
    let routes = parse(FILE).unwrap();
    assert_eq!((routes.tasks.len(), routes.tasks[1].queue_depth), (2, 256));
    let json = serde_json::to_string(&routes).unwrap();
    assert_eq!(parse(&json).unwrap(), routes);
    let yaml = serde_yaml::to_string(&routes).unwrap();
    assert_eq!(parse(&(yaml + "...\n")).unwrap(), routes);
}

#[test]
fn a_file_cut_off_anywhere_is_refused() {
    for end in 0..FILE.trim_end().len() {
        assert!(parse(&FILE[..end]).is_err(), "{}", &FILE[..end]);
    }
    let json = serde_json::to_string(&parse(FILE).unwrap()).unwrap();
    for end in 0..json.len() {
        assert!(parse(&json[..end]).is_err(), "{}", &json[..end]);
    }
}

#[test]
fn form_is_checked_with_its_place() {
    says(
        "maxConcurrency: 16",
        "maxConcurency: 16",
        "tasks[1]: unknown field `maxConcurency`, expected one of `name`, `head`, `version`, `required`, \
         `maxCandidates`, `timeout`, `maxConcurrency`, `queueDepth`, `endpoints`, `service`, `fallback`, `canary`, `mirror`, \
         `hedging` at line 25 column 3",
    );
    says(
        "max: 200ms",
        "max: soon",
        "tasks[0].timeout.max: invalid value: string \"soon\", expected a duration such as 50ms at line 16 column 33",
    );
    says(
        "maxConcurrency: 16",
        "maxConcurrency: -1",
        "tasks[1].maxConcurrency: invalid type: integer `-1`, expected a whole number, 0 or more at line 25 column 19",
    );
    says(
        "static: Popularity",
        "static: Newest",
        "tasks[0].fallback[1].static: unknown variant `Newest`, expected `Popularity` at line 20 column 43",
    );
    says("kind: Routes", "kind: Pipeline", "kind: is `Pipeline`; it must be `Routes`");
}

#[test]
fn sense_is_checked_with_its_path() {
    says(
        "- name: search-cpu",
        "- name: search",
        "tasks[1].name: `search` is the name of tasks[0] already; give it another; routes.yaml: tasks[0].fallback[0].task: is `search-cpu`; it must be one of `tasks`: there is none",
    );
    says(
        "- name: v8",
        "- name: v7",
        "versions[1].name: `v7` is the name of versions[0] already; give it another; routes.yaml: tasks[1].version: is `v8`; it must be one of `versions`: v7",
    );
    says("version: v8", "version: v9", "tasks[1].version: is `v9`; it must be one of `versions`: v7, v8");
    says(
        "name: search\n",
        "name: Search!\n",
        "tasks[0].name: is `Search!`; it must be 1 to 63 of a-z, 0-9 and `-`, with no `-` at either end",
    );
    says(
        "required: [query]",
        "required: [genre]",
        "tasks[0].required[0]: is `genre`; it must be a context element of v7",
    );
    says(
        "default: 50ms",
        "default: 500ms",
        "tasks[0].timeout.default: is 0.500s; it must be at most timeout.max, 0.200s",
    );
    says("default: 50ms", "default: 0s", "tasks[0].timeout.default: is 0; it must be above 0");
    says("maxConcurrency: 16", "maxConcurrency: 0", "tasks[1].maxConcurrency: is 0; it must be at least 1");
    says(
        "10.0.0.1:8080",
        "10.0.0.1",
        "tasks[0].endpoints[0].address: is `10.0.0.1`; it must be host:port, such as 10.0.0.7:8080",
    );
    says(
        "[::1]:8080",
        "10.0.0.1:8080",
        "tasks[0].endpoints[1].address: `10.0.0.1:8080` is that of tasks[0].endpoints[0] already; remove one",
    );
    says("weight: 2", "weight: 0", "tasks[0].endpoints[0].weight: is 0; it must be above 0 and at most 1000");
    says(
        "{task: search-cpu}",
        "{task: search}",
        "tasks[0].fallback[0].task: is `search`, the task itself; name another",
    );
    says(
        "{task: search-cpu}",
        "{task: serach}",
        "tasks[0].fallback[0].task: is `serach`; it must be one of `tasks`: search-cpu",
    );
    says("{task: search-cpu}", "{}", "tasks[0].fallback[0]: must have exactly one of `task` and `static`");
    says("{task: search-cpu}", "{static: Popularity}", "tasks[0].fallback[1]: is the same as one before; remove it");
    says(
        "version: v7",
        "version: v8",
        "tasks[0].fallback[1].static: needs the lists of a version, and v8 has no `popularity`",
    );
    says("percent: 5", "percent: 101", "tasks[0].canary.percent: is 101; it must be from 0 to 100");
    says("[{address: 'canary.example:80'}]", "[]", "tasks[0].canary.endpoints: is empty; 5 % must go somewhere");
    says("['50', '100']", "['50', '50']", "versions[0].popularity.all: has `50` twice; remove one of them");
}

/// A document that is made from the types. `UNIMODEL_WRITE_SCHEMA=1` writes it.
#[test]
fn schema_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/routes.schema.json");
    let made = routes::json_schema();
    if std::env::var_os("UNIMODEL_WRITE_SCHEMA").is_some() {
        std::fs::write(path, &made).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap(), made, "run `make generate`");
}

#[test]
fn the_reference_shows_a_file_that_is_right() {
    let document = include_str!("../../docs/gateway.md");
    let (_, file) = document.split_once("```yaml\n").unwrap();
    let (file, _) = file.split_once("```").unwrap();
    parse(file).unwrap();
}
