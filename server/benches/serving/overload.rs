//! Ten times the load that the server can bear.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::join_all;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::Code;
use tonic::transport::Channel;
use unimodel_protocol::v1::ranking_service_client::RankingServiceClient;

use crate::fixture::Recipe;
use crate::process::{Server, all_items};
use crate::store::Versions;
use crate::{Setup, resident};

const TIME: Duration = Duration::from_secs(8);
const CONNECTIONS: usize = 8;

/// What became of requests.
#[derive(Default)]
struct Counts {
    answered: AtomicU64,
    refused: AtomicU64,
    late: AtomicU64,
    other: AtomicU64,
}

async fn ask(mut client: RankingServiceClient<Channel>, counts: Arc<Counts>) {
    let count = match client.rank(all_items("search")).await {
        Ok(_) => &counts.answered,
        Err(status) if status.code() == Code::ResourceExhausted => &counts.refused,
        Err(status) if status.code() == Code::DeadlineExceeded => &counts.late,
        Err(_) => &counts.other,
    };
    count.fetch_add(1, Ordering::Relaxed);
}

pub(crate) async fn measure() {
    let store = Versions::new();
    // Work enough a request that offering it costs little beside it.
    let version = store.publish_changed(&Recipe { items: 200_000, ..Recipe::default() }, |_| {}).await;
    store.promote(&version).await;
    let setup = Setup {
        workers: 2,
        tasks: "[{name: search, head: h0, timeout: {default: 200ms, max: 200ms}}]".into(),
        more: "admission: {maxQueuedRows: 1000000000}".into(),
        ..Setup::new(store.url())
    };
    let server = Server::ready(setup).await;
    let clients = join_all((0..CONNECTIONS).map(|_| server.grpc())).await;

    // The peak: always a few at a time.
    let counts = Arc::new(Counts::default());
    let end = Instant::now() + TIME;
    let streams = (0..CONNECTIONS).map(|at| {
        let (client, counts) = (clients[at].clone(), counts.clone());
        async move {
            while Instant::now() < end {
                ask(client.clone(), counts.clone()).await;
            }
        }
    });
    join_all(streams).await;
    let peak = counts.answered.load(Ordering::Relaxed) as f64 / TIME.as_secs_f64();
    let memory = resident(server.pid());

    // Ten times that, whatever becomes of it.
    let counts = Arc::new(Counts::default());
    let mut requests = JoinSet::new();
    let (begin, mut offered, mut most) = (Instant::now(), 0u64, memory);
    let mut tick = tokio::time::interval(Duration::from_millis(5));
    while begin.elapsed() < TIME {
        tick.tick().await;
        let due = (begin.elapsed().as_secs_f64() * 10.0 * peak) as u64;
        while offered < due {
            requests.spawn(ask(clients[offered as usize % CONNECTIONS].clone(), counts.clone()));
            offered += 1;
        }
        if offered.is_multiple_of(16) {
            most = most.max(resident(server.pid()));
        }
        while requests.try_join_next().is_some() {}
    }
    let seconds = begin.elapsed().as_secs_f64();
    while requests.join_next().await.is_some() {}
    let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let goodput = count(&counts.answered) as f64 / seconds;
    println!(
        "peak {peak:.0} req/s; offered {:.0} req/s: {goodput:.0} answered in time ({:.2}x; asked 0.90), {} refused, {} late, {} else; \
         memory {memory:.0} MiB at peak, {most:.0} at most",
        offered as f64 / seconds,
        goodput / peak,
        count(&counts.refused),
        count(&counts.late),
        count(&counts.other),
    );
}
