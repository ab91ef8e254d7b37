//! Versions change through the control port, beside serving.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tonic::Code;
use tonic::transport::{Certificate, ClientTlsConfig};
use unimodel_protocol::control::v1;

use crate::fixture::Recipe;
use crate::process::{Setup, http};
use crate::store::{Versions, spoil_golden};
use crate::tls::{Authority, ControlFiles, connect};
use crate::web_server::Web;

#[tokio::test]
async fn a_version_is_prepared_activated_and_rolled_back() {
    let (store, first) = Versions::with_one().await;
    let second = store.publish(2).await;
    let files = ControlFiles::new();
    let (server, mut control) = files.serve(Setup::new(store.url())).await;
    server.logged("active").await;

    let state = control.state().await;
    assert_eq!(state.tasks, ["related", "search"]);
    let active = state.active.unwrap();
    assert_eq!((active.version.as_str(), active.phase()), (first.as_str(), v1::Phase::Active));
    assert_eq!((state.store, state.device, state.draining), (store.url(), "cpu".into(), false));
    assert!(state.others.is_empty() && state.problems.is_empty());

    let refused = control.0.activate(v1::ActivateRequest { version: second.clone() }).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("only a prepared version can be activated"), "{refused}");

    let prepared = control.prepared(&second).await;
    assert_eq!(prepared.phase(), v1::Phase::Prepared, "{prepared:?}");
    assert_eq!(prepared.fetched_bytes, prepared.total_bytes);
    assert_eq!(prepared.schema_hash.len(), 64);
    let heads: Vec<&str> = prepared.checks.iter().map(|check| check.head.as_str()).collect();
    assert_eq!(heads, ["h0", "h1"], "those that tasks ask for");
    let check = &prepared.checks[0];
    assert!(check.golden_requests == 8 && check.max_difference <= check.tolerance, "{check:?}");
    assert!(check.latency_p99.is_some_and(|latency| latency.nanos > 0), "{check:?}");
    assert_eq!(check.metrics["hit_rate@10"], 0.25);
    assert_eq!(server.answering().await, first, "preparing changes nothing");

    let activated = control.activate(&second).await;
    assert_eq!((activated.replaced, activated.active.unwrap().version), (first.clone(), second.clone()));
    assert_eq!(server.answering().await, second);
    let again = control.activate(&second).await;
    assert_eq!((again.replaced.as_str(), server.answering().await), ("", second.clone()));

    assert_eq!(control.prepared(&first).await.phase(), v1::Phase::Prepared);
    assert_eq!(control.activate(&first).await.replaced, second);
    assert_eq!(server.answering().await, first);
    assert_eq!(server.state().await["previous"], second.as_str());
    assert_eq!(server.metric("unimodel_reloads_total{result=\"activated\"}").await, 3.0);
    assert_eq!(server.metric("unimodel_reloads_total{result=\"prepared\"}").await, 3.0);
}

