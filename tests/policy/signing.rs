//! Signing.

use sekuire_policy::policy::document::parse_unsigned;
use sekuire_policy::policy::sign::{SignFault, sign_with};
use sekuire_policy::policy::{Document, Format, PrivateKey, sign, verify};
use serde_json::{Value, json};

use crate::support::{KEY_ID, now, private_key, ring, signed, skeleton, time};

fn names(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn what_is_signed_verifies_and_keeps_the_order_of_its_members() {
    let skeleton = skeleton(json!({"tools": {"blocked_tools": ["x"]}, "agent": {}}));
    let document = sign(skeleton.clone(), &private_key(), KEY_ID, now()).unwrap();
    assert!(names(&document).starts_with(&names(&skeleton)));
    assert_eq!(document["updated_at"], "2026-06-01T00:00:00Z");
    assert_eq!(names(&document["content"]), ["tools", "agent"]);
    assert!(verify(Document::from_value(document).unwrap(), &ring(), now()).is_ok());
}

#[test]
fn signing_again_replaces_what_belonged_to_the_old_signature() {
    let mut document = signed(json!({}));
    document["co_signatures"] = json!([{"signing_key_id": "a", "document_signature": "0".repeat(128)}]);
    document["signing_public_key"] = "0".repeat(64).into();
    document["signature"] = "rubbish".into();
    document["hash"] = Value::Null;
    let before: Vec<String> = names(&document).iter().map(|n| (*n).to_owned()).collect();
    let again = sign(document, &private_key(), KEY_ID, time("2026-06-02T00:00:00.5Z")).unwrap();
    assert_eq!(again["updated_at"], "2026-06-02T00:00:00Z");
    let kept: Vec<&String> =
        before.iter().filter(|n| !matches!(n.as_str(), "co_signatures" | "signing_public_key")).collect();
    assert_eq!(names(&again), kept);
    assert!(verify(Document::from_value(again).unwrap(), &ring(), now()).is_ok());
}

#[test]
fn what_would_not_validate_is_not_signed() {
    for (name, value, path) in [
        ("content", json!({"agnet": {}}), "content.agnet"),
        ("version", json!("01"), "version"),
        ("status", json!("on"), "status"),
        ("anything", json!(1), "anything"),
    ] {
        let mut document = skeleton(json!({}));
        document[name] = value;
        let Err(SignFault::Document(fault)) = sign(document, &private_key(), KEY_ID, now()) else { panic!("{name}") };
        assert_eq!(fault.path, path);
    }
    assert!(sign(skeleton(json!({})), &private_key(), "no id", now()).is_err());
    assert!(sign(json!([]), &private_key(), KEY_ID, now()).is_err());
}

#[test]
fn a_signer_elsewhere_signs_the_same() {
    let key = private_key();
    let elsewhere =
        sign_with(skeleton(json!({})), &key.public(), KEY_ID, now(), |message| Ok(key.sign(message))).unwrap();
    assert_eq!(elsewhere, sign(skeleton(json!({})), &key, KEY_ID, now()).unwrap());
    let refused = sign_with(skeleton(json!({})), &key.public(), KEY_ID, now(), |_| Err("no PIN".to_owned()));
    assert!(matches!(refused, Err(SignFault::Signer(why)) if why == "no PIN"));
    let other = PrivateKey::from_seed(&[8; 32]);
    let wrong = sign_with(skeleton(json!({})), &key.public(), KEY_ID, now(), |message| Ok(other.sign(message)));
    assert!(matches!(wrong, Err(SignFault::WrongSignature(id)) if id == key.public().key_id()));
}

#[test]
fn placeholders_of_what_signing_fills_in_are_no_fault() {
    let text = r#"{"policy_id": "p", "workspace_id": "w", "version": "1", "status": "draft", "hash": "blake3_hash",
        "signature": "", "document_signature": 7, "signing_key_id": "key_...", "updated_at": "later",
        "co_signatures": {}, "content": {}}"#;
    let value = parse_unsigned(text.as_bytes(), Format::Json).unwrap();
    assert!(sign(value, &private_key(), KEY_ID, now()).is_ok());
    let fault = parse_unsigned(text.replace("\"content\"", "\n\"contents\"").as_bytes(), Format::Json).unwrap_err();
    assert_eq!((fault.path.as_str(), fault.line), ("contents", Some(4)));
}
