//! The operator ends, changes hands, is upgraded and removed, while a model serves.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use unimodel_crds::RefreshPhase;
use unimodel_e2e::{
    Place, Release, Request, cluster_is_anothers, image, is_ready, kubectl, kubectl_with, on_cluster, query, requests,
    sample_of, seconds, until, versions,
};

/// The ServiceAccount of a release that is called `operator`.
const ACCOUNT: &str = "operator-unimodel-operator";

const TASKS: &str = "
  - {name: search, hardwareClass: small, replicas: {min: 2}, timeout: {default: 3s, max: 5s}}
  - {name: related, hardwareClass: small, timeout: {default: 3s, max: 5s}}
";

const OPERATORS_IMAGE: &str =
    "get deployment operator-unimodel-operator -o jsonpath={.spec.template.spec.containers[0].image}";

/// The templates of all pods of the model.
async fn templates(place: &Place) -> BTreeMap<String, String> {
    let selector = ListParams::default().labels("app.kubernetes.io/managed-by=unimodel-operator");
    let deployments = place.api::<Deployment>().list(&selector).await.unwrap().items;
    let template = |d: &Deployment| serde_json::to_string(&d.spec.as_ref().unwrap().template).unwrap();
    deployments.iter().map(|d| (d.metadata.name.clone().unwrap(), template(d))).collect()
}

#[test]
#[ignore = "needs a cluster: make e2e"]
fn the_whole_plain_file_is_what_an_api_server_takes() {
    // Once it ran it would host the objects of other tests too.
    kubectl("apply --server-side --dry-run=server -f manifests/install.yaml").well();
}

/// As a person installs it without helm.
const PLAIN: &str = include_str!("../../../manifests/namespace-install.yaml");

#[test]
#[ignore = "needs a cluster: make e2e"]
fn by_the_plain_file_in_one_namespace_it_sees_nothing_else() {
    on_cluster("own", seconds(240), async |place: Place| {
        place.restrict();
        place.kubectl_with("apply --server-side -f -", &PLAIN.replace("unimodel:0.1.0", &image())).well();
        let store = place.store().await;
        // One that another namespace has is none of its business.
        let other = format!("{}-other", place.namespace);
        kubectl(&format!("create namespace {other}")).well();
        kubectl_with(&format!("-n {other} apply -f -"), &sample_of(&store, TASKS)).well();
        place.apply(&sample_of(&store, TASKS));
        place.model("shop").ready(seconds(120)).await;
        place.gateway("shop").await.answers("search", &query(), seconds(20)).await;

        let account = format!("--as=system:serviceaccount:{}:unimodel-operator", place.namespace);
        for what in ["list pods", "get unifiedmodels", "patch deployments", "get secrets"] {
            let answer = kubectl(&format!("-n {other} auth can-i {what} {account}"));
            assert_eq!(answer.printed.trim(), "no", "{}", answer.said);
        }
        let children = kubectl(&format!("-n {other} get deployments,pods -o name")).well();
        assert_eq!(children, "");
        let status = kubectl(&format!("-n {other} get um shop -o jsonpath={{.status}}")).well();
        assert_eq!(status, "");
        let log = place.kubectl("logs deployment/unimodel-operator").well();
        assert!(!log.to_lowercase().contains("forbidden"), "{log}");
        kubectl(&format!("delete namespace {other} --wait=false"));
    });
}

