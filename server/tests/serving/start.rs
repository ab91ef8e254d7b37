//! From a file to answers, and what keeps a server from it.

use std::path::Path;

use serde_json::json;
use tokio::net::TcpListener;
use unimodel_server::config::ServerConfig;

use crate::fixture::Recipe;
use crate::process::{Server, Setup, all_items, command};
use crate::store::{Versions, spoil_golden};

#[tokio::test]
async fn a_started_server_ranks_by_rest_and_grpc() {
    let (store, version) = Versions::with_one().await;
    let server = Server::ready(Setup::new(store.url())).await;
    assert_eq!(server.admin("/livez").await, (200, "alive\n".into()));
    assert_eq!(server.admin("/readyz").await, (200, "ready\n".into()));

    let body = json!({ "context": { "query": "matrix" }, "candidates": { "ids": ["i3", "i5", "x"] }, "limit": 2 });
    let (status, answer) = server.rank("search", &body).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["modelVersion"], version.as_str());
    assert_eq!(answer["items"].as_array().unwrap().len(), 2);
    assert_eq!(answer["unknown"], json!(["x"]));

    let answer = server.grpc().await.rank(all_items("related")).await.unwrap().into_inner();
    assert_eq!((answer.items.ids.len(), answer.model_version), (5, version));
}

#[tokio::test]
async fn a_pinned_version_is_served_whatever_the_channel_names() {
    let (store, first) = Versions::with_one().await;
    let second = store.publish(2).await;
    store.promote(&second).await;
    let server = Server::ready(Setup { start: format!("version: {first}"), ..Setup::new(store.url()) }).await;
    assert_eq!(server.answering().await, first);
}

#[tokio::test]
async fn a_store_that_is_not_there_yet_is_waited_for() {
    let versions = Versions::new();
    let place = versions.root().join("later");
    let server = Server::start(Setup::new(format!("file://{}", place.display()))).await;
    let told = server.logged("channel `stable` cannot be served").await;
    assert_eq!(told["reason"], "ChannelNotFound");
    let (status, why) = server.admin("/readyz").await;
    assert_eq!(status, 503);
    assert!(why.contains("has no channel `stable`") && why.contains("later"), "{why}");
    assert_eq!(server.admin("/livez").await.0, 200);
    let (status, answer) = server.rank("search", &json!({ "candidates": { "all": true } })).await;
    assert_eq!(status, 503, "{answer}");
    assert!(answer["detail"].as_str().unwrap().contains("has no channel `stable`"), "{answer}");

    let (store, version) = Versions::with_one().await;
    std::fs::rename(store.root(), &place).unwrap();
    server.logged("active").await;
    assert_eq!(server.admin("/readyz").await.0, 200);
    assert_eq!(server.answering().await, version);
    // Once it serves, it needs the store no more.
    std::fs::remove_dir_all(&place).unwrap();
    assert_eq!(server.answering().await, version);
}

#[tokio::test]
async fn a_store_that_does_not_answer_is_said() {
    let version = "20260101T000000Z-00000001";
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let s3 = [
        ("AWS_ENDPOINT_URL", format!("http://{closed}")),
        ("AWS_ALLOW_HTTP", "true".into()),
        ("AWS_ACCESS_KEY_ID", "key".into()),
        ("AWS_SECRET_ACCESS_KEY", "secret".into()),
    ];
    for (url, environment) in [(format!("http://{closed}/models"), vec![]), ("s3://bucket/models".into(), s3.into())] {
        // By channel, and by name without a copy of it.
        for start in ["channel: stable".to_owned(), format!("version: {version}")] {
            let what = start.replace(": ", " `");
            let server = Server::start(Setup { start, environment: environment.clone(), ..Setup::new(&url) }).await;
            let told = server.logged(&format!("{what}` cannot be served")).await;
            assert_eq!(told["reason"], "StoreUnavailable", "{told}");
            let (status, why) = server.admin("/readyz").await;
            assert!(status == 503 && why.contains("(StoreUnavailable)") && why.contains(&url), "{why}");
            assert_eq!(server.admin("/livez").await.0, 200);
        }
    }
}

#[tokio::test]
async fn a_damaged_file_is_named_with_its_digests() {
    let (store, version) = Versions::with_one().await;
    store.damage(&version, "model.safetensors");
    let server = Server::start(Setup::new(store.url())).await;
    let told = server.logged("channel `stable` cannot be served").await;
    assert_eq!(told["reason"], "DigestMismatch");
    let (status, why) = server.admin("/readyz").await;
    assert_eq!(status, 503);
    assert!(why.contains("`model.safetensors` is damaged: expected") && why.contains("SHA-256"), "{why}");
    // A server that is not ready can be told to stop.
    let mut server = server;
    server.signal("TERM");
    assert!(server.exited().await.success());
}

