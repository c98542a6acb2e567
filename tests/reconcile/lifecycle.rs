//! Draft, active, archived; versions; files that come and go; suspension and requests.

use kube::api::{DeleteParams, Patch, PatchParams};
use sekuire_policy::api::{conditions, object_name};
use serde_json::json;

use super::tenant::{Tenant, eventually};
use crate::cluster::GitRepo;

#[tokio::test]
async fn a_commit_of_a_signed_policy_is_enforced_and_a_new_version_changes_the_verdict() {
    let team = Tenant::with_files(async |team: &Tenant| {
        team.commit(&[("a.json", &team.active("a", "1", "shell_exec"))]).await;
    })
    .await;
    team.ready("a", "True", "Succeeded").await;
    let namespace = team.namespace("a").await;
    team.admits(&namespace, "calculator").await;
    let message = team.refuses(&namespace, "shell_exec", "tool.blocked").await;
    for part in ["policy_", "version 1", team.signer.key_id(), "spec.tools[0].name"] {
        assert!(message.contains(part), "{part} is not in: {message}");
    }
    let commit = team.commit(&[("a.json", &team.active("a", "2", "calculator"))]).await;
    team.refuses(&namespace, "calculator", "tool.blocked").await;
    team.admits(&namespace, "shell_exec").await;
    let object = team.enforced("a", "2").await;
    assert_eq!(object.spec.source.unwrap().commit, commit);
    let ledger = team.ledgers().get(&object_name(&team.workspace("a"))).await.unwrap();
    assert_eq!((ledger.spec.version.to_string(), ledger.spec.commit), ("2".to_owned(), commit));
}

#[tokio::test]
async fn a_workspace_without_policy_and_a_namespace_without_label_admit_no_agent() {
    let team = Tenant::new().await;
    let namespace = team.namespace("nothing").await;
    team.refuses(&namespace, "calculator", "policy.missing").await;
    let unlabelled = team.cluster.namespace("unlabelled").await;
    team.refuses(&unlabelled, "calculator", "workspace.unbound").await;
}

#[tokio::test]
async fn a_draft_is_counted_and_never_enforced() {
    let team = Tenant::with_files(async |team: &Tenant| {
        team.commit(&[("a.json", &team.document("a", "1", "draft", "x"))]).await;
    })
    .await;
    let status = team.repository("one document", |s| s.documents.as_ref().is_some_and(|d| d.total == 1)).await;
    assert_eq!(status.documents.unwrap().verified, 1);
    assert!(team.policies().get_opt(&object_name(&team.workspace("a"))).await.unwrap().is_none());
    let namespace = team.namespace("a").await;
    team.refuses(&namespace, "calculator", "policy.missing").await;
}

#[tokio::test]
async fn an_archived_version_retires_the_policy_and_the_object_stays() {
    let team = Tenant::with_files(async |team: &Tenant| {
        team.commit(&[("a.json", &team.active("a", "1", "x"))]).await;
    })
    .await;
    let namespace = team.namespace("a").await;
    team.admits(&namespace, "calculator").await;
    team.commit(&[("a.json", &team.document("a", "2", "archived", "x"))]).await;
    let object = team.ready("a", "True", "Archived").await;
    assert_eq!(object.spec.document["status"], "archived");
    team.condition("a", "Enforced", "False", "Archived").await;
    let message = team.refuses(&namespace, "calculator", "policy.missing").await;
    assert!(message.contains("archived in version 2"), "{message}");
}

#[tokio::test]
async fn a_deleted_file_leaves_the_policy_enforced_and_says_so() {
    let team = Tenant::with_files(async |team: &Tenant| {
        team.commit(&[("a.json", &team.active("a", "1", "shell_exec")), ("b.json", &team.active("b", "1", "x"))]).await;
    })
    .await;
    team.ready("a", "True", "Succeeded").await;
    team.repo.remove("policies/a.json");
    team.repo.commit("gone").await;
    team.ready("a", "False", "SourceMissing").await;
    team.condition("a", "Enforced", "True", "Succeeded").await;
    let namespace = team.namespace("a").await;
    team.refuses(&namespace, "shell_exec", "tool.blocked").await;
    team.admits(&namespace, "calculator").await;
    team.ready("b", "True", "Succeeded").await;
}

#[tokio::test]
async fn an_older_version_is_a_rollback_and_a_changed_one_is_reused() {
    let team = Tenant::with_files(async |team: &Tenant| {
        team.commit(&[("a.json", &team.active("a", "2", "shell_exec"))]).await;
    })
    .await;
    team.enforced("a", "2").await;
    let commit = team.commit(&[("a.json", &team.active("a", "1", "other"))]).await;
    let object = team.ready("a", "False", "VersionRollback").await;
    let status = object.status.unwrap();
    let message = &conditions::find(&status.conditions, "Ready").unwrap().message;
    for part in ["policies/a.json", &commit, team.signer.key_id(), "higher version"] {
        assert!(message.contains(part), "{part} is not in: {message}");
    }
    team.commit(&[("a.json", &team.active("a", "2.0", "other"))]).await;
    let object = team.ready("a", "False", "VersionReused").await;
    assert_eq!(object.spec.document["version"], "2");
    let namespace = team.namespace("a").await;
    team.refuses(&namespace, "shell_exec", "tool.blocked").await;
}

