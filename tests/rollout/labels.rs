//! The policy that protects the labels of namespaces, on a real API server: every way in which a label can be written.

use kube::Client;
use serde_json::{Value, json};

use super::support::{LABELS, OTHERS, PLATFORM, allow_everything, ask, client_as, protect_labels, protect_labels_but};
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

/// Who may set what, in the tests below.
fn rules() -> Value {
    json!([
        {"groups": ["gitops"], "workspaces": ["ws_a", "ws_b_*"], "namespaces": ["team-a-*", "exact"], "enforcement": []},
        {"groups": ["gitops", "on-call"], "workspaces": [], "namespaces": ["team-*"], "enforcement": ["warn"]},
        {"groups": ["tenants"], "workspaces": ["ws_a"], "namespaces": ["team-a-*"], "enforcement": []},
    ])
}

/// Group, namespace, workspace and mode before and after, and whether that is allowed. `-` is no label.
type Move = (&'static str, &'static str, [&'static str; 2], [&'static str; 2], bool);

const MOVES: [Move; 25] = [
    ("gitops", "team-a-1", ["-", "ws_a"], ["-", "-"], true),
    ("gitops", "exact", ["-", "ws_a"], ["-", "-"], true),
    ("gitops", "team-a-2", ["-", "ws_b_1"], ["-", "-"], true),
    ("gitops", "team-a-3", ["ws_a", "ws_b_1"], ["-", "-"], true),
    ("gitops", "team-a-4", ["ws_a", "-"], ["-", "-"], true),
    ("gitops", "team-a-5", ["-", "-"], ["-", "warn"], true),
    ("gitops", "team-b-1", ["-", "-"], ["warn", "-"], true),
    ("gitops", "team-a-6", ["-", "ws_a"], ["-", "warn"], true),
    ("on-call", "team-b-2", ["ws_x", "ws_x"], ["-", "warn"], true),
    ("tenants", "team-a-7", ["-", "ws_a"], ["-", "-"], true),
    ("gitops", "team-a-8", ["-", "ws_c"], ["-", "-"], false),
    ("gitops", "team-a-9", ["-", "ws_a1"], ["-", "-"], false),
    ("gitops", "team-a-10", ["-", "ws"], ["-", "-"], false),
    ("gitops", "team-a-11", ["ws_x", "ws_a"], ["-", "-"], false),
    ("gitops", "team-a-12", ["ws_x", "-"], ["-", "-"], false),
    ("gitops", "team-b-3", ["-", "ws_a"], ["-", "-"], false),
    ("gitops", "exact-1", ["-", "ws_a"], ["-", "-"], false),
    ("gitops", "team-a", ["-", "ws_a"], ["-", "-"], false),
    ("gitops", "team-a-13", ["-", "-"], ["-", "audit"], false),
    ("gitops", "team-a-14", ["-", "-"], ["audit", "-"], false),
    ("gitops", "team-a-15", ["-", "ws_a"], ["-", "audit"], false),
    ("on-call", "team-a-16", ["-", "ws_a"], ["-", "warn"], false),
    ("tenants", "team-a-17", ["-", "-"], ["-", "warn"], false),
    ("tenants", "team-a-18", ["-", "ws_b_1"], ["-", "-"], false),
    ("nobody", "team-a-19", ["-", "ws_a"], ["-", "-"], false),
];

fn labelled(workspace: &str, mode: &str) -> Value {
    let mut labels = json!({});
    for (key, value) in [(WORKSPACE, workspace), ("sekuire.ai/enforcement", mode)] {
        if value != "-" {
            labels[key] = json!(value);
        }
    }
    labels
}

