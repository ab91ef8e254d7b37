//! Servers that fail, and callers who do not notice.

use std::net::SocketAddr;
use std::time::Duration;

use futures::future::join_all;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::Code;
use unimodel_protocol::v1;

use crate::server::{Behaviour, Server};
use crate::world::{ALL, World, nobody, request, task};

async fn pair() -> (Server, Server, World) {
    let (first, second) = (Server::start("first").await, Server::start("second").await);
    let world = World::start(&task("search", &[first.address, second.address], "")).await;
    // Both are connected before a test begins.
    while !world.task("search").pool.iter().all(|(endpoint, _)| endpoint.backend.is_up()) {
        assert_eq!(world.rank("search").await.status, 200);
    }
    (first, second, world)
}

#[tokio::test]
async fn a_server_that_has_too_much_to_do_or_is_not_ready_is_passed_over() {
    for (status, code, reason) in [(429, 8, "overloaded"), (503, 14, "not-ready")] {
        let (first, second, world) = pair().await;
        let client = world.client().await;
        first.set(Behaviour::Refuse(status, code));
        let before = first.count();
        // It may be the slower one, which is asked when what is known of it has faded.
        second.set(Behaviour::Slow(Duration::from_millis(20)));
        for _ in 0..10 {
            assert_eq!(world.rank("search").await.json()["modelVersion"], "second");
            assert_eq!(client.rank(&request("search")).await.message::<v1::RankResponse>().model_version, "second");
        }
        assert!(first.count() > before && second.count() >= 20, "{status}");
        assert!(world.task("search").state.metrics.retries.get(reason) > 0);
    }
}

#[tokio::test]
async fn a_fault_is_not_asked_for_again_and_its_words_pass() {
    let (first, second, world) = pair().await;
    first.set(Behaviour::Refuse(500, 13));
    second.set(Behaviour::Refuse(500, 13));
    let before = first.count() + second.count();
    let answer = world.rank("search").await;
    assert_eq!((answer.status.as_u16(), answer.json()["detail"].as_str()), (500, Some("as told")));
    let answer = world.client().await.rank(&request("search")).await;
    assert_eq!((answer.code(), answer.header("grpc-message")), (Code::Internal, Some("as told")));
    assert_eq!(first.count() + second.count() - before, 2);
    // What a caller did wrong is nobody's failure.
    first.set(Behaviour::Refuse(400, 3));
    second.set(Behaviour::Refuse(400, 3));
    for _ in 0..20 {
        assert_eq!(world.rank("search").await.status, 400);
    }
    assert_eq!(first.count() + second.count() - before, 22);
    assert_eq!(world.task("search").state.metrics.ejections.load(std::sync::atomic::Ordering::Relaxed), 0);
}

#[tokio::test]
async fn retries_stay_within_their_budget() {
    let (first, second, world) = pair().await;
    first.set(Behaviour::Refuse(429, 8));
    second.set(Behaviour::Refuse(429, 8));
    let before = first.count() + second.count();
    for _ in 0..300 {
        assert_eq!(world.rank("search").await.status, 429);
    }
    let asked = first.count() + second.count() - before;
    // Without a budget it would be twice as many. A slow machine sees the window move on.
    assert!((301..=400).contains(&asked), "{asked} requests for 300");
    assert!(world.task("search").state.metrics.over_budget.load(std::sync::atomic::Ordering::Relaxed) > 0);
}

/// A server that speaks HTTP/2 and does one thing with every request.
async fn strange<F>(act: F) -> (SocketAddr, JoinHandle<()>)
where
    F: Fn(&mut h2::server::Connection<tokio::net::TcpStream, bytes::Bytes>, h2::server::SendResponse<bytes::Bytes>)
        + Send
        + Sync
        + Copy
        + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let Ok(mut connection) = h2::server::handshake(stream).await else { return };
                while let Some(Ok((_, respond))) = connection.accept().await {
                    act(&mut connection, respond);
                }
            });
        }
    });
    (address, serving)
}

#[tokio::test]
async fn what_a_server_did_not_begin_with_goes_to_another() {
    let refusing = strange(|_, mut respond| respond.send_reset(h2::Reason::REFUSED_STREAM)).await;
    let leaving = strange(|connection, _| connection.abrupt_shutdown(h2::Reason::NO_ERROR)).await;
    let breaking = strange(|_, mut respond| respond.send_reset(h2::Reason::INTERNAL_ERROR)).await;
    for (address, serving) in [refusing, leaving, breaking] {
        let server = Server::start("good").await;
        let world = World::start(&task("search", &[address, server.address], "")).await;
        let client = world.client().await;
        for _ in 0..12 {
            let answer = client.post("/v1/tasks/search:rank", ALL).await;
            assert_eq!(answer.status, 200, "{answer:?}");
        }
        assert!(world.task("search").state.metrics.retries.iter().count() > 0);
        serving.abort();
    }
}

