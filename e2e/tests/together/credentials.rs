//! A store's key is corrected, and rotated, while servers run.

use unimodel_e2e::{ONE, Place, on_cluster, sample_of, seconds, secret, until, versions};

#[test]
#[ignore = "needs a cluster: make e2e"]
fn a_key_that_changes_is_taken_and_no_pod_restarts() {
    on_cluster("credentials", seconds(400), async |place: Place| {
        let store = place.store().await;
        secret(&place, "store", "wrong");
        place.apply(&sample_of(&store, ONE));
        let model = place.model("shop");
        model.reason("search", "StoreDenied", seconds(90)).await;
        let before = model.children().await;

        secret(&place, "store", "secret");
        model.ready(seconds(150)).await;
        assert_eq!(model.children().await, before, "a pod was touched");

        // What is wrong again is told by the next refresh; the version before serves on.
        let [_, second] = versions();
        store.publish(&second).await;
        store.promote(&second).await;
        secret(&place, "store", "rotated");
        until("a refresh is denied", seconds(150), async || {
            let refresh = model.task("search").await?.refresh;
            if refresh.reason.as_deref() == Some("StoreDenied") {
                return Ok(());
            }
            let now = jiff::Timestamp::now().as_second();
            place.kubectl(&format!("annotate um shop --overwrite unimodel.dev/refresh=search={now}")).well();
            Err(format!("{refresh:?}"))
        })
        .await;
    });
}
