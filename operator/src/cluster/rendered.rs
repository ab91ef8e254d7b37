//! What was wanted of the cluster in an object's last round, in short: children are rendered again only where something that
//! they depend on has changed, or one of them is not there as it was wanted.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hasher};
use std::io;

use unimodel_crds::UnifiedModelSpec;

use super::children::{APPLIED, Child, Input, Kind};
use super::observed::Family;

/// Children as they were wanted.
#[derive(Debug)]
pub struct Rendered {
    /// A digest of what they depend on.
    inputs: u64,
    children: Vec<Brief>,
}

#[derive(Debug)]
struct Brief {
    kind: Kind,
    name: String,
    applied: String,
}

impl Rendered {
    /// These children, and a digest of what they depend on.
    pub fn new(inputs: u64, wanted: &[Child]) -> Self {
        let brief = |child: &Child| Brief {
            kind: child.kind,
            name: child.name.clone(),
            applied: child.value["metadata"]["annotations"][APPLIED].as_str().unwrap_or_default().to_owned(),
        };
        Self { inputs, children: wanted.iter().map(brief).collect() }
    }

    /// Whether the same is wanted, and the cluster has all of it. `owner`: the uid of whom it must belong to.
    pub fn is_there(&self, inputs: u64, family: &Family, owner: &str) -> bool {
        let is = |brief: &Brief| {
            let observed = family.children.get(&(brief.kind, brief.name.clone()));
            observed.is_some_and(|observed| {
                observed.owner_uid.as_deref() == Some(owner)
                    && observed.applied.as_ref() == Some(&brief.applied)
                    && observed.compared() == Some(true)
            })
        };
        self.inputs == inputs && self.children.iter().all(is)
    }

    /// What is wanted, by kind and name.
    pub fn asked(&self) -> BTreeSet<(Kind, &str)> {
        self.children.iter().map(|brief| (brief.kind, brief.name.as_str())).collect()
    }
}

/// A digest of all that children depend on.
pub fn inputs(spec: &UnifiedModelSpec, input: &Input<'_>) -> u64 {
    let mut digest = Digest(DefaultHasher::new());
    let Input { owner, model: _, plan, scaling, routes, image, pull_secrets, store: _ } = input;
    // What is wanted and where the store is follow from the spec. What cannot be written cannot be the same either.
    let all = (spec, &owner.name, &owner.uid, &plan.workloads, scaling, routes, image, pull_secrets);
    match serde_json::to_writer(&mut digest, &all) {
        Ok(()) => digest.0.finish(),
        Err(_) => rand::random(),
    }
}

struct Digest(DefaultHasher);

impl io::Write for Digest {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
