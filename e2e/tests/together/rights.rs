//! The operator may do what it must, and nothing more.

use unimodel_e2e::{Output, kubectl};

fn may(what: &str) -> Output {
    kubectl(&format!("auth can-i {what} -A --as=system:serviceaccount:unimodel-system:unimodel-operator"))
}

#[test]
#[ignore = "needs a cluster: make e2e"]
fn the_operator_may_not_do_what_it_need_not() {
    for what in [
        "list secrets",
        "watch secrets",
        "create pods --subresource=exec",
        "create pods",
        "delete pods",
        "get nodes",
        "get nodes --subresource=proxy",
        "create pods --subresource=portforward",
        "impersonate users",
        "escalate roles",
        "create clusterroles",
        "create clusterrolebindings",
        "get unifiedmodels",
        "delete unifiedmodels",
        "delete serviceaccounts",
        "delete roles",
        "delete rolebindings",
        "create serviceaccounts --subresource=token",
        "update customresourcedefinitions",
    ] {
        let answer = may(what);
        assert_eq!(answer.printed.trim(), "no", "{}", answer.said);
    }
    for what in
        ["patch deployments", "list pods", "patch unifiedmodels --subresource=status", "create events.events.k8s.io"]
    {
        let answer = may(what);
        assert_eq!(answer.printed.trim(), "yes", "{}", answer.said);
    }
}
