//! The object's file while it is hosted: saving it is applying it.

use std::path::{Path, PathBuf};

use unimodel_crds::{Checked, check};

/// A file that is read again and again.
pub struct ObjectFile {
    path: PathBuf,
    /// What it said last, or that it could not be read.
    last: Result<String, String>,
}

impl ObjectFile {
    /// A file that said so when it was read first.
    pub fn new(path: &Path, text: String) -> Self {
        Self { path: path.to_owned(), last: Ok(text) }
    }

    /// What it says now, where that is not what it said at the last call. Where it cannot be used: why.
    pub fn changed(&mut self, store: &str) -> Option<Result<Checked, String>> {
        let text = std::fs::read_to_string(&self.path).map_err(|error| error.to_string());
        if text == self.last {
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
    }
    for (index, task) in checked.model.tasks.iter().enumerate() {
        if task.max_replicas > task.min_replicas {
            let (min, max) = (task.min_replicas, task.max_replicas);
            notices.push(format!("spec.tasks[{index}].replicas.max: {max} is for a cluster; {min} run here"));
        }
    }
    notices
}
