//! Rules and changes in words.

use sekuire_policy::policy::summary::{Statement, changes, describe};
use serde_json::{Value, json};

fn words(statements: &[Statement]) -> Vec<String> {
    statements.iter().map(|s| format!("{}: {} [{}]", s.group, s.text, s.path)).collect()
}

fn whole() -> Value {
    json!({
        "agent": {
            "models": {"allowed_providers": ["openai", "anthropic"], "denied_models": ["gpt-3*"]},
            "capabilities": {"allowed_tools": ["calc"], "denied_tools": [], "require_tool_approval": true},
        },
        "tools": {"allowed_tools": [{"name": "search", "description": "d"}], "blocked_tools": ["rm\u{1b}[2J"]},
        "compliance": {
            "frameworks": ["soc2"], "require_audit_logging": true, "require_encryption": false, "data_residency": "us",
            "retention_days": 30,
        },
        "permissions": {
            "network": {"enabled": true, "require_tls": true, "allowed_domains": []},
            "filesystem": {"enabled": false, "allowed_paths": ["/data"]},
            "api": {"enabled": true, "allowed_services": [{"service_name": "bill", "endpoints": ["/a", "/b"]}]},
        },
        "rate_limits": {"per_agent": {"requests_per_minute": 60}},
    })
}

#[test]
fn every_rule_is_said_in_words_with_its_place_and_nothing_that_a_terminal_would_obey() {
    let expected = [
        "Models: only the providers \"openai\" and \"anthropic\" [content.agent.models.allowed_providers]",
        "Models: never the model \"gpt-3*\" [content.agent.models.denied_models]",
        "Tools: only tools that an allow list names [content.agent.capabilities.require_tool_approval]",
        "Tools: only the tool \"calc\" (a tool that either list names is allowed) [content.agent.capabilities.allowed_tools]",
        "Tools: only the tool \"search\" (a tool that either list names is allowed) [content.tools.allowed_tools]",
        "Tools: never the tool \"rm\\u{1b}[2J\" [content.tools.blocked_tools]",
        "Compliance: agents declare \"soc2\" [content.compliance.frameworks]",
        "Compliance: agents declare audit logging [content.compliance.require_audit_logging]",
        "Compliance: data stays in \"us\", or in a region of it [content.compliance.data_residency]",
        "Compliance: agents keep data for at least 30 days [content.compliance.retention_days]",
        "Network: no host is allowed [content.permissions.network.allowed_domains]",
        "Network: hosts only over TLS [content.permissions.network.require_tls]",
        "Filesystem: no path may be asked for [content.permissions.filesystem]",
        "API: allowed: the service \"bill\" with \"/a\" and \"/b\" [content.permissions.api.allowed_services]",
        "Limits: at most 60 requests a minute [content.rate_limits.per_agent.requests_per_minute]",
    ];
    assert_eq!(words(&describe(&whole())), expected);
    assert!(describe(&json!({})).is_empty());
    assert!(describe(&json!({"agent": {"models": {"denied_models": []}}, "tools": {}})).is_empty());
}

#[track_caller]
fn differ(old: Value, new: Value, forbidden: &[&str], allowed: &[&str]) {
    let texts = |statements: &[Statement]| statements.iter().map(|s| s.text.clone()).collect::<Vec<_>>();
    let (there, back) = (changes(&old, &new), changes(&new, &old));
    assert_eq!((texts(&there.newly_forbidden), texts(&there.newly_allowed)), (own(forbidden), own(allowed)));
    assert_eq!(back.newly_forbidden.is_empty(), allowed.is_empty(), "the way back forbids what was allowed: {back:?}");
}

fn own(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn a_change_says_what_is_newly_forbidden_and_what_newly_allowed() {
    let models = |list: Value| json!({"agent": {"models": list}});
    differ(models(json!({})), models(json!({"allowed_models": ["a"]})), &["only the model \"a\""], &[]);
    let (a, b) = (models(json!({"denied_models": ["a", "b"]})), models(json!({"denied_models": ["b", "c"]})));
    differ(a, b, &["model \"c\""], &["model \"a\""]);
    let (a, b) = (models(json!({"denied_models": ["a"]})), models(json!({"blocked_models": ["a"]})));
    assert!(changes(&a, &b).is_empty(), "a rename is no change");
    let network = |section: Value| json!({"permissions": {"network": section}});
    differ(json!({}), network(json!({"enabled": false})), &["every host"], &[]);
    differ(
        network(json!({})),
        network(json!({"enabled": true, "allowed_domains": ["a.example"]})),
        &[],
        &["hosts may be asked for: only the host \"a.example\""],
    );
    let approval = |on: bool| json!({"agent": {"capabilities": {"require_tool_approval": on}}});
    differ(approval(false), approval(true), &["no tool is allowed"], &[]);
    let days = |n: u64| json!({"compliance": {"retention_days": n}});
    differ(days(30), days(60), &["agents keep data for at least 60 days"], &[]);
    let rate = |n: u64| json!({"rate_limits": {"per_agent": {"tokens_per_hour": n}}});
    differ(rate(10), rate(20), &[], &["at most 20 tokens an hour"]);
    let service = |endpoints: Value| json!({"permissions": {"api": {"enabled": true, "allowed_services": [{"service_name": "s", "endpoints": endpoints}]}}});
    differ(
        service(json!(["/a"])),
        service(json!(["/b"])),
        &["service \"s\", endpoint \"/a\""],
        &["service \"s\", endpoint \"/b\""],
    );
}
