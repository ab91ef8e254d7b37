//! Metrics as Prometheus reads them, and the state as people do.

use std::collections::BTreeMap;

use serde_json::json;

use crate::process::{Server, Setup};
use crate::store::Versions;

/// The samples of an OpenMetrics text by series, after a check of its form: see the OpenMetrics 1.0 specification,
/// "Text format".
fn samples(text: &str) -> BTreeMap<String, f64> {
    let mut types: BTreeMap<&str, &str> = BTreeMap::new();
    let mut samples = BTreeMap::new();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.last(), Some(&"# EOF"), "{text}");
    for line in &lines[..lines.len() - 1] {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            let (keyword, name, rest) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap_or(""));
            assert!(["HELP", "TYPE", "UNIT"].contains(&keyword), "{line}");
            if keyword == "TYPE" {
                assert!(types.insert(name, rest).is_none(), "twice: {line}");
            }
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        let name = series.split('{').next().unwrap();
        assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b':'), "{line}");
        let family = types.iter().find(|(family, kind)| {
            let suffixes: &[&str] = match **kind {
                "counter" => &["_total"],
                "histogram" => &["_bucket", "_sum", "_count"],
                "gauge" => &[""],
                kind => panic!("{kind}"),
            };
            suffixes.iter().any(|suffix| name == format!("{family}{suffix}"))
        });
        assert!(family.is_some(), "of no family: {line}");
        if let Some(labels) = series.strip_prefix(name).filter(|labels| !labels.is_empty()) {
            assert!(labels.starts_with('{') && labels.ends_with("\"}"), "{line}");
        }
        assert!(samples.insert(series.to_owned(), value.parse().unwrap()).is_none(), "twice: {line}");
    }
    samples
}

#[tokio::test]
async fn metrics_tell_what_was_served() {
    let (store, version) = Versions::with_one().await;
    let server = Server::ready(Setup::new(store.url())).await;
    for _ in 0..3 {
        server.answering().await;
    }
    let (status, _) =
        server.rank("search", &json!({ "context": { "qeury": "x" }, "candidates": { "all": true } })).await;
    assert_eq!(status, 400);
    let (status, _) = server.rank("nowhere", &json!({ "candidates": { "all": true } })).await;
    assert_eq!(status, 404);

    let (status, text) = server.admin("/metrics").await;
    assert_eq!(status, 200);
    let samples = samples(&text);
    let of = |series: &str| *samples.get(series).unwrap_or_else(|| panic!("no {series} in\n{text}"));
    assert_eq!(of("unimodel_requests_total{task=\"search\",protocol=\"rest\"}"), 4.0);
    let reason = "unimodel_request_errors_total{task=\"search\",protocol=\"rest\",reason=\"unknown-element\"}";
    assert_eq!(of(reason), 1.0);
    assert_eq!(of("unimodel_request_duration_seconds_count{task=\"search\"}"), 4.0);
    assert_eq!(of("unimodel_in_flight{task=\"search\"}"), 0.0);
    assert_eq!(of("unimodel_queue_depth"), 0.0);
    for stage in ["encode", "queue", "compute", "serialise"] {
        assert_eq!(of(&format!("unimodel_stage_duration_seconds_count{{task=\"search\",stage=\"{stage}\"}}")), 3.0);
    }
    assert_eq!(of("unimodel_rows_total{task=\"search\"}"), 900.0);
    assert_eq!(of("unimodel_reloads_total{result=\"activated\"}"), 1.0);
    let active: Vec<&String> = samples.keys().filter(|series| series.contains(&version)).collect();
    assert_eq!(active.len(), 1, "{active:?}");
    let data_time = samples.iter().find(|(series, _)| series.contains("data_time") && series.ends_with("seconds"));
    assert_eq!(data_time.map(|(_, value)| *value), Some(1_795_478_400.0), "2026-11-24T00:00:00Z: {text}");
    assert!(of("process_resident_memory_bytes") > 1e6);
    assert!(of("process_cpu_seconds_total") > 0.0);
    assert!(of("process_start_time_seconds") > 1e9);
    assert!(of("process_open_fds") > 5.0);
}

#[tokio::test]
async fn the_state_shows_what_is_in_effect() {
    let (store, version) = Versions::with_one().await;
    let server = Server::ready(Setup { more: "grace: 7s".into(), ..Setup::new(store.url()) }).await;
    let state = server.state().await;
    assert_eq!(state["active"]["version"], version.as_str());
    assert_eq!(state["active"]["phase"], "active");
    assert_eq!(state["active"]["checks"].as_array().unwrap().len(), 2, "one per head that is served");
    assert_eq!(state["config"]["grace"], "7s");
    assert_eq!(state["config"]["channel"], "stable");
    assert_eq!(state["threads"]["workers"], 1);
    assert_eq!(state["readiness"], json!({ "ready": true }));
    assert_eq!(state["queue"], json!({ "requests": 0, "rows": 0 }));
    assert!(
        ["portable", "avx2", "avx512"].iter().any(|isa| state["kernels"].as_str().unwrap().contains(isa)),
        "{state}"
    );
    assert_eq!(server.admin("/nowhere").await.0, 404);
}