#[tokio::test]
async fn a_rule_lets_its_groups_give_and_take_these_values_in_these_namespaces_and_nothing_else() {
    let cluster = Cluster::start().await;
    allow_everything(&cluster).await;
    protect_labels_but(&cluster, &rules()).await;
    let platform = client_as(&cluster, "pia", &[PLATFORM]).await;
    let nobody = client_as(&cluster, "otto", &[OTHERS]).await;
    let namespace = |name: &str, labels: Value| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
    until("the policy is in force", async || {
        let probe = namespace("probe", labelled("ws_a", "-"));
        ask(&nobody, "POST", "/api/v1/namespaces?dryRun=All", &probe).await.map_or(Ok(()), |_| Err("not yet"))
    })
    .await;
    for (group, name, workspaces, modes, allowed) in MOVES {
        let client = client_as(&cluster, "gita", &[OTHERS, group]).await;
        let case = format!("{group} {name} {workspaces:?} {modes:?}");
        let judge = |said: Result<Value, String>, how: &str| match said {
            Ok(_) => assert!(allowed, "{case}: {how} was allowed"),
            Err(why) => assert!(
                !allowed && why.contains("as a rule of the chart's labelPolicy.rules allows it"),
                "{case}: {how}: {why}"
            ),
        };
        let before = namespace(name, labelled(workspaces[0], modes[0]));
        let after = namespace(name, labelled(workspaces[1], modes[1]));
        if workspaces[0] == "-" && modes[0] == "-" {
            judge(ask(&client, "POST", "/api/v1/namespaces?dryRun=All", &after).await, "creating");
        }
        ask(&platform, "POST", "/api/v1/namespaces", &before).await.unwrap();
        let path = format!("/api/v1/namespaces/{name}");
        judge(ask(&client, "PUT", &format!("{path}?dryRun=All"), &after).await, "putting");
        let other = json!({"metadata": {"labels": {"sekuire.ai/other": "x"}}});
        let said =
            ask(&client, "merge", &format!("{path}?dryRun=All"), &other).await.expect_err("no rule is for others");
        assert!(said.contains("this would change sekuire.ai/other"), "{said}");
        let mut patch = json!({"metadata": {"labels": {WORKSPACE: null, "sekuire.ai/enforcement": null}}});
        for (key, value) in after["metadata"]["labels"].as_object().unwrap() {
            patch["metadata"]["labels"][key] = value.clone();
        }
        judge(ask(&client, "merge", &path, &patch).await, "patching");
        let expected = if allowed { &after } else { &before };
        assert_eq!(label(&platform, name).await, expected["metadata"]["labels"], "{case}");
    }
}

#[tokio::test]
async fn what_a_mutation_adds_to_a_namespace_of_a_tenant_passes_if_a_rule_allows_the_value() {
    let cluster = Cluster::start().await;
    allow_everything(&cluster).await;
    protect_labels_but(&cluster, &rules()).await;
    // as Capsule and Kyverno do it, by the API server's own means
    let mutation = json!({
        "failurePolicy": "Fail", "reinvocationPolicy": "Never",
        "matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["namespaces"]}]},
        "matchConditions": [{"name": "tenants", "expression": "'tenants' in request.userInfo.groups"}],
        "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression":
            "Object{metadata: Object.metadata{labels: {'sekuire.ai/workspace': object.metadata.?annotations['tenant'].orValue('ws_a')}}}"}}],
    });
    let of = |kind: &str, spec: Value| json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": "tenants"}, "spec": spec});
    cluster.apply(&of("MutatingAdmissionPolicy", mutation).to_string()).await.ok();
    cluster.apply(&of("MutatingAdmissionPolicyBinding", json!({"policyName": "tenants"})).to_string()).await.ok();
    let tenant = client_as(&cluster, "tina", &[OTHERS, "tenants"]).await;
    let make = async |name: &str, workspace: &str| {
        let metadata = json!({"name": name, "annotations": {"tenant": workspace}});
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata});
        ask(&tenant, "POST", "/api/v1/namespaces?dryRun=All", &namespace).await
    };
    until("both policies are in force", async || {
        make("team-a-1", "ws_x").await.map_or(Ok(()), |made| Err(made.to_string()))
    })
    .await;
    assert_eq!(make("team-a-1", "ws_a").await.unwrap()["metadata"]["labels"][WORKSPACE], "ws_a");
    for (name, workspace) in [("team-a-1", "ws_b_1"), ("team-b-1", "ws_a")] {
        let why = make(name, workspace).await.expect_err(name);
        assert!(why.contains("this would change sekuire.ai/workspace"), "{why}");
    }
}
