//! Clients that others wrote, against `unimodel serve` with a version that has just been trained.
#![allow(clippy::unwrap_used)]

mod place;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use place::{Place, succeeded};

/// A server that ends with the test.
struct Serving(Child);

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

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
    let mut serving = Serving(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
    let mut line = String::new();
    BufReader::new(serving.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let (_, address) = line.split_once(" at http://").unwrap_or_else(|| panic!("{line}"));
    let (address, _) = address.split_once(';').unwrap();

    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/test-clients.sh");
    let status = Command::new(script).args([address, "search", "1", "2"]).status().unwrap();
    assert!(status.success());
}
