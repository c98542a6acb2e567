//! What is no document, in JSON: the message, and where.

use sekuire_policy::policy::document::peek;
use sekuire_policy::policy::{Document, Fault, Format, MAX_DOCUMENT_BYTES};
use serde_json::{Value, json};

use crate::support::signed;

/// A document of several lines, in which tests replace a text by another one.
fn text() -> String {
    serde_json::to_string_pretty(&signed(json!({
        "agent": {"models": {"allowed_models": ["gpt-4"], "denied_models": ["gpt-3*"]}},
        "compliance": {"retention_days": 30, "require_encryption": true},
        "permissions": {
            "network": {"enabled": true, "allowed_domains": ["*.example.com"]},
            "filesystem": {"blocked_paths": ["/etc/*"]},
        },
    })))
    .unwrap()
}

fn fault(text: &str) -> Fault {
    Document::parse(text.as_bytes(), Format::Json).unwrap_err()
}

/// Replaces a text that occurs once, and gives the fault and the line of what was put in.
fn spoilt(from: &str, to: &str) -> (Fault, u32) {
    let text = text();
    assert_eq!(text.matches(from).count(), 1, "{from}");
    let line = text.split(from).next().unwrap().matches('\n').count() + 1;
    (fault(&text.replace(from, to)), u32::try_from(line).unwrap())
}

#[test]
fn each_fault_names_its_place_and_what_would_be_accepted() {
    for (from, to, path, words) in [
        ("\"denied_models\"", "\"denied_model\"", "content.agent.models.denied_model", "did you mean denied_models?"),
        ("\"denied_models\"", "\"Denied_Models\"", "content.agent.models.Denied_Models", "did you mean denied_models?"),
        ("\"denied_models\"", "\"x\"", "content.agent.models.x", "expected one of allowed_providers"),
        ("\"denied_models\"", "\"a b\"", "content.agent.models[\"a b\"]", "unknown member \"a b\""),
        ("\"agent\"", "\"agnet\"", "content.agnet", "did you mean agent?"),
        ("\"created_at\"", "\"creatd_at\"", "creatd_at", "did you mean created_at?"),
        ("\"gpt-3*\"", "\"\"", "content.agent.models.denied_models[0]", "a string that is not empty"),
        ("\"gpt-3*\"", "3", "content.agent.models.denied_models[0]", "found a number"),
        ("\"gpt-3*\"", "null", "content.agent.models.denied_models[0]", "null"),
        ("\"gpt-3*\"", "[\"a\"]", "content.agent.models.denied_models[0]", "found a list"),
        ("\"gpt-3*\"", "\"a\", {}", "content.agent.models.denied_models[1]", "found an object"),
        ("30,", "\"30\",", "content.compliance.retention_days", "expected a whole number"),
        ("30,", "-1,", "content.compliance.retention_days", "plain decimal digits"),
        ("30,", "-0,", "content.compliance.retention_days", "plain decimal digits"),
        ("30,", "3e1,", "content.compliance.retention_days", "plain decimal digits"),
        ("30,", "30.0,", "content.compliance.retention_days", "plain decimal digits"),
        ("30,", "9007199254740992,", "content.compliance.retention_days", "plain decimal digits"),
        ("30,", "99999999999999999999999,", "content.compliance.retention_days", "plain decimal digits"),
        ("30,", "true,", "content.compliance.retention_days", "found true or false"),
        (
            "\"require_encryption\": true",
            "\"require_encryption\": \"yes\"",
            "content.compliance.require_encryption",
            "expected true or false",
        ),
        (
            "\"require_encryption\": true",
            "\"require_encryption\": 1",
            "content.compliance.require_encryption",
            "expected true or false",
        ),
        ("\"require_encryption\": true", "\"retention_days\": 3", "content.compliance.retention_days", "occurs twice"),
        (
            "\"require_encryption\": true",
            "\"\\u0072etention_days\": 3",
            "content.compliance.retention_days",
            "occurs twice",
        ),
        (
            "\"*.example.com\"",
            "\"*.example.com:443\"",
            "content.permissions.network.allowed_domains[0]",
            "a host without port",
        ),
        ("\"*.example.com\"", "\"https://example.com\"", "content.permissions.network.allowed_domains[0]", "a host"),
        ("\"*.example.com\"", "\"api-*.example.com\"", "content.permissions.network.allowed_domains[0]", "a host"),
        (
            "\"/etc/*\"",
            "\"/etc/../*\"",
            "content.permissions.filesystem.blocked_paths[0]",
            "without empty, '.' or '..' parts",
        ),
        ("\"/etc/*\"", "\"/etc//x\"", "content.permissions.filesystem.blocked_paths[0]", "a path"),
        ("\"/etc/*\"", "\"/etc/\"", "content.permissions.filesystem.blocked_paths[0]", "a path"),
        ("\"active\"", "\"enabled\"", "status", "one of draft, active, archived"),
        ("\"version\": \"1\"", "\"version\": 1", "version", "expected a version in quotes"),
        ("\"version\": \"1\"", "\"version\": \"01\"", "version", "no leading zero"),
        ("\"version\": \"1\"", "\"version\": \"2147483648\"", "version", "at most 2147483647"),
        ("\"ws_test\"", "\"ws/../x\"", "workspace_id", "an id: 1 to 63 letters"),
        ("\"policy_test\"", "\"\"", "policy_id", "an id"),
        ("\"2026-01-02T03:04:05Z\"", "\"yesterday\"", "created_at", "a time with a zone"),
    ] {
        let (fault, line) = spoilt(from, to);
        assert_eq!(fault.path, path, "{from} → {to}: {fault}");
        assert!(fault.message.contains(words), "{from} → {to}: {fault}");
        assert_eq!(fault.line, Some(line), "{from} → {to}: {fault}");
        assert!(fault.column.is_some_and(|c| c > 1), "{from} → {to}: {fault}");
        assert!(fault.to_string().starts_with(&format!("line {line}: {path}: ")), "{fault}");
    }
}

