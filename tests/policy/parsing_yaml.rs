//! What is no document, in YAML, and what the same data is.

use sekuire_policy::policy::{Document, Fault, Format, verify};
use serde_json::{Value, json};

use crate::support::{now, ring, signed};

const HEAD: &str = "policy_id: policy_test\nworkspace_id: ws_test\nversion: '1'\nstatus: active\n";

fn fault(text: &str) -> Fault {
    Document::parse(text.as_bytes(), Format::Yaml).unwrap_err()
}

/// The fault of a document with this content, which begins on line 5, or none when only what signing adds is missing.
fn content_fault(content: &str) -> Option<Fault> {
    let fault = fault(&format!("{HEAD}content:\n{content}"));
    (fault.path != "hash").then_some(fault)
}

#[test]
fn what_yaml_has_beyond_json_is_refused_where_it_stands() {
    for (content, path, line, words) in [
        ("  agent: &a {}\n", "content.agent", 6, "an anchor"),
        ("  agent: {}\n  tools: *a\n", "content.tools", 7, "unknown anchor"),
        ("  agent: &a {}\n  tools: *a\n", "content.agent", 6, "an anchor"),
        ("  agent: !!map {}\n", "content.agent", 6, "a tag"),
        ("  compliance:\n    data_residency: !!str us\n", "content.compliance.data_residency", 7, "a tag"),
        ("  compliance:\n    data_residency: ! us\n", "content.compliance.data_residency", 7, "a tag"),
        ("  !!str agent: {}\n", "content", 6, "a tag"),
        ("  &a agent: {}\n", "content", 6, "an anchor"),
        ("  <<: {}\n", "content", 6, "merge key"),
        ("  1: {}\n", "content", 6, "the key \"1\" is not a string"),
        ("  true: {}\n", "content", 6, "not a string"),
        ("  ~: {}\n", "content", 6, "not a string"),
        ("  : {}\n", "content", 6, "not a string"),
        ("  ? [a]\n  : {}\n", "content", 6, "not accepted as a key"),
        ("  ? {a: b}\n  : {}\n", "content", 6, "not accepted as a key"),
        ("  agent: {}\n  agent: {}\n", "content.agent", 7, "occurs twice"),
        ("  agent: {}\n  \"agent\": {}\n", "content.agent", 7, "occurs twice"),
        ("  agent:\n", "content.agent", 6, "null"),
        ("  agent: ~\n", "content.agent", 6, "null"),
        ("  agent: null\n", "content.agent", 6, "null"),
        ("  agent: NULL\n", "content.agent", 6, "null"),
        ("  compliance:\n    retention_days: 0o17\n", "content.compliance.retention_days", 7, "plain decimal"),
        ("  compliance:\n    retention_days: 0x1f\n", "content.compliance.retention_days", 7, "plain decimal"),
        ("  compliance:\n    retention_days: 1.0\n", "content.compliance.retention_days", 7, "plain decimal"),
        ("  compliance:\n    retention_days: 1e3\n", "content.compliance.retention_days", 7, "plain decimal"),
        ("  compliance:\n    retention_days: .inf\n", "content.compliance.retention_days", 7, "plain decimal"),
        ("  compliance:\n    retention_days: -.INF\n", "content.compliance.retention_days", 7, "plain decimal"),
        ("  compliance:\n    retention_days: .NaN\n", "content.compliance.retention_days", 7, "plain decimal"),
        ("  compliance:\n    retention_days: -0\n", "content.compliance.retention_days", 7, "plain decimal"),
        ("  compliance:\n    retention_days: +5\n", "content.compliance.retention_days", 7, "plain decimal"),
        ("  compliance:\n    retention_days: 007\n", "content.compliance.retention_days", 7, "plain decimal"),
        ("  compliance:\n    retention_days: 9007199254740992\n", "content.compliance.retention_days", 7, "plain"),
        ("  compliance:\n    retention_days: '7'\n", "content.compliance.retention_days", 7, "found a string"),
        ("  compliance:\n    retention_days: 1_000\n", "content.compliance.retention_days", 7, "found a string"),
        ("  compliance:\n    require_encryption: yes\n", "content.compliance.require_encryption", 7, "found a string"),
        ("  compliance:\n    require_encryption: On\n", "content.compliance.require_encryption", 7, "found a string"),
        ("  compliance:\n    data_residency: no_way\n    residency: x\n", "content.compliance.residency", 8, "unknown"),
        (
            "  agent:\n    models:\n      denied_model:\n      - a\n",
            "content.agent.models.denied_model",
            8,
            "denied_models?",
        ),
        (
            "  agent:\n    models:\n      denied_models:\n      - a\n      - 4\n",
            "content.agent.models.denied_models[1]",
            10,
            "found a number",
        ),
        ("  agent: {\n", "", 7, "not YAML"),
        ("\tagent: {}\n", "", 6, "not YAML"),
        ("  agent: {}\n---\na: b\n", "", 7, "second document"),
        ("  agent: {}\n...\n---\n", "", 8, "second document"),
    ] {
        let fault = content_fault(content).unwrap_or_else(|| panic!("{content:?} was accepted"));
        assert!(fault.message.contains(words), "{content:?}: {fault}");
        if words != "not YAML" {
            assert_eq!((fault.path.as_str(), fault.line), (path, Some(line)), "{content:?}: {fault}");
        }
    }
}

