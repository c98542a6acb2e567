//! Holders of the ClusterRole `-platform`: what they may do to a namespace, on a real API server.

use kube::Client;
use serde_json::{Value, json};

use super::account::install;
use super::helm::{NAME, find};
use crate::cluster::skip::skip;
use crate::cluster::{Cluster, User};
use crate::resilience::support::until;
use crate::rollout::support::{ask, client_as};

const LEVEL: &str = "pod-security.kubernetes.io/enforce";
const TEAM: &str = "platform-team";
const REFUSED: &str =
    "the ClusterRole that lets you patch namespaces is for labels sekuire.ai/* alone; this would change";

/// Gives a group a ClusterRole, in the cluster or in a namespace, and waits until RBAC has heard of it.
async fn bind(cluster: &Cluster, group: &str, role: &str, namespace: Option<&str>) {
    let (role_flag, group_flag, name) =
        (format!("--clusterrole={role}"), format!("--group={group}"), format!("{group}-{role}"));
    let kind = if namespace.is_some() { "rolebinding" } else { "clusterrolebinding" };
    let place = namespace.map(|name| format!("--namespace={name}"));
    let args: Vec<&str> =
        ["create", kind, &name, &role_flag, &group_flag].into_iter().chain(place.as_deref()).collect();
    cluster.kubectl_as(User::ADMIN, &args, "").await.ok();
    let at = namespace.unwrap_or("default");
    until("RBAC has heard of it", async || {
        let question = ["auth", "can-i", "patch", &format!("namespaces/{at}"), "-n", at, "--as=x", "--as-group", group];
        let ran = cluster.kubectl_as(User::ADMIN, &question, "").await;
        if ran.succeeded() { Ok(()) } else { Err(ran) }
    })
    .await;
}

/// Changes of a namespace that has the level `restricted`, an annotation and a label: what else they touch than our labels.
fn changes(name: &str) -> Vec<(&'static str, Value, &'static str)> {
    let metadata = |metadata: Value| json!({"metadata": metadata});
    let ours = json!({"sekuire.ai/workspace": "ws_b", LEVEL: "privileged"});
    let owner = json!({"apiVersion": "v1", "kind": "Namespace", "name": "default", "uid": "x"});
    let remove = json!([{"op": "remove", "path": "/metadata/labels/pod-security.kubernetes.io~1enforce"}]);
    let applied =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {LEVEL: "baseline"}}});
    vec![
        ("merge", metadata(json!({"labels": {LEVEL: null}})), "the label pod-security.kubernetes.io/enforce"),
        ("merge", metadata(json!({"labels": {LEVEL: "privileged"}})), "the label pod-security.kubernetes.io/enforce"),
        (
            "strategic",
            metadata(json!({"labels": {LEVEL: "privileged"}})),
            "the label pod-security.kubernetes.io/enforce",
        ),
        ("json", remove, "the label pod-security.kubernetes.io/enforce"),
        ("apply", applied, "the label pod-security.kubernetes.io/enforce"),
        ("merge", metadata(json!({"labels": ours})), "the label pod-security.kubernetes.io/enforce"),
        ("merge", metadata(json!({"labels": null})), "the label"),
        (
            "merge",
            metadata(json!({"labels": {"pod-security.kubernetes.io/warn": "baseline"}})),
            "the label pod-security",
        ),
        ("merge", metadata(json!({"labels": {"istio-injection": "disabled"}})), "the label istio-injection"),
        ("merge", metadata(json!({"labels": {"sekuire.ai.example.com/a": "b"}})), "the label sekuire.ai.example.com/a"),
        ("merge", metadata(json!({"annotations": {"a": "changed"}})), "annotations"),
        (
            "merge",
            metadata(json!({"annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"}})),
            "annotations",
        ),
        ("merge", metadata(json!({"annotations": null})), "annotations"),
        ("merge", metadata(json!({"finalizers": ["example.com/hold"]})), "finalizers"),
        ("merge", metadata(json!({"ownerReferences": [owner]})), "ownerReferences"),
    ]
}

async fn make(cluster: &Cluster, name: &str) -> String {
    let labels = json!({LEVEL: "restricted", "team": "a"});
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels, "annotations": {"a": "b"}}});
    cluster.apply(&namespace.to_string()).await.ok();
    format!("/api/v1/namespaces/{name}")
}

/// That this client changes our labels, and nothing else.
async fn is_kept_to_our_labels(client: &Client, path: &str, name: &str) {
    let ours = json!({"metadata": {"labels": {"sekuire.ai/workspace": "ws_a", "sekuire.ai/enforcement": "warn"}}});
    for way in ["merge", "strategic"] {
        ask(client, way, path, &ours).await.unwrap();
        ask(client, way, path, &json!({"metadata": {"labels": {"sekuire.ai/enforcement": null}}})).await.unwrap();
    }
    let before = ask(client, "merge", path, &json!({})).await.unwrap();
    for (way, body, named) in changes(name) {
        let said = ask(client, way, path, &body).await.expect_err(&format!("{way} {body}"));
        assert!(said.contains(&format!("{REFUSED} {named}")), "{way} {body}: {said}");
    }
    let after = ask(client, "merge", path, &json!({})).await.unwrap();
    assert_eq!(after["metadata"]["resourceVersion"], before["metadata"]["resourceVersion"], "nothing was written");
}

#[tokio::test]
async fn a_holder_of_the_platform_role_changes_our_labels_of_a_namespace_and_nothing_else_of_it() {
    let program = match find() {
        Ok(program) => program,
        Err(why) => skip!(why),
    };
    let cluster = Cluster::start().await;
    let groups = format!("labelPolicy.groups={{system:masters,{TEAM},there}}");
    install(&cluster, &program, &["--set", &groups]).await;
    let platform = format!("{NAME}-platform");
    let path = make(&cluster, "payments").await;
    bind(&cluster, TEAM, &platform, None).await;
    let pia = client_as(&cluster, "pia", &[TEAM]).await;
    until("the policy is in force", async || {
        let level = json!({"metadata": {"labels": {LEVEL: "baseline"}}});
        ask(&pia, "merge", &format!("{path}?dryRun=All"), &level).await.map_or(Ok(()), |_| Err("not yet"))
    })
    .await;
    is_kept_to_our_labels(&pia, &path, "payments").await;
    // the role may be given for one namespace too
    bind(&cluster, "there", &platform, Some("payments")).await;
    let theo = client_as(&cluster, "theo", &["there"]).await;
    is_kept_to_our_labels(&theo, &path, "payments").await;

    // others are as free as RBAC has them: who is no holder, and who may more than that role says
    let patch = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "patchers"},
        "rules": [{"apiGroups": [""], "resources": ["namespaces"], "verbs": ["patch"]}]});
    cluster.apply(&patch.to_string()).await.ok();
    bind(&cluster, "patchers", "patchers", None).await;
    bind(&cluster, "both", &platform, None).await;
    bind(&cluster, "both", "cluster-admin", None).await;
    for group in ["patchers", "both", "system:masters"] {
        let client = client_as(&cluster, "x", &[group]).await;
        for (number, (way, body, _)) in changes("x").into_iter().enumerate() {
            if way == "apply"
                || body.to_string().contains("sekuire.ai/workspace")
                || body == json!({"metadata": {"labels": null}})
            {
                continue; // of another policy, and of another name
            }
            let path = make(&cluster, &format!("{}-{number}", group.replace(':', "-"))).await;
            ask(&client, way, &path, &body).await.unwrap_or_else(|why| panic!("{group} {way} {body}: {why}"));
        }
    }
}
