//! Two installations in one cluster: one leads, and nobody has it stand aside who is no second one.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::support::{History, Site, until};
use crate::cluster::{Cluster, Controller, ControllerOptions};

/// The namespace of a second installation.
const OTHER: &str = "second-system";
/// After so long in charge an installation gives way to no other, and looks every three seconds.
const INCUMBENT: SignedDuration = SignedDuration::from_secs(34);

async fn commit(site: &Site, version: &str) {
    site.commit([&site.document("ws_a", version, &[version])]).await;
}

async fn enforced(site: &Site, version: &str) {
    site.enforced("ws-a", version).await;
}

/// Where the API server sends agents.
async fn registered(site: &Site) -> String {
    let path = "jsonpath={.webhooks[0].clientConfig.url}";
    let name = "sekuire-policy-controller";
    site.cluster.kubectl(["get", "validatingwebhookconfiguration", name, "-o", path]).await.ok()
}

async fn registered_at(site: &Site, controller: &Controller) {
    until(&format!("the webhook is that of {}", controller.identity()), async || {
        let url = registered(site).await;
        if url.starts_with(&format!("{}/", controller.url())) { Ok(()) } else { Err(url) }
    })
    .await;
}

/// Whether it says that it stands aside for the installation of a namespace.
fn stands_aside(controller: &Controller, installation: &str) -> bool {
    let said = "standing aside: another installation leads";
    let whose = format!("installation=\"{installation}\"");
    controller.log().lines().any(|line| line.contains(said) && line.contains(&whose))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_installations_in_one_cluster_the_second_stands_aside_and_says_so() {
    let site = Site::new(Cluster::options()).await;
    let mut a = ControllerOptions::new("a").start(&site.cluster).await;
    commit(&site, "1").await;
    enforced(&site, "1").await;
    let rest = site.at_rest().await;
    let history = History::record(&site.client);
    let b = ControllerOptions::new("b").namespace(OTHER).spawn(&site.cluster).await;
    until("b holds the Lease of its own installation", async || {
        let (holder, ..) = site.lease_in(OTHER).await;
        if holder.as_deref() == Some("b") { Ok(()) } else { Err(holder) }
    })
    .await;
    until("an Event says that it stands aside", async || {
        let count = site.events("sekuire-policy-controller", "StandsAside").await;
        if count > 0 { Ok(()) } else { Err(count) }
    })
    .await;
    assert!(stands_aside(&b, crate::cluster::controller::NAMESPACE), "{}", b.log());
    assert!(!b.log().contains(" leading"), "{}", b.log());
    // nothing is written, neither against each other nor at all
    site.stays_at(&rest, Duration::from_secs(6), "with two installations").await;
    assert!(registered(&site).await.starts_with(&a.url()));
    commit(&site, "2").await;
    enforced(&site, "2").await;
    // the second takes over when the first is gone, and the first finds it in charge when it comes back
    assert!(a.terminate().await.success(), "{}", a.log());
    registered_at(&site, &b).await;
    commit(&site, "3").await;
    enforced(&site, "3").await;
    a.start_again();
    until("a stands aside", async || if stands_aside(&a, OTHER) { Ok(()) } else { Err(a.log()) }).await;
    let rest = site.at_rest().await;
    site.stays_at(&rest, Duration::from_secs(6), "with the second in charge").await;
    assert!(registered(&site).await.starts_with(&b.url()));
    commit(&site, "4").await;
    enforced(&site, "4").await;
    assert_eq!(history.faults(), Vec::<String>::new());
    assert_eq!(history.gaps(), 0, "all writes were seen");

    // a configuration that leads to a namespace in which nobody is alive is put back
    let lie = r#"{"metadata":{"annotations":{"sekuire.ai/namespace":"nobody-system"}},"webhooks":[]}"#;
    let kind = "validatingwebhookconfiguration/sekuire-policy-controller";
    site.cluster.kubectl(["patch", kind, "--type=merge", "-p", lie]).await.ok();
    registered_at(&site, &b).await;
    site.at_rest().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_installation_whose_only_replica_is_replaced_is_not_taken_over_from() {
    let site = Site::new(Cluster::options()).await;
    let mut a = ControllerOptions::new("a").start(&site.cluster).await;
    commit(&site, "1").await;
    enforced(&site, "1").await;
    let b = ControllerOptions::new("b").namespace(OTHER).spawn(&site.cluster).await;
    until("b stands aside", async || {
        if stands_aside(&b, crate::cluster::controller::NAMESPACE) { Ok(()) } else { Err(b.log()) }
    })
    .await;
    // the Lease is given back, and b looks at it once at least
    assert!(a.terminate().await.success(), "{}", a.log());
    let rest = site.at_rest().await;
    site.stays_at(&rest, Duration::from_secs(4), "with nobody in charge for a moment").await;
    a.start_again();
    site.led_by("a").await;
    commit(&site, "2").await;
    enforced(&site, "2").await;
    assert!(registered(&site).await.starts_with(&a.url()));
    assert!(!b.log().contains("standing aside no longer"), "{}", b.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_keeps_a_lease_alive_somewhere_and_leads_the_webhook_there_has_nobody_stand_aside() {
    let site = Site::new(Cluster::options()).await;
    let a = ControllerOptions::new("a").start(&site.cluster).await;
    commit(&site, "1").await;
    enforced(&site, "1").await;
    registered_at(&site, &a).await;
    let begun = Timestamp::now();
    site.cluster.kubectl(["create", "namespace", "attackers"]).await.ok();
    until("a has been in charge for long enough", async || {
        let since = Timestamp::now().duration_since(begun);
        if since > INCUMBENT { Ok(()) } else { Err(since) }
    })
    .await;
    let end = Instant::now() + Duration::from_secs(8);
    while Instant::now() < end {
        site.cluster.apply(&lease("attackers")).await.ok();
        let lie = json!([
            {"op": "add", "path": "/metadata/annotations/sekuire.ai~1namespace", "value": "attackers"},
            {"op": "replace", "path": "/webhooks/0/clientConfig/url", "value": "https://127.0.0.1:1/validate"},
        ]);
        let kind = "validatingwebhookconfiguration/sekuire-policy-controller";
        site.cluster.kubectl(["patch", kind, "--type=json", "-p", &lie.to_string()]).await.ok();
        registered_at(&site, &a).await;
    }
    commit(&site, "2").await;
    enforced(&site, "2").await;
    assert!(!stands_aside(&a, "attackers"), "{}", a.log());
    assert!(site.events("sekuire-policy-controller", "WebhookRestored").await > 0);
}

/// A Lease of the name of ours that is held and was renewed just now.
fn lease(namespace: &str) -> String {
    let now = Timestamp::now().strftime("%FT%T%.6fZ").to_string();
    json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": "sekuire-policy-controller", "namespace": namespace},
        "spec": {"holderIdentity": "attacker", "leaseDurationSeconds": 60, "acquireTime": now, "renewTime": now}})
    .to_string()
}
