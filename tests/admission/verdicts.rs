//! Verdicts of the webhook, over its real server and index.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::StatusCode;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use sekuire_policy::admission::routes::Handler as _;
use sekuire_policy::admission::{PolicyIndex, Webhook};
use sekuire_policy::api::{PolicyLedger, PolicyLedgerSpec};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::world;

/// The response to an agent of this spec.
async fn verdict(index: &Arc<PolicyIndex>, namespace: &str, spec: &Value) -> Value {
    let answer = Webhook::new(index.clone()).validate(world::review(namespace, spec).into()).await;
    assert_eq!(answer.status, StatusCode::OK);
    let review: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(review["response"]["uid"], "705ab4f5-6393-11e8-b7cc-42010a800002");
    review["response"].clone()
}

fn message(response: &Value) -> &str {
    response["status"]["message"].as_str().unwrap()
}

#[tokio::test]
async fn a_compliant_agent_is_admitted_in_each_workspace() {
    let index = world::index(3);
    for namespace in ["team-0", "team-1", "team-2"] {
        let response = verdict(&index, namespace, &world::compliant()).await;
        assert_eq!(response["allowed"], true, "{response}");
    }
}

#[tokio::test]
async fn a_non_compliant_agent_is_refused_with_policy_commit_key_and_every_violation() {
    let index = world::index(1);
    let mut spec = world::compliant();
    spec["model"] = json!({"provider": "acme", "name": "gpt-4-32k"});
    spec["tools"] = json!([{"name": "shell_exec"}]);
    let response = verdict(&index, "team-0", &spec).await;
    assert_eq!(response["allowed"], false);
    assert_eq!(response["status"]["code"], 403);
    assert_eq!(response["status"]["reason"], "Forbidden");
    let message = message(&response);
    let opening = format!(
        "Agent team-0/scout is refused for 3 violations of policy policy_ws_0 version 3 (workspace ws_0, commit {}, signed \
         with key_test):\n",
        world::COMMIT
    );
    assert!(message.starts_with(&opening), "{message}");
    let causes: Vec<(&str, &str)> = response["status"]["details"]["causes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|cause| (cause["field"].as_str().unwrap(), cause["reason"].as_str().unwrap()))
        .collect();
    let mut expected = [
        ("spec.model.provider", "provider.not_allowed"),
        ("spec.model.name", "model.blocked"),
        ("spec.tools[0].name", "tool.blocked"),
    ];
    let mut found = causes.clone();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
    for (field, rule) in causes {
        assert!(message.contains(&format!("\n- {field}")) && message.contains(&format!("[{rule}]")), "{message}");
    }
}

#[tokio::test]
async fn a_namespace_without_label_and_one_never_seen_are_unbound_and_say_that_they_were_waited_for() {
    let index = world::index(1);
    index.bindings.set("bare", None);
    let response = verdict(&index, "bare", &world::compliant()).await;
    assert_eq!(response["status"]["details"]["causes"][0]["reason"], "workspace.unbound");
    assert!(message(&response).contains("waited a second for the namespace's label"), "{response}");
    let response = verdict(&index, "nowhere", &world::compliant()).await;
    assert_eq!(response["status"]["details"]["causes"][0]["reason"], "workspace.unbound");
    assert!(message(&response).contains("has not seen the namespace yet"), "{response}");
}

#[tokio::test]
async fn a_label_that_arrives_a_moment_later_is_waited_for() {
    let index = world::index(1);
    let late = index.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(100)).await;
        late.bindings.set("late", Some("ws_0"));
    });
    assert_eq!(verdict(&index, "late", &world::compliant()).await["allowed"], true);
}

#[tokio::test]
async fn a_flood_into_a_namespace_without_label_is_not_waited_for_and_holds_up_nobody() {
    let index = world::index(1);
    for _ in 0..20 {
        let start = Instant::now();
        let (at_once, waiting) = flood(&index).await;
        // those who wait do so for a second: a machine that takes longer for all the others shows nothing
        if start.elapsed() < Duration::from_millis(900) {
            assert_eq!((at_once, waiting), (136, 64));
            return;
        }
    }
    panic!("no flood was over within a second");
}

