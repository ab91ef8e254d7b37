//! Pods that end under load.

use unimodel_e2e::{Place, on_cluster, query, sample_of, seconds, until};

const TASKS: &str = "
  - {name: search, hardwareClass: small, replicas: {min: 2}, timeout: {default: 3s, max: 5s}}
";

#[test]
#[ignore = "needs a cluster: make e2e"]
fn no_request_fails_while_servers_and_gateways_end() {
    on_cluster("failures", seconds(300), async |place: Place| {
        let store = place.store().await;
        let (model, gateway) =
            place.serve(&sample_of(&store, TASKS).replace("gateway: {replicas: 1}", "gateway: {replicas: 2}")).await;

        // Killed, without a word to anybody.
        let load = gateway.load("search", query(), 2);
        let victim = model.servers("search").await.remove(0).metadata.name.unwrap();
        place.kubectl(&format!("delete pod {victim} --force --grace-period=0")).well();
        back(&place, &victim, "unimodel.dev/task=search").await;
        load.all_answered(50).await;
        model.ready(seconds(60)).await;

        // Ended in order, as a node that is drained does.
        let load = gateway.load("search", query(), 2);
        for selector in ["app.kubernetes.io/component=gateway", "unimodel.dev/task=search"] {
            let victim = place.pods(selector).await.remove(0).metadata.name.unwrap();
            place.kubectl(&format!("delete pod {victim} --wait=false")).well();
            back(&place, &victim, selector).await;
        }
        load.all_answered(50).await;
    });
}

/// Waits until two pods are ready and the victim is none of them.
async fn back(place: &Place, victim: &str, selector: &str) {
    until("another pod has taken its place", seconds(60), async || {
        let ready = place.pods(selector).await.into_iter().filter(|pod| {
            let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
            conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
        });
        let ready: Vec<String> = ready.filter_map(|pod| pod.metadata.name).collect();
        if ready.len() == 2 && !ready.iter().any(|name| name == victim) { Ok(()) } else { Err(format!("{ready:?}")) }
    })
    .await;
}
