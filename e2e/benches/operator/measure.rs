//! One workload on an empty cluster: all of it made, each object edited, nothing for a while, and the operator restarted.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use unimodel_crds::UnifiedModel;
use unimodel_e2e::{Request, kubectl, requests, until};

use crate::Workload;
use crate::operator::{ACCOUNT, NAMESPACE, Operator, Usage, cpu_of, install, kubeconfig};
use crate::watched::Watched;

/// Where an object is.
fn place(workload: Workload, number: usize) -> String {
    format!("bench-{:02}", number % workload.namespaces)
}

/// Edits that are measured, at most.
const EDITS: usize = 200;

/// Whose part of the processors is told beside the operator's.
const OTHERS: [&str; 5] = ["kube-apiserver", "etcd", "kube-controller", "kube-scheduler", "kwok"];

const TASKS: [&str; 4] = ["search", "related", "category", "notifications"];

/// What was found. Times are in seconds, memory in bytes.
#[derive(Debug, Serialize, Deserialize)]
pub struct Found {
    pub workload: String,
    pub objects: usize,
    pub tasks: usize,
    /// Requests of the operator until all were ready, without watches and the Lease.
    pub requests: usize,
    /// The same by verb and resource.
    pub requests_of: BTreeMap<String, usize>,
    /// Reads among them, and lists when it began.
    pub reads: usize,
    /// How often an object was worked on.
    pub reconciles: u64,
    pub cpu: f64,
    pub memory: u64,
    pub memory_peak: u64,
    /// How long the objects took to be made, one after another.
    pub made: f64,
    pub all_ready: f64,
    /// From when an object was made, or was first worked on, to when it was ready.
    pub one_ready: Percentiles,
    pub one_ready_once_begun: Percentiles,
    pub edit: Percentiles,
    pub edit_requests: f64,
    pub idle: f64,
    pub idle_writes: usize,
    /// After every object and every Deployment was touched by somebody else.
    pub forced_reconciles: u64,
    pub forced_writes: usize,
    pub restart_writes: usize,
    pub restart_reads: usize,
    pub restart_seconds: f64,
    pub restart_changed: usize,
    pub restart_memory: u64,
    pub restart_memory_peak: u64,
    /// Processor time of the others until all were ready.
    pub cpu_of: BTreeMap<String, f64>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Percentiles {
    pub p50: f64,
    pub p99: f64,
    pub max: f64,
}

impl Percentiles {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |share: f64| values[((values.len() - 1) as f64 * share).ceil() as usize];
        Self { p50: at(0.5), p99: at(0.99), max: at(1.0) }
    }
}

fn name(number: usize) -> String {
    format!("model-{number:04}")
}

/// An object that says no more than it must; `edit` is another number with each edit.
fn object(workload: Workload, number: usize, edit: usize) -> Value {
    let task = |task: &&str| {
        let mut value = json!({"name": task, "timeout": {"default": format!("{}ms", 100 + edit), "max": "1s"}});
        if workload.autoscaled {
            value["replicas"] = json!({"min": 1, "max": 3});
        }
        value
    };
    let tasks: Vec<Value> = TASKS[..workload.tasks].iter().map(task).collect();
    let mut object = json!({
        "apiVersion": unimodel_crds::API_VERSION, "kind": "UnifiedModel", "metadata": {"name": name(number)},
        // Pods that are played answer no call, so that nobody could ask them what a channel names.
        "spec": {"model": {"source": {"uri": "s3://models/bench"}, "version": "v1"}, "tasks": tasks},
    });
    if workload.one_gateway {
        object["spec"]["gateway"] = json!({"replicas": 1});
    }
    object
}

/// The operator's requests but those that do not depend on objects.
fn counted() -> Vec<Request> {
    let all = requests(NAMESPACE, ACCOUNT).expect("the audit log: `make bench-operator` has it");
    all.into_iter().filter(|request| request.resource != "leases" && request.verb != "watch").collect()
}

fn writes(requests: &[Request]) -> usize {
    requests.iter().filter(|request| request.writes()).count()
}

fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64()
}

struct Bench {
    workload: Workload,
    program: PathBuf,
    kubeconfig: PathBuf,
    folder: PathBuf,
    client: Client,
    watched: Watched,
}

