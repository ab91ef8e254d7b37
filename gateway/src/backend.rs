//! A server's HTTP/2 connections: several, reused, and opened in the background.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use rand::Rng;
use tokio::net::TcpStream;
use tokio::sync::watch;

/// Connections to one server.
const CONNECTIONS: usize = 4;
/// Requests in flight on each connection from which another one is opened.
const CROWDED: usize = 64;
/// How long a connection may take to be there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// The first pause after a server could not be reached.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How often a connection is asked whether it still lives, and how long it may take to say so.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(5));
/// Bytes of one answer that may be on their way.
const STREAM_WINDOW: u32 = 1 << 20;
/// Bytes of all answers of a connection that may be on their way.
const CONNECTION_WINDOW: u32 = 8 << 20;
/// Bytes of an answer's headers.
const HEADER_BYTES: u32 = 64 << 10;

/// Whether a server can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// Nobody has asked.
    Idle,
    /// A first connection is being opened.
    Connecting,
    /// There is a connection.
    Up,
    /// The last try failed; another follows while requests ask for the server.
    Down(Arc<str>),
}

/// A server.
#[derive(Debug)]
pub struct Backend {
    address: Arc<str>,
    connections: Mutex<Vec<Connection>>,
    link: watch::Sender<Link>,
    /// Number of connections, readable without the lock.
    up: AtomicUsize,
    is_dialling: AtomicBool,
    /// Whether a request has asked for the server since the last try.
    is_wanted: AtomicBool,
    opened: AtomicU32,
}

#[derive(Debug)]
struct Connection {
    id: u32,
    send: SendRequest<Bytes>,
    in_flight: Arc<AtomicUsize>,
}

/// A connection with room for one more request; dropping it makes room again.
pub struct Lease {
    /// Sends the request.
    pub send: SendRequest<Bytes>,
    connection: u32,
    in_flight: Arc<AtomicUsize>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Backend {
    /// A server that is not connected to yet. `address`: host and port.
    pub fn new(address: &str) -> Self {
        Self {
            address: address.into(),
            connections: Mutex::default(),
            link: watch::Sender::new(Link::Idle),
            up: AtomicUsize::new(0),
            is_dialling: AtomicBool::new(false),
            is_wanted: AtomicBool::new(false),
            opened: AtomicU32::new(0),
        }
    }

    /// Host and port.
    pub fn address(&self) -> &Arc<str> {
        &self.address
    }

    /// Whether there is a connection.
    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed) > 0
    }

    /// Whether the server can be reached, as of the last try.
    pub fn link(&self) -> Link {
        self.link.borrow().clone()
    }

    /// Changes of [`Backend::link`].
    pub fn links(&self) -> watch::Receiver<Link> {
        self.link.subscribe()
    }

    /// Number of connections.
    pub fn connections(&self) -> usize {
        self.up.load(Ordering::Relaxed)
    }

    /// Sees to it that a connection is being opened where there is none.
    pub fn want(self: &Arc<Self>) {
        self.is_wanted.store(true, Ordering::Relaxed);
        if !self.is_up() {
            self.dial();
        }
    }

    /// The connection with the fewest requests in flight. Where all are crowded another one is opened for those to come.
    pub fn lease(self: &Arc<Self>) -> Option<Lease> {
        let (lease, is_crowded) = {
            let connections = self.lock();
            let count = |connection: &&Connection| connection.in_flight.load(Ordering::Relaxed);
            let best = connections.iter().min_by_key(count)?;
            let crowd = best.in_flight.fetch_add(1, Ordering::Relaxed);
            let lease = Lease { send: best.send.clone(), connection: best.id, in_flight: best.in_flight.clone() };
            let most = CROWDED.min(best.send.current_max_send_streams().max(1));
            (lease, crowd >= most && connections.len() < CONNECTIONS)
        };
        if is_crowded {
            self.dial();
        }
        Some(lease)
    }

    /// Takes a connection out of use: it takes no more requests. Those in flight on it go on.
    pub fn retire(&self, lease: &Lease) {
        self.remove(lease.connection);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remove(&self, id: u32) {
        let mut connections = self.lock();
        connections.retain(|connection| connection.id != id);
        self.up.store(connections.len(), Ordering::Relaxed);
        if connections.is_empty() {
            self.link.send_if_modified(|link| {
                let was_up = *link == Link::Up;
                if was_up {
                    *link = Link::Idle;
                }
                was_up
            });
        }
    }

    fn dial(self: &Arc<Self>) {
        if self.is_dialling.swap(true, Ordering::AcqRel) {
            return;
        }
        self.link.send_if_modified(|link| {
            let is_first = *link == Link::Idle;
            if is_first {
                *link = Link::Connecting;
            }
            is_first
        });
        // What dials does not keep the server alive: when no route has it any more, it ends.
        tokio::spawn(keep_dialling(Arc::downgrade(self), self.address.clone()));
    }

    fn add(self: &Arc<Self>, send: SendRequest<Bytes>) -> u32 {
        let id = self.opened.fetch_add(1, Ordering::Relaxed);
        let mut connections = self.lock();
        connections.push(Connection { id, send, in_flight: Arc::default() });
        self.up.store(connections.len(), Ordering::Relaxed);
        drop(connections);
        self.link.send_replace(Link::Up);
        id
    }
}

