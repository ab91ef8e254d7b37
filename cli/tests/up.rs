//! `unimodel up` and what asks it, with real processes, ports and files.
#![allow(clippy::unwrap_used)]

mod place;

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::place::{Place, succeeded};

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

const TASKS: &str = "\
apiVersion: unimodel.dev/v1alpha1
kind: UnifiedModel
metadata: {name: m}
spec:
  model: {source: {uri: 'file://./store'}}
  hardwareClasses: [{name: wide, resources: {requests: {cpu: 2}}}]
  tasks:
  - name: search
    replicas: {min: 2}
    timeout: {default: 20s, max: 60s}
    context: {required: [query]}
    fallback: [{static: Popularity}]
  - {name: cheap, head: search, timeout: {default: 20s, max: 60s}}
";

/// A place with a version in its store, and an object that is up in it.
struct Up {
    place: Place,
    host: Option<Child>,
}

impl Up {
    fn new(object: &str) -> Self {
        let place = Place::new(60, 80, 1500);
        let up = Self { place, host: None };
        up.publish("first");
        up.write(object);
        up
    }

    /// Trains and promotes a version, and returns its name.
    fn publish(&self, work: &str) -> String {
        let mut train = self.place.command(&["train", "-f", "data/pipeline.yaml", "--output", "json", "--no-compare"]);
        let trained = succeeded(&train.args(["--work", work, "--store", "store"]).output().unwrap());
        let version = trained["version"].as_str().unwrap().to_owned();
        self.say(&["promote", "--store", "store", &version, "--channel", "stable"]).unwrap();
        version
    }

    fn write(&self, object: &str) {
        std::fs::write(self.place.path("um.yaml"), object).unwrap();
    }

    fn start(&mut self) {
        let mut command =
            self.place.command(&["up", "-f", "um.yaml", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
        let log = std::fs::File::create(self.place.path("up.log")).unwrap();
        self.host = Some(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
    }

    /// What a command prints, or its error.
    fn say(&self, args: &[&str]) -> Result<String, String> {
        let output = self.place.command(args).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
    }

    fn status(&self) -> Option<Value> {
        serde_json::from_str(&self.say(&["status", "--output", "json"]).ok()?).ok()
    }

    /// Waits until the status is so.
    fn wait(&self, what: &str, so: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let status = self.status();
            match status {
                Some(status) if so(&status) => return status,
                status => assert!(begun.elapsed() < PATIENCE, "not {what}: {status:#?}\n{}", self.log()),
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn all_ready(&self, tasks: usize) -> Value {
        self.wait("ready", |status| status["status"]["readyTasks"] == format!("{tasks}/{tasks}"))
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.place.path("up.log")).unwrap_or_default()
    }

    fn rank(&self, task: &str) -> Result<Value, String> {
        let args = ["rank", task, "--context", "query=a", "--limit", "3", "--output", "json"];
        self.say(&args).map(|text| serde_json::from_str(&text).unwrap())
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        if let Some(host) = &mut self.host {
            // Its servers end with it.
            let _ = host.kill();
            let _ = host.wait();
        }
    }
}

/// Processes of the servers of a task, or of all.
fn pids(status: &Value, task: Option<&str>) -> Vec<u32> {
    let servers = status["servers"].as_array().unwrap().iter();
    servers
        .filter(|server| task.is_none_or(|task| server["task"] == task))
        .filter_map(|server| server["pid"].as_u64())
        .map(|pid| pid as u32)
        .collect()
}

fn task<'a>(status: &'a Value, name: &str) -> &'a Value {
    let tasks = status["status"]["tasks"].as_array().unwrap();
    tasks.iter().find(|task| task["name"] == name).unwrap_or(&Value::Null)
}

fn reason(status: &Value, name: &str) -> String {
    task(status, name)["conditions"][0]["reason"].as_str().unwrap_or_default().to_owned()
}

/// Whether a process runs: one that has ended and that nobody has asked for is a zombie.
fn runs(pid: u32) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    state.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.trim_start().starts_with(['Z', 'X']))
}

