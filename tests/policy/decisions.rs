//! The decision: workspace, policy, and what is printed.

use sekuire_policy::policy::{
    AgentSpec, Decision, Document, Enforced, KeyRing, Subject, TrustedKey, VerifiedPolicy, decide, sign, verify,
};
use serde_json::{Value, json};

use crate::support::{KEY_ID, WORKSPACE, agent, now, policy, private_key, skeleton, time, trusted_key};

fn compliant() -> AgentSpec {
    agent(json!({"model": {"provider": "openai", "name": "gpt-4"}}))
}

fn decide_at(policy: &VerifiedPolicy, workspace: Option<&str>, agent: &AgentSpec, at: &str) -> Decision {
    let subject = Subject { namespace: "team-a", workspace };
    decide(&subject, Enforced::Policy { policy, commit: Some("abc") }, agent, time(at))
}

fn rules(decision: &Decision) -> Vec<(&str, &str)> {
    decision.violations.iter().map(|v| (v.rule, v.field.as_str())).collect()
}

#[test]
fn a_compliant_agent_is_allowed_and_the_policy_is_named() {
    let policy = policy(json!({"agent": {"models": {"allowed_models": ["gpt-4"]}}}));
    let decision = decide_at(&policy, Some(WORKSPACE), &compliant(), "2026-06-01T00:00:00Z");
    let printed = serde_json::to_value(&decision).unwrap();
    let expected = json!({
        "allowed": true,
        "policy": {
            "policy_id": "policy_test",
            "workspace_id": WORKSPACE,
            "version": "1",
            "hash": policy.hash(),
            "signing_key_id": KEY_ID,
            "commit": "abc",
        },
        "violations": [],
        "warnings": [],
    });
    assert_eq!(printed, expected);
}

#[test]
fn a_violation_says_rule_field_value_place_and_what_would_be_accepted() {
    let policy =
        policy(json!({"agent": {"models": {"allowed_models": ["gpt-4", "o1*"], "denied_models": ["x", "o1-m*"]}}}));
    let agent = agent(json!({
        "model": {"provider": "p", "name": "O1-Mini"},
        "fallbackModels": [{"provider": "p", "name": "gpt-5"}],
    }));
    let decision = decide_at(&policy, Some(WORKSPACE), &agent, "2026-06-01T00:00:00Z");
    assert!(!decision.allowed);
    let expected = json!([
        {
            "rule": "model.blocked",
            "field": "spec.model.name",
            "value": "O1-Mini",
            "policyPath": "content.agent.models.denied_models[1]",
            "message": "the model \"O1-Mini\" is blocked by \"o1-m*\"; allowed: \"gpt-4\" and \"o1*\"",
        },
        {
            "rule": "model.not_allowed",
            "field": "spec.fallbackModels[0].name",
            "value": "gpt-5",
            "policyPath": "content.agent.models.allowed_models",
            "message": "the model \"gpt-5\" is not allowed; allowed: \"gpt-4\" and \"o1*\"",
        },
    ]);
    assert_eq!(serde_json::to_value(&decision.violations).unwrap(), expected);
}

#[test]
fn a_namespace_without_label_is_judged_no_further() {
    let policy = policy(json!({"agent": {"models": {"allowed_models": []}}}));
    let mut agent = compliant();
    agent.workspace = Some("ws_other".to_owned());
    let decision = decide_at(&policy, None, &agent, "2026-06-01T00:00:00Z");
    assert_eq!(rules(&decision), [("workspace.unbound", "metadata.namespace")]);
    assert!(!decision.allowed && decision.policy.is_none());
    assert_eq!(decision.violations[0].value, "team-a");
    assert!(decision.violations[0].message.contains("sekuire.ai/workspace"));
}

#[test]
fn another_workspace_than_the_label_is_reported_beside_the_rest() {
    let policy = policy(json!({"agent": {"models": {"allowed_models": []}}}));
    let mut agent = compliant();
    agent.workspace = Some("ws_other".to_owned());
    let decision = decide_at(&policy, Some(WORKSPACE), &agent, "2026-06-01T00:00:00Z");
    assert_eq!(rules(&decision), [("workspace.mismatch", "spec.workspace"), ("model.not_allowed", "spec.model.name")]);
    agent.workspace = Some(WORKSPACE.to_owned());
    let decision = decide_at(&policy, Some(WORKSPACE), &agent, "2026-06-01T00:00:00Z");
    assert_eq!(rules(&decision), [("model.not_allowed", "spec.model.name")]);
}

#[test]
fn without_a_policy_no_agent_is_admitted() {
    let subject = Subject { namespace: "team-a", workspace: Some(WORKSPACE) };
    let why = "policy_x was archived in version 3";
    let decision = decide(&subject, Enforced::None { why }, &compliant(), now());
    assert_eq!(rules(&decision), [("policy.missing", "metadata.namespace")]);
    assert!(decision.violations[0].message.contains(why));
    assert!(!decision.allowed && decision.policy.is_none());
}

