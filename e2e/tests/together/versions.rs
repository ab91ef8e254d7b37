//! A new version in the store: each task takes it at its own time, whole or not at all.

use serde_json::{Value, json};
use unimodel_crds::RefreshPhase;
use unimodel_e2e::{Place, Store, on_cluster, sample_of, seconds, trained, until, versions};

/// The SHA-256 of a version's weights, as it was published.
fn weights(version: &str) -> String {
    let file = trained().join("versions").join(version).join("manifest.json");
    let manifest: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let files = manifest["files"].as_array().unwrap();
    let weights = files.iter().find(|file| file["path"] == "model.safetensors").unwrap();
    weights["sha256"].as_str().unwrap().to_owned()
}

const TASKS: &str = "
  - {name: search, hardwareClass: small, replicas: {min: 2}, timeout: {default: 3s, max: 5s}, refresh: {schedule: '* * * * *'}}
  - {name: related, hardwareClass: small, timeout: {default: 3s, max: 5s}}
";

#[test]
#[ignore = "needs a cluster: make e2e"]
fn each_task_takes_a_version_at_its_own_time_and_refuses_a_damaged_one() {
    on_cluster("versions", seconds(400), async |place: Place| {
        let store: Store = place.store().await;
        place.apply(&sample_of(&store, TASKS));
        let model = place.model("shop");
        model.ready(seconds(120)).await;
        let gateway = place.gateway("shop").await;
        let (query, item) = (json!({"query": "gounnounisk"}), json!({"source_item": "1"}));
        gateway.answers("related", &item, seconds(30)).await;
        gateway.answers("search", &query, seconds(30)).await;
        let before = model.children().await;
        let [first, second] = versions();
        let (search, related) = (gateway.load("search", query.clone(), 2), gateway.load("related", item, 1));

        // One byte is other than what was published.
        store.publish(&second).await;
        store.damage(&second).await;
        store.promote(&second).await;
        let failed = until("the damaged version is refused", seconds(100), async || {
            let refresh = model.task("search").await?.refresh;
            if refresh.phase == RefreshPhase::Failed { Ok(refresh) } else { Err(format!("{refresh:?}")) }
        })
        .await;
        assert_eq!(failed.reason.as_deref(), Some("DigestMismatch"));
        let message = failed.message.unwrap();
        assert!(message.contains("model.safetensors") && message.contains(&weights(&second)), "{message}");
        assert_eq!(model.task("search").await.unwrap().active_version.as_deref(), Some(first.as_str()));

        // Whole, it is taken when the task's next time comes.
        store.publish(&second).await;
        model.takes("search", &second, seconds(130)).await;
        assert_eq!(gateway.answers("search", &query, seconds(5)).await["modelVersion"], second.as_str());
        assert_eq!(model.task("related").await.unwrap().active_version.as_deref(), Some(first.as_str()));

        // The other has no times of its own, and takes it when it is asked to.
        place.kubectl("annotate um shop unimodel.dev/refresh=related=now").well();
        until("related has taken it", seconds(60), async || {
            let task = model.task("related").await?;
            if task.active_version.as_deref() == Some(&second) { Ok(()) } else { Err(format!("{:?}", task.refresh)) }
        })
        .await;
        let seen = search.all_answered(100).await.versions;
        related.all_answered(50).await;
        assert!(seen.contains(&first) && seen.contains(&second), "{seen:?}");
        assert_eq!(model.children().await, before, "a pod was touched");

        // A pod that starts now takes the pinned version, whatever the channel says.
        store.promote(&first).await;
        let old = model.servers("related").await;
        place.kubectl("scale deployment shop-related --replicas=0").well();
        model.replaces("related", &old, seconds(90)).await;
        let answer = gateway.answers("related", &json!({"source_item": "1"}), seconds(60)).await;
        assert_eq!(answer["modelVersion"], second.as_str());
    });
}