/// How many of 200 requests into a namespace that nobody knows are answered at once, and how many still wait when one into
/// another namespace has been answered.
async fn flood(index: &Arc<PolicyIndex>) -> (usize, usize) {
    let webhook = Arc::new(Webhook::new(index.clone()));
    let mut flood = JoinSet::new();
    for _ in 0..200 {
        let webhook = webhook.clone();
        flood.spawn(async move { webhook.validate(world::review("nowhere", &world::compliant()).into()).await });
    }
    let mut at_once = 0;
    while let Some(answer) = flood.join_next().await {
        let body = String::from_utf8(answer.unwrap().body.to_vec()).unwrap();
        assert!(body.contains("workspace.unbound"), "{body}");
        if !body.contains("too many others") {
            break;
        }
        at_once += 1;
        if at_once == 136 {
            let answer = webhook.validate(world::review("team-0", &world::compliant()).into()).await;
            assert!(answer.body.windows(14).any(|window| window == b"\"allowed\":true"));
            break;
        }
    }
    (at_once, flood.len())
}

#[tokio::test]
async fn the_agents_own_word_on_its_workspace_chooses_nothing() {
    let index = world::index(2);
    let mut spec = world::compliant();
    spec["workspace"] = json!("ws_1");
    let response = verdict(&index, "team-0", &spec).await;
    assert_eq!(response["status"]["details"]["causes"][0]["reason"], "workspace.mismatch");
}

#[tokio::test]
async fn a_workspace_without_policy_admits_nobody_and_says_so() {
    let index = world::index(0);
    index.bindings.set("empty", Some("ws_none"));
    let response = verdict(&index, "empty", &world::compliant()).await;
    assert_eq!(response["status"]["details"]["causes"][0]["reason"], "policy.missing");
    assert!(message(&response).starts_with("Agent empty/scout is refused:\n- metadata.namespace: "), "{response}");
}

#[tokio::test]
async fn before_the_caches_are_judged_everybody_is_refused() {
    let index = world::filling(1);
    let response = verdict(&index, "team-0", &world::compliant()).await;
    assert_eq!((&response["allowed"], &response["status"]["code"]), (&json!(false), &json!(503)));
    assert!(message(&response).contains("waiting for the first list of workspacepolicies"), "{response}");
}

#[tokio::test]
async fn what_is_no_review_is_refused_in_words() {
    let answer = Webhook::new(world::index(1)).validate("rubbish".into()).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
}

/// Has break glass open for an hour.
fn open_glass(index: &PolicyIndex) {
    let until = jiff::Timestamp::now() + Duration::from_secs(3600);
    index.break_glass.saw(Some(&[("sekuire.ai/break-glass".to_owned(), format!("{until} INC-1"))].into()));
}

#[tokio::test]
async fn while_break_glass_is_open_all_is_admitted_that_would_be_refused_and_the_reason_is_told() {
    let (ready, filling) = (world::index(1), world::filling(1));
    let mut breaking = world::compliant();
    breaking["tools"] = json!([{"name": "shell_exec"}]);
    let mut misspelt = world::compliant();
    misspelt["modle"] = json!({});
    for (index, namespace, spec, words) in [
        (&ready, "team-0", &breaking, "[tool.blocked]"),
        (&ready, "nowhere", &world::compliant(), "[workspace.unbound]"),
        (&ready, "team-0", &misspelt, "would be refused: Agent team-0/scout is not understood"),
        (&filling, "team-0", &world::compliant(), "would be refused: waiting for the first list of"),
    ] {
        assert_eq!(verdict(index, namespace, spec).await["allowed"], false, "{words}");
        open_glass(index);
        let response = verdict(index, namespace, spec).await;
        assert_eq!((&response["allowed"], &response["status"]), (&json!(true), &Value::Null), "{words}");
        assert!(response["warnings"][0].as_str().unwrap().contains("break glass is open until"), "{response}");
        assert!(response["warnings"].to_string().contains(words), "{response}");
        assert_eq!(response["auditAnnotations"]["mode"], "break-glass");
        index.break_glass.saw(None);
    }
    // an agent that complies is admitted without a word, and what is no review is no agent
    open_glass(&ready);
    let response = verdict(&ready, "team-0", &world::compliant()).await;
    assert_eq!(response, json!({"uid": response["uid"], "allowed": true}));
    let answer = Webhook::new(ready).validate("rubbish".into()).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
}

