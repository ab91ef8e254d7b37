//! What is counted beside the data path.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// Files that changed while the server ran. A handle: a clone counts into the same.
#[derive(Clone, Debug)]
pub struct OperationsMetrics {
    config: Family<ResultLabels, Counter>,
    certificates: Family<ResultLabels, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    result: &'static str,
}

/// What became of a file that changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileReload {
    /// It is in effect.
    Applied,
    /// What was in effect before still is.
    Refused,
}

impl From<FileReload> for ResultLabels {
    fn from(result: FileReload) -> Self {
        let result = match result {
            FileReload::Applied => "applied",
            FileReload::Refused => "refused",
        };
        Self { result }
    }
}

impl OperationsMetrics {
    /// Registers all under the prefix `unimodel_`.
    pub fn register(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("unimodel");
        let metrics = Self { config: Family::default(), certificates: Family::default() };
        // From 0 on, so that the first is seen as an increase.
        for result in [FileReload::Applied, FileReload::Refused] {
            metrics.config(result, 0);
            metrics.certificates(result, 0);
        }
        registry.register("config_reloads", "Changes of the configuration file, by result", metrics.config.clone());
        let help = "Changes of the control port's certificates, by result";
        registry.register("certificate_reloads", help, metrics.certificates.clone());
        metrics
    }

    /// The configuration file has changed so often.
    pub fn config(&self, result: FileReload, times: u64) {
        self.config.get_or_create(&result.into()).inc_by(times);
    }

    /// The certificates have changed so often.
    pub fn certificates(&self, result: FileReload, times: u64) {
        self.certificates.get_or_create(&result.into()).inc_by(times);
    }
}
