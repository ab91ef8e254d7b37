//! The work on one object, in stages: snapshot, validate, plan, apply what is new, switch routes, prune what is old, say
//! what is so, call servers. Decisions are made elsewhere, by functions of values.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType};
use kube::{Resource, ResourceExt};
use unimodel_crds::{Model, RefreshPhase, TaskStatus, UnifiedModel, UnifiedModelStatus, resolve};

use super::apply::{Applier, Block, Switched};
use super::children::{Input, Kind, Owner, Scaling, Store, children, scaling};
use super::failure::{Failure, Said, failed};
use super::names;
use super::notes::{Note, notes};
use super::observe;
use super::observed::{Cluster, Family, Key, key};
use super::pace::{BUSY, Pace};
use super::polls::{Polls, Server, Told};
use super::queue::{Class, Queue};
use super::rendered::{Rendered, inputs};
use super::routes::{Place, Versions, facts, read, routes};
use super::secret::Secrets;
use super::writer::Writer;
use crate::plan::{Plan, plan};
use crate::rbac::Rule;
use crate::refresh::{Call, Operation};
use crate::snapshot::{Replica, Snapshot, Trouble};
use crate::status::rejected;

/// What this needs, in each namespace that is watched.
pub const RULES: &[Rule] = &[
    Rule::new("unimodel.dev", &["unifiedmodels/status"], &["patch"]),
    // Secrets by name: there is no list and no watch of them.
    Rule::new("", &["secrets"], &["get", "create", "patch"]),
    Rule::new("", &["configmaps", "services"], &["create", "patch", "delete"]),
    Rule::new("apps", &["deployments"], &["create", "patch", "delete"]),
    Rule::new("policy", &["poddisruptionbudgets"], &["create", "patch", "delete"]),
    Rule::new("autoscaling", &["horizontalpodautoscalers"], &["create", "patch", "delete"]),
    // The gateway's, which go with their object and not before.
    Rule::new("", &["serviceaccounts"], &["create", "patch"]),
    Rule::new("rbac.authorization.k8s.io", &["roles", "rolebindings"], &["create", "patch"]),
    Rule::new("events.k8s.io", &["events"], &["create", "patch"]),
];

/// How long gateways may take to notice that a task has left the routes, before its servers go.
const LEAVE: Duration = Duration::from_secs(2);

/// Nothing is put off for longer, so that clocks may jump.
const LONGEST: Duration = Duration::from_secs(600);

/// How long after what somebody else is doing is looked at again.
pub const SOON: Duration = Duration::from_secs(1);

/// What is remembered of an object while it is worked on: nothing that could not be found again.
#[derive(Default)]
pub(super) struct Local {
    versions: Arc<Mutex<Versions>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Answers to the question which version a channel names.
    resolved: BTreeMap<String, Result<String, Trouble>>,
    /// Servers that are being called: one call at a time each.
    busy: BTreeSet<String>,
    polls: Polls,
    pace: Pace,
    secrets: Secrets,
    rendered: Option<Rendered>,
    /// When the routes last changed.
    switched: Option<Instant>,
    /// Since when all tries have failed.
    failing: Option<Instant>,
}

impl Local {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn versions(&self) -> MutexGuard<'_, Versions> {
        self.versions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What pods run.
#[derive(Clone, Debug)]
pub struct Images {
    /// The image of servers and gateways.
    pub serving: String,
    /// Secrets by which it is pulled, in the namespace of each object.
    pub pull_secrets: Vec<String>,
}

/// Works on objects.
pub struct Reconciler {
    cluster: Arc<Cluster>,
    queue: Arc<Queue>,
    writer: Writer,
    images: Images,
    locals: Mutex<HashMap<Key, Arc<Local>>>,
}

impl Reconciler {
    /// One whose servers and gateways run that.
    pub fn new(cluster: Arc<Cluster>, queue: Arc<Queue>, writer: Writer, images: Images) -> Self {
        Self { cluster, queue, writer, images, locals: Mutex::default() }
    }

    fn locals(&self) -> MutexGuard<'_, HashMap<Key, Arc<Local>>> {
        self.locals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whoever else has the lease asks servers now.
    pub fn rest(&self) {
        self.locals().clear();
    }

