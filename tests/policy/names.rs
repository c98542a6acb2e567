//! Names that can pass for others: in every kind of name of an agent, and in every pattern of a policy.

use std::time::Instant;

use sekuire_policy::policy::{Document, Reason, Refusal, judge, verify};
use serde_json::{Value, json};

use crate::support::{agent, now, policy, ring, signed};

/// Each a name that people or programs can take for another one.
const FAULTY: [&str; 24] = [
    " a",
    "a ",
    "\ta",
    "a\n",
    "a\u{a0}",
    "\u{2003}a",
    "a\u{1680}",
    "a\0b",
    "a\u{7f}",
    "a\u{85}b",
    "a\u{200b}b",
    "a\u{200d}b",
    "a\u{202e}b",
    "a\u{ad}b",
    "\u{feff}a",
    "a\u{2028}b",
    "a\u{2029}b",
    "\u{e0041}a",
    "\u{ff45}xec",
    "\u{212a}",
    "e\u{301}",
    "\u{fb01}le",
    "a\u{b2}",
    "\u{1d41a}",
];

/// Names that are none of these, though not plain ASCII.
const FINE: [&str; 9] = ["größe", "工具", "a b", "a\u{1680}b", "кот", "🔧", "نص", "\u{e9}", "a\u{e000}b"];

#[test]
fn a_name_that_can_pass_for_another_is_refused_at_every_place_and_whatever_the_policy_says() {
    let everything = json!({
        "agent": {
            "models": {"allowed_providers": ["*"], "allowed_models": ["*"], "denied_models": ["*"]},
            "capabilities": {"allowed_tools": [], "denied_tools": ["*"], "allowed_servers": [], "broker_tools": ["*"]},
        },
    });
    let places = [
        "spec.model.provider",
        "spec.model.name",
        "spec.fallbackModels[0].provider",
        "spec.fallbackModels[0].name",
        "spec.tools[0].name",
        "spec.tools[0].server",
    ];
    let of = |names: [&str; 6]| {
        let [provider, name, other, second, tool, server] = names;
        agent(json!({
            "model": {"provider": provider, "name": name},
            "fallbackModels": [{"provider": other, "name": second}],
            "tools": [{"name": tool, "server": server}],
        }))
    };
    for content in [json!({}), everything] {
        let policy = policy(content);
        for faulty in FAULTY {
            let judged = judge(&policy, &of([faulty; 6]));
            let found: Vec<(&str, &str)> = judged.iter().map(|v| (v.rule, v.field.as_str())).collect();
            assert_eq!(found, places.map(|place| ("name.invalid", place)), "{faulty:?}");
            for violation in &judged {
                assert!(!violation.message.chars().any(char::is_control), "{violation:?}");
            }
        }
    }
    let open = policy(json!({}));
    for fine in FINE {
        assert_eq!(judge(&open, &of([fine; 6])), [], "{fine:?}");
    }
}

#[test]
fn the_provider_of_the_table_is_judged_beside_a_name_that_can_pass_for_another() {
    let policy = policy(json!({"agent": {"models": {
        "allowed_providers": ["openai"],
        "endpoints": [{"host": "a.b", "provider": "anthropic"}],
    }}}));
    let found = |endpoint: &str| {
        let model = json!({"model": {"provider": "openai ", "name": "m", "endpoint": endpoint}});
        let mut found: Vec<String> =
            judge(&policy, &agent(model)).iter().map(|v| format!("{} {}", v.rule, v.field)).collect();
        found.sort();
        found
    };
    let invalid = "name.invalid spec.model.provider".to_owned();
    assert_eq!(found("https://a.b"), [invalid.clone(), "provider.not_allowed spec.model.endpoint".to_owned()]);
    assert_eq!(found("https://c.d"), ["endpoint.unknown spec.model.endpoint".to_owned(), invalid]);
}

/// Every member that holds patterns of names; the first ten were there before the second part.
const MEMBERS: [&str; 13] = [
    "agent/models/allowed_providers",
    "agent/models/allowed_models",
    "agent/models/denied_models",
    "agent/models/blocked_models",
    "agent/capabilities/allowed_tools",
    "agent/capabilities/denied_tools",
    "tools/blocked_tools",
    "agent/capabilities/allowed_servers",
    "agent/capabilities/denied_servers",
    "agent/capabilities/broker_tools",
    "agent/delegates/allowed_workspaces",
    "agent/models/endpoints/0/models",
    "agent/images/allowed_images",
];

fn with(path: &str, value: Value) -> Value {
    let mut value = value;
    for name in path.rsplit('/') {
        value = match name {
            "0" => {
                value["host"] = "a.b".into();
                value["provider"] = "p".into();
                json!([value])
            }
            name => json!({name: value}),
        };
    }
    value
}

/// What becomes of a document with this content; it is signed as it is.
fn reason(mut content: Value, second_part: bool) -> Result<(), Refusal> {
    if second_part {
        content["agent"]["opaque"] = json!({"allowed": true});
    }
    let mut document = signed(json!({}));
    document["content"] = content;
    Document::from_value(document).map(|_| ()).map_err(Refusal::from)
}

