//! The configuration file while the server runs: its `tasks` take effect when they change.
//!
//! The file is read every second and compared with what it said before. That also sees what notifications of a file
//! system do not: ConfigMap volumes, where a symbolic link two levels up is replaced, and network file systems. It costs
//! one small read.

use std::path::Path;

use super::{ConfigError, ServerConfig};

/// A configuration file that is read again and again.
#[derive(Debug)]
pub struct WatchedFile {
    /// What the file said last, or why it could not be read.
    last: Result<String, String>,
}

/// What a file that has changed says.
#[derive(Debug)]
pub struct Changed {
    /// The new configuration.
    pub config: ServerConfig,
    /// Fields that differ and that a running server cannot change.
    pub needs_restart: Vec<String>,
}

impl WatchedFile {
    /// A file whose content is known by now.
    pub fn new(path: &Path) -> Self {
        Self { last: read(path) }
    }

    /// Reads the file again. `None` where it says what it said at the last call, right or wrong.
    ///
    /// # Errors
    /// A file that cannot be read or used: told once.
    pub fn poll(&mut self, path: &Path, current: &ServerConfig) -> Result<Option<Changed>, ConfigError> {
        let text = read(path);
        if text == self.last {
            return Ok(None);
        }
        self.last = text;
        let config = match &self.last {
            Ok(text) => ServerConfig::parse(text, path)?,
            // For the error with its cause.
            Err(_) => ServerConfig::load(path)?,
        };
        let needs_restart = current.fields_that_need_a_restart(&config);
        Ok(Some(Changed { config, needs_restart }))
    }
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| error.to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn text(timeout: &str, workers: usize) -> String {
        format!(
            "{{apiVersion: unimodel.dev/v1alpha1, kind: ServerConfig, store: ./s, version: v1, workers: {workers}, \
             tasks: [{{name: a, timeout: {{default: {timeout}}}}}]}}"
        )
    }

    #[test]
    fn a_config_map_that_is_replaced_is_noticed_and_a_bad_file_told_once() {
        // As the kubelet lays a ConfigMap out: server.yaml -> ..data/server.yaml, ..data -> ..<time>.
        let dir = tempfile::tempdir().unwrap();
        let publish = |name: &str, text: &str| {
            let version = dir.path().join(name);
            std::fs::create_dir(&version).unwrap();
            std::fs::write(version.join("server.yaml"), text).unwrap();
            symlink(name, dir.path().join("..data_tmp")).unwrap();
            std::fs::rename(dir.path().join("..data_tmp"), dir.path().join("..data")).unwrap();
        };
        publish("..1", &text("50ms", 1));
        let path = dir.path().join("server.yaml");
        symlink("..data/server.yaml", &path).unwrap();
        let current = ServerConfig::load(&path).unwrap();
        let mut watched = WatchedFile::new(&path);
        assert!(watched.poll(&path, &current).unwrap().is_none());

        publish("..2", &text("60ms", 2));
        let changed = watched.poll(&path, &current).unwrap().unwrap();
        assert_eq!(changed.config.tasks[0].timeout.default.as_millis(), 60);
        assert_eq!(changed.needs_restart, ["workers"]);
        assert!(watched.poll(&path, &current).unwrap().is_none());

        publish("..3", &text("never", 2));
        let error = watched.poll(&path, &current).unwrap_err().to_string();
        assert!(error.contains("tasks[0].timeout.default: invalid value: string \"never\""), "{error}");
        assert!(watched.poll(&path, &current).unwrap().is_none());

        std::fs::remove_file(&path).unwrap();
        assert!(watched.poll(&path, &current).unwrap_err().to_string().starts_with("cannot read "));
        assert!(watched.poll(&path, &current).unwrap().is_none());
    }
}
