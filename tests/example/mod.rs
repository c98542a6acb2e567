//! `policies-example/` is what its README says.

mod gates;
mod pipeline;
mod traps;

use std::{
    fs,
    path::{Path, PathBuf},
};

use sekuire_policy::{
    api::{Agent, PolicyRepository, SigningKey, WORKSPACE_LABEL},
    policy::{Document, Enforced, Format, KeyRing, Status, Subject, VerifiedPolicy, decide, verify},
};
use serde::de::DeserializeOwned;

use crate::cluster;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("policies-example")
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn manifest<T: DeserializeOwned>(path: impl AsRef<Path>) -> T {
    let path = folder().join(path);
    let text = fs::read_to_string(&path).unwrap();
    serde_yaml::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn keys() -> KeyRing {
    KeyRing::new(files(&folder().join("keys")).iter().map(|path| {
        let key: SigningKey = manifest(path);
        key.spec.trusted_key().unwrap()
    }))
}

fn policies() -> Vec<VerifiedPolicy> {
    files(&folder().join("policies"))
        .iter()
        .map(|path| {
            let format = Format::of_path(path.to_str().unwrap()).unwrap();
            let document = Document::parse(&fs::read(path).unwrap(), format).unwrap();
            verify(document, &keys(), jiff::Timestamp::now()).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
        })
        .collect()
}

/// The rules and fields that refuse the agent of this file, in the namespace manifest beside it.
fn refusals(path: &str) -> Vec<(String, String)> {
    let namespace: k8s_openapi::api::core::v1::Namespace =
        manifest(Path::new(path).parent().unwrap().join("namespace.yaml"));
    let labels = namespace.metadata.labels.unwrap();
    let workspace = labels[WORKSPACE_LABEL].as_str();
    let policies = policies();
    let active = |policy: &&VerifiedPolicy| policy.workspace_id() == workspace && policy.status() == Status::Active;
    let policy = policies.iter().find(active).unwrap();
    let agent: Agent = manifest(path);
    assert_eq!(agent.metadata.namespace, namespace.metadata.name, "{path}");
    let name = namespace.metadata.name.unwrap();
    let subject = Subject { namespace: &name, workspace: Some(workspace) };
    let enforced = Enforced::Policy { policy, commit: None };
    let decision = decide(&subject, enforced, &agent.spec.0, jiff::Timestamp::now());
    assert_eq!(decision.allowed, decision.violations.is_empty());
    let mut refusals: Vec<_> = decision.violations.iter().map(|v| (v.rule.to_string(), v.field.clone())).collect();
    refusals.sort();
    refusals
}

fn assert_refusals(path: &str, expected: &[(&str, &str)]) {
    let mut expected: Vec<_> = expected.iter().map(|(rule, field)| ((*rule).to_owned(), (*field).to_owned())).collect();
    expected.sort();
    assert_eq!(refusals(path), expected, "{path}");
}

#[test]
fn every_policy_is_signed_by_a_key_of_the_folder() {
    let mut found: Vec<_> =
        policies().iter().map(|p| format!("{} {} {}", p.workspace_id(), p.version(), p.status())).collect();
    found.sort();
    assert_eq!(found, ["ws_payments 1.2 active", "ws_payments 2.0 draft", "ws_research 3 active"]);
}

#[test]
fn the_repository_and_the_keys_are_for_these_workspaces_and_no_private_key_is_here() {
    let repository: PolicyRepository = manifest("repository.yaml");
    assert_eq!(
        repository.spec.workspaces.as_deref(),
        Some(["ws_payments", "ws_research"].map(str::to_owned).as_slice())
    );
    assert_eq!(repository.spec.path(), "policies");
    for path in files(&folder()) {
        assert!(!fs::read_to_string(&path).unwrap().contains("PRIVATE KEY"), "{}", path.display());
    }
}

#[test]
fn the_agents_that_comply_do() {
    assert_refusals("agents/payments/reconciler.yaml", &[]);
    assert_refusals("agents/research/paper-reader.yaml", &[]);
}

#[test]
fn the_agents_that_do_not_comply_are_refused_for_what_their_comments_say() {
    assert_refusals("agents/payments/refund-helper.yaml", &[("tool.not_approved", "spec.tools[1].name")]);
    assert_refusals("agents/payments/log-cleaner.yaml", &[("tool.blocked", "spec.tools[0].name")]);
    assert_refusals(
        "agents/payments/shadow-bot.yaml",
        &[
            ("model.blocked", "spec.model.name"),
            ("compliance.residency_violation", "spec.model.region"),
            ("provider.not_allowed", "spec.fallbackModels[0].provider"),
            ("model.not_allowed", "spec.fallbackModels[0].name"),
            ("network.not_allowed", "spec.fallbackModels[0].endpoint"),
            ("network.tls_required", "spec.fallbackModels[0].endpoint"),
            ("tool.blocked", "spec.tools[0].name"),
            ("tool.not_approved", "spec.tools[1].name"),
            ("compliance.framework_missing", "spec.compliance.frameworks"),
            ("compliance.encryption_required", "spec.compliance.encryption.inTransit"),
            ("compliance.retention_too_short", "spec.compliance.retentionDays"),
            ("network.blocked", "spec.permissions.network.allowedHosts[0]"),
            ("filesystem.disabled", "spec.permissions.filesystem.allowedPaths[0]"),
            ("rate.exceeded", "spec.rateLimits.requestsPerMinute"),
            ("rate.exceeded", "spec.rateLimits.tokensPerHour"),
        ],
    );
    assert_refusals(
        "agents/research/crawler.yaml",
        &[
            ("workspace.mismatch", "spec.workspace"),
            ("model.blocked", "spec.model.name"),
            ("tool.blocked", "spec.tools[0].name"),
            ("compliance.audit_logging_required", "spec.compliance.auditLogging"),
            ("network.not_allowed", "spec.permissions.network.allowedHosts[1]"),
            ("network.tls_required", "spec.permissions.network.requireTls"),
            ("filesystem.blocked", "spec.permissions.filesystem.allowedPaths[0]"),
            ("filesystem.not_allowed", "spec.permissions.filesystem.allowedPaths[1]"),
            ("filesystem.ext_not_allowed", "spec.permissions.filesystem.allowedExtensions[1]"),
            ("api.not_allowed", "spec.permissions.api.services[0].endpoints"),
        ],
    );
}

#[tokio::test]
async fn the_api_server_takes_every_manifest_where_no_webhook_judges_it() {
    let cluster = cluster::shared().await;
    cluster.install_crds().await;
    for path in ["keys", "repository.yaml", "agents/payments", "agents/research"] {
        // the server checks types and validations; what it takes is not stored
        let path = folder().join(path);
        let path = path.to_str().unwrap();
        if path.contains("agents") {
            let namespace = format!("{path}/namespace.yaml");
            cluster.kubectl(["apply", "-f", &namespace]).await.ok();
        }
        cluster.kubectl(["apply", "--dry-run=server", "--validate=strict", "-f", path]).await.ok();
    }
}
