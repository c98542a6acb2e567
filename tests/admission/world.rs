//! An index with policies of workspaces, without a cluster: filled as the watches fill it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what cannot be set up ends the test")]

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use sekuire_policy::admission::PolicyIndex;
use sekuire_policy::admission::index::Watched;
use sekuire_policy::api::workspace_policy::Source;
use sekuire_policy::api::{PolicyLedger, PolicyLedgerSpec, WorkspacePolicy, WorkspacePolicySpec, object_name};
use sekuire_policy::policy::{Document, KeyRing, Pattern, PrivateKey, TrustedKey, VerifiedPolicy, sign, verify};
use serde_json::{Value, json};

pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

pub(crate) fn key() -> PrivateKey {
    PrivateKey::from_seed(&[7; 32])
}

fn ring() -> KeyRing {
    KeyRing::new([TrustedKey {
        key_id: "key_test".to_owned(),
        public_key: key().public(),
        workspaces: vec![Pattern::new("*")],
        not_before: None,
        not_after: None,
        revoked: None,
    }])
}

/// A policy such as teams have: some rules of each kind.
pub(crate) fn content() -> Value {
    json!({
        "agent": {
            "models": {
                "allowed_providers": ["openai", "anthropic"],
                "allowed_models": ["gpt-4*", "claude-*"],
                "denied_models": ["gpt-4-32k*"]
            },
            "capabilities": {"denied_tools": ["shell*", "*_delete"]}
        },
        "compliance": {"frameworks": ["soc2"], "require_audit_logging": true, "retention_days": 90},
        "permissions": {
            "network": {
                "enabled": true,
                "require_tls": true,
                "allowed_domains": ["*.example.com", "api.openai.com"],
                "blocked_domains": ["internal.example.com"]
            }
        },
        "rate_limits": {"per_agent": {"requests_per_minute": 600}}
    })
}

/// A document of a workspace, still to be signed.
pub(crate) fn skeleton(workspace: &str) -> Value {
    json!({
        "policy_id": format!("policy_{workspace}"),
        "workspace_id": workspace,
        "version": "3",
        "status": "active",
        "created_at": "2026-01-02T03:04:05Z",
        "content": content(),
    })
}

pub(crate) fn signed(skeleton: Value) -> Value {
    sign(skeleton, &key(), "key_test", Timestamp::now()).unwrap()
}

/// An index that knows `workspaces` workspaces `ws_0`…, and a namespace `team-N` in each; not ready yet.
pub(crate) fn filling(workspaces: usize) -> Arc<PolicyIndex> {
    let index = Arc::new(PolicyIndex::default());
    let now = Timestamp::now();
    index.keys_changed(ring(), now);
    for number in 0..workspaces {
        let workspace = format!("ws_{number}");
        index.bindings.set(&format!("team-{number}"), Some(&workspace));
        enforce(&index, signed(skeleton(&workspace)), now);
    }
    index
}

/// Has a signed document enforced.
pub(crate) fn enforce(index: &PolicyIndex, document: Value, now: Timestamp) {
    let workspace = document["workspace_id"].as_str().unwrap().to_owned();
    let policy = policy_of(&document, now);
    let ledger = PolicyLedgerSpec {
        workspace: workspace.clone(),
        version: "3".parse().unwrap(),
        digest: policy.digest().to_owned(),
        policy_id: policy.policy_id().to_owned(),
        lifecycle: policy.status(),
        repository: String::new(),
        path: String::new(),
        commit: COMMIT.to_owned(),
        lowered: None,
        accepted_at: None,
    };
    let source =
        Source { repository: "main".to_owned(), path: "policies/a.json".to_owned(), commit: COMMIT.to_owned() };
    let metadata = ObjectMeta { name: Some(object_name(&workspace)), ..ObjectMeta::default() };
    let spec = WorkspacePolicySpec { workspace, document, source: Some(source) };
    index.ledger_seen(PolicyLedger { metadata: metadata.clone(), spec: ledger }, now);
    index.object_seen(WorkspacePolicy { metadata, spec, status: None }, now);
}

fn policy_of(document: &Value, now: Timestamp) -> VerifiedPolicy {
    verify(Document::from_value(document.clone()).unwrap(), &ring(), now).unwrap()
}

/// The same, ready.
pub(crate) fn index(workspaces: usize) -> Arc<PolicyIndex> {
    let index = filling(workspaces);
    complete(&index);
    index
}

/// Has an index ready.
pub(crate) fn complete(index: &PolicyIndex) {
    for watched in [Watched::Policies, Watched::Keys, Watched::Thresholds, Watched::Ledgers, Watched::Namespaces] {
        index.liveness.complete(watched);
    }
    // nobody puts anything back here: there is nothing to listen for
    index.liveness.confirmed();
}

/// The spec of an agent that complies with [`content`].
pub(crate) fn compliant() -> Value {
    json!({
        "model": {"provider": "openai", "name": "gpt-4o"},
        "tools": [{"name": "web_search"}, {"name": "calculator"}, {"name": "mail_send", "server": "mail"}],
        "compliance": {"frameworks": ["soc2"], "auditLogging": true, "retentionDays": 365},
        "permissions": {"network": {"allowedHosts": ["api.example.com", "api.openai.com:443"], "requireTls": true}},
        "rateLimits": {"requestsPerMinute": 60}
    })
}

/// The review of an agent's creation as kube-apiserver 1.36 sends it.
pub(crate) fn review(namespace: &str, spec: &Value) -> Vec<u8> {
    let agent = json!({
        "apiVersion": "sekuire.ai/v1alpha1",
        "kind": "Agent",
        "metadata": {
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": spec.to_string()},
            "creationTimestamp": "2026-06-01T00:00:00Z",
            "generation": 1,
            "managedFields": [{
                "apiVersion": "sekuire.ai/v1alpha1",
                "fieldsType": "FieldsV1",
                "fieldsV1": {"f:metadata": {"f:annotations": {".": {}}}, "f:spec": {".": {}, "f:model": {".": {}, "f:name": {}}}},
                "manager": "kubectl-client-side-apply",
                "operation": "Update",
                "time": "2026-06-01T00:00:00Z"
            }],
            "name": "scout",
            "namespace": namespace,
            "uid": "0a3ae7d3-9cbe-4a0d-a4e4-a3e8a0cf4f2e"
        },
        "spec": spec
    });
    let kind = json!({"group": "sekuire.ai", "version": "v1alpha1", "kind": "Agent"});
    let resource = json!({"group": "sekuire.ai", "version": "v1alpha1", "resource": "agents"});
    let review = json!({
        "kind": "AdmissionReview",
        "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": kind, "resource": resource, "requestKind": kind, "requestResource": resource,
            "name": "scout",
            "namespace": namespace,
            "operation": "CREATE",
            "userInfo": {
                "username": "alice",
                "groups": ["team-a", "system:authenticated"],
                "extra": {"authentication.kubernetes.io/credential-id": ["X509SHA256=4c6a"]}
            },
            "object": agent,
            "oldObject": null,
            "dryRun": false,
            "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1", "fieldManager": "kubectl-client-side-apply"}
        }
    });
    serde_json::to_vec(&review).unwrap()
}
