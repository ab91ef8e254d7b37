//! What the types of a routes file cannot say: names that clash or refer to nothing, numbers out of range.

use std::collections::{HashMap, HashSet};
use std::fmt::Display;

use super::load::{API_VERSION, KIND, Problem};
use super::types::{Endpoint, Fallback, Popularity, Routes, Share, Task, Version};

/// The most items of one static list: it travels with the routes and stays in memory.
const LIST: usize = 1000;

/// All that makes no sense in it.
pub(super) fn check(routes: &Routes) -> Vec<Problem> {
    let mut check = Check { problems: Vec::new() };
    check.is("apiVersion", &routes.api_version, API_VERSION);
    check.is("kind", &routes.kind, KIND);
    let mut versions: HashMap<&str, (usize, &Version)> = HashMap::new();
    for (index, version) in routes.versions.iter().enumerate() {
        let path = format!("versions[{index}]");
        match versions.get(version.name.as_str()) {
            Some((first, _)) => check.twice(&path, "name", &version.name, &format!("versions[{first}]")),
            None => drop(versions.insert(&version.name, (index, version))),
        }
        check.version(&path, version);
    }
    let mut tasks: HashMap<&str, usize> = HashMap::new();
    for (index, task) in routes.tasks.iter().enumerate() {
        let path = format!("tasks[{index}]");
        match tasks.get(task.name.as_str()) {
            Some(first) => check.twice(&path, "name", &task.name, &format!("tasks[{first}]")),
            None => drop(tasks.insert(&task.name, index)),
        }
    }
    for (index, task) in routes.tasks.iter().enumerate() {
        check.task(&format!("tasks[{index}]"), task, &versions, &tasks);
    }
    check.problems
}

struct Check {
    problems: Vec<Problem>,
}

impl Check {
    fn say(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.problems.push(Problem { path: path.into(), message: message.into() });
    }

    fn require(&mut self, right: bool, path: impl Into<String>, found: impl Display, must: &str) {
        if !right {
            self.say(path, format!("is {found}; it must be {must}"));
        }
    }

    fn is(&mut self, path: &str, found: &str, right: &str) {
        self.require(found == right, path, format_args!("`{found}`"), &format!("`{right}`"));
    }

    fn twice(&mut self, path: &str, member: &str, name: &str, first: &str) {
        self.say(format!("{path}.{member}"), format!("`{name}` is the name of {first} already; give it another"));
    }

    /// Names that become part of a URL, of a metric and of an object in a cluster.
    fn name(&mut self, path: &str, name: &str) {
        let alphanumeric = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let bytes = name.as_bytes();
        let right = alphanumeric(bytes.first())
            && alphanumeric(bytes.last())
            && bytes.iter().all(|b| *b == b'-' || alphanumeric(Some(b)))
            && bytes.len() <= 63;
        let must = "1 to 63 of a-z, 0-9 and `-`, with no `-` at either end";
        self.require(right, path, format_args!("`{name}`"), must);
    }

    fn version(&mut self, path: &str, version: &Version) {
        self.require(!version.name.is_empty(), format!("{path}.name"), "empty", "a name");
        if let Some(popularity) = &version.popularity {
            self.popularity(&format!("{path}.popularity"), popularity);
        }
    }

    fn popularity(&mut self, path: &str, popularity: &Popularity) {
        self.list(format!("{path}.all"), &popularity.all);
        for (attribute, lists) in &popularity.by {
            for (value, list) in lists {
                self.list(format!("{path}.by.{attribute}.{value}"), list);
            }
        }
    }

    fn list(&mut self, path: String, ids: &[String]) {
        if ids.len() > LIST {
            self.say(path, format!("has {} items; it must have at most {LIST}", ids.len()));
            return;
        }
        let mut seen = HashSet::with_capacity(ids.len());
        if let Some(twice) = ids.iter().find(|id| !seen.insert(*id)) {
            self.say(path, format!("has `{twice}` twice; remove one of them"));
        }
    }

