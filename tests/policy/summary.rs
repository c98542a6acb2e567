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

fn second_part() -> Value {
    json!({"agent": {
        "models": {"endpoints": [
            {"host": "api.openai.com", "provider": "openai"},
            {"host": "*.example.com", "path_prefix": "/a", "provider": "anthropic", "models": ["claude-*"]},
        ]},
        "capabilities": {"allowed_servers": ["tools/*"], "denied_servers": ["shell"], "broker_tools": ["call_tool"]},
        "images": {"allowed_images": ["ghcr.io/acme/*"], "require_digest": true},
        "delegates": {"allowed_workspaces": ["ws_b", "ws_c"]},
        "opaque": {"allowed": false, "accept_declarations": true},
    }})
}

#[test]
fn the_second_part_is_said_in_words() {
    let mut content = second_part();
    let brokers = |content: &Value| {
        let all = words(&describe(content));
        all.into_iter().find(|text| text.contains("broker_tools")).unwrap()
    };
    assert_eq!(
        words(&describe(&content)),
        [
            "Models: endpoints only of these places [content.agent.models.endpoints]",
            "Models: at \"api.openai.com\" the provider \"openai\" [content.agent.models.endpoints]",
            "Models: at \"*.example.com/a\" the provider \"anthropic\", only the model \"claude-*\" [content.agent.models.endpoints]",
            "Tools: only the server \"tools/*\" [content.agent.capabilities.allowed_servers]",
            "Tools: never the server \"shell\" [content.agent.capabilities.denied_servers]",
            "Tools: tools that reach other tools, allowed as every tool is: \"call_tool\" [content.agent.capabilities.broker_tools]",
            "Images: only the image \"ghcr.io/acme/*\" [content.agent.images.allowed_images]",
            "Images: images are named by digest [content.agent.images.require_digest]",
            "Delegates: allowed: delegates of the workspaces \"ws_b\" and \"ws_c\" [content.agent.delegates.allowed_workspaces]",
            "Opaque: allowed: parts that no rule can read, where the agent declares its models [content.agent.opaque.accept_declarations]",
        ]
    );
    content["tools"] = json!({"blocked_tools": ["x"]});
    assert!(brokers(&content).contains("never the tool \"call_tool\", as tools that reach other tools"));
    let empty = json!({"agent": {"models": {"endpoints": []}, "delegates": {"allowed_workspaces": []}, "opaque": {}}});
    assert_eq!(words(&describe(&empty)), ["Models: no model may have an endpoint [content.agent.models.endpoints]"]);
}

#[test]
fn changes_of_the_second_part_are_said_on_the_side_that_feels_them() {
    let images = |list: Value| json!({"agent": {"images": {"allowed_images": list}}});
    differ(json!({}), images(json!(["a.b/*"])), &["only the image \"a.b/*\""], &[]);
    differ(images(json!(["a.b/*"])), images(json!(["a.b/*", "c.d/*"])), &[], &["image \"c.d/*\""]);
    let digest = |on: bool| json!({"agent": {"images": {"require_digest": on}}});
    differ(digest(false), digest(true), &["anything else: images are named by digest"], &[]);
    let brokers = |content: Value| json!({"agent": {"capabilities": content}});
    let bounded = brokers(json!({"denied_tools": ["x"], "broker_tools": ["call_tool"]}));
    differ(brokers(json!({"denied_tools": ["x"]})), bounded, &["tool that reaches others \"call_tool\""], &[]);
    differ(brokers(json!({})), brokers(json!({"broker_tools": ["call_tool"]})), &[], &[]);
    let delegates = |list: Value| json!({"agent": {"delegates": {"allowed_workspaces": list}}});
    differ(json!({}), delegates(json!(["ws_b"])), &[], &["delegates of the workspace \"ws_b\""]);
    let opaque = |on: bool| json!({"agent": {"opaque": {"allowed": on}}});
    differ(opaque(true), opaque(false), &["parts of agents that no rule can read"], &[]);
    let table = |list: Value| json!({"agent": {"models": {"endpoints": list}}});
    let (one, two) = (json!({"host": "a.b", "provider": "p"}), json!({"host": "*", "provider": "q"}));
    let there = changes(&json!({}), &table(json!([one])));
    let text = |statements: &[Statement]| statements.iter().map(|s| s.text.clone()).collect::<Vec<_>>();
    let now = "now at \"a.b\" the provider \"p\", whatever the agent says";
    assert_eq!(text(&there.newly_forbidden), ["endpoints of other places than the table names", now]);
    assert_eq!(text(&there.newly_allowed), [now]);
    let order = changes(&table(json!([one, two])), &table(json!([two, one])));
    assert_eq!(text(&order.newly_forbidden), ["another order of the places, of which the first of two alike counts"]);
    assert_eq!(order.newly_forbidden.len(), order.newly_allowed.len());
}
