//! The work on one object, in stages: snapshot, validate, plan, apply what is new, switch routes, prune what is old, say
//! what is so, call servers. Decisions are made elsewhere, by functions of values.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::runtime::events::{Event, EventType, Recorder};
use kube::{Resource, ResourceExt};
use unimodel_crds::{Model, RefreshPhase, UnifiedModel, UnifiedModelStatus, resolve};

use super::children::{Child, Input, Kind, Owner, Scaling, Store, children, scaling};
use super::compare::{Need, need};
use super::names;
use super::notes::{Note, notes};
use super::observed::{Cluster, Family, Key, Observed};
use super::polls::{Polls, Server, Told};
use super::queue::{Class, Queue};
use super::routes::{Place, Versions, facts, read, routes};
use super::secret::Secrets;
use super::writer::{WriteError, Writer};
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
    Rule::new("", &["configmaps", "services", "serviceaccounts"], &["create", "patch", "delete"]),
    Rule::new("apps", &["deployments"], &["create", "patch", "delete"]),
    Rule::new("policy", &["poddisruptionbudgets"], &["create", "patch", "delete"]),
    Rule::new("autoscaling", &["horizontalpodautoscalers"], &["create", "patch", "delete"]),
    Rule::new("rbac.authorization.k8s.io", &["roles", "rolebindings"], &["create", "patch", "delete"]),
    Rule::new("events.k8s.io", &["events"], &["create", "patch"]),
];

/// How long gateways may take to notice that a task has left the routes, before its servers go.
const LEAVE: Duration = Duration::from_secs(2);

/// Nothing is put off for longer, so that clocks may jump.
const LONGEST: Duration = Duration::from_secs(600);

/// How long after what somebody else is doing is looked at again.
pub const SOON: Duration = Duration::from_secs(1);

/// Why work on an object did not end well.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Somebody else may write now.
    #[error("the lease is not held")]
    NotLeader,
    /// Something of the API server.
    #[error("{what}: {source}")]
    Write {
        /// What was to be written.
        what: String,
        /// Why it was not.
        #[source]
        source: WriteError,
    },
    /// Certificates cannot be made.
    #[error(transparent)]
    Certificates(#[from] super::certificates::CertificateError),
    /// Something is in the way that the status tells.
    #[error("{0}")]
    Blocked(String),
}

/// A failure to write something.
pub(super) fn failed(what: impl Into<String>) -> impl FnOnce(WriteError) -> Failure {
    let what = what.into();
    move |source| match source {
        WriteError::NotLeader => Failure::NotLeader,
        source => Failure::Write { what, source },
    }
}

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
    secrets: Secrets,
    /// When the routes last changed.
    switched: Option<Instant>,
}

impl Local {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn versions(&self) -> MutexGuard<'_, Versions> {
        self.versions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Works on objects.
pub struct Reconciler {
    cluster: Arc<Cluster>,
    queue: Arc<Queue>,
    writer: Writer,
    recorder: Recorder,
    image: String,
    locals: Mutex<HashMap<Key, Arc<Local>>>,
}

impl Reconciler {
    /// One with that image for servers and gateways.
    pub fn new(cluster: Arc<Cluster>, queue: Arc<Queue>, writer: Writer, recorder: Recorder, image: String) -> Self {
        Self { cluster, queue, writer, recorder, image, locals: Mutex::default() }
    }

