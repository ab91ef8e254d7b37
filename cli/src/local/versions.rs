//! What is known of versions: read once each, from the store's copy on this machine.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use serde_json::json;
use unimodel_gateway::routes::Version;
use unimodel_model::bundle::files;
use unimodel_model::catalogue::Catalogue;
use unimodel_model::schema::Schema;
use unimodel_model::store::Store;
use unimodel_model::version::VersionId;
use unimodel_operator::Facts;

use crate::store::version_cache;

/// A version as the core and the gateway know it.
pub struct Known {
    /// For the core.
    pub facts: Facts,
    /// For the gateway.
    pub route: Version,
}

/// Versions that have been read.
#[derive(Default)]
pub struct Versions(BTreeMap<String, Known>);

impl Versions {
    /// What is known of that version.
    pub fn get(&self, version: &str) -> Option<&Known> {
        self.0.get(version)
    }

    /// What the core may know.
    pub fn facts(&self) -> BTreeMap<String, Facts> {
        self.0.iter().map(|(version, known)| (version.clone(), known.facts.clone())).collect()
    }

    /// Reads a version that is not known yet.
    pub async fn learn(&mut self, store: &Store, version: &str) -> anyhow::Result<()> {
        if !self.0.contains_key(version) {
            let known = read(store, version).await.with_context(|| format!("version `{version}`"))?;
            self.0.insert(version.to_owned(), known);
        }
        Ok(())
    }
}

async fn read(store: &Store, version: &str) -> anyhow::Result<Known> {
    let id: VersionId = version.parse()?;
    let local = store.load(&id, &version_cache()?).await?;
    let data_time = local.manifest().data_time;
    let directory = local.dir().to_owned();
    tokio::task::spawn_blocking(move || describe(&directory, id, data_time)).await?
}

fn describe(directory: &Path, version: VersionId, data_time: jiff::Timestamp) -> anyhow::Result<Known> {
    let text = std::fs::read(directory.join(files::SCHEMA)).with_context(|| format!("{} is missing", files::SCHEMA))?;
    let schema: Schema = serde_json::from_slice(&text).with_context(|| files::SCHEMA.to_owned())?;
    let items = Catalogue::read(&directory.join(files::ITEMS), &schema.attributes)?.len();
    let popularity = match std::fs::read(directory.join(files::POPULARITY)) {
        Ok(text) => Some(serde_json::from_slice(&text).with_context(|| files::POPULARITY.to_owned())?),
        Err(_) => None,
    };
    let element = |e: &unimodel_model::schema::Element| json!({"name": e.name, "type": e.kind.name(), "description": e.description, "default": e.default});
    let mut document = json!({
        "name": version.to_string(),
        "dataTime": data_time,
        "items": items,
        "context": schema.context.iter().map(element).collect::<Vec<_>>(),
        "attributes": schema.attributes.iter().map(|a| json!({"name": a.name, "type": a.kind.name()})).collect::<Vec<_>>(),
        "heads": schema.heads,
    });
    let list = popularity.is_some();
    if let Some(popularity) = popularity {
        document["popularity"] = popularity;
    }
    let route = serde_json::from_value(document).context("cannot be described to the gateway")?;
    let heads = schema.heads.into_iter().map(|head| head.name).collect();
    Ok(Known { facts: Facts { heads, data_time, popularity: list }, route })
}
