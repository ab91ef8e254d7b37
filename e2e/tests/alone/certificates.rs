//! Certificates of control ports come to their end.

use serde_json::Value;
use unimodel_e2e::{Place, Release, on_cluster, query, sample_of, seconds, until, versions};

#[test]
#[ignore = "needs a cluster: make e2e"]
fn certificates_are_renewed_and_no_pod_restarts() {
    on_cluster("certificates", seconds(400), async |place: Place| {
        let release = Release::install(&place, "");
        let store = place.store().await;
        let tasks = "  - {name: search, hardwareClass: small, replicas: {min: 2}, timeout: {default: 3s, max: 5s}}";
        let (model, gateway) = place.serve(&sample_of(&store, tasks)).await;
        let before = model.children().await;
        let load = gateway.load("search", query(), 2);
        let authority = || place.kubectl("get secret shop-tls -o jsonpath={.data.ca\\.crt}").well();
        let first = authority();

        // Ten years have passed, as far as the Secret says: the next operator makes another authority.
        let past = "unimodel.dev/ca-renewal=2020-01-01T00:00:00Z unimodel.dev/renewal=2020-01-01T00:00:00Z";
        place.kubectl(&format!("annotate secret shop-tls --overwrite {past}")).well();
        release.kill().await;
        until("there is another authority", seconds(60), async || {
            if authority() == first { Err("it is the same") } else { Ok(()) }.map_err(str::to_owned)
        })
        .await;

        // What was done is a line of JSON, with the object and the number of the work on it.
        let line = until("it is logged", seconds(10), async || {
            let log = place.kubectl("logs -l app.kubernetes.io/component=operator --tail=-1").well();
            let mut lines = log.lines().map(|line| serde_json::from_str::<Value>(line).expect(line));
            lines.find(|line| line["fields"]["message"] == "certificates renewed").ok_or(log)
        })
        .await;
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["span"]["object"], format!("{}/shop", place.namespace));
        assert!(line["span"]["id"].as_str().is_some_and(|id| id.len() == 8), "{line}");

        // Servers take it once the kubelet has brought it, and hear the operator again.
        let [_, second] = versions();
        store.publish(&second).await;
        store.promote(&second).await;
        place.kubectl("annotate um shop unimodel.dev/refresh=search=renewed").well();
        model.takes("search", &second, seconds(200)).await;
        load.all_answered(100).await;
        assert_eq!(model.children().await, before, "a pod was touched");
        release.uninstall();
    });
}