type Opened = (SendRequest<Bytes>, h2::client::Connection<TcpStream, Bytes>);

async fn open(address: &str) -> Result<Opened, String> {
    let opened = async {
        let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        // Requests are small and wanted at once.
        let _ = stream.set_nodelay(true);
        h2::client::Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(HEADER_BYTES)
            .enable_push(false)
            .handshake(stream)
            .await
            .map_err(|error| error.to_string())
    };
    let late = || Err(format!("no connection within {CONNECT_TIMEOUT:?}"));
    tokio::time::timeout(CONNECT_TIMEOUT, opened).await.unwrap_or_else(|_| late())
}

/// Opens one connection, trying again while requests ask for it.
async fn keep_dialling(backend: Weak<Backend>, address: Arc<str>) {
    let mut pause = FIRST_PAUSE;
    loop {
        match open(&address).await {
            Ok((send, connection)) => {
                let Some(backend) = backend.upgrade() else { return };
                let id = backend.add(send);
                tokio::spawn(drive(Arc::downgrade(&backend), id, connection));
                backend.is_dialling.store(false, Ordering::Release);
                return;
            }
            Err(error) => {
                let Some(backend) = backend.upgrade() else { return };
                tracing::debug!(address = &*address, error, "cannot connect");
                backend.is_wanted.store(false, Ordering::Relaxed);
                if backend.is_up() {
                    // It was for a further connection; those that are there go on.
                    backend.is_dialling.store(false, Ordering::Release);
                    return;
                }
                backend.link.send_replace(Link::Down(error.into()));
            }
        }
        let jitter = rand::rng().random_range(0.8..1.2);
        tokio::time::sleep(pause.mul_f64(jitter)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
        let Some(backend) = backend.upgrade() else { return };
        if !backend.is_wanted.load(Ordering::Relaxed) {
            // The next request to come begins anew.
            backend.link.send_replace(Link::Idle);
            backend.is_dialling.store(false, Ordering::Release);
            return;
        }
    }
}

/// Moves a connection's bytes until it ends, and asks it now and then whether it still lives.
async fn drive(backend: Weak<Backend>, id: u32, mut connection: h2::client::Connection<TcpStream, Bytes>) {
    let mut ping_pong = connection.ping_pong();
    let alive = async {
        let (interval, timeout) = KEEP_ALIVE;
        loop {
            tokio::time::sleep(interval).await;
            let Some(ping_pong) = &mut ping_pong else { return std::future::pending().await };
            match tokio::time::timeout(timeout, ping_pong.ping(h2::Ping::opaque())).await {
                Ok(Ok(_)) => {}
                Ok(Err(_)) | Err(_) => return,
            }
        }
    };
    let ended = tokio::select! {
        ended = connection => ended.err().map(|error| error.to_string()),
        () = alive => Some("it does not answer pings".to_owned()),
    };
    let Some(backend) = backend.upgrade() else { return };
    if let Some(error) = ended {
        tracing::debug!(address = &*backend.address, error, "connection ended");
    }
    backend.remove(id);
    // A server that restarts is there again before a request needs it.
    backend.want();
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn what_cannot_be_reached_is_down_and_comes_up_when_it_can() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let backend = Arc::new(Backend::new(&address.to_string()));
        assert_eq!((backend.link(), backend.is_up()), (Link::Idle, false));
        assert!(backend.lease().is_none());
        backend.want();
        let mut links = backend.links();
        links.wait_for(|link| matches!(link, Link::Down(error) if error.contains("refused"))).await.unwrap();
        backend.want();
        let listener = TcpListener::bind(address).await.unwrap();
        let accept = async {
            let (stream, _) = listener.accept().await.unwrap();
            h2::server::handshake(stream).await.unwrap()
        };
        let mut server = accept.await;
        let serve = tokio::spawn(async move { while let Some(Ok(_)) = server.accept().await {} });
        links.wait_for(|link| *link == Link::Up).await.unwrap();
        assert!(backend.lease().is_some());
        // With the last route gone the connection ends.
        drop(backend);
        serve.await.unwrap();
    }
}
