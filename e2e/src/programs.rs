//! Programs of pods, as their node sees them. A pod that is deleted ends in order, also by force: the kubelet tells it first.
//! Only the tests' own cluster has its node on this machine.

use std::process::Command;

use k8s_openapi::api::core::v1::Pod;

use crate::cluster_is_anothers;

/// What runs in some pods.
pub(crate) struct Programs(Vec<String>);

impl Programs {
    /// Those of these pods, other than what holds a pod's namespaces; none where the node is out of reach.
    pub(crate) fn of(pods: &[Pod]) -> Option<Self> {
        if cluster_is_anothers() {
            println!("left out: another's nodes are out of reach, so that pods end in order");
            return None;
        }
        let marks: Vec<String> =
            pods.iter().map(|pod| format!("/pod{}/", pod.metadata.uid.as_ref().unwrap())).collect();
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap() {
            let folder = entry.unwrap().path();
            // Most others are no processes, or have ended meanwhile.
            let Ok(groups) = std::fs::read_to_string(folder.join("cgroup")) else { continue };
            let name = std::fs::read_to_string(folder.join("comm")).unwrap_or_default();
            if name.trim() != "pause" && marks.iter().any(|mark| groups.contains(mark)) {
                found.push(folder.file_name().unwrap().to_str().unwrap().to_owned());
            }
        }
        assert!(found.len() >= pods.len(), "{} programs of {} pods", found.len(), pods.len());
        Some(Self(found))
    }

    pub(crate) fn signal(&self, signal: &str) {
        assert!(self.send(signal), "kill -{signal} {:?}", self.0);
    }

    fn send(&self, signal: &str) -> bool {
        let status = Command::new("kill").arg(format!("-{signal}")).args(&self.0).status();
        status.is_ok_and(|status| status.success())
    }
}

/// Programs that do nothing until this is dropped.
pub struct Held(Programs);

impl Held {
    pub(crate) fn new(programs: Programs) -> Self {
        programs.signal("STOP");
        Self(programs)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Where a test failed they may have ended.
        let _ = self.0.send("CONT");
    }
}
