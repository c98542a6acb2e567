//! What agent teams try, to be taken for what they are not: through the API server, against the real controller.

use kube::Api;
use kube::api::PostParams;
use sekuire_policy::api::Agent;
use serde_json::{Value, json};

use crate::reconcile::tenant::{Tenant, eventually};

/// A team with this policy, in force in the namespace.
async fn under(content: Value) -> (Tenant, String) {
    let team = Tenant::with_files(async |team: &Tenant| {
        let document = team.signer.active(&team.workspace("a"), "1", content);
        team.commit(&[("a.json", &document)]).await;
    })
    .await;
    team.enforced("a", "1").await;
    let namespace = team.namespace("a").await;
    eventually("a compliant agent is admitted", async || match causes(&team, &namespace, json!({})).await {
        causes if causes.is_empty() => Ok(()),
        causes => Err(format!("{causes:?}")),
    })
    .await;
    (team, namespace)
}

/// Field and rule of each violation for which the API server refuses an agent; none: it is admitted.
async fn causes(team: &Tenant, namespace: &str, spec: Value) -> Vec<(String, String)> {
    let mut whole = json!({"model": {"provider": "openai", "name": "gpt-4.1"}});
    let Value::Object(members) = spec else { panic!("a spec is an object") };
    whole.as_object_mut().unwrap().extend(members);
    let agent: Agent = serde_json::from_value(json!({
        "apiVersion": "sekuire.ai/v1alpha1", "kind": "Agent", "metadata": {"generateName": "probe-"}, "spec": whole,
    }))
    .unwrap();
    let api: Api<Agent> = Api::namespaced(team.client.clone(), namespace);
    match api.create(&PostParams { dry_run: true, ..PostParams::default() }, &agent).await {
        Ok(_) => Vec::new(),
        Err(kube::Error::Api(status)) => {
            assert_eq!(status.code, 403, "{status:?}");
            let causes = status.details.as_ref().map(|details| details.causes.clone()).unwrap_or_default();
            assert!(!causes.is_empty(), "{status:?}");
            causes.into_iter().map(|cause| (cause.field, cause.reason)).collect()
        }
        Err(error) => panic!("{error}"),
    }
}

fn one(field: &str, rule: &str) -> Vec<(String, String)> {
    vec![(field.to_owned(), rule.to_owned())]
}

#[tokio::test]
async fn paths_that_could_be_anywhere_or_are_read_in_two_ways_do_not_pass_a_block() {
    let (team, namespace) =
        under(json!({"permissions": {"filesystem": {"enabled": true, "blocked_paths": ["/etc/*"]}}})).await;
    let field = "spec.permissions.filesystem.allowedPaths[0]";
    for (path, rule) in [
        (".", "filesystem.blocked"),
        ("etc/shadow", "filesystem.blocked"),
        ("./data", "filesystem.blocked"),
        ("../x", "filesystem.blocked"),
        ("/data/../etc", "filesystem.blocked"),
        ("~/.ssh", "filesystem.invalid"),
        ("~root", "filesystem.invalid"),
        ("/etc\u{0}/x", "filesystem.invalid"),
        ("/data\n", "filesystem.invalid"),
        ("$HOME/x", "filesystem.invalid"),
        ("/data/${X}", "filesystem.invalid"),
        ("\\etc\\shadow", "filesystem.invalid"),
    ] {
        let spec = json!({"permissions": {"filesystem": {"allowedPaths": [path]}}});
        assert_eq!(causes(&team, &namespace, spec).await, one(field, rule), "{path:?}");
    }
    for path in ["/data", "/data/a~b", "/srv/x y", "/etcetera"] {
        let spec = json!({"permissions": {"filesystem": {"allowedPaths": [path]}}});
        assert_eq!(causes(&team, &namespace, spec).await, [], "{path:?}");
    }
}

