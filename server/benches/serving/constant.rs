//! The same server with the same protocols, and a constant where the model is.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use unimodel_server::error::RankError;
use unimodel_server::front::{BodyLimits, Front};
use unimodel_server::http;
use unimodel_server::http::listener::{self, ConnectionLimits};
use unimodel_server::ranking::{Exchange, Ranking, Readiness, Statistics};
use unimodel_server::request::{Ids, RankRequest, RankResponse, RankedItems, Task};
use unimodel_server::timeout::{Deadline, TimeoutPolicy};

/// This program started with it is that server.
pub(crate) const ARGUMENT: &str = "constant-server";

struct Constant {
    task: Arc<Task>,
    items: RankedItems,
    readiness: watch::Sender<Readiness>,
}

#[async_trait::async_trait]
impl Ranking for Constant {
    fn task(&self, name: &str) -> Option<Arc<Task>> {
        (name == &*self.task.name).then(|| self.task.clone())
    }

    fn tasks(&self) -> Vec<Arc<Task>> {
        vec![self.task.clone()]
    }

    fn readiness(&self) -> watch::Receiver<Readiness> {
        self.readiness.subscribe()
    }

    fn statistics(&self, _: &str) -> Statistics {
        Statistics::default()
    }

    async fn rank(&self, request: RankRequest, _: Deadline) -> Result<RankResponse, RankError> {
        Ok(RankResponse {
            items: self.items.clone(),
            unknown: Ids::default(),
            task: request.task,
            model_version: "constant".into(),
            data_time: jiff::Timestamp::UNIX_EPOCH,
            imputed: vec![],
        })
    }

    fn written(&self, _: &str, _: Duration) {}

    fn observe(&self, _: &Exchange<'_>) {}
}

/// Serves until the process is ended; prints its address first.
pub(crate) async fn serve() {
    let timeout = Duration::from_secs(10);
    let mut items = RankedItems::default();
    for id in 1..=100u32 {
        items.push(&id.to_string(), 1.0 / id as f32);
    }
    let ranking = Constant {
        task: Arc::new(Task {
            name: "notifications".into(),
            head: "notifications".into(),
            max_candidates: 10_000,
            timeout: TimeoutPolicy { default: timeout, max: timeout },
            required: vec![],
            version: Err("a constant has none".into()),
        }),
        items,
        readiness: watch::Sender::new(Readiness::Ready),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    println!("{}", listener.local_addr().expect("an address"));
    let front = Front::new(Arc::new(ranking), BodyLimits::default());
    listener::serve(
        listener,
        http::service(front),
        ConnectionLimits::default(),
        std::future::pending(),
        Duration::ZERO,
    )
    .await;
}
