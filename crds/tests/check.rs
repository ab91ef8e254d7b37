//! What is taken and what is refused, with line, field and what would be right.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use unimodel_crds::{Checked, Fallback, StaticList, UnifiedModel, Want, check};

/// An object with every field that a test changes. An API server takes it too.
const FULL: &str = include_str!("full.yaml");

fn read(text: &str) -> Result<Checked, String> {
    check(text, Path::new("um.yaml")).map_err(|error| error.to_string())
}

#[test]
fn a_full_object_is_understood() {
    let model = read(FULL).unwrap().model;
    assert_eq!((model.name.as_str(), model.store.as_str()), ("discovery", "s3://models/discovery"));
    assert_eq!(model.want, Want::Channel("stable".into()));
    let [notifications, search, cheap] = &model.tasks[..] else { panic!("{model:?}") };
    assert_eq!((notifications.head.as_str(), notifications.hardware.name.as_str()), ("notifications", "cpu"));
    assert_eq!((search.min_replicas, search.max_replicas), (2, 10));
    assert_eq!((search.inference.workers, cheap.inference.workers), (3, 1));
    assert_eq!(search.hardware.limits["nvidia.com/gpu"], "1");
    assert_eq!(search.timeout.default, Duration::from_millis(50));
    assert_eq!(search.refresh.load_timeout, Duration::from_secs(90));
    assert_eq!(search.fallback, [Fallback::Task("search-cpu".into()), Fallback::Static(StaticList::Popularity)]);
    assert_eq!(cheap.head, "search");
}

#[test]
fn the_smallest_object_has_defaults() {
    let text = "{apiVersion: unimodel.dev/v1alpha1, kind: UnifiedModel, metadata: {name: m}, \
                spec: {model: {source: {uri: 'file://./store'}}, tasks: [{name: a}]}}";
    let model = read(text).unwrap().model;
    assert_eq!(model.want, Want::Channel("stable".into()));
    let task = &model.tasks[0];
    assert_eq!((task.head.as_str(), task.min_replicas, task.max_replicas), ("a", 1, 1));
    assert_eq!(task.timeout.max, Duration::from_secs(2));
    assert_eq!((task.inference.max_concurrency, task.inference.max_candidates), (256, 10_000));
}

#[test]
fn the_sample_is_valid() {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/samples/movielens/unifiedmodel.yaml");
    let model = check(&std::fs::read_to_string(&sample).unwrap(), &sample).unwrap().model;
    assert_eq!(model.tasks.len(), 4);
    let environments = |f: fn(&unimodel_crds::Task) -> String| {
        let mut all: Vec<String> = model.tasks.iter().map(f).collect();
        all.sort();
        all.dedup();
        all.len()
    };
    assert_eq!(environments(|task| format!("{:?}", task.refresh)), 4, "each has its own time");
    assert_eq!(environments(|task| format!("{} {} {:?}", task.min_replicas, task.inference.workers, task.timeout)), 4);
}

#[test]
fn what_is_written_is_what_is_read_again() {
    let object = read(FULL).unwrap().object;
    let again: UnifiedModel = serde_json::from_value(serde_json::to_value(&object).unwrap()).unwrap();
    assert_eq!(again, object);
}

