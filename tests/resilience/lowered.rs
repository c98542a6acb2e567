//! A mark that an administrator had lowered, as the replica sees it that does not lead.

use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use sekuire_policy::{
    api::{ACCEPT_VERSION, SigningKey},
    policy::{Document, Format},
};
use serde_json::json;

use super::{
    probes::{direct, review},
    support::{DENIED, Site, agent, until},
};
use crate::cluster::{Cluster, ControllerOptions, Signer};

const WORKSPACE: &str = "ws_a";
const NAME: &str = "ws-a";
const HIGHEST: &str = "2147483647";

/// Waits until this replica refuses the denied tool by the policy of this version, and admits another tool.
async fn decides_by(replica: &Client, namespace: &str, version: &str) {
    let (bad, good) = (agent(namespace, "bad", &[DENIED]), agent(namespace, "good", &["search"]));
    until(&format!("version {version} decides"), async || match review(replica, &bad).await {
        Ok((false, why)) if why.contains("[tool.blocked]") && why.contains(&format!("version {version}")) => Ok(()),
        other => Err(other),
    })
    .await;
    let (admitted, why) = review(replica, &good).await.unwrap();
    assert!(admitted, "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_does_not_lead_also_gives_up_a_stolen_keys_version_where_an_administrator_accepts_a_lower_one() {
    let site = Site::new(Cluster::options()).await;
    let mut a = ControllerOptions::new("a").start(&site.cluster).await;
    site.led_by("a").await;
    let b = ControllerOptions::new("b").start(&site.cluster).await;
    let replicas = [direct(&a), direct(&b)];
    site.commit([&site.document(WORKSPACE, "4", &[DENIED])]).await;
    site.enforced(NAME, "4").await;
    let namespace = site.namespace(WORKSPACE).await;

    let thief = Signer::new(8);
    site.cluster.apply(&thief.manifest("stolen", &["ws_*"]).to_string()).await.ok();
    site.commit([&serde_json::from_str(&thief.active(WORKSPACE, HIGHEST, json!({}))).unwrap()]).await;
    site.enforced(NAME, HIGHEST).await;
    let bad = agent(&namespace, "bad", &[DENIED]);
    for replica in &replicas {
        until("the thief's version decides", async || match review(replica, &bad).await {
            Ok((true, _)) => Ok(()),
            other => Err(other),
        })
        .await;
    }

    let revoke = Patch::Merge(json!({"spec": {"revoked": {"reason": "stolen"}}}));
    let keys: Api<SigningKey> = Api::all(site.client.clone());
    keys.patch("stolen", &PatchParams::default(), &revoke).await.unwrap();
    let next = site.document(WORKSPACE, "5", &[DENIED]);
    site.commit([&next]).await;
    for replica in &replicas {
        until("nothing is admitted by a revoked key's policy", async || match review(replica, &bad).await {
            Ok((false, why)) if why.contains("KeyRevoked") => Ok(()),
            other => Err(other),
        })
        .await;
    }
    let digest = Document::parse(next.to_string().as_bytes(), Format::Json).unwrap().digest().clone();
    let accept = Patch::Merge(json!({"metadata": {"annotations": {ACCEPT_VERSION: format!("5@{digest}")}}}));
    site.ledgers().patch(NAME, &PatchParams::default(), &accept).await.unwrap();
    site.enforced(NAME, "5").await;
    for replica in &replicas {
        decides_by(replica, &namespace, "5").await;
    }
    site.led_by("a").await;

    // and it does not bring the thief's version back when it leads itself
    assert!(a.terminate().await.success(), "{}", a.log());
    site.led_by("b").await;
    site.at_rest().await;
    site.enforced(NAME, "5").await;
    decides_by(&replicas[1], &namespace, "5").await;
    site.commit([&site.document(WORKSPACE, "6", &[DENIED])]).await;
    site.enforced(NAME, "6").await;
    decides_by(&replicas[1], &namespace, "6").await;
    drop(b);
}
