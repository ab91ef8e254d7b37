//! A task's servers.

use std::sync::Arc;

use serde_json::{Value, json};
use unimodel_crds::{CacheVolume, Device, Model, Task};

use super::{
    Child, Input, Kind, REPLICAS_BY, Scaling, budget, child, container_security, get, pod_security, pulled, spread,
};
use crate::cluster::names;
use crate::plan::{Workload, server_config};

/// How long a server may take for what it is answering.
const GRACE: u32 = 30;

/// How long a pod that is about to end still answers, so that whoever sends it requests can hear of it.
const LEAVE: u32 = 5;

/// A server's share of what its compute threads can use from which on another server is added.
const BUSY: f64 = 0.7;

/// Where the Secret with the store's credentials is mounted.
const STORE_SECRET: &str = "/etc/unimodel/store";

/// A task's children.
pub(super) fn children(input: &Input<'_>, workload: &Workload) -> Vec<Child> {
    let Some(task) = input.model.tasks.iter().find(|task| task.name == workload.task) else { return Vec::new() };
    let name = names::task(&input.owner.name, &task.name);
    let scaling = input.scaling.get(&task.name).copied().unwrap_or(Scaling::Fixed(workload.replicas));
    let mut children = vec![
        child(
            input,
            Kind::ConfigMap,
            &name,
            Some(&task.name),
            json!({"data": {"server.yaml": config(input, workload)}}),
        ),
        service(input, &name, task),
        deployment(input, &name, task, workload, scaling),
    ];
    if task.min_replicas > 1 {
        children.push(budget(input, &name, Some(&task.name)));
    }
    if matches!(scaling, Scaling::Autoscaled(_)) {
        children.push(autoscaler(input, &name, task));
    }
    children
}

/// What the server reads. Its tasks take effect while it runs, and the version is what it starts with.
fn config(input: &Input<'_>, workload: &Workload) -> String {
    let mut document = server_config(input.model, workload);
    document["store"] = input.store.url.as_str().into();
    document["cacheDirectory"] = "/var/cache/unimodel".into();
    document["grace"] = format!("{GRACE}s").into();
    document["control"] = json!({"tls": {
        "certificate": "/etc/unimodel/tls/tls.crt",
        "key": "/etc/unimodel/tls/tls.key",
        "clientCa": "/etc/unimodel/tls/ca.crt",
    }});
    serde_yaml::to_string(&document).unwrap_or_default()
}

fn service(input: &Input<'_>, name: &str, task: &Task) -> Child {
    let body = json!({"spec": {
        "type": "ClusterIP",
        "selector": names::selector(&input.owner.name, Some(&task.name)),
        "ports": [{"name": "http", "port": 8080, "targetPort": "http", "protocol": "TCP"}],
    }});
    child(input, Kind::Service, name, Some(&task.name), body)
}

fn deployment(input: &Input<'_>, name: &str, task: &Task, workload: &Workload, scaling: Scaling) -> Child {
    // A device that is taken as a whole, such as `nvidia.com/gpu`, has no room for a second server beside the first.
    let hardware = &task.hardware;
    let whole = hardware.device == Device::Cuda || hardware.limits.keys().any(|resource| resource.contains('/'));
    let (surge, unavailable) = if whole { (0, 1) } else { (1, 0) };
    let selector = names::selector(&input.owner.name, Some(&task.name));
    let deadline = task.refresh.load_timeout.as_secs().saturating_add(60).min(86_400);
    let mut spec = json!({
        "selector": {"matchLabels": selector},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}},
        "revisionHistoryLimit": 2,
        "progressDeadlineSeconds": deadline,
        "template": {
            "metadata": {
                "labels": names::labels(&input.owner.name, Some(&task.name)),
                // What a server reads only when it starts: pods are replaced where it changes.
                "annotations": {"unimodel.dev/config": at_start(input, workload)},
            },
            "spec": pulled(pod(input, name, task), input),
        },
    });
    if let Scaling::Fixed(replicas) = scaling {
        spec["replicas"] = replicas.into();
    }
    let mut deployment = child(input, Kind::Deployment, name, Some(&task.name), json!({"spec": spec}));
    let by = if matches!(scaling, Scaling::Autoscaled(_)) { "autoscaler" } else { "operator" };
    Arc::make_mut(&mut deployment.value)["metadata"]["annotations"][REPLICAS_BY] = by.into();
    deployment
}

/// A digest of what a server reads only when it starts.
fn at_start(input: &Input<'_>, workload: &Workload) -> String {
    let Model { secret, .. } = input.model;
    names::short_hash(&json!([input.store.url, workload.hardware.device, workload.workers, secret]).to_string())
}