#[tokio::test]
async fn an_older_version_beside_a_newer_one_is_superseded_and_no_fault() {
    let team = Tenant::with_files(async |team: &Tenant| {
        team.commit(&[("a-1.json", &team.active("a", "1", "x")), ("a-2.json", &team.active("a", "2", "y"))]).await;
    })
    .await;
    team.enforced("a", "2").await;
    let status = team.repository("two documents", |s| s.documents.as_ref().is_some_and(|d| d.total == 2)).await;
    let counts = status.documents.unwrap();
    assert_eq!((counts.verified, counts.refused), (1, 0));
    assert!(counts.by_result.iter().any(|r| r.result == "Superseded" && r.count == 1), "{counts:?}");
}

#[tokio::test]
async fn two_policies_that_claim_one_workspace_are_a_conflict_and_the_first_stays() {
    let team = Tenant::with_files(async |team: &Tenant| {
        team.commit(&[("a.json", &team.active("a", "1", "shell_exec"))]).await;
    })
    .await;
    team.enforced("a", "1").await;
    let other = team.signer.sign(json!({
        "policy_id": "another", "workspace_id": team.workspace("a"), "version": "9", "status": "active", "content": {},
    }));
    team.commit(&[("b.json", &other.to_string())]).await;
    let object = team.ready("a", "False", "ConflictingPolicies").await;
    assert_eq!(object.spec.document["version"], "1");
}

#[tokio::test]
async fn commits_between_two_looks_are_read_too() {
    let team = Tenant::with_files(async |team: &Tenant| {
        team.commit(&[("a.json", &team.active("a", "1", "x"))]).await;
    })
    .await;
    team.repository("cursor", |s| s.cursor.is_some()).await;
    // version 3 comes and goes between two looks: it was accepted all the same
    team.watch_repository(json!({"suspend": true})).await;
    team.repository_fails("Suspended").await;
    team.commit(&[("a.json", &team.active("a", "3", "shell_exec"))]).await;
    team.commit(&[("a.json", &team.active("a", "2", "y"))]).await;
    team.watch_repository(json!({"suspend": false})).await;
    let object = team.enforced("a", "3").await;
    assert_eq!(object.spec.document["version"], "3");
    team.ready("a", "False", "VersionRollback").await;
}

#[tokio::test]
async fn a_deleted_repository_leaves_its_policies_enforced() {
    let team = Tenant::with_files(async |team: &Tenant| {
        team.commit(&[("a.json", &team.active("a", "1", "shell_exec"))]).await;
    })
    .await;
    team.enforced("a", "1").await;
    team.repositories().delete(&team.name, &DeleteParams::default()).await.unwrap();
    team.ready("a", "False", "SourceMissing").await;
    let namespace = team.namespace("a").await;
    team.refuses(&namespace, "shell_exec", "tool.blocked").await;
    team.admits(&namespace, "calculator").await;
}

#[tokio::test]
async fn an_annotation_asks_for_a_look_at_once_and_is_echoed() {
    let team = Tenant::new().await;
    team.commit(&[("a.json", &team.active("a", "1", "x"))]).await;
    team.watch_repository(json!({"interval": "1h"})).await;
    team.enforced("a", "1").await;
    for (annotation, version) in [("sekuire.ai/requestedAt", "2"), ("reconcile.fluxcd.io/requestedAt", "3")] {
        team.commit(&[("a.json", &team.active("a", version, "x"))]).await;
        let patch = json!({"metadata": {"annotations": {
            "sekuire.ai/requestedAt": null, "reconcile.fluxcd.io/requestedAt": null, annotation: format!("now {version}"),
        }}});
        let merge = json!({"metadata": {"annotations": patch["metadata"]["annotations"]}});
        team.repositories().patch(&team.name, &PatchParams::default(), &Patch::Merge(&merge)).await.unwrap();
        team.enforced("a", version).await;
        let token = format!("now {version}");
        team.repository("echo", |s| s.last_handled_reconcile_at.as_ref() == Some(&token)).await;
    }
}

