//! A store in the cluster's S3 server, filled from the versions that `e2e/run.sh` trained.

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Service;
use kube::Api;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::{ObjectStoreExt, path};
use serde_json::{Value, json};

use crate::place::Place;
use crate::shell::Forward;
use crate::web;

const NAMESPACE: &str = "unimodel-e2e";
pub(crate) const KEY: &str = "key";
pub(crate) const SECRET: &str = "secret";

/// A place in the bucket `models`.
pub struct Store {
    bucket: AmazonS3,
    /// As servers are told.
    pub uri: String,
    prefix: String,
    /// How it is reached, where not by itself.
    _forward: Option<Forward>,
}

/// The names of the trained versions, the older one first.
pub fn versions() -> [String; 2] {
    let mut names: Vec<String> = std::fs::read_dir(trained().join("versions"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names.try_into().expect("e2e/run.sh trains two versions")
}

/// The store that `e2e/run.sh` trained into: versions, and no channel.
pub fn trained() -> PathBuf {
    std::env::var_os("UNIMODEL_E2E_STORE").expect("UNIMODEL_E2E_STORE: `make e2e` sets it").into()
}

impl Store {
    pub(crate) async fn new(place: &Place) -> Self {
        let services: Api<Service> = Api::namespaced(place.client.clone(), NAMESPACE);
        let service = services.get("store").await.expect("the S3 server that e2e/run.sh starts");
        let address = std::env::var("UNIMODEL_E2E_S3")
            .unwrap_or_else(|_| format!("{}:7070", service.spec.unwrap().cluster_ip.unwrap()));
        let prefix = place.namespace.clone();
        let store = Self { bucket: bucket(&address), uri: format!("s3://models/{prefix}"), prefix, _forward: None };
        store.begin().await;
        secret(place, "store", SECRET);
        store
    }

    /// One that servers read from a web server in the namespace, by an authority that the Secret `store` names.
    pub(crate) async fn of_web(place: &Place) -> Self {
        let authority = web::serve(place);
        let forward = Forward::to(&place.namespace, "deployment/web", 7070);
        let uri = format!("https://web.{}.svc/models/shop", place.namespace);
        let store = Self { bucket: bucket(&forward.address), uri, prefix: "shop".into(), _forward: Some(forward) };
        store.begin().await;
        apply_secret(place, "store", &json!({"UNIMODEL_STORE_CA": authority}));
        store
    }

    /// Publishes the older version, and lets the channel name it.
    async fn begin(&self) {
        let [first, _] = versions();
        self.publish(&first).await;
        self.promote(&first).await;
    }

    /// Puts a trained version into the store, its manifest last.
    pub async fn publish(&self, version: &str) {
        let folder = trained().join("versions").join(version);
        let mut files = files(&folder);
        files.sort_by_key(|file| file.ends_with("manifest.json"));
        for file in files {
            let name = format!("versions/{version}/{}", file.strip_prefix(&folder).unwrap().display());
            self.put(&name, std::fs::read(&file).unwrap()).await;
        }
    }

    /// Changes one byte of a version's weights.
    pub async fn damage(&self, version: &str) {
        let name = format!("versions/{version}/model.safetensors");
        let mut bytes = std::fs::read(trained().join("versions").join(version).join("model.safetensors")).unwrap();
        let last = bytes.last_mut().unwrap();
        *last ^= 1;
        self.put(&name, bytes).await;
    }

    /// Lets `stable` name a version.
    pub async fn promote(&self, version: &str) {
        let channel = json!({"version": version, "previous": [], "updated": "2026-01-01T00:00:00Z"});
        self.put("channels/stable.json", channel.to_string().into_bytes()).await;
    }

    async fn put(&self, name: &str, bytes: Vec<u8>) {
        let path = path::Path::from(format!("{}/{name}", self.prefix));
        self.bucket.put(&path, bytes.into()).await.unwrap();
    }
}

/// The bucket `models` of the server there.
fn bucket(address: &str) -> AmazonS3 {
    AmazonS3Builder::new()
        .with_endpoint(format!("http://{address}"))
        .with_allow_http(true)
        .with_region("us-east-1")
        .with_bucket_name("models")
        .with_access_key_id(KEY)
        .with_secret_access_key(SECRET)
        .build()
        .unwrap()
}

/// A Secret by which servers open the store, or do not.
pub fn secret(place: &Place, name: &str, secret: &str) {
    opens(place, name, secret, &format!("http://store.{NAMESPACE}.svc:7070"));
}

/// A Secret by which servers that start from now on find nobody where the store was.
pub fn secret_of_none(place: &Place, name: &str) {
    opens(place, name, SECRET, "http://127.0.0.1:1");
}

fn opens(place: &Place, name: &str, secret: &str, endpoint: &str) {
    let data = json!({
        "AWS_ENDPOINT_URL": endpoint, "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": secret,
    });
    apply_secret(place, name, &data);
}

fn apply_secret(place: &Place, name: &str, data: &Value) {
    let object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data});
    place.kubectl_with("apply -f -", &object.to_string()).well();
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}
