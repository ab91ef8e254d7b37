//! One task's overload is its own.

use std::time::Duration;

use futures::future::join_all;
use tonic::Code;

use crate::server::{Behaviour, Server};
use crate::world::{ALL, World, request, task};

#[tokio::test]
async fn a_task_over_its_limits_is_refused_at_once_and_others_are_not() {
    let (slow, quick) = (Server::start("slow").await, Server::start("quick").await);
    slow.set(Behaviour::Hang);
    let tasks = [
        task("slow", &[slow.address], "maxConcurrency: 2, queueDepth: 1"),
        task("quick", &[quick.address], "maxConcurrency: 2, queueDepth: 1"),
    ];
    let world = World::start(&tasks.join(", ")).await;
    let client = world.client().await;
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.post("/v1/tasks/slow:rank", ALL).await })
        })
        .collect();
    slow.working(2).await;
    let limiter = world.task("slow").state.limiter.clone();
    while limiter.waiting() < 1 {
        tokio::task::yield_now().await;
    }

    let refused = world.rank("slow").await;
    assert_eq!((refused.status.as_u16(), refused.problem().as_str()), (429, "overloaded"));
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert!(refused.json()["retryAfter"].as_str().unwrap().ends_with('s'));
    assert!(refused.json()["detail"].as_str().unwrap().contains("2 requests of `slow` in flight and 1 waiting"));
    let refused = world.client().await.rank(&request("slow")).await;
    assert_eq!(refused.code(), Code::ResourceExhausted);
    let status = tonic::Status::from_header_map(&refused.headers).unwrap();
    let details = tonic_types::StatusExt::get_error_details(&status);
    assert!(details.retry_info().unwrap().retry_delay.unwrap() > Duration::ZERO);
    assert_eq!(slow.count(), 2);

    for _ in 0..20 {
        assert_eq!(world.rank("quick").await.status, 200);
    }
    waiting.iter().for_each(|waiting| waiting.abort());
    slow.working(0).await;
}

#[tokio::test]
async fn what_waits_is_answered_when_its_turn_comes() {
    let server = Server::start("search-server").await;
    server.set(Behaviour::Slow(Duration::from_millis(20)));
    let world = World::start(&task("search", &[server.address], "maxConcurrency: 2, queueDepth: 30")).await;
    let answers = join_all((0..30).map(|_| world.rank("search"))).await;
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert_eq!(server.count(), 30);
}
