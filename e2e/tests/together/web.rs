//! A store behind a web server with TLS.

use unimodel_e2e::{ONE, Place, on_cluster, query, sample_of, seconds, versions};

#[test]
#[ignore = "needs a cluster: make e2e"]
fn versions_come_from_a_web_server_whose_authority_a_secret_names() {
    on_cluster("web", seconds(240), async |place: Place| {
        let store = place.web_store().await;
        let (model, gateway) = place.serve(&sample_of(&store, ONE)).await;
        let [first, second] = versions();
        let answer = gateway.answers("search", &query(), seconds(20)).await;
        assert_eq!(answer["modelVersion"], first.as_str());

        // A channel is followed there as in a bucket.
        store.publish(&second).await;
        store.promote(&second).await;
        place.kubectl("annotate um shop unimodel.dev/refresh=search=now").well();
        model.takes("search", &second, seconds(60)).await;
        assert_eq!(gateway.answers("search", &query(), seconds(10)).await["modelVersion"], second.as_str());
    });
}
