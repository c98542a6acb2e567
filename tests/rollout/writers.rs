//! The policy that lets the controller alone write policies and marks, on a real API server.

use kube::Client;
use serde_json::{Value, json};

use super::support::{CONTROLLER, OTHERS, PLATFORM, WRITERS, allow_everything, ask, client_as, protect_objects};
use crate::cluster::{Cluster, Signer, programs::has_controller_manager, skip::skip};
use crate::resilience::support::until;

const API: &str = "/apis/sekuire.ai/v1alpha1";

/// A policy and its ledger, of this name.
fn objects(name: &str) -> [(String, Value); 2] {
    let (signer, workspace) = (Signer::new(7), name.replace('-', "_"));
    let document: Value = serde_json::from_str(&signer.document(&workspace, "1", "active", json!({}))).unwrap();
    let object = |kind: &str, spec: Value| json!({"apiVersion": "sekuire.ai/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec});
    let ledger = json!({"workspace": workspace, "version": "1", "digest": "0".repeat(64), "policyId": "p",
        "lifecycle": "active", "repository": "r", "path": "p.json", "commit": "0".repeat(40)});
    [
        (
            format!("{API}/workspacepolicies"),
            object("WorkspacePolicy", json!({"workspace": workspace, "document": document})),
        ),
        (format!("{API}/policyledgers"), object("PolicyLedger", ledger)),
    ]
}

async fn make(client: &Client, name: &str) {
    for (path, object) in objects(name) {
        ask(client, "POST", &path, &object).await.unwrap();
    }
}

async fn in_force(cluster: &Cluster, other: &Client) {
    let path = format!("{API}/workspacepolicies?dryRun=All");
    let (_, object) = objects("ws-probe").into_iter().next().unwrap();
    until("the policy is in force", async || {
        ask(other, "POST", &path, &object).await.map_or(Ok(()), |_| Err("not yet"))
    })
    .await;
    drop(cluster.kubectl(["get", "validatingadmissionpolicy", WRITERS]).await.ok());
}

/// What nobody but the controller may write: into the object at `own`, or beside it.
fn forgeries(path: &str, own: &str, object: &Value, more: &Value) -> Vec<(&'static str, String, Value)> {
    let spec = if path.ends_with("policyledgers") {
        json!({"version": "9"})
    } else {
        json!({"source": {"repository": "r", "path": "p.json", "commit": "0".repeat(40)}})
    };
    let mut applied = object.clone();
    applied["metadata"]["labels"] = json!({"a": "b"});
    let owner = json!({"apiVersion": "v1", "kind": "Namespace", "name": "default", "uid": "x"});
    let metadata = |metadata: Value| json!({"metadata": metadata});
    let mut all = vec![
        ("POST", path.to_owned(), more.clone()),
        ("merge", own.to_owned(), json!({"spec": spec})),
        ("merge", own.to_owned(), json!({"metadata": {"annotations": {"a": "b"}}, "spec": spec})),
        ("merge", own.to_owned(), metadata(json!({"labels": {"a": "b"}}))),
        ("merge", own.to_owned(), metadata(json!({"finalizers": ["example.com/hold"]}))),
        ("merge", own.to_owned(), metadata(json!({"ownerReferences": [owner]}))),
        ("apply", own.to_owned(), applied),
        ("json", own.to_owned(), json!([{"op": "add", "path": "/metadata/labels", "value": {"a": "b"}}])),
    ];
    if path.ends_with("workspacepolicies") {
        all.push(("merge", format!("{own}/status"), json!({"status": {"observedGeneration": 7, "conditions": []}})));
    }
    all
}

#[tokio::test]
async fn the_controller_alone_writes_policies_and_marks_and_the_platform_team_annotates_and_deletes() {
    let cluster = Cluster::start().await;
    cluster.install_crds().await;
    allow_everything(&cluster).await;
    let controller = client_as(&cluster, CONTROLLER, &["system:serviceaccounts"]).await;
    let (platform, other) =
        (client_as(&cluster, "pia", &[PLATFORM]).await, client_as(&cluster, "otto", &[OTHERS]).await);
    protect_objects(&cluster).await;
    in_force(&cluster, &other).await;
    make(&controller, "ws-a").await;
    let annotate = json!({"metadata": {"annotations": {"sekuire.ai/accept-version": "1@x"}}});
    for ((path, object), (_, more)) in objects("ws-a").into_iter().zip(objects("ws-b")) {
        let own = format!("{path}/ws-a");
        for (verb, at, body) in forgeries(&path, &own, &object, &more) {
            for client in [&platform, &other] {
                let said = ask(client, verb, &at, &body).await.expect_err(&format!("{verb} {at} {body}"));
                assert!(said.contains("are written by the policy controller alone"), "{verb} {at} {body}: {said}");
            }
        }
        for (verb, at, body) in
            [("merge", &own, &annotate), ("DELETE", &own, &json!({})), ("DELETE", &path, &json!({}))]
        {
            let said = ask(&other, verb, at, body).await.expect_err(verb);
            assert!(
                said.contains("members of platform-team, system:masters may change annotations and delete"),
                "{said}"
            );
        }
        ask(&platform, "merge", &own, &annotate).await.unwrap();
        ask(&platform, "merge", &own, &json!({"metadata": {"annotations": null}})).await.unwrap();
        let status = json!({"status": {"observedGeneration": 1, "conditions": []}});
        if path.ends_with("workspacepolicies") {
            ask(&controller, "merge", &format!("{own}/status"), &status).await.unwrap();
        }
        ask(&controller, "merge", &own, &json!({"metadata": {"labels": {"a": "b"}}})).await.unwrap();
        ask(&controller, "POST", &path, &more).await.unwrap();
        ask(&platform, "DELETE", &own, &json!({})).await.unwrap();
        ask(&controller, "DELETE", &format!("{path}/ws-b"), &json!({})).await.unwrap();
    }
}

#[tokio::test]
async fn the_garbage_collector_and_the_removal_of_the_definitions_are_not_in_the_way() {
    if !has_controller_manager() {
        skip!("no kube-controller-manager in KUBEBUILDER_ASSETS");
    }
    let cluster = Cluster::options().controller_manager().start().await;
    cluster.install_crds().await;
    allow_everything(&cluster).await;
    let controller = client_as(&cluster, CONTROLLER, &["system:serviceaccounts"]).await;
    let other = client_as(&cluster, "otto", &[OTHERS]).await;
    let platform = client_as(&cluster, "pia", &[PLATFORM]).await;
    protect_objects(&cluster).await;
    in_force(&cluster, &other).await;
    for name in ["ws-a", "ws-b"] {
        make(&controller, name).await;
    }
    // the collector takes its finalizer away, as somebody who is in no group of ours
    for (path, _) in objects("ws-a") {
        for how in ["Foreground", "Orphan"] {
            let name = if how == "Foreground" { "ws-a" } else { "ws-b" };
            let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": how});
            ask(&platform, "DELETE", &format!("{path}/{name}"), &options).await.unwrap();
        }
    }
    until("they are gone", async || {
        let left = cluster.kubectl(["get", "wsp,pled", "-o", "name"]).await.ok();
        if left.is_empty() { Ok(()) } else { Err(left) }
    })
    .await;
    make(&controller, "ws-c").await;
    let crds = ["delete", "crd", "workspacepolicies.sekuire.ai", "policyledgers.sekuire.ai", "--timeout=50s"];
    cluster.kubectl(crds).await.ok();
}
