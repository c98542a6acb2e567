//! The order of checks, and what a verified policy says.

use sekuire_policy::policy::{
    Document, KeyFault, KeyRing, Pattern, PrivateKey, Reason, Refusal, Revocation, Status, TrustedKey, VerifiedPolicy,
    sign, verify,
};
use serde_json::{Value, json};

use crate::support::{KEY_ID, WORKSPACE, now, private_key, ring, signed, skeleton, time, trusted_key};

fn judge(document: &Value, keys: &KeyRing) -> Result<VerifiedPolicy, Refusal> {
    verify(Document::from_value(document.clone())?, keys, now())
}

fn reason(document: &Value, keys: &KeyRing) -> Reason {
    judge(document, keys).map_or_else(|refusal| refusal.reason, |_| Reason::Verified)
}

/// From a document and keys with every fault at once, the faults are mended one by one.
#[test]
fn the_reasons_come_in_the_order_of_the_specification() {
    let right = sign(
        {
            let mut document = skeleton(json!({"compliance": {"retention_days": 1}}));
            document["expires_at"] = "2026-01-01T00:00:00Z".into();
            document
        },
        &private_key(),
        KEY_ID,
        now(),
    )
    .unwrap();
    let mut document = right.clone();
    document["anything"] = json!(1);
    document["content"]["compliance"]["retention_days"] = json!(2);
    document.as_object_mut().unwrap().shift_remove("signature");
    document.as_object_mut().unwrap().shift_remove("document_signature");
    let mut key = TrustedKey {
        workspaces: vec![Pattern::new("ws_other")],
        not_before: Some(time("2030-01-01T00:00:00Z")),
        not_after: Some(time("2020-01-01T00:00:00Z")),
        revoked: Some(Revocation::default()),
        ..trusted_key()
    };
    let mut seen = Vec::new();
    let mut keys = KeyRing::default();
    seen.push(reason(&document, &keys));
    document.as_object_mut().unwrap().shift_remove("anything");
    seen.push(reason(&document, &keys));
    for mend in [
        |_: &mut TrustedKey| {},
        |key: &mut TrustedKey| key.workspaces = vec![Pattern::new("ws_t*")],
        |key: &mut TrustedKey| key.revoked = None,
        |key: &mut TrustedKey| key.not_before = None,
        |key: &mut TrustedKey| key.not_after = None,
    ] {
        mend(&mut key);
        keys = KeyRing::new([key.clone()]);
        seen.push(reason(&document, &keys));
    }
    let steps: [&dyn Fn(&mut Value); 6] = [
        &|d| d["content"] = right["content"].clone(),
        &|d| d["signature"] = "0".repeat(128).into(),
        &|d| d["signature"] = right["signature"].clone(),
        &|d| d["document_signature"] = right["signature"].clone(),
        &|d| d["document_signature"] = right["document_signature"].clone(),
        &|d| *d = signed(json!({})),
    ];
    for step in steps {
        step(&mut document);
        seen.push(reason(&document, &keys));
    }
    assert_eq!(
        seen,
        [
            Reason::Malformed,
            Reason::UnknownSigningKey,
            Reason::KeyNotAuthorized,
            Reason::KeyRevoked,
            Reason::KeyNotYetValid,
            Reason::KeyExpired,
            Reason::HashMismatch,
            Reason::SignatureMissing,
            Reason::SignatureInvalid,
            Reason::DocumentSignatureMissing,
            Reason::DocumentSignatureInvalid,
            Reason::PolicyExpired,
            Reason::Verified,
        ]
    );
}

#[test]
fn a_key_that_is_not_valid_yet_says_when_to_look_again() {
    let from = time("2026-06-01T00:00:00.000000001Z");
    let ring = KeyRing::new([TrustedKey { not_before: Some(from), ..trusted_key() }]);
    let refusal = judge(&signed(json!({})), &ring).unwrap_err();
    assert_eq!((refusal.reason, refusal.retry_at), (Reason::KeyNotYetValid, Some(from)));
    let refusal = judge(&signed(json!({})), &KeyRing::default()).unwrap_err();
    assert_eq!(refusal.retry_at, None);
}

