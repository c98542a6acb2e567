//! `sekuire key`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::support::{Desk, JSON};

#[test]
fn a_generated_key_is_for_its_owner_alone_and_its_manifest_is_trusted() {
    let desk = Desk::new();
    let (pem, yaml) = (desk.private_key(), format!("keys/{}.yaml", desk.key_id));
    assert_eq!(fs::metadata(desk.path(&pem)).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(desk.read(&pem).starts_with("-----BEGIN PRIVATE KEY-----\n"));
    let manifest: serde_json::Value = serde_yaml::from_str(&desk.read(&yaml)).unwrap();
    assert_eq!(manifest["kind"], "SigningKey");
    assert_eq!(manifest["metadata"]["name"], desk.key_id.replace('_', "-"));
    assert_eq!(manifest["spec"]["keyId"], desk.key_id);
    assert_eq!(manifest["spec"]["workspaces"], serde_json::json!(["*"]));
    desk.write("p.json", JSON);
    assert_eq!(desk.sign(&["p.json"]).code, 0);
    assert_eq!(desk.results(&["p.json"]), ["Verified"]);
}

#[test]
fn a_key_without_workspaces_has_to_be_completed() {
    let desk = Desk::new();
    let ended = desk.run(&["key", "generate", "--out", "other"]);
    assert_eq!(ended.code, 0);
    assert!(ended.out.contains("name the workspaces that it may sign for"), "{}", ended.out);
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let desk = Desk::new();
    desk.write("file", "");
    let ended = desk.run(&["key", "generate", "--out", "file/keys"]);
    assert_eq!(ended.code, 3);
    assert!(ended.err.contains("cannot create file/keys"), "{}", ended.err);
}

#[test]
fn wrong_usage_ends_with_2_and_help_with_0() {
    let desk = Desk::new();
    for arguments in [&["key"][..], &["no-such"], &["policy", "validate"], &["key", "generate", "--no-such"], &[]] {
        assert_eq!(desk.run(arguments).code, 2, "{arguments:?}");
    }
    for arguments in [&["--help"][..], &["--version"], &["policy", "sign", "--help"]] {
        assert_eq!(desk.run(arguments).code, 0, "{arguments:?}");
    }
}
