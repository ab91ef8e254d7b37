//! Clients that others wrote.

use crate::plain::Server;

/// `cargo test -p unimodel-server --test api -- --ignored` runs it: it needs Python, Go and half a gigabyte.
#[tokio::test]
#[ignore = "installs clients from PyPI"]
async fn clients_that_others_wrote_are_served() {
    let server = Server::start().await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/test-clients.sh");
    let status = tokio::process::Command::new(script)
        .args([&server.address.to_string(), "search", "50", "172"])
        .status()
        .await
        .unwrap();
    assert!(status.success());
}