#[test]
#[ignore = "needs a cluster: make e2e"]
fn a_standby_takes_over_and_nothing_is_written_twice() {
    on_cluster("leader", seconds(300), async |place: Place| {
        let release = Release::install(&place, "--set replicas=2");
        let store = place.store().await;
        let (model, gateway) = place.serve(&sample_of(&store, TASKS)).await;
        let before = model.children().await;

        // The leader's node is gone, and nobody gives the lease back: the other takes it when it has ended.
        let load = gateway.load("search", query(), 2);
        let first = release.leader().await;
        let operators = release.operators().await;
        assert!(operators.iter().all(is_ready), "one that stands by is ready too");
        let leader: Vec<Pod> = operators.into_iter().filter(|pod| pod.metadata.name.as_ref() == Some(&first)).collect();
        place.lose(&leader);
        let lease = release.lease().await.spec.unwrap();
        let time = u64::try_from(lease.lease_duration_seconds.unwrap()).unwrap();
        place
            .kubectl_with(
                "apply --server-side --field-manager=lists-team -f -",
                "{apiVersion: unimodel.dev/v1alpha1, kind: UnifiedModel, metadata: {name: shop}, \
              spec: {tasks: [{name: lists, head: category, hardwareClass: small}]}}",
            )
            .well();
        until("the other has taken the edit", seconds(time + 10), async || {
            let found = place.kubectl("get deployment shop-lists");
            if found.succeeded { Ok(()) } else { Err(found.said) }
        })
        .await;
        let second = release.leader().await;
        assert_ne!(second, first);
        model.ready(seconds(60)).await;
        // One change of hands, and each name held it once.
        let taken = release.lease().await.spec.unwrap();
        assert_eq!(taken.lease_transitions, lease.lease_transitions.map(|before| before + 1));
        if !cluster_is_anothers() {
            // A look, of which there is one in 2 s, sees the last renewal; from there on the lease's time; a look sees its end.
            let looks = 2 + 2;
            let took = taken.acquire_time.unwrap().0.duration_since(lease.renew_time.unwrap().0);
            let took = Duration::try_from(took).unwrap();
            assert!(took > seconds(time) && took < seconds(time + looks + 1), "the lease was taken after {took:?}");
        }

        // A leader that is told to stop gives the lease back at once.
        place.kubectl(&format!("delete pod {second} --wait=false")).well();
        until("the lease changes hands at once", seconds(time.min(10)), async || {
            let holder = release.leader().await;
            if holder == second { Err(holder) } else { Ok(()) }
        })
        .await;
        load.all_answered(100).await;
        let after = model.children().await;
        assert!(before.iter().all(|(name, child)| after.get(name) == Some(child)), "a pod was touched");
        // Who has stopped writing never writes again.
        if let Some(requests) = requests(&place.namespace, ACCOUNT) {
            let mut writers: Vec<String> = requests.into_iter().filter(Request::writes).map(|each| each.pod).collect();
            writers.dedup();
            let distinct: BTreeSet<&String> = writers.iter().collect();
            assert!(writers.len() >= 2 && writers.len() == distinct.len(), "{writers:?}");
        }
        release.uninstall();
    });
}

#[test]
#[ignore = "needs a cluster: make e2e"]
fn upgrades_and_removal_leave_the_model_serving() {
    on_cluster("upgrade", seconds(300), async |place: Place| {
        let release = Release::install(&place, "");
        let store = place.store().await;
        let (model, gateway) = place.serve(&sample_of(&store, TASKS)).await;
        let (pods, pod_templates) = (model.children().await, templates(&place).await);
        let objects = "get deployments,services,configmaps,serviceaccounts,roles,rolebindings,pdb,um \
                       -l app.kubernetes.io/managed-by=unimodel-operator \
                       -o custom-columns=K:.kind,N:.metadata.name,R:.metadata.resourceVersion";
        let written = place.kubectl(objects).well();
        let load = gateway.load("search", query(), 2);

        // The operator's image alone becomes another one.
        let next = format!("{}-next", image());
        let before = place.kubectl(OPERATORS_IMAGE).well();
        release.upgrade(&format!("--set image.tag={}", next.rsplit_once(':').unwrap().1));
        assert_eq!((before, place.kubectl(OPERATORS_IMAGE).well()), (image(), next));
        release.leader().await;
        tokio::time::sleep(seconds(10)).await;
        assert_eq!(templates(&place).await, pod_templates);
        assert_eq!(place.kubectl(objects).well(), written, "a restart writes nothing");
        if let Some(requests) = requests(&place.namespace, ACCOUNT) {
            let leader = release.leader().await;
            let written: Vec<_> = requests.iter().filter(|each| each.pod == leader && each.writes()).collect();
            assert!(written.is_empty(), "a restart writes nothing: {written:?}");
        }

        release.uninstall();
        tokio::time::sleep(seconds(10)).await;
        assert_eq!(model.children().await, pods, "a pod was touched");
        // And back.
        let release = Release::install(&place, "");
        release.leader().await;
        model.ready(seconds(30)).await;
        assert_eq!(model.children().await, pods, "a pod was touched");
        assert_eq!(templates(&place).await, pod_templates);
        load.all_answered(200).await;
    });
}

