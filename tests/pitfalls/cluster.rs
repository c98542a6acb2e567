//! Whoever writes to the cluster instead of to Git, and what cannot be read.

use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use sekuire_policy::api::{Agent, conditions, object_name};
use serde_json::{Value, json};

use super::support::{Target, with};
use crate::reconcile::tenant::{Tenant, eventually};

#[tokio::test]
async fn cr_edited_by_hand_counts_for_nothing_and_is_put_back_with_an_event() {
    let target = Target::new().await;
    let team = &target.team;
    let name = object_name(&team.workspace("a"));
    let unsigned = with(&target.permissive("9"), "content", json!({}));
    let older: Value = serde_json::from_str(&target.older[0]).unwrap();
    let draft: Value = serde_json::from_str(&team.document("a", "9", "draft", "nothing")).unwrap();
    for (what, document) in [("not signed so", unsigned), ("an older one", older), ("a draft", draft)] {
        let patch = json!([{"op": "replace", "path": "/spec/document", "value": document}]);
        let patch: Patch<()> = Patch::Json(serde_json::from_value(patch).unwrap());
        let before = team.policy("a").await.resource_version();
        team.policies().patch(&name, &PatchParams::default(), &patch).await.unwrap();
        target.verdicts_stay().await;
        target.put_back().await;
        assert_ne!(team.policy("a").await.resource_version(), before, "{what}");
    }
    // the status, which others than the controller might believe
    let lie = json!({"status": {"conditions": [{
        "type": "Enforced", "status": "False", "reason": "Succeeded", "message": "edited",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }]}});
    team.policies().patch_status(&name, &PatchParams::default(), &Patch::Merge(&lie)).await.unwrap();
    target.verdicts_stay().await;
    team.condition("a", "Enforced", "True", "Succeeded").await;
    // and the mark
    let patch = json!({"spec": {"version": "1"}});
    team.ledgers().patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    target.put_back().await;
    target.delete_both().await;
    target.put_back().await;
    eventually("Events say so", async || {
        let events = team.cluster.kubectl(["get", "events", "-A", "-o", "json"]).await.ok();
        let events: Value = serde_json::from_str(&events).unwrap();
        let items = events["items"].as_array().unwrap();
        let restored =
            items.iter().filter(|event| event["involvedObject"]["name"] == *name && event["reason"] == "Restored");
        let notes: Vec<&str> = restored.filter_map(|event| event["message"].as_str()).collect();
        let told = ["the object was changed or deleted", "the PolicyLedger was changed or deleted"];
        if told.iter().all(|part| notes.iter().any(|note| note.contains(part))) {
            Ok(())
        } else {
            Err(format!("{notes:?}"))
        }
    })
    .await;
}

