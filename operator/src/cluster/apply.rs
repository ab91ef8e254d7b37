//! Makes the cluster have what is wanted, and no more: only where it differs, and never what is another's.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt;

use super::child::{DeploymentFacts, Observed};
use super::children::{Child, Kind, Owner, Scaling};
use super::compare::{Need, need};
use super::failure::{Failure, Said, failed};
use super::names;
use super::observe;
use super::observed::{Cluster, Family, Key};
use super::wire::WireChild;
use super::writer::{WriteError, Writer};

/// What is in the way of a child: of a task's, or of the model's own.
#[derive(Clone, Debug)]
pub struct Block {
    /// The task.
    pub task: Option<String>,
    /// Pods need it: none is made before it is there, or they would find what is another's in its place.
    pub needed: bool,
    /// What it is.
    pub said: Said,
}

impl Block {
    /// A failure that the status tells. `since`: for how long all tries have failed.
    ///
    /// # Errors
    /// It is none: the failure itself.
    pub fn of(task: Option<String>, needed: bool, failure: Failure, since: Duration) -> Result<Self, Failure> {
        Ok(Self { task, needed, said: failure.said(since)? })
    }
}

/// Whether routes have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switched(pub bool);

/// Works on the children of one object.
#[derive(Clone, Copy)]
pub struct Applier<'a> {
    /// Writes.
    pub writer: &'a Writer,
    /// What is known.
    pub cluster: &'a Cluster,
    /// What is known of the object.
    pub family: &'a Family,
    /// Its key.
    pub key: &'a Key,
    /// Whose children they are.
    pub owner: &'a Owner,
    /// For how long all tries have failed.
    pub since: Duration,
}

