//! An operator of some namespaces, which are listed.

use unimodel_e2e::{ONE, Place, Release, kubectl, kubectl_with, on_cluster, sample_of, seconds, until};

#[test]
#[ignore = "needs a cluster: make e2e"]
fn of_three_namespaces_the_two_that_are_listed_are_hosted() {
    on_cluster("listed", seconds(180), async |place: Place| {
        let other = |name: &str| format!("{}-{name}", place.namespace);
        let namespaces = [place.namespace.clone(), other("listed"), other("unseen")];
        for namespace in &namespaces[1..] {
            kubectl(&format!("create namespace {namespace}")).well();
        }
        let release = Release::install(&place, &format!("--set namespaces={{{},{}}}", namespaces[0], namespaces[1]));
        let store = place.store().await;
        for namespace in &namespaces {
            kubectl_with(&format!("-n {namespace} apply -f -"), &sample_of(&store, ONE)).well();
        }
        for namespace in &namespaces[..2] {
            until("the object has a Deployment and a status", seconds(60), async || {
                let made = kubectl(&format!("-n {namespace} get deployment shop-search"));
                let status = kubectl(&format!("-n {namespace} get um shop -o jsonpath={{.status.readyTasks}}"));
                if made.succeeded && !status.printed.is_empty() { Ok(()) } else { Err(made.said + &status.said) }
            })
            .await;
        }
        place.model("shop").ready(seconds(90)).await;
        let unseen = kubectl(&format!("-n {} get deployments,services,configmaps,pods -o name", namespaces[2])).well();
        assert!(!unseen.contains("shop"), "{unseen}");
        let account = format!("--as=system:serviceaccount:{}:operator-unimodel-operator", place.namespace);
        let may = kubectl(&format!("-n {} auth can-i list pods {account}", namespaces[2]));
        assert_eq!(may.printed.trim(), "no", "{}", may.said);
        release.uninstall();
        for namespace in &namespaces[1..] {
            kubectl(&format!("delete namespace {namespace} --wait=false"));
        }
    });
}