fn wait_until(what: &str, so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < PATIENCE, "not {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn kill(pid: u32) {
    assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
}

#[test]
fn a_file_is_hosted_and_saving_it_applies_it() {
    let mut up = Up::new(TASKS);
    up.start();
    let before = up.all_ready(2);
    assert_eq!(pids(&before, None).len(), 3);

    let answer = up.rank("search").unwrap();
    assert_eq!(answer["items"].as_array().unwrap().len(), 3);
    assert!(answer["items"][0]["title"].is_string(), "{answer}");
    let explained = up.say(&["rank", "search", "--context", "query=a", "--explain"]).unwrap();
    assert!(explained.contains("user_id (default)") && explained.contains("servers   search-"), "{explained}");
    let error = up.rank("serch").unwrap_err();
    assert_eq!(error, "error: there is no task `serch`; there are search, cheap\n");
    let error = up.say(&["rank", "search"]).unwrap_err();
    assert!(error.contains("query"), "{error}");

    // A knob changes in the servers that run, and a task is added.
    let second =
        TASKS.replace("required: [query]", "required: [query, genre]") + "  - {name: related}\n  - {name: nohead}\n";
    up.write(&second);
    let status =
        up.wait("added", |status| reason(status, "related") == "Serving" && reason(status, "nohead") == "HeadMissing");
    for name in ["search", "cheap"] {
        assert_eq!(pids(&status, Some(name)), pids(&before, Some(name)), "{name} was not restarted");
    }
    let message = task(&status, "nohead")["conditions"][0]["message"].to_string();
    assert!(message.contains("no head `nohead`; it has"), "{message}");
    wait_until("applied in the servers", || up.rank("search").is_err_and(|error| error.contains("genre")));
    up.rank("cheap").unwrap();

    // What cannot be is refused in the words of validate, and all runs on.
    up.write(&second.replace("min: 2", "min: 0"));
    let refused = up.wait("refused", |status| status["fileProblem"].is_string());
    let validate = up.say(&["validate", "-f", "um.yaml"]).unwrap_err();
    assert_eq!(format!("error: {}\n", refused["fileProblem"].as_str().unwrap()), validate);
    std::fs::remove_file(up.place.path("um.yaml")).unwrap();
    let gone = up.wait("missed", |status| status["fileProblem"].as_str().is_some_and(|p| p.starts_with("cannot read")));
    assert_eq!(pids(&gone, Some("search")), pids(&before, Some("search")));
    up.rank("cheap").unwrap();

    // Another hardware class replaces the servers of that task alone; a task that is gone takes its servers along.
    let third = second.replace("  - {name: nohead}\n", "").replace("  - {name: related}\n", "");
    up.write(&third.replace("name: cheap,", "name: cheap, hardwareClass: wide,"));
    let rolled = up.wait("rolled", |status| {
        let now = pids(status, Some("cheap"));
        task(status, "related").is_null()
            && reason(status, "cheap") == "Serving"
            && now.len() == 1
            && now != pids(&before, Some("cheap"))
    });
    assert!(rolled["fileProblem"].is_null());
    assert_eq!(pids(&rolled, Some("search")), pids(&before, Some("search")));
    wait_until("ended", || !pids(&gone, Some("related")).into_iter().any(runs));
    assert!(up.rank("related").unwrap_err().contains("there is no task `related`"));

    let error = up.say(&["up", "-f", "um.yaml"]).unwrap_err();
    assert!(error.contains("is up already"), "{error}");
    let all = pids(&rolled, None);
    assert!(up.say(&["down"]).unwrap().contains("is down"));
    assert!(!all.into_iter().any(runs), "servers outlived `unimodel down`");
    assert!(up.say(&["status"]).unwrap_err().contains("nothing is up"));
}

