//! Canaries and mirrors.

use std::sync::atomic::Ordering;

use http::Request;
use http_body_util::Full;

use crate::server::{Behaviour, Server};
use crate::world::{ALL, Client, World, nobody, task};

fn share(name: &str, percent: u32, endpoints: &[std::net::SocketAddr]) -> String {
    let endpoints: Vec<String> = endpoints.iter().map(|address| format!("{{address: '{address}'}}")).collect();
    format!("{name}: {{percent: {percent}, endpoints: [{}]}}", endpoints.join(", "))
}

async fn version(client: &Client, key: &str) -> String {
    let request = Request::post("/v1/tasks/search:rank").header("x-unimodel-request-key", key);
    let answer = client.send(request.body(Full::from(ALL)).unwrap()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["modelVersion"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_key_is_always_in_the_canary_or_never() {
    let (stable, canary) = (Server::start("stable").await, Server::start("canary").await);
    let tasks = task("search", &[stable.address], &share("canary", 20, &[canary.address]));
    // Two gateways agree without knowing of each other.
    let worlds = [World::start(&tasks).await, World::start(&tasks).await];
    let clients = [worlds[0].client().await, worlds[1].client().await];
    for client in &clients {
        // A canary that is not connected yet makes nobody wait.
        let mut key = 0;
        while version(client, &key.to_string()).await != "canary" {
            key += 1;
        }
    }
    let mut inside = 0;
    for key in 0..200 {
        let key = format!("user-{key}");
        let first = version(&clients[0], &key).await;
        assert_eq!(version(&clients[1], &key).await, first, "{key}");
        assert_eq!(version(&clients[0], &key).await, first, "{key}");
        inside += usize::from(first == "canary");
    }
    assert!((20..=60).contains(&inside), "{inside} of 200 at 20 %");
    // Without a key a share goes by chance.
    let before = canary.count();
    for _ in 0..200 {
        assert_eq!(worlds[0].rank("search").await.status, 200);
    }
    assert!((15..=70).contains(&(canary.count() - before)), "{}", canary.count() - before);
}

#[tokio::test]
async fn a_canary_that_fails_is_not_noticed() {
    let (stable, canary) = (Server::start("stable").await, Server::start("canary").await);
    canary.set(Behaviour::Refuse(503, 14));
    for address in [canary.address, nobody().await] {
        let tasks = task("search", &[stable.address], &share("canary", 100, &[address]));
        let world = World::start(&tasks).await;
        let client = world.client().await;
        for key in 0..10 {
            assert_eq!(version(&client, &format!("user-{key}")).await, "stable");
        }
        assert_eq!(world.task("search").state.metrics.canary.load(Ordering::Relaxed), 10);
    }
    assert_eq!(stable.count(), 20);
}

#[tokio::test]
async fn a_mirror_sees_what_the_task_sees_and_delays_nobody() {
    let (stable, mirror) = (Server::start("stable").await, Server::start("mirror").await);
    let tasks = task("search", &[stable.address], &share("mirror", 100, &[mirror.address]));
    let world = World::start(&tasks).await;
    let client = world.client().await;
    assert_eq!(version(&client, "user-1").await, "stable");
    while mirror.count() < 1 {
        tokio::task::yield_now().await;
    }
    let (copy, original) = (mirror.only(), stable.only());
    assert_eq!((copy.path, copy.body), (original.path, original.body));

    // A mirror that hangs takes so many copies and no more; every answer comes.
    mirror.set(Behaviour::Hang);
    for key in 0..200 {
        assert_eq!(version(&client, &format!("user-{key}")).await, "stable");
    }
    mirror.working(32).await;
    let mirrored = &world.task("search").state.metrics.mirrored;
    let [sent, dropped] = [mirrored[0].load(Ordering::Relaxed), mirrored[1].load(Ordering::Relaxed)];
    assert_eq!((sent + dropped, mirror.count() as u64), (201, sent));
    assert!(dropped > 100);
    assert_eq!(stable.count(), 201);
}