    /// Works on one object. When it is to be looked at again though nothing changes.
    ///
    /// # Errors
    /// What was written is right, and the rest is tried again.
    pub async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Failure> {
        let family = self.cluster.family(key).unwrap_or_default();
        let object = family.object.clone().filter(|object| object.metadata.deletion_timestamp.is_none());
        let Some(object) = object else {
            // Its children belong to it, and go with it.
            self.locals().remove(key);
            return Ok(None);
        };
        let now = Timestamp::now();
        let previous = object.status.clone().unwrap_or_default();
        let understood = resolve(&object).and_then(|model| match Store::of(&model) {
            Ok(store) => Ok((model, store)),
            Err(complaint) => Err(vec![complaint]),
        });
        let (model, store) = match understood {
            Ok(understood) => understood,
            Err(complaints) => {
                let status = rejected(&previous, &complaints, object.metadata.generation.unwrap_or_default(), now);
                self.tell(&object, &previous, status).await?;
                return Ok(None);
            }
        };
        let local = self.locals().entry(key.clone()).or_default().clone();
        let work = Work { reconciler: self, key, family: &family, object: &object, local: &local, store };
        work.run(model, previous, now).await
    }

    /// Writes the status where it has changed, and tells what a person would want to hear of.
    async fn tell(
        &self,
        object: &UnifiedModel,
        previous: &UnifiedModelStatus,
        status: UnifiedModelStatus,
    ) -> Result<(), Failure> {
        if status == *previous {
            return Ok(());
        }
        let key = key(&object.namespace().unwrap_or_default(), &object.name_any());
        self.cluster.telling(&key, &status);
        let written = self.writer.status(object, &status).await;
        self.cluster.told(&key, written.as_ref().ok().and_then(|written| written.0.clone().ok()));
        written.map_err(failed("status"))?;
        let reference = object.object_ref(&());
        for note in notes(previous, &status) {
            self.publish(&note, &reference).await;
        }
        Ok(())
    }

    /// An event that is lost is no failure: the status says the same.
    async fn publish(&self, note: &Note, reference: &ObjectReference) {
        let event = Event {
            type_: if note.warning { EventType::Warning } else { EventType::Normal },
            reason: note.reason.clone(),
            note: Some(note.text.chars().take(1000).collect()),
            action: "Reconcile".into(),
            secondary: None,
        };
        if let Err(error) = self.writer.event(&event, reference).await {
            tracing::warn!(%error, reason = note.reason, "an event was not published");
        }
    }
}

/// The work on an object that makes sense.
struct Work<'a> {
    reconciler: &'a Reconciler,
    key: &'a Key,
    family: &'a Family,
    object: &'a UnifiedModel,
    local: &'a Local,
    store: Store,
}

