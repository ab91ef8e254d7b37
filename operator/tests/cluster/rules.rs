//! What the operator may do: no more than its code says that it needs.

use std::path::Path;

use unimodel_operator::rbac::{rules, yaml};

#[test]
fn the_charts_rules_are_what_the_code_says() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/unimodel/files/rbac.yaml");
    if std::env::var_os("UNIMODEL_WRITE_RBAC").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, yaml()).unwrap();
    }
    let published = std::fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(published, yaml(), "run `make generate`");
}

#[test]
fn nothing_is_asked_for_that_reaches_beyond_models() {
    let rules = rules();
    for rule in rules.cluster.iter().chain(&rules.namespace).chain(&rules.lease) {
        let touches = |resource: &str| rule.resources.contains(&resource);
        let may = |verb: &str| rule.verbs.contains(&verb);
        assert!(!may("*") && !touches("*") && !may("escalate") && !may("bind") && !may("impersonate"), "{rule:?}");
        assert!(!touches("pods/exec") && !touches("pods/attach") && !touches("nodes"), "{rule:?}");
        assert!(!touches("secrets") || !(may("list") || may("watch") || may("deletecollection")), "{rule:?}");
        assert!(!touches("pods") || rule.verbs == ["list", "watch"], "{rule:?}");
        let gateways = ["serviceaccounts", "roles", "rolebindings"];
        assert!(!gateways.into_iter().any(touches) || !may("delete"), "{rule:?}");
        assert!(!touches("unifiedmodels") || rule.verbs == ["list", "watch"], "{rule:?}");
    }
}
