//! An API server that takes a request and never answers, on a connection that stays: as one of several that loses power.

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use rustix::process::Signal;

use super::proxy::Proxy;
use super::support::{Site, until};
use crate::cluster::controller::NAMESPACE;
use crate::cluster::{Cluster, Controller, ControllerOptions};

/// What is asked for, by its name alone, to find which installation leads.
const WHO: &str = "/validatingwebhookconfigurations/sekuire-policy-controller";

/// A replica that reaches the API server through a proxy, and has not been waited for.
async fn behind(proxy: &Proxy, site: &Site) -> Controller {
    ControllerOptions::new("a")
        .kubeconfig(proxy.kubeconfig.clone())
        .flags(["--shutdown-delay=5"])
        .spawn(&site.cluster)
        .await
}

async fn publish(site: &Site, version: &str) -> String {
    site.commit([&site.document("ws_a", version, &[version])]).await
}

/// Waits until the status of the repository says that this commit was applied.
async fn applied(site: &Site, commit: &str) {
    let repositories: Api<sekuire_policy::api::PolicyRepository> = Api::all(site.client.clone());
    until("the repository says that it was applied", async || {
        let status = repositories.get("policies").await.unwrap().status.unwrap_or_default();
        let seen = status.cursor.map(|cursor| cursor.commit);
        if seen.as_deref() == Some(commit) { Ok(()) } else { Err(seen) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_and_watches_that_are_never_answered_are_given_up_and_the_replica_becomes_ready_all_the_same() {
    let site = Site::new(Cluster::options()).await;
    let proxy = Proxy::start(&site).await;
    // the lists of some, and the starts of the watches of others
    proxy.leave_unanswered(|asked| match asked.rsplit('/').next().unwrap() {
        "policyledgers" | "namespaces" | "policyrepositories" => asked.starts_with("watch "),
        _ => asked.starts_with("GET "),
    });
    let mut a = behind(&proxy, &site).await;
    for list in ["workspacepolicies", "signingkeys", "signingthresholds", "leases", "secrets"] {
        proxy.given_up(list).await;
    }
    a.ready().await;
    for watch in ["policyledgers", "namespaces", "policyrepositories"] {
        proxy.given_up(watch).await;
    }
    publish(&site, "1").await;
    site.enforced("ws-a", "1").await;
    let log = a.log();
    assert!(log.lines().any(|line| line.contains("watch failed") && line.contains("no answer in time")), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_that_are_never_answered_are_given_up_and_made_again() {
    let site = Site::new(Cluster::options()).await;
    let proxy = Proxy::start(&site).await;
    let mut a = behind(&proxy, &site).await;
    a.ready().await;
    applied(&site, &publish(&site, "1").await).await;
    site.enforced("ws-a", "1").await;
    proxy.leave_unanswered(|asked| {
        let status = asked.starts_with("PATCH ") && asked.ends_with("/policyrepositories/policies/status");
        let configuration = asked.starts_with("POST ") && asked.ends_with("/validatingwebhookconfigurations");
        let secret = asked.starts_with("POST ") && asked.ends_with("/secrets");
        status || configuration || secret || (asked.starts_with("POST ") && asked.ends_with("/events"))
    });
    let (secret, configuration) = ("sekuire-webhook-certificate", "sekuire-policy-controller");
    site.cluster.kubectl(["delete", "secret", secret, "-n", NAMESPACE]).await.ok();
    site.cluster.kubectl(["delete", "validatingwebhookconfiguration", configuration]).await.ok();
    publish(&site, "2").await;
    // an Event that nobody takes holds up nothing for long
    site.enforced("ws-a", "2").await;
    for write in ["events", "policyrepositories", "secrets", "validatingwebhookconfigurations"] {
        proxy.given_up(write).await;
    }
    // the repository is looked at as before, and what was deleted is there
    let commit = publish(&site, "3").await;
    site.enforced("ws-a", "3").await;
    applied(&site, &commit).await;
    let secrets: Api<Secret> = Api::namespaced(site.client.clone(), NAMESPACE);
    until("the certificate is kept", async || match secrets.get_opt(secret).await.unwrap() {
        Some(_) => Ok(()),
        None => Err("no Secret"),
    })
    .await;
    until("the webhook is registered", async || {
        let ran = site.cluster.kubectl(["get", "validatingwebhookconfiguration", configuration]).await;
        if ran.succeeded() { Ok(()) } else { Err(ran) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_gives_its_lease_back_leads_no_more_even_while_it_asks_whether_another_installation_does() {
    let site = Site::new(Cluster::options()).await;
    let proxy = Proxy::start(&site).await;
    let mut a = behind(&proxy, &site).await;
    a.ready().await;
    site.led_by("a").await;
    proxy.leave_unanswered(|asked| asked.starts_with("GET ") && asked.ends_with(WHO));
    proxy.keeps_waiting(WHO).await;
    a.signal(Signal::TERM);
    until("it leads no more", async || if a.log().contains(" no longer leading") { Ok(()) } else { Err(a.log()) })
        .await;
    let log = a.log();
    assert!(!log.contains("not known which installation leads"), "it waited for the answer first: {log}");
    assert!(a.terminate().await.success(), "{}", a.log());
}