pub async fn measure(workload: Workload, program: PathBuf, idle: Duration, file: &Path) {
    assert!((1..=TASKS.len()).contains(&workload.tasks), "1 to {} tasks", TASKS.len());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench-operator");
    std::fs::create_dir_all(&folder).unwrap();
    install();
    for number in 0..workload.namespaces {
        kubectl(&format!("create namespace {}", place(workload, number))).well();
    }
    let client = Client::try_default().await.unwrap();
    let bench = Bench {
        workload,
        program,
        kubeconfig: kubeconfig(&folder),
        watched: Watched::begin(client.clone()),
        client,
        folder,
    };
    let operator = bench.start();
    operator.settled(0).await;
    calm().await;
    let mut found = bench.create(&operator).await;
    eprintln!("{workload}: all ready after {:.1} s, with {} requests", found.all_ready, found.requests);
    // What was found is kept, also where what follows does not end well.
    save(&found, file);
    bench.edit(&mut found).await;
    save(&found, file);
    bench.idle(&operator, idle, &mut found).await;
    bench.restart(operator, &mut found).await;
    save(&found, file);
}

fn save(found: &Found, file: &Path) {
    std::fs::write(file, serde_json::to_string_pretty(found).unwrap()).unwrap();
}

impl Bench {
    fn start(&self) -> Operator {
        Operator::start(&self.program, &self.kubeconfig, &self.folder)
    }

    fn api(&self, number: usize) -> Api<UnifiedModel> {
        Api::namespaced(self.client.clone(), &place(self.workload, number))
    }

    fn typed(&self, number: usize) -> UnifiedModel {
        serde_json::from_value(object(self.workload, number, 0)).unwrap()
    }

    /// Makes all objects, one after another as `kubectl apply` does, and waits until all are ready.
    async fn create(&self, operator: &Operator) -> Found {
        let objects = self.workload.objects;
        let begun = counted().len();
        let (used, others) = (operator.usage(), OTHERS.map(cpu_of));
        let (mut made, start) = (Vec::new(), Timestamp::now());
        for number in 0..objects {
            made.push(Timestamp::now());
            self.api(number).create(&PostParams::default(), &self.typed(number)).await.unwrap();
        }
        let end = Timestamp::now();
        until("all are ready", Duration::from_secs(600), async || {
            let ready = self.watched.ready();
            if ready == objects { Ok(()) } else { Err(format!("{ready} of {objects}")) }
        })
        .await;
        let ready: Vec<Timestamp> = (0..objects).map(|number| self.watched.at(&name(number), 1).unwrap()).collect();
        let spent: BTreeMap<String, f64> = OTHERS
            .iter()
            .zip(others)
            .map(|(name, before)| ((*name).to_owned(), (cpu_of(name) - before).as_secs_f64()))
            .collect();
        // What it does a little later belongs to it too.
        tokio::time::sleep(Duration::from_secs(12)).await;
        let Usage { cpu, memory, peak } = operator.usage();
        let requests = &counted()[begun..];
        let mut of = BTreeMap::new();
        for request in requests {
            *of.entry(format!("{} {}", request.verb, request.resource)).or_default() += 1;
        }
        let mut first: BTreeMap<&str, Timestamp> = BTreeMap::new();
        let models: Vec<String> = (0..objects).map(name).collect();
        for request in requests {
            // A child's name begins with its object's, and all of those are equally long.
            if let Some(model) = request.name.get(..models[0].len()) {
                first.entry(model).or_insert(request.received);
            }
        }
        let since = |from: &dyn Fn(usize) -> Timestamp| {
            Percentiles::of(ready.iter().enumerate().map(|(number, ready)| seconds(from(number), *ready)).collect())
        };
        Found {
            workload: self.workload.to_string(),
            objects,
            tasks: self.workload.tasks,
            requests: requests.len(),
            requests_of: of,
            reads: requests.len() - writes(requests),
            reconciles: operator.reconciles().await,
            cpu: (cpu - used.cpu).as_secs_f64(),
            memory,
            memory_peak: peak,
            made: seconds(start, end),
            all_ready: seconds(start, *ready.iter().max().unwrap()),
            one_ready: since(&|number| made[number]),
            one_ready_once_begun: since(&|number| first[models[number].as_str()]),
            cpu_of: spent,
            edit: Percentiles { p50: 0.0, p99: 0.0, max: 0.0 },
            edit_requests: 0.0,
            idle: 0.0,
            idle_writes: 0,
            forced_reconciles: 0,
            forced_writes: 0,
            restart_writes: 0,
            restart_reads: 0,
            restart_seconds: 0.0,
            restart_changed: 0,
            restart_memory: 0,
            restart_memory_peak: 0,
        }
    }

