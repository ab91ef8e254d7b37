//! Names and labels of what belongs to an object in a cluster.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

/// The name under which fields are applied, and which tells its objects.
pub const MANAGER: &str = "unimodel-operator";

/// Label: who looks after an object.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Label: the UnifiedModel.
pub const MODEL: &str = "unimodel.dev/model";
/// Label: the task.
pub const TASK: &str = "unimodel.dev/task";

/// The longest name of a Service, and so of all that carries the same one.
const LONGEST: usize = 63;

/// Names that the model's own children have.
const OWN: [&str; 3] = ["gateway", "routes", "tls"];

/// The name of a task's children.
pub fn task(model: &str, task: &str) -> String {
    let name = format!("{model}-{task}");
    if name.len() <= LONGEST && !OWN.contains(&task) {
        return name;
    }
    let hash = short_hash(&format!("{model}/{task}"));
    // Names are of ASCII: every byte is a character.
    let start: String = name.chars().take(LONGEST - hash.len() - 1).collect();
    format!("{}-{hash}", start.trim_end_matches('-'))
}

/// The name of the gateway's Deployment, Service, ServiceAccount, Role and PodDisruptionBudget.
pub fn gateway(model: &str) -> String {
    format!("{model}-gateway")
}

/// The ConfigMap of routes.
pub fn routes(model: &str) -> String {
    format!("{model}-routes")
}

/// The Secret with the certificates of control ports.
pub fn tls(model: &str) -> String {
    format!("{model}-tls")
}

/// A few characters that are others for another text.
pub fn short_hash(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

/// Labels of the gateway's children, or of a task's.
pub fn labels(model: &str, task: Option<&str>) -> BTreeMap<String, String> {
    let mut labels = selector(model, task);
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    labels.insert(MODEL.into(), model.into());
    labels
}

/// Labels by which the gateway's pods, or a task's, are found. They never change: a Deployment's selector cannot.
pub fn selector(model: &str, task: Option<&str>) -> BTreeMap<String, String> {
    let component = if task.is_some() { "server" } else { "gateway" };
    let mut labels = BTreeMap::from([
        ("app.kubernetes.io/name".to_owned(), "unimodel".to_owned()),
        ("app.kubernetes.io/instance".to_owned(), model.to_owned()),
        ("app.kubernetes.io/component".to_owned(), component.to_owned()),
    ]);
    labels.extend(task.map(|task| (TASK.to_owned(), task.to_owned())));
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart_and_fit() {
        assert_eq!(task("discovery", "search"), "discovery-search");
        assert_ne!(task("discovery", "gateway"), gateway("discovery"));
        assert_ne!(task("discovery", "routes"), routes("discovery"));
        let long = |end: &str| task(&"m".repeat(40), &format!("{}{end}", "t".repeat(39)));
        assert_ne!(long("a"), long("b"));
        assert!(long("a").len() <= 63, "{}", long("a"));
        // A name that ends in the middle of two dashes.
        assert!(!task(&"m".repeat(40), &format!("{}--b", "t".repeat(12))).contains("---"));
    }
}
