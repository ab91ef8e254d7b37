//! What the API server noted of who asked it for what. Only the tests' own cluster shows it.

use jiff::Timestamp;
use serde_json::Value;

/// A request by a pod.
#[derive(Clone, Debug)]
pub struct Request {
    pub pod: String,
    pub verb: String,
    pub resource: String,
    pub name: String,
    pub received: Timestamp,
}

impl Request {
    /// Whether it was meant to change something other than a Lease.
    pub fn writes(&self) -> bool {
        self.resource != "leases" && !matches!(self.verb.as_str(), "get" | "list" | "watch")
    }
}

/// The requests of a namespace's ServiceAccount so far, in their order; none on a cluster that does not show them.
pub fn requests(namespace: &str, account: &str) -> Option<Vec<Request>> {
    let file = std::env::var_os("UNIMODEL_E2E_AUDIT")?;
    let user = format!("system:serviceaccount:{namespace}:{account}");
    let text = std::fs::read_to_string(file).unwrap();
    // The last line may be in writing.
    let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
    let events = whole.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut mine: Vec<Value> = events.filter(|event| event["user"]["username"] == *user).collect();
    mine.sort_by_key(|event| event["requestReceivedTimestamp"].as_str().unwrap().to_owned());
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let request = |event: &Value| Request {
        pod: text(&event["user"]["extra"]["authentication.kubernetes.io/pod-name"][0]),
        verb: text(&event["verb"]),
        resource: text(&event["objectRef"]["resource"]),
        name: text(&event["objectRef"]["name"]),
        received: event["requestReceivedTimestamp"].as_str().unwrap().parse().unwrap(),
    };
    Some(mine.iter().map(request).collect())
}