    /// Changes one object after another, from the request to when its status says that all is as it asks for.
    async fn edit(&self, found: &mut Found) {
        let begun = counted().len();
        let count = self.workload.objects.min(EDITS);
        let mut times = Vec::new();
        for edit in 0..count {
            let number = edit * self.workload.objects / count;
            let patch = json!({"spec": {"tasks": object(self.workload, number, 1 + edit)["spec"]["tasks"]}});
            let start = Instant::now();
            let asked = Timestamp::now();
            let changed =
                self.api(number).patch(&name(number), &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
            let generation = changed.metadata.generation.unwrap();
            let at = loop {
                if let Some(at) = self.watched.at(&name(number), generation) {
                    break at;
                }
                assert!(start.elapsed() < Duration::from_secs(30), "{} does not take an edit", name(number));
                tokio::time::sleep(Duration::from_millis(1)).await;
            };
            times.push(seconds(asked, at));
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        found.edit = Percentiles::of(times);
        found.edit_requests = (counted().len() - begun) as f64 / count as f64;
    }

    /// Nothing happens for a while; then somebody touches every object and every Deployment, so that each is worked on.
    async fn idle(&self, operator: &Operator, idle: Duration, found: &mut Found) {
        let begun = counted().len();
        tokio::time::sleep(idle).await;
        let quiet = counted();
        (found.idle, found.idle_writes) = (idle.as_secs_f64(), writes(&quiet[begun..]));
        let before = operator.reconciles().await;
        for what in ["unifiedmodels", "deployments"] {
            kubectl(&format!("annotate {what} --all -A example.com/touched=yes")).well();
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
        operator.settled(0).await;
        found.forced_reconciles = operator.reconciles().await - before;
        found.forced_writes = writes(&counted()[quiet.len()..]);
    }

    async fn restart(&self, operator: Operator, found: &mut Found) {
        // Controllers have seen the touches too, and may still be at work on them.
        calm().await;
        let children = children();
        operator.stop();
        let begun = counted().len();
        let start = Instant::now();
        let operator = self.start();
        operator.settled(self.workload.objects as u64).await;
        found.restart_seconds = start.elapsed().as_secs_f64();
        tokio::time::sleep(Duration::from_secs(5)).await;
        let requests = &counted()[begun..];
        found.restart_writes = writes(requests);
        found.restart_reads = requests.len() - found.restart_writes;
        let after = self::children();
        found.restart_changed = children.lines().zip(after.lines()).filter(|(a, b)| a != b).count();
        let Usage { memory, peak, .. } = operator.usage();
        (found.restart_memory, found.restart_memory_peak) = (memory, peak);
        operator.stop();
    }
}

/// An API server that has just started, and been told of a definition, works for itself.
async fn calm() {
    let span = Duration::from_secs(2);
    until("the API server is calm", Duration::from_secs(120), async || {
        let before = cpu_of(OTHERS[0]);
        tokio::time::sleep(span).await;
        let used = cpu_of(OTHERS[0]) - before;
        if used < span / 10 { Ok(()) } else { Err(format!("it used {used:?} of {span:?}")) }
    })
    .await;
}

/// Every object and child with its version: it changes with each write.
fn children() -> String {
    let get = |what: &str| {
        let columns = "K:.kind,S:.metadata.namespace,N:.metadata.name,U:.metadata.uid,R:.metadata.resourceVersion";
        kubectl(&format!("get {what} -A -o custom-columns={columns}")).well()
    };
    let ours = "-l app.kubernetes.io/managed-by=unimodel-operator";
    let kinds = "deployments,services,configmaps,serviceaccounts,roles,rolebindings,secrets,pdb,hpa,pods";
    get("unifiedmodels") + &get(&format!("{kinds} {ours}"))
}
