//! `spec.verify`: commits and tags have to be signed, as a second line of defence.

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::DeleteParams;
use sekuire_policy::api::conditions;
use serde_json::json;

use super::tenant::Tenant;
use crate::cluster::controller::NAMESPACE;
use crate::cluster::skip::skip;
use crate::git::signing::{Config, Gpg, SshKey, no_gpg};

/// Has the team's work folder sign from now on: all commits, or none.
pub(crate) async fn sign(team: &Tenant, config: &Config, commits: bool) {
    for (name, value) in config {
        team.repo.git(["config", name, value]).await;
    }
    team.repo.git(["config", "commit.gpgsign", if commits { "true" } else { "false" }]).await;
}

/// Puts keys into the team's Secret, in the place of those that were there.
pub(crate) async fn trust(team: &Tenant, keys: &[(&str, &str)]) {
    let data: serde_json::Map<_, _> = keys.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": team.name, "namespace": NAMESPACE}, "stringData": data,
    });
    team.apply(&secret).await;
}

/// Waits until the condition that is Flux's says so. Returns its message.
pub(crate) async fn source_verified(team: &Tenant, status: &str, says: &str) -> String {
    let wanted = format!("SourceVerified={status} {says}");
    let status = team
        .repository(&wanted, |found| {
            let condition = conditions::find(&found.conditions, "SourceVerified");
            condition.is_some_and(|condition| condition.status == status && condition.message.contains(says))
        })
        .await;
    conditions::find(&status.conditions, "SourceVerified").unwrap().message.clone()
}

pub(crate) fn verify(team: &Tenant, mode: &str) -> serde_json::Value {
    // an interval that no test waits for: only the Secret, or the annotation, can be what has it looked at
    json!({"interval": "1h", "verify": {"mode": mode, "secretRef": {"name": team.name}}})
}

pub(crate) async fn look(team: &Tenant, token: &str) {
    team.annotate_repository("sekuire.ai/requestedAt", token).await;
}

#[tokio::test]
async fn only_signed_commits_are_read_and_keys_count_at_once_also_for_the_commit_that_was_read() {
    let team = Tenant::new().await;
    let (alice, mallory) = (SshKey::new(&["-t", "ed25519"]), SshKey::new(&["-t", "ed25519"]));
    sign(&team, &alice.config(), true).await;
    let first = team.commit(&[("a.json", &team.active("a", "1", "shell_exec"))]).await;
    team.watch_repository(verify(&team, "Head")).await;
    let message = team.repository_fails("InvalidCommitSignature").await;
    let missing = format!("Secret {NAMESPACE}/{} (spec.verify.secretRef) does not exist", team.name);
    assert!(message.contains(&missing), "{message}");

    trust(&team, &[("allowed_signers", &alice.allowed("alice@example.com", ""))]).await;
    team.enforced("a", "1").await;
    let namespace = team.namespace("a").await;
    team.refuses(&namespace, "shell_exec", "tool.blocked").await;
    let message = source_verified(&team, "True", &first).await;
    assert_eq!(message, format!("commit {first} is signed by alice@example.com ({})", alice.fingerprint()));

    // the document itself is signed by the team, and all the same not read
    sign(&team, &mallory.config(), false).await;
    let second = team.commit(&[("a.json", &team.active("a", "2", "calculator"))]).await;
    look(&team, "unsigned").await;
    let message = team.repository_fails("InvalidCommitSignature").await;
    assert!(message.starts_with(&format!("commit {second} is not signed; it has to be signed by one")), "{message}");
    let status = team.repository("Stalled", |s| conditions::find(&s.conditions, "Stalled").is_some()).await;
    assert_eq!(status.last_applied_revision, Some(format!("main@sha1:{first}")));
    sign(&team, &mallory.config(), true).await;
    let third = team.repo.amend("signed by somebody").await;
    look(&team, "mallory").await;
    source_verified(&team, "False", &format!("commit {third} is signed with the SSH key {}", mallory.fingerprint()))
        .await;
    team.enforced("a", "1").await;
    team.refuses(&namespace, "shell_exec", "tool.blocked").await;
    team.admits(&namespace, "calculator").await;

    sign(&team, &alice.config(), true).await;
    let fourth = team.repo.amend("signed by alice").await;
    look(&team, "alice").await;
    team.enforced("a", "2").await;
    source_verified(&team, "True", &fourth).await;
    team.refuses(&namespace, "calculator", "tool.blocked").await;

    // nothing is pushed any more: the key goes, and comes back
    trust(&team, &[("allowed_signers", &mallory.allowed("mallory@example.com", ""))]).await;
    source_verified(&team, "False", &format!("commit {fourth} is signed with the SSH key {}", alice.fingerprint()))
        .await;
    team.repository_fails("InvalidCommitSignature").await;
    team.refuses(&namespace, "calculator", "tool.blocked").await;
    trust(&team, &[("allowed_signers", &alice.allowed("alice@example.com", "cert-authority"))]).await;
    source_verified(&team, "False", "allowed_signers: line 1: the option cert-authority is not supported").await;
    trust(&team, &[("allowed_signers", &alice.allowed("alice@example.com", ""))]).await;
    source_verified(&team, "True", &fourth).await;
    team.synced(&fourth).await;
    let secrets: Api<Secret> = Api::namespaced(team.client.clone(), NAMESPACE);
    secrets.delete(&team.name, &DeleteParams::default()).await.unwrap();
    source_verified(&team, "False", &missing).await;
    team.refuses(&namespace, "calculator", "tool.blocked").await;
}

