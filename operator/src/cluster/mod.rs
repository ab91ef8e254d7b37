//! The shell of a cluster: what `unimodel-operator run` does.
//!
//! [`watch`] keeps what the API server says in [`observed`]; [`queue`] says what is worked on next; [`reconcile`] works on
//! it. [`observe`], [`children`], [`compare`], [`pods`], [`routes`] and [`notes`] decide as functions of values, and [`apply`]
//! does what they say.

pub mod admin;
pub mod apply;
pub mod certificates;
pub mod child;
pub mod children;
pub mod compare;
pub mod failure;
pub mod leader;
pub mod metrics;
pub mod names;
pub mod notes;
pub mod observe;
pub mod observed;
pub mod pace;
pub mod pods;
pub mod polls;
pub mod queue;
pub mod reconcile;
pub mod rendered;
pub mod routes;
pub mod secret;
pub mod text;
pub mod watch;
pub mod wire;
pub mod writer;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use kube::client::ClientBuilder;
use kube::{Client, Config};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tracing::Instrument;

use admin::Admin;
use failure::Failure;
use leader::{Candidate, Claim, Election};
use metrics::Metrics;
use observed::Cluster;
use queue::{Class, Queue};
use reconcile::{Images, Reconciler};
use watch::{Health, Watches};
use writer::Writer;

/// Objects that are worked on at a time: enough that the API server has something to do while the program [rests](REST).
const WORKERS: usize = 16;

/// How long work that has begun may take to end.
const END: Duration = Duration::from_secs(10);

/// While much is to be done, the program rests for so long before it looks what has come: handled one by one, with caches
/// that others have used since, events and answers would take twice the processor time.
const REST: Duration = Duration::from_millis(100);

/// What to run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Namespaces to watch; none: all.
    pub namespaces: Vec<String>,
    /// What servers and gateways run.
    pub images: Images,
    /// Where /livez, /readyz and /metrics are answered.
    pub admin_listen: SocketAddr,
    /// The Lease.
    pub candidate: Candidate,
}

/// What to run on: one thread, since the program waits most of the time, and handing work from thread to thread was a good
/// part of it.
///
/// # Errors
/// The system has nothing left for it.
pub fn runtime(queue: Arc<Queue>) -> std::io::Result<Runtime> {
    let rest = move || {
        if queue.is_busy() {
            std::thread::sleep(REST);
        }
    };
    tokio::runtime::Builder::new_current_thread().enable_all().on_thread_park(rest).build()
}

