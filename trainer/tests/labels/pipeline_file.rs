//! What is wrong in a pipeline file is said with its line, its key, what is there and what would be right.

use unimodel_trainer::pipeline::json_schema;

use crate::fixture::Fixture;

/// The one change, and the whole error.
fn says(from: &str, to: &str, expected: &str) {
    let error = Fixture::with("pipeline.yaml", from, to).load().unwrap_err();
    assert_eq!(error, expected);
}

#[test]
fn the_small_pipeline_is_right() {
    let loaded = Fixture::new().load().unwrap();
    assert_eq!(loaded.pipeline.tasks.len(), 2);
    assert!(loaded.sql["sql/find.sql"].starts_with("SELECT"));
}

#[test]
fn the_file_as_a_whole() {
    let fixture = Fixture::new();
    std::fs::remove_file(fixture.path("pipeline.yaml")).unwrap();
    assert!(fixture.load().unwrap_err().starts_with("cannot read pipeline file pipeline.yaml: "));
    let error = Fixture::with("pipeline.yaml", "metadata: {name: small}", "metadata: {name: small").load().unwrap_err();
    assert!(error.starts_with("pipeline.yaml:4:") && error.contains("not YAML"), "{error}");
    says(
        "kind: Pipeline\n",
        "kind: UnifiedModel\n",
        "pipeline.yaml:2:1: kind: is `UnifiedModel`; it must be `Pipeline`",
    );
    says("v1alpha1", "v1", "pipeline.yaml:1:1: apiVersion: is `unimodel.dev/v1`; it must be `unimodel.dev/v1alpha1`");
    says("kind: Pipeline\n", "", "pipeline.yaml:1:1: kind: is missing; it must be `Pipeline`");
    says("  films:\n", "  log:\n", "pipeline.yaml:16:3: sources.log: is in line 5 already; remove one of them");
}

#[test]
fn fields_and_types() {
    says(
        "    weight: 2\n",
        "    wieght: 2\n",
        "pipeline.yaml:40:5: tasks[0].wieght: unknown field `wieght`, expected one of `name`, `description`, `sql`, \
         `weight`, `loss`, `augmentation`, `evaluation`; did you mean `weight`?",
    );
    says(
        "    weight: 2\n",
        "    weight: heavy\n",
        "pipeline.yaml:40:5: tasks[0].weight: invalid type: string \"heavy\", expected a number",
    );
    says(
        "maxLength: 10",
        "maxLength: -10",
        "pipeline.yaml:35:57: context[3].maxLength: invalid type: integer `-10`, expected a whole number, 0 or more",
    );
    says(
        "      type: softmax\n",
        "      type: sotfmax\n",
        concat!(
            "pipeline.yaml:42:7: tasks[0].loss.type: unknown variant `sotfmax`, expected one of `softmax`, ",
            "`sampledSoftmax`, `bce`; did you mean `softmax`?",
        ),
    );
    says(
        "softTargets: {decay: 2, window: 3}",
        "softTargts: {decay: 2, window: 3}",
        concat!(
            "pipeline.yaml:43:7: tasks[0].loss.softTargts: unknown field `softTargts`, expected `softTargets`; ",
            "did you mean `softTargets`?",
        ),
    );
    says(
        "type: id, default: null",
        "type: ids, default: null",
        concat!(
            "pipeline.yaml:32:21: context[0].type: unknown variant `ids`, expected one of `id`, `number`, `category`, ",
            "`text`, `list<id>`; did you mean `id`?",
        ),
    );
    says(
        "query, type: text, default: \"\"",
        "query, type: text",
        "pipeline.yaml:33:5: context[1]: missing field `default`",
    );
    says(
        "age, type: number, default: null",
        "age, type: number, default: true",
        "pipeline.yaml:34:31: context[2].default: expected null, a number, a string or a list of strings",
    );
}