#[test]
#[ignore = "needs a cluster: make e2e"]
fn a_refresh_goes_on_after_the_operator_was_killed() {
    on_cluster("resume", seconds(300), async |place: Place| {
        let release = Release::install(&place, "");
        let store = place.web_store().await;
        let [first, second] = versions();
        let pinned =
            |version: &str| sample_of(&store, TASKS).replace("channel: stable", &format!("version: {version}"));
        let (model, gateway) = place.serve(&pinned(&first)).await;
        store.publish(&second).await;
        let load = gateway.load("search", query(), 2);

        // Servers wait for the store, so that the refresh cannot end before the operator does.
        let held = place.hold(&place.pods("app=web").await);
        place.apply(&pinned(&second));
        until("the refresh has begun", seconds(30), async || {
            let task = model.task("search").await?;
            // Where nothing holds it, it may be over.
            let is_over = held.is_none() && task.active_version.as_ref() == Some(&second);
            let begun = is_over || task.refresh.phase == RefreshPhase::Preparing;
            if begun { Ok(()) } else { Err(format!("{:?}", task.refresh)) }
        })
        .await;
        release.kill().await;
        if held.is_some() {
            let task = model.task("search").await.unwrap();
            let underway =
                task.refresh.phase == RefreshPhase::Preparing && task.active_version.as_ref() == Some(&first);
            assert!(underway, "the refresh is over: {:?} {:?}", task.active_version, task.refresh);
        }
        drop(held);
        // The next one ends it, and every server has it.
        model.takes("search", &second, seconds(90)).await;
        assert_eq!(gateway.answers("search", &query(), seconds(5)).await["modelVersion"], second.as_str());
        load.all_answered(50).await;
        release.uninstall();
    });
}

#[test]
#[ignore = "needs a cluster: make e2e"]
fn a_wrong_image_is_said_and_what_served_serves_on() {
    on_cluster("image", seconds(240), async |place: Place| {
        let release = Release::install(&place, "");
        let store = place.store().await;
        let (model, gateway) = place
            .serve(&sample_of(&store, "  - {name: search, hardwareClass: small, timeout: {default: 3s, max: 5s}}"))
            .await;
        let load = gateway.load("search", query(), 2);
        release.upgrade("--set serving.image=localhost/nowhere:1");
        let waits = |pod: &Pod| {
            let mut states = pod.status.iter().flat_map(|s| s.container_statuses.iter().flatten());
            states.any(|c| {
                c.state
                    .as_ref()
                    .and_then(|s| s.waiting.as_ref())
                    .is_some_and(|w| w.reason.as_deref() == Some("ImagePullBackOff"))
            })
        };
        place.pod("unimodel.dev/task=search", "cannot have its image", seconds(60), waits).await;
        let said = until("the reason is the kubelet's", seconds(15), async || {
            let task = model.task("search").await?;
            let ready = task.conditions.into_iter().find(|c| c.type_ == "Ready").ok_or("no condition")?;
            let pull = ready.reason.contains("ImagePull");
            if pull { Ok(ready.message) } else { Err(format!("{ready:?}")) }
        })
        .await;
        assert!(said.contains("localhost/nowhere:1"), "{said}");
        load.all_answered(50).await;
        release.upgrade(&format!("--set serving.image={}", image()));
        model.ready(seconds(60)).await;
        release.uninstall();
    });
}