#[test]
fn what_the_core_schema_has_is_read_by_it() {
    for content in [
        "  compliance:\n    retention_days: 7\n    require_encryption: True\n    require_audit_logging: FALSE\n",
        "  compliance:\n    retention_days: 0\n    data_residency: yes\n",
        "  compliance:\n    data_residency: '7'\n",
        "  compliance:\n    data_residency: |\n      us\n",
        "  agent:\n    models:\n      denied_models: [1.2.3, 0b1, 08x, 1_0, 'null', \"true\", 12:30, =]\n",
        "  {}\n",
        "  agent: {models: {denied_models: [gpt-4, # why\n   'x']}}\n",
    ] {
        assert_eq!(content_fault(content), None, "{content}");
    }
}

#[test]
fn a_yaml_document_is_the_same_data_as_its_json() {
    let content = json!({
        "agent": {"models": {"denied_models": ["gpt-4", "yes", "1.0", "größe", "a: b", "", "null"]}},
        "compliance": {"retention_days": 2190, "require_encryption": true},
    });
    let mut content = content;
    content["agent"]["models"]["denied_models"].as_array_mut().unwrap().retain(|v| v != "");
    let document = signed(content);
    let flow = document.to_string();
    let read = Document::parse(flow.as_bytes(), Format::Yaml).unwrap();
    assert_eq!(read.value(), &document);
    assert!(verify(read, &ring(), now()).is_ok());
    let block = format!("# a comment\n---\n{}", block(&document, 0));
    let read = Document::parse(block.as_bytes(), Format::Yaml).unwrap();
    assert_eq!(read.value(), &document);
    assert!(verify(read, &ring(), now()).is_ok());
}

fn block(value: &Value, indent: usize) -> String {
    let Value::Object(object) = value else { return format!(" {value}\n") };
    let mut text = String::from(if indent > 0 { "\n" } else { "" });
    for (name, value) in object {
        text += &format!("{}{name}:{}", "  ".repeat(indent), block(value, indent + 1));
    }
    text
}

#[test]
fn an_empty_file_is_no_document() {
    for text in ["", "\n\n", "# nothing\n", "---\n", "...\n"] {
        let fault = fault(text);
        assert!(fault.message.contains("empty") || fault.message.contains("null"), "{text:?}: {fault}");
    }
}