impl Work<'_> {
    async fn run(
        &self,
        model: Model,
        previous: UnifiedModelStatus,
        now: Timestamp,
    ) -> Result<Option<Duration>, Failure> {
        let since = self.local.state().failing.map_or(Duration::ZERO, |since| since.elapsed());
        let result = self.stages(model, previous, now, since).await;
        let mut state = self.local.state();
        match &result {
            Err(Failure::Write { .. } | Failure::Blocked(_)) => drop(state.failing.get_or_insert_with(Instant::now)),
            _ => state.failing = None,
        }
        result
    }

    async fn stages(
        &self,
        model: Model,
        previous: UnifiedModelStatus,
        now: Timestamp,
        since: Duration,
    ) -> Result<Option<Duration>, Failure> {
        let owner = Owner {
            namespace: self.object.namespace().unwrap_or_default(),
            name: self.object.name_any(),
            uid: self.object.metadata.uid.clone().unwrap_or_default(),
        };
        let before =
            observe::child(self.family, Kind::ConfigMap, &names::routes(&owner.name)).and_then(|map| read(map));
        if let Some(before) = &before {
            let mut versions = self.local.versions();
            for version in &before.versions {
                versions.entry(version.name.clone()).or_insert_with(|| version.clone());
            }
        }
        let mut snapshot = self.snapshot(model, previous, now);
        let plan = plan(&snapshot);

        let scaling = self.scaling(&snapshot.model, &plan);
        let place = Place {
            namespace: &owner.namespace,
            model: &snapshot.model,
            replicas: &snapshot.replicas,
            before: before.as_ref(),
        };
        let routes = routes(place, &plan.routes, &self.local.versions());
        let input = Input {
            owner: &owner,
            model: &snapshot.model,
            plan: &plan,
            scaling: &scaling,
            routes: &routes,
            image: &self.reconciler.images.serving,
            pull_secrets: &self.reconciler.images.pull_secrets,
            store: &self.store,
        };
        let (renewal, mut blocks) = match self.certificates(&owner, now).await {
            Ok(found) => found,
            Err(failure) => (None, vec![Block::of(None, true, failure, since)?]),
        };
        let applier = Applier {
            writer: &self.reconciler.writer,
            cluster: &self.reconciler.cluster,
            family: self.family,
            key: self.key,
            owner: &owner,
            since,
        };
        let inputs = inputs(&self.object.spec, &input);
        let rendered = self.local.state().rendered.take();
        let rendered = match rendered.filter(|rendered| rendered.is_there(inputs, self.family, &owner.uid)) {
            Some(rendered) => rendered,
            None => {
                let wanted = children(&input);
                if applier.apply(&wanted, &scaling, &mut blocks).await? == Switched(true) {
                    self.local.state().switched = Some(Instant::now());
                }
                Rendered::new(inputs, &wanted)
            }
        };
        let mut wake = renewal.into_iter().chain(plan.wake).min().map(|time| until(time, now));
        let old = applier.old(&rendered.asked());
        if blocks.is_empty() && !old.is_empty() {
            match self.leaves() {
                Some(left) => wake = Some(wake.map_or(left, |wake| wake.min(left))),
                None => {
                    let failed = applier.prune(&old).await.err().map(|failure| Block::of(None, false, failure, since));
                    blocks.extend(failed.transpose()?);
                }
            }
        }
        self.local.state().rendered = Some(rendered);
        let status = if blocks.is_empty() {
            plan.status
        } else {
            for block in &blocks {
                add_to(&mut snapshot, block);
            }
            crate::plan::plan(&snapshot).status
        };
        self.ask(&status, &snapshot.replicas);
        let busy = self.reconciler.queue.was_busy(BUSY);
        let pause = self.local.state().pace.wait(&snapshot.previous, &status, busy, Instant::now());
        match pause {
            Some(pause) => wake = Some(wake.map_or(pause, |wake| wake.min(pause))),
            None => self.reconciler.tell(self.object, &snapshot.previous, status).await?,
        }
        self.call(&plan.calls, &snapshot.replicas);
        let Some(first) = blocks.first() else { return Ok(wake.map(|wait| wait.min(LONGEST))) };
        let message = format!("{}: {}", first.said.trouble.reason, first.said.trouble.message);
        if blocks.iter().all(|block| block.said.lasts) {
            // Whoever refuses may be another one by then, such as a policy.
            return Err(Failure::Refused { message, wake: wake.map_or(LONGEST, |wait| wait.min(LONGEST)) });
        }
        Err(Failure::Blocked(message))
    }

    /// For how long gateways may not have noticed yet that routes have changed.
    fn leaves(&self) -> Option<Duration> {
        let switched = self.local.state().switched?;
        LEAVE.checked_sub(switched.elapsed())
    }

    fn snapshot(&self, model: Model, previous: UnifiedModelStatus, now: Timestamp) -> Snapshot {
        let metadata = &self.object.metadata;
        let mut state = self.local.state();
        let replicas = observe::replicas(self.family, &model, |uid| state.polls.answer(uid));
        let mut versions = self.local.versions();
        // Others are no longer of interest.
        versions.retain(|name, _| {
            let of = |task: &TaskStatus| {
                task.active_version.as_ref() == Some(name) || task.refresh.target.as_ref() == Some(name)
            };
            previous.tasks.iter().any(of) || replicas.iter().any(|replica| replica.active() == Some(name))
        });
        Snapshot {
            gateway: observe::gateway(self.family, &model),
            scaled: observe::scaled(self.family, &model),
            generation: metadata.generation.unwrap_or_default(),
            created: metadata.creation_timestamp.as_ref().map_or(now, |time| time.0),
            previous,
            replicas,
            resolved: std::mem::take(&mut state.resolved),
            requests: observe::requests(self.object),
            facts: versions.iter().map(|(name, version)| (name.clone(), facts(version))).collect(),
            now,
            model,
        }
    }

    fn scaling(&self, model: &Model, plan: &Plan) -> BTreeMap<String, Scaling> {
        let of = |workload: &crate::plan::Workload| {
            (
                workload.task.clone(),
                scaling(model, workload, observe::deployment(self.family, &model.name, &workload.task)),
            )
        };
        plan.workloads.iter().map(of).collect()
    }

    /// Certificates of control ports, before the pods that need them. When they are renewed, and what is in the way.
    async fn certificates(&self, owner: &Owner, now: Timestamp) -> Result<(Option<Timestamp>, Vec<Block>), Failure> {
        let mut secrets = std::mem::take(&mut self.local.state().secrets);
        // A pod that waits for long may wait for a Secret that somebody has removed.
        let waits = self.family.pods.values().any(|pod| pod.task.is_some() && !pod.running && pod.trouble.is_none());
        let begun = self.family.is_begun();
        let result = secrets.keep(&self.reconciler.writer, owner, begun, waits, now).await;
        let mut state = self.local.state();
        if secrets.take_changed() {
            state.polls.clear();
        }
        let renewal = secrets.renewal();
        state.secrets = secrets;
        drop(state);
        match result? {
            None => Ok((renewal, Vec::new())),
            Some(trouble) => Ok((None, vec![Block { task: None, needed: true, said: Said { trouble, lasts: false } }])),
        }
    }

    /// Asks servers how they are.
    fn ask(&self, status: &UnifiedModelStatus, replicas: &[Replica]) {
        let mut state = self.local.state();
        let Some(tls) = state.secrets.client() else { return };
        let servers: Vec<Server> = self
            .family
            .pods
            .iter()
            .filter(|(_, pod)| pod.running && !pod.ending)
            .filter_map(|(name, pod)| {
                let task = pod.task.as_ref()?;
                let status = status.tasks.iter().find(|status| status.name == *task)?;
                let replica = replicas.iter().find(|replica| replica.name == *name)?;
                let moves = !matches!(status.refresh.phase, RefreshPhase::Idle | RefreshPhase::Failed);
                let is_elsewhere =
                    replica.active().is_some_and(|active| status.active_version.as_deref() != Some(active));
                let eager = moves || is_elsewhere || !pod.ready || status.active_version.is_none();
                Some(Server { uid: pod.uid.clone(), ip: pod.ip.clone()?, eager })
            })
            .collect();
        let (queue, key) = (self.reconciler.queue.clone(), self.key.clone());
        let changed = Arc::new(move || queue.add(key.clone(), Class::Begun, Duration::ZERO));
        let told = Told { changed, versions: self.local.versions.clone() };
        state.polls.keep(&servers, &tls, &told);
    }

    /// Calls servers, each once at a time.
    fn call(&self, calls: &[Call], replicas: &[Replica]) {
        for call in calls {
            if !replicas.iter().any(|replica| replica.name == call.replica) {
                continue;
            }
            let Some(pod) = self.family.pods.get(&call.replica) else { continue };
            let mut state = self.local.state();
            let Some(mut control) = state.polls.control(&pod.uid) else { continue };
            if !state.busy.insert(pod.uid.clone()) {
                continue;
            }
            drop(state);
            let local = self.reconciler.locals().get(self.key).cloned();
            let (queue, key) = (self.reconciler.queue.clone(), self.key.clone());
            let (call, uid) = (call.clone(), pod.uid.clone());
            tokio::spawn(async move {
                let result = control.call(&call.operation).await;
                let Some(local) = local else { return };
                let mut state = local.state();
                state.busy.remove(&uid);
                match (&call.operation, result) {
                    (Operation::Resolve { .. }, Ok(Some(version))) => {
                        state.resolved.insert(call.task, Ok(version));
                    }
                    (Operation::Resolve { .. }, Err(trouble)) => {
                        state.resolved.insert(call.task, Err(trouble));
                    }
                    (operation, Err(trouble)) => {
                        tracing::warn!(
                            server = call.replica,
                            ?operation,
                            trouble.message,
                            "a call failed; it is made again"
                        );
                    }
                    _ => {}
                }
                state.polls.wake(&uid);
                drop(state);
                queue.add(key, Class::Begun, Duration::ZERO);
            });
        }
    }
}

/// The status tells what is in the way.
fn add_to(snapshot: &mut Snapshot, block: &Block) {
    let (model, trouble) = (&snapshot.model, &block.said.trouble);
    let stopped = |task: &str| block.needed && block.task.is_none() || block.task.as_deref() == Some(task);
    let tasks = model.tasks.iter().map(|task| task.name.as_str()).filter(|task| stopped(task));
    let missing = tasks.map(|task| observe::missing(task, trouble.clone(), names::task(&model.name, task)));
    snapshot.replicas.extend(missing);
    if block.task.is_none() {
        snapshot.gateway = Some(trouble.clone());
    }
}

fn until(time: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(time.duration_since(now)).unwrap_or_default()
}