#[test]
fn names() {
    says(
        "metadata: {name: small}",
        "metadata: {name: Small}",
        "pipeline.yaml:3:12: metadata.name: is `Small`; it must be 1 to 63 of a-z, 0-9 and `-`, with no `-` at either end",
    );
    says(
        "  films:\n",
        "  items:\n",
        "pipeline.yaml:16:3: sources.items: `items` is the view that a SQL file gives; name the source otherwise",
    );
    says(
        "  films:\n",
        "  Films:\n",
        "pipeline.yaml:16:3: sources.Films: is `Films`; it must be a-z, 0-9 and `_`, not beginning with a digit",
    );
    says(
        "  - name: like",
        "  - name: find",
        "pipeline.yaml:46:5: tasks[1].name: `find` is there already, in line 38; names must be unique",
    );
    says(
        "{name: shelf,",
        "{name: age,",
        "pipeline.yaml:36:6: context[4].name: `age` is there already, in line 34; names must be unique; pipeline.yaml:45:44: tasks[0].evaluation.within.kind: `shelf` is not a context element; known are user_id, query, age, seen, age",
    );
}

#[test]
fn sources() {
    let delimiter = |found: &str| {
        format!(
            "pipeline.yaml:19:5: sources.films.delimiter: is `{found}`; it must be one ASCII character, such as `,` or `\\t`"
        )
    };
    says("delimiter: ;", "delimiter: ;;", &delimiter(";;"));
    says("delimiter: ;", "delimiter: \"\"", &delimiter(""));
    says("delimiter: ;", "delimiter: ö", &delimiter("ö"));
    says(
        "path: log.csv",
        "path: ftp://host/log.csv",
        concat!(
            "pipeline.yaml:6:5: sources.log.path: is a `ftp://` URL; it must be a path or an s3://, gs://, az:// or ",
            "https:// URL",
        ),
    );
    says(
        "path: films-*.csv",
        "path: \"*/films.csv\"",
        concat!(
            "pipeline.yaml:17:5: sources.films.path: `*/films.csv` has a glob before its last segment, the only one that ",
            "may be one",
        ),
    );
    says(
        "path: films-*.csv",
        "path: https://host/films-*.csv",
        "pipeline.yaml:17:5: sources.films.path: `https://host/films-*.csv` has a glob, but a web server has no listing",
    );
    says(
        "{sql: sql/split.sql}",
        "{sql: sql/spilt.sql}",
        concat!(
            "pipeline.yaml:24:9: split.sql: cannot read `sql/spilt.sql`: No such file or directory (os error 2); the path ",
            "is relative to the pipeline file, here sql/spilt.sql",
        ),
    );
}

#[test]
fn context_elements() {
    says(
        "name: age, type: number, default: null",
        "name: age, type: number, default: \"40\"",
        concat!(
            "pipeline.yaml:34:31: context[2].default: context element `age` takes number, got a string; the default must ",
            "have the element's type or be null",
        ),
    );
    says(
        "name: user_id, type: id",
        "name: label, type: id",
        concat!(
            "pipeline.yaml:30:29: users.key: `user_id` is not a context element; known are label, query, age, seen, shelf; ",
            "pipeline.yaml:32:6: context[0].name: `label` is a column of the label table; name the element otherwise",
        ),
    );
    says(
        "query, type: text, default: \"\"",
        "query, type: text, default: \"\", dropout: 2",
        "pipeline.yaml:33:44: context[1].dropout: is 2; it must be from 0 to 1",
    );
    says(
        "shelf, type: category",
        "shelf, of: item, type: category",
        "pipeline.yaml:36:19: context[4].of: is `item`, but a category identifies nothing; only id and list<id> do",
    );
    says("maxLength: 10", "maxLength: 0", "pipeline.yaml:35:57: context[3].maxLength: is 0; it must be at least 1");
    says(
        "age, type: number, default: null",
        "age, type: number, default: null, maxLength: 3",
        "pipeline.yaml:34:46: context[2].maxLength: is for list<id> alone, and `age` is a number; remove it",
    );
    says(
        "name: kind, type: category",
        "name: title, type: category",
        concat!(
            "pipeline.yaml:29:8: items.attributes[1].name: `title` is there already, in line 28; names must be unique; ",
            "pipeline.yaml:45:44: tasks[0].evaluation.within.kind: `kind` is not an item attribute; known are title, title",
        ),
    );
}