#[tokio::test]
async fn names_that_pass_for_others_and_names_behind_prefixes_do_not_pass_a_denial() {
    let (team, namespace) = under(json!({"agent": {
        "models": {"denied_models": ["gpt-4o*"]}, "capabilities": {"denied_tools": ["shell*", "exec"]},
    }}))
    .await;
    for (name, rule) in [
        ("gpt-4o", "model.blocked"),
        ("GPT-4o-mini", "model.blocked"),
        ("openai/gpt-4o", "model.blocked"),
        ("models/openai/gpt-4o", "model.blocked"),
        (" gpt-4o", "name.invalid"),
        ("gpt-4o ", "name.invalid"),
        ("\u{200b}gpt-4o", "name.invalid"),
        ("gpt\u{2060}-4o", "name.invalid"),
        ("\u{ff47}pt-4o", "name.invalid"),
    ] {
        let spec = json!({"model": {"provider": "openai", "name": name}});
        assert_eq!(causes(&team, &namespace, spec).await, one("spec.model.name", rule), "{name:?}");
        let spec = json!({"fallbackModels": [{"provider": "openai", "name": name}]});
        assert_eq!(causes(&team, &namespace, spec).await, one("spec.fallbackModels[0].name", rule), "{name:?}");
    }
    for (name, rule) in [
        ("shell", "tool.blocked"),
        ("mcp__shell__exec", "tool.blocked"),
        ("mcp__os__Exec", "tool.blocked"),
        ("os/shell_run", "tool.blocked"),
        (" shell", "name.invalid"),
        ("sh\u{ad}ell", "name.invalid"),
    ] {
        let spec = json!({"tools": [{"name": "web_search"}, {"name": name}]});
        assert_eq!(causes(&team, &namespace, spec).await, one("spec.tools[1].name", rule), "{name:?}");
    }
    for spec in [
        json!({"model": {"provider": "openai", "name": "openai/gpt-4.1"}}),
        json!({"tools": [{"name": "mcp__web__search"}, {"name": "reshell"}, {"name": "größe"}]}),
    ] {
        assert_eq!(causes(&team, &namespace, spec.clone()).await, [], "{spec}");
    }
}

#[tokio::test]
async fn what_an_agent_says_of_its_provider_server_and_image_is_held_against_what_was_signed() {
    let (team, namespace) = under(json!({"agent": {
        "models": {
            "allowed_providers": ["openai"],
            "endpoints": [
                {"host": "gateway.example.com", "path_prefix": "/openai", "provider": "openai", "models": ["gpt-*"]},
                {"host": "gateway.example.com", "provider": "mistral"},
            ],
        },
        "capabilities": {"allowed_servers": ["tools/*"], "denied_servers": ["shell"], "broker_tools": ["call_tool"], "denied_tools": ["x"]},
        "images": {"allowed_images": ["ghcr.io/acme/*"], "require_digest": true},
    }}))
    .await;
    let model =
        |name: &str, endpoint: &str| json!({"model": {"provider": "openai", "name": name, "endpoint": endpoint}});
    let tool = |name: &str, server: &str| json!({"tools": [{"name": name, "server": server}]});
    let pinned = |image: &str| json!({"image": format!("{image}@sha256:{}", "ab".repeat(32))});
    for (spec, field, rule) in [
        (model("gpt-4.1", "https://llm.attacker.example/v1"), "spec.model.endpoint", "endpoint.unknown"),
        (
            model("gpt-4.1", "https://gateway.example.com.attacker.example/openai"),
            "spec.model.endpoint",
            "endpoint.unknown",
        ),
        (model("gpt-4.1", "https://gateway.example.com/v1"), "spec.model.endpoint", "provider.not_allowed"),
        (
            model("gpt-4.1", "https://gateway.example.com/openai/../mistral"),
            "spec.model.endpoint",
            "provider.not_allowed",
        ),
        (
            model("gpt-4.1", "https://gateway.example.com/openai%2f..%2fmistral"),
            "spec.model.endpoint",
            "provider.not_allowed",
        ),
        (model("o1", "https://gateway.example.com/openai/v1"), "spec.model.name", "model.not_allowed"),
        (tool("run", "elsewhere"), "spec.tools[0].server", "server.not_allowed"),
        (tool("run", "tools/shell"), "spec.tools[0].server", "server.blocked"),
        (tool("run", "tools/search "), "spec.tools[0].server", "name.invalid"),
        (tool("call_tool", "tools/search"), "spec.tools[0].name", "tool.unbounded"),
        (pinned("acme/agent"), "spec.image", "image.not_allowed"),
        (pinned("ghcr.io/acmeevil/agent"), "spec.image", "image.not_allowed"),
        (json!({"image": "ghcr.io/acme/agent:1.2"}), "spec.image", "image.not_pinned"),
    ] {
        assert_eq!(causes(&team, &namespace, spec.clone()).await, one(field, rule), "{spec}");
    }
    for spec in [
        model("gpt-4.1", "https://gateway.example.com/openai/v1?x=1"),
        tool("web_search", "tools/search"),
        json!({"tools": [{"name": "calculator"}]}),
        pinned("ghcr.io/acme/agent:1.2"),
        json!({}),
    ] {
        assert_eq!(causes(&team, &namespace, spec.clone()).await, [], "{spec}");
    }
}
