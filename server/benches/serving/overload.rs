//! Ten times the load that the server can bear.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::fixture::Recipe;
use crate::load::{Length, Load};
use crate::process::Server;
use crate::store::Versions;
use crate::{Setup, median, resident, rounds};

/// Of a round's halves, which take turns: the machine's own speed changes from minute to minute.
const TIME: Duration = Duration::from_secs(4);

const CONNECTIONS: usize = 8;

/// So many on each connection are never reached: what is refused ends at once.
const STREAMS: usize = 100;

/// Items of a request: work enough that to offer it, and to refuse it, costs little beside it. The same cores do both, so
/// twice the items halve what that takes of them.
const ITEMS: [usize; 2] = [200_000, 400_000];

pub(crate) async fn measure() {
    for items in ITEMS {
        measure_with(items).await;
    }
}

async fn measure_with(items: usize) {
    let store = Versions::new();
    let version = store.publish_changed(&Recipe { items, ..Recipe::default() }, |_| {}).await;
    store.promote(&version).await;
    let setup = Setup {
        workers: 2,
        tasks: "[{name: search, head: h0, timeout: {default: 200ms, max: 200ms}}]".into(),
        more: "admission: {maxQueuedRows: 1000000000}".into(),
        ..Setup::new(store.url())
    };
    let server = Server::ready(setup).await;
    let request = json!({"candidates": {"all": true}, "limit": 5});
    let load = |streams| Load::json(server.data, "search", &request, CONNECTIONS, streams);
    // Always a few at a time.
    let closed = load(1);
    closed.run(Length::Time(TIME / 2)).await;

    let mut ratios = Vec::new();
    for _ in 0..rounds() {
        let peak = phase(&server, &closed).await;
        // Ten times that, whatever becomes of it.
        let over = phase(&server, &load(STREAMS).at_rate(10.0 * peak.answered)).await;
        ratios.push(over.answered / peak.answered);
        println!(
            "{items} items a request: peak {:.0} req/s, {:.2} cores; offered {:.0} req/s: {:.0} answered in time ({:.2}x), \
             {:.2} cores; {:.0} refused, {:.0} late, {:.0} else; memory {:.0} MiB at peak, {:.0} at most",
            peak.answered,
            peak.cores,
            over.answered + over.refused + over.late + over.other,
            over.answered,
            over.answered / peak.answered,
            over.cores,
            over.refused,
            over.late,
            over.other,
            peak.memory,
            over.memory,
        );
    }
    println!("{items} items a request: {:.2}x in the median; asked 0.90", median(ratios));
}

/// What a load came to, a second.
struct Phase {
    answered: f64,
    refused: f64,
    late: f64,
    other: f64,
    /// What the server had of the processors.
    cores: f64,
    /// What it had of the memory at most, in MiB.
    memory: f64,
}

async fn phase(server: &Server, load: &Load) -> Phase {
    let (before, begin) = (processor_seconds(server.pid()), Instant::now());
    let outcome = load.run(Length::Time(TIME));
    tokio::pin!(outcome);
    let (mut memory, mut tick) = (0f64, tokio::time::interval(Duration::from_millis(50)));
    let outcome = loop {
        tokio::select! {
            outcome = &mut outcome => break outcome,
            _ = tick.tick() => memory = memory.max(resident(server.pid())),
        }
    };
    let cores = (processor_seconds(server.pid()) - before) / begin.elapsed().as_secs_f64();
    let [answered, other, refused, late] = outcome.statuses.map(|count| count as f64 / TIME.as_secs_f64());
    Phase { answered, refused, late, other, cores, memory }
}

/// What a process has had of the processors, its threads together.
fn processor_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name, which stands in brackets, may have spaces.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(f64::NAN);
    // A hundred a second: see proc_pid_stat(5), utime and stime.
    (ticks(11) + ticks(12)) / 100.0
}
