//! What is wrong with a task is said by its condition, in words that lead to the cause; other tasks serve.

use k8s_openapi::api::core::v1::Pod;
use serde_json::json;
use unimodel_e2e::{Place, kubectl, on_cluster, sample_of, seconds, secret, until, versions};

/// The pods of the class `gpu` compute on the processor all the same: no machine for tests has such a device.
const GPU: &str = "
  - {name: gpu, resources: {requests: {cpu: 10m}, limits: {nvidia.com/gpu: 1}}}
";

#[test]
#[ignore = "needs a cluster: make e2e"]
fn a_device_that_no_node_has_is_said_in_the_schedulers_words() {
    on_cluster("gpu", seconds(240), async |place: Place| {
        let node = kubectl("get nodes -o jsonpath={.items[0].metadata.name}").well();
        let device = |count: &str| {
            let has = format!(r#"{{"nvidia.com/gpu":{count}}}"#);
            let patch = format!(r#"{{"status":{{"capacity":{has},"allocatable":{has}}}}}"#);
            kubectl(&format!("patch node {node} --subresource=status --type=merge -p {patch}")).well();
        };
        device("null");
        let store = place.store().await;
        let tasks = "  - {name: search, hardwareClass: gpu}\n  - {name: related, hardwareClass: small}";
        let document = sample_of(&store, tasks).replace("  hardwareClasses:\n", &format!("  hardwareClasses:{GPU}"));
        place.apply(&document);
        let model = place.model("shop");
        // Within seconds of the scheduler's own words.
        let unscheduled = |pod: &Pod| {
            let mut conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
            conditions.any(|condition| condition.type_ == "PodScheduled" && condition.status == "False")
        };
        place.pod("unimodel.dev/task=search", "is not scheduled", seconds(60), unscheduled).await;
        let said = model.reason("search", "Unschedulable", seconds(15)).await;
        assert!(said.contains("Insufficient nvidia.com/gpu"), "{said}");
        model.reason("related", "Serving", seconds(90)).await;

        device("\"1\"");
        model.ready(seconds(60)).await;
        let gateway = place.gateway("shop").await;
        gateway.answers("search", &json!({"query": "gounnounisk"}), seconds(20)).await;
        device("null");
    });
}

#[test]
#[ignore = "needs a cluster: make e2e"]
fn what_is_missing_in_the_store_is_named() {
    on_cluster("missing", seconds(240), async |place: Place| {
        let store = place.store().await;
        let model = place.model("shop");
        let [first, second] = versions();

        secret(&place, "store", "wrong");
        place.apply(&sample_of(&store, "  - {name: search, hardwareClass: small}"));
        let runs = |pod: &Pod| {
            let mut states = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
            states.any(|container| container.state.as_ref().is_some_and(|state| state.running.is_some()))
        };
        place.pod("unimodel.dev/task=search", "runs", seconds(60), runs).await;
        let said = model.reason("search", "StoreDenied", seconds(15)).await;
        assert!(said.contains(&store.uri), "{said}");

        // The right key is taken by servers that start, without an edit of the object; those that run take it too, once the
        // kubelet has brought it (credentials.rs).
        secret(&place, "store", "secret");
        place.kubectl("rollout restart deployment shop-search").well();
        model.ready(seconds(90)).await;
        assert_eq!(model.task("search").await.unwrap().active_version.as_ref(), Some(&first));

        // A pinned version that is not there is named.
        place.kubectl("delete um shop --wait").well();
        place.apply(
            &sample_of(&store, "  - {name: search, hardwareClass: small}")
                .replace("channel: stable", &format!("version: {second}")),
        );
        let said = model.reason("search", "VersionNotFound", seconds(90)).await;
        assert!(said.contains(&second), "{said}");

        place.apply(
            &sample_of(
                &store,
                "  - {name: search, hardwareClass: small}\n  - {name: other, head: nowhere, hardwareClass: small}",
            )
            .replace("channel: stable", &format!("version: {first}")),
        );
        let said = model.reason("other", "HeadMissing", seconds(90)).await;
        assert!(said.contains("nowhere"), "{said}");
        model.reason("search", "Serving", seconds(90)).await;
    });
}

#[test]
#[ignore = "needs a cluster: make e2e"]
fn a_pod_that_cannot_run_says_why() {
    on_cluster("pods", seconds(240), async |place: Place| {
        let store = place.store().await;
        // Too little for a model: the kernel ends it. And a device that this build cannot use: the server ends at once.
        let tight = "  - {name: tight, resources: {requests: {cpu: 10m, memory: 4Mi}, limits: {memory: 4Mi}}}
  - {name: cuda, device: Cuda, resources: {requests: {cpu: 10m}}}\n";
        let tasks = "  - {name: search, hardwareClass: tight}\n  - {name: related, hardwareClass: small}
  - {name: category, hardwareClass: cuda}";
        let document =
            sample_of(&store, tasks).replace("  hardwareClasses:\n", &format!("  hardwareClasses:\n{tight}"));
        place.apply(&document);
        let model = place.model("shop");
        let ended = |pod: &Pod| {
            let mut states = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
            states.any(|container| {
                let states = [&container.state, &container.last_state];
                let mut ends = states.into_iter().flatten().filter_map(|state| state.terminated.as_ref());
                ends.any(|end| end.reason.as_deref() == Some("OOMKilled"))
            })
        };
        place.pod("unimodel.dev/task=search", "was ended by the kernel", seconds(90), ended).await;
        let said = model.reason("search", "OOMKilled", seconds(15)).await;
        assert!(said.contains("memory"), "{said}");
        let said = model.reason("category", "CrashLoop", seconds(90)).await;
        assert!(said.contains("exit code 1") && said.contains("cargo feature `cuda`"), "{said}");
        model.reason("related", "Serving", seconds(90)).await;
        until("the reason is an event too", seconds(20), async || {
            let events = place.kubectl("get events -o wide").well();
            if events.contains("OOMKilled") { Ok(()) } else { Err(events) }
        })
        .await;
    });
}
