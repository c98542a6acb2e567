//! `sekuire.yml` in each of its forms. What it says that a policy judges is judged, and what is not read never complies.

use serde_json::{Value, json};

use super::support::{Desk, Ended};

/// The form of the vendor's public example, with all that it has.
fn example() -> Value {
    json!({
        "project": {"name": "invoice-helper", "version": "1.0.0", "description": "d"},
        "identity": {"model": "gemini-2.0-flash", "system_prompt_path": "prompts/system.md", "tools_path": "tools.json"},
        "agent": {
            "name": "invoice-helper",
            "llm": {"provider": "google", "model": "gemini-2.0-flash", "api_key_env": "K", "temperature": 0.2, "max_tokens": 8192},
        },
        "capabilities": {"provides": ["docs:create"], "requires": [], "delegates_to": []},
        "a2a": {"timeout_ms": 60000},
        "permissions": {
            "network": {"allowed_hosts": ["*.example.com", "localhost"], "blocked_hosts": []},
            "filesystem": {"allowed_paths": ["./data"], "blocked_paths": ["/etc"]},
        },
        "rate_limits": {
            "requests": {"max_per_minute": 600, "max_per_hour": 500},
            "tokens": {"max_per_minute": 50000, "max_per_hour": 2_000_000},
        },
        "deployment": {"env": [{"name": "PORT"}]},
    })
}

/// A desk with prompt and tools, and a policy of this content.
fn desk(content: &Value) -> Desk {
    let desk = Desk::new();
    std::fs::create_dir_all(desk.path("prompts")).unwrap();
    desk.write("prompts/system.md", "You help with invoices.\n");
    desk.write("system_prompt.md", "You help with invoices.\n");
    desk.write(
        "tools.json",
        r#"[{"name": "find_invoice", "description": "finds one", "parameters": {"type": "object"}}]"#,
    );
    let policy =
        json!({"policy_id": "p", "workspace_id": "ws_a", "version": "1", "status": "active", "content": content});
    desk.write("p.json", &policy.to_string());
    assert_eq!(desk.sign(&["p.json"]).code, 0);
    desk
}

fn check(desk: &Desk, config: &Value) -> Ended {
    desk.write("sekuire.yml", &config.to_string());
    desk.run(&["agent", "check", "sekuire.yml", "--policy", "p.json", "--trust", "keys", "-o", "json"])
}

/// The rules that one agent breaks, with their fields.
fn broken(desk: &Desk, config: &Value) -> Vec<(String, String)> {
    let ended = check(desk, config);
    let list: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(list.as_array().unwrap().len(), 1, "{}{}", ended.out, ended.err);
    let violations = list[0]["violations"].as_array().unwrap();
    let text = |v: &Value| v.as_str().unwrap().to_owned();
    violations.iter().map(|v| (text(&v["rule"]), text(&v["field"]))).collect()
}

fn without(mut value: Value, place: &str) -> Value {
    let (parent, name) = place.rsplit_once('/').unwrap();
    value.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(name);
    value
}

#[test]
fn the_vendors_example_is_one_agent_and_complies_where_all_of_it_does() {
    let desk = desk(&json!({
        "agent": {"models": {"allowed_providers": ["google"], "allowed_models": ["gemini-*"]}, "capabilities": {"allowed_tools": ["find_*"]}},
        "permissions": {"network": {"enabled": true, "allowed_domains": ["*.example.com", "localhost"]}, "filesystem": {"enabled": true, "allowed_paths": ["data"]}},
        "rate_limits": {"per_agent": {"requests_per_minute": 500, "tokens_per_hour": 2_000_000}},
    }));
    let ended = check(&desk, &example());
    assert_eq!(ended.code, 0, "{}{}", ended.out, ended.err);
    assert!(ended.err.contains("judged by no rule: project.version, project.description, "), "{}", ended.err);
    for named in
        ["agent.llm.temperature", "permissions.filesystem.blocked_paths", "a2a", "deployment", "capabilities.provides"]
    {
        assert!(ended.err.contains(named), "{named}: {}", ended.err);
    }
}

