//! A thousand requests given up in flight, ten times.

use futures::future::join_all;
use tokio::task::JoinSet;

use crate::fixture::Recipe;
use crate::process::{Server, all_items};
use crate::store::Versions;
use crate::{Setup, in_flight};

const ROUNDS: usize = 10;
const REQUESTS: usize = 1000;
const CONNECTIONS: usize = 4;

pub(crate) async fn measure() {
    let store = Versions::new();
    let version = store.publish_changed(&Recipe { items: 100_000, ..Recipe::default() }, |_| {}).await;
    store.promote(&version).await;
    let setup = Setup {
        workers: 2,
        tasks: "[{name: search, head: h0, maxConcurrency: 4096, timeout: {default: 60s, max: 60s}}]".into(),
        more: "admission: {maxInFlight: 4096, maxQueuedRows: 1000000000}".into(),
        ..Setup::new(store.url())
    };
    let server = Server::ready(setup).await;
    let clients = join_all((0..CONNECTIONS).map(|_| server.grpc())).await;
    let mut most: f64 = 0.0;
    for _ in 0..ROUNDS {
        let mut requests = JoinSet::new();
        for number in 0..REQUESTS {
            let mut client = clients[number % CONNECTIONS].clone();
            requests.spawn(async move { client.rank(all_items("search")).await.map(|_| ()) });
        }
        let waiting = server.until(async |server| Some(in_flight(server).await).filter(|n| *n > 0.9 * REQUESTS as f64));
        most = most.max(waiting.await);
        requests.shutdown().await;
        server.until(async |server| (in_flight(server).await == 0.0).then_some(())).await;
    }
    let answered = clients[0].clone().rank(all_items("search")).await.is_ok();
    println!(
        "{ROUNDS} times {REQUESTS} requests given up, {most:.0} in flight at most: the server lives and answers: {answered}, \
         {} panics, in flight {}",
        server.metric("unimodel_worker_panics_total").await,
        in_flight(&server).await,
    );
    assert!(answered);
}