impl Applier<'_> {
    /// Makes and changes children, the routes last.
    ///
    /// # Errors
    /// What was written is right, and the rest is tried again.
    pub async fn apply(
        &self,
        wanted: &[Child],
        scaling: &BTreeMap<String, Scaling>,
        blocks: &mut Vec<Block>,
    ) -> Result<Switched, Failure> {
        let routes = names::routes(&self.owner.name);
        let mut switched = Switched(false);
        let (last, first): (Vec<&Child>, Vec<&Child>) =
            wanted.iter().partition(|child| child.kind == Kind::ConfigMap && child.name == routes);
        for child in first.into_iter().chain(last) {
            let task = child.value["metadata"]["labels"][names::TASK].as_str().map(str::to_owned);
            let needed = child.kind < Kind::Deployment;
            let lacks = blocks.iter().any(|block| block.needed && (block.task.is_none() || block.task == task));
            if !needed && lacks {
                continue;
            }
            match self.put(child, task.as_ref().and_then(|task| scaling.get(task))).await {
                Ok(written) => switched.0 |= written && child.name == routes,
                Err(failure) => blocks.push(Block::of(task, needed, failure, self.since)?),
            }
        }
        Ok(switched)
    }

    /// Makes or changes a child; false where it is as it should be.
    async fn put(&self, child: &Child, scaling: Option<&Scaling>) -> Result<bool, Failure> {
        let (writer, namespace) = (self.writer, self.owner.namespace.as_str());
        let what = || format!("{} {}", child.kind.name(), child.name);
        let observed = observe::child(self.family, child.kind, &child.name);
        match need(child, observed.map(Arc::as_ref), &self.owner.uid) {
            Need::Nothing => return Ok(false),
            Need::Foreign => return self.foreign(child, scaling).await,
            Need::Create => {
                let seeded = seeded(child, scaling);
                match self.write(child, writer.create(namespace, &seeded)).await {
                    Err(error) if error.code() == Some(409) => return self.foreign(child, scaling).await,
                    result => result.map_err(failed(what()))?,
                }
            }
            Need::Update(uid) => {
                let known = observed.and_then(|observed| observed.deployment.as_ref());
                self.hand_over(child, scaling, known, &uid).await?;
                self.write(child, writer.update(namespace, child, &uid)).await.map_err(failed(what()))?;
            }
        }
        tracing::debug!(kind = child.kind.name(), name = child.name, "applied");
        Ok(true)
    }

    /// Writes a child, and keeps what it is since.
    async fn write(
        &self,
        child: &Child,
        write: impl Future<Output = Result<WireChild, WriteError>>,
    ) -> Result<(), WriteError> {
        self.cluster.writing(self.key, child);
        let (written, result) = match write.await {
            Ok(written) => (Some(written), Ok(())),
            Err(error) => (None, Err(error)),
        };
        self.cluster.wrote(self.key, child, written);
        result
    }

    /// Before we say nothing any more of the number of pods that an autoscaler has begun with or is to begin with.
    async fn hand_over(
        &self,
        child: &Child,
        scaling: Option<&Scaling>,
        known: Option<&DeploymentFacts>,
        uid: &str,
    ) -> Result<(), Failure> {
        if let (Kind::Deployment, Some(Scaling::Autoscaled(_)), Some(known)) = (child.kind, scaling, known)
            && let (true, Some(replicas)) = (known.replicas_are_ours, known.replicas)
        {
            let kept = self.writer.keep_replicas(&self.owner.namespace, &child.name, uid, replicas).await;
            kept.map_err(failed(format!("{} {}", child.kind.name(), child.name)))?;
        }
        Ok(())
    }

    /// There is one of that name that watches do not know as ours.
    async fn foreign(&self, child: &Child, scaling: Option<&Scaling>) -> Result<bool, Failure> {
        let owner = self.owner;
        let what = format!("{} {}", child.kind.name(), child.name);
        let found = self.writer.read(child.kind, &owner.namespace, &child.name).await;
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
            self.hand_over(child, scaling, Some(&DeploymentFacts::new(&found)), &uid).await?;
            let write = self.writer.update(&owner.namespace, child, &uid);
            self.write(child, write).await.map_err(failed(what))?;
            return Ok(true);
        }
        Err(Failure::Blocked(format!(
            "there is a {what} already, and it does not belong to this object; rename one of them, or remove that one"
        )))
    }

    /// What nothing asks for any more, in the order in which it goes.
    pub fn old(&self, asked: &BTreeSet<(Kind, &str)>) -> Vec<(Kind, &str, &Observed)> {
        let all = self.family.children.iter().map(|((kind, name), observed)| (*kind, name.as_str(), observed.as_ref()));
        let mut old: Vec<(Kind, &str, &Observed)> = all
            .filter(|(kind, name, _)| !asked.contains(&(*kind, *name)))
            .filter(|(_, _, observed)| observed.owner_uid.as_deref() == Some(&self.owner.uid) && !observed.ending)
            .collect();
        // An autoscaler goes before what it scales.
        old.sort_by_key(|(kind, _, _)| std::cmp::Reverse(*kind));
        old
    }

    /// Removes it.
    ///
    /// # Errors
    /// The rest is tried again.
    pub async fn prune(&self, old: &[(Kind, &str, &Observed)]) -> Result<(), Failure> {
        for (kind, name, observed) in old {
            let what = format!("{} {name}", kind.name());
            let deleted = self.writer.delete(*kind, &self.owner.namespace, name, &observed.uid).await;
            deleted.map_err(failed(what))?;
            // Until the watch says so, it would be removed again.
            self.cluster.remove_child(*kind, self.key.clone(), name);
        }
        Ok(())
    }
}

/// A Deployment that an autoscaler looks after begins with a number of pods, which later applies leave alone. The digest of
/// what is applied says nothing of it, so that it stays as it is without another write.
fn seeded<'a>(child: &'a Child, scaling: Option<&Scaling>) -> Cow<'a, Child> {
    let (Kind::Deployment, Some(Scaling::Autoscaled(replicas))) = (child.kind, scaling) else {
        return Cow::Borrowed(child);
    };
    let mut child = child.clone();
    Arc::make_mut(&mut child.value)["spec"]["replicas"] = (*replicas).into();
    Cow::Owned(child)
}

/// Whether something belongs to an object of the same name that was there before.
pub fn is_leftover(reference: &OwnerReference, owner: &Owner) -> bool {
    reference.kind == "UnifiedModel" && reference.name == owner.name && reference.uid != owner.uid
}