#[test]
fn what_it_asks_for_is_held_against_the_policy() {
    let desk = desk(&json!({
        "agent": {"models": {"denied_models": ["gemini-*"], "allowed_providers": ["x"]}, "capabilities": {"denied_tools": ["find_*"]}},
        "compliance": {"require_audit_logging": true},
        "permissions": {"network": {"enabled": false}, "filesystem": {"enabled": false}, "api": {"enabled": false}},
        "rate_limits": {"per_agent": {"requests_per_minute": 499, "tokens_per_hour": 1_999_999}},
    }));
    let mut config = example();
    config["permissions"]["api"] = json!({"allowed_services": [{"service_name": "stripe", "endpoints": ["/v1"]}]});
    config["agent"]["llm"]["base_url"] = "https://llm.example.com".into();
    config["agent"]["compliance"] = json!({"audit_logging": false});
    let found = broken(&desk, &config);
    for (rule, field) in [
        ("provider.not_allowed", "spec.model.provider"),
        ("model.blocked", "spec.model.name"),
        ("tool.blocked", "spec.tools[0].name"),
        ("compliance.audit_logging_required", "spec.compliance.auditLogging"),
        ("network.disabled", "spec.permissions.network.allowedHosts[0]"),
        ("network.disabled", "spec.permissions.network.allowedHosts[1]"),
        ("network.disabled", "spec.model.endpoint"),
        ("filesystem.disabled", "spec.permissions.filesystem.allowedPaths[0]"),
        ("api.disabled", "spec.permissions.api.services[0].name"),
        ("rate.exceeded", "spec.rateLimits.requestsPerMinute"),
        ("rate.exceeded", "spec.rateLimits.tokensPerHour"),
    ] {
        assert!(found.contains(&(rule.to_owned(), field.to_owned())), "{rule} {field} is not in {found:?}");
    }
    // an id that is not that of these files
    config["project"]["sekuire_id"] = "0".repeat(64).into();
    assert!(broken(&desk, &config).iter().any(|(rule, _)| rule == "identity.mismatch"));
    // what bounds an hour bounds its minutes
    let hourly =
        without(without(example(), "/rate_limits/requests/max_per_minute"), "/rate_limits/tokens/max_per_hour");
    assert!(broken(&desk, &hourly).iter().filter(|(rule, _)| rule == "rate.exceeded").count() == 2, "{hourly}");
}

