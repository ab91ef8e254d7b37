//! What the operator may do: the sum of what its parts say that they need, each beside the code that needs it.

use serde::Serialize;

use crate::cluster::{leader, reconcile, watch};

/// A rule, as RBAC has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// API groups.
    #[serde(rename = "apiGroups")]
    pub groups: [&'static str; 1],
    /// Resources.
    pub resources: &'static [&'static str],
    /// Verbs.
    pub verbs: &'static [&'static str],
}

impl Rule {
    /// A rule about one API group.
    pub const fn new(group: &'static str, resources: &'static [&'static str], verbs: &'static [&'static str]) -> Self {
        Self { groups: [group], resources, verbs }
    }
}

/// All rules, by where they are needed.
#[derive(Clone, Debug, Serialize)]
pub struct Rules {
    /// In the whole cluster, however many namespaces are watched.
    pub cluster: Vec<Rule>,
    /// In each namespace that is watched; in the whole cluster where all of them are.
    pub namespace: Vec<Rule>,
    /// In the namespace of the Lease.
    pub lease: Vec<Rule>,
}

/// All rules.
pub fn rules() -> Rules {
    Rules { cluster: Vec::new(), namespace: [watch::RULES, reconcile::RULES].concat(), lease: leader::RULES.to_vec() }
}

/// All rules, as YAML.
pub fn yaml() -> String {
    let yaml = serde_yaml::to_string(&rules()).unwrap_or_default();
    format!("# Made by `make generate` from operator/src; edit that. `unimodel-operator rbac` prints the same.\n{yaml}")
}