#[test]
fn a_newer_version_is_taken_by_all_servers_or_by_none() {
    let mut up = Up::new(TASKS);
    up.start();
    let before = up.all_ready(2);
    let old = task(&before, "search")["activeVersion"].as_str().unwrap().to_owned();
    let new = up.publish("second");
    let said = up.say(&["refresh", "search"]).unwrap();
    assert_eq!(said, format!("search: {old} -> {new}\n"));
    assert_eq!(up.rank("search").unwrap()["modelVersion"], new);
    assert_eq!(up.rank("cheap").unwrap()["modelVersion"], old, "tasks move at their own times");
    let after = up.status().unwrap();
    assert_eq!(pids(&after, None), pids(&before, None));
    assert_eq!(after["status"]["model"]["skew"], 1);
    assert_eq!(up.say(&["refresh", "search"]).unwrap(), format!("search: {new} is what there is\n"));

    // A version whose files were changed is refused by name, and the one before serves on.
    let damaged = up.publish("third");
    let weights = up.place.path(&format!("store/versions/{damaged}/model.safetensors"));
    let mut bytes = std::fs::read(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&weights, bytes).unwrap();
    let error = up.say(&["refresh", "search"]).unwrap_err();
    assert!(error.contains("DigestMismatch") && error.contains(&format!("{new} serves on")), "{error}");
    assert_eq!(up.rank("search").unwrap()["modelVersion"], new);
    let refresh = up.status().unwrap();
    assert_eq!(task(&refresh, "search")["refresh"]["target"], damaged);
    let error = up.say(&["refresh", "other"]).unwrap_err();
    assert_eq!(error, "error: there is no task `other`; there are search, cheap\n");
}

/// One request over a connection of its own; the status.
fn ask(gateway: SocketAddr) -> Option<u16> {
    use std::io::{Read, Write};
    let body = r#"{"context":{"query":"a"},"candidates":{"all":true},"limit":1}"#;
    let mut stream = std::net::TcpStream::connect(gateway).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let head = format!(
        "POST /v1/tasks/search:rank HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    // What a fallback answered was not unnoticed.
    if answer.contains("x-unimodel-fallback") {
        return None;
    }
    answer.split(' ').nth(1)?.parse().ok()
}

/// Ends the clients when a test fails too: a scope waits for its threads.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_killed_server_is_not_noticed_and_comes_back() {
    let mut up = Up::new(TASKS);
    up.start();
    let before = up.all_ready(2);
    let gateway: SocketAddr = before["gateway"].as_str().unwrap().parse().unwrap();
    let (stop, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let client = || {
            let mut wrong = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                match ask(gateway) {
                    Some(200) => drop(asked.fetch_add(1, Ordering::Relaxed)),
                    other => wrong.push(other),
                }
                // What is asked without a pause takes the processor from what is to start again.
                std::thread::sleep(Duration::from_millis(5));
            }
            wrong
        };
        let _ends = Ends(&stop);
        let clients: Vec<_> = (0..2).map(|_| scope.spawn(client)).collect();
        wait_until("asked", || asked.load(Ordering::Relaxed) > 20);
        kill(pids(&before, Some("search"))[0]);
        let after = up.wait("started again", |status| {
            let now = pids(status, Some("search"));
            now.len() == 2 && now != pids(&before, Some("search")) && reason(status, "search") == "Serving"
        });
        assert_eq!(after["servers"].as_array().unwrap().iter().filter(|s| s["restarts"] == 1).count(), 1);
        let then = asked.load(Ordering::Relaxed);
        wait_until("asked", || asked.load(Ordering::Relaxed) > then + 20);
        stop.store(true, Ordering::Relaxed);
        for client in clients {
            assert_eq!(client.join().unwrap(), Vec::<Option<u16>>::new());
        }
    });
}

