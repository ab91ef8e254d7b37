//! What an operator's admin port says.

use crate::place::Place;
use crate::shell::kubectl;

/// The admin port of an operator's pod, by way of the API server.
pub struct Admin<'a> {
    pub place: &'a Place,
    pub pod: String,
}

impl Admin<'_> {
    /// What a path answers.
    #[track_caller]
    pub fn get(&self, path: &str) -> String {
        let Self { place, pod } = self;
        kubectl(&format!("get --raw /api/v1/namespaces/{}/pods/{pod}:9090/proxy{path}", place.namespace)).well()
    }

    /// What a sample says now; zero where there is none.
    pub fn sample(&self, name: &str) -> u64 {
        let text = self.get("/metrics");
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.map_or(0, |value| value.trim().parse().unwrap())
    }
}
