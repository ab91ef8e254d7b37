//! The gateway: one address for all tasks.

use serde_json::{Value, json};
use unimodel_crds::ServiceType;

use super::{Child, Input, Kind, budget, child, container_security, get, pod_security, pulled, spread};
use crate::cluster::names;

/// How long a gateway that is about to end still takes requests, and how long they may take then.
const DRAIN: (u32, u32) = (5, 30);

/// The model's children that no task has.
pub(super) fn children(input: &Input<'_>) -> Vec<Child> {
    let (model, name) = (&input.owner.name, names::gateway(&input.owner.name));
    let routes = names::routes(model);
    let text = serde_json::to_string_pretty(input.routes).unwrap_or_default();
    let role = json!({"rules": [
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
        {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": [routes], "verbs": ["list", "watch"]},
    ]});
    let binding = json!({
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": input.owner.namespace}],
    });
    let mut children = vec![
        child(input, Kind::ServiceAccount, &name, None, json!({})),
        child(input, Kind::Role, &name, None, role),
        child(input, Kind::RoleBinding, &name, None, binding),
        child(input, Kind::ConfigMap, &routes, None, json!({"data": {"routes.json": text}})),
        service(input, &name),
        deployment(input, &name, &routes),
    ];
    if input.model.gateway.replicas > 1 {
        children.push(budget(input, &name, None));
    }
    children
}

fn service(input: &Input<'_>, name: &str) -> Child {
    let kind = match input.model.gateway.service {
        ServiceType::ClusterIP => "ClusterIP",
        ServiceType::NodePort => "NodePort",
        ServiceType::LoadBalancer => "LoadBalancer",
    };
    let body = json!({"spec": {
        "type": kind,
        "selector": names::selector(&input.owner.name, None),
        "ports": [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}],
    }});
    child(input, Kind::Service, name, None, body)
}

fn deployment(input: &Input<'_>, name: &str, routes: &str) -> Child {
    let selector = names::selector(&input.owner.name, None);
    let body = json!({"spec": {
        "replicas": input.model.gateway.replicas,
        "selector": {"matchLabels": selector},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "revisionHistoryLimit": 2,
        "template": {
            "metadata": {"labels": names::labels(&input.owner.name, None)},
            "spec": pulled(pod(input, name, routes), input),
        },
    }});
    child(input, Kind::Deployment, name, None, body)
}

fn pod(input: &Input<'_>, name: &str, routes: &str) -> Value {
    let owner = input.owner;
    let (delay, grace) = DRAIN;
    let arguments = [
        format!("--routes-config-map={}/{routes}", owner.namespace),
        // Services' labels stand on their EndpointSlices too.
        format!("--endpoints={}={}", names::MODEL, owner.name),
        "--listen=0.0.0.0:8000".to_owned(),
        "--admin-listen=0.0.0.0:9090".to_owned(),
        "--log-format=json".to_owned(),
        format!("--drain-delay={delay}s"),
        format!("--grace={grace}s"),
    ];
    json!({
        "serviceAccountName": name,
        "enableServiceLinks": false,
        "terminationGracePeriodSeconds": delay + grace + 5,
        "securityContext": pod_security(),
        "topologySpreadConstraints": spread(&names::selector(&owner.name, None)),
        "containers": [{
            "name": "gateway",
            "image": input.image,
            "command": ["/usr/bin/unimodel-gateway"],
            "args": arguments,
            "ports": [
                {"name": "http", "containerPort": 8000, "protocol": "TCP"},
                {"name": "admin", "containerPort": 9090, "protocol": "TCP"},
            ],
            "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}},
            "readinessProbe": get("/readyz", 1, 2, 2),
            "livenessProbe": get("/livez", 10, 5, 6),
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "securityContext": container_security(),
        }],
    })
}