/// Text of [`FULL`], what stands there instead, and what is said: line, field and message.
const REFUSED: &[(&str, &str, &str)] = &[
    // Types, bounds and names.
    ("kind: UnifiedModel", "kind: Pipeline", "um.yaml:2:1: kind: is `Pipeline`; it must be `UnifiedModel`"),
    ("v1alpha1", "v2", "um.yaml:1:1: apiVersion: is `unimodel.dev/v2`"),
    ("name: discovery", "name: Discovery", "um.yaml:3:12: metadata.name: is `Discovery`"),
    (
        "    owner: growth",
        "    owners: growth",
        "um.yaml:16:5: spec.tasks[0].owners: is no field; there are cache, context",
    ),
    ("min: 1, max: 1", "min: 0, max: 1", "um.yaml:17:16: spec.tasks[0].replicas.min: is 0; it must be from 1 to 1000"),
    ("min: 1, max: 1", "min: one", "spec.tasks[0].replicas.min: is the text `one`; it must be a whole number"),
    (
        "device: Cuda",
        "device: Tpu",
        "um.yaml:10:5: spec.hardwareClasses[0].device: is `Tpu`; it must be one of Cpu, Cuda",
    ),
    (
        "static: Popularity",
        "static: Random",
        "spec.tasks[1].fallback[1].static: is `Random`; it must be one of Popularity",
    ),
    ("- {name: search-cpu, head: search}", "- {head: search}", "spec.tasks[2].name: is missing"),
    ("name: search-cpu,", "name: search,", "spec.tasks[2].name: `search` is the name of spec.tasks[1] already"),
    ("mirrorPercent: 1", "mirrorPercent: 101", "rollout.mirrorPercent: is 101; it must be from 0 to 100"),
    (
        "    owner: growth",
        "    owner: growth\n    owner: x",
        "um.yaml:17:5: spec.tasks[0].owner: is in line 16 already",
    ),
    // Rules in CEL.
    ("s3://models", "ftp://models", "um.yaml:6:14: spec.model.source.uri: give the URL of a store"),
    ("channel: stable", "channel: a/b", "um.yaml:7:5: spec.model.channel: a channel has letters"),
    ("    channel: stable", "    channel: stable\n    version: v1", "spec.model: give channel or version, not both"),
    ("    channel: stable", "    version: -v1", "spec.model.version: a version has letters"),
    ("  hardwareClasses:\n", "  hardwareClasses:\n  - name: cpu\n", "spec.hardwareClasses[0].name: `cpu` is built in"),
    ("  hardwareClasses:\n", "  hardwareClasses:\n  - name: L4\n", "spec.hardwareClasses[0].name: a name has a-z"),
    ("- name: notifications", "- name: Notifications", "um.yaml:15:5: spec.tasks[0].name: a name has a-z"),
    (
        "min: 2, max: 10",
        "min: 2, max: 1",
        "um.yaml:22:5: spec.tasks[1].replicas: replicas.max must be at least replicas.min",
    ),
    ("ttl: 30s", "ttl: 30", "spec.tasks[1].cache.ttl: is `30`"),
    ("ttl: 30s", "ttl: soon", "spec.tasks[1].cache.ttl: is `soon`; give a duration above zero"),
    ("ttl: 30s", "ttl: 0s", "spec.tasks[1].cache.ttl: is `0s`; give a duration above zero"),
    ("default: 50ms", "default: 1s", "spec.tasks[1].timeout: timeout.default must be at most timeout.max"),
    ("default: 50ms, max: 200ms", "default: 3s", "spec.tasks[1].timeout: timeout.default must be at most timeout.max"),
    ("'0 4 * * *'", "'0 4 * *'", "um.yaml:19:15: spec.tasks[0].refresh.schedule: `0 4 * *` is no cron line"),
    ("'0 4 * * *'", "'0 0 4 * * *'", "spec.tasks[0].refresh.schedule: a schedule has five fields"),
    (
        "schedule: '0 4 * * *', timeZone: America/Los_Angeles, jitter: 60s",
        "timeZone: UTC",
        "spec.tasks[0].refresh: refresh.timeZone says nothing without refresh.schedule",
    ),
    (
        "schedule: '0 4 * * *', timeZone: America/Los_Angeles, ",
        "",
        "spec.tasks[0].refresh: refresh.jitter says nothing",
    ),
    ("task: search-cpu", "task: search", "spec.tasks[1]: a task cannot fall back to itself"),
    ("{task: search-cpu}", "{}", "spec.tasks[1].fallback[0]: a step of a fallback is either task or static"),
    ("{task: search-cpu}", "{task: search-cpu, static: Popularity}", "spec.tasks[1].fallback[0]: a step of a fallback"),
    ("to: search-cpu", "to: search", "spec.tasks[1]: rollout.to is the task itself"),
    // What rules find, said more closely; and what they cannot see.
    (
        "hardwareClass: l4",
        "hardwareClass: l5",
        "um.yaml:21:5: spec.tasks[1].hardwareClass: is `l5`; a task's hardwareClass must be `cpu` or the name of one of spec.hardwareClasses: l4, cpu",
    ),
    (
        "task: search-cpu",
        "task: other",
        "spec.tasks[1].fallback[0].task: is `other`; a fallback's task must be the name of one of spec.tasks: notifications, search-cpu",
    ),
    (
        "to: search-cpu",
        "to: notifications",
        "spec.tasks[1].rollout.to: is `notifications`; rollout.to must be the name of one of spec.tasks that has the same head, `search`",
    ),
    ("'*/15 * * * *'", "'61 * * * *'", "spec.tasks[1].refresh.schedule: `61 * * * *` is no cron line"),
    ("'*/15 * * * *'", "'0 0 30 2 *'", "spec.tasks[1].refresh.schedule: `0 0 30 2 *` never comes"),
    ("America/Los_Angeles", "Mars/Base", "spec.tasks[0].refresh.timeZone: `Mars/Base` is no time zone"),
    (
        "required: [query]",
        "required: [query, country]",
        "spec.tasks[1].context.required[1]: `country` has a default too",
    ),
    ("required: [query]", "required: [query, query]", "spec.tasks[1].context.required[1]: `query` comes twice"),
    ("country: US", "country: {a: 1}", "spec.tasks[1].context.defaults.country: is {\"a\":1}; it must be a text"),
    ("{static: Popularity}]", "{task: search-cpu}]", "spec.tasks[1].fallback[1]: is the same as one before"),
];

