//! What a person types.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// No command waits for so long: nothing else ends one that does not end.
const LIMIT: Duration = Duration::from_secs(120);

/// How a command ended.
#[derive(Debug)]
pub struct Output {
    pub succeeded: bool,
    /// What it said, on either stream.
    pub said: String,
    /// What it printed alone.
    pub printed: String,
}

impl Output {
    #[track_caller]
    pub fn well(self) -> String {
        assert!(self.succeeded, "{}", self.said);
        self.printed
    }

    #[track_caller]
    pub fn refused(self) -> String {
        assert!(!self.succeeded, "it was not refused: {}", self.said);
        self.said
    }
}

/// `kubectl` with these words, parted by spaces.
pub fn kubectl(words: &str) -> Output {
    run("kubectl", words, "")
}

/// `kubectl` that reads a document.
pub fn kubectl_with(words: &str, document: &str) -> Output {
    run("kubectl", words, document)
}

/// `helm` with these words, parted by spaces.
pub fn helm(words: &str) -> Output {
    run("helm", words, "")
}

fn run(program: &str, words: &str, input: &str) -> Output {
    let mut child = Command::new(program)
        .args(words.split_whitespace())
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}; `make e2e` has it on its PATH"));
    // One that ends without reading says why itself.
    let _ = child.stdin.take().map(|mut stdin| stdin.write_all(input.as_bytes()));
    let (ended, end) = channel::<()>();
    let id = child.id().to_string();
    let watch = std::thread::spawn(move || {
        let is_late = end.recv_timeout(LIMIT) == Err(RecvTimeoutError::Timeout);
        is_late && Command::new("kill").arg(id).status().is_ok()
    });
    let output = child.wait_with_output().unwrap();
    drop(ended);
    assert!(!watch.join().unwrap(), "{program} {words}: did not end within {LIMIT:?}");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = format!("{program} {words}\n{printed}{}", String::from_utf8_lossy(&output.stderr));
    Output { succeeded: output.status.success(), said, printed }
}

/// A port of a pod at an address of this machine, wherever the cluster is, until this is dropped.
pub(crate) struct Forward {
    child: Child,
    /// It says more with every connection, and ends where nobody could hear it.
    _said: BufReader<ChildStdout>,
    pub(crate) address: String,
}

impl Forward {
    pub(crate) fn to(namespace: &str, what: &str, port: u16) -> Self {
        let port = format!(":{port}");
        let mut child = Command::new("kubectl")
            .args(["-n", namespace, "port-forward", what, &port])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut said = String::new();
        stdout.read_line(&mut said).unwrap();
        // `Forwarding from 127.0.0.1:41234 -> 7070`
        let address = said.split(' ').nth(2).unwrap_or_else(|| panic!("kubectl port-forward said: {said}")).to_owned();
        Self { child, _said: stdout, address }
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
