//! The policy that protects the labels of namespaces, on a real API server: every way in which a label can be written.

use kube::Client;
use serde_json::{Value, json};

use super::support::{LABELS, OTHERS, PLATFORM, allow_everything, ask, client_as, protect_labels};
use crate::cluster::{Cluster, programs::has_controller_manager, skip::skip};
use crate::resilience::support::until;

const WORKSPACE: &str = "sekuire.ai/workspace";

/// Every way to set, change or remove a label of a namespace that has `sekuire.ai/workspace: ws_a`: by which verb, at which
/// path, with which body.
async fn ways(client: &Client, name: &str) -> Vec<(&'static str, String, Value)> {
    let path = format!("/api/v1/namespaces/{name}");
    let mut ways = Vec::new();
    let labels = |value: Value| json!({"metadata": {"labels": {WORKSPACE: value}}});
    for part in ["", "/status"] {
        let at = format!("{path}{part}");
        ways.push(("merge", at.clone(), labels(json!("ws_b"))));
        ways.push(("merge", at.clone(), labels(Value::Null)));
        ways.push(("merge", at.clone(), json!({"metadata": {"labels": {"sekuire.ai/enforcement": "audit"}}})));
        ways.push(("merge", at.clone(), json!({"metadata": {"labels": {"sekuire.ai/anything": "x"}}})));
        ways.push(("merge", at.clone(), json!({"metadata": {"labels": null}})));
        ways.push(("strategic", at.clone(), labels(json!("ws_b"))));
        let replace = json!([{"op": "replace", "path": "/metadata/labels/sekuire.ai~1workspace", "value": "ws_b"}]);
        ways.push(("json", at.clone(), replace));
        let mut applied = labels(json!("ws_b"));
        (applied["apiVersion"], applied["kind"]) = (json!("v1"), json!("Namespace"));
        applied["metadata"]["name"] = json!(name);
        ways.push(("apply", at.clone(), applied));
    }
    // the API server knows no PATCH of `finalize`
    for part in ["", "/status", "/finalize"] {
        ways.push(("PUT", format!("{path}{part}"), whole(client, name, Some("ws_b")).await));
        ways.push(("PUT", format!("{path}{part}"), whole(client, name, None).await));
    }
    ways
}

/// A namespace as a whole, with this label.
async fn whole(client: &Client, name: &str, workspace: Option<&str>) -> Value {
    let mut whole = ask(client, "merge", &format!("/api/v1/namespaces/{name}"), &json!({})).await.unwrap();
    let metadata = whole["metadata"].as_object_mut().unwrap();
    metadata.remove("managedFields");
    metadata.remove("resourceVersion");
    metadata.remove("uid");
    let labels = metadata["labels"].as_object_mut().unwrap();
    match workspace {
        Some(workspace) => drop(labels.insert(WORKSPACE.to_owned(), json!(workspace))),
        None => drop(labels.remove(WORKSPACE)),
    }
    whole
}

/// Namespaces to be made with a label.
fn made() -> [Value; 3] {
    let namespace = |metadata: Value| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata});
    [
        namespace(json!({"name": "made", "labels": {WORKSPACE: "ws_b"}})),
        namespace(json!({"generateName": "made-", "labels": {WORKSPACE: "ws_b"}})),
        namespace(json!({"generateName": "made-", "labels": {"sekuire.ai/enforcement": "audit"}})),
    ]
}

async fn label(client: &Client, name: &str) -> Value {
    let namespace = ask(client, "merge", &format!("/api/v1/namespaces/{name}"), &json!({})).await.unwrap();
    let labels = &namespace["metadata"]["labels"];
    let ours = labels.as_object().unwrap().iter().filter(|(key, _)| key.starts_with("sekuire.ai/"));
    Value::Object(ours.map(|(key, value)| (key.clone(), value.clone())).collect())
}

