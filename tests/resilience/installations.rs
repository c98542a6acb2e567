//! Two installations in one cluster: one leads, and nobody has it stand aside who is no second one.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::support::{History, Site, until};
use crate::cluster::{Cluster, Controller, ControllerOptions};

/// The namespace of a second installation.
const OTHER: &str = "second-system";
/// After so long in charge an installation gives way to no other, and looks every three seconds.
const INCUMBENT: SignedDuration = SignedDuration::from_secs(34);

/// Within which what leads to nobody is put back: two seconds, and as much as a busy machine takes. What a Lease takes to be over
/// is longer.
const SOON: Duration = Duration::from_secs(6);
/// The same where it has to show first that nobody keeps a Lease.
const SHOWS: Duration = Duration::from_secs(16);

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

/// Has the webhook configuration lead to a Service in a namespace, and nobody be asked about agents.
async fn lead_elsewhere(site: &Site, namespace: &str) {
    let service = json!({"name": "webhook", "namespace": namespace, "path": "/validate", "port": 443});
    let lie = json!([
        {"op": "replace", "path": "/webhooks/0/clientConfig", "value": {"service": service}},
        {"op": "replace", "path": "/webhooks/0/rules", "value": []},
    ]);
    let kind = "validatingwebhookconfiguration/sekuire-policy-controller";
    site.cluster.kubectl(["patch", kind, "--type=json", "-p", &lie.to_string()]).await.ok();
}

/// What may be found in the namespace that the configuration leads to, and is no live Lease of an installation.
fn no_live_leases() -> Vec<(&'static str, Option<String>)> {
    let with = |change: &dyn Fn(&mut Value)| {
        let mut lease: Value = serde_json::from_str(&lease("attackers")).unwrap();
        change(&mut lease);
        Some(lease.to_string())
    };
    let renewed = |time: &'static str| with(&move |lease| lease["spec"]["renewTime"] = json!(time));
    let never = json!([{"manager": "x", "operation": "Update", "apiVersion": "coordination.k8s.io/v1",
        "time": "9999-12-31T23:59:59Z", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {}}}]);
    vec![
        ("there is none", None),
        ("renewed in the year 9999", renewed("9999-12-31T23:59:59.000000Z")),
        ("renewed after the year 9999", renewed("9999-12-31T23:59:59.000000-23:59")),
        ("renewed before the first year", renewed("0000-01-01T00:00:00.000000+23:59")),
        ("renewed in ten years", renewed("2099-01-01T00:00:00.000000Z")),
        ("renewed long ago", renewed("2020-01-01T00:00:00.000000Z")),
        ("it does not say when", with(&|lease| drop(lease["spec"].as_object_mut().unwrap().remove("renewTime")))),
        ("no spec", with(&|lease| lease["spec"] = json!({}))),
        (
            "fields managed in the year 9999",
            with(&move |lease| {
                lease["metadata"]["managedFields"] = never.clone();
                lease["spec"]["renewTime"] = json!("2020-01-01T00:00:00.000000Z");
            }),
        ),
        // of this one it shows within ten seconds that nobody keeps it
        (
            "renewed just now, and not again",
            with(&|lease| lease["spec"]["leaseDurationSeconds"] = json!(2_000_000_000)),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_live_lease_of_an_installation_has_not_even_a_new_leader_stand_aside() {
    let site = Site::new(Cluster::options()).await;
    let mut a = ControllerOptions::new("a").start(&site.cluster).await;
    commit(&site, "1").await;
    enforced(&site, "1").await;
    registered_at(&site, &a).await;
    site.cluster.kubectl(["create", "namespace", "attackers"]).await.ok();
    let names = ["a b", "attackers/x", "..", "Attackers", "-", "x\u{0}", "ü", &"x".repeat(64), &"x".repeat(100_000)];
    let names = names.map(|name| (name.to_owned(), "no name of a namespace", None));
    let leases = no_live_leases().into_iter().map(|(what, lease)| ("attackers".to_owned(), what, lease));
    for (namespace, what, lease) in names.into_iter().chain(leases) {
        let shown: String = namespace.chars().take(70).collect();
        site.cluster
            .kubectl(["delete", "lease", "sekuire-policy-controller", "-n", "attackers", "--ignore-not-found"])
            .await
            .ok();
        a.kill();
        if let Some(lease) = &lease {
            site.cluster.apply(lease).await.ok();
        }
        lead_elsewhere(&site, &namespace).await;
        a.start_again();
        a.ready().await;
        let (ready, patience) = (Instant::now(), if what.contains("not again") { SHOWS } else { SOON });
        registered_at(&site, &a).await;
        assert!(ready.elapsed() < patience, "{shown:?}, {what}: put back after {:?}", ready.elapsed());
        // and once more, by the new leader that knows already
        lead_elsewhere(&site, &namespace).await;
        let start = Instant::now();
        registered_at(&site, &a).await;
        assert!(start.elapsed() < SOON, "{shown:?}, {what}: put back after {:?}", start.elapsed());
        assert!(!a.log().contains("standing aside"), "{shown:?}, {what}: {}", a.log());
    }
    assert_eq!(site.events("sekuire-policy-controller", "StandsAside").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_somebody_keeps_alive_has_a_new_leader_stand_aside_and_say_so_and_no_longer_than_it_is_kept() {
    let site = Site::new(Cluster::options()).await;
    let mut a = ControllerOptions::new("a").start(&site.cluster).await;
    registered_at(&site, &a).await;
    site.cluster.kubectl(["create", "namespace", "attackers"]).await.ok();
    a.kill();
    site.cluster.apply(&lease("attackers")).await.ok();
    lead_elsewhere(&site, "attackers").await;
    a.start_again();
    until("it stands aside", async || {
        site.cluster.apply(&lease("attackers")).await.ok();
        tokio::time::sleep(Duration::from_secs(1)).await;
        if stands_aside(&a, "attackers") { Ok(()) } else { Err(a.log()) }
    })
    .await;
    until("an Event says so", async || match site.events("sekuire-policy-controller", "StandsAside").await {
        0 => Err("none"),
        _ => Ok(()),
    })
    .await;
    let kept = Instant::now();
    registered_at(&site, &a).await;
    assert!(kept.elapsed() < Duration::from_secs(30), "it stood aside for {:?} after that", kept.elapsed());
}

/// A Lease of the name of ours that is held and was renewed just now.
fn lease(namespace: &str) -> String {
    let now = Timestamp::now().strftime("%FT%T%.6fZ").to_string();
    json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": "sekuire-policy-controller", "namespace": namespace},
        "spec": {"holderIdentity": "attacker", "leaseDurationSeconds": 60, "acquireTime": now, "renewTime": now}})
    .to_string()
}
