//! Control ports: each server is asked how it is, often while something moves and seldom otherwise.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tonic::transport::ClientTlsConfig;

use super::routes::{Versions, described};
use crate::control::Control;
use crate::snapshot::Answer;

/// How often a server is asked while something moves.
const EAGER: Duration = Duration::from_millis(500);
/// How often otherwise.
const CALM: Duration = Duration::from_secs(60);

/// A server that has not said anything for so long is not counted on. One that is late once may only be busy.
const SILENCE: Duration = Duration::from_secs(10);

/// How long a server may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(1);

/// How long it may take to say how it is: some five turns there and back, in each of which an operator that has much to do
/// rests.
const ANSWER: Duration = Duration::from_secs(3);

/// The port of every server.
const PORT: u16 = 9443;

/// How a server is reached.
#[derive(Clone)]
struct Way {
    address: SocketAddr,
    tls: Arc<ClientTlsConfig>,
}

impl Way {
    fn control(&self) -> Option<Control> {
        Control::new(self.address, &self.tls).ok()
    }

    /// As [`Way::control`], where somebody listens: a client with its certificates is not made for a server that only comes up.
    async fn found(&self) -> Option<Control> {
        let connect = TcpStream::connect(self.address);
        tokio::time::timeout(CONNECT, connect).await.ok()?.ok()?;
        self.control()
    }
}

/// A server that is asked.
struct Poll {
    way: Way,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Drop for Poll {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Default)]
struct Shared {
    answer: Mutex<Option<Answer>>,
    eager: AtomicBool,
    wake: Notify,
}

/// The servers of one object, by the uid of their pods.
#[derive(Default)]
pub struct Polls(HashMap<String, Poll>);

/// Who is told of what servers say.
#[derive(Clone)]
pub struct Told {
    /// Something has changed.
    pub changed: Arc<dyn Fn() + Send + Sync>,
    /// What is known of versions: what is not known yet is asked.
    pub versions: Arc<Mutex<Versions>>,
}

/// A server to ask.
#[derive(Clone, Debug)]
pub struct Server {
    /// The uid of its pod.
    pub uid: String,
    /// Its address.
    pub ip: String,
    /// Something moves.
    pub eager: bool,
}

impl Polls {
    /// Asks these servers from now on, and no others.
    pub fn keep(&mut self, servers: &[Server], tls: &Arc<ClientTlsConfig>, told: &Told) {
        self.0.retain(|uid, _| servers.iter().any(|server| server.uid == *uid));
        for server in servers {
            if !self.0.contains_key(&server.uid) {
                let Ok(ip) = server.ip.parse() else { continue };
                let way = Way { address: SocketAddr::new(ip, PORT), tls: tls.clone() };
                let shared = Arc::<Shared>::default();
                let task = tokio::spawn(ask(way.clone(), shared.clone(), told.clone()));
                self.0.insert(server.uid.clone(), Poll { way, shared, task });
            }
            if let Some(poll) = self.0.get(&server.uid)
                && !poll.shared.eager.swap(server.eager, Ordering::Relaxed)
                && server.eager
            {
                poll.shared.wake.notify_one();
            }
        }
    }

    /// Asks none any more, such as because certificates have changed.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// What a server said last.
    pub fn answer(&self, uid: &str) -> Option<Answer> {
        let poll = self.0.get(uid)?;
        poll.shared.answer.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A way to call it.
    pub fn control(&self, uid: &str) -> Option<Control> {
        self.0.get(uid).and_then(|poll| poll.way.control())
    }

    /// Asks it at once.
    pub fn wake(&self, uid: &str) {
        if let Some(poll) = self.0.get(uid) {
            poll.shared.wake.notify_one();
        }
    }
}

async fn ask(way: Way, shared: Arc<Shared>, told: Told) {
    let mut failures = 0;
    let mut heard = Instant::now();
    let mut kept = None;
    loop {
        let mut control = match kept.take() {
            Some(control) => Some(control),
            None => way.found().await,
        };
        let answer = match &mut control {
            Some(control) => control.state(ANSWER).await,
            None => None,
        };
        if answer.is_some() {
            failures = 0;
            heard = Instant::now();
        } else {
            failures += 1;
        }
        let mut news = false;
        if let (Some(control), Some(version)) = (&mut control, answer.as_ref().and_then(|answer| answer.active.clone()))
        {
            news |= learn(control, &version, &told.versions).await;
        }
        {
            let mut known = shared.answer.lock().unwrap_or_else(PoisonError::into_inner);
            if answer.is_some() || heard.elapsed() > SILENCE {
                news |= *known != answer;
                *known = answer;
            }
        }
        if news {
            (told.changed)();
        }
        let pause = match failures {
            0 if shared.eager.load(Ordering::Relaxed) => EAGER,
            0 => CALM,
            _ => EAGER.saturating_mul(2u32.saturating_pow(failures)).min(CALM),
        };
        // A thousand servers are a thousand connections, each of some ten kilobytes here and there.
        kept = control.filter(|_| pause == EAGER);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shared.wake.notified() => {}
        }
    }
}

/// Asks what is not known of a version; true where that was learned.
async fn learn(control: &mut Control, version: &str, versions: &Mutex<Versions>) -> bool {
    let lock = || versions.lock().unwrap_or_else(PoisonError::into_inner);
    if lock().contains_key(version) {
        return false;
    }
    match control.describe(version).await {
        Ok(answer) => match described(&answer) {
            Some(known) => lock().insert(version.to_owned(), known).is_none(),
            None => {
                tracing::warn!(version, "a server describes a version in a way that makes no sense");
                false
            }
        },
        Err(status) => {
            tracing::warn!(version, %status, "a server does not describe its version");
            false
        }
    }
}
