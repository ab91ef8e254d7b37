//! Nothing is written while nothing changes, and what the operator says of its own work.

use std::collections::{BTreeMap, BTreeSet};

use unimodel_e2e::{Admin, Place, Release, Request, on_cluster, requests, sample_of, seconds};

#[test]
#[ignore = "needs a cluster: make e2e"]
fn at_rest_nothing_is_written_however_often_it_is_looked_at() {
    on_cluster("steady", seconds(300), async |place: Place| {
        let asked = || requests(&place.namespace, "operator-unimodel-operator");
        let writes = || Some(asked()?.into_iter().filter(Request::writes).collect::<Vec<_>>());
        if writes().is_none() {
            println!("left out: another's API server does not show what it was asked for");
            return;
        }
        let release = Release::install(&place, "");
        let store = place.store().await;
        let tasks = "  - {name: search, hardwareClass: small, replicas: {min: 2, max: 3}}\n  - {name: related, hardwareClass: small}";
        place.serve(&sample_of(&store, tasks)).await;
        tokio::time::sleep(seconds(10)).await;
        let before = writes().unwrap().len();
        assert!(before > 10, "{before}");
        let admin = Admin { place: &place, pod: release.leader().await };
        let worked = || admin.sample("unimodel_operator_reconciles_total{result=\"ok\"}");
        let worked_before = worked();

        // Each change by somebody else, in a field that is theirs, makes the operator look at all of the object.
        for round in 0..20 {
            let kinds = "deployments,services,configmaps,serviceaccounts,roles,rolebindings,hpa,pdb,secrets,um";
            place.kubectl(&format!("annotate {kinds} --all --overwrite example.com/round={round}")).well();
            tokio::time::sleep(seconds(1)).await;
        }
        let looks = worked() - worked_before;
        assert!(looks >= 20, "the object was looked at {looks} times");
        // Every watch ends and begins anew within this time, with all that there is.
        tokio::time::sleep(seconds(80)).await;
        let all = writes().unwrap();
        assert!(all.len() == before, "{:?}", &all[before..]);
        says_how_it_is(&admin);

        // Of the Secrets, also of that with the store's key, it asks for one: its own, with certificates.
        let secrets = asked().unwrap().into_iter().filter(|request| request.resource == "secrets");
        let names: BTreeSet<String> = secrets.map(|request| request.name).collect();
        assert_eq!(names, BTreeSet::from(["shop-tls".to_owned()]));
        release.uninstall();
    });
}

/// The admin port says what docs/operator.md lists, and names no object.
fn says_how_it_is(admin: &Admin<'_>) {
    assert_eq!(admin.get("/livez"), "ok\n");
    assert_eq!(admin.get("/readyz"), "ok\n");
    let text = admin.get("/metrics");
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE unimodel_operator_")?.split_once(' '));
    let expected = [
        ("reconciles", "counter"),
        ("reconcile_duration_seconds", "histogram"),
        ("api_requests", "counter"),
        ("watch_errors", "counter"),
        ("queue_depth", "gauge"),
        ("objects", "gauge"),
        ("leader", "gauge"),
    ];
    assert_eq!(types.collect::<BTreeMap<_, _>>(), BTreeMap::from(expected));
    for sample in ["objects 1", "leader 1", "queue_depth 0"] {
        assert!(text.contains(&format!("unimodel_operator_{sample}\n")), "{sample}: {text}");
    }
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let labels =
        samples.filter_map(|line| line.split_once('{')?.1.split_once('}')).flat_map(|(labels, _)| labels.split(','));
    let labels: BTreeSet<(&str, &str)> = labels.filter_map(|label| label.split_once('=')).collect();
    let keys: BTreeSet<&str> = labels.iter().map(|(key, _)| *key).collect();
    assert!(keys.is_subset(&BTreeSet::from(["result", "verb", "kind", "le"])), "{keys:?}");
    let values: BTreeSet<&str> = labels.iter().filter(|(key, _)| *key == "result").map(|(_, value)| *value).collect();
    let results = BTreeSet::from(["\"ok\"", "\"blocked\"", "\"error\"", "\"not_leader\""]);
    assert!(values.is_subset(&results), "{values:?}");
    assert!(!text.contains("shop") && !text.contains(&admin.place.namespace), "an object is named: {text}");
}