    fn locals(&self) -> MutexGuard<'_, HashMap<Key, Arc<Local>>> {
        self.locals.lock().unwrap_or_else(PoisonError::into_inner)
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
        let written = self.writer.status(object, &status).await.map_err(failed("status"))?;
        self.cluster.put_object(written);
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
        if let Err(error) = self.recorder.publish(&event, reference).await {
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

/// What is in the way of a child.
struct Block {
    task: Option<String>,
    trouble: Trouble,
}

impl Work<'_> {
    async fn run(
        &self,
        model: Model,
        previous: UnifiedModelStatus,
        now: Timestamp,
    ) -> Result<Option<Duration>, Failure> {
        let owner = Owner {
            namespace: self.object.namespace().unwrap_or_default(),
            name: self.object.name_any(),
            uid: self.object.metadata.uid.clone().unwrap_or_default(),
        };
        let before = self.child(Kind::ConfigMap, &names::routes(&owner.name)).and_then(|map| read(map));
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
            image: &self.reconciler.image,
            store: &self.store,
        };
        let wanted = children(&input);

        let (renewal, mut blocks) = self.certificates(&owner, now).await?;
        self.apply(&owner, &wanted, &scaling, &mut blocks).await?;
        let mut wake = renewal.into_iter().chain(plan.wake).min().map(|time| until(time, now));
        if blocks.is_empty() {
            wake = wake.into_iter().chain(self.prune(&owner, &wanted).await?).min();
        }
        let status = if blocks.is_empty() {
            plan.status
        } else {
            for block in &blocks {
                block.add_to(&mut snapshot, &owner.name);
            }
            crate::plan::plan(&snapshot).status
        };
        self.ask(&status, &snapshot.replicas);
        self.reconciler.tell(self.object, &snapshot.previous, status).await?;
        self.call(&plan.calls, &snapshot.replicas);
        match blocks.first() {
            None => Ok(wake.map(|wait| wait.min(LONGEST))),
            Some(block) => Err(Failure::Blocked(format!("{}: {}", block.trouble.reason, block.trouble.message))),
        }
    }

    fn child(&self, kind: Kind, name: &str) -> Option<&Arc<Observed>> {
        self.family.children.get(&(kind, name.to_owned()))
    }

    fn snapshot(&self, model: Model, previous: UnifiedModelStatus, now: Timestamp) -> Snapshot {
        let metadata = &self.object.metadata;
        let mut state = self.local.state();
        let mut replicas = self.replicas(&model, &state.polls);
        replicas.sort_by(|a, b| (&a.task, &a.name).cmp(&(&b.task, &b.name)));
        Snapshot {
            gateway: self.gateway(&model),
            generation: metadata.generation.unwrap_or_default(),
            created: metadata.creation_timestamp.as_ref().map_or(now, |time| time.0),
            previous,
            replicas,
            resolved: std::mem::take(&mut state.resolved),
            requests: requests(self.object),
            facts: self.local.versions().iter().map(|(name, version)| (name.clone(), facts(version))).collect(),
            now,
            model,
        }
    }

    /// The servers: pods that are not about to end, and where a Deployment cannot make any, why.
    fn replicas(&self, model: &Model, polls: &Polls) -> Vec<Replica> {
        let mut replicas = Vec::new();
        for (name, pod) in self.family.pods.iter().filter(|(_, pod)| !pod.ending) {
            let Some(task) = &pod.task else { continue };
            let deployment = self.deployment(&model.name, task);
            let template = deployment.and_then(|deployment| deployment.template.as_ref());
            replicas.push(Replica {
                task: task.clone(),
                name: name.clone(),
                environment: String::new(),
                outdated: template.is_some() && template != pod.template.as_ref(),
                address: pod.ip.as_ref().map(|ip| format!("{ip}:8080")).unwrap_or_default(),
                probe: Some(pod.ready),
                answer: polls.answer(&pod.uid).filter(|_| pod.running),
                trouble: pod.trouble.clone(),
            });
        }
        for task in &model.tasks {
            let trouble = self.deployment(&model.name, &task.name).and_then(|deployment| deployment.trouble.clone());
            replicas.extend(trouble.map(|trouble| missing(&task.name, trouble, names::task(&model.name, &task.name))));
        }
        replicas
    }

    fn deployment(&self, model: &str, task: &str) -> Option<&super::observed::DeploymentFacts> {
        self.child(Kind::Deployment, &names::task(model, task))?.deployment.as_ref()
    }

    fn gateway(&self, model: &Model) -> Option<Trouble> {
        let pods = || self.family.pods.values().filter(|pod| pod.task.is_none() && !pod.ending);
        let (ready, wanted) = (pods().filter(|pod| pod.ready).count(), model.gateway.replicas as usize);
        if ready >= wanted {
            return None;
        }
        let count = format!("{ready} of {wanted} gateways answer");
        let trouble = pods().find_map(|pod| pod.trouble.clone());
        Some(trouble.map_or_else(
            || Trouble::new("GatewayStarting", count.clone()),
            |trouble| Trouble { message: format!("{count}; {}", trouble.message), ..trouble },
        ))
    }