#[test]
fn nothing_outlives_a_host_that_is_killed() {
    let mut up = Up::new(TASKS);
    let detached =
        up.say(&["up", "-f", "um.yaml", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--detach"]);
    let detached = detached.unwrap();
    assert!(detached.contains("search") && detached.contains("Serving"), "{detached}");
    let status = up.status().unwrap();
    let host = status["pid"].as_u64().unwrap() as u32;
    let gateway: SocketAddr = status["gateway"].as_str().unwrap().parse().unwrap();
    kill(host);
    wait_until("ended", || !pids(&status, None).into_iter().any(runs));
    wait_until("closed", || std::net::TcpStream::connect(gateway).is_err());
    assert!(up.say(&["down"]).unwrap_err().contains("nothing is up"));
    // The place is free again.
    up.start();
    up.all_ready(2);
}

#[test]
fn a_task_that_cannot_start_says_why_and_harms_no_other() {
    // This release has no build for GPUs: such a server ends at once.
    let object = TASKS.replace("{name: wide, resources", "{name: gpu, device: Cuda, resources")
        + "  - {name: gpu, head: search, hardwareClass: gpu, fallback: [{task: cheap}]}\n  - {name: odd, head: search, context: {required: [nonsense]}}\n";
    let mut up = Up::new(&object);
    up.start();
    let status = up
        .wait("crash looping", |status| reason(status, "gpu") == "CrashLoop" && reason(status, "search") == "Serving");
    let message = task(&status, "gpu")["conditions"][0]["message"].to_string();
    assert!(message.contains("ended with status 1") && message.contains("cuda"), "{message}");
    // An element that the version lacks is that task's fault alone.
    let status = up.wait("told", |status| !["Starting", "Serving", ""].contains(&&*reason(status, "odd")));
    assert!(task(&status, "odd")["conditions"][0]["message"].to_string().contains("nonsense"), "{status:#}");
    let answer = up.rank("gpu").unwrap();
    assert_eq!(answer["fallback"]["task"], "cheap", "{answer}");
    assert_eq!(up.rank("search").unwrap()["fallback"], Value::Null);
}

#[test]
fn what_cannot_be_started_is_told_in_one_line() {
    let up = Up::new(TASKS);
    let fails = |args: &[&str]| {
        let error = up.say(args).unwrap_err();
        assert!(error.starts_with("error: ") && error.lines().count() == 1, "{error}");
        error
    };
    assert!(fails(&["up", "-f", "nowhere.yaml"]).contains("cannot read nowhere.yaml"));
    std::fs::write(up.place.path("bad.yaml"), TASKS.replace("min: 2", "min: 0")).unwrap();
    assert!(fails(&["up", "-f", "bad.yaml"]).contains("bad.yaml:9:16: spec.tasks[0].replicas.min: is 0"));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for more in [&[][..], &["--detach"]] {
        let error =
            fails(&[&["up", "-f", "um.yaml", "--listen", &address, "--admin-listen", "127.0.0.1:0"], more].concat());
        assert!(error.contains(&address), "{error}");
    }
}

/// The documents that the core makes are the ones that the server reads.
#[test]
fn a_server_reads_what_the_core_writes() {
    let text = TASKS.replace("    context: {required: [query]}\n", "    context: {required: [query], defaults: {hour: 3, history: ['1']}}\n    cache: {ttl: 1m30s}\n    rollout: {to: cheap, canaryPercent: 5}\n");
    let model = unimodel_crds::check(&text, Path::new("um.yaml")).unwrap().model;
    let snapshot = unimodel_operator::Snapshot {
        model: model.clone(),
        generation: 1,
        created: jiff::Timestamp::UNIX_EPOCH,
        previous: Default::default(),
        replicas: vec![],
        scaled: Default::default(),
        gateway: None,
        resolved: Default::default(),
        requests: Default::default(),
        facts: Default::default(),
        now: jiff::Timestamp::UNIX_EPOCH,
    };
    for workload in unimodel_operator::plan(&snapshot).workloads {
        let document = unimodel_operator::server_config(&model, &workload);
        let config =
            unimodel_server::config::ServerConfig::parse(&document.to_string(), Path::new("server.json")).unwrap();
        assert_eq!(config.tasks[0].name, workload.task);
        assert_eq!(config.tasks.len(), if workload.task == "cheap" { 2 } else { 1 });
        assert_eq!(json!(config.workers), json!(workload.workers));
    }
}