#[test]
fn messages_say_what_would_be_accepted() {
    let document = signed(json!({}));
    let message = |keys: &KeyRing| judge(&document, keys).unwrap_err().message;
    let other = TrustedKey { key_id: "key_other".to_owned(), ..trusted_key() };
    assert!(message(&KeyRing::new([other])).contains("\"key_other\" may sign"));
    assert!(message(&KeyRing::default()).contains("no key may sign"));
    let twice = KeyRing::new([trusted_key(), trusted_key()]);
    assert!(message(&twice).contains("claimed by two keys"), "{}", message(&twice));
    let weak = KeyRing::default().with_unusable(KEY_ID.to_owned(), KeyFault::Weak);
    assert!(message(&weak).contains("weak"));
    let elsewhere = KeyRing::new([TrustedKey { workspaces: vec![Pattern::new("ws_a*")], ..trusted_key() }]);
    assert!(message(&elsewhere).contains("its SigningKey allows: \"ws_a*\""));
    let nowhere = KeyRing::new([TrustedKey { workspaces: vec![], ..trusted_key() }]);
    assert!(message(&nowhere).contains("its SigningKey allows: none"));
    let revoked = Revocation { reason: Some("stolen".to_owned()), at: None };
    let revoked = KeyRing::new([TrustedKey { revoked: Some(revoked), ..trusted_key() }]);
    assert!(message(&revoked).contains("was revoked (\"stolen\")"));
}

#[test]
fn a_verified_policy_says_what_was_signed() {
    let mut document = skeleton(json!({"agent": {}}));
    document["version"] = "1.10".into();
    document["status"] = "archived".into();
    document["expires_at"] = "2027-01-01T00:00:00+01:00".into();
    let document = sign(document, &private_key(), KEY_ID, now()).unwrap();
    let ring = KeyRing::new([TrustedKey {
        not_before: Some(time("2026-01-01T00:00:00Z")),
        not_after: Some(time("2028-01-01T00:00:00Z")),
        ..trusted_key()
    }]);
    let policy = judge(&document, &ring).unwrap();
    assert_eq!(policy.policy_id(), "policy_test");
    assert_eq!(policy.workspace_id(), WORKSPACE);
    assert_eq!(policy.version().to_string(), "1.10");
    assert_eq!(policy.status(), Status::Archived);
    assert_eq!(policy.hash(), document["hash"]);
    assert_eq!(policy.signing_key_id(), KEY_ID);
    assert_eq!(policy.public_key(), &private_key().public());
    assert_eq!(policy.document_json(), document.to_string());
    assert_eq!(policy.digest(), Document::from_value(document).unwrap().digest());
    assert_eq!(policy.expires_at(), Some(time("2026-12-31T23:00:00Z")));
    assert_eq!(policy.holds_from(), Some(time("2026-01-01T00:00:00Z")));
    assert_eq!(policy.holds_until(), policy.expires_at());
    for (at, holds) in [
        ("2025-12-31T23:59:59Z", Err(Reason::KeyNotYetValid)),
        ("2026-01-01T00:00:00Z", Ok(())),
        ("2026-12-31T22:59:59.999Z", Ok(())),
        ("2026-12-31T23:00:00Z", Err(Reason::PolicyExpired)),
        ("2028-01-01T00:00:00Z", Err(Reason::KeyExpired)),
    ] {
        assert_eq!(policy.holds(time(at)), holds, "{at}");
    }
}

#[test]
fn the_digest_survives_signing_again_and_nothing_else() {
    let document = signed(json!({"compliance": {"retention_days": 1}}));
    let digest = |value: &Value| Document::from_value(value.clone()).unwrap().digest();
    let later = time("2026-07-01T00:00:00Z");
    let again = sign(document.clone(), &PrivateKey::from_seed(&[8; 32]), "key_b", later).unwrap();
    assert_ne!(again["document_signature"], document["document_signature"]);
    assert_eq!(digest(&again), digest(&document));
    for (name, value) in [
        ("activated_at", json!("2026-06-02T00:00:00Z")),
        ("signing_public_key", json!("0".repeat(64))),
        ("co_signatures", json!([])),
    ] {
        let mut changed = document.clone();
        changed[name] = value;
        assert_eq!(digest(&changed), digest(&document), "{name}");
    }
    for (name, value) in [
        ("policy_id", json!("p")),
        ("workspace_id", json!("w")),
        ("version", json!("1.0")),
        ("status", json!("draft")),
        ("expires_at", json!("2030-01-01T00:00:00Z")),
        ("created_at", json!("2030-01-01T00:00:00Z")),
        ("content", json!({})),
        ("hash", json!("0".repeat(64))),
    ] {
        let mut changed = document.clone();
        changed[name] = value;
        assert_ne!(digest(&changed), digest(&document), "{name}");
    }
}

#[test]
fn a_public_key_inside_the_document_is_never_believed() {
    let stranger = PrivateKey::from_seed(&[66; 32]);
    let mut document = sign(skeleton(json!({})), &stranger, KEY_ID, now()).unwrap();
    document["signing_public_key"] = stranger.public().to_hex().into();
    assert_eq!(reason(&document, &ring()), Reason::SignatureInvalid);
}
