//! `sekuire policy pull` from what the real controller enforces.

use std::path::Path;

use serde_json::Value;
use tokio::process::Command;

use super::read_api::authorities;
use super::tenant::{Tenant, eventually};
use crate::cluster::command::{Ran, run};
use crate::cluster::controller::sekuire;
use crate::cluster::{Signer, User};

/// Pulls the policy of a workspace of the team, with these arguments, into standard output.
async fn pull(team: &Tenant, suffix: &str, arguments: &[&str]) -> Ran {
    let mut command = Command::new(sekuire());
    command.env_remove("KUBECONFIG").env("HOME", "/nonexistent");
    command.args(["policy", "pull", "--workspace", &team.workspace(suffix)]).args(arguments);
    run(command, &[]).await
}

fn shown(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test]
async fn what_the_cluster_enforces_is_pulled_with_the_keys_of_the_cluster() {
    let team = Tenant::with_files(async |team: &Tenant| {
        let ended = team.document("ended", "2", "archived", "x");
        let draft = team.document("draft", "1", "draft", "x");
        team.commit(&[("a.json", &team.active("a", "1", "x")), ("ended.json", &ended), ("draft.json", &draft)]).await;
    })
    .await;
    team.enforced("a", "1").await;
    team.ready("ended", "True", "Archived").await;
    let kubeconfig = team.cluster.kubeconfig(User::ADMIN);
    let kubeconfig = ["--kubeconfig", shown(&kubeconfig)];
    let committed: Value = serde_json::from_str(&team.active("a", "1", "x")).unwrap();
    // the object may be there before its ledger
    let pulled = eventually("the policy is pulled", async || {
        let ran = pull(&team, "a", &kubeconfig).await;
        if ran.succeeded() { Ok(ran.ok()) } else { Err(ran.to_string()) }
    })
    .await;
    let mut pulled: Value = serde_json::from_str(&pulled).unwrap();
    let mut expected = committed;
    for document in [&mut pulled, &mut expected] {
        // each signature says when it was made
        for member in ["updated_at", "document_signature"] {
            document.as_object_mut().unwrap().remove(member);
        }
    }
    assert_eq!(pulled, expected);
    for (suffix, words) in
        [("ended", "archived in version 2"), ("draft", "no policy in force"), ("unknown", "no policy in force")]
    {
        let ran = pull(&team, suffix, &kubeconfig).await;
        assert_eq!(ran.code, Some(1), "{ran}");
        assert!(ran.stderr.contains(words), "{ran}");
    }
    // other keys than the cluster's do not vouch for it
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key.pem");
    std::fs::write(&key, Signer::new(250).public_pem()).unwrap();
    let ran = pull(&team, "a", &[&kubeconfig[..], &["--trust", shown(&key)]].concat()).await;
    assert_eq!(ran.code, Some(1), "{ran}");
    assert!(ran.stderr.contains("UnknownSigningKey"), "{ran}");
}

#[tokio::test]
async fn what_the_read_api_serves_is_pulled_and_verified() {
    let team = Tenant::with_files(async |team: &Tenant| {
        team.commit(&[("a.json", &team.active("a", "1", "x"))]).await;
    })
    .await;
    team.enforced("a", "1").await;
    let folder = tempfile::tempdir().unwrap();
    let (key, ca) = (folder.path().join("key.pem"), folder.path().join("ca.pem"));
    std::fs::write(&key, team.signer.public_pem()).unwrap();
    std::fs::write(&ca, authorities(&team).await).unwrap();
    let url = team.controller.api_url();
    let arguments = ["--backend", &url, "--ca-file", shown(&ca), "--trust", shown(&key)];
    let pulled = eventually("the policy is served and pulled", async || {
        let ran = pull(&team, "a", &arguments).await;
        if ran.succeeded() { Ok(ran.ok()) } else { Err(ran.to_string()) }
    })
    .await;
    let pulled: Value = serde_json::from_str(&pulled).unwrap();
    assert_eq!((&pulled["version"], &pulled["signing_public_key"]), (&"1".into(), &team.signer.public_hex().into()));
    let ran = pull(&team, "unknown", &arguments).await;
    assert_eq!(ran.code, Some(1), "{ran}");
    assert!(ran.stderr.contains("no policy in force for"), "{ran}");
}

#[tokio::test]
async fn a_cluster_that_cannot_be_asked_is_no_answer() {
    let team = Tenant::new().await;
    let folder = tempfile::tempdir().unwrap();
    let admin: Value =
        serde_yaml::from_str(&std::fs::read_to_string(team.cluster.kubeconfig(User::ADMIN)).unwrap()).unwrap();
    let mut expired = admin.clone();
    expired["users"][0]["user"] = serde_json::json!({"token": "expired"});
    let mut closed = admin.clone();
    closed["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1".into();
    for (kubeconfig, words) in
        [(expired, "renew its token or certificate"), (closed, "no answer from https://127.0.0.1:1")]
    {
        let path = folder.path().join("kubeconfig");
        std::fs::write(&path, kubeconfig.to_string()).unwrap();
        let ran = pull(&team, "a", &["--kubeconfig", shown(&path)]).await;
        assert_eq!(ran.code, Some(3), "{ran}");
        assert!(ran.stderr.contains(words), "{ran}");
    }
    let ran = pull(&team, "a", &["--kubeconfig", shown(&team.cluster.kubeconfig(User::TENANT))]).await;
    assert_eq!(ran.code, Some(3), "{ran}");
    assert!(ran.stderr.contains("ask for the right to do this"), "{ran}");
    let ran = pull(&team, "a", &["--kubeconfig", "/no/such/kubeconfig"]).await;
    assert_eq!(ran.code, Some(3), "{ran}");
    assert!(ran.stderr.contains("cannot read kubeconfig /no/such/kubeconfig"), "{ran}");
}
