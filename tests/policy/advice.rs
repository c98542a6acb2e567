//! What deserves a second look.

use sekuire_policy::policy::{AdviceKind, advise};
use serde_json::{Value, json};

fn advised(content: Value) -> Vec<(&'static str, String)> {
    let kind = |kind: AdviceKind| kind.as_str();
    advise(&content).into_iter().map(|advice| (kind(advice.kind), advice.path)).collect()
}

#[test]
fn denials_of_models_or_tools_without_an_allow_list_beside_them_are_never_complete() {
    let models = |models: Value| json!({"agent": {"models": models}});
    let alone = |path: &str| vec![("DenialsAlone", format!("content.{path}"))];
    assert_eq!(advised(models(json!({"denied_models": ["a"]}))), alone("agent.models.denied_models"));
    assert_eq!(advised(models(json!({"blocked_models": ["a"]}))), alone("agent.models.blocked_models"));
    assert_eq!(
        advised(models(json!({"denied_models": ["a"], "allowed_providers": ["b"]}))),
        alone("agent.models.denied_models"),
        "providers are no models"
    );
    for fine in [json!({}), json!({"denied_models": []}), json!({"denied_models": ["a"], "allowed_models": []})] {
        assert_eq!(advised(models(fine)), []);
    }
    let denied = json!({"agent": {"capabilities": {"denied_tools": ["a"]}}, "tools": {"blocked_tools": ["b"]}});
    let both = [alone("agent.capabilities.denied_tools"), alone("tools.blocked_tools")].concat();
    assert_eq!(advised(denied.clone()), both);
    for (path, value) in [
        ("/agent/capabilities/allowed_tools", json!(["x"])),
        ("/tools/allowed_tools", json!([{"name": "x"}])),
        ("/agent/capabilities/require_tool_approval", json!(true)),
    ] {
        let mut closed = denied.clone();
        let (parent, name) = path.rsplit_once('/').unwrap();
        closed.pointer_mut(parent).unwrap()[name] = value;
        assert_eq!(advised(closed), [], "{path}");
    }
}

#[test]
fn entries_that_nothing_can_meet_are_named_with_their_place() {
    let content = json!({
        "agent": {
            "models": {
                "allowed_models": ["gpt-4", " gpt-4"],
                "endpoints": [
                    {"host": "a.b", "provider": "p", "path_prefix": "/v1/"},
                    {"host": "a.b", "provider": "p", "path_prefix": "/"},
                    {"host": "a.b", "provider": "p", "path_prefix": "/a//b"},
                    {"host": "a.b", "provider": "p", "path_prefix": "/a/../b"},
                    {"host": "a.b", "provider": "p", "path_prefix": "/a%2fb"},
                ],
            },
            "images": {"allowed_images": ["a.b:5000/c", "a.b/c:1", "a.b/c@sha256:*", "a.b/*"]},
        },
        "tools": {"allowed_tools": [{"name": "\u{212a}"}]},
    });
    let idle = |path: &str| ("IdleEntry", format!("content.{path}"));
    assert_eq!(
        advised(content.clone()),
        [
            idle("agent.models.allowed_models"),
            idle("tools.allowed_tools"),
            idle("agent.images.allowed_images"),
            idle("agent.images.allowed_images"),
            idle("agent.models.endpoints"),
            idle("agent.models.endpoints"),
            idle("agent.models.endpoints"),
        ]
    );
    let texts: Vec<String> = advise(&content).into_iter().map(|advice| advice.text).collect();
    for (text, place) in
        texts.iter().zip(["allowed_models[1]", "allowed_tools[0].name", "allowed_images[1]", "allowed_images[2]"])
    {
        assert!(text.contains(place), "{text}");
    }
}
