//! `sekuire policy sign`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::support::{Desk, JSON, YAML};

#[test]
fn json_keeps_the_order_of_its_members() {
    let desk = Desk::new();
    desk.write("p.json", JSON);
    let ended = desk.sign(&["p.json"]);
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert_eq!(ended.out, format!("signed p.json: policy_a version 1.9 of ws_a, with {}\n", desk.key_id));
    let text = desk.read("p.json");
    let at = |name: &str| text.find(&format!("\"{name}\"")).unwrap();
    let order = ["status", "policy_id", "workspace_id", "version", "content", "tools", "agent", "signing_key_id"];
    assert!(order.is_sorted_by_key(|name| at(name)), "{text}");
    assert!(text.contains("größe") && text.ends_with("}\n"));
    assert_eq!(desk.results(&["p.json"]), ["Verified"]);
}

#[test]
fn yaml_keeps_its_comments_and_its_form() {
    let desk = Desk::new();
    desk.write("p.yaml", YAML);
    assert_eq!(desk.sign(&["p.yaml", "--bump"]).code, 0);
    let text = desk.read("p.yaml");
    assert!(text.starts_with(&YAML.replace("version: 1.0.0", "version: '1.0.1'")), "{text}");
    assert_eq!(desk.results(&["p.yaml"]), ["Verified"]);
    let before = text.lines().count();
    assert_eq!(desk.sign(&["p.yaml", "--bump"]).code, 0);
    let text = desk.read("p.yaml");
    assert_eq!(text.lines().count(), before, "{text}");
    assert!(text.contains("version: '1.0.2'") && text.contains("# the end"));
    assert_eq!(desk.results(&["p.yaml"]), ["Verified"]);
}

#[test]
fn co_signatures_of_an_old_signature_leave_the_yaml_and_nothing_else_does() {
    let desk = Desk::new();
    let old = format!(
        "co_signatures:\n- signing_key_id: k\n  document_signature: '{}'\nsigning_public_key: '{}'\n",
        "0".repeat(128),
        "0".repeat(64)
    );
    desk.write("p.yaml", &YAML.replace("content:\n", &format!("{old}content:\n")));
    let ended = desk.sign(&["p.yaml"]);
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert!(desk.read("p.yaml").starts_with(YAML), "{}", desk.read("p.yaml"));
}

#[test]
fn what_is_past_its_time_is_not_signed_and_is_retired_without_its_expiry() {
    let desk = Desk::new();
    let expired = JSON.replacen('{', "{\"expires_at\": \"2020-01-01T00:00:00Z\",", 1);
    desk.write("p.json", &expired);
    let refused = desk.sign(&["p.json", "--bump"]);
    assert_eq!((refused.code, refused.err.contains("expired at 2020-01-01T00:00:00Z")), (1, true), "{}", refused.err);
    assert_eq!(desk.read("p.json"), expired, "left as it was");
    let archived = desk.run(&["policy", "archive", "p.json", "--key", &desk.private_key()]);
    assert_eq!(archived.code, 0, "{}", archived.err);
    assert_eq!(desk.results(&["p.json"]), ["Verified"]);
}

#[test]
fn comments_that_cannot_be_kept_are_dropped_only_when_told() {
    let desk = Desk::new();
    let flow = format!("# why\n{}", JSON.replace("\"status\"", "# what\n  \"status\""));
    desk.write("p.yaml", &flow);
    let ended = desk.sign(&["p.yaml"]);
    assert_eq!(ended.code, 3);
    assert!(ended.err.contains("its 2 comments cannot be kept"), "{}", ended.err);
    assert_eq!(desk.read("p.yaml"), flow, "left as it was");
    assert_eq!(desk.sign(&["p.yaml", "--drop-comments"]).code, 0);
    assert!(!desk.read("p.yaml").contains('#'));
    assert_eq!(desk.results(&["p.yaml"]), ["Verified"]);
    desk.write("q.yaml", JSON);
    assert_eq!(desk.sign(&["q.yaml"]).code, 0, "without comments nothing is lost");
    assert_eq!(desk.results(&["q.yaml"]), ["Verified"]);
}

#[test]
fn a_document_that_would_not_validate_is_left_as_it_was_and_the_others_are_signed() {
    let desk = Desk::new();
    let bad = JSON.replace("denied_models", "denied_model");
    desk.write("bad.json", &bad);
    desk.write("good.json", JSON);
    let ended = desk.sign(&["bad.json", "good.json"]);
    assert_eq!(ended.code, 1);
    assert!(
        ended.err.contains("bad.json was not signed: line 6: content.agent.models.denied_model: "),
        "{}",
        ended.err
    );
    assert!(ended.err.contains("did you mean denied_models?"), "{}", ended.err);
    assert_eq!(desk.read("bad.json"), bad);
    assert_eq!(desk.results(&["good.json"]), ["Verified"]);
}

#[test]
fn a_file_keeps_its_mode_and_a_link_stays_a_link() {
    let desk = Desk::new();
    desk.write("p.json", JSON);
    fs::set_permissions(desk.path("p.json"), fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::symlink("p.json", desk.path("link.json")).unwrap();
    assert_eq!(desk.sign(&["link.json"]).code, 0);
    assert!(fs::symlink_metadata(desk.path("link.json")).unwrap().is_symlink());
    assert_eq!(fs::metadata(desk.path("p.json")).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(desk.results(&["p.json", "link.json"]), ["Verified", "Verified"]);
    let names: Vec<_> = fs::read_dir(desk.path("")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 3, "nothing is left beside: {names:?}");
}

#[test]
fn what_cannot_be_read_is_named_and_ends_with_3() {
    let desk = Desk::new();
    desk.write("p.json", JSON);
    fs::create_dir(desk.path("folder.json")).unwrap();
    for (file, words) in [("nope.json", "cannot read nope.json"), ("folder.json", "folder.json is a folder")] {
        let ended = desk.sign(&[file]);
        assert_eq!((ended.code, ended.err.contains(words)), (3, true), "{}", ended.err);
    }
    assert_eq!(desk.sign(&["p.txt"]).code, 2);
    desk.write("no.pem", "no key");
    let ended = desk.run(&["policy", "sign", "p.json", "--key", "no.pem"]);
    assert_eq!(ended.code, 3);
    assert!(ended.err.contains("no.pem: not a private key; expected an Ed25519 private key"), "{}", ended.err);
}

#[test]
fn a_private_key_that_others_may_read_is_warned_of() {
    let desk = Desk::new();
    desk.write("p.json", JSON);
    fs::set_permissions(desk.path(desk.private_key()), fs::Permissions::from_mode(0o644)).unwrap();
    let ended = desk.sign(&["p.json"]);
    assert_eq!(ended.code, 0);
    assert!(ended.err.contains("warning: others may read the private key"), "{}", ended.err);
}

#[test]
fn a_key_id_of_ones_own_is_used() {
    let desk = Desk::new();
    desk.write("p.json", JSON);
    assert_eq!(desk.sign(&["p.json", "--key-id", "platform-2026"]).code, 0);
    assert!(desk.read("p.json").contains("\"signing_key_id\": \"platform-2026\""));
    assert_eq!(desk.results(&["p.json"]), ["UnknownSigningKey"]);
    assert_eq!(desk.sign(&["p.json", "--key-id", "no id"]).code, 1);
}
