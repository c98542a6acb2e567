//! What we sign verifies with an independent implementation (`tests/python`), and the other way round.

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use super::support::{Desk, Ended};
use crate::cluster::skip::skip;

const VECTORS: &str = include_str!("../vectors/policy-documents.json");

/// The interpreter that has the libraries.
fn interpreter() -> Option<PathBuf> {
    std::env::var_os("SEKUIRE_PYTHON").filter(|path| !path.is_empty()).map(PathBuf::from)
}

const WHERE: &str = "SEKUIRE_PYTHON is not set: run with SEKUIRE_PYTHON=$(tests/python/build.sh)";

fn python(desk: &Desk, interpreter: &PathBuf, arguments: &[&str]) -> Ended {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/document.py");
    let output = Command::new(interpreter).arg(script).args(arguments).current_dir(desk.path("")).output().unwrap();
    Ended {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Documents of every shape that the vectors have, and some with letters that are easily taken for others.
fn documents() -> Vec<Value> {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    let verified = vectors["cases"].as_array().unwrap().iter().filter(|case| case["expect"] == "Verified");
    let mut documents: Vec<Value> = verified.filter_map(|case| case.get("document")).cloned().collect();
    // the vectors have a clock of their own
    for document in documents.iter_mut().filter(|document| document.get("expires_at").is_some()) {
        document["expires_at"] = "2099-01-01T00:00:00+01:00".into();
    }
    let words = ["ß", "e\u{301}", "é", "\u{10348}", "\u{fb33}", "\u{1f600}", "\u{7f}", "</script>", "\"\\/"];
    let content = json!({
        "tools": {"allowed_tools": words.map(|word| json!({"name": word, "description": format!("{word}\n\t")}))},
        "rate_limits": {"per_agent": {"tokens_per_hour": 9_007_199_254_740_991_u64, "requests_per_minute": 0}},
        "agent": {"models": {"denied_models": words, "allowed_models": []}},
    });
    documents
        .push(json!({"policy_id": "p", "workspace_id": "ws_a", "version": "1", "status": "draft", "content": content}));
    assert!(documents.len() > 5);
    documents
}

#[test]
fn what_we_sign_verifies_with_python_and_has_the_digest_that_we_say() {
    let Some(interpreter) = interpreter() else { skip!(WHERE) };
    let desk = Desk::new();
    let manifest: Value = serde_yaml::from_str(&desk.read(&format!("keys/{}.yaml", desk.key_id))).unwrap();
    desk.write("key.pub", manifest["spec"]["publicKey"].as_str().unwrap());
    for document in documents() {
        for (file, text) in [("p.json", document.to_string()), ("p.yaml", serde_yaml::to_string(&document).unwrap())] {
            desk.write(file, &text);
            let signed = desk.sign(&[file]);
            assert_eq!(signed.code, 0, "{}", signed.err);
            let text = desk.read(file);
            let value: Value = serde_json::from_str(&text).or_else(|_| serde_yaml::from_str(&text)).unwrap();
            desk.write("signed.json", &value.to_string());
            let verified = python(&desk, &interpreter, &["verify", "signed.json", "key.pub"]);
            assert_eq!(verified.code, 0, "{}{}", verified.err, desk.read(file));
            let shown = desk.run(&["policy", "show", file, "-o", "json"]);
            let shown: Value = serde_json::from_str(&shown.out).unwrap();
            assert_eq!(shown[0]["digest"], verified.out.trim());
        }
    }
    // and that it would say so
    let changed = desk.read("signed.json").replace("\"draft\"", "\"active\"");
    desk.write("signed.json", &changed);
    let refused = python(&desk, &interpreter, &["verify", "signed.json", "key.pub"]);
    assert_eq!((refused.code, refused.err.trim()), (1, "document_signature"));
}

#[test]
fn what_python_signs_verifies_with_us() {
    let Some(interpreter) = interpreter() else { skip!(WHERE) };
    let desk = Desk::new();
    for document in documents() {
        desk.write("p.json", &document.to_string());
        let signed = python(&desk, &interpreter, &["sign", "p.json", "python.pem", "key_of_python"]);
        assert_eq!(signed.code, 0, "{}", signed.err);
        let manifest =
            desk.run(&["key", "manifest", "python.pem.pub", "--workspace", "*", "--key-id", "key_of_python"]);
        desk.write("trusted.yaml", &manifest.out);
        desk.write("signed.json", &signed.out);
        let now = ["--now", "2026-03-01T00:00:00Z"];
        let judged =
            desk.run(&[&["policy", "validate", "--file", "signed.json", "--trust", "trusted.yaml"], &now[..]].concat());
        assert_eq!(judged.code, 0, "{}{}", judged.out, judged.err);
    }
}
