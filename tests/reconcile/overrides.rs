//! What only an administrator may do, in a word: accept a rewritten history, lower a mark after a key was stolen.

use kube::api::{Patch, PatchParams};
use sekuire_policy::api::{ACCEPT_REWIND, ACCEPT_VERSION, conditions, object_name};
use serde_json::json;

use super::tenant::{Tenant, eventually};

impl Tenant {
    pub(crate) async fn annotate_repository(&self, name: &str, value: &str) {
        let patch = json!({"metadata": {"annotations": {name: value}}});
        self.repositories().patch(&self.name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    }

    pub(crate) async fn annotate_ledger(&self, suffix: &str, value: &str) {
        let patch = json!({"metadata": {"annotations": {ACCEPT_VERSION: value}}});
        let name = object_name(&self.workspace(suffix));
        self.ledgers().patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    }

    /// Waits for an Event about a workspace's object.
    pub(crate) async fn told(&self, reason: &str, part: &str) {
        eventually(&format!("Event {reason} with {part}"), async || {
            let events = self.cluster.kubectl(["get", "events", "-A", "-o", "json"]).await;
            let events: serde_json::Value = serde_json::from_str(&events.stdout).unwrap();
            let found = events["items"].as_array().unwrap().iter().any(|event| {
                event["reason"] == reason && event["message"].as_str().is_some_and(|note| note.contains(part))
            });
            if found { Ok(()) } else { Err("no such Event") }
        })
        .await;
    }
}

#[tokio::test]
async fn a_rewritten_history_is_followed_after_an_administrator_accepts_its_commit_and_only_that_one() {
    let team = Tenant::with_files(async |team: &Tenant| {
        team.commit(&[("a.json", &team.active("a", "2", "shell_exec"))]).await;
    })
    .await;
    team.enforced("a", "2").await;
    let before = team.repository("cursor", |s| s.cursor.is_some()).await.cursor.unwrap().commit;
    team.repo.write("policies/a.json", team.active("a", "3", "other"));
    let commit = team.repo.rewrite("another history").await;
    let message = team.repository_fails("HistoryRewritten").await;
    assert!(message.contains(&format!("{ACCEPT_REWIND}: {commit}")), "{message}");
    team.annotate_repository(ACCEPT_REWIND, &before).await;
    team.repository("the other commit is not accepted", |s| {
        conditions::find(&s.conditions, "Ready").is_some_and(|c| c.message.contains("which is not that commit"))
    })
    .await;
    team.annotate_repository(ACCEPT_REWIND, &commit).await;
    let status = team.synced(&commit).await;
    team.enforced("a", "3").await;
    let recorded = status.accepted_rewind.unwrap();
    assert_eq!((recorded.commit.as_str(), recorded.previous.as_str()), (commit.as_str(), before.as_str()));
    team.told("RewindAccepted", &commit).await;

    // it waives ancestry only, and once
    team.repo.write("policies/a.json", team.active("a", "1", "nothing"));
    let third = team.repo.rewrite("a third history").await;
    assert!(team.repository_fails("HistoryRewritten").await.contains(&third));
    team.annotate_repository(ACCEPT_REWIND, &third).await;
    team.synced(&third).await;
    team.ready("a", "False", "VersionRollback").await;
    assert_eq!(team.policy("a").await.spec.document["version"], "3");
}

#[tokio::test]
async fn a_version_that_nothing_can_exceed_is_given_up_after_its_key_was_revoked_and_an_administrator_says_to_what() {
    let team = Tenant::with_files(async |team: &Tenant| {
        team.commit(&[("a.json", &team.active("a", "4", "shell_exec"))]).await;
    })
    .await;
    team.enforced("a", "4").await;
    let thief = team.stranger();
    let thieves_key = format!("{}-stolen", team.name);
    team.apply(&thief.manifest(&thieves_key, &[&format!("{}_*", team.name)])).await;
    let workspace = team.workspace("a");
    let stolen = thief.active(&workspace, "2147483647", Tenant::forbids("nothing"));
    team.commit(&[("a.json", &stolen)]).await;
    team.enforced("a", "2147483647").await;
    let namespace = team.namespace("a").await;

    let next = team.active("a", "5", "shell_exec");
    team.commit(&[("a.json", &next)]).await;
    team.ready("a", "False", "VersionRollback").await;
    let digest = sekuire_policy::policy::Document::parse(next.as_bytes(), sekuire_policy::policy::Format::Json);
    let word = format!("5@{}", digest.unwrap().digest());
    // while the key is trusted, nobody's word lowers the mark
    team.annotate_ledger("a", &word).await;
    team.told("VersionNotAccepted", "is only lowered after that key was revoked").await;
    team.admits(&namespace, "shell_exec").await;

    let revoke = json!({"spec": {"revoked": {"reason": "stolen"}}});
    team.keys().patch(&thieves_key, &PatchParams::default(), &Patch::Merge(&revoke)).await.unwrap();
    let object = team.enforced("a", "5").await;
    assert_eq!(object.spec.document["version"], "5");
    team.refuses(&namespace, "shell_exec", "tool.blocked").await;
    let ledger = eventually("the mark is lowered", async || {
        let ledger = team.ledgers().get(&object_name(&workspace)).await.unwrap();
        if ledger.spec.version.to_string() == "5" { Ok(ledger) } else { Err(ledger.spec.version.to_string()) }
    })
    .await;
    let lowered = ledger.spec.lowered.unwrap();
    assert_eq!((lowered.from_version.to_string(), lowered.version.to_string()), ("2147483647".into(), "5".into()));
    team.told("VersionAccepted", "lowered from 2147483647 to 5").await;

    // once: from here on versions only rise again
    team.commit(&[("a.json", &team.active("a", "6", "calculator"))]).await;
    team.enforced("a", "6").await;
    team.commit(&[("a.json", &next)]).await;
    team.ready("a", "False", "VersionRollback").await;
    assert_eq!(team.policy("a").await.spec.document["version"], "6");
}
