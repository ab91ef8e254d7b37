//! Whether a version scores as its trainer did.

use unimodel_model::bundle::files;
use unimodel_server::compute::kernels::{Isa, Kernels};
use unimodel_server::runtime::LoadError;

use crate::fixture::{Fixture, Recipe};

const ALL: [&str; 3] = ["h0", "h1", "h2"];

#[test]
fn every_head_scores_as_plain_candle_on_every_instruction_set() {
    for recipe in [Recipe::default(), Recipe::ranked(), Recipe { profiles: false, ..Recipe::default() }] {
        let fixture = Fixture::new(&recipe);
        for kernels in Isa::ALL.into_iter().filter_map(Kernels::of) {
            let version = fixture.open(kernels);
            let checks = version.check(&ALL).unwrap();
            assert_eq!(checks.iter().map(|check| &*check.head).collect::<Vec<_>>(), ALL);
            for check in checks {
                assert_eq!(check.requests, 8);
                assert!(check.largest_difference <= check.tolerance, "{check:?}");
                assert!(check.latency_p99.is_some());
            }
        }
    }
}

/// Replaces a head's golden file.
fn with_golden(text: &str) -> LoadError {
    let fixture = Fixture::new(&Recipe::default());
    std::fs::write(fixture.dir.path().join(files::GOLDEN).join("h1.jsonl"), text).unwrap();
    fixture.sign();
    let version = fixture.load();
    assert!(version.check(&["h0", "h2"]).is_ok(), "the other heads are as they were");
    version.check(&ALL).unwrap_err()
}

#[test]
fn a_score_that_differs_is_named() {
    let golden = std::fs::read_to_string(Fixture::new(&Recipe::default()).dir.path().join("golden/h1.jsonl")).unwrap();
    let mut lines: Vec<serde_json::Value> = golden.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let score = lines[4]["scores"][7].as_f64().unwrap();
    lines[4]["scores"][7] = (score + 0.5).into();
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let error = with_golden(&text);
    let LoadError::Parity { head, line, item, expected, got, .. } = &error else { panic!("{error}") };
    assert_eq!((head.as_str(), *line, item.as_str()), ("h1", 5, lines[4]["candidates"][7].as_str().unwrap()));
    assert!((expected - got - 0.5).abs() < 1e-2);
    assert!(error.to_string().starts_with("head `h1`, golden/h1.jsonl line 5: item `"), "{error}");
}

#[test]
fn a_golden_file_that_cannot_be_used_is_an_error() {
    let problem = |text: &str| with_golden(text).to_string();
    assert!(problem("{}\n").contains("golden/h1.jsonl: line 1: missing field `context`"));
    let line = r#"{"context": {}, "candidates": ["i1"], "scores": []}"#;
    assert!(problem(line).contains("line 1: 1 candidates and 0 scores"));
    let line = r#"{"context": {}, "candidates": ["nothing"], "scores": [1.0]}"#;
    assert!(problem(line).contains("line 1: candidate `nothing` is not in items.parquet"));
    let line = r#"{"context": {"coutry": "x"}, "candidates": ["i1"], "scores": [1.0]}"#;
    assert!(problem(line).contains("did you mean `country`?"));
}

#[test]
fn a_missing_golden_file_and_a_missing_head_are_errors() {
    let fixture = Fixture::new(&Recipe::default());
    std::fs::remove_file(fixture.dir.path().join("golden/h1.jsonl")).unwrap();
    fixture.sign();
    let version = fixture.load();
    assert!(matches!(version.check(&["h1"]), Err(LoadError::Golden { path, .. }) if path.ends_with("golden/h1.jsonl")));
    let error = version.check(&["h9"]).unwrap_err().to_string();
    assert!(error.ends_with("has no head `h9`; it has h0, h1, h2"), "{error}");
}
