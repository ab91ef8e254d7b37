//! The objects as a watch tells of them, with the time at which it did.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use futures::StreamExt;
use jiff::Timestamp;
use kube::core::{NotUsed, Object};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use serde::Deserialize;
use unimodel_crds::UnifiedModel;

/// What is needed of an object, so that this program takes little of the processors that are measured.
type Slim = Object<NotUsed, Status>;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    observed_generation: Option<i64>,
    conditions: Vec<Condition>,
}

#[derive(Clone, Debug, Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

/// When each object was as each of its generations asked for.
#[derive(Clone, Default)]
pub struct Watched(Arc<Mutex<HashMap<(String, i64), Timestamp>>>);

impl Watched {
    pub fn begin(client: Client) -> Self {
        let watched = Self::default();
        let resource = kube::core::ApiResource::erase::<UnifiedModel>(&());
        let api: Api<Slim> = Api::all_with(client, &resource);
        let seen = watched.clone();
        tokio::spawn(async move {
            let mut events =
                std::pin::pin!(watcher(api, watcher::Config::default()).default_backoff().touched_objects());
            while let Some(event) = events.next().await {
                if let Ok(object) = event {
                    seen.take(&object);
                }
            }
        });
        watched
    }

    fn take(&self, object: &Slim) {
        let status = object.status.clone().unwrap_or_default();
        let ready = status.conditions.iter().any(|c| c.kind == "Ready" && c.status == "True");
        if let (true, Some(generation)) = (ready, status.observed_generation) {
            let name = object.metadata.name.clone().unwrap();
            self.0.lock().unwrap().entry((name, generation)).or_insert_with(Timestamp::now);
        }
    }

    /// How many were ready at all.
    pub fn ready(&self) -> usize {
        self.0.lock().unwrap().keys().filter(|(_, generation)| *generation == 1).count()
    }

    /// When an object was ready in that generation.
    pub fn at(&self, name: &str, generation: i64) -> Option<Timestamp> {
        self.0.lock().unwrap().get(&(name.to_owned(), generation)).copied()
    }
}
