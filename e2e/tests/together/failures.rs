//! Pods that end under load.

use k8s_openapi::api::core::v1::Pod;
use unimodel_e2e::{Child, Place, is_ready, on_cluster, query, sample_of, seconds, until};

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

        let (server, front) = ("unimodel.dev/task=search", "app.kubernetes.io/component=gateway");

        // A server is killed, without a word to anybody: what it was asked another one answers.
        let load = gateway.load("search", query(), 8);
        another(&place, server, |victim| place.kill(&[victim])).await;
        load.all_answered(50).await;

        // So is a gateway. Who asked it asks again, on another connection.
        let load = gateway.asked_again().load("search", query(), 8);
        another(&place, front, |victim| place.kill(&[victim])).await;
        load.all_answered(50).await;
        model.ready(seconds(60)).await;

        // Ended in order, as a node that is drained does.
        let load = gateway.load("search", query(), 2);
        for selector in [front, server] {
            another(&place, selector, |victim| {
                let name = victim.metadata.name.unwrap();
                place.kubectl(&format!("delete pod {name} --wait=false")).well();
            })
            .await;
        }
        load.all_answered(50).await;
    });
}

/// Ends one of two pods, and waits until two are ready again, without it as it was.
async fn another(place: &Place, selector: &str, end: impl FnOnce(Pod)) {
    let victim = place.pods(selector).await.remove(0);
    let before = Child::of(&victim);
    // Connections to it are in use by now.
    tokio::time::sleep(seconds(1)).await;
    end(victim);
    until("another has taken its place", seconds(60), async || {
        let ready: Vec<Child> = place.pods(selector).await.iter().filter(|pod| is_ready(pod)).map(Child::of).collect();
        if ready.len() == 2 && !ready.contains(&before) { Ok(()) } else { Err(format!("{ready:?}")) }
    })
    .await;
}
