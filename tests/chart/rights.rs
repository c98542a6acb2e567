//! The rights of the controller's account: what RBAC has to give and cannot narrow, and what each is for.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};

use super::account::{ACCOUNT, install};
use super::helm::{CHART, find, helm};
use crate::cluster::Cluster;
use crate::cluster::controller::NAMESPACE;
use crate::cluster::skip::skip;
use crate::resilience::support::until;
use crate::rollout::support::{ask, client_as};

fn secret(name: &str, kind: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": kind,
        "metadata": {"name": name, "annotations": {"kubernetes.io/service-account.name": "default"}},
        "data": {"tls.crt": "", "tls.key": ""},
    })
}

fn lease(name: &str) -> Value {
    json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name}})
}

#[allow(clippy::needless_pass_by_value, reason = "a literal each time")]
fn metadata(metadata: Value) -> Value {
    json!({"metadata": metadata})
}

/// What whoever holds the token would do: how, to what, and by which words it is refused.
fn misuses() -> Vec<(&'static str, usize, Value, &'static str)> {
    let owner = json!({"apiVersion": "v1", "kind": "Namespace", "name": "default", "uid": "x"});
    vec![
        // the token of an account of the namespace, under a name that the account may read
        ("POST", 0, secret("git-login", "kubernetes.io/service-account-token"), "no Secret but"),
        ("POST", 0, secret("sekuire-webhook-certificate", "kubernetes.io/service-account-token"), "no Secret but"),
        ("POST", 0, secret("git-login", "kubernetes.io/tls"), "no Secret but"),
        ("POST", 0, secret("other", "bootstrap.kubernetes.io/token"), "no Secret but"),
        ("POST", 1, lease("kube-controller-manager"), "no Lease but"),
        ("merge", 2, json!({"spec": {"url": "https://evil.example/a"}}), "nothing of a PolicyRepository but"),
        ("merge", 2, json!({"spec": {"suspend": true}}), "nothing of a PolicyRepository but"),
        (
            "merge",
            2,
            metadata(json!({"annotations": {"sekuire.ai/accept-history": "x"}})),
            "nothing of a PolicyRepository but",
        ),
        ("merge", 2, metadata(json!({"annotations": {"a": "c"}})), "nothing of a PolicyRepository but"),
        ("merge", 2, metadata(json!({"annotations": null})), "nothing of a PolicyRepository but"),
        ("merge", 2, metadata(json!({"labels": {"a": "c"}})), "nothing of a PolicyRepository but"),
        ("merge", 2, metadata(json!({"finalizers": ["example.com/hold"]})), "nothing of a PolicyRepository but"),
        ("merge", 2, metadata(json!({"ownerReferences": [owner]})), "nothing of a PolicyRepository but"),
    ]
}

#[tokio::test]
async fn whoever_holds_the_token_of_the_account_makes_no_other_secret_or_lease_and_changes_no_repository() {
    let program = match find() {
        Ok(program) => program,
        Err(why) => skip!(why),
    };
    let cluster = Cluster::start().await;
    install(&cluster, &program, &["--set", "secretNames={git-login},receiver.enabled=true"]).await;
    let account = client_as(&cluster, ACCOUNT, &["system:serviceaccounts", "system:authenticated"]).await;
    let repository = json!({
        "apiVersion": "sekuire.ai/v1alpha1", "kind": "PolicyRepository",
        "metadata": {"name": "policies", "annotations": {"a": "b"}, "labels": {"a": "b"}},
        "spec": {"url": "https://git.example.com/policies.git"},
    });
    cluster.apply(&repository.to_string()).await.ok();
    let secrets = format!("/api/v1/namespaces/{NAMESPACE}/secrets?dryRun=All");
    let leases = format!("/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases?dryRun=All");
    let policies = "/apis/sekuire.ai/v1alpha1/policyrepositories/policies?dryRun=All";
    until("policy and RBAC are in force", async || {
        match ask(&account, "POST", &secrets, &secret("git-login", "Opaque")).await {
            Err(why) if why.contains("the policy controller writes no Secret but") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let paths = [secrets.as_str(), leases.as_str(), policies];
    for (way, path, body, words) in misuses() {
        let said = ask(&account, way, paths[path], &body).await.expect_err(&body.to_string());
        assert!(said.contains(words), "{body}: {said}");
    }
    for (way, path, body) in [
        ("POST", &*secrets, secret("sekuire-webhook-certificate", "kubernetes.io/tls")),
        ("POST", &*leases, lease("sekuire-policy-controller")),
        ("merge", policies, metadata(json!({"annotations": {"reconcile.fluxcd.io/requestedAt": "now"}}))),
        ("merge", policies, metadata(json!({"annotations": {"sekuire.ai/requestedAt": "now"}}))),
    ] {
        ask(&account, way, path, &body).await.unwrap_or_else(|why| panic!("{body}: {why}"));
    }
    // nobody else is kept from anything
    cluster
        .apply(
            &json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "other", "namespace": NAMESPACE}})
                .to_string(),
        )
        .await
        .ok();
}

#[tokio::test]
async fn kube_system_is_refused_in_words() {
    let program = match find() {
        Ok(program) => program,
        Err(why) => skip!(why),
    };
    let said = helm(&program, &["template", "sekuire", CHART, "--namespace", "kube-system"]).await.refused();
    assert!(said.contains("kube-system is no place for the controller"), "{said}");
}

/// Resource, name and verb of each line of `kubectl auth can-i --list`.
fn rights() -> BTreeSet<(String, String, String)> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/chart/snapshots/main__chart__account__account.snap");
    let snapshot = fs::read_to_string(path).unwrap();
    let lines = snapshot.lines().filter(|line| line.contains(" [] ["));
    lines
        .flat_map(|line| {
            let (resource, rest) = line.split_once(" [] [").unwrap();
            let (name, verbs) = rest.split_once("] [").unwrap();
            let name = if resource == "secrets" && name == "git-login" { "each of secretNames" } else { name };
            verbs
                .trim_end_matches(']')
                .split(' ')
                .map(|verb| (resource.to_owned(), name.to_owned(), verb.to_owned()))
                .collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn the_page_on_rights_says_of_each_verb_what_it_is_for_and_of_no_other() {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/rights.md")).unwrap();
    let rows = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.strip_suffix(" |"))
        .map(|row| row.split(" | ").collect::<Vec<_>>());
    let mut told = BTreeSet::new();
    for row in rows {
        let [resource, name, verbs, reason] = row[..] else { panic!("{row:?}") };
        assert!(reason.len() > 10, "{row:?}");
        for verb in verbs.split(", ") {
            let right = (
                resource.trim_end_matches('`').to_owned(),
                name.trim_matches('`').replace("any", ""),
                verb.trim_matches('`').to_owned(),
            );
            assert!(told.insert(right.clone()), "{right:?} twice");
        }
    }
    let missing: Vec<_> = rights().difference(&told).cloned().collect();
    let gone: Vec<_> = told.difference(&rights()).cloned().collect();
    assert!(missing.is_empty() && gone.is_empty(), "not told: {missing:?}; told, and not so: {gone:?}");
}