#[tokio::test]
async fn a_change_of_one_file_writes_one_object() {
    let team = Tenant::with_files(async |team: &Tenant| {
        let files: Vec<(String, String)> =
            (0..20).map(|i| (format!("{i}.json"), team.active(&format!("w{i}"), "1", "x"))).collect();
        let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        team.commit(&files).await;
    })
    .await;
    for i in 0..20 {
        team.ready(&format!("w{i}"), "True", "Succeeded").await;
    }
    let versions = async || {
        let all = team.policies().list(&kube::api::ListParams::default()).await.unwrap().items;
        let own = all.into_iter().filter(|wsp| wsp.spec.workspace.starts_with(&format!("{}_", team.name)));
        own.map(|wsp| (wsp.spec.workspace, wsp.metadata.resource_version.unwrap()))
            .collect::<std::collections::BTreeMap<_, _>>()
    };
    let before = versions().await;
    let commit = team.commit(&[("7.json", &team.active("w7", "2", "y"))]).await;
    team.synced(&commit).await;
    team.ready("w7", "True", "Succeeded").await;
    let after = versions().await;
    let changed: Vec<&String> = after.iter().filter(|(ws, rv)| before[*ws] != **rv).map(|(ws, _)| ws).collect();
    assert_eq!(changed, [&team.workspace("w7")]);
}

#[tokio::test]
async fn the_status_of_every_kind_follows_the_conventions() {
    let team = Tenant::with_files(async |team: &Tenant| {
        team.commit(&[("a.json", &team.active("a", "1", "x"))]).await;
    })
    .await;
    team.ready("a", "True", "Succeeded").await;
    let wait = ["wait", "--for=condition=Ready", "--timeout=60s"];
    let name = object_name(&team.workspace("a"));
    for object in [format!("wsp/{name}"), format!("prepo/{}", team.name), format!("skey/{}", team.name)] {
        team.cluster.kubectl([wait[0], wait[1], wait[2], &object]).await.ok();
        let shown = team.cluster.kubectl(["get", &object, "-o", "json"]).await.ok();
        let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(shown["status"]["observedGeneration"], shown["metadata"]["generation"], "{shown:#}");
        for condition in shown["status"]["conditions"].as_array().unwrap() {
            assert_eq!(condition["observedGeneration"], shown["metadata"]["generation"], "{condition:#}");
        }
    }
    let described = team.cluster.kubectl(["describe", "wsp", &name]).await.ok();
    for part in ["policies/a.json", team.signer.key_id(), "main@sha1:", "Verified"] {
        assert!(described.contains(part), "{part} is not in:\n{described}");
    }
    eventually("an Event of the accepted version", async || {
        let described = team.cluster.kubectl(["describe", "wsp", &name]).await.ok();
        if described.contains("was accepted") { Ok(()) } else { Err(described) }
    })
    .await;
}

#[tokio::test]
async fn one_workspace_of_two_repositories_is_a_conflict_and_the_first_stays_until_it_lets_go() {
    let team = Tenant::with_files(async |team: &Tenant| {
        team.commit(&[("a.json", &team.active("a", "1", "shell_exec"))]).await;
    })
    .await;
    team.enforced("a", "1").await;
    let other = GitRepo::new().await;
    other.commit_files("take over", [("policies/a.json", team.active("a", "2", "calculator"))]).await;
    let name = format!("{}-other", team.name);
    let spec = json!({"url": other.url(), "interval": "1s", "workspaces": [format!("{}_*", team.name)]});
    let repository = json!({
        "apiVersion": "sekuire.ai/v1alpha1", "kind": "PolicyRepository", "metadata": {"name": name}, "spec": spec,
    });
    team.apply(&repository).await;
    let refused = eventually("the other repository is refused", async || {
        let status = team.repositories().get(&name).await.unwrap().status.unwrap_or_default();
        status.refused.first().cloned().ok_or("nothing refused")
    })
    .await;
    assert_eq!(refused.reason, "ConflictingPolicies");
    assert!(refused.message.contains(&format!("published by the PolicyRepository {}", team.name)), "{refused:?}");
    assert_eq!(team.policy("a").await.spec.document["version"], "1");

    team.repo.remove("policies/a.json");
    team.repo.commit("let go").await;
    let object = team.enforced("a", "2").await;
    assert_eq!(object.spec.source.unwrap().repository, name);
}

#[tokio::test]
async fn a_clone_that_was_deleted_is_made_anew_for_a_new_key_without_waiting_for_the_interval() {
    let team = Tenant::new().await;
    let newcomer = team.stranger();
    team.commit(&[("a.json", &newcomer.active(&team.workspace("a"), "1", Tenant::forbids("shell_exec")))]).await;
    team.watch_repository(json!({"interval": "1h"})).await;
    team.repository("refused", |status| status.refused.len() == 1).await;
    let uid = team.repositories().get(&team.name).await.unwrap().metadata.uid.unwrap();
    std::fs::remove_dir_all(team.controller.data_dir().join(uid).join("clone")).unwrap();
    let key = newcomer.manifest(&format!("{}-new", team.name), &[&format!("{}_*", team.name)]);
    team.apply(&key).await;
    team.enforced("a", "1").await;
}
