//! A namespace for each test, its time limit, and what is kept when it fails.

use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::FutureExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client};

use crate::ask::Gateway;
use crate::objects::Model;
use crate::programs::{Held, Programs};
use crate::shell::{Output, kubectl, kubectl_with};
use crate::store::Store;
use crate::{query, seconds, until};

/// A namespace of one test.
#[derive(Clone)]
pub struct Place {
    pub client: Client,
    pub namespace: String,
    name: &'static str,
}

/// Runs a test in a namespace of its own that goes when it ends, and fails it after the limit. When it fails, what a person
/// would ask for is under `target/e2e/<name>/`.
pub fn on_cluster<F: Future<Output = ()>>(name: &'static str, limit: Duration, test: impl FnOnce(Place) -> F) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let place = Place::new(name).await;
        let ended = AssertUnwindSafe(tokio::time::timeout(limit, test(place.clone()))).catch_unwind().await;
        if !matches!(ended, Ok(Ok(()))) {
            place.keep_evidence();
        }
        kubectl(&format!("delete namespace {} --wait=false", place.namespace));
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(_)) => panic!("{name} took longer than {limit:?}"),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    });
}

/// Whether a pod answers.
pub fn is_ready(pod: &Pod) -> bool {
    let mut conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

impl Place {
    async fn new(name: &'static str) -> Self {
        let client = Client::try_default().await.expect("a cluster: run `make e2e`");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        let namespace = format!("e2e-{name}-{:06x}", now % 0xff_ffff);
        kubectl(&format!("create namespace {namespace}")).well();
        Self { client, namespace, name }
    }

    /// `kubectl` in this namespace.
    pub fn kubectl(&self, words: &str) -> Output {
        kubectl(&format!("-n {} {words}", self.namespace))
    }

    /// `kubectl` in this namespace that reads a document.
    pub fn kubectl_with(&self, words: &str, document: &str) -> Output {
        kubectl_with(&format!("-n {} {words}", self.namespace), document)
    }

    /// Applies a document as the platform's team does.
    #[track_caller]
    pub fn apply(&self, document: &str) {
        self.kubectl_with("apply --server-side --field-manager=platform -f -", document).well();
    }

    /// An object as a person sees it.
    pub fn model(&self, name: &str) -> Model {
        Model::new(self, name)
    }

    /// The gateway of a model.
    pub async fn gateway(&self, model: &str) -> Gateway {
        Gateway::of(self, model).await
    }

    /// Applies an object `shop` that has a task `search`, and waits until all of it is ready and the task answers.
    pub async fn serve(&self, document: &str) -> (Model, Gateway) {
        self.apply(document);
        let model = self.model("shop");
        model.ready(seconds(120)).await;
        let gateway = self.gateway("shop").await;
        gateway.answers("search", &query(), seconds(20)).await;
        (model, gateway)
    }

    /// A store of its own, with the first version on the channel `stable`, and the Secret `store` that opens it.
    pub async fn store(&self) -> Store {
        Store::new(self).await
    }

    /// The same behind a web server with TLS, in this namespace.
    pub async fn web_store(&self) -> Store {
        Store::of_web(self).await
    }

    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Pods that the selector matches, other than those that are going.
    pub async fn pods(&self, selector: &str) -> Vec<Pod> {
        let all = self.all_pods(selector).await;
        all.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).collect()
    }

    /// Pods that the selector matches, also those that are going.
    pub(crate) async fn all_pods(&self, selector: &str) -> Vec<Pod> {
        self.api::<Pod>().list(&ListParams::default().labels(selector)).await.unwrap().items
    }

    /// Waits until a pod that the selector matches is so.
    pub async fn pod(&self, selector: &str, what: &str, limit: Duration, is: impl Fn(&Pod) -> bool) -> Pod {
        until(&format!("a pod {what}"), limit, async || {
            let mut pods = self.pods(selector).await;
            let found = pods.iter().position(&is);
            found.map(|found| pods.remove(found)).ok_or_else(|| format!("{:#?}", pods.iter().map(|p| &p.status)))
        })
        .await
    }

    /// Ends the programs of these pods without a word to anybody. Where they cannot be reached, ends the pods in order.
    pub fn kill(&self, pods: &[Pod]) {
        match Programs::of(pods) {
            Some(programs) => programs.signal("KILL"),
            None => self.forget(pods),
        }
    }

    /// As if their node were gone: the pods are no more, and nobody has heard a word of their programs.
    pub fn lose(&self, pods: &[Pod]) {
        // What is held does not hear the kubelet, which ends the pods in order.
        let programs = Programs::of(pods).inspect(|programs| programs.signal("STOP"));
        self.forget(pods);
        if let Some(programs) = programs {
            programs.signal("KILL");
        }
    }

    fn forget(&self, pods: &[Pod]) {
        let names: Vec<&str> = pods.iter().filter_map(|pod| pod.metadata.name.as_deref()).collect();
        self.kubectl(&format!("delete pod {} --force --grace-period=0 --wait=false", names.join(" "))).well();
    }

    /// Lets the programs of these pods do nothing for a while; none where they cannot be reached.
    pub fn hold(&self, pods: &[Pod]) -> Option<Held> {
        Programs::of(pods).map(Held::new)
    }

    /// Lets the namespace take only pods that the strictest Pod Security Standard allows.
    pub fn restrict(&self) {
        kubectl(&format!("label namespace {} pod-security.kubernetes.io/enforce=restricted", self.namespace)).well();
    }

    fn keep_evidence(&self) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/e2e").join(self.name);
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(folder.join("pods")).unwrap();
        let keep = |file: &str, output: Output| std::fs::write(folder.join(file), output.said).unwrap();
        keep("objects.txt", self.kubectl("get um,deployments,pods,services,endpointslices,configmaps,hpa,pdb -o wide"));
        keep("model.yaml", self.kubectl("get um -o yaml"));
        keep("pods.yaml", self.kubectl("get pods -o yaml"));
        keep("children.yaml", self.kubectl("get deployments,configmaps,roles,rolebindings,hpa -o yaml"));
        keep("events.txt", self.kubectl("get events --sort-by=.lastTimestamp"));
        for pod in self.kubectl("get pods -o name").printed.lines() {
            let name = pod.trim_start_matches("pod/");
            keep(&format!("pods/{name}.log"), self.kubectl(&format!("logs {name} --all-containers --tail=2000")));
            let before = self.kubectl(&format!("logs {name} --all-containers --previous --tail=2000"));
            if before.succeeded {
                keep(&format!("pods/{name}.previous.log"), before);
            }
        }
        let operator = "-l app.kubernetes.io/component=operator --all-containers --tail=5000 --prefix";
        for namespace in [self.namespace.as_str(), "unimodel-system"] {
            keep(&format!("operator-{namespace}.log"), kubectl(&format!("-n {namespace} logs {operator}")));
        }
        eprintln!("what the cluster said is in target/e2e/{}", self.name);
    }
}
