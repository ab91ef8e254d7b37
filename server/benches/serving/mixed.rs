//! Requests of one candidate beside streams of a thousand.

use std::time::Duration;

use crate::load::{Length, Load, movies};
use crate::process::Server;
use crate::{errors, median, movielens_setup, rounds};

pub(crate) async fn measure() {
    let server = Server::ready(movielens_setup()).await;
    let small = Load::new(server.data, &movies("notifications", 1), 1, 1);
    let large = Load::new(server.data, &movies("notifications", 1000), 4, 1);
    small.run(Length::Requests(2_000)).await;
    let (mut alone, mut beside, mut streams) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds() {
        alone.push(small.run(Length::Time(Duration::from_secs(2))).await.percentile(0.99));
        let (small, large) = tokio::join!(
            small.run(Length::Time(Duration::from_secs(2))),
            large.run(Length::Time(Duration::from_secs(2)))
        );
        beside.push(small.percentile(0.99));
        streams.push(large.per_second);
    }
    assert_eq!(errors(&server).await, 0.0);
    let more = median(alone.iter().zip(&beside).map(|(a, b)| b - a).collect());
    println!(
        "1 candidate, p99: alone {:.2} ms, beside 4 streams of 1,000 candidates ({:.0} req/s) {:.2} ms: {more:+.2} ms (asked 1.5)",
        median(alone),
        median(streams),
        median(beside),
    );
}