#[test]
fn each_form_is_read() {
    let desk = desk(&json!({"agent": {"models": {"allowed_models": ["m"]}}}));
    let llm = json!({"provider": "p", "model": "m", "api_key_env": "K"});
    let section = json!({"name": "a", "system_prompt": "./prompts/system.md", "tools": "./tools.json", "llm": llm});
    let identity = json!({"model": "m", "system_prompt_path": "prompts/system.md", "tools_path": "tools.json"});
    let project = json!({"name": "x", "version": "1"});
    for (form, names) in [
        (json!({"spec_version": "0.1", "project": project, "identity": identity}), &["x"][..]),
        (json!({"project": project, "agent": section}), &["a"]),
        (json!({"project": project, "agents": {"one": section, "two": section}}), &["one", "two"]),
        (json!({"project": project, "llm": llm, "logger": {"enabled": true}}), &["x"]),
        (json!({"project": project, "identity": identity, "agent": section}), &["a"]),
        (json!({"project": project, "identity": identity, "agent": {"name": "a", "llm": llm}}), &["a"]),
        (json!({"project": project, "identity": identity, "agents": {"one": {"llm": llm}}}), &["one"]),
        (
            json!({"project": project, "identity": identity, "agents": {"one": section, "two": section}}),
            &["one", "two", "x"],
        ),
    ] {
        let ended = check(&desk, &form);
        assert_eq!(ended.code, 0, "{form}: {}{}", ended.out, ended.err);
        let list: Value = serde_json::from_str(&ended.out).unwrap();
        let found: Vec<&str> = list.as_array().unwrap().iter().map(|v| v["name"].as_str().unwrap()).collect();
        assert_eq!(found, names, "{form}");
    }
    // tools as a list, under `tools`, and as functions of a model's API
    for tools in [
        r#"{"version": "1", "tools": [{"name": "t", "schema": {}}]}"#,
        r#"[{"type": "function", "function": {"name": "t", "parameters": {}}}]"#,
    ] {
        desk.write("tools.json", tools);
        assert_eq!(check(&desk, &json!({"project": project, "agent": section})).code, 0, "{tools}");
    }
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table of cases")]
fn what_is_not_read_is_named_and_does_not_comply() {
    let desk = desk(&json!({}));
    assert_eq!(check(&desk, &example()).code, 0);
    // a member that nobody knows, in every object
    let mut objects = vec![String::new()];
    let mut stack = vec![(String::new(), example())];
    while let Some((at, value)) = stack.pop() {
        for (name, inner) in value.as_object().unwrap().iter().filter(|(_, inner)| inner.is_object()) {
            // of these nothing is read at all
            if name != "a2a" && name != "deployment" {
                objects.push(format!("{at}/{name}"));
                stack.push((format!("{at}/{name}"), inner.clone()));
            }
        }
    }
    assert!(objects.len() > 8, "{objects:?}");
    for object in objects {
        for name in ["allowed_hostz", "permissions2", "$serde_json::private::RawValue"] {
            let mut config = example();
            config.pointer_mut(&object).unwrap()[name] = json!("x");
            let ended = check(&desk, &config);
            let path = format!("{}.{name}: unknown member", object[object.len().min(1)..].replace('/', "."));
            let refused = ended.code == 1 && ended.err.contains(path.trim_start_matches('.'));
            assert!(refused && ended.out.trim() == "[]", "{object} {name}: {}{}", ended.out, ended.err);
        }
    }
    // members of another type
    for (place, value, said) in [
        ("/permissions", json!([]), "permissions: found a list, expected an object"),
        (
            "/permissions/network/allowed_hosts",
            json!("*"),
            "permissions.network.allowed_hosts: found \"*\", expected a list",
        ),
        (
            "/permissions/network/allowed_hosts",
            json!([7]),
            "allowed_hosts[0]: found 7, expected a text; put it in quotes",
        ),
        (
            "/rate_limits/requests/max_per_minute",
            json!("many"),
            "max_per_minute: found \"many\", expected a whole number",
        ),
        ("/rate_limits/requests/max_per_minute", json!(-1), "expected a whole number"),
        ("/agent/llm/model", json!("other"), "identity and agent describe one agent, and disagree on the model"),
        ("/agent/llm/base_url", json!("${URL:-https://a.example.com}"), "depends on the environment"),
        ("/capabilities/delegates_to", json!(["other"]), "agents that are delegated to cannot be judged"),
        ("/agent/system_prompt", json!("tools.json"), "disagree on the prompt"),
    ] {
        let mut config = example();
        let (parent, name) = place.rsplit_once('/').unwrap();
        config.pointer_mut(parent).unwrap()[name] = value;
        let ended = check(&desk, &config);
        assert_eq!((ended.code, ended.err.contains(said)), (1, true), "{place}: {}", ended.err);
    }
    // what a tool asks for by itself
    desk.write("tools.json", r#"[{"name": "t", "permissions": {"network": ["evil.example.com"]}}]"#);
    let ended = check(&desk, &example());
    assert_eq!(
        (ended.code, ended.err.contains("tools.json[0].permissions: unknown member")),
        (1, true),
        "{}",
        ended.err
    );
    for text in [
        "",
        "permissions: {network: {allowed_hosts: [a]}}\n",
        "- a\n",
        "identity: {\n",
        "identity: {model: a, model: b}\n",
    ] {
        desk.write("sekuire.yml", text);
        let ended = desk.run(&["agent", "check", "sekuire.yml", "--policy", "p.json", "--trust", "keys", "-o", "json"]);
        assert_eq!((ended.code, ended.out.trim()), (1, "[]"), "{text:?}: {}", ended.err);
    }
}