#[test]
fn a_member_that_is_missing_is_named() {
    for name in ["policy_id", "workspace_id", "version", "status", "content", "hash", "signing_key_id"] {
        let mut document = signed(json!({}));
        document.as_object_mut().unwrap().shift_remove(name);
        let fault = fault(&format!("\n\n  {document}"));
        assert_eq!((fault.path.as_str(), fault.line, fault.column), (name, Some(3), Some(3)), "{fault}");
        assert!(fault.message.contains("missing"), "{fault}");
    }
    let mut document = signed(json!({}));
    document["co_signatures"] = json!([{"signing_key_id": "key_a"}]);
    assert_eq!(fault(&document.to_string()).path, "co_signatures[0].document_signature");
}

#[test]
fn a_document_without_signatures_is_a_document() {
    let mut document = signed(json!({}));
    document.as_object_mut().unwrap().shift_remove("signature");
    document.as_object_mut().unwrap().shift_remove("document_signature");
    assert!(Document::parse(document.to_string().as_bytes(), Format::Json).is_ok());
}

#[test]
fn denials_may_have_one_of_their_two_names() {
    let content = |models: Value| {
        let mut document = signed(json!({}));
        document["content"] = json!({"agent": {"models": models}});
        Document::from_value(document)
    };
    assert!(content(json!({"denied_models": []})).is_ok());
    assert!(content(json!({"blocked_models": []})).is_ok());
    for both in
        [json!({"denied_models": [], "blocked_models": []}), json!({"blocked_models": ["a"], "denied_models": ["a"]})]
    {
        let fault = content(both).unwrap_err();
        assert_eq!(fault.path, "content.agent.models.blocked_models");
        assert!(fault.message.contains("another name of denied_models"), "{fault}");
    }
}

#[test]
fn what_is_no_json_text_is_refused_where_it_breaks_off() {
    let whole = text();
    for (text, line, words) in [
        (String::new(), None, "the file is empty"),
        ("  \n ".to_owned(), None, "the file is empty"),
        (whole.clone() + "x", Some(whole.matches('\n').count() + 1), "trailing characters"),
        (whole.clone() + "\n{}", Some(whole.matches('\n').count() + 2), "trailing characters"),
        (whole[..whole.len() - 1].to_owned(), Some(whole.matches('\n').count() + 1), "EOF"),
        ("\u{feff}".to_owned() + &whole, Some(1), "byte order mark"),
        (whole.replacen("\"gpt-4\"", "\"\\ud800\"", 1), None, "not JSON"),
        (whole.replacen("\"gpt-4\"", "\"\\udc00\\ud800\"", 1), None, "not JSON"),
        (whole.replacen("\"gpt-4\"", "\"a\nb\"", 1), None, "control character"),
        (whole.replacen("\"gpt-4\"", "'gpt-4'", 1), None, "not JSON"),
        (whole.replacen("\"gpt-4\"", "\"gpt-4\",", 1), None, "trailing comma"),
        (whole.replacen("30,", "030,", 1), None, "not JSON"),
        (whole.replacen("30,", "NaN,", 1), None, "not JSON"),
        (format!("[{whole}]"), Some(1), "expected an object, found a list"),
        ("\"text\"".to_owned(), Some(1), "expected an object, found a string"),
        ("7".to_owned(), Some(1), "expected an object, found a number"),
    ] {
        let fault = fault(&text);
        assert!(fault.message.contains(words), "{words}: {fault}");
        if let Some(line) = line {
            assert_eq!(fault.line, u32::try_from(line).ok(), "{words}: {fault}");
        }
    }
}

