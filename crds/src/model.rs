//! The object as it is meant: every value understood, every reference followed, every default filled in.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Toleration;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::Serialize;
use serde_json::Value;
use unimodel_protocol::duration;

use crate::CPU_CLASS;
use crate::schedule::Schedule;
use crate::spec::{self, CacheVolume, DeviceSpec, HardwareClassSpec, ServiceType, StaticList, TaskSpec, UnifiedModel};

/// What is served where, understood.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// Name of the object.
    pub name: String,
    /// URL of the store.
    pub store: String,
    /// Which version.
    pub want: Want,
    /// The tasks, in the order in which they are written.
    pub tasks: Vec<Task>,
    /// The ServiceAccount that servers run as in a cluster.
    pub service_account: Option<String>,
    /// The Secret whose keys are environment variables of servers in a cluster.
    pub secret: Option<String>,
    /// The gateway in a cluster.
    pub gateway: Gateway,
}

/// The gateway in a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// How many.
    pub replicas: u32,
    /// How callers reach it.
    pub service: ServiceType,
}

/// Which version is to be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Want {
    /// What the channel names.
    Channel(String),
    /// This one.
    Version(String),
}

/// A task.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// Name.
    pub name: String,
    /// Who answers for it.
    pub owner: Option<String>,
    /// Head of the model.
    pub head: String,
    /// What its servers run on.
    pub hardware: HardwareClass,
    /// How many servers at least.
    pub min_replicas: u32,
    /// How many servers at most.
    pub max_replicas: u32,
    /// What each server does at a time.
    pub inference: Inference,
    /// How long answers are kept.
    pub cache: Option<Cache>,
    /// Elements that requests must give.
    pub required: Vec<String>,
    /// What counts where a request does not give an element.
    pub defaults: BTreeMap<String, Value>,
    /// How long an answer may take.
    pub timeout: Timeout,
    /// When a newer version is taken.
    pub refresh: Refresh,
    /// What answers instead, in order.
    pub fallback: Vec<Fallback>,
    /// Who gets a share of the requests.
    pub rollout: Option<Rollout>,
    /// When a second server is asked.
    pub hedging: Option<Duration>,
}

/// What servers run on.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HardwareClass {
    /// Name.
    pub name: String,
    /// What computes.
    pub device: Device,
    /// What is set aside, by resource.
    pub requests: BTreeMap<String, String>,
    /// The most that may be used, by resource.
    pub limits: BTreeMap<String, String>,
    /// Labels that a node must have.
    pub node_selector: BTreeMap<String, String>,
    /// Taints of nodes that do not matter.
    pub tolerations: Vec<Toleration>,
    /// The RuntimeClass of its pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime_class: Option<String>,
    /// Where versions are kept in a cluster. On one machine it changes nothing, and restarts nothing.
    #[serde(skip)]
    pub cache_volume: Option<CacheVolume>,
}

/// What computes.
pub type Device = DeviceSpec;

/// What each server does at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inference {
    /// Compute threads.
    pub workers: u32,
    /// Requests at a time, in one server.
    pub max_concurrency: u32,
    /// Requests that wait at the gateway.
    pub queue_depth: u32,
    /// Candidates of a request.
    pub max_candidates: u32,
}

/// How long answers are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cache {
    /// For so long.
    pub ttl: Duration,
    /// So many in one server.
    pub max_entries: u32,
}

/// How long an answer may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeout {
    /// When the caller asks for nothing.
    pub default: Duration,
    /// Whatever the caller asks for.
    pub max: Duration,
}

/// When a newer version is taken.
#[derive(Clone, Debug, PartialEq)]
pub struct Refresh {
    /// By itself at these times.
    pub schedule: Option<Schedule>,
    /// How long the servers may take to prepare it.
    pub load_timeout: Duration,
}

/// What answers instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// The servers of that task.
    Task(String),
    /// A list of the version.
    Static(StaticList),
}

/// Who gets a share of the requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rollout {
    /// The servers of that task.
    pub to: String,
    /// Percent that they answer.
    pub canary_percent: u32,
    /// Percent that they get a copy of.
    pub mirror_percent: u32,
}

/// Something in the object that cannot be done as it is written, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// The field, such as `spec.tasks[2].hardwareClass`.
    pub key: String,
    /// What is there and what would be right.
    pub message: String,
}