#[tokio::test]
async fn exceptions_anywhere_but_in_a_signed_document_exempt_nobody() {
    let target = Target::new().await;
    let team = &target.team;
    let exempt = json!({
        "sekuire.ai/ignore": "true", "sekuire.ai/exempt": "true", "sekuire.ai/break-glass": "true",
        "policies.kyverno.io/exclude": "true", "admission.gatekeeper.sh/ignore": "true",
    });
    // in the agent
    let mut agent: Agent = serde_json::from_value(json!({
        "apiVersion": "sekuire.ai/v1alpha1", "kind": "Agent", "metadata": {"name": "exempt"},
        "spec": {"model": {"provider": "openai", "name": "gpt-4"}, "tools": [{"name": "shell_exec"}]},
    }))
    .unwrap();
    let map: std::collections::BTreeMap<String, String> = serde_json::from_value(exempt.clone()).unwrap();
    agent.metadata.annotations = Some(map.clone());
    agent.metadata.labels = Some(map);
    let agents: Api<Agent> = Api::namespaced(team.client.clone(), &target.namespace);
    let refused = agents.create(&kube::api::PostParams::default(), &agent).await.unwrap_err().to_string();
    assert!(refused.contains("[tool.blocked]"), "{refused}");
    // on its namespace, in the policy object, on the repository and on the key
    let metadata = json!({"metadata": {"annotations": exempt, "labels": exempt}});
    let patch = Patch::Merge(&metadata);
    let params = PatchParams::default();
    let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(team.client.clone());
    namespaces.patch(&target.namespace, &params, &patch).await.unwrap();
    team.policies().patch(&object_name(&team.workspace("a")), &params, &patch).await.unwrap();
    team.repositories().patch(&team.name, &params, &patch).await.unwrap();
    team.keys().patch(&team.name, &params, &patch).await.unwrap();
    target.verdicts_stay().await;
    // in Git, beside the policy and in it
    let exception = json!({
        "apiVersion": "sekuire.ai/v1alpha1", "kind": "PolicyException", "metadata": {"name": "all"},
        "spec": {"exceptions": [{"tool": "shell_exec"}]},
    });
    let inside = with(&target.permissive("9"), "exceptions", json!([{"tool": "shell_exec"}]));
    let files =
        [("exception.yaml", &*exception.to_string(), "Malformed"), ("b.json", &*inside.to_string(), "Malformed")];
    target.attack("an exception in Git", &files).await;
    // an administrator's word that no key was revoked for
    let older: Value = serde_json::from_str(&target.older[0]).unwrap();
    let digest = sekuire_policy::policy::Document::from_value(older).unwrap().digest();
    team.annotate_ledger("a", &format!("1@{digest}")).await;
    team.told("VersionNotAccepted", "is only lowered after that key was revoked").await;
    target.unchanged().await;
}

#[tokio::test]
async fn errors_swallowed_none_that_a_source_or_a_key_makes_opens_anything() {
    let target = Target::new().await;
    let team = &target.team;
    // a source that cannot be read, in one way after another
    for (spec, reason) in [
        (json!({"url": "file:///nowhere"}), "GitOperationFailed"),
        (json!({"ref": {"branch": "no-such-branch"}}), "GitOperationFailed"),
        (json!({"url": "https://127.0.0.1:1/nobody.git", "timeout": "5s"}), "GitOperationFailed"),
        (json!({"secretRef": {"name": "no-such-secret"}}), "AuthenticationFailed"),
        (json!({"verify": {"mode": "Head", "secretRef": {"name": "no-such-secret"}}}), "InvalidCommitSignature"),
    ] {
        team.watch_repository(spec.clone()).await;
        let status = team
            .repository(reason, |status| {
                conditions::find(&status.conditions, "Ready").is_some_and(|ready| ready.status == "False")
            })
            .await;
        let ready = conditions::find(&status.conditions, "Ready").unwrap();
        assert_eq!(ready.reason, reason, "{spec}: {ready:?}");
        target.unchanged().await;
        team.watch_repository(json!({})).await;
        team.ready_again().await;
    }
    // a key that cannot be used signs nothing; what another signed stays
    let name = format!("{}-spoilt", team.name);
    let mut manifest = team.stranger().manifest(&name, &["*"]);
    let forged = team.stranger().active(&team.workspace("a"), "9", json!({}));
    manifest["spec"]["publicKey"] = json!("ssh-ed25519 AAAA");
    team.apply(&manifest).await;
    let message = target.refuses_file("a key that cannot be read", &forged, "UnknownSigningKey").await;
    assert!(message.contains("cannot be used"), "{message}");
    // a key of which nobody can tell any more what it is: then nobody can tell either whether the policy was signed
    let twin = team.stranger().with_id(team.signer.key_id());
    team.apply(&twin.manifest(&name, &["*"])).await;
    team.refuses(&target.namespace, "calculator", "policy.missing").await;
    team.keys().delete(&name, &kube::api::DeleteParams::default()).await.unwrap();
    team.admits(&target.namespace, "calculator").await;
    target.put_back().await;
}

impl Tenant {
    pub(super) async fn ready_again(&self) {
        let ready = |status: &sekuire_policy::api::PolicyRepositoryStatus| {
            conditions::find(&status.conditions, "Ready").is_some_and(|ready| ready.status == "True")
        };
        self.repository("Ready", ready).await;
    }
}