    fn scaling(&self, model: &Model, plan: &Plan) -> BTreeMap<String, Scaling> {
        let of = |workload: &crate::plan::Workload| {
            (workload.task.clone(), scaling(model, workload, self.deployment(&model.name, &workload.task)))
        };
        plan.workloads.iter().map(of).collect()
    }

    /// Certificates of control ports, before the pods that need them. When they are renewed, and what is in the way.
    async fn certificates(&self, owner: &Owner, now: Timestamp) -> Result<(Option<Timestamp>, Vec<Block>), Failure> {
        let mut secrets = std::mem::take(&mut self.local.state().secrets);
        // A pod that waits for long may wait for a Secret that somebody has removed.
        let waits = self.family.pods.values().any(|pod| pod.task.is_some() && !pod.running && pod.trouble.is_none());
        let is_begun = super::observed::is_begun(self.object);
        let result = secrets.keep(&self.reconciler.writer, owner, is_begun, waits, now).await;
        let mut state = self.local.state();
        if secrets.take_changed() {
            state.polls.clear();
        }
        let renewal = secrets.renewal();
        state.secrets = secrets;
        drop(state);
        match result? {
            None => Ok((renewal, Vec::new())),
            Some(trouble) => Ok((None, vec![Block { task: None, trouble }])),
        }
    }

    /// Makes and changes children, the routes last.
    async fn apply(
        &self,
        owner: &Owner,
        wanted: &[Child],
        scaling: &BTreeMap<String, Scaling>,
        blocks: &mut Vec<Block>,
    ) -> Result<(), Failure> {
        let routes = names::routes(&owner.name);
        let (last, first): (Vec<&Child>, Vec<&Child>) =
            wanted.iter().partition(|child| child.kind == Kind::ConfigMap && child.name == routes);
        for child in first.into_iter().chain(last) {
            let task = child.value["metadata"]["labels"][names::TASK].as_str().map(str::to_owned);
            // Pods would find what is another's in the place of what they need.
            let lacks = blocks.iter().any(|block| block.task.is_none() || block.task == task);
            if child.kind >= Kind::Deployment && lacks {
                continue;
            }
            match self.put(owner, child, task.as_ref().and_then(|task| scaling.get(task))).await {
                Ok(()) => {}
                Err(Failure::Write { what, source }) if matches!(source.code(), Some(400 | 403 | 422)) => {
                    let trouble = Trouble::new("Refused", format!("{what}: {source}"));
                    blocks.push(Block { task, trouble });
                }
                Err(Failure::Blocked(message)) => {
                    blocks.push(Block { task, trouble: Trouble::new("NameTaken", message) });
                }
                Err(failure) => return Err(failure),
            }
        }
        Ok(())
    }

    async fn put(&self, owner: &Owner, child: &Child, scaling: Option<&Scaling>) -> Result<(), Failure> {
        let (writer, namespace) = (&self.reconciler.writer, owner.namespace.as_str());
        let what = || format!("{} {}", child.kind.name(), child.name);
        let observed = self.child(child.kind, &child.name);
        let written = match need(child, observed.map(Arc::as_ref), &owner.uid) {
            Need::Nothing => return Ok(()),
            Need::Foreign => return self.foreign(owner, child).await,
            Need::Create => match writer.create(namespace, child).await {
                Err(error) if error.code() == Some(409) => return self.foreign(owner, child).await,
                result => result.map_err(failed(what()))?,
            },
            Need::Update(uid) => {
                let known = observed.and_then(|observed| observed.deployment.as_ref());
                if let (Kind::Deployment, Some(Scaling::Autoscaled), Some(known)) = (child.kind, scaling, known)
                    && let (false, Some(replicas)) = (known.autoscaled, known.replicas)
                {
                    writer.keep_replicas(namespace, &child.name, &uid, replicas).await.map_err(failed(what()))?;
                }
                writer.update(namespace, child, &uid).await.map_err(failed(what()))?
            }
        };
        tracing::debug!(kind = child.kind.name(), name = child.name, "applied");
        if child.kind == Kind::ConfigMap && child.name == names::routes(&owner.name) {
            self.local.state().switched = Some(Instant::now());
        }
        self.reconciler.cluster.put_child(child.kind, written);
        Ok(())
    }