#[tokio::test]
async fn scores_other_than_the_trainers_are_not_served() {
    let store = Versions::new();
    let version = store.publish_changed(&Recipe::default(), |dir| spoil_golden(dir, "h0")).await;
    store.promote(&version).await;
    let server = Server::start(Setup::new(store.url())).await;
    let told = server.logged("channel `stable` cannot be served").await;
    assert_eq!(told["reason"], "GoldenMismatch");
    let (status, why) = server.admin("/readyz").await;
    assert_eq!(status, 503);
    assert!(why.contains("golden/h0.jsonl line 3") && why.contains("the trainer got 12.5"), "{why}");

    server
        .until(async |server| {
            // Between two attempts.
            let state = server.state().await;
            assert_eq!(state["readiness"]["ready"], false);
            (state["others"][0]["failure"]["reason"] == "GoldenMismatch").then_some(())
        })
        .await;
    // A fixed version is served once the channel names it.
    let fixed = store.publish(2).await;
    store.promote(&fixed).await;
    server.logged("active").await;
    assert_eq!(server.answering().await, fixed);
}

#[tokio::test]
async fn a_head_that_the_version_lacks_leaves_the_others_alone() {
    let (store, _) = Versions::with_one().await;
    let tasks = "[{name: search, head: h0}, {name: new, head: h9}]".into();
    let server = Server::ready(Setup { tasks, ..Setup::new(store.url()) }).await;
    server.answering().await;
    let (status, answer) = server.rank("new", &json!({ "candidates": { "all": true } })).await;
    assert_eq!(status, 503, "{answer}");
    assert!(answer["detail"].as_str().unwrap().contains("has no head `h9`"), "{answer}");
    let state = server.state().await;
    let problem = |name: &str| {
        state["tasks"].as_array().unwrap().iter().find(|task| task["name"] == name).unwrap()["problem"].clone()
    };
    assert!(problem("new").as_str().unwrap().contains("h9"), "{state}");
    assert!(problem("search").is_null(), "{state}");

    let tasks = "[{name: new, head: h9}]".into();
    let server = Server::start(Setup { tasks, ..Setup::new(store.url()) }).await;
    assert_eq!(server.logged("channel `stable` cannot be served").await["reason"], "UnknownHead");
}

/// What the program prints when it does not start.
async fn refused(config: &str, arguments: &[&str]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("server.yaml");
    std::fs::write(&file, config).unwrap();
    let output = command().arg("--config").arg(&file).args(arguments).output().await.unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8(output.stderr).unwrap();
    let last = text.lines().last().unwrap_or_default();
    assert!(last.starts_with("error: "), "{text}");
    last.replace(&dir.path().display().to_string(), "DIR")
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let (store, _) = Versions::with_one().await;
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let setup = Setup::new(store.url());
    let text = setup.text(store.root());
    let error = refused(&text.replacen("listen: 127.0.0.1:0", &format!("listen: {address}"), 1), &[]).await;
    assert!(error.starts_with(&format!("error: cannot listen on {address}: ")), "{error}");
    let us = format!("(process {})", std::process::id());
    assert!(error.contains(&us) && error.ends_with("change `listen`"), "{error}");
    let admin = text.replacen("adminListen: 127.0.0.1:0", &format!("adminListen: {address}"), 1);
    let error = refused(&admin, &[]).await;
    assert!(error.contains("the operations port") && error.ends_with("change `adminListen`"), "{error}");
}

#[tokio::test]
async fn the_examples_of_a_file_are_ones() {
    let documented = include_str!("../../../docs/server.md");
    let (_, rest) = documented.split_once("## server.yaml\n\n```yaml\n").unwrap();
    let documented = rest.split_once("```").unwrap().0;
    let help = command().arg("--help").output().await.unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let (_, rest) = help.split_once("A server.yaml:\n").unwrap();
    let helped = rest.split_once("\n\n").unwrap().0.replace("\n  ", "\n");
    for (text, task) in [(documented, "search-cheap"), (helped.trim_start(), "search")] {
        let config =
            ServerConfig::parse(text, Path::new("server.yaml")).unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert_eq!(config.tasks.last().unwrap().name, task);
    }
}

#[tokio::test]
async fn a_file_is_checked_without_serving() {
    let (store, _) = Versions::with_one().await;
    let setup = Setup::new(store.url());
    let text = setup.text(store.root());
    let file = store.root().join("server.yaml");
    std::fs::write(&file, &text).unwrap();
    let output = command().arg("--config").arg(&file).arg("--check").output().await.unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && printed.contains("is valid: 2 tasks of channel `stable`"), "{printed}");

    let error = refused(&text.replace("head: h0", "haed: h0"), &["--check"]).await;
    assert!(error.starts_with("error: DIR/server.yaml: tasks[0]: unknown field `haed`"), "{error}");
    let error = refused(&format!("{text}device: cuda\n"), &["--check"]).await;
    assert!(error.starts_with("error: device `cuda` needs a build with the cargo feature `cuda`"), "{error}");
    let error = refused(&text.replace("file://", "ftp://"), &["--check"]).await;
    assert!(error.starts_with("error: store `ftp://"), "{error}");
    let control = "control: {tls: {certificate: /nowhere/tls.crt, key: /nowhere/tls.key, clientCa: /nowhere/ca.crt}}";
    let error = refused(&format!("{text}{control}\n"), &["--check"]).await;
    assert!(error.starts_with("error: control.tls: cannot read /nowhere/tls.crt: "), "{error}");
}
