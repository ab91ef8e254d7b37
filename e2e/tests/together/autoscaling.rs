//! A task whose servers follow its load.

use std::sync::{Arc, Mutex};

use futures::StreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use kube::runtime::{WatchStreamExt, watcher};
use unimodel_e2e::{Place, Store, cluster_is_anothers, kubectl, on_cluster, query, sample_of, seconds, until};

/// A server that few requests keep busy: so few as there are where the machine has other work.
const TIGHT: &str = "
  - {name: tight, resources: {requests: {cpu: 40m}, limits: {cpu: 50m}}}
";

fn shop(store: &Store, replicas: &str) -> String {
    let tasks =
        format!("  - {{name: search, hardwareClass: tight, replicas: {replicas}, timeout: {{default: 3s, max: 5s}}}}");
    sample_of(store, &tasks).replace("  hardwareClasses:\n", &format!("  hardwareClasses:{TIGHT}"))
}

/// Waits until there is an autoscaler, or none.
async fn autoscaler(place: &Place, wanted: bool) {
    until(&format!("an autoscaler: {wanted}"), seconds(30), async || {
        let found = place.kubectl("get hpa shop-search");
        if found.succeeded == wanted { Ok(()) } else { Err(found.said) }
    })
    .await;
}

#[test]
#[ignore = "needs a cluster: make e2e"]
fn load_adds_servers_calm_takes_them_away_and_no_hand_over_loses_one() {
    on_cluster("autoscaling", seconds(400), async |place: Place| {
        let metrics = kubectl("get apiservice v1beta1.metrics.k8s.io -o jsonpath={.metadata.name}");
        if !metrics.succeeded && cluster_is_anothers() {
            println!("left out: this cluster has no metrics-server");
            return;
        }
        kubectl("wait apiservice/v1beta1.metrics.k8s.io --for=condition=Available --timeout=90s").well();
        let store = place.store().await;
        // One that is elastic from the start begins with its least, also when its pods change before anything scales it.
        let (model, gateway) = place.serve(&shop(&store, "{min: 2, max: 3}")).await;
        place.kubectl("get hpa shop-search").well();
        place.apply(&shop(&store, "{min: 2, max: 3}").replace("cpu: 40m", "cpu: 41m"));
        model.ready(seconds(60)).await;
        let asked = place.kubectl("get deployment shop-search -o jsonpath={.spec.replicas}").well();
        assert_eq!(asked, "2");
        place.apply(&shop(&store, "{min: 2}"));
        autoscaler(&place, false).await;
        model.ready(seconds(60)).await;

        // Every number that the Deployment ever asks for.
        let seen = Arc::<Mutex<Vec<i32>>>::default();
        let one = watcher::Config::default().fields("metadata.name=shop-search");
        let deployments = watcher(place.api::<Deployment>(), one).applied_objects();
        let told = seen.clone();
        let watching = tokio::spawn(deployments.for_each(move |deployment| {
            let asked = deployment.ok().and_then(|deployment| deployment.spec?.replicas);
            told.lock().unwrap().extend(asked);
            std::future::ready(())
        }));

        let number = async |what: &str, wanted: fn(i32) -> bool, limit| {
            until(what, limit, async || {
                let asked = place.kubectl("get deployment shop-search -o jsonpath={.spec.replicas}").well();
                let why = || place.kubectl("get hpa,pods -o wide").said;
                if asked.parse().is_ok_and(wanted) { Ok(()) } else { Err(format!("{asked}: {}", why())) }
            })
            .await;
        };
        place.apply(&shop(&store, "{min: 2, max: 3}"));
        autoscaler(&place, true).await;
        let load = gateway.load("search", query(), 8);
        number("load adds a server", |n| n == 3, seconds(120)).await;
        load.end().await;
        number("calm takes it away", |n| n == 2, seconds(120)).await;

        // And back to a number that a person says, from one that the autoscaler said.
        let load = gateway.load("search", query(), 8);
        number("load adds a server again", |n| n == 3, seconds(120)).await;
        place.apply(&shop(&store, "{min: 2}"));
        autoscaler(&place, false).await;
        load.end().await;
        number("two are asked for", |n| n == 2, seconds(30)).await;
        model.ready(seconds(60)).await;
        watching.abort();
        let seen = seen.lock().unwrap();
        assert!(seen.contains(&3) && seen.iter().all(|asked| *asked >= 2), "a dip: {seen:?}");
    });
}
