//! New routes while requests are in flight, and what a table keeps.

use std::sync::Arc;
use std::time::Duration;

use crate::server::{Behaviour, Server};
use crate::world::{ALL, World, routes, task};

#[tokio::test]
async fn a_removed_task_and_a_removed_endpoint_finish_what_they_have() {
    let (first, second) = (Server::start("first").await, Server::start("second").await);
    first.set(Behaviour::Slow(Duration::from_millis(300)));
    let tasks = [task("search", &[first.address], ""), task("related", &[first.address], "")];
    let world = World::start(&tasks.join(", ")).await;
    let client = world.client().await;
    let (c1, c2) = (client.clone(), client.clone());
    let search = tokio::spawn(async move { c1.post("/v1/tasks/search:rank", ALL).await });
    let related = tokio::spawn(async move { c2.post("/v1/tasks/related:rank", ALL).await });
    first.working(2).await;

    world.gateway.apply(routes(&task("search", &[second.address], "")));
    assert_eq!(client.post("/v1/tasks/search:rank", ALL).await.json()["modelVersion"], "second");
    assert_eq!(client.post("/v1/tasks/related:rank", ALL).await.problem(), "unknown-task");
    assert_eq!(search.await.unwrap().json()["modelVersion"], "first");
    assert_eq!(related.await.unwrap().json()["modelVersion"], "first");
    // With nothing in flight its connection ends too: the server can stop.
    first.stop().await;
}

#[tokio::test]
async fn what_is_known_of_a_task_stays_and_limits_change_under_way() {
    let server = Server::start("server").await;
    let world = World::start(&task("search", &[server.address], "maxConcurrency: 1, queueDepth: 0")).await;
    assert_eq!(world.rank("search").await.status, 200);
    let before = world.task("search");
    server.set(Behaviour::Hang);
    let client = world.client().await;
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.post("/v1/tasks/search:rank", ALL).await }
    });
    server.working(1).await;
    assert_eq!(world.rank("search").await.status, 429);

    world.gateway.apply(routes(&task("search", &[server.address], "maxConcurrency: 2, queueDepth: 0")));
    server.set(Behaviour::Answer);
    assert_eq!(world.rank("search").await.status, 200);
    let after = world.task("search");
    assert!(Arc::ptr_eq(&before.state, &after.state) && !Arc::ptr_eq(&before, &after));
    let endpoint = |task: &unimodel_gateway::table::Task| task.pool.iter().next().unwrap().0.clone();
    assert!(Arc::ptr_eq(&endpoint(&before), &endpoint(&after)));

    world.gateway.apply(routes(&task("search", &[server.address], "maxConcurrency: 1, queueDepth: 0")));
    assert_eq!(world.rank("search").await.status, 429);
    waiting.abort();
    server.working(0).await;
    while after.state.limiter.in_flight() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.rank("search").await.status, 200);
}

#[tokio::test]
async fn the_limit_follows_the_number_of_endpoints() {
    let (first, second) = (Server::start("first").await, Server::start("second").await);
    let with = |endpoints: &[_]| task("search", endpoints, "maxConcurrency: 3, queueDepth: 0");
    let world = World::start(&with(&[first.address])).await;
    let limit = || world.task("search").state.limiter.limit();
    assert_eq!(limit(), 3);
    world.gateway.apply(routes(&with(&[first.address, second.address])));
    assert_eq!(limit(), 6);
    world.gateway.apply(routes(&with(&[])));
    assert_eq!(limit(), 3);
}

#[tokio::test]
async fn versions_are_shared_and_replaced() {
    let server = Server::start("server").await;
    let both = |more| [task("search", &[server.address], more), task("related", &[server.address], more)].join(", ");
    let world = World::start(&both("version: v7")).await;
    let version = |name: &str| world.task(name).version.clone().unwrap();
    let first = version("search");
    assert!(Arc::ptr_eq(&first, &version("related")));
    world.gateway.apply(routes(&both("version: v7, maxCandidates: 5")));
    assert!(Arc::ptr_eq(&first, &version("search")));
    let mut changed = routes(&both("version: v7"));
    changed.versions[0].items = 7;
    world.gateway.apply(changed);
    assert_eq!(version("search").facts.items, 7);
}