fn pod(input: &Input<'_>, name: &str, task: &Task) -> Value {
    let mut volumes = vec![
        json!({"name": "config", "configMap": {"name": name}}),
        // Neither the CA's key nor a client's reaches a server.
        json!({"name": "tls", "secret": {
            "secretName": names::tls(&input.owner.name),
            "defaultMode": 0o440,
            "items": [
                {"key": "tls.crt", "path": "tls.crt"},
                {"key": "tls.key", "path": "tls.key"},
                {"key": "ca.crt", "path": "ca.crt"},
            ],
        }}),
        cache(task.hardware.cache_volume.as_ref()),
    ];
    let mut mounts = vec![
        json!({"name": "config", "mountPath": "/etc/unimodel/config", "readOnly": true}),
        json!({"name": "tls", "mountPath": "/etc/unimodel/tls", "readOnly": true}),
        json!({"name": "cache", "mountPath": "/var/cache/unimodel"}),
    ];
    if let Some((volume, mount)) = input.store.mounted() {
        volumes.push(volume);
        mounts.push(mount);
    }
    let mut container = json!({
        "name": "server",
        "image": input.image,
        "command": ["/usr/bin/unimodel-server"],
        "args": ["--config", "/etc/unimodel/config/server.yaml", "--log-format", "json"],
        "ports": [
            {"name": "http", "containerPort": 8080, "protocol": "TCP"},
            {"name": "admin", "containerPort": 9090, "protocol": "TCP"},
            {"name": "control", "containerPort": 9443, "protocol": "TCP"},
        ],
        // A server listens at once and loads then: what may take long is told by `readyz`, and nothing is killed for it.
        "startupProbe": get("/livez", 1, 2, 60),
        "readinessProbe": get("/readyz", 1, 2, 2),
        // One that waits for a processor is not dead.
        "livenessProbe": get("/livez", 10, 5, 6),
        "lifecycle": {"preStop": {"sleep": {"seconds": LEAVE}}},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": container_security(),
    });
    let hardware = &task.hardware;
    for (member, quantities) in [("requests", &hardware.requests), ("limits", &hardware.limits)] {
        if !quantities.is_empty() {
            container["resources"][member] = json!(quantities);
        }
    }
    if let Some(secret) = &input.model.secret {
        // The environment for all that is read at the start, and so that the kubelet says where there is no such Secret; the
        // same as files for what is read whenever the store is asked, since they follow the Secret.
        container["envFrom"] = json!([{"secretRef": {"name": secret}}]);
        container["env"] = json!([{"name": "UNIMODEL_STORE_SECRET", "value": STORE_SECRET}]);
        mounts.push(json!({"name": "store-secret", "mountPath": STORE_SECRET, "readOnly": true}));
        volumes.push(json!({"name": "store-secret", "secret": {
            "secretName": secret, "optional": true, "defaultMode": 0o440,
        }}));
    }
    container["volumeMounts"] = mounts.into();
    let selector = names::selector(&input.owner.name, Some(&task.name));
    let mut pod = json!({
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "terminationGracePeriodSeconds": LEAVE + GRACE + 5,
        "securityContext": pod_security(),
        "topologySpreadConstraints": spread(&selector),
        "containers": [container],
        "volumes": volumes,
    });
    if let Some(account) = &input.model.service_account {
        pod["serviceAccountName"] = account.as_str().into();
    }
    if let Some(class) = &hardware.runtime_class {
        pod["runtimeClassName"] = class.as_str().into();
    }
    if !hardware.node_selector.is_empty() {
        pod["nodeSelector"] = json!(hardware.node_selector);
    }
    if !hardware.tolerations.is_empty() {
        pod["tolerations"] = json!(hardware.tolerations);
    }
    pod
}

/// Where versions are kept, by a name that their digest is part of: pods may share it.
fn cache(volume: Option<&CacheVolume>) -> Value {
    let (path, claim) = volume.map_or((None, None), |v| (v.host_path.as_ref(), v.persistent_volume_claim.as_ref()));
    match (path, claim) {
        (Some(path), _) => json!({"name": "cache", "hostPath": {"path": path, "type": "Directory"}}),
        (None, Some(claim)) => json!({"name": "cache", "persistentVolumeClaim": {"claimName": claim}}),
        (None, None) => json!({"name": "cache", "emptyDir": {}}),
    }
}

/// By what the servers use of what they can use, not by a share of what they request: they need request nothing.
fn autoscaler(input: &Input<'_>, name: &str, task: &Task) -> Child {
    let workers = f64::from(task.inference.workers);
    let most = task.hardware.processor_limit().map_or(workers, |limit| limit.min(workers));
    let busy = (most * BUSY * 1000.0).round().max(1.0) as u64;
    let body = json!({"spec": {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
        "minReplicas": task.min_replicas,
        "maxReplicas": task.max_replicas,
        "metrics": [{
            "type": "Resource",
            "resource": {"name": "cpu", "target": {"type": "AverageValue", "averageValue": format!("{busy}m")}},
        }],
    }});
    child(input, Kind::HorizontalPodAutoscaler, name, Some(&task.name), body)
}