/// The chart's policy that protects labels, and its binding, as a watch brings them.
fn protect_labels(index: &PolicyIndex) {
    const NAME: &str = "labels";
    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/sekuire-policy-controller/files/label-policy.yaml");
    let spec: Value = serde_yaml::from_str(&std::fs::read_to_string(chart).unwrap()).unwrap();
    let policy = json!({"metadata": {"name": NAME}, "spec": spec});
    let binding = json!({"metadata": {"name": NAME}, "spec": {"policyName": NAME, "validationActions": ["Deny"]}});
    index.label_policy.named(NAME);
    index.label_policy.saw_policy(Some(&serde_json::from_value(policy).unwrap()));
    index.label_policy.saw_binding(Some(&serde_json::from_value(binding).unwrap()));
}

#[tokio::test]
async fn a_mode_is_obeyed_where_labels_are_protected_and_nowhere_else() {
    use sekuire_policy::admission::mode::{Label, Mode};
    let index = world::index(1);
    let mut breaking = world::compliant();
    breaking["tools"] = json!([{"name": "shell_exec"}]);
    let set = |mode: Option<Mode>| {
        let label = mode.map_or(Label::Absent, Label::Known);
        index.bindings.set_labels("team-0", Some("ws_0"), label);
    };
    for mode in [Mode::Warn, Mode::Audit] {
        set(Some(mode));
        let response = verdict(&index, "team-0", &breaking).await;
        assert!(message(&response).contains("but such labels are not obeyed"), "{response}");
        assert_eq!(response["auditAnnotations"], Value::Null);
    }
    protect_labels(&index);
    for mode in [Mode::Warn, Mode::Audit] {
        set(Some(mode));
        let response = verdict(&index, "team-0", &breaking).await;
        assert_eq!(response["allowed"], true, "{response}");
        assert_eq!(response["auditAnnotations"]["mode"], mode.as_str());
        assert_eq!(response["warnings"].to_string().contains("[tool.blocked]"), mode == Mode::Warn, "{response}");
        // an agent that complies is told nothing
        let response = verdict(&index, "team-0", &world::compliant()).await;
        assert_eq!(response, json!({"uid": response["uid"], "allowed": true}));
    }
    for mode in [None, Some(Mode::Enforce)] {
        set(mode);
        assert_eq!(verdict(&index, "team-0", &breaking).await["allowed"], false, "{mode:?}");
    }
    // and no more once the policy is gone
    set(Some(Mode::Warn));
    index.label_policy.saw_policy(None);
    assert_eq!(verdict(&index, "team-0", &breaking).await["allowed"], false);
}

#[test]
fn what_an_api_server_answered_does_not_undo_what_a_watch_has_brought_since() {
    let index = world::index(1);
    let known = index.view("ws-0").ledger.unwrap().spec;
    let ledger = |uid: &str, resource_version: &str, version: &str| {
        let metadata = ObjectMeta {
            name: Some("ws-0".to_owned()),
            uid: Some(uid.to_owned()),
            resource_version: Some(resource_version.to_owned()),
            ..ObjectMeta::default()
        };
        PolicyLedger { metadata, spec: PolicyLedgerSpec { version: version.parse().unwrap(), ..known.clone() } }
    };
    let marked = || index.view("ws-0").ledger.unwrap().mark.version.to_string();
    let now = Timestamp::now();
    // it was put back, and lowered again before the answer was read
    let asked = index.view("ws-0").deletions;
    index.ledger_seen(ledger("one", "12", "1"), now);
    index.ledger_answered(Ok(Box::new(ledger("one", "11", "3"))), asked, now);
    assert_eq!(marked(), "1");
    index.ledger_answered(Ok(Box::new(ledger("one", "13", "3"))), asked, now);
    assert_eq!(marked(), "3");
    // made anew, in a cluster that counts from elsewhere; and what a list brings counts in any case
    index.ledger_answered(Ok(Box::new(ledger("two", "4", "2"))), asked, now);
    assert_eq!(marked(), "2");
    index.ledger_seen(ledger("two", "3", "3"), now);
    assert_eq!(marked(), "3");
    // deleted before the answer was read: it would be taken for one that is there until the next list
    index.ledger_gone("ws-0", now);
    index.ledger_answered(Ok(Box::new(ledger("two", "5", "3"))), asked, now);
    assert!(index.view("ws-0").ledger.is_none());
    let asked = index.view("ws-0").deletions;
    index.ledger_answered(Ok(Box::new(ledger("three", "6", "3"))), asked, now);
    assert_eq!(marked(), "3");
}