#[test]
fn the_clock_alone_withdraws_a_policy() {
    let mut document = skeleton(json!({"agent": {"models": {"allowed_models": []}}}));
    document["expires_at"] = "2027-01-01T00:00:00Z".into();
    let document = sign(document, &private_key(), KEY_ID, now()).unwrap();
    let keys = KeyRing::new([TrustedKey {
        not_before: Some(time("2026-01-01T00:00:00Z")),
        not_after: Some(time("2028-01-01T00:00:00Z")),
        ..trusted_key()
    }]);
    let policy = verify(Document::from_value(document).unwrap(), &keys, now()).unwrap();
    for (at, rule, words) in [
        ("2025-01-01T00:00:00Z", "policy.missing", "not valid before 2026-01-01T00:00:00Z"),
        ("2026-12-31T23:59:59Z", "model.not_allowed", "nothing is allowed here"),
        ("2027-01-01T00:00:00Z", "policy.expired", "expired at 2027-01-01T00:00:00Z"),
        ("2028-01-01T00:00:00Z", "policy.missing", "past its validity"),
    ] {
        let decision = decide_at(&policy, Some(WORKSPACE), &compliant(), at);
        assert_eq!(decision.violations.len(), 1, "{at}");
        assert_eq!(decision.violations[0].rule, rule, "{at}");
        assert!(decision.violations[0].message.contains(words), "{}", decision.violations[0].message);
        assert!(decision.policy.is_some());
    }
}

#[test]
fn what_is_not_active_or_of_another_workspace_decides_nothing() {
    for (name, value, words) in [
        ("status", "draft", "is a draft"),
        ("status", "archived", "was archived in version 1"),
        ("workspace_id", "ws_b", "is a policy of \"ws_b\""),
    ] {
        let mut document = skeleton(json!({}));
        document[name] = value.into();
        let document = sign(document, &private_key(), KEY_ID, now()).unwrap();
        let keys =
            KeyRing::new([TrustedKey { workspaces: vec![sekuire_policy::policy::Pattern::new("*")], ..trusted_key() }]);
        let policy = verify(Document::from_value(document).unwrap(), &keys, now()).unwrap();
        let decision = decide_at(&policy, Some(WORKSPACE), &compliant(), "2026-06-01T00:00:00Z");
        assert_eq!(rules(&decision), [("policy.missing", "metadata.namespace")]);
        assert!(decision.violations[0].message.contains(words), "{}", decision.violations[0].message);
    }
}

#[test]
fn messages_and_values_are_bounded_whatever_the_agent_says() {
    let many: Vec<String> = (0..5000).map(|i| format!("model-{i}")).collect();
    let policy =
        policy(json!({"agent": {"models": {"allowed_models": many}}, "permissions": {"network": {"enabled": true}}}));
    let long = "xé".repeat(100_000);
    let agent = agent(json!({
        "model": {"provider": "p", "name": long, "endpoint": long},
    }));
    let decision = decide_at(&policy, Some(WORKSPACE), &agent, "2026-06-01T00:00:00Z");
    assert_eq!(decision.violations.len(), 2);
    for violation in &decision.violations {
        assert!(violation.message.len() < 1000 && violation.value.len() < 300, "{violation:?}");
    }
    assert!(decision.violations[0].message.contains("\"model-7\" and 4992 more"));
    let hostile = "x\u{1b}[2J".repeat(100_000);
    let mut spec = json!({"model": {"provider": hostile, "name": hostile}});
    spec["tools"] = json!([{"name": hostile, "server": hostile}]);
    let decision = decide_at(&policy, Some(WORKSPACE), &self::agent(spec), "2026-06-01T00:00:00Z");
    assert_eq!(decision.violations.len(), 4);
    for violation in &decision.violations {
        assert_eq!(violation.rule, "name.invalid");
        assert!(violation.message.len() < 1000 && !violation.message.contains('\u{1b}'), "{violation:?}");
    }
}

#[test]
fn violations_beyond_256_are_counted_and_not_made() {
    let policy = policy(json!({"agent": {"capabilities": {"allowed_tools": []}}}));
    let tools = |number: usize| {
        let tools: Vec<Value> = (0..number).map(|n| json!({"name": format!("t{n}")})).collect();
        agent(json!({"model": {"provider": "p", "name": "m"}, "tools": tools}))
    };
    for (number, listed, omitted) in [(1, 1, 0), (256, 256, 0), (257, 256, 1), (5000, 256, 4744)] {
        let decision = decide_at(&policy, Some(WORKSPACE), &tools(number), "2026-06-01T00:00:00Z");
        assert_eq!((decision.violations.len(), decision.omitted, decision.count()), (listed, omitted, number));
        let printed = serde_json::to_value(&decision).unwrap();
        assert_eq!(printed.get("omitted").and_then(Value::as_u64), (omitted > 0).then_some(omitted as u64));
        let tried = sekuire_policy::policy::rehearse(&policy, &tools(number));
        assert_eq!((tried.violations, tried.omitted), (decision.violations, decision.omitted));
    }
}

#[test]
fn the_agents_schema_refuses_unknown_fields() {
    let unknown: Result<AgentSpec, _> =
        serde_json::from_value(json!({"model": {"provider": "a", "name": "b"}, "tool": []}));
    assert!(unknown.unwrap_err().to_string().contains("unknown field `tool`"));
    let spec: Value = json!({"model": {"provider": "a", "name": "b"}});
    assert_eq!(serde_json::to_value(agent(spec.clone())).unwrap(), spec, "what is absent stays absent");
}