#[test]
fn characters_that_are_no_text_are_refused_not_taken_for_the_end() {
    for bad in ["\0", "\u{1}", "\u{7f}", "\u{9b}", "\u{feff}", "\u{fffe}", "\u{ffff}"] {
        let fault = fault(&format!("{HEAD}content:\n  agent: {{}}\n{bad}\n  compliance: {{}}\n"));
        assert_eq!(fault.line, Some(7), "{bad:?}");
        assert!(fault.message.contains("does not belong in YAML text"), "{fault}");
    }
    assert!(fault(&format!("\u{feff}{HEAD}")).message.contains("byte order mark"));
}

#[test]
fn the_depth_of_yaml_is_bounded_without_recursion() {
    for levels in [33, 200, 20_000, 100_000] {
        for text in [
            "[".repeat(levels),
            "{a: ".repeat(levels),
            "- ".repeat(levels),
            "? ".repeat(levels),
            (0..levels.min(600)).map(|i| format!("{}a:\n", " ".repeat(i))).collect(),
        ] {
            let fault = fault(&text);
            assert!(!fault.message.is_empty(), "{levels} {}: {fault}", &text[..8]);
            assert!(fault.line.is_some() || text.len() > 262_144);
        }
    }
    assert!(fault(&"[".repeat(40)).message.contains("at most 32 levels"));
    assert!(fault(&"- ".repeat(40)).message.contains("at most 32 levels"));
}

#[test]
fn escapes_that_make_the_data_too_long_as_json_are_refused() {
    let text = format!("{HEAD}content:\n  compliance:\n    data_residency: \"{}\"\n", "\\e".repeat(120_000));
    assert!(fault(&text).message.contains("bytes long as JSON"));
}

/// The places of all texts.
fn texts(value: &Value, at: &str, all: &mut Vec<String>) {
    match value {
        Value::String(_) => all.push(at.to_owned()),
        Value::Array(items) => items.iter().enumerate().for_each(|(i, item)| texts(item, &format!("{at}/{i}"), all)),
        Value::Object(members) => members.iter().for_each(|(name, item)| texts(item, &format!("{at}/{name}"), all)),
        _ => {}
    }
}

#[test]
fn a_number_in_the_place_of_a_text_is_answered_with_quotes() {
    let document = signed(json!({
        "agent": {
            "models": {"allowed_providers": ["p"], "allowed_models": ["m"], "denied_models": ["m"]},
            "capabilities": {"allowed_tools": ["t"], "denied_tools": ["t"]},
        },
        "compliance": {"frameworks": ["f"], "data_residency": "eu"},
        "tools": {"allowed_tools": [{"name": "n", "description": "d"}], "blocked_tools": ["t"]},
        "permissions": {
            "network": {"allowed_domains": ["*"], "blocked_domains": ["*"]},
            "filesystem": {"allowed_paths": ["*"], "blocked_paths": ["*"], "allowed_extensions": [".x"]},
            "api": {"allowed_services": [{"service_name": "s", "endpoints": ["e"]}]},
        },
    }));
    let mut places = Vec::new();
    texts(&document, "", &mut places);
    assert!(places.len() > 25, "{places:?}");
    for place in places {
        for (format, numbers) in [
            (Format::Json, &["1", "1.10", "-1", "1e3", "99999999999999999999", "true"][..]),
            (Format::Yaml, &["1", "1.10", "-1", "1e3", "99999999999999999999", "007", "4.1", ".inf", "0x1f", "false"]),
        ] {
            for number in numbers {
                let mut spoilt = document.clone();
                *spoilt.pointer_mut(&place).unwrap() = "PLACE".into();
                let text = spoilt.to_string().replace("\"PLACE\"", number);
                let fault = Document::parse(text.as_bytes(), format).unwrap_err();
                let said = fault.message.contains("in quotes")
                    || fault.message.contains("such as \"")
                    || fault.message.contains("hex digits")
                    || fault.message.contains("one of draft")
                    || fault.message.contains("an id: ");
                assert!(said && fault.message.starts_with("expected "), "{place} {number}: {fault}");
                assert!(!fault.message.contains("whole number"), "{place} {number}: {fault}");
            }
        }
    }
}
