//! The vectors, which were made with other libraries.

use sekuire_policy::policy::{Document, Reason, Refusal, judge, verify};
use serde_json::Value;

use crate::support::{agent, bytes_of, policy, ring_of_vectors, time};

pub const DOCUMENTS: &str = include_str!("../vectors/policy-documents.json");
const DECISIONS: [(&str, &str); 2] = [
    ("decisions.json", include_str!("../vectors/decisions.json")),
    ("decisions-2.json", include_str!("../vectors/decisions-2.json")),
];

#[test]
fn every_document_of_the_vectors_gives_exactly_its_reason() {
    let vectors: Value = serde_json::from_str(DOCUMENTS).unwrap();
    let keys = ring_of_vectors(&vectors);
    let now = time(vectors["now"].as_str().unwrap());
    let mut wrong = Vec::new();
    for case in vectors["cases"].as_array().unwrap() {
        let (bytes, format) = bytes_of(case);
        let result =
            Document::parse(&bytes, format).map_err(Refusal::from).and_then(|document| verify(document, &keys, now));
        let (reason, message) = match result {
            Ok(_) => (Reason::Verified, String::new()),
            Err(refusal) => (refusal.reason, refusal.message),
        };
        if case["expect"] != reason.as_str() {
            wrong.push(format!("{}: expected {}, got {reason} ({message})", case["name"], case["expect"]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_decision_of_the_vectors_has_exactly_its_violations() {
    let mut wrong = Vec::new();
    for (file, text) in DECISIONS {
        let vectors: Value = serde_json::from_str(text).unwrap();
        for case in vectors.as_array().unwrap() {
            let policy = policy(case["content"].clone());
            let judged = judge(&policy, &agent(case["spec"].clone()));
            let mut got: Vec<(String, String)> = judged.into_iter().map(|v| (v.rule.to_owned(), v.field)).collect();
            let text = |v: &Value| v.as_str().unwrap().to_owned();
            let mut expected: Vec<(String, String)> =
                case["violations"].as_array().unwrap().iter().map(|v| (text(&v["rule"]), text(&v["field"]))).collect();
            got.sort();
            expected.sort();
            if got != expected {
                wrong.push(format!("{file}: {}:\n  expected {expected:?}\n  got      {got:?}", case["name"]));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
