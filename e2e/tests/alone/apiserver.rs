//! The API server is away for a minute, and for half of it there is no operator either.

use std::process::Command;

use unimodel_e2e::{Admin, Place, Release, cluster_is_anothers, on_cluster, query, sample_of, seconds, until};

/// Refuses every connection to the API server, also those that are open. Only the tests' own cluster can.
struct Away;

impl Away {
    fn rule(action: &str) {
        let rule = format!("{action} INPUT -p tcp --dport 6443 -j REJECT --reject-with tcp-reset");
        assert!(Command::new("iptables").args(rule.split(' ')).status().unwrap().success(), "iptables {rule}");
    }

    fn begin() -> Self {
        Self::rule("-I");
        Self
    }
}

impl Drop for Away {
    fn drop(&mut self) {
        Self::rule("-D");
    }
}

#[test]
#[ignore = "needs a cluster: make e2e"]
fn the_model_serves_on_and_all_recovers_by_itself() {
    if cluster_is_anothers() {
        println!("left out: another's API server is not this test's to take away");
        return;
    }
    on_cluster("apiserver", seconds(300), async |place: Place| {
        let release = Release::install(&place, "");
        let store = place.store().await;
        let tasks = "  - {name: search, hardwareClass: small, replicas: {min: 2}, timeout: {default: 3s, max: 5s}}";
        let (model, gateway) = place.serve(&sample_of(&store, tasks)).await;
        let before = model.children().await;
        let load = gateway.load("search", query(), 2);
        let operators = release.operators().await;
        let away = Away::begin();
        tokio::time::sleep(seconds(30)).await;
        // The operator ends too, and begins anew with nobody to tell it anything.
        place.kill(&operators);
        tokio::time::sleep(seconds(30)).await;
        // It lives, and knows nothing.
        let address = operators[0].status.as_ref().and_then(|status| status.pod_ip.clone()).unwrap();
        let says = async |path: &str| reqwest::get(format!("http://{address}:9090{path}")).await.unwrap().status();
        assert_eq!((says("/livez").await.as_u16(), says("/readyz").await.as_u16()), (200, 503));
        drop(away);

        until("the API server is back", seconds(30), async || {
            let answer = place.kubectl("get um shop");
            if answer.succeeded { Ok(()) } else { Err(answer.said) }
        })
        .await;
        load.all_answered(500).await;
        release.follows(&operators).await;
        let admin = Admin { place: &place, pod: release.leader().await };
        assert!(admin.sample("unimodel_operator_watch_errors_total{kind=\"Pod\"}") > 0, "{}", admin.get("/metrics"));
        // An edit is taken as ever.
        place.apply(&sample_of(&store, &format!("{tasks}\n  - {{name: related, hardwareClass: small}}")));
        model.ready(seconds(120)).await;
        let after = model.children().await;
        assert!(before.iter().all(|(name, child)| after.get(name) == Some(child)), "{before:?} {after:?}");
        release.uninstall();
    });
}