#[tokio::test]
async fn a_squash_merge_of_signed_documents_is_enforced_unless_commits_have_to_be_signed_by_others() {
    let team = Tenant::new().await;
    let (alice, forge) = (SshKey::new(&["-t", "ed25519"]), SshKey::new(&["-t", "ed25519"]));
    sign(&team, &alice.config(), true).await;
    team.commit(&[("a.json", &team.active("a", "1", "shell_exec"))]).await;
    let squash = async |version: &str| {
        team.repo.git(["checkout", "--quiet", "-b", version]).await;
        team.repo.write("policies/a.json", team.active("a", version, "shell_exec"));
        team.repo.commit_only("first try").await;
        team.repo.commit_only("second try").await;
        team.repo.git(["checkout", "--quiet", "main"]).await;
        team.repo.git(["merge", "--quiet", "--squash", version]).await;
        let author = "--author=Somebody Else <else@example.com>";
        team.repo.git(["commit", "--quiet", author, "-m", "squashed"]).await;
        team.repo.push().await;
        team.repo.head().await
    };
    team.watch_repository(json!({"verify": {"mode": "None"}})).await;
    team.enforced("a", "1").await;
    // in the page of a forge: nobody's key is at hand there
    sign(&team, &forge.config(), false).await;
    let merged = squash("2").await;
    team.synced(&merged).await;
    team.enforced("a", "2").await;

    trust(&team, &[("alice.pub", &alice.public)]).await;
    team.watch_repository(verify(&team, "Head")).await;
    source_verified(&team, "False", &format!("commit {merged} is not signed")).await;
    sign(&team, &forge.config(), true).await;
    let merged = squash("3").await;
    look(&team, "squashed").await;
    source_verified(&team, "False", &format!("commit {merged} is signed with the SSH key {}", forge.fingerprint()))
        .await;
    team.enforced("a", "2").await;
    trust(&team, &[("alice.pub", &alice.public), ("forge.pub", &forge.public)]).await;
    team.enforced("a", "3").await;
    source_verified(&team, "True", &forge.fingerprint()).await;
}

#[tokio::test]
async fn tags_signed_with_openpgp_are_followed_and_others_are_not() {
    if let Some(why) = no_gpg() {
        skip!(why);
    }
    let (team, gpg) = (Tenant::new().await, Gpg::new());
    let key = gpg.key("Release <release@example.com>", "ed25519", "sign", "never");
    sign(&team, &gpg.config(&key, ""), false).await;
    let tag = async |version: &str, tag: &str, how: &str| {
        team.commit(&[("a.json", &team.active("a", version, "shell_exec"))]).await;
        team.repo.git(["tag", how, "-m", "a version", tag]).await;
        team.repo.git(["push", "--quiet", "origin", tag]).await;
    };
    tag("1", "v1.0.0", "--sign").await;
    trust(&team, &[("release.asc", &gpg.public(&key))]).await;
    let mut spec = verify(&team, "Tag");
    let refused = json!({
        "apiVersion": "sekuire.ai/v1alpha1", "kind": "PolicyRepository", "metadata": {"name": team.name},
        "spec": {"url": team.repo.url(), "ref": {"branch": "main"}, "verify": spec["verify"]},
    });
    let error = team.try_apply(&refused).await.unwrap_err().to_string();
    assert!(error.contains("set ref.tag or ref.semver, or use mode Head"), "{error}");
    spec["ref"] = json!({"semver": "1.x"});
    team.watch_repository(spec).await;
    team.enforced("a", "1").await;
    let message = source_verified(&team, "True", "tag v1.0.0").await;
    assert!(message.ends_with(&format!("is signed by Release <release@example.com> ({key})")), "{message}");

    tag("2", "v1.1.0", "--annotate").await;
    look(&team, "annotated").await;
    source_verified(&team, "False", "is not signed").await;
    team.repo.git(["tag", "v1.2.0"]).await;
    team.repo.git(["push", "--quiet", "origin", "v1.2.0"]).await;
    look(&team, "lightweight").await;
    source_verified(&team, "False", "v1.2.0 is no annotated tag").await;
    // the signed tag of before, as the newest one
    let signed = team.repo.git(["rev-parse", "v1.0.0"]).await;
    team.repo.git(["update-ref", "refs/tags/v1.3.0", signed.trim()]).await;
    team.repo.git(["push", "--quiet", "origin", "v1.3.0"]).await;
    look(&team, "renamed").await;
    source_verified(&team, "False", "is the tag v1.0.0 under another name").await;
    team.enforced("a", "1").await;
    tag("3", "v1.4.0", "--sign").await;
    look(&team, "signed").await;
    team.enforced("a", "3").await;
}

#[tokio::test]
async fn a_verification_without_mode_or_without_keys_is_refused_at_the_door() {
    let team = Tenant::new().await;
    for verify in [json!({"mode": "Head"}), json!({"secretRef": {"name": "keys"}}), json!({"mode": "TagAndHEAD"})] {
        let repository = json!({
            "apiVersion": "sekuire.ai/v1alpha1", "kind": "PolicyRepository", "metadata": {"name": team.name},
            "spec": {"url": team.repo.url(), "verify": verify},
        });
        let error = team.try_apply(&repository).await.unwrap_err().to_string();
        let says = ["verify takes both: mode", "supported values: \"None\", \"Head\", \"Tag\""];
        assert!(says.iter().any(|says| error.contains(says)), "{error}");
    }
}
