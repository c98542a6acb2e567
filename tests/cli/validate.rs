//! `sekuire policy validate`.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::support::{Desk, JSON};

const VECTORS: &str = include_str!("../vectors/policy-documents.json");

fn manifests(vectors: &Value) -> String {
    let mut text = String::new();
    for key in vectors["trusted_keys"].as_array().unwrap() {
        let mut spec = json!({
            "keyId": key["key_id"],
            "publicKey": key["public_key"],
            "workspaces": key["workspaces"],
        });
        for (name, camel) in [("not_before", "notBefore"), ("not_after", "notAfter")] {
            if let Some(time) = key.get(name) {
                spec[camel] = time.clone();
            }
        }
        if key.get("revoked").is_some() {
            spec["revoked"] = json!({});
        }
        let name = key["key_id"].as_str().unwrap().replace('_', "-");
        let manifest = json!({
            "apiVersion": "sekuire.ai/v1alpha1",
            "kind": "SigningKey",
            "metadata": {"name": name},
            "spec": spec,
        });
        writeln!(text, "---\n{}", serde_yaml::to_string(&manifest).unwrap()).unwrap();
    }
    text
}

#[test]
fn every_document_of_the_vectors_gives_exactly_its_reason() {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    let desk = Desk::new();
    desk.write("trust.yaml", &manifests(&vectors));
    let mut arguments: Vec<String> =
        ["policy", "validate", "--trust", "trust.yaml", "--output", "json", "--now", vectors["now"].as_str().unwrap()]
            .map(str::to_owned)
            .to_vec();
    arguments.push("--file".to_owned());
    let cases = vectors["cases"].as_array().unwrap();
    for (i, case) in cases.iter().enumerate() {
        let yaml = case.get("format").is_some();
        let name = format!("{i}.{}", if yaml { "yaml" } else { "json" });
        let text = case.get("raw").map_or_else(|| case["document"].to_string(), |raw| raw.as_str().unwrap().to_owned());
        desk.write(&name, &text);
        arguments.push(name);
    }
    let ended = desk.run(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(ended.code, 1, "{}", ended.err);
    let list: Value = serde_json::from_str(&ended.out).unwrap();
    let list = list.as_array().unwrap();
    assert_eq!(list.len(), cases.len());
    for (i, (verdict, case)) in list.iter().zip(cases).enumerate() {
        assert_eq!(verdict["result"], case["expect"], "{}: {verdict}", case["name"]);
        assert!(verdict["file"].as_str().unwrap().starts_with(&format!("{i}.")));
        assert!(!verdict["message"].as_str().unwrap().is_empty());
        let checks = verdict["checks"].as_array().unwrap().iter().map(|check| check["result"].as_str().unwrap());
        let failed = checks.clone().position(|result| result == "failed");
        assert_eq!(failed.is_none(), case["expect"] == "Verified", "{verdict}");
        for (place, result) in checks.enumerate() {
            let expected = match failed {
                Some(failed) if place == failed => "failed",
                Some(failed) if place > failed => "not_reached",
                _ => "passed",
            };
            assert_eq!(result, expected, "{verdict}");
        }
    }
}

#[test]
fn one_document_is_shown_with_its_checks_and_no_colour_in_a_pipe() {
    let desk = Desk::new();
    desk.write("good.json", JSON);
    desk.sign(&["good.json"]);
    let ended = desk.run(&["policy", "validate", "good.json", "--trust", "keys"]);
    assert_eq!(ended.code, 0);
    let expected = format!(
        "✓ good.json  Verified: policy_a version 1.9 of ws_a, active, signed by {}
    ✓ form
    ✓ signing key
    ✓ key validity
    ✓ hash
    ✓ signature
    ✓ document signature
    ✓ threshold
    ✓ expiry
",
        desk.key_id
    );
    assert_eq!(ended.out, expected);
    desk.write("bad.json", &desk.read("good.json").replace("gpt-3*", "gpt-4*"));
    let ended = desk.run(&["policy", "validate", "--file", "bad.json", "--trust", "keys"]);
    assert_eq!(ended.code, 1);
    assert!(ended.out.starts_with("✗ bad.json  HashMismatch: hash is "), "{}", ended.out);
    let checks = "    ✓ form
    ✓ signing key
    ✓ key validity
    ✗ hash
    – signature
    – document signature
    – threshold
    – expiry
";
    assert!(ended.out.ends_with(checks), "{}", ended.out);
}

#[test]
fn of_several_documents_those_that_verify_take_a_line_and_the_others_show_their_checks() {
    let desk = Desk::new();
    desk.write("good.json", JSON);
    desk.sign(&["good.json"]);
    desk.write("bad.json", "{}");
    let ended = desk.run(&["policy", "validate", "--file", "good.json", "bad.json", "--trust", "keys"]);
    assert_eq!(ended.code, 1);
    let lines: Vec<&str> = ended.out.lines().collect();
    assert!(lines[0].starts_with("✓ good.json  Verified: policy_a"), "{}", ended.out);
    assert!(lines[1].starts_with("✗ bad.json  Malformed: line 1: policy_id: missing"), "{}", ended.out);
    assert_eq!((lines[2], lines[3], lines.len()), ("    ✗ form", "    – signing key", 10), "{}", ended.out);
}

#[test]
fn without_a_document_or_without_keys_it_says_what_to_do() {
    let desk = Desk::new();
    desk.write("p.json", JSON);
    desk.sign(&["p.json"]);
    let ended = desk.run(&["policy", "validate", "--trust", "keys"]);
    assert_eq!(ended.code, 2);
    assert!(ended.err.contains("policies/*.json"), "{}", ended.err);
    let ended = desk.run(&["policy", "validate", "p.json"]);
    assert_eq!(ended.code, 3);
    assert!(ended.err.contains("--trust"), "{}", ended.err);
}

const AGENT: &str = "apiVersion: sekuire.ai/v1alpha1
kind: Agent
metadata: {name: scout, namespace: team}
spec: {model: {provider: openai, name: gpt-4}}
";

#[test]
fn agents_are_decided_on_by_each_document_that_is_active_and_verified() {
    let desk = Desk::new();
    desk.write("good.json", JSON);
    desk.write("draft.json", &JSON.replace("\"active\"", "\"draft\""));
    desk.sign(&["good.json", "draft.json"]);
    desk.write("bad.json", &desk.read("good.json").replace("gpt-3*", "gpt-4*"));
    desk.write("scout.yaml", AGENT);
    desk.write("old.yaml", &AGENT.replace("gpt-4", "gpt-3.5").replace("scout", "old"));
    let validate = |documents: &[&str], more: &[&str]| {
        desk.run(&[&["policy", "validate"], documents, more, &["--trust", "keys"]].concat())
    };
    let ended = validate(&["good.json"], &["--agent", "scout.yaml"]);
    assert_eq!(ended.code, 0, "{}{}", ended.out, ended.err);
    assert!(ended.out.contains("  ✓ team/scout  scout.yaml\n  1 agent, 0 refused"), "{}", ended.out);
    let ended = validate(&["good.json"], &["--agent", "scout.yaml", "--agent", "old.yaml"]);
    assert_eq!(ended.code, 1);
    assert!(ended.out.contains("✗ team/old") && ended.out.contains("[model.blocked]"), "{}", ended.out);
    let documents = ["good.json", "draft.json", "bad.json", "--agent", "scout.yaml"];
    let ended = validate(&documents, &["--output", "json"]);
    assert_eq!(ended.code, 1, "a document is refused");
    let list: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(list[0]["decisions"][0]["name"], "scout");
    assert_eq!(list[0]["decisions"][0]["allowed"], true);
    assert_eq!(list[0]["decisions"][0]["policy"]["policy_id"], "policy_a");
    assert_eq!((&list[1]["decisions"], &list[2]["decisions"]), (&Value::Null, &Value::Null));
    assert_eq!(list[1]["result"], "Verified");
    let ended = validate(&documents, &[]);
    assert!(ended.out.contains("no agent was decided on: the policy is not active"), "{}", ended.out);
    assert!(ended.out.contains("no agent was decided on: the policy is refused"), "{}", ended.out);
    desk.write("typo.yaml", &AGENT.replace("model:", "models:"));
    let ended = validate(&["good.json"], &["--agent", "typo.yaml"]);
    assert_eq!(ended.code, 1);
    assert!(ended.err.contains("typo.yaml: Agent scout: spec"), "{}", ended.err);
}

#[test]
fn what_cannot_be_read_is_named_and_the_rest_is_judged() {
    let desk = Desk::new();
    desk.write("good.json", JSON);
    desk.sign(&["good.json"]);
    let ended = desk.run(&["policy", "validate", "--file", "nope.json", "good.json", "--trust", "keys"]);
    assert_eq!(ended.code, 3);
    assert!(ended.err.contains("cannot read nope.json") && ended.out.contains("✓ good.json"), "{}", ended.err);
}

#[test]
fn trust_comes_from_signing_keys_alone() {
    let desk = Desk::new();
    desk.write("p.json", JSON);
    desk.sign(&["p.json"]);
    for (name, content, words) in [
        ("none.yaml", "# nothing\n", "holds no SigningKey"),
        (
            "other.yaml",
            "apiVersion: v1\nkind: Secret\nmetadata: {name: x}\n",
            "is a Secret of v1; expected only SigningKey and SigningThreshold",
        ),
        ("text.yaml", "{", "expected public keys, or SigningKey and SigningThreshold manifests"),
        ("typo.yaml", &typo(&desk), "spec.workspace: unknown member; did you mean workspaces?"),
        ("kind.yaml", &manifest(&desk).replace("SigningKey", "Key"), "expected only SigningKey"),
    ] {
        desk.write(name, content);
        let ended = desk.run(&["policy", "validate", "--file", "p.json", "--trust", name]);
        assert_eq!(ended.code, 3, "{name}: {}", ended.out);
        assert!(ended.err.contains(words) && ended.err.contains(name), "{name}: {}", ended.err);
    }
    let ended = desk.run(&["policy", "validate", "--file", "p.json", "--trust", "no-such.yaml"]);
    assert_eq!(ended.code, 3);
}

fn manifest(desk: &Desk) -> String {
    desk.read(&format!("keys/{}.yaml", desk.key_id))
}

fn typo(desk: &Desk) -> String {
    manifest(desk).replace("workspaces:", "workspace:")
}

#[test]
fn a_key_that_cannot_be_used_is_said_and_makes_no_other_unusable() {
    let desk = Desk::new();
    desk.write("p.json", JSON);
    desk.sign(&["p.json"]);
    let weak = manifest(&desk).replace(&desk.key_id, "weak");
    let from = weak.find("publicKey").unwrap();
    let to = weak.find("  workspaces").unwrap();
    let weak = format!("{}publicKey: '01{}'\n{}", &weak[..from], "00".repeat(31), &weak[to..]);
    desk.write("keys/weak.yaml", &weak);
    let ended = desk.run(&["policy", "validate", "--file", "p.json", "--trust", "keys"]);
    assert_eq!(ended.code, 0, "{}{}", ended.out, ended.err);
    assert!(ended.err.contains("warning: the key weak cannot be used: the public key is weak"), "{}", ended.err);
    desk.write("keys/again.yaml", &manifest(&desk));
    assert_eq!(desk.results(&["p.json"]), ["UnknownSigningKey"], "one id, two keys");
}

#[test]
fn the_clock_can_be_set() {
    let desk = Desk::new();
    desk.write("p.json", &JSON.replace("\"status\"", "\"expires_at\": \"2030-01-01T00:00:00Z\", \"status\""));
    desk.sign(&["p.json"]);
    for (now, code, result) in
        [("2029-12-31T23:59:59Z", 0, "Verified"), ("2030-01-01T01:00:00+01:00", 1, "PolicyExpired"), ("today", 2, "")]
    {
        let ended = desk.run(&["policy", "validate", "--file", "p.json", "--trust", "keys", "--now", now]);
        assert_eq!(ended.code, code, "{}", ended.err);
        assert!(ended.out.contains(result));
    }
}

#[test]
fn denials_without_an_allow_list_and_entries_that_nothing_meets_are_warned_of() {
    let desk = Desk::new();
    let mut document: Value = serde_json::from_str(JSON).unwrap();
    document["content"] = json!({
        "agent": {"models": {"denied_models": ["gpt-3*"]}, "capabilities": {"allowed_tools": ["a\u{200b}b"], "denied_tools": ["x"]}},
    });
    desk.write("p.json", &document.to_string());
    assert_eq!(desk.sign(&["p.json"]).code, 0);
    let ended = desk.run(&["policy", "validate", "p.json", "--trust", "keys"]);
    assert_eq!(ended.code, 0, "{}", ended.err);
    let warnings: Vec<&str> = ended.err.lines().collect();
    assert_eq!(warnings.len(), 2, "{}", ended.err);
    assert!(
        warnings[0].starts_with("warning: p.json: content.agent.models.denied_models: models are only denied by name")
    );
    assert!(warnings[1].contains("content.agent.capabilities.allowed_tools[0]") && warnings[1].contains("U+200B"));
    let ended = desk.run(&["policy", "validate", "p.json", "--trust", "keys", "--output", "json"]);
    let list: Value = serde_json::from_str(&ended.out).unwrap();
    let kinds: Vec<&str> = list[0]["advice"].as_array().unwrap().iter().map(|a| a["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["DenialsAlone", "IdleEntry"]);
    document["content"]["agent"]["models"] = json!({"denied_models": ["gpt-3*"], "allowed_models": ["gpt-*"]});
    document["content"]["agent"]["capabilities"] = json!({"allowed_tools": ["a"], "denied_tools": ["x"]});
    desk.write("p.json", &document.to_string());
    assert_eq!(desk.sign(&["p.json"]).code, 0);
    let ended = desk.run(&["policy", "validate", "p.json", "--trust", "keys", "--output", "json"]);
    assert_eq!(ended.err, "");
    let list: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(list[0].get("advice"), None);
}
