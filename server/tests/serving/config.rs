//! The file changes while the server runs.

use serde_json::{Value as Json, json};

use crate::process::{Server, Setup, http};
use crate::store::Versions;

async fn timeout_of(server: &Server, task: &str) -> Json {
    let (status, body) = http(server.data, "GET", "/v1/tasks", "").await;
    assert_eq!(status, 200, "{body}");
    let body: Json = serde_json::from_str(&body).unwrap();
    let task = body["tasks"].as_array().unwrap().iter().find(|found| found["name"] == task);
    task.map_or(Json::Null, |task| task["timeout"]["default"].clone())
}

fn edit(server: &Server, from: &str, to: &str) {
    let text = std::fs::read_to_string(server.file()).unwrap();
    assert!(text.contains(from), "{text}");
    // At once, as a ConfigMap changes.
    let new = server.dir.path().join("new.yaml");
    std::fs::write(&new, text.replace(from, to)).unwrap();
    std::fs::rename(new, server.file()).unwrap();
}

#[tokio::test]
async fn tasks_change_without_a_restart_and_a_bad_file_changes_nothing() {
    let (store, version) = Versions::with_one().await;
    let server = Server::ready(Setup::new(store.url())).await;
    assert_eq!(timeout_of(&server, "search").await, "60s");

    edit(&server, "default: 60s", "default: 40s");
    server.logged_times("tasks of", 1).await;
    assert_eq!(timeout_of(&server, "search").await, "40s");
    assert_eq!(server.state().await["config"]["tasks"][0]["timeout"]["default"], "40s");

    edit(&server, "default: 40s", "default: 90s");
    let told = server.logged("the configuration changed but cannot be used").await;
    let told = told["message"].as_str().unwrap();
    assert!(told.contains("tasks[0].timeout.default: 90s is above `timeout.max`, 60s"), "{told}");
    assert_eq!(timeout_of(&server, "search").await, "40s");
    assert_eq!(server.metric("unimodel_config_reloads_total{result=\"refused\"}").await, 1.0);

    // A new task, of a head that was not asked for until now.
    edit(&server, "default: 90s", "default: 30s");
    server.logged_times("tasks of", 2).await;
    edit(&server, "{name: related, head: h1}", "{name: more, head: h2}");
    server.logged_times("tasks of", 3).await;
    assert_eq!(timeout_of(&server, "related").await, Json::Null);
    let (status, answer) = server.rank("more", &json!({ "candidates": { "all": true } })).await;
    assert_eq!((status, &answer["modelVersion"]), (200, &json!(version)), "{answer}");
    let checks = server.state().await["active"]["checks"].clone();
    assert!(checks.as_array().unwrap().iter().any(|check| check["head"] == "h2"), "{checks}");
    assert_eq!(server.metric("unimodel_config_reloads_total{result=\"applied\"}").await, 3.0);

    // A default for an element that the version does not know.
    edit(&server, "{name: more, head: h2}", "{name: more, head: h2, context: {defaults: {contry: US}}}");
    let refused = server.until(async |server| (server.log_text().contains("the old tasks stay")).then_some(()));
    refused.await;
    assert!(server.log_text().contains("contry"), "{}", server.log_text());
    let (status, _) = server.rank("more", &json!({ "candidates": { "all": true } })).await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn what_needs_a_restart_is_said() {
    let (store, _) = Versions::with_one().await;
    let server = Server::ready(Setup::new(store.url())).await;
    edit(&server, "workers: 1", "workers: 3");
    let told = server.logged("workers changed in").await;
    assert_eq!(told["field"], "workers");
    assert!(told["message"].as_str().unwrap().contains("takes effect with a restart"), "{told}");
    assert_eq!(server.state().await["threads"]["workers"], 1);
    assert_eq!(server.log_lines("tasks of"), 0);
}

#[tokio::test]
async fn a_server_without_a_version_takes_the_one_that_the_file_names_now() {
    let (store, version) = Versions::with_one().await;
    let missing = "version: 20200101T000000Z-00000000";
    let server = Server::start(Setup { start: missing.into(), ..Setup::new(store.url()) }).await;
    let told = server.logged("version `20200101T000000Z-00000000` cannot be served").await;
    assert_eq!(told["reason"], "VersionNotFound");
    edit(&server, missing, &format!("version: {version}"));
    server.logged("active").await;
    assert_eq!(server.answering().await, version);
    assert!(!server.log_text().contains("takes effect with a restart"), "{}", server.log_text());
    // From now on it stays, and says so.
    edit(&server, &format!("version: {version}"), "channel: stable");
    server.logged("version changed in").await;
}