/// Understands an object.
///
/// # Errors
/// All that rules in CEL let through and that cannot be done: it becomes `Accepted=False`.
pub fn resolve(object: &UnifiedModel) -> Result<Model, Vec<Complaint>> {
    let mut resolver = Resolver { object, problems: Vec::new() };
    let name = object.metadata.name.clone().unwrap_or_default();
    let uid = object.metadata.uid.clone().unwrap_or_else(|| name.clone());
    let tasks = object.spec.tasks.iter().enumerate().map(|(index, task)| resolver.task(index, task, &uid)).collect();
    let source = &object.spec.model;
    let want = match (&source.version, &source.channel) {
        (Some(version), _) => Want::Version(version.clone()),
        (None, Some(channel)) => Want::Channel(channel.clone()),
        (None, None) => Want::Channel("stable".into()),
    };
    if resolver.problems.is_empty() {
        let spec::GatewaySpec { replicas, service } = &object.spec.gateway;
        Ok(Model {
            name,
            store: source.source.uri.clone(),
            want,
            tasks,
            service_account: source.source.service_account_name.clone(),
            secret: source.source.secret_ref.as_ref().map(|secret| secret.name.clone()),
            gateway: Gateway { replicas: count(*replicas), service: service.kind },
        })
    } else {
        Err(resolver.problems)
    }
}

struct Resolver<'a> {
    object: &'a UnifiedModel,
    problems: Vec<Complaint>,
}

impl Resolver<'_> {
    fn say(&mut self, key: String, message: String) {
        self.problems.push(Complaint { key, message });
    }

    fn task(&mut self, index: usize, task: &TaskSpec, uid: &str) -> Task {
        let key = |field: &str| format!("spec.tasks[{index}].{field}");
        let hardware = self.hardware(task, key("hardwareClass"));
        for (i, element) in task.context.required.iter().enumerate() {
            let at = key(&format!("context.required[{i}]"));
            if task.context.defaults.contains_key(element) {
                self.say(at, format!("`{element}` has a default too, which would never count; remove one of them"));
            } else if task.context.required[..i].contains(element) {
                self.say(at, format!("`{element}` comes twice; remove one of them"));
            }
        }
        for (element, value) in &task.context.defaults {
            if !is_context_value(value) {
                let must = "it must be a text, a number, or a list of texts";
                self.say(key(&format!("context.defaults.{element}")), format!("is {value}; {must}"));
            }
        }
        for (i, step) in task.fallback.iter().enumerate() {
            let named = step.task.as_ref().filter(|name| self.named(name).is_none());
            if let Some(name) = named {
                let rule = "a fallback's task must be the name of one of spec.tasks";
                let message = format!("is `{name}`; {rule}: {}", self.others(&task.name));
                self.say(key(&format!("fallback[{i}].task")), message);
            }
            if task.fallback[..i].contains(step) {
                self.say(key(&format!("fallback[{i}]")), "is the same as one before; remove it".into());
            }
        }
        if let Some(rollout) = &task.rollout {
            let head = |task: &TaskSpec| task.head.clone().unwrap_or_else(|| task.name.clone());
            let fits = self.named(&rollout.to).is_some_and(|other| head(other) == head(task));
            if !fits {
                let rule = "rollout.to must be the name of one of spec.tasks that has the same head";
                let message = format!("is `{}`; {rule}, `{}`", rollout.to, head(task));
                self.say(key("rollout.to"), message);
            }
        }
        let min_replicas = count(task.replicas.min);
        Task {
            name: task.name.clone(),
            owner: task.owner.clone(),
            head: task.head.clone().unwrap_or_else(|| task.name.clone()),
            min_replicas,
            max_replicas: task.replicas.max.map_or(min_replicas, count),
            inference: Inference {
                workers: task.inference.workers.map_or_else(|| hardware.processors(), count),
                max_concurrency: count(task.inference.max_concurrency),
                queue_depth: count(task.inference.queue_depth),
                max_candidates: count(task.inference.max_candidates),
            },
            hardware,
            cache: task.cache.as_ref().map(|cache| Cache {
                ttl: self.duration(&cache.ttl, key("cache.ttl")),
                max_entries: count(cache.max_entries),
            }),
            required: task.context.required.clone(),
            defaults: task.context.defaults.clone(),
            timeout: Timeout {
                default: self.duration(&task.timeout.default, key("timeout.default")),
                max: self.duration(&task.timeout.max, key("timeout.max")),
            },
            refresh: self.refresh(index, task, uid),
            fallback: task.fallback.iter().filter_map(fallback).collect(),
            rollout: task.rollout.as_ref().map(|rollout| Rollout {
                to: rollout.to.clone(),
                canary_percent: count(rollout.canary_percent),
                mirror_percent: count(rollout.mirror_percent),
            }),
            hedging: task.hedging.as_ref().map(|hedging| self.duration(&hedging.min_delay, key("hedging.minDelay"))),
        }
    }

    fn named(&self, name: &str) -> Option<&TaskSpec> {
        self.object.spec.tasks.iter().find(|task| task.name == name)
    }

    fn others(&self, name: &str) -> String {
        let names: Vec<&str> =
            self.object.spec.tasks.iter().map(|task| task.name.as_str()).filter(|n| *n != name).collect();
        if names.is_empty() { "there is no other".into() } else { names.join(", ") }
    }

    fn hardware(&mut self, task: &TaskSpec, key: String) -> HardwareClass {
        let name = task.hardware_class.as_deref().unwrap_or(CPU_CLASS);
        let declared = &self.object.spec.hardware_classes;
        if let Some(class) = declared.iter().find(|class| class.name == name) {
            return HardwareClass::from(class);
        }
        if name != CPU_CLASS {
            let known: Vec<&str> = declared.iter().map(|class| class.name.as_str()).chain([CPU_CLASS]).collect();
            let rule = "a task's hardwareClass must be `cpu` or the name of one of spec.hardwareClasses";
            self.say(key, format!("is `{name}`; {rule}: {}", known.join(", ")));
        }
        HardwareClass::cpu()
    }

    fn refresh(&mut self, index: usize, task: &TaskSpec, uid: &str) -> Refresh {
        let key = |field: &str| format!("spec.tasks[{index}].refresh.{field}");
        let refresh = &task.refresh;
        let jitter = refresh.jitter.as_ref().map_or(Duration::ZERO, |jitter| self.duration(jitter, key("jitter")));
        let schedule =
            refresh.schedule.as_ref().and_then(|line| match Schedule::new(line, refresh.time_zone.as_deref()) {
                Ok(schedule) => Some(schedule.put_off(share(jitter, uid, &task.name))),
                Err(error) => {
                    let field =
                        if matches!(error, crate::ScheduleError::TimeZone(_)) { "timeZone" } else { "schedule" };
                    self.say(key(field), error.to_string());
                    None
                }
            });
        Refresh { schedule, load_timeout: self.duration(&refresh.load_timeout, key("loadTimeout")) }
    }

    fn duration(&mut self, text: &str, key: String) -> Duration {
        match parse_duration(text) {
            Some(duration) => duration,
            None => {
                self.say(key, format!("is `{text}`; give a duration above zero such as 50ms, 30s or 1m30s"));
                Duration::from_secs(1)
            }
        }
    }
}