#[test]
fn tasks() {
    says("weight: 2", "weight: 0", "pipeline.yaml:40:5: tasks[0].weight: is 0; it must be above 0 and finite");
    says(
        "window: 3",
        "window: 0",
        "pipeline.yaml:43:31: tasks[0].loss.softTargets.window: is 0; it must be at least 1",
    );
    says("typos: 0.5", "typos: 5", "pipeline.yaml:44:36: tasks[0].augmentation.typos: is 5; it must be from 0 to 1");
    says(
        "augmentation: {element: query,",
        "augmentation: {element: qery,",
        concat!(
            "pipeline.yaml:44:20: tasks[0].augmentation.element: `qery` is not a context element; known are user_id, query, ",
            "age, seen, shelf; did you mean `query`?",
        ),
    );
    says(
        "augmentation: {element: query,",
        "augmentation: {element: age,",
        "pipeline.yaml:44:20: tasks[0].augmentation.element: is `age`, a number; it must be an element of type text",
    );
    says(
        "augmentation: {element: query, typos",
        "augmentation: {typos",
        "pipeline.yaml:44:20: tasks[0].augmentation.typos: has nothing to vary; name the text `element`",
    );
    says(
        "exclude: [seen]",
        "exclude: [shelf]",
        concat!(
            "pipeline.yaml:45:28: tasks[0].evaluation.exclude[0]: is `shelf`, a category; it must be an id or list<id> with ",
            "`of: item`",
        ),
    );
    says(
        "within: {kind: shelf}",
        "within: {title: shelf}",
        concat!(
            "pipeline.yaml:45:44: tasks[0].evaluation.within.title: is about `title`, a text; it must be about a category or ",
            "list<category>",
        ),
    );
    says(
        "within: {kind: shelf}",
        "within: {kind: query}",
        "pipeline.yaml:45:44: tasks[0].evaluation.within.kind: is `query`, a text; it must be an element of type category",
    );
    says(
        "misspell: query",
        "misspell: seen",
        concat!(
            "pipeline.yaml:45:58: tasks[0].evaluation.misspell: is `seen`, a list<id> of items; it must be an element of ",
            "type text",
        ),
    );
    says(
        "misspell: query",
        "baselines: [{type: ease, lambda: 0, decay: 2}, {type: substring}]",
        concat!(
            "pipeline.yaml:45:83: tasks[0].evaluation.baselines[0].lambda: is 0; it must be above 0 and finite; ",
            "pipeline.yaml:45:94: tasks[0].evaluation.baselines[0].decay: is 2; it must be above 0 and at most 1",
        ),
    );
    says(
        "key: user_id",
        "key: shelf",
        "pipeline.yaml:30:29: users.key: `shelf` is a category; it must be an id, and not of an item",
    );
}

#[test]
fn sizes() {
    let sizes = "model: {width: 0, historyDecay: [], dropout: 1, linear: {width: 0, decay: 0}, ranker: {hidden: [], candidates: 0}}\n\
                 training: {steps: 0, learningRate: .nan, average: 1, patience: 0}\ntasks:\n";
    let error = Fixture::with("pipeline.yaml", "tasks:\n", sizes).load().unwrap_err();
    let problems: Vec<&str> = error.split("; pipeline.yaml:").map(|p| p.split_once(": ").unwrap().1).collect();
    assert_eq!(
        problems,
        [
            "model.width: is 0; it must be at least 1",
            "model.historyDecay: is empty; it must have one rate at least, such as 0.1",
            "model.dropout: is 1; it must be from 0 to below 1",
            "model.linear.width: is 0; it must be at least 1",
            "model.linear.decay: is 0; it must be above 0 and finite",
            "model.ranker.hidden: is empty; it must have the width of one layer at least",
            "model.ranker.candidates: is 0; it must be at least 1",
            "training.steps: is 0; it must be at least 1",
            "training.learningRate: is NaN; it must be above 0 and finite",
            "training.average: is 1; it must be from 0 to below 1",
            "training.patience: is 0; it must be at least 1",
        ]
    );
}

#[test]
fn the_published_schema_is_the_one_of_the_types() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/pipeline.schema.json");
    if std::env::var_os("UNIMODEL_WRITE_SCHEMA").is_some() {
        std::fs::write(path, json_schema()).unwrap();
    }
    let published = std::fs::read_to_string(path).unwrap_or_default();
    assert!(published == json_schema(), "docs/pipeline.schema.json is stale: run `make generate`");
}