#[test]
fn in_a_document_of_both_parts_a_pattern_that_can_pass_for_another_is_malformed_and_in_an_older_one_it_is_read() {
    for member in MEMBERS {
        let of_first_part = MEMBERS.iter().position(|m| *m == member).unwrap() < 7;
        for faulty in FAULTY {
            let pattern = if member.ends_with("images") { format!("a.b/{faulty}\u{200b}") } else { faulty.to_owned() };
            let content = with(member, json!(["*", pattern]));
            let refusal = reason(content.clone(), true).unwrap_err();
            assert_eq!(refusal.reason, Reason::Malformed, "{member} {faulty:?}");
            let place = format!("{}[1]", member.replace("/0/", "[0].").replace('/', "."));
            assert!(refusal.message.contains(&place), "{}", refusal.message);
            assert_eq!(reason(content, false).is_ok(), of_first_part, "{member} {faulty:?}");
        }
        let fine = if member.ends_with("images") { json!(["a.b/c", "*"]) } else { json!(FINE) };
        assert_eq!(reason(with(member, fine), true), Ok(()), "{member}");
    }
    for faulty in FAULTY {
        let named = json!({"tools": {"allowed_tools": [{"name": faulty}]}});
        assert_eq!(reason(named.clone(), true).unwrap_err().reason, Reason::Malformed);
        assert_eq!(reason(named, false), Ok(()));
        let provider = json!({"agent": {"models": {"endpoints": [{"host": "a.b", "provider": faulty}]}}});
        assert_eq!(reason(provider, false).unwrap_err().reason, Reason::Malformed);
    }
}

#[test]
fn the_forms_of_the_second_part_are_held() {
    let images = |pattern: &str| reason(with("agent/images/allowed_images", json!([pattern])), false);
    for good in
        ["*", "a.b", "a.b/c", "*/c", "localhost", "localhost/*", "a:5000/b", "docker.io/library/python", "gh*/x"]
    {
        assert_eq!(images(good), Ok(()), "{good}");
    }
    for bad in ["", "python", "acme/*", "localhosts/a", "library/python", "/a.b", "acme/a.b"] {
        assert_eq!(images(bad).unwrap_err().reason, Reason::Malformed, "{bad}");
    }
    let endpoint = |entry: Value| reason(json!({"agent": {"models": {"endpoints": [entry]}}}), false);
    for good in [
        json!({"host": "*", "provider": "p"}),
        json!({"host": "*.a.b", "provider": "p", "path_prefix": "/", "models": []}),
        json!({"host": "a.b", "provider": "p", "path_prefix": "/v1/x", "models": ["a*"]}),
    ] {
        assert_eq!(endpoint(good.clone()), Ok(()), "{good}");
    }
    for bad in [
        json!({"provider": "p"}),
        json!({"host": "a.b"}),
        json!({"host": "a.b:443", "provider": "p"}),
        json!({"host": "https://a.b", "provider": "p"}),
        json!({"host": "a.b", "provider": ""}),
        json!({"host": "a.b", "provider": "p", "path_prefix": "v1"}),
        json!({"host": "a.b", "provider": "p", "path_prefix": ""}),
        json!({"host": "a.b", "provider": "p", "models": [""]}),
        json!({"host": "a.b", "provider": "p", "model": []}),
        json!("a.b"),
    ] {
        assert_eq!(endpoint(bad.clone()).unwrap_err().reason, Reason::Malformed, "{bad}");
    }
    for (bad, words) in [
        (json!({"agent": {"images": {"require_digest": "yes"}}}), "true or false"),
        (json!({"agent": {"opaque": {"accept_declaration": true}}}), "did you mean accept_declarations?"),
        (json!({"agent": {"delegates": {"allowed_workspaces": "ws_a"}}}), "a list of strings"),
        (json!({"agent": {"capabilities": {"broker_tool": []}}}), "did you mean broker_tools?"),
    ] {
        let refusal = reason(bad, false).unwrap_err();
        assert!(refusal.message.contains(words), "{}", refusal.message);
    }
}

#[test]
fn a_document_has_16_co_signatures_at_most() {
    let mut document = signed(json!({}));
    let entry = json!({"signing_key_id": "k", "document_signature": "0".repeat(128)});
    document["co_signatures"] = vec![entry.clone(); 16].into();
    assert!(verify(Document::from_value(document.clone()).unwrap(), &ring(), now()).is_ok());
    document["co_signatures"].as_array_mut().unwrap().push(entry);
    let fault = Document::from_value(document).unwrap_err();
    assert_eq!((fault.path.as_str(), fault.message.as_str()), ("co_signatures", "17 entries; expected 16 at most"));
}

#[test]
fn a_name_of_many_prefixes_costs_a_few_times_as_much_as_one_without() {
    let denials: Vec<String> = (0..2000).map(|n| format!("a*{n}x")).collect();
    let policy = policy(json!({"agent": {"models": {"denied_models": denials}}}));
    // the fastest of several runs: others may be busy
    let cost = |name: &str| {
        let model = agent(json!({"model": {"provider": "p", "name": name}}));
        let run = || {
            let started = Instant::now();
            assert_eq!(judge(&policy, &model), []);
            started.elapsed()
        };
        (0..7).map(|_| run()).min().unwrap()
    };
    let (plain, prefixed) = (cost(&"ab".repeat(128)), cost(&"a/".repeat(128)));
    // with a match for each of the 128 tails it would be 64 times as much
    assert!(prefixed < plain * 16, "{prefixed:?} against {plain:?}");
}
