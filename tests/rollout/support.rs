//! The policies that the chart protects labels and objects with, and ways to ask as somebody.

use std::time::{Duration, Instant};

use bytes::Bytes;
use kube::{Client, Config, client::Body};
use serde_json::{Value, json};

use crate::admission::client::{Connection, blind};
use crate::admission::world;
use crate::cluster::{Cluster, Controller, User};
use crate::resilience::support::{DENIED, until};

/// Name of the policy that protects the labels, and of its binding.
pub(super) const LABELS: &str = "sekuire-policy-controller-labels";
/// Name of the one that protects what the controller writes.
pub(super) const WRITERS: &str = "sekuire-policy-controller-writers";
/// The controller's account, as the chart names it by default.
pub(super) const CONTROLLER: &str = "system:serviceaccount:sekuire-system:sekuire-policy-controller";
/// The group that may set labels in these tests.
pub(super) const PLATFORM: &str = "platform-team";
/// A group that RBAC lets do everything, and no policy.
pub(super) const OTHERS: &str = "others";

/// A file of the chart as the chart renders it for this group.
fn spec(file: &str) -> Value {
    let path = format!("{}/charts/sekuire-policy-controller/files/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("read {path}: {e}"));
    let filled = text.replace("[\"system:masters\"]", &json!([PLATFORM, "system:masters"]).to_string());
    assert_ne!(text, filled, "the place of the groups");
    serde_yaml::from_str(&filled).unwrap()
}

fn kind(kind: &str, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

fn binding(name: &str) -> Value {
    let spec = json!({"policyName": name, "validationActions": ["Deny"]});
    kind("ValidatingAdmissionPolicyBinding", name, &spec)
}

/// Applies the policy that protects labels, and its binding.
pub(super) async fn protect_labels(cluster: &Cluster) {
    protect_labels_but(cluster, &json!([])).await;
}

/// The same with rules for others, as the chart writes them.
pub(super) async fn protect_labels_but(cluster: &Cluster, rules: &Value) {
    let mut spec = spec("label-policy.yaml");
    let place = &mut spec["variables"][1];
    assert_eq!(*place, json!({"name": "rules", "expression": "[]"}), "the place of the rules");
    place["expression"] = json!(rules.to_string());
    cluster.apply(&kind("ValidatingAdmissionPolicy", LABELS, &spec).to_string()).await.ok();
    cluster.apply(&binding(LABELS).to_string()).await.ok();
}

/// Applies the policy that protects what the controller writes, and its binding.
pub(super) async fn protect_objects(cluster: &Cluster) {
    cluster.apply(&kind("ValidatingAdmissionPolicy", WRITERS, &spec("writer-policy.yaml")).to_string()).await.ok();
    cluster.apply(&binding(WRITERS).to_string()).await.ok();
}

/// Lets RBAC allow everything to whoever asks in these tests, so that what is refused is refused by a policy.
pub(super) async fn allow_everything(cluster: &Cluster) {
    let groups = [format!("--group={PLATFORM}"), format!("--group={OTHERS}")];
    let user = format!("--user={CONTROLLER}");
    let args = ["create", "clusterrolebinding", "all", "--clusterrole=cluster-admin", &groups[0], &groups[1], &user];
    cluster.kubectl(args).await.ok();
    // RBAC is read from a watch of the API server's own; until it has brought this, others are refused for another reason
    for who in [&["pia", "--as-group", PLATFORM][..], &["otto", "--as-group", OTHERS], &[CONTROLLER]] {
        until("RBAC has heard of the binding", async || {
            let args = [&["auth", "can-i", "*", "*", "--as"], who].concat();
            let ran = cluster.kubectl_as(User::ADMIN, &args, "").await;
            if ran.succeeded() { Ok(()) } else { Err(ran) }
        })
        .await;
    }
}

/// A client of a user in a group.
pub(crate) async fn client_as(cluster: &Cluster, user: &str, groups: &[&str]) -> Client {
    let kubeconfig = kube::config::Kubeconfig::read_from(cluster.kubeconfig(User::ADMIN)).unwrap();
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await.unwrap();
    config.auth_info.impersonate = Some(user.to_owned());
    config.auth_info.impersonate_groups = Some(groups.iter().map(|group| (*group).to_owned()).collect());
    Client::try_from(config).unwrap()
}

/// One request: what came back, or the words of the refusal.
pub(crate) async fn ask(client: &Client, way: &str, path: &str, body: &Value) -> Result<Value, String> {
    let (method, content_type) = match way {
        "POST" | "PUT" | "DELETE" => (way, "application/json"),
        "apply" => ("PATCH", "application/apply-patch+yaml"),
        "merge" => ("PATCH", "application/merge-patch+json"),
        "strategic" => ("PATCH", "application/strategic-merge-patch+json"),
        "json" => ("PATCH", "application/json-patch+json"),
        other => panic!("{other}"),
    };
    let path = if way == "apply" { format!("{path}?fieldManager=test&force=true") } else { path.to_owned() };
    let request = http::Request::builder().method(method).uri(&path).header("content-type", content_type);
    let request = request.body(Body::from(Bytes::from(body.to_string()))).unwrap();
    let response = client.send(request).await.unwrap();
    let status = response.status();
    let bytes = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
    let answer: Value = serde_json::from_slice(&bytes).unwrap_or_else(|e| panic!("{way} {path}: {e}: {bytes:?}"));
    if status.is_success() { Ok(answer) } else { Err(answer["message"].as_str().unwrap_or_default().to_owned()) }
}

/// What this one replica answers to an agent that uses a denied tool, asked as an API server asks; the `response`.
pub(super) async fn answer_of(replica: &Controller, namespace: &str) -> Value {
    let address = replica.url().trim_start_matches("https://").parse().unwrap();
    let mut connection = Connection::open(address, "localhost", blind()).await.unwrap();
    let spec = json!({"model": {"provider": "p", "name": "m"}, "tools": [{"name": DENIED}]});
    let reply = connection.post("/validate", world::review(namespace, &spec)).await.unwrap();
    reply.json()["response"].clone()
}

/// How long it takes from now until each of these replicas admits such an agent, or none does.
pub(super) async fn takes_effect(replicas: &[&Controller], namespace: &str, admits: bool) -> Duration {
    let start = Instant::now();
    for replica in replicas {
        until(&format!("{} says {admits}", replica.identity()), async || {
            let answer = answer_of(replica, namespace).await;
            if answer["allowed"] == admits { Ok(()) } else { Err(answer) }
        })
        .await;
    }
    start.elapsed()
}

/// What of it counts as "within a second": a machine that is busy with other things shows nothing.
pub(super) fn fastest_within_a_second(took: &[Duration]) {
    println!("took effect after {took:?}");
    assert!(took.iter().min().unwrap() < &Duration::from_secs(1), "{took:?}");
}