#[tokio::test]
async fn a_channel_is_resolved() {
    let (store, first) = Versions::with_one().await;
    let files = ControlFiles::new();
    let (server, mut control) = files.serve(Setup::new(store.url())).await;
    server.logged("active").await;
    let mut resolve = async |channel: &str| control.0.resolve(v1::ResolveRequest { channel: channel.into() }).await;
    assert_eq!(resolve("stable").await.unwrap().into_inner().version, first);
    let second = store.publish(2).await;
    store.promote(&second).await;
    assert_eq!(resolve("stable").await.unwrap().into_inner().version, second);
    let missing = resolve("canary").await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);
    assert!(missing.message().contains("has no channel `canary`"), "{missing}");
    assert_eq!(resolve("../x").await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn why_a_channel_is_not_resolved_is_told_by_the_code() {
    let (store, _) = Versions::with_one().await;
    let web = Web::serve(store.root()).await;
    let files = ControlFiles::new();
    let (server, mut control) = files.serve(Setup::new(&web.url)).await;
    server.logged("active").await;
    let mut refused = async || {
        let request = v1::ResolveRequest { channel: "stable".into() };
        control.0.resolve(request).await.unwrap_err()
    };
    std::fs::write(store.root().join("channels/stable.json"), "{}").unwrap();
    assert_eq!(refused().await.code(), Code::FailedPrecondition);
    web.refuse();
    let denied = refused().await;
    assert_eq!(denied.code(), Code::PermissionDenied, "{denied}");
    assert!(denied.message().contains("the store refuses the credentials"), "{denied}");
    drop(web);
    let away = refused().await;
    assert_eq!(away.code(), Code::Unavailable, "{away}");
    assert!(away.message().contains("channels/stable.json"), "{away}");
}

#[tokio::test]
async fn a_preparation_that_fails_says_why_and_changes_nothing() {
    let (store, first) = Versions::with_one().await;
    let spoilt = store.publish_changed(&Recipe { seed: 2, ..Recipe::default() }, |dir| spoil_golden(dir, "h1")).await;
    let damaged = store.publish(3).await;
    store.damage(&damaged, "items.parquet");
    let files = ControlFiles::new();
    let (server, mut control) = files.serve(Setup::new(store.url())).await;
    server.logged("active").await;

    let state = control.prepared(&damaged).await;
    let failure = state.failure.clone().unwrap();
    assert_eq!((state.phase(), failure.reason.as_str()), (v1::Phase::Failed, "DigestMismatch"));
    assert!(failure.message.contains("`items.parquet` is damaged: expected"), "{failure:?}");

    let failure = control.prepared(&spoilt).await.failure.unwrap();
    assert_eq!(failure.reason, "GoldenMismatch");
    assert!(failure.message.contains("head `h1`, golden/h1.jsonl line 3"), "{failure:?}");

    let failure = control.prepared("20990101T000000Z-00000000").await.failure.unwrap();
    assert_eq!(failure.reason, "VersionNotFound");

    let schema_hash = "0".repeat(64);
    let request = v1::PrepareRequest { version: store.publish(4).await, schema_hash };
    control.0.prepare(request.clone()).await.unwrap();
    let failure = control.prepared(&request.version).await.failure.unwrap();
    assert_eq!(failure.reason, "SchemaMismatch");

    let invalid = v1::PrepareRequest { version: "a/b".into(), schema_hash: String::new() };
    assert_eq!(control.0.prepare(invalid).await.unwrap_err().code(), Code::InvalidArgument);

    assert_eq!(server.answering().await, first);
    assert_eq!(control.state().await.others.len(), 4);
    assert_eq!(server.metric("unimodel_reloads_total{result=\"failed\"}").await, 4.0);
    assert!(control.discard(&damaged).await && !control.discard(&damaged).await);
    assert_eq!(control.state().await.others.len(), 3);
}

#[tokio::test]
async fn one_version_at_a_time_is_prepared_and_can_be_discarded() {
    let (store, first) = Versions::with_one().await;
    let large = Recipe { seed: 2, items: 3000, ..Recipe::default() };
    let second = store.publish_changed(&large, |_| {}).await;
    let third = store.publish(3).await;
    let files = ControlFiles::new();
    let (server, mut control) = files.serve(Setup::new(store.url())).await;
    server.logged("active").await;

    control.prepare(&second).await;
    let busy = v1::PrepareRequest { version: third.clone(), schema_hash: String::new() };
    let refused = control.0.prepare(busy).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("discard or activate it before"), "{refused}");

    // While it runs, or when it has ended: either way it is gone, and another takes its place.
    assert!(control.discard(&second).await);
    assert!(control.state().await.others.is_empty());
    assert_eq!(control.prepared(&third).await.phase(), v1::Phase::Prepared);
    assert!(control.discard(&third).await);
    let refused = control.0.discard(v1::DiscardRequest { version: first.clone() }).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert_eq!(server.answering().await, first);
}

#[tokio::test]
async fn only_clients_with_a_certificate_of_the_ca_are_answered() {
    let (store, _) = Versions::with_one().await;
    let files = ControlFiles::new();
    let (server, mut control) = files.serve(Setup::new(store.url())).await;
    let ca = || Certificate::from_pem(files.authority.pem());

    let no_certificate = ClientTlsConfig::new().ca_certificate(ca()).domain_name("localhost");
    let refused = match connect(&server, no_certificate).await {
        // With TLS 1.3 the client learns it from its first answer.
        Ok(mut client) => client.get_state(v1::GetStateRequest {}).await.is_err(),
        Err(_) => true,
    };
    assert!(refused);

    let stranger = Authority::new().issue("operator");
    let identity = tonic::transport::Identity::from_pem(stranger.certificate, stranger.key);
    let tls = ClientTlsConfig::new().ca_certificate(ca()).identity(identity).domain_name("localhost");
    let refused = match connect(&server, tls).await {
        Ok(mut client) => client.get_state(v1::GetStateRequest {}).await.is_err(),
        Err(_) => true,
    };
    assert!(refused);

    let mut plain = TcpStream::connect(server.control.unwrap()).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");

    server.logged_times("refused a control connection", 3).await;
    control.state().await;
}