#[tokio::test]
async fn no_verb_and_no_subresource_lets_others_write_a_label_and_the_platform_team_can() {
    let cluster = Cluster::start().await;
    allow_everything(&cluster).await;
    let (platform, other) =
        (client_as(&cluster, "pia", &[PLATFORM]).await, client_as(&cluster, "otto", &[OTHERS]).await);
    let before = json!({WORKSPACE: "ws_a"});
    // without the policy each of these is a real attack: it takes the label from the namespace, or gives it another
    for (name, (verb, path, body)) in ways_of(&cluster, &platform).await {
        ask(&other, verb, &path, &body).await.unwrap_or_else(|why| panic!("{verb} {path} {body}: {why}"));
        assert_ne!(label(&platform, &name).await, before, "{verb} {path} {body}");
    }

    protect_labels(&cluster).await;
    let probe = cluster.namespace("probe").await;
    until("the policy is in force", async || {
        let patch = json!({"metadata": {"labels": {WORKSPACE: "ws_b"}}});
        let said = ask(&other, "merge", &format!("/api/v1/namespaces/{probe}?dryRun=All"), &patch).await;
        said.map_or(Ok(()), |_| Err("not yet"))
    })
    .await;
    let refusal = "labels sekuire.ai/* of a namespace are set, changed and removed by members of platform-team, system:masters alone";
    for (name, (verb, path, body)) in ways_of(&cluster, &platform).await {
        let said = ask(&other, verb, &path, &body).await.expect_err(&format!("{verb} {path} {body}"));
        assert!(said.contains(refusal) && said.contains(LABELS), "{verb} {path} {body}: {said}");
        assert_eq!(label(&platform, &name).await, before, "{verb} {path} {body}");
        ask(&platform, verb, &path, &body).await.unwrap_or_else(|why| panic!("{verb} {path} {body}: {why}"));
        assert_ne!(label(&platform, &name).await, before, "{verb} {path} {body}");
    }
    for namespace in made() {
        let said = ask(&other, "POST", "/api/v1/namespaces", &namespace).await.expect_err("made");
        assert!(said.contains(refusal) && said.contains("this would change sekuire.ai/"), "{said}");
        let name = namespace["metadata"]["name"].as_str().unwrap_or("made-by-applying");
        let mut applied = namespace.clone();
        applied["metadata"]["name"] = json!(name);
        applied["metadata"].as_object_mut().unwrap().remove("generateName");
        let said = ask(&other, "apply", &format!("/api/v1/namespaces/{name}"), &applied).await.expect_err("applied");
        assert!(said.contains(refusal), "{said}");
        ask(&platform, "POST", "/api/v1/namespaces", &namespace).await.unwrap();
    }
}

/// Each way, with a namespace of its own that has the label.
async fn ways_of(cluster: &Cluster, client: &Client) -> Vec<(String, (&'static str, String, Value))> {
    let model = cluster.namespace_with("model", &[(WORKSPACE, "ws_a")]).await;
    let mut all = Vec::new();
    for (verb, path, body) in ways(client, &model).await {
        let name = cluster.namespace_with("attacked", &[(WORKSPACE, "ws_a")]).await;
        let body = serde_json::from_str(&body.to_string().replace(&model, &name)).unwrap();
        all.push((name.clone(), (verb, path.replace(&model, &name), body)));
    }
    all
}

#[tokio::test]
async fn what_concerns_no_label_of_ours_is_free_and_such_a_namespace_can_be_deleted_by_its_owner() {
    if !has_controller_manager() {
        skip!("no kube-controller-manager in KUBEBUILDER_ASSETS");
    }
    let cluster = Cluster::options().controller_manager().start().await;
    allow_everything(&cluster).await;
    protect_labels(&cluster).await;
    let other = client_as(&cluster, "otto", &[OTHERS]).await;
    let labels = [(WORKSPACE, "ws_a"), ("sekuire.ai/enforcement", "warn"), ("team", "a")];
    let bound = cluster.namespace_with("bound", &labels).await;
    let path = format!("/api/v1/namespaces/{bound}");
    until("the policy is in force", async || {
        let patch = json!({"metadata": {"labels": {WORKSPACE: "ws_b"}}});
        ask(&other, "merge", &format!("{path}?dryRun=All"), &patch).await.map_or(Ok(()), |_| Err("not yet"))
    })
    .await;
    let before = label(&other, &bound).await;
    for part in ["", "/status"] {
        for change in [
            json!({"labels": {"team": "b", "sekuire": "x", "example.com/sekuire.ai": "y"}}),
            json!({"annotations": {"sekuire.ai/note": "annotations are free"}}),
            json!({"labels": {"team": null}}),
        ] {
            ask(&other, "merge", &format!("{path}{part}"), &json!({"metadata": change})).await.unwrap();
        }
    }
    let mut finalized = whole(&other, &bound, Some("ws_a")).await;
    finalized["metadata"]["labels"]["team"] = json!("c");
    ask(&other, "PUT", &format!("{path}/finalize"), &finalized).await.unwrap();
    assert_eq!(label(&other, &bound).await, before);
    let plain = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "plain"}});
    ask(&other, "POST", "/api/v1/namespaces", &plain).await.unwrap();
    ask(&other, "POST", &format!("{path}/configmaps"), &json!({"metadata": {"name": "a"}})).await.unwrap();
    for name in ["plain", &bound] {
        ask(&other, "DELETE", &format!("/api/v1/namespaces/{name}"), &json!({})).await.unwrap();
        cluster.kubectl(["wait", "--for=delete", "--timeout=50s", &format!("namespace/{name}")]).await.ok();
    }
}
