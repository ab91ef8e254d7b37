//! Nothing is written while nothing changes.

use unimodel_e2e::{Place, Release, Request, on_cluster, requests, sample_of, seconds};

#[test]
#[ignore = "needs a cluster: make e2e"]
fn at_rest_nothing_is_written_however_often_it_is_looked_at() {
    on_cluster("steady", seconds(300), async |place: Place| {
        let writes = || {
            let all = requests(&place.namespace, "operator-unimodel-operator")?;
            Some(all.into_iter().filter(Request::writes).collect::<Vec<_>>())
        };
        if writes().is_none() {
            println!("left out: another's API server does not show what it was asked for");
            return;
        }
        let release = Release::install(&place, "");
        let store = place.store().await;
        let tasks = "  - {name: search, hardwareClass: small, replicas: {min: 1, max: 2}}\n  - {name: related, hardwareClass: small}";
        place.serve(&sample_of(&store, tasks)).await;
        tokio::time::sleep(seconds(10)).await;
        let before = writes().unwrap().len();
        assert!(before > 10, "{before}");

        // Each change by somebody else, in a field that is theirs, makes the operator look at all of the object.
        for round in 0..20 {
            let kinds = "deployments,services,configmaps,serviceaccounts,roles,rolebindings,hpa,um";
            place.kubectl(&format!("annotate {kinds} --all --overwrite example.com/round={round}")).well();
            tokio::time::sleep(seconds(1)).await;
        }
        // Every watch ends and begins anew within this time, with all that there is.
        tokio::time::sleep(seconds(80)).await;
        let all = writes().unwrap();
        assert!(all.len() == before, "{:?}", &all[before..]);
        release.uninstall();
    });
}
