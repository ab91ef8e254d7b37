//! Every child of an object, as it is applied. A pod's template is the same in every release, or an upgrade would replace
//! every server of every user.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use unimodel_crds::{Model, UnifiedModelStatus, check};
use unimodel_operator::cluster::child::DeploymentFacts;
use unimodel_operator::cluster::children::{Child, Input, Kind, Owner, Scaling, Store, children, scaling};
use unimodel_operator::cluster::routes::{Place, Versions, routes};
use unimodel_operator::{Plan, Snapshot, plan};

const SMALL: &str = "  model: {source: {uri: 's3://models/m'}, version: v1}\n  tasks: [{name: search}]\n";

fn model(spec: &str) -> Model {
    let text = format!("apiVersion: unimodel.dev/v1alpha1\nkind: UnifiedModel\nmetadata: {{name: m}}\nspec:\n{spec}");
    check(&text, Path::new("um.yaml")).unwrap().model
}

fn planned(model: &Model) -> Plan {
    let now = "2026-01-05T12:00:00Z".parse().unwrap();
    let snapshot = Snapshot {
        model: model.clone(),
        generation: 1,
        created: now,
        previous: UnifiedModelStatus::default(),
        replicas: Vec::new(),
        scaled: BTreeMap::new(),
        resolved: BTreeMap::new(),
        requests: BTreeMap::new(),
        facts: BTreeMap::new(),
        gateway: None,
        now,
    };
    plan(&snapshot)
}

fn of(model: &Model, scaling: &[(&str, Scaling)]) -> Vec<Child> {
    pulled(model, scaling, &[])
}

fn pulled(model: &Model, scaling: &[(&str, Scaling)], pull_secrets: &[String]) -> Vec<Child> {
    let owner = Owner { namespace: "shop".into(), name: model.name.clone(), uid: "0b7f".into() };
    let plan = planned(model);
    let scaling = scaling.iter().map(|(task, scaling)| ((*task).to_owned(), *scaling)).collect();
    let place = Place { namespace: "shop", model, replicas: &[], before: None };
    let routes = routes(place, &plan.routes, &Versions::new());
    children(&Input {
        owner: &owner,
        model,
        plan: &plan,
        scaling: &scaling,
        routes: &routes,
        image: "example.com/unimodel:1",
        pull_secrets,
        store: &Store::of(model).unwrap(),
    })
}

fn find<'a>(children: &'a [Child], kind: Kind, name: &str) -> Option<&'a Value> {
    children.iter().find(|child| child.kind == kind && child.name == name).map(|child| child.value.as_ref())
}

fn template(spec: &str, image: &str) -> Value {
    let children = of(&model(spec), &[]);
    let mut template = find(&children, Kind::Deployment, "m-search").unwrap()["spec"]["template"].clone();
    template["spec"]["containers"][0]["image"] = image.into();
    template
}

#[test]
fn all_children_of_the_sample() {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/samples/movielens/unifiedmodel-cluster.yaml");
    let model = check(&std::fs::read_to_string(&sample).unwrap(), &sample).unwrap().model;
    let children = of(&model, &[("search", Scaling::Autoscaled(2))]);
    let text: Vec<String> = children.iter().map(|child| serde_yaml::to_string(&child.value).unwrap()).collect();
    insta::assert_snapshot!(text.join("---\n"));
}

#[test]
fn what_a_server_takes_while_it_runs_replaces_no_pod() {
    let more = "  model: {source: {uri: 's3://models/m'}, version: v1}
  tasks: [{name: search, X}]
  gateway: {replicas: 3}
";
    let before = template(SMALL, "i");
    for change in [
        "timeout: {default: 20ms, max: 90ms}",
        "replicas: {min: 3, max: 9}",
        "inference: {maxConcurrency: 7, queueDepth: 1, maxCandidates: 3}",
        "context: {required: [query]}",
        "cache: {ttl: 3s}",
        "refresh: {schedule: '0 * * * *', loadTimeout: 1m}",
        "head: other",
        "owner: me",
    ] {
        assert_eq!(template(&more.replace('X', change), "i"), before, "{change}");
    }
    assert_eq!(template(&SMALL.replace("v1", "v2"), "i"), before, "a version");
    for (from, to) in [("s3://models/m", "s3://models/n"), ("name: search", "name: search, inference: {workers: 2}")] {
        assert_ne!(template(&SMALL.replace(from, to), "i"), before, "{to}");
    }
}