#[test]
fn the_column_counts_characters() {
    let fault = fault("{\"policy_id\": \"äöü\", \"policy_id\": \"x\"}");
    assert_eq!((fault.path.as_str(), fault.line), ("policy_id", Some(1)));
    assert_eq!(fault.column, Some(32), "{fault}");
}

#[test]
fn bytes_that_are_no_text_are_refused_with_their_line() {
    for bytes in [&b"{\n\"policy_id\": \"\xff\"}"[..], b"\n\xc3\x28", b"\n\xed\xa0\x80", b"\n\xf4\x90\x80\x80"] {
        for format in [Format::Json, Format::Yaml] {
            let fault = Document::parse(bytes, format).unwrap_err();
            assert_eq!(fault.line, Some(2));
            assert!(fault.message.contains("not UTF-8"), "{fault}");
        }
    }
}

#[test]
fn the_size_is_bounded() {
    let text = text();
    let padded = |size: usize| text.clone() + &" ".repeat(size - text.len());
    assert!(Document::parse(padded(MAX_DOCUMENT_BYTES).as_bytes(), Format::Json).is_ok());
    let fault = fault(&padded(MAX_DOCUMENT_BYTES + 1));
    assert!(fault.message.contains("longer than 262144 bytes"), "{fault}");
    let mut value = signed(json!({}));
    value["content"] = json!({"agent": {"models": {"denied_models": ["x".repeat(MAX_DOCUMENT_BYTES)]}}});
    assert!(Document::from_value(value).unwrap_err().message.contains("at most 262144"));
}

#[test]
fn the_depth_is_bounded_whatever_is_nested() {
    for levels in [32, 33, 200, 40_000] {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let middle = if open == "[" { "" } else { "1" };
            let fault = fault(&(open.repeat(levels) + middle + &close.repeat(levels)));
            let deep = fault.message.contains("at most 32 levels");
            assert_eq!(deep, levels > 32, "{levels} {open}: {fault}");
        }
    }
}

#[test]
fn a_value_is_held_to_the_same_as_a_text() {
    for (name, value) in [
        ("created_at", json!(null)),
        ("content", json!({"compliance": {"retention_days": 1.0}})),
        ("content", json!({"compliance": {"retention_days": -1}})),
        ("content", json!({"compliance": {"retention_days": 9_007_199_254_740_992_u64}})),
        ("content", json!({"agent": {"models": {"denied_model": []}}})),
        ("content", json!({"agent": {"models": {"denied_models": [null]}}})),
        ("anything", json!(1.5)),
    ] {
        let mut document = signed(json!({}));
        document[name] = value;
        let fault = Document::from_value(document).unwrap_err();
        assert!(fault.path.starts_with(name), "{fault}");
        assert_eq!(fault.line, None);
    }
}

#[test]
fn members_keep_their_order() {
    let mut document = signed(json!({"tools": {}, "compliance": {}, "agent": {}}));
    document.as_object_mut().unwrap().sort_keys();
    let text = document.to_string();
    assert_eq!(Document::parse(text.as_bytes(), Format::Json).unwrap().value().to_string(), text);
}

#[test]
fn a_name_is_shown_bounded_and_harmless() {
    let name = format!("\u{1b}[31m{}", "x".repeat(100_000));
    let mut document = signed(json!({}));
    document[name] = json!(1);
    let fault = fault(&document.to_string());
    assert!(fault.to_string().len() < 1000, "{}", fault.to_string().len());
    assert!(!fault.to_string().contains('\u{1b}'));
}

#[test]
fn a_broken_document_still_says_what_it_claims_to_be() {
    let mut broken = signed(json!({}));
    broken["content"] = json!({"unknown": 1});
    let whole = broken.to_string();
    let peeked = peek(whole.as_bytes(), Format::Json);
    assert_eq!(peeked.policy_id.as_deref(), Some("policy_test"));
    assert_eq!(peeked.workspace_id.as_deref(), Some("ws_test"));
    assert_eq!(peeked.version.as_deref(), Some("1"));
    assert_eq!(peeked.signing_key_id.as_deref(), Some("key_test"));
    let half = peek(&whole.as_bytes()[..whole.len() / 2], Format::Json);
    assert_eq!(half.workspace_id.as_deref(), Some("ws_test"));
    let yaml = peek(b"policy_id: p1\nworkspace_id: ws_1\nworkspace_id: ws_2\n", Format::Yaml);
    assert_eq!((yaml.policy_id.as_deref(), yaml.workspace_id.as_deref()), (Some("p1"), Some("ws_1")));
    let nonsense = peek(b"{\"policy_id\": \"../x\", \"version\": \"latest\", \"workspace_id\": 7}", Format::Json);
    assert_eq!(nonsense, peek(b"", Format::Json));
}
