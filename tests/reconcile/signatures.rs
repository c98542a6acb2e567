//! Keys that change, and commits by somebody who has none.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use kube::api::{DeleteParams, Patch, PatchParams};
use sekuire_policy::api::{conditions, object_name};
use serde_json::{Value, json};

use super::tenant::{Tenant, eventually};
use crate::cluster::Signer;

async fn enforcing() -> (Tenant, String) {
    let team = Tenant::with_files(async |team: &Tenant| {
        team.commit(&[("a.json", &team.active("a", "3", "shell_exec"))]).await;
    })
    .await;
    team.enforced("a", "3").await;
    let namespace = team.namespace("a").await;
    team.admits(&namespace, "calculator").await;
    (team, namespace)
}

async fn patch_key(team: &Tenant, spec: Value) {
    let patch = json!({"spec": spec});
    team.keys().patch(&team.name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
}

#[tokio::test]
async fn a_revoked_key_withdraws_what_it_signed_at_once_and_without_a_commit() {
    let (team, namespace) = enforcing().await;
    team.quiet().await;
    let start = Instant::now();
    patch_key(&team, json!({"revoked": {"reason": "laptop stolen"}})).await;
    let message = team.refuses(&namespace, "calculator", "policy.missing").await;
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert!(message.contains("KeyRevoked"), "{message}");
    team.ready("a", "False", "KeyRevoked").await;
    team.condition("a", "Enforced", "False", "KeyRevoked").await;
    // what somebody revoked by mistake counts again
    patch_key(&team, json!({"revoked": null})).await;
    team.admits(&namespace, "calculator").await;
    team.ready("a", "True", "Succeeded").await;
}

#[tokio::test]
async fn a_removed_key_is_a_revoked_key_and_signing_again_brings_the_policy_back() {
    let (team, namespace) = enforcing().await;
    team.keys().delete(&team.name, &DeleteParams::default()).await.unwrap();
    team.refuses(&namespace, "calculator", "policy.missing").await;
    team.ready("a", "False", "UnknownSigningKey").await;
    // the same version, signed by another key
    let successor = Signer::new(200);
    team.apply(&successor.manifest(&format!("{}-new", team.name), &[&format!("{}_*", team.name)])).await;
    let again = successor.active(&team.workspace("a"), "3", Tenant::forbids("shell_exec"));
    let commit = team.commit(&[("a.json", &again)]).await;
    team.admits(&namespace, "calculator").await;
    let object = team.ready("a", "True", "Succeeded").await;
    assert_eq!(object.spec.document["signing_key_id"], successor.key_id());
    assert_eq!(object.spec.document["version"], "3");
    // the commit that is named is the one with the signature that counts, and nobody is blamed
    assert_eq!(object.spec.source.unwrap().commit, commit);
    let name = object_name(&team.workspace("a"));
    eventually("the ledger names it too", async || {
        let ledger = team.ledgers().get(&name).await.unwrap();
        if ledger.spec.commit == commit { Ok(()) } else { Err(ledger.spec.commit) }
    })
    .await;
    let events = team.cluster.kubectl(["get", "events", "-A", "-o", "json"]).await.ok();
    let events: Value = serde_json::from_str(&events).unwrap();
    let of_it = events["items"].as_array().unwrap().iter().filter(|event| event["involvedObject"]["name"] == *name);
    assert!(!of_it.clone().any(|event| event["reason"] == "Restored"), "{events}");
    assert!(of_it.clone().any(|event| event["message"].as_str().unwrap().contains("was signed again")), "{events}");
}

#[tokio::test]
async fn a_key_that_runs_out_and_a_policy_that_expires_withdraw_by_the_clock_alone() {
    let (team, namespace) = enforcing().await;
    let soon = |seconds| (Timestamp::now() + SignedDuration::from_secs(seconds)).to_string();
    patch_key(&team, json!({"notAfter": soon(2)})).await;
    team.refuses(&namespace, "calculator", "policy.missing").await;
    team.ready("a", "False", "KeyExpired").await;
    patch_key(&team, json!({"notAfter": null})).await;
    team.admits(&namespace, "calculator").await;
    let (version, _) = team.enforce_for_a_time("a", 4, &namespace).await;
    team.refuses(&namespace, "calculator", "policy.expired").await;
    let object = team.condition("a", "Enforced", "False", "PolicyExpired").await;
    assert_eq!(object.spec.document["version"], version, "the object stays");
}

#[tokio::test]
async fn a_key_that_is_not_valid_yet_begins_to_count_by_the_clock_alone() {
    let team = Tenant::new().await;
    let soon = (Timestamp::now() + SignedDuration::from_secs(3)).to_string();
    patch_key(&team, json!({"notBefore": soon})).await;
    team.commit(&[("a.json", &team.active("a", "1", "x"))]).await;
    team.watch_repository(json!({"interval": "1h"})).await;
    team.enforced("a", "1").await;
    let namespace = team.namespace("a").await;
    team.admits(&namespace, "calculator").await;
}

#[tokio::test]
async fn a_commit_by_somebody_without_any_key_changes_nothing() {
    let (team, namespace) = enforcing().await;
    let stranger = Signer::new(201);
    let revoked = Signer::new(202);
    let mut manifest = revoked.manifest(&format!("{}-old", team.name), &["*"]);
    manifest["spec"]["revoked"] = json!({});
    team.apply(&manifest).await;
    let forged = stranger.with_id(team.signer.key_id());
    let genuine: Value = serde_json::from_str(&team.active("a", "9", "calculator")).unwrap();
    let altered = |member: &str, value: Value| {
        let mut document = genuine.clone();
        document[member] = value;
        document.to_string()
    };
    let draft: Value = serde_json::from_str(&team.document("a", "9", "draft", "calculator")).unwrap();
    let activated = {
        let mut d = draft;
        d["status"] = json!("active");
        d.to_string()
    };
    let attacks: Vec<(&str, String)> = vec![
        ("Malformed", "garbage".to_owned()),
        ("Malformed", altered("extra", json!(1))),
        ("UnknownSigningKey", altered("signing_key_id", json!("key_of_nobody"))),
        ("KeyRevoked", revoked.active(&team.workspace("a"), "9", json!({}))),
        ("SignatureInvalid", forged.active(&team.workspace("a"), "9", json!({}))),
        ("HashMismatch", altered("content", json!({}))),
        ("SignatureInvalid", altered("version", json!("10"))),
        ("DocumentSignatureInvalid", activated),
        ("VersionRollback", team.active("a", "2", "calculator")),
        ("VersionReused", team.active("a", "3", "calculator")),
    ];
    for (reason, file) in attacks {
        let commit = team.commit(&[("a.json", &file)]).await;
        let status = team.synced(&commit).await;
        let found: Vec<&str> = status.refused.iter().map(|r| r.reason.as_str()).collect();
        assert_eq!(found, [reason], "{file}");
        let object = team.ready("a", "False", reason).await;
        assert_eq!(object.spec.document["version"], "3");
        team.condition("a", "Enforced", "True", "Succeeded").await;
        assert!(team.try_agent(&namespace, "calculator").await.is_ok(), "{reason}");
        assert!(team.try_agent(&namespace, "shell_exec").await.is_err(), "{reason}");
    }
    // and the honest version goes on from there
    team.commit(&[("a.json", &team.active("a", "4", "shell_exec"))]).await;
    team.enforced("a", "4").await;
    team.ready("a", "True", "Succeeded").await;
}

#[tokio::test]
async fn a_key_says_in_its_status_whether_it_is_used() {
    let team = Tenant::new().await;
    let condition = async |name: &str, reason: &str| {
        eventually(&format!("{name}: {reason}"), async || {
            let key = team.keys().get(name).await.unwrap();
            let conditions = key.status.unwrap_or_default().conditions;
            let found = conditions::find(&conditions, "Ready").is_some_and(|c| c.reason == reason);
            if found { Ok(()) } else { Err(format!("{conditions:?}")) }
        })
        .await;
    };
    condition(&team.name, "Succeeded").await;
    let twin = Signer::new(203).with_id(team.signer.key_id());
    let twin_name = format!("{}-twin", team.name);
    team.apply(&twin.manifest(&twin_name, &["*"])).await;
    condition(&team.name, "DuplicateKeyId").await;
    condition(&twin_name, "DuplicateKeyId").await;
    team.keys().delete(&twin_name, &DeleteParams::default()).await.unwrap();
    condition(&team.name, "Succeeded").await;
    let key = |name: &str, public: &str| {
        json!({"apiVersion": "sekuire.ai/v1alpha1", "kind": "SigningKey", "metadata": {"name": name},
            "spec": {"keyId": name, "publicKey": public, "workspaces": ["*"]}})
    };
    let (weak, malformed) = (format!("{}-weak", team.name), format!("{}-bad", team.name));
    team.apply(&key(&weak, &"00".repeat(32))).await;
    condition(&weak, "WeakKey").await;
    team.apply(&key(&malformed, "not a key")).await;
    condition(&malformed, "MalformedKey").await;
}

#[tokio::test]
async fn a_document_for_another_teams_workspace_is_refused() {
    let (team, _) = enforcing().await;
    let other = Tenant::new().await;
    let foreign = other.active("x", "1", "y");
    let commit = team.commit(&[("foreign.json", &foreign)]).await;
    let status = team.synced(&commit).await;
    assert_eq!(status.refused[0].reason, "WorkspaceNotOwned");
    let unauthorised = team.signer.active(&other.workspace("x"), "1", json!({}));
    other.commit(&[("x.json", &unauthorised)]).await;
    other.watch_repository(json!({})).await;
    let status = other.repository("refused", |s| !s.refused.is_empty()).await;
    assert_eq!(status.refused[0].reason, "KeyNotAuthorized");
    team.ready("a", "True", "Succeeded").await;
}