#[tokio::test]
async fn certificates_change_without_a_restart() {
    let (store, _) = Versions::with_one().await;
    let files = ControlFiles::new();
    let (server, _) = files.serve(Setup::new(store.url())).await;
    let next = Authority::new();

    std::fs::write(files.path("tls.crt"), "not a certificate").unwrap();
    let told = server.logged("control certificates changed but cannot be used").await;
    assert!(told["message"].as_str().unwrap().contains("tls.crt: no certificate in it"), "{told}");
    assert!(files.client(&server, &files.authority).await.is_ok(), "the old ones stay");

    files.write(&next);
    server.logged("control certificates changed; new connections use them").await;
    let mut client = files.client(&server, &next).await.unwrap();
    client.get_state(v1::GetStateRequest {}).await.unwrap();
    for result in ["refused", "applied"] {
        let series = format!("unimodel_certificate_reloads_total{{result=\"{result}\"}}");
        assert!(server.metric(&series).await >= 1.0, "{series}");
    }
    assert!(files.client(&server, &files.authority).await.is_err(), "the old CA is not the server's any more");
}

#[tokio::test]
async fn twenty_reloads_under_load_fail_no_request() {
    const RELOADS: usize = 20;
    let (store, first) = Versions::with_one().await;
    let second = store.publish(2).await;
    let files = ControlFiles::new();
    let (server, mut control) = files.serve(Setup::new(store.url())).await;
    server.logged("active").await;

    let stop = Arc::new(AtomicBool::new(false));
    let mut load = JoinSet::new();
    for client in 0..4 {
        let (stop, data) = (stop.clone(), server.data);
        load.spawn(async move {
            let body = json!({ "context": { "age": client }, "candidates": { "all": true }, "limit": 3 }).to_string();
            let mut versions = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let (status, answer) = http(data, "POST", "/v1/tasks/search:rank", &body).await;
                assert_eq!(status, 200, "{answer}");
                let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
                versions.push(answer["modelVersion"].as_str().unwrap().to_owned());
            }
            versions
        });
    }
    // Who asks all the time how it is must not hold up a change, nor a change them.
    for _ in 0..2 {
        let (stop, mut asked) = (stop.clone(), control.0.clone());
        load.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                asked.get_state(v1::GetStateRequest {}).await.unwrap();
            }
            Vec::new()
        });
    }
    for reload in 0..RELOADS {
        let next = if reload % 2 == 0 { &second } else { &first };
        assert_eq!(control.prepared(next).await.phase(), v1::Phase::Prepared);
        control.activate(next).await;
    }
    assert_eq!(server.answering().await, first);
    stop.store(true, Ordering::Relaxed);
    let mut answers = Vec::new();
    while let Some(versions) = load.join_next().await {
        answers.extend(versions.unwrap());
    }
    assert!(answers.contains(&first) && answers.contains(&second), "{} answers", answers.len());
    assert!(answers.iter().all(|version| [&first, &second].contains(&version)));
    assert_eq!(server.metric("unimodel_in_flight{task=\"search\"}").await, 0.0);
    assert_eq!(server.metric("unimodel_reloads_total{result=\"activated\"}").await, (RELOADS + 1) as f64);
    assert_eq!(server.metric("unimodel_worker_panics_total").await, 0.0);
}

#[tokio::test]
async fn a_version_activated_by_hand_ends_the_attempts_at_the_start() {
    let store = Versions::new();
    let spoilt = store.publish_changed(&Recipe::default(), |dir| spoil_golden(dir, "h0")).await;
    store.promote(&spoilt).await;
    let files = ControlFiles::new();
    let (server, mut control) = files.serve(Setup::new(store.url())).await;
    server.logged("channel `stable` cannot be served").await;
    let good = store.publish(2).await;
    // Attempts at the start come in between.
    loop {
        let request = v1::PrepareRequest { version: good.clone(), schema_hash: String::new() };
        match control.0.prepare(request).await {
            Ok(_) => break,
            Err(busy) => assert_eq!(busy.code(), Code::FailedPrecondition, "{busy}"),
        }
    }
    assert_eq!(control.prepared(&good).await.phase(), v1::Phase::Prepared);
    control.activate(&good).await;
    assert_eq!(server.answering().await, good);
    assert_eq!(server.admin("/readyz").await.0, 200);
}
