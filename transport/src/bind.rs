//! A port to listen on, or who has it.

use std::net::SocketAddr;

use tokio::net::TcpListener;

use crate::owner;

/// A port that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}{}", owner.as_ref().map_or(String::new(), |owner| format!(" by {owner}")))]
pub struct ListenError {
    address: SocketAddr,
    #[source]
    source: std::io::Error,
    /// The process that has it, where that can be seen.
    owner: Option<String>,
}

/// Listens.
///
/// # Errors
/// The port is in use, and by what; or it is not ours to listen on.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address).await.map_err(|source| {
        let in_use = source.kind() == std::io::ErrorKind::AddrInUse;
        ListenError { address, owner: in_use.then(|| owner::of(address.port())).flatten(), source }
    })
}