#[test]
fn each_mistake_is_told_once_with_its_line_and_field() {
    let mut wrongly = Vec::new();
    for (right, wrong, said) in REFUSED {
        assert!(FULL.contains(right), "{right}");
        let found = read(&FULL.replacen(right, wrong, 1)).err().unwrap_or_default();
        if !found.contains(said) || found.contains("cannot be evaluated") || found.matches("um.yaml").count() != 1 {
            wrongly.push(format!("{right} -> {wrong}\n  expected: {said}\n  found:    {found}"));
        }
    }
    assert!(wrongly.is_empty(), "{}", wrongly.join("\n"));
}

#[test]
fn all_problems_are_told_at_once_in_order() {
    let text = FULL.replace("ttl: 30s", "ttl: soon").replace("hardwareClass: l4", "hardwareClass: l5");
    let found = read(&text).unwrap_err();
    let (class, ttl) = (found.find("hardwareClass").unwrap(), found.find("cache.ttl").unwrap());
    assert!(class < ttl, "{found}");
}

#[test]
fn what_is_no_yaml_is_told_with_its_line() {
    let found = read("apiVersion: unimodel.dev/v1alpha1\nspec: [").unwrap_err();
    assert!(found.starts_with("um.yaml:") && found.contains("not YAML"), "{found}");
    assert!(read("").unwrap_err().contains("apiVersion: is missing"));
}

#[test]
fn the_numbers_of_tasks_are_bounded() {
    let tasks = |count: usize| {
        let (head, _) = FULL.split_once("  tasks:").unwrap();
        let names: Vec<String> = (0..count).map(|i| format!("{{name: t{i}}}")).collect();
        read(&format!("{head}  tasks: [{}]\n", names.join(", ")))
    };
    assert!(tasks(64).is_ok());
    assert!(tasks(0).unwrap_err().contains("spec.tasks: has 0 entries; it must have at least 1"));
    assert!(tasks(65).unwrap_err().contains("spec.tasks: has 65 entries; it must have at most 64"));
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,60}", line in 0..32usize) {
        let mut lines: Vec<&str> = FULL.lines().collect();
        let line = line.min(lines.len() - 1);
        lines[line] = &text;
        let _ = read(&lines.join("\n"));
    }
}