/// Runs until `stop` ends, and gives the Lease back. `queue`: an empty one.
///
/// # Errors
/// There is no cluster to be found, or the port is taken.
pub async fn run(
    settings: Settings,
    queue: Arc<Queue>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    // One that is there already is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let metrics = Metrics::default();
    let mut config =
        Config::infer().await.context("cannot find the cluster: neither a kubeconfig nor a service account")?;
    let agent = concat!("unimodel-operator/", env!("CARGO_PKG_VERSION"));
    config.headers.push((http::header::USER_AGENT, http::HeaderValue::from_static(agent)));
    let builder = ClientBuilder::try_from(config).context("cannot speak to the cluster")?;
    let client: Client = builder.with_layer(&metrics.counting()).build();

    let (cluster, health) = (Arc::<Cluster>::default(), Arc::<Health>::default());
    let watches = Watches {
        client: client.clone(),
        cluster: cluster.clone(),
        queue: queue.clone(),
        health: health.clone(),
        metrics: metrics.clone(),
    };
    match &settings.namespaces[..] {
        [] => watches.begin(None),
        namespaces => namespaces.iter().for_each(|namespace| watches.begin(Some(namespace))),
    }
    let election = Election::new(client.clone(), settings.candidate.clone());
    let claim = election.claim();
    let admin = Admin {
        health: health.clone(),
        metrics: metrics.clone(),
        queue: queue.clone(),
        cluster: cluster.clone(),
        claim: claim.clone(),
    };
    let listener = unimodel_transport::bind::bind(settings.admin_listen).await?;
    tracing::info!(admin = %listener.local_addr()?, namespaces = ?settings.namespaces, image = settings.images.serving, "watching");
    tokio::spawn(admin::serve(listener, admin));

    let writer = Writer::new(client, claim.clone(), &settings.candidate.identity);
    let reconciler = Arc::new(Reconciler::new(cluster.clone(), queue.clone(), writer, settings.images.clone()));

    let (stopping, stopped) = tokio::sync::watch::channel(false);
    let (ended, end) = tokio::sync::oneshot::channel::<()>();
    let election = tokio::spawn(election.run(async move { drop(end.await) }));
    let mut workers = JoinSet::new();
    for _ in 0..WORKERS {
        let worker = Worker { queue: queue.clone(), reconciler: reconciler.clone(), metrics: metrics.clone() };
        workers.spawn(worker.run(stopped.clone()));
    }
    tokio::spawn(lead(claim, health, cluster, queue, reconciler));

    stop.await;
    tracing::info!("stops");
    stopping.send_replace(true);
    // Nobody else may write before what was begun has ended.
    let all = async { while workers.join_next().await.is_some() {} };
    if tokio::time::timeout(END, all).await.is_err() {
        tracing::warn!("work on an object did not end in time");
    }
    drop(ended);
    election.await.context("the election ended by itself")?;
    Ok(())
}

/// Whenever the Lease is gained: everything is looked at, what was begun first.
async fn lead(
    claim: Claim,
    health: Arc<Health>,
    cluster: Arc<Cluster>,
    queue: Arc<Queue>,
    reconciler: Arc<Reconciler>,
) {
    let mut held = claim.held();
    loop {
        if held.wait_for(|held| *held).await.is_err() {
            return;
        }
        while !health.missing().is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        for (key, begun) in cluster.keys() {
            queue.add(key, if begun { Class::Begun } else { Class::New }, Duration::ZERO);
        }
        queue.open();
        if held.wait_for(|held| !*held).await.is_err() {
            return;
        }
        queue.close();
        reconciler.rest();
    }
}

struct Worker {
    queue: Arc<Queue>,
    reconciler: Arc<Reconciler>,
    metrics: Metrics,
}

impl Worker {
    async fn run(self, mut stopped: tokio::sync::watch::Receiver<bool>) {
        loop {
            let key = tokio::select! {
                key = self.queue.next() => key,
                _ = stopped.wait_for(|stopped| *stopped) => return,
            };
            self.work(&key).await;
        }
    }

    async fn work(&self, key: &observed::Key) {
        let begun = Instant::now();
        let id: u32 = rand::random();
        // Not `name`, which is the span's own in a line of JSON.
        let object = format!("{}/{}", key.0, key.1);
        let span = tracing::info_span!("reconcile", object, id = format!("{id:08x}"));
        let result = self.reconciler.reconcile(key).instrument(span.clone()).await;
        let _entered = span.enter();
        let took = begun.elapsed();
        let name = match result {
            Ok(next) => {
                self.queue.succeed(key, next);
                "ok"
            }
            // Whoever holds the lease does it, which may be us again.
            Err(Failure::NotLeader) => {
                self.queue.succeed(key, Some(reconcile::SOON));
                "not_leader"
            }
            Err(Failure::Refused { message, wake }) => {
                self.queue.succeed(key, Some(wake));
                tracing::warn!(error = message, look_in = ?wake, "not done until something changes");
                "blocked"
            }
            Err(failure) => {
                let wait = self.queue.fail(key);
                tracing::warn!(error = %failure, retry_in = ?wait, "not done");
                if matches!(failure, Failure::Blocked(_)) { "blocked" } else { "error" }
            }
        };
        self.metrics.reconciled(name, took);
    }
}
