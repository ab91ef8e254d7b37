//! An edit changes what was edited and nothing else.

use serde_json::{Value, json};
use unimodel_e2e::{Model, Place, kubectl, on_cluster, query, sample_of, seconds, until};

const TWO: &str = "
  - {name: search, hardwareClass: small, replicas: {min: 2}, timeout: {default: 3s, max: 5s}}
  - {name: related, hardwareClass: other, timeout: {default: 3s, max: 5s}}
";

#[test]
#[ignore = "needs a cluster: make e2e"]
fn another_team_adds_a_task_and_takes_it_away() {
    on_cluster("teams", seconds(240), async |place: Place| {
        let store = place.store().await;
        place.apply(&sample_of(&store, TWO));
        let model = place.model("shop");
        model.ready(seconds(120)).await;
        let before = model.children().await;

        let team = "apply --server-side --field-manager=lists-team -f -";
        let head = "apiVersion: unimodel.dev/v1alpha1\nkind: UnifiedModel\nmetadata: {name: shop}\n";
        place
            .kubectl_with(
                team,
                &format!("{head}spec: {{tasks: [{{name: lists, head: category, hardwareClass: small, timeout: {{default: 3s, max: 5s}}}}]}}"),
            )
            .well();
        let gateway = place.gateway("shop").await;
        gateway.answers("lists", &json!({"genre": "Comedy"}), seconds(60)).await;
        model.ready(seconds(60)).await;
        let mut after = model.children().await;
        let added: Vec<String> = after.keys().filter(|name| !before.contains_key(*name)).cloned().collect();
        assert!(added.len() == 1 && added[0].starts_with("shop-lists-"), "{added:?}");
        after.remove(&added[0]);
        assert_eq!(after, before, "another pod was touched");

        // Two teams want one field: the API server says so, and whose it is.
        let conflict = format!("{head}spec: {{tasks: [{{name: search, replicas: {{min: 3}}}}]}}");
        let said = place.kubectl_with(team, &conflict).refused();
        assert!(said.contains("conflict with \"platform\""), "{said}");
        assert!(said.contains(".spec.tasks[name=\"search\"].replicas.min"), "{said}");

        // What it no longer says goes: out of the routes first, so that callers are told there is no such task and
        // none meets a server that is gone.
        let load = gateway.load("lists", json!({"genre": "Comedy"}), 2);
        place.kubectl_with(team, &format!("{head}spec: {{tasks: []}}")).well();
        until("the task's children are gone", seconds(60), async || {
            let left = place.kubectl("get deployments,services,configmaps,serviceaccounts,pods -o name").well();
            let left: Vec<&str> = left.lines().filter(|name| name.contains("/shop-lists")).collect();
            if left.is_empty() { Ok(()) } else { Err(left.join(", ")) }
        })
        .await;
        let report = load.end().await;
        let other: Vec<_> = report.failed.iter().filter(|why| !why.contains("unknown task")).collect();
        assert!(other.is_empty() && !report.failed.is_empty(), "{other:#?} of {}", report.failed.len());
        assert_eq!(model.children().await, before, "another pod was touched");

        place.kubectl("delete um shop").well();
        until("all is gone", seconds(90), async || {
            let left = place
                .kubectl(
                    "get deployments,services,configmaps,secrets,serviceaccounts,roles,rolebindings,pdb,pods -o name",
                )
                .well();
            let left: Vec<&str> = left.lines().filter(|name| name.contains("/shop-")).collect();
            if left.is_empty() { Ok(()) } else { Err(left.join(", ")) }
        })
        .await;
    });
}

/// Waits until each server of `search` has this limit: one that has not heard of it yet answers as before.
async fn servers_have(place: &Place, model: &Model, candidates: u64) {
    until(&format!("servers have the limit {candidates}"), seconds(100), async || {
        for pod in model.servers("search").await {
            let name = pod.metadata.name.unwrap();
            let path = format!("/api/v1/namespaces/{}/pods/{name}:9090/proxy/debug/state", place.namespace);
            let said = kubectl(&format!("get --raw {path}")).well();
            let state: Value = serde_json::from_str(&said).map_err(|error| error.to_string())?;
            let limit = &state["config"]["tasks"][0]["maxCandidates"];
            if *limit != candidates {
                return Err(format!("{name} has {limit}"));
            }
        }
        Ok(())
    })
    .await;
}

#[test]
#[ignore = "needs a cluster: make e2e"]
fn a_knob_restarts_nothing_and_a_class_rolls_its_tasks_alone() {
    on_cluster("edits", seconds(420), async |place: Place| {
        let store = place.store().await;
        let (model, gateway) = place.serve(&sample_of(&store, TWO)).await;
        let before = model.children().await;

        // The gateway takes the one, the servers the other. Hardly any answer is so quick, but a refusal is.
        place.apply(&sample_of(&store, &TWO.replacen("default: 3s", "default: 1ms", 1)));
        until("requests meet the new timeout", seconds(60), async || match gateway.rank("search", &query()).await {
            Err(why) if why.starts_with("504") => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
        place.apply(&sample_of(&store, &TWO.replacen("max: 5s}", "max: 5s}, inference: {maxCandidates: 2}", 1)));
        servers_have(&place, &model, 2).await;
        // The test asks for three candidates.
        until("too many are refused", seconds(10), async || match gateway.rank("search", &query()).await {
            Err(why) if why.starts_with("400") => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
        place.apply(&sample_of(&store, TWO));
        servers_have(&place, &model, 10_000).await;
        gateway.rank("search", &query()).await.unwrap();
        assert_eq!(model.children().await, before, "a pod was touched");

        // Another class of machines: its task rolls, without a failed request, and no other task does.
        let item = json!({"source_item": "1"});
        let (related, search) = (gateway.load("related", item, 2), gateway.load("search", query(), 1));
        place.apply(&sample_of(&store, TWO).replace("cpu: 51m", "cpu: 52m"));
        until("the new server is there alone", seconds(90), async || {
            let now = model.servers("related").await;
            let uid = now.first().and_then(|pod| pod.metadata.name.clone()).unwrap_or_default();
            if now.len() == 1 && !before.contains_key(&uid) { Ok(()) } else { Err(format!("{} of it", now.len())) }
        })
        .await;
        model.ready(seconds(60)).await;
        related.all_answered(50).await;
        search.all_answered(25).await;
        let after = model.children().await;
        let touched = before.iter().filter(|(name, child)| after.get(*name) != Some(child));
        let touched: Vec<&String> = touched.map(|(name, _)| name).collect();
        assert!(touched.len() == 1 && touched[0].starts_with("shop-related-"), "{touched:?}");
    });
}
