//! Certificates of control ports come to their end.

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

        // Servers take it once the kubelet has brought it, and hear the operator again.
        let [_, second] = versions();
        store.publish(&second).await;
        store.promote(&second).await;
        place.kubectl("annotate um shop unimodel.dev/refresh=search=renewed").well();
        model.takes("search", &second, seconds(200)).await;
        load.all_answered(200).await;
        assert_eq!(model.children().await, before, "a pod was touched");
        release.uninstall();
    });
}
