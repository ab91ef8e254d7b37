//! The object's file while it is hosted: saving it is applying it.

use std::path::{Path, PathBuf};

use unimodel_crds::{Checked, check};

/// A file that is read again and again.
pub struct ObjectFile {
    path: PathBuf,
    /// What it said last, or that it could not be read.
    last: Result<String, String>,
    /// What it said at the last look.
    seen: Option<Result<String, String>>,
}

impl ObjectFile {
    /// A file that said so when it was read first.
    pub fn new(path: &Path, text: String) -> Self {
        Self { path: path.to_owned(), last: Ok(text), seen: None }
    }

    /// What it says now, where that is new, and where it said the same at the last look: a file is empty for a moment while
    /// it is saved. Where it cannot be used: why.
    pub fn changed(&mut self, store: &str) -> Option<Result<Checked, String>> {
        let text = std::fs::read_to_string(&self.path).map_err(|error| error.to_string());
        if text == self.last {
            self.seen = None;
            return None;
        }
        if self.seen.as_ref() != Some(&text) {
            self.seen = Some(text);
            return None;
        }
        self.last = text;
        Some(match &self.last {
            Err(error) => Err(format!("cannot read {}: {error}; what it said last is hosted", self.path.display())),
            Ok(text) => check(text, &self.path).map_err(|error| error.to_string()).and_then(|checked| {
                let uri = &checked.model.store;
                let path = self.path.display();
                let message = format!("{path}: spec.model.source.uri: is `{uri}`; while it is up it stays `{store}`");
                if uri == store { Ok(checked) } else { Err(message) }
            }),
        })
    }
}

/// Fields that say something that has no meaning on one machine.
pub fn notices(checked: &Checked) -> Vec<String> {
    let mut notices = Vec::new();
    for (index, class) in checked.object.spec.hardware_classes.iter().enumerate() {
        let key = format!("spec.hardwareClasses[{index}]");
        if !class.node_selector.is_empty() {
            notices.push(format!("{key}.nodeSelector chooses among nodes: one machine is what there is"));
        }
        if !class.tolerations.is_empty() {
            notices.push(format!("{key}.tolerations are about nodes: one machine is what there is"));
        }
        if class.resources.is_some() {
            notices.push(format!("{key}.resources: of these the processors count here, as compute threads"));
        }
        if class.runtime_class_name.is_some() {
            notices.push(format!("{key}.runtimeClassName is for a cluster"));
        }
        if class.cache_volume.is_some() {
            notices.push(format!("{key}.cacheVolume is for a cluster: here servers share the user's cache"));
        }
    }
    let source = &checked.object.spec.model.source;
    for (field, given) in
        [("serviceAccountName", source.service_account_name.is_some()), ("secretRef", source.secret_ref.is_some())]
    {
        if given {
            notices.push(format!("spec.model.source.{field} is for a cluster: here the environment has credentials"));
        }
    }
    for (index, task) in checked.model.tasks.iter().enumerate() {
        if task.max_replicas > task.min_replicas {
            let (min, max) = (task.min_replicas, task.max_replicas);
            notices.push(format!("spec.tasks[{index}].replicas.max: {max} is for a cluster; {min} run here"));
        }
    }
    notices
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const STORE: &str = "file://./store";

    fn text(name: &str, store: &str) -> String {
        format!(
            "{{apiVersion: unimodel.dev/v1alpha1, kind: UnifiedModel, metadata: {{name: m}}, \
             spec: {{model: {{source: {{uri: '{store}'}}}}, tasks: [{{name: {name}}}]}}}}"
        )
    }

    #[test]
    fn a_change_counts_once_it_lasts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("um.yaml");
        std::fs::write(&path, text("a", STORE)).unwrap();
        let mut file = ObjectFile::new(&path, text("a", STORE));
        assert!(file.changed(STORE).is_none());
        // Half saved, and then whole.
        std::fs::write(&path, "").unwrap();
        assert!(file.changed(STORE).is_none());
        std::fs::write(&path, text("b", STORE)).unwrap();
        assert!(file.changed(STORE).is_none());
        assert_eq!(file.changed(STORE).unwrap().unwrap().model.tasks[0].name, "b");
        assert!(file.changed(STORE).is_none());
        // What cannot be is told once.
        std::fs::write(&path, text("b", "file://./other")).unwrap();
        assert!(file.changed(STORE).is_none());
        let problem = file.changed(STORE).unwrap().unwrap_err();
        assert!(problem.contains("is `file://./other`; while it is up it stays `file://./store`"), "{problem}");
        assert!(file.changed(STORE).is_none());
        std::fs::remove_file(&path).unwrap();
        assert!(file.changed(STORE).is_none());
        assert!(file.changed(STORE).unwrap().unwrap_err().starts_with("cannot read "));
    }

    #[test]
    fn what_one_machine_does_not_have_is_noted() {
        let text = text("a, replicas: {max: 3}", STORE).replace(
            "tasks:",
            "hardwareClasses: [{name: x, nodeSelector: {a: b}, tolerations: [{operator: Exists}], \
             resources: {limits: {memory: 1Gi}}}], tasks:",
        );
        let notices = notices(&check(&text, Path::new("um.yaml")).unwrap());
        let keys: Vec<&str> = notices.iter().map(|notice| notice.split([' ', ':']).next().unwrap()).collect();
        let class = "spec.hardwareClasses[0]";
        let expected =
            [&format!("{class}.nodeSelector"), &format!("{class}.tolerations"), &format!("{class}.resources")];
        assert_eq!(keys[..3], expected.map(String::as_str));
        assert_eq!(keys[3..], ["spec.tasks[0].replicas.max"]);
    }
}