#[test]
fn a_device_class_is_what_its_pods_ask_for() {
    let spec = "  model: {source: {uri: 'pvc://models/discovery', serviceAccountName: reader}}
  hardwareClasses:
  - name: l4
    device: Cuda
    resources: {limits: {nvidia.com/gpu: 1, memory: 16Gi}}
    nodeSelector: {accelerator: l4}
    tolerations: [{key: nvidia.com/gpu, operator: Exists}]
    runtimeClassName: nvidia
  tasks: [{name: search, hardwareClass: l4}]
";
    let children = of(&model(spec), &[]);
    let deployment = find(&children, Kind::Deployment, "m-search").unwrap();
    assert_eq!(deployment["spec"]["strategy"]["rollingUpdate"]["maxSurge"], 0);
    let pod = &deployment["spec"]["template"]["spec"];
    assert_eq!(pod["nodeSelector"]["accelerator"], "l4");
    assert_eq!(pod["tolerations"][0]["key"], "nvidia.com/gpu");
    assert_eq!((&pod["runtimeClassName"], &pod["serviceAccountName"]), (&"nvidia".into(), &"reader".into()));
    assert_eq!(pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"], "1");
    let store = pod["volumes"].as_array().unwrap().iter().find(|volume| volume["name"] == "store").unwrap();
    assert_eq!(store["persistentVolumeClaim"]["claimName"], "models");
    let config = find(&children, Kind::ConfigMap, "m-search").unwrap()["data"]["server.yaml"].as_str().unwrap();
    assert!(config.contains("store: file:///store/discovery") && config.contains("device: cuda"), "{config}");
}

#[test]
fn versions_are_kept_where_the_hardware_class_says() {
    let cache = |class: &str| {
        let spec = format!("{SMALL}  hardwareClasses: [{{name: class{class}}}]\n");
        let children = of(&model(&spec.replace("name: search", "name: search, hardwareClass: class")), &[]);
        let pod = &find(&children, Kind::Deployment, "m-search").unwrap()["spec"]["template"]["spec"];
        pod["volumes"].as_array().unwrap().iter().find(|volume| volume["name"] == "cache").unwrap().clone()
    };
    assert_eq!(cache("")["emptyDir"], serde_json::json!({}));
    assert_eq!(cache(", cacheVolume: {hostPath: /mnt/fast}")["hostPath"]["path"], "/mnt/fast");
    let claimed = cache(", cacheVolume: {persistentVolumeClaim: versions}");
    assert_eq!(claimed["persistentVolumeClaim"]["claimName"], "versions");
}

#[test]
fn all_pods_pull_their_image_by_the_secrets_that_are_named() {
    let secrets = |pull: &[String]| -> Vec<Value> {
        let children = pulled(&model(SMALL), &[], pull);
        let pod = |name| find(&children, Kind::Deployment, name).unwrap()["spec"]["template"]["spec"].clone();
        ["m-search", "m-gateway"].map(|name| pod(name)["imagePullSecrets"].clone()).into()
    };
    let named = serde_json::json!([{"name": "registry"}]);
    assert_eq!(secrets(&["registry".into()]), [named.clone(), named]);
    assert_eq!(secrets(&[]), [Value::Null, Value::Null]);
}

#[test]
fn no_server_gets_a_token_or_a_key_that_is_not_its_own() {
    let children = of(&model(SMALL), &[]);
    let pod = &find(&children, Kind::Deployment, "m-search").unwrap()["spec"]["template"]["spec"];
    assert_eq!(pod["automountServiceAccountToken"], false);
    let tls = pod["volumes"].as_array().unwrap().iter().find(|volume| volume["name"] == "tls").unwrap();
    let keys: Vec<&str> =
        tls["secret"]["items"].as_array().unwrap().iter().map(|i| i["key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["tls.crt", "tls.key", "ca.crt"]);
}

#[test]
fn the_number_of_servers_is_said_by_one_at_a_time() {
    let spec = SMALL.replace("name: search", "name: search, replicas: {min: 2, max: 5}");
    let model = model(&spec);
    let fixed = of(&model, &[("search", Scaling::Fixed(2))]);
    let deployment = find(&fixed, Kind::Deployment, "m-search").unwrap();
    assert_eq!(deployment["spec"]["replicas"], 2);
    assert!(find(&fixed, Kind::HorizontalPodAutoscaler, "m-search").is_none());
    let elastic = of(&model, &[("search", Scaling::Autoscaled(2))]);
    let deployment = find(&elastic, Kind::Deployment, "m-search").unwrap();
    assert!(deployment["spec"]["replicas"].is_null());
    let autoscaler = find(&elastic, Kind::HorizontalPodAutoscaler, "m-search").unwrap();
    assert_eq!((&autoscaler["spec"]["minReplicas"], &autoscaler["spec"]["maxReplicas"]), (&2.into(), &5.into()));
    let busy = |autoscaler: &Value| autoscaler["spec"]["metrics"][0]["resource"]["target"]["averageValue"].clone();
    assert_eq!(busy(autoscaler), "700m");

    // A server that may use less than its threads could is busy with less.
    let class = "  hardwareClasses: [{name: tight, resources: {limits: {cpu: 200m}}}]\n";
    let spec = format!("{}{class}", spec.replace("name: search", "name: search, hardwareClass: tight"));
    let tight = of(&self::model(&spec), &[("search", Scaling::Autoscaled(1))]);
    assert_eq!(busy(find(&tight, Kind::HorizontalPodAutoscaler, "m-search").unwrap()), "140m");
}

#[test]
fn an_autoscaler_begins_with_enough_servers() {
    let model = model(&SMALL.replace("name: search", "name: search, replicas: {min: 2, max: 5}"));
    let workload = &planned(&model).workloads[0];
    let known = |replicas, autoscaled| DeploymentFacts {
        replicas: Some(replicas),
        autoscaled,
        replicas_are_ours: true,
        template: None,
        trouble: None,
    };
    let of = |known: Option<DeploymentFacts>| scaling(&model, workload, known.as_ref());
    assert_eq!(of(None), Scaling::Autoscaled(2), "a new one is made with enough");
    assert_eq!(of(Some(known(1, false))), Scaling::Fixed(2));
    assert_eq!(of(Some(known(2, false))), Scaling::Autoscaled(2));
    assert_eq!(of(Some(known(1, true))), Scaling::Autoscaled(2), "it is the autoscaler's already");
}

#[test]
fn a_budget_is_there_where_more_than_one_pod_is() {
    let kinds = |spec: &str| of(&model(spec), &[]).into_iter().filter(|c| c.kind == Kind::PodDisruptionBudget).count();
    assert_eq!(kinds(SMALL), 1, "the gateway's");
    assert_eq!(kinds(&SMALL.replace("name: search", "name: search, replicas: {min: 2}")), 2);
    assert_eq!(kinds(&format!("{SMALL}  gateway: {{replicas: 1}}\n")), 0);
}
