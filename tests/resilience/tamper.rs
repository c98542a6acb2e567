//! Whoever can write everything in the cluster changes nothing of what is enforced.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use kube::{Api, api::DeleteParams};

use super::{
    probes::{Prober, Seen, fresh_replica},
    support::{DENIED, Random, Site, agent, dry_run, until},
    tampering::{NAME, Tampering, Target, WORKSPACE},
};
use crate::cluster::{Cluster, Controller, ControllerOptions};

/// How many replicas are started afresh, at least, while somebody tampers.
const FRESH_REPLICAS: usize = 6;

/// A site on which version 2 of [`WORKSPACE`] is enforced; version 1 did not deny the tool.
async fn enforced_site() -> (Site, Controller, String, Target) {
    let site = Site::new(Cluster::options()).await;
    let (older, accepted) = (site.document(WORKSPACE, "1", &[]), site.document(WORKSPACE, "2", &[DENIED]));
    site.commit([&older]).await;
    let namespace = site.namespace(WORKSPACE).await;
    let controller = Controller::start(&site.cluster).await;
    site.enforced(NAME, "1").await;
    site.commit([&accepted]).await;
    site.enforced(NAME, "2").await;
    let target = Target::new(&site, &older, &accepted);
    until("the webhook refuses", async || {
        match site.agents(&namespace).create(&dry_run(), &agent(&namespace, "bad", &[DENIED])).await {
            Ok(_) => Err("admitted".to_owned()),
            Err(error) if error.to_string().contains("tool.blocked") => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    })
    .await;
    until("the agent that complies is admitted", async || {
        site.agents(&namespace).create(&dry_run(), &agent(&namespace, "good", &["search"])).await.map(drop)
    })
    .await;
    (site, controller, namespace, target)
}

/// Starts one replica after another and probes each at its own port, until `stop`.
async fn fresh_replicas(site: &Site, namespace: &str, stop: &AtomicBool, count: &AtomicUsize) -> Seen {
    let mut all = Seen::default();
    while !stop.load(Ordering::Relaxed) {
        let number = count.load(Ordering::Relaxed);
        let mut replica = ControllerOptions::new(&format!("fresh-{number}")).spawn(&site.cluster).await;
        let seen = fresh_replica(&mut replica, namespace, Duration::from_millis(1500)).await;
        all.probes += seen.probes;
        all.faults.extend(seen.faults);
        count.fetch_add(1, Ordering::Relaxed);
    }
    all
}

fn assert_held(seen: &Seen, who: &str) {
    println!("{who}: {} probes", seen.probes);
    let first: Vec<_> = seen.faults.iter().take(5).collect();
    assert!(first.is_empty(), "{} of {} probes of {who} failed: {first:#?}", seen.faults.len(), seen.probes);
    assert!(seen.probes > 20, "{who} was hardly probed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_administrator_who_tampers_changes_no_verdict_and_everything_is_put_back_with_an_event() {
    let (site, controller, namespace, target) = enforced_site().await;
    let prober = Prober::start(&site, &namespace);
    let (stop, replicas) = (AtomicBool::new(false), AtomicUsize::new(0));
    let tampering = async {
        for how in Tampering::ALL {
            let before = told(&site).await;
            let start = Instant::now();
            target.tamper(how).await;
            until(&format!("put back after {how:?}"), || target.intact()).await;
            println!("{how:?}: put back after {} ms", start.elapsed().as_millis());
            until(&format!("an Event after {how:?}"), async || {
                if site.events(NAME, "Restored").await > before { Ok(()) } else { Err("none") }
            })
            .await;
        }
        storm(&target, &replicas).await;
        stop.store(true, Ordering::Relaxed);
    };
    let ((), fresh) = tokio::join!(tampering, fresh_replicas(&site, &namespace, &stop, &replicas));
    until("put back after the storm", || target.intact()).await;
    assert_held(&prober.stop().await, "the API server");
    assert_held(&fresh, "fresh replicas");
    site.at_rest().await;
    drop(controller);
}

/// How many Events tell that something was put back, once the last one of what was before is there too.
async fn told(site: &Site) -> i32 {
    let mut last = site.events(NAME, "Restored").await;
    loop {
        site.at_rest().await;
        let now = site.events(NAME, "Restored").await;
        if now == last {
            return now;
        }
        last = now;
    }
}

/// Tampers on and on, without waiting for anything to be put back, until enough replicas were started meanwhile.
async fn storm(target: &Target, replicas: &AtomicUsize) {
    let mut random = Random::new();
    let already = replicas.load(Ordering::Relaxed);
    while replicas.load(Ordering::Relaxed) < already + FRESH_REPLICAS {
        let which = usize::try_from(random.below(Tampering::ALL.len() as u64)).unwrap();
        target.tamper(Tampering::ALL[which]).await;
        tokio::time::sleep(Duration::from_millis(random.below(120))).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_done_while_no_controller_ran_is_undone_before_the_next_one_answers() {
    let (_site, mut controller, namespace, target) = enforced_site().await;
    for how in Tampering::ALL {
        controller.kill();
        target.tamper(how).await;
        controller.start_again();
        let seen = fresh_replica(&mut controller, &namespace, Duration::from_millis(500)).await;
        let first = seen.faults.first();
        assert!(first.is_none(), "after {how:?}: {first:?}\n{}", controller.log());
        until(&format!("put back after {how:?}"), || target.intact()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_configuration_that_is_deleted_or_changed_again_and_again_comes_back_with_an_event_each_time_and_is_asked()
 {
    let (site, controller, namespace, _) = enforced_site().await;
    let api: Api<ValidatingWebhookConfiguration> = Api::all(site.client.clone());
    let name = "sekuire-policy-controller";
    let before = api.get(name).await.unwrap();
    let events = site.events(name, "WebhookRestored").await;
    api.delete(name, &DeleteParams::default()).await.unwrap();
    until("the configuration is back", async || match api.get_opt(name).await.unwrap() {
        Some(now) if now.webhooks == before.webhooks => Ok(()),
        other => Err(other),
    })
    .await;
    told_and_refused(&site, &namespace, events + 1).await;
    let ignore = r#"[{"op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Ignore"},
        {"op": "replace", "path": "/webhooks/0/rules/0/operations", "value": ["DELETE"]}]"#;
    site.cluster.kubectl(["patch", "validatingwebhookconfiguration", name, "--type=json", "-p", ignore]).await.ok();
    until("the configuration is as it was", async || match api.get_opt(name).await.unwrap() {
        Some(now) if now.webhooks == before.webhooks => Ok(()),
        other => Err(other),
    })
    .await;
    told_and_refused(&site, &namespace, events + 2).await;
    // the same again, after somebody took away what told of it, or wrote into it what cannot be read
    let never = r#"{"metadata":{"managedFields":[{"manager":"x","operation":"Update","apiVersion":"v1",
        "time":"9999-12-31T23:59:59Z","fieldsType":"FieldsV1","fieldsV1":{"f:note":{}}}]}}"#;
    let spoil = ["delete", "events.events.k8s.io", "-n", "default", "--all"];
    site.cluster.kubectl(spoil).await.ok();
    for round in 1..=2 {
        site.cluster.kubectl(["patch", "validatingwebhookconfiguration", name, "--type=json", "-p", ignore]).await.ok();
        until("an Event of the same change", async || match site.events(name, "WebhookRestored").await {
            now if now >= round => Ok(()),
            now => Err(now),
        })
        .await;
        let names = ["get", "events.events.k8s.io", "-n", "default", "-o", "name"];
        for event in site.cluster.kubectl(names).await.ok().lines() {
            site.cluster.kubectl(["patch", event, "-n", "default", "--type=merge", "-p", never]).await.ok();
        }
    }
    assert!(!controller.log().contains("event not published"), "{}", controller.log());
    drop(controller);
}

/// So many Events tell that the webhook configuration was put back, one for each time, and the webhook is asked again.
async fn told_and_refused(site: &Site, namespace: &str, events: i32) {
    until("an Event of this change", async || {
        match site.events("sekuire-policy-controller", "WebhookRestored").await {
            now if now == events => Ok(()),
            now => Err(now),
        }
    })
    .await;
    // the API server reads configurations from a watch of its own
    until("the webhook refuses again", async || {
        match site.agents(namespace).create(&dry_run(), &agent(namespace, "bad", &[DENIED])).await {
            Ok(_) => Err("admitted".to_owned()),
            Err(error) if error.to_string().contains("tool.blocked") => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    })
    .await;
}
