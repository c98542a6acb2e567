//! Objects of our kinds that the API server takes and no program of ours can read: each is dealt with by itself, and stops no
//! other. Those of others' kinds are in `spoilt`.

use std::time::{Duration, Instant};

use kube::{
    Api,
    api::{Patch, PatchParams},
};
use sekuire_policy::api::{SigningKey, conditions};
use serde_json::{Value, json};

use super::{
    probes::fresh_replica,
    support::{DENIED, Site, agent, dry_run, until},
    tampering::{NAME, Target, WORKSPACE},
};
use crate::cluster::{Cluster, Controller, ControllerOptions, Signer};

/// After the last time that we can count; for many people it means "never".
const NEVER: &str = "9999-12-31T23:59:59Z";

/// What an administrator can write over the objects of [`WORKSPACE`]: the path of the object, and a merge patch.
fn damages() -> Vec<(&'static str, String)> {
    let (policy, ledger) = ("workspacepolicies/ws-a", "policyledgers/ws-a");
    let nested = |depth: usize| {
        let (open, close) = ("[".repeat(depth), "]".repeat(depth));
        format!(r#"{{"spec":{{"document":{{"content":{{"extra":{open}{close}}}}}}}}}"#)
    };
    vec![
        (policy, nested(200)),
        (policy, nested(5000)),
        (ledger, json!({"spec": {"version": "9999999999"}}).to_string()),
        (ledger, json!({"spec": {"version": "1", "acceptedAt": NEVER}}).to_string()),
    ]
}

/// Nothing is read of the answer: we could not.
async fn merge(site: &Site, path: &str, patch: String) {
    let request = http::Request::patch(format!("/apis/sekuire.ai/v1alpha1/{path}"))
        .header("content-type", "application/merge-patch+json")
        .body(patch.into_bytes())
        .unwrap();
    site.client.request_text(request).await.unwrap_or_else(|error| panic!("{path}: {error}"));
}

/// Version 2 of [`WORKSPACE`] is enforced, and version 1 of `ws_b`, which another key has signed.
async fn site() -> (Site, Controller, String, Target, Signer) {
    let site = Site::new(Cluster::options()).await;
    let other = Signer::new(8);
    site.cluster.apply(&other.manifest("other", &["ws_b"]).to_string()).await.ok();
    let (older, accepted) = (site.document(WORKSPACE, "1", &[]), site.document(WORKSPACE, "2", &[DENIED]));
    let of_other = document_of(&other, "1");
    site.commit([&accepted, &of_other]).await;
    let namespace = site.namespace(WORKSPACE).await;
    let controller = Controller::start(&site.cluster).await;
    site.enforced(NAME, "2").await;
    site.enforced("ws-b", "1").await;
    let target = Target::new(&site, &older, &accepted);
    (site, controller, namespace, target, other)
}

fn document_of(signer: &Signer, version: &str) -> Value {
    let content = json!({"agent": {"capabilities": {"denied_tools": [DENIED]}}});
    serde_json::from_str(&signer.active("ws_b", version, content)).unwrap()
}

async fn judged(site: &Site, namespace: &str) {
    until("agents are judged", async || {
        let create = async |tool| site.agents(namespace).create(&dry_run(), &agent(namespace, "probe", &[tool])).await;
        let refused = create(DENIED).await.map_or_else(|error| error.to_string(), |_| "admitted".to_owned());
        create("search").await.map_err(|error| error.to_string())?;
        if refused.contains("tool.blocked") { Ok(()) } else { Err(refused) }
    })
    .await;
}

async fn ready_for(site: &Site, key: &str, reason: &str) {
    let keys: Api<SigningKey> = Api::all(site.client.clone());
    until(&format!("{key}: {reason}"), async || {
        let found = keys.get(key).await.map_err(|error| error.to_string())?.status.unwrap_or_default().conditions;
        let is = conditions::find(&found, "Ready").is_some_and(|ready| ready.reason == reason);
        if is { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_or_ledger_that_nobody_can_read_is_put_back_and_all_others_go_on() {
    let (site, controller, namespace, target, other) = site().await;
    for (version, (path, patch)) in (2..).zip(damages()) {
        merge(&site, path, patch).await;
        site.commit([&document_of(&other, &version.to_string())]).await;
        site.enforced("ws-b", &version.to_string()).await;
        until(&format!("{path} is put back"), || target.intact()).await;
        judged(&site, &namespace).await;
    }
    let condition =
        json!({"type": "Odd", "status": "True", "reason": "Odd", "message": "", "lastTransitionTime": NEVER});
    let status = json!({"status": {"conditions": [condition]}});
    merge(&site, "workspacepolicies/ws-b/status", status.to_string()).await;
    site.commit([&document_of(&other, "9")]).await;
    until("ws-b goes on", async || {
        let ledger = site.ledgers().get("ws-b").await.unwrap();
        if ledger.spec.version.to_string() == "9" { Ok(()) } else { Err(ledger.spec.version) }
    })
    .await;
    drop(controller);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_ends_never_is_used_and_one_with_an_impossible_time_spoils_only_itself() {
    let (site, controller, namespace, _, other) = site().await;
    let key = |number: u16, name: &str, field: &str, time: &str| {
        let mut manifest = Signer::new(number).manifest(name, &["ws_*"]);
        manifest["spec"][field] = json!(time);
        manifest.to_string()
    };
    site.cluster.apply(&key(20, "never", "notAfter", NEVER)).await.ok();
    site.cluster.apply(&key(21, "odd", "notAfter", "2030-01-01T00:00:00+99:99")).await.ok();
    ready_for(&site, "never", "Succeeded").await;
    ready_for(&site, "odd", "MalformedKey").await;
    // what such a key revokes is revoked
    let mut twin = Signer::new(8).with_id("twin").manifest("twin", &["ws_*"]);
    twin["spec"]["notAfter"] = json!("2030-01-01T00:00:00+99:99");
    twin["spec"]["revoked"] = json!({"at": "2026-01-01T00:00:00+99:99"});
    site.cluster.apply(&twin.to_string()).await.ok();
    ready_for(&site, "other", "KeyRevoked").await;
    site.cluster.kubectl(["delete", "signingkey", "twin"]).await.ok();
    ready_for(&site, "other", "Succeeded").await;
    // the watch of the keys goes on
    let keys: Api<SigningKey> = Api::all(site.client.clone());
    let revoke = json!({"spec": {"revoked": {}}});
    keys.patch("other", &PatchParams::default(), &Patch::Merge(&revoke)).await.unwrap();
    until("ws-b is withdrawn", async || {
        let conditions = site.policies().get("ws-b").await.unwrap().status.unwrap_or_default().conditions;
        let enforced = conditions::find(&conditions, "Enforced").cloned();
        if enforced.as_ref().is_some_and(|found| found.reason == "KeyRevoked") { Ok(()) } else { Err(enforced) }
    })
    .await;
    judged(&site, &namespace).await;
    assert_ne!(other.key_id(), site.signer.key_id());
    drop(controller);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_starts_among_objects_of_all_kinds_that_nobody_can_read_becomes_ready_and_puts_its_own_back() {
    let (site, mut controller, namespace, target, _) = site().await;
    controller.terminate().await; // hands its Lease over
    for (path, patch) in damages() {
        merge(&site, path, patch).await;
    }
    let managed = |version: &str| {
        json!({"metadata": {"managedFields": [{"manager": "x", "operation": "Update", "apiVersion": version,
            "time": NEVER, "fieldsType": "FieldsV1", "fieldsV1": {"f:metadata": {"f:labels": {"f:a": {}}}}}]}})
        .to_string()
    };
    for path in [
        &format!("/api/v1/namespaces/{namespace}"),
        "/apis/sekuire.ai/v1alpha1/signingkeys/platform",
        "/apis/sekuire.ai/v1alpha1/policyrepositories/policies",
        "/apis/sekuire.ai/v1alpha1/workspacepolicies/ws-a",
        "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/sekuire-policy-controller",
        "/apis/coordination.k8s.io/v1/namespaces/sekuire-system/leases/sekuire-policy-controller",
        "/api/v1/namespaces/sekuire-system/secrets/sekuire-webhook-certificate",
    ] {
        let request = http::Request::patch(path).header("content-type", "application/merge-patch+json");
        let version = path.trim_start_matches("/apis/").trim_start_matches("/api/");
        let version =
            if path.starts_with("/api/") { "v1" } else { &version[..version.match_indices('/').nth(1).unwrap().0] };
        let taken = site.client.request_text(request.body(managed(version).into_bytes()).unwrap()).await.unwrap();
        // the server may drop what it finds odd in our own kinds; each field of theirs is tried below
        assert!(taken.contains(NEVER) || path.contains("sekuire.ai"), "{path}: {taken}");
    }
    let mut fresh = ControllerOptions::new("fresh").spawn(&site.cluster).await;
    let seen = fresh_replica(&mut fresh, &namespace, Duration::from_millis(500)).await;
    assert!(seen.faults.is_empty() && seen.probes > 0, "{:?}\n{}", seen.faults.first(), fresh.log());
    until("all is put back", || target.intact()).await;
    site.at_rest().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_spoilt_in_a_policy_or_a_ledger_it_is_as_it_was_at_once_and_agents_are_judged_all_the_same() {
    let (site, controller, namespace, target, _) = site().await;
    let mut taken = Vec::new();
    for plural in ["workspacepolicies", "policyledgers"] {
        let path = format!("/apis/sekuire.ai/v1alpha1/{plural}/ws-a");
        let right = super::spoilt::raw(&site.client, &path).await;
        for spoilt in super::schema::spoilt(&site.client, "/openapi/v3/apis/sekuire.ai/v1alpha1", &right).await {
            let start = Instant::now();
            if !super::spoilt::write(&site.client, &path, &spoilt.object).await {
                continue;
            }
            judged(&site, &namespace).await;
            until(&format!("put back after {}", spoilt.what), || target.intact()).await;
            assert!(start.elapsed() < Duration::from_secs(5), "{}: only after {:?}", spoilt.what, start.elapsed());
            judged(&site, &namespace).await;
            taken.push(spoilt.what);
        }
    }
    println!("{}: {taken:?}", taken.len());
    assert!(taken.len() > 60, "{taken:?}");
    drop(controller);
}