    fn task(
        &mut self,
        path: &str,
        task: &Task,
        versions: &HashMap<&str, (usize, &Version)>,
        tasks: &HashMap<&str, usize>,
    ) {
        self.name(&format!("{path}.name"), &task.name);
        let version = task.version.as_deref().and_then(|name| {
            let found = versions.get(name).map(|(_, version)| *version);
            if found.is_none() {
                let known = list_of(versions.keys().copied());
                self.say(format!("{path}.version"), format!("is `{name}`; it must be one of `versions`: {known}"));
            }
            found
        });
        if let Some(version) = version.filter(|version| !version.context.is_empty()) {
            for (index, element) in task.required.iter().enumerate() {
                let known = version.context.iter().any(|e| e.name == *element);
                let must = format!("a context element of {}", version.name);
                self.require(known, format!("{path}.required[{index}]"), format_args!("`{element}`"), &must);
            }
        }
        self.require(task.max_candidates > 0, format!("{path}.maxCandidates"), 0, "at least 1");
        self.require(task.max_concurrency > 0, format!("{path}.maxConcurrency"), 0, "at least 1");
        let most = tokio::sync::Semaphore::MAX_PERMITS;
        let fits = task.max_concurrency <= most;
        self.require(fits, format!("{path}.maxConcurrency"), task.max_concurrency, &format!("at most {most}"));
        let timeout = task.timeout;
        self.require(!timeout.default.0.is_zero(), format!("{path}.timeout.default"), "0", "above 0");
        let must = format!("at most timeout.max, {}", timeout.max);
        self.require(timeout.default <= timeout.max, format!("{path}.timeout.default"), timeout.default, &must);
        self.endpoints(&format!("{path}.endpoints"), &task.endpoints);
        self.one_of_both(path, !task.endpoints.is_empty(), task.service.is_some());
        for (member, share) in [("canary", &task.canary), ("mirror", &task.mirror)] {
            if let Some(share) = share {
                self.share(&format!("{path}.{member}"), share);
            }
        }
        for (index, fallback) in task.fallback.iter().enumerate() {
            let key = format!("{path}.fallback[{index}]");
            if task.fallback[..index].contains(fallback) {
                self.say(&key, "is the same as one before; remove it");
            }
            self.fallback(&key, task, fallback, version, tasks);
        }
    }

    fn fallback(
        &mut self,
        path: &str,
        task: &Task,
        fallback: &Fallback,
        version: Option<&Version>,
        tasks: &HashMap<&str, usize>,
    ) {
        match (&fallback.task, fallback.list) {
            (Some(name), None) if *name == task.name => {
                self.say(format!("{path}.task"), format!("is `{name}`, the task itself; name another"));
            }
            (Some(name), None) if !tasks.contains_key(name.as_str()) => {
                let known = list_of(tasks.keys().copied().filter(|known| *known != task.name));
                self.say(format!("{path}.task"), format!("is `{name}`; it must be one of `tasks`: {known}"));
            }
            (Some(_), None) => {}
            (None, Some(_)) => {
                let message = match version {
                    None => "needs the lists of a version; give the task a `version`".to_owned(),
                    Some(version) if version.popularity.is_none() => {
                        format!("needs the lists of a version, and {} has no `popularity`", version.name)
                    }
                    Some(_) => return,
                };
                self.say(format!("{path}.static"), message);
            }
            (Some(_), Some(_)) | (None, None) => self.say(path, "must have exactly one of `task` and `static`"),
        }
    }

    fn share(&mut self, path: &str, share: &Share) {
        let right = (0.0..=100.0).contains(&share.percent);
        self.require(right, format!("{path}.percent"), share.percent, "from 0 to 100");
        self.one_of_both(path, !share.endpoints.is_empty(), share.service.is_some());
        if share.percent > 0.0 && share.endpoints.is_empty() && share.service.is_none() {
            self.say(format!("{path}.endpoints"), format!("is empty; {} % must go somewhere", share.percent));
        }
        self.endpoints(&format!("{path}.endpoints"), &share.endpoints);
    }

    fn one_of_both(&mut self, path: &str, endpoints: bool, service: bool) {
        if endpoints && service {
            self.say(format!("{path}.service"), "is there beside `endpoints`; give one of them");
        }
    }

    fn endpoints(&mut self, path: &str, endpoints: &[Endpoint]) {
        let mut seen: HashMap<&str, usize> = HashMap::with_capacity(endpoints.len());
        for (index, endpoint) in endpoints.iter().enumerate() {
            let right = is_address(&endpoint.address);
            let at = || format!("{path}[{index}].address");
            if !right {
                self.require(false, at(), format_args!("`{}`", endpoint.address), "host:port, such as 10.0.0.7:8080");
            } else if let Some(first) = seen.insert(&endpoint.address, index) {
                self.say(at(), format!("`{}` is that of {path}[{first}] already; remove one", endpoint.address));
            }
            let right = endpoint.weight > 0.0 && endpoint.weight <= 1000.0;
            if !right {
                self.require(false, format!("{path}[{index}].weight"), endpoint.weight, "above 0 and at most 1000");
            }
        }
    }
}

/// A host and a port that is not zero.
fn is_address(address: &str) -> bool {
    let Some((host, port)) = address.rsplit_once(':') else { return false };
    let named = host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host =
        !host.is_empty() && (named || literal.is_some_and(|literal| literal.parse::<std::net::Ipv6Addr>().is_ok()));
    host && port.parse::<u16>().is_ok_and(|port| port != 0)
}

/// Names for people: the first of them in order.
fn list_of<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    match names.len() {
        0 => "there is none".to_owned(),
        count if count > 20 => format!("{} and {} more", names[..20].join(", "), count - 20),
        _ => names.join(", "),
    }
}
