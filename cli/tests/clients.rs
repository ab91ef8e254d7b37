//! Clients that others wrote, against `unimodel serve` with a version that has just been trained.
#![allow(clippy::unwrap_used)]

mod place;

use std::process::Command;

use place::{Place, Serving, succeeded};

#[test]
#[ignore = "installs clients from PyPI, half a gigabyte: `make test` runs it"]
fn tritonclient_kserve_and_grpcurl_are_served() {
    let place = Place::new(120, 200, 6_000);
    let trained = succeeded(&place.train("store", &[]).output().unwrap());
    let version = trained["version"].as_str().unwrap();
    let promoted = place.command(&["promote", "--store", "store", version, "--channel", "stable"]).output().unwrap();
    succeeded(&promoted);

    let mut command = place.command(&["serve", "--store", "store"]);
    command.args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
    let serving = Serving::start(command);

    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/test-clients.sh");
    let status = Command::new(script).args([serving.address(), "search", "1", "2"]).status().unwrap();
    assert!(status.success());
}