fn fallback(step: &spec::FallbackSpec) -> Option<Fallback> {
    let task = step.task.clone().map(Fallback::Task);
    task.or(step.list.map(Fallback::Static))
}

/// As the schema bounds it: never below zero.
fn count(value: i32) -> u32 {
    value.max(0).unsigned_abs()
}

fn parse_duration(text: &str) -> Option<Duration> {
    duration::parse(text).ok().filter(|duration| !duration.is_zero())
}

/// A share of the jitter: of one task always the same, of another another.
fn share(jitter: Duration, uid: &str, task: &str) -> Duration {
    // FNV-1a: the same on every machine and with every release, or a schedule would move with an upgrade.
    let hash = uid
        .bytes()
        .chain([b'/'])
        .chain(task.bytes())
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    Duration::from_secs(hash % (jitter.as_secs() + 1))
}

/// What a context element can be.
fn is_context_value(value: &Value) -> bool {
    match value {
        Value::String(_) => true,
        Value::Number(number) => number.as_f64().is_some_and(f64::is_finite),
        Value::Array(entries) => entries.iter().all(Value::is_string),
        _ => false,
    }
}

impl HardwareClass {
    fn cpu() -> Self {
        let none = BTreeMap::new;
        let device = Device::Cpu;
        let name = CPU_CLASS.to_owned();
        Self {
            name,
            device,
            requests: none(),
            limits: none(),
            node_selector: none(),
            tolerations: Vec::new(),
            runtime_class: None,
            cache_volume: None,
        }
    }

    /// Whole processors that a server may count on: at least one.
    fn processors(&self) -> u32 {
        let asked = self.requests.get("cpu").or_else(|| self.limits.get("cpu"));
        asked.and_then(|quantity| processors(quantity)).map_or(1, |asked| asked as u32).max(1)
    }

    /// The share of processors that a server cannot get beyond.
    pub fn processor_limit(&self) -> Option<f64> {
        self.limits.get("cpu").and_then(|quantity| processors(quantity))
    }
}

/// A quantity of processors, such as `2`, `2.5` or `1500m`.
fn processors(quantity: &str) -> Option<f64> {
    let processors = match quantity.strip_suffix('m') {
        Some(thousandths) => thousandths.parse::<f64>().ok()? / 1000.0,
        None => quantity.parse::<f64>().ok()?,
    };
    (0.0..=1024.0).contains(&processors).then_some(processors)
}

impl From<&HardwareClassSpec> for HardwareClass {
    fn from(class: &HardwareClassSpec) -> Self {
        let resources = class.resources.clone().unwrap_or_default();
        let texts = |quantities: BTreeMap<String, IntOrString>| {
            let text = |quantity| match quantity {
                IntOrString::Int(number) => number.to_string(),
                IntOrString::String(text) => text,
            };
            quantities.into_iter().map(|(resource, quantity)| (resource, text(quantity))).collect()
        };
        Self {
            name: class.name.clone(),
            device: class.device,
            requests: texts(resources.requests),
            limits: texts(resources.limits),
            node_selector: class.node_selector.clone(),
            tolerations: class.tolerations.clone(),
            runtime_class: class.runtime_class_name.clone(),
            cache_volume: class.cache_volume.clone(),
        }
    }
}
