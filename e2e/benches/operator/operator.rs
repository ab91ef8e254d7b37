//! The operator as a process, with the rights of its own ServiceAccount and no others.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use serde::Deserialize;
use serde_yaml::Value;
use unimodel_e2e::{kubectl, kubectl_with, until};

pub const NAMESPACE: &str = "unimodel-system";
pub const ACCOUNT: &str = "unimodel-operator";

/// What a person applies to install it.
const INSTALL: &str = include_str!("../../../manifests/install.yaml");

const ADMIN: &str = "127.0.0.1:19090";

/// Installs all but the Deployment and its Service: the program runs here, where it can be measured.
pub fn install() {
    let documents: Vec<Value> =
        serde_yaml::Deserializer::from_str(INSTALL).map(|document| Value::deserialize(document).unwrap()).collect();
    let here = |document: &&Value| !matches!(document["kind"].as_str(), None | Some("Deployment" | "Service"));
    let text: Vec<String> = documents.iter().filter(here).map(|d| serde_yaml::to_string(d).unwrap()).collect();
    kubectl_with("apply --server-side -f -", &text.join("---\n")).well();
    kubectl("wait --for=condition=Established crd/unifiedmodels.unimodel.dev").well();
}

/// A kubeconfig by which a program is the operator's ServiceAccount.
pub fn kubeconfig(folder: &Path) -> PathBuf {
    let token = kubectl(&format!("create token {ACCOUNT} -n {NAMESPACE} --duration=24h")).well();
    let mine = fs::read_to_string(std::env::var("KUBECONFIG").unwrap()).unwrap();
    let mut config: Value = serde_yaml::from_str(&mine).unwrap();
    let mut user = serde_yaml::Mapping::new();
    user.insert("token".into(), token.trim().into());
    config["users"][0]["user"] = user.into();
    let file = folder.join("operator.kubeconfig");
    fs::write(&file, serde_yaml::to_string(&config).unwrap()).unwrap();
    file
}

/// A running operator.
pub struct Operator {
    process: Child,
}

/// What it has used.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    pub cpu: Duration,
    pub memory: u64,
    pub peak: u64,
}

impl Operator {
    pub fn start(program: &Path, kubeconfig: &Path, folder: &Path) -> Self {
        let log = File::options().create(true).append(true).open(folder.join("operator.log")).unwrap();
        let process = Command::new(program)
            .args(["run", "--image", "localhost/unimodel:bench", "--admin-listen", ADMIN])
            .env("KUBECONFIG", kubeconfig)
            .env("POD_NAMESPACE", NAMESPACE)
            .stderr(log)
            .spawn()
            .unwrap();
        Self { process }
    }

    /// Waits until it knows all, leads, and has looked at so many objects.
    pub async fn settled(&self, objects: u64) {
        until("the operator is ready", Duration::from_secs(120), async || {
            let metrics = metrics().await.ok_or("it does not answer")?;
            let of = |name: &str| metric(&metrics, name);
            let settled = of("leader") == 1 && of("reconciles_total") >= objects && of("queue_depth") == 0;
            if settled { Ok(()) } else { Err(format!("{} of {objects} looked at", of("reconciles_total"))) }
        })
        .await;
    }

    /// How often it has worked on an object.
    pub async fn reconciles(&self) -> u64 {
        metric(&metrics().await.unwrap(), "reconciles_total")
    }

    pub fn usage(&self) -> Usage {
        let folder = format!("/proc/{}", self.process.id());
        let status = fs::read_to_string(format!("{folder}/status")).unwrap();
        let kib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
        };
        Usage { cpu: cpu(&folder), memory: kib("VmRSS:") * 1024, peak: kib("VmHWM:") * 1024 }
    }

    /// Tells it to stop, as a kubelet does.
    pub fn stop(mut self) {
        Command::new("kill").arg(self.process.id().to_string()).status().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Processor time of a process, by its folder in /proc, in the kernel's hundredths of a second.
fn cpu(folder: &str) -> Duration {
    let stat = fs::read_to_string(format!("{folder}/stat")).unwrap_or_default();
    let after = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let ticks: u64 = after.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}

/// Processor time of all programs of that name: only one cluster of this kind runs.
pub fn cpu_of(name: &str) -> Duration {
    let folders = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path().display().to_string());
    let named = |folder: &String| fs::read_to_string(format!("{folder}/comm")).is_ok_and(|comm| comm.trim() == name);
    folders.filter(named).map(|folder| cpu(&folder)).sum()
}

async fn metrics() -> Option<String> {
    let answer = reqwest::get(format!("http://{ADMIN}/metrics")).await.ok()?;
    answer.text().await.ok()
}

/// The sum over all labels.
fn metric(text: &str, name: &str) -> u64 {
    let name = format!("unimodel_operator_{name}");
    let of = |line: &str| {
        let rest = line.strip_prefix(&name)?;
        rest.starts_with(['{', ' ']).then(|| rest.rsplit(' ').next()?.parse::<f64>().ok()).flatten()
    };
    text.lines().filter_map(of).sum::<f64>() as u64
}