#[tokio::test]
async fn garbage_is_no_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let garbage = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").await;
        }
    });
    let alone = World::start(&task("search", &[garbage], "")).await;
    let answer = alone.rank("search").await;
    assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (503, "not-ready"), "{answer:?}");
    assert_eq!(alone.client().await.rank(&request("search")).await.code(), Code::Unavailable);

    let server = Server::start("good").await;
    let world = World::start(&task("search", &[garbage, server.address], "")).await;
    for _ in 0..20 {
        assert_eq!(world.rank("search").await.json()["modelVersion"], "good");
    }
    serving.abort();

    // HTTP/2 that is no gRPC.
    let (address, serving) = strange(|_, mut respond| {
        let response = http::Response::builder().status(200).body(()).unwrap();
        respond.send_response(response, true).unwrap();
    })
    .await;
    let world = World::start(&task("search", &[address], "")).await;
    let answer = world.client().await.rank(&request("search")).await;
    assert_eq!(answer.code(), Code::Internal);
    let status = tonic::Status::from_header_map(&answer.headers).unwrap();
    assert!(status.message().contains("without a gRPC status"), "{status}");
    serving.abort();
}

#[tokio::test]
async fn an_address_where_nobody_is_costs_nobody_anything() {
    let server = Server::start("good").await;
    let world = World::start(&task("search", &[nobody().await, server.address, nobody().await], "")).await;
    let client = world.client().await;
    let answers = join_all((0..200).map(|_| client.post("/v1/tasks/search:rank", ALL))).await;
    assert!(answers.iter().all(|answer| answer.status == 200));
    // Nothing was sent twice: it was never sent to where nobody is.
    assert_eq!((server.count(), world.task("search").state.metrics.retries.iter().count()), (200, 0));
}

#[tokio::test]
async fn a_server_that_keeps_failing_rests_and_comes_back() {
    let (first, second, world) = pair().await;
    first.set(Behaviour::Refuse(500, 13));
    // The failing server looks like the quicker one.
    second.set(Behaviour::Slow(Duration::from_millis(20)));
    let task = world.task("search");
    let ejections = || task.state.metrics.ejections.load(std::sync::atomic::Ordering::Relaxed);
    while ejections() == 0 {
        world.rank("search").await;
    }
    let states = task.pool.states(std::time::Instant::now());
    assert!(states.contains(&("ejected", 1)) && states.contains(&("up", 1)), "{states:?}");
    let before = first.count();
    for _ in 0..50 {
        world.rank("search").await;
    }
    // Those that try it, on a slow machine.
    let asked = first.count() - before;
    assert!(asked <= 5, "{asked} of 50 requests went to a server that rests");

    first.set(Behaviour::Answer);
    let back = async { while world.rank("search").await.json()["modelVersion"] != "first" {} };
    tokio::time::timeout(Duration::from_secs(20), back).await.expect("it comes back");
    assert_eq!(task.pool.states(std::time::Instant::now())[0], ("up", 2));
}

#[tokio::test]
async fn the_last_server_is_asked_although_it_rests() {
    let server = Server::start("only").await;
    let world = World::start(&task("search", &[server.address], "")).await;
    server.set(Behaviour::Refuse(500, 13));
    for _ in 0..10 {
        assert_eq!(world.rank("search").await.status, 500);
    }
    server.set(Behaviour::Answer);
    assert_eq!(world.rank("search").await.status, 200);
}

#[tokio::test]
async fn a_server_that_restarts_is_found_again() {
    let server = Server::start("before").await;
    let address = server.address;
    let world = World::start(&task("search", &[address], "")).await;
    assert_eq!(world.rank("search").await.status, 200);
    server.stop().await;
    let server = Server::at("after", address).await;
    let found = async { while world.rank("search").await.status != 200 {} };
    tokio::time::timeout(Duration::from_secs(20), found).await.expect("it is found");
    assert_eq!(server.seen().last().unwrap().path, "/v1/tasks/search:rank");
}

#[tokio::test]
async fn a_server_that_stops_finishes_and_nobody_notices() {
    let (first, second, world) = pair().await;
    let client = world.client().await;
    let load = |count: usize| {
        let client = client.clone();
        async move { join_all((0..count).map(|_| client.post("/v1/tasks/search:rank", ALL))).await }
    };
    assert!(load(200).await.iter().all(|answer| answer.status == 200));
    let (answers, ()) = tokio::join!(load(500), first.stop());
    let failed: Vec<_> = answers.iter().filter(|answer| answer.status != 200).collect();
    assert!(failed.is_empty(), "{} of 500: {:?}", failed.len(), failed[0]);
    assert!(load(200).await.iter().all(|answer| answer.status == 200));
    assert!(second.count() > 200);
}

#[tokio::test]
async fn a_hedged_task_asks_a_second_server_when_the_first_is_slow() {
    let (first, second) = (Server::start("first").await, Server::start("second").await);
    let hedged = task("search", &[first.address, second.address], "hedging: {minDelay: 5ms}");
    let world = World::start(&hedged).await;
    let client = world.client().await;
    // What is usual has to be known first, and that the first server is the quicker one.
    second.set(Behaviour::Slow(Duration::from_millis(20)));
    for _ in 0..100 {
        assert_eq!(client.post("/v1/tasks/search:rank", ALL).await.status, 200);
    }
    first.set(Behaviour::Hang);
    for _ in 0..12 {
        let answer = client.post("/v1/tasks/search:rank", ALL).await;
        assert_eq!(answer.json()["modelVersion"], "second");
    }
    assert!(world.task("search").state.metrics.hedges.load(std::sync::atomic::Ordering::Relaxed) > 0);
    // The slower one is told that nobody waits.
    first.working(0).await;
}