    /// There is one of that name that watches do not know as ours.
    async fn foreign(&self, owner: &Owner, child: &Child) -> Result<(), Failure> {
        let what = format!("{} {}", child.kind.name(), child.name);
        let found = self.reconciler.writer.read(child.kind, &owner.namespace, &child.name).await;
        let Some(found) = found.map_err(failed(what.clone()))? else {
            return Err(Failure::Write { what, source: WriteError::Late });
        };
        if found.owner_references().iter().any(|reference| is_leftover(reference, owner)) {
            return Err(Failure::Write { what, source: WriteError::Leftover });
        }
        let ours = found.owner_references().iter().any(|reference| reference.uid == owner.uid);
        if ours {
            // We made it a moment ago, or somebody has taken its labels away.
            let uid = found.metadata.uid.clone().unwrap_or_default();
            let written = self.reconciler.writer.update(&owner.namespace, child, &uid).await.map_err(failed(what))?;
            self.reconciler.cluster.put_child(child.kind, written);
            return Ok(());
        }
        Err(Failure::Blocked(format!(
            "there is a {what} already, and it does not belong to this object; rename one of them, or remove that one"
        )))
    }

    /// Removes what nothing asks for any more. How long until there is more to remove.
    async fn prune(&self, owner: &Owner, wanted: &[Child]) -> Result<Option<Duration>, Failure> {
        let asked: BTreeSet<(Kind, &str)> = wanted.iter().map(|child| (child.kind, child.name.as_str())).collect();
        let mut old: Vec<(&(Kind, String), &Arc<Observed>)> = self
            .family
            .children
            .iter()
            .filter(|((kind, name), _)| !asked.contains(&(*kind, name.as_str())))
            .filter(|(_, observed)| observed.owner_uid.as_deref() == Some(&owner.uid) && !observed.ending)
            .collect();
        if old.is_empty() {
            return Ok(None);
        }
        let switched = self.local.state().switched;
        if let Some(left) = switched.and_then(|switched| LEAVE.checked_sub(switched.elapsed())) {
            return Ok(Some(left));
        }
        // An autoscaler goes before what it scales.
        old.sort_by_key(|((kind, _), _)| std::cmp::Reverse(*kind));
        for ((kind, name), observed) in old {
            let what = format!("{} {name}", kind.name());
            let deleted = self.reconciler.writer.delete(*kind, &owner.namespace, name, &observed.uid).await;
            deleted.map_err(failed(what))?;
            // Until the watch says so, it would be removed again.
            self.reconciler.cluster.remove_child(*kind, self.key.clone(), name);
        }
        Ok(None)
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

impl Block {
    fn add_to(&self, snapshot: &mut Snapshot, model: &str) {
        match &self.task {
            Some(task) => snapshot.replicas.push(missing(task, self.trouble.clone(), names::task(model, task))),
            None => snapshot.gateway = Some(self.trouble.clone()),
        }
    }
}

/// Whether something belongs to an object of the same name that was there before.
pub(super) fn is_leftover(reference: &OwnerReference, owner: &Owner) -> bool {
    reference.kind == "UnifiedModel" && reference.name == owner.name && reference.uid != owner.uid
}

/// A server that there is not, and why.
fn missing(task: &str, trouble: Trouble, name: String) -> Replica {
    Replica {
        task: task.to_owned(),
        name,
        environment: String::new(),
        outdated: false,
        address: String::new(),
        probe: Some(false),
        answer: None,
        trouble: Some(trouble),
    }
}

/// Requests for a refresh: `unimodel.dev/refresh: TASK=TEXT`, several with commas. Another text is another request.
fn requests(object: &UnifiedModel) -> BTreeMap<String, String> {
    let text = object.annotations().get("unimodel.dev/refresh").map(String::as_str).unwrap_or_default();
    let each = text.split(',').filter_map(|entry| entry.split_once('='));
    each.map(|(task, text)| (task.trim().to_owned(), text.trim().chars().take(128).collect())).collect()
}

fn until(time: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(time.duration_since(now)).unwrap_or_default()
}
