//! What of a document is stored, and which of two copies is the better one.

use sekuire_policy::policy::sign::cosign_with;
use sekuire_policy::policy::{Document, KeyRing, PrivateKey, Revocation, TrustedKey, VerifiedPolicy, sign, verify};
use serde_json::{Value, json};

use crate::support::{KEY_ID, now, private_key, signed, skeleton, time, trusted_key};

fn key(number: u8) -> PrivateKey {
    PrivateKey::from_seed(&[number; 32])
}

fn trusted(number: u8) -> TrustedKey {
    TrustedKey { key_id: format!("key_{number}"), public_key: key(number).public(), ..trusted_key() }
}

fn cosigned(document: Value, number: u8) -> Value {
    let document = Document::from_value(document).unwrap();
    let id = format!("key_{number}");
    cosign_with(&document, &key(number).public(), &id, |message| Ok(key(number).sign(message))).unwrap()
}

fn judge(document: &Value, keys: &KeyRing) -> VerifiedPolicy {
    verify(Document::from_value(document.clone()).unwrap(), keys, now()).unwrap()
}

fn stored(document: &Value, keys: &KeyRing) -> Value {
    let policy = judge(document, keys);
    assert_eq!(policy.has_unsigned(), policy.document_json() != policy.stored_json());
    let stored: Value = serde_json::from_str(policy.stored_json()).unwrap();
    assert_eq!(serde_json::from_str::<Value>(policy.without_unsigned().document_json()).unwrap(), stored);
    // and is the same policy
    assert_eq!(judge(&stored, keys).digest(), judge(document, keys).digest());
    assert!(!judge(&stored, keys).has_unsigned());
    stored
}

#[test]
fn only_what_a_trusted_key_signed_is_stored() {
    let document = cosigned(cosigned(signed(json!({})), 1), 2);
    let both = KeyRing::new([trusted_key(), trusted(1), trusted(2)]);
    assert_eq!(stored(&document, &both), document);
    let ids = |keys: KeyRing, document: &Value| -> Vec<String> {
        let stored = stored(document, &keys);
        let list = stored.get("co_signatures").map(|list| list.as_array().unwrap().clone());
        assert!(list.as_ref().is_none_or(|list| !list.is_empty()), "an empty list is none");
        list.into_iter().flatten().map(|it| it["signing_key_id"].as_str().unwrap().to_owned()).collect()
    };
    // whatever the time: a clock that is wrong is not to take a signature away
    let future = TrustedKey { not_before: Some(time("2030-01-01T00:00:00Z")), ..trusted(1) };
    let past = TrustedKey { not_after: Some(time("2020-01-01T00:00:00Z")), ..trusted(2) };
    assert_eq!(ids(KeyRing::new([trusted_key(), future, past]), &document), ["key_1", "key_2"]);
    // unknown, revoked, not allowed here, under another key's id
    assert_eq!(ids(KeyRing::new([trusted_key(), trusted(2)]), &document), ["key_2"]);
    let revoked = TrustedKey { revoked: Some(Revocation::default()), ..trusted(1) };
    assert_eq!(ids(KeyRing::new([trusted_key(), revoked, trusted(2)]), &document), ["key_2"]);
    let elsewhere = TrustedKey { workspaces: Vec::new(), ..trusted(2) };
    assert_eq!(ids(KeyRing::new([trusted_key(), trusted(1), elsewhere]), &document), ["key_1"]);
    let posing = TrustedKey { key_id: "key_1".to_owned(), ..trusted(3) };
    assert!(ids(KeyRing::new([trusted_key(), posing]), &document).is_empty());
    // the own key once more, one twice, none at all, and what no signature covers
    let mut twice = document.clone();
    let again = twice["co_signatures"][0].clone();
    twice["co_signatures"].as_array_mut().unwrap().push(again);
    assert_eq!(ids(both.clone(), &twice), ["key_1", "key_2"]);
    let mut own = signed(json!({}));
    own["co_signatures"] = json!([{"signing_key_id": KEY_ID, "document_signature": own["document_signature"]}]);
    assert!(ids(both.clone(), &own).is_empty());
    let mut none = signed(json!({}));
    none["co_signatures"] = json!([]);
    none["signing_public_key"] = "0".repeat(64).into();
    assert_eq!(stored(&none, &both), signed(json!({})));
}

#[test]
fn a_later_signature_or_a_younger_key_is_better_only_where_all_else_is_equal() {
    let at = |when: &str| sign(skeleton(json!({})), &private_key(), KEY_ID, time(when)).unwrap();
    let standing = |document: &Value, keys: &KeyRing| judge(document, keys).standing();
    let keys = KeyRing::new([trusted_key(), trusted(1)]);
    let (early, late) = (at("2026-05-01T00:00:00Z"), at("2026-05-02T00:00:00Z"));
    assert!(standing(&late, &keys).is_better_than(&standing(&early, &keys), now()));
    assert!(!standing(&early, &keys).is_better_than(&standing(&late, &keys), now()));
    assert!(!standing(&late, &keys).is_better_than(&standing(&late, &keys), now()), "the one that is in place stays");
    let more = cosigned(early.clone(), 1);
    assert!(standing(&more, &keys).is_better_than(&standing(&late, &keys), now()));
    assert_eq!(standing(&more, &keys).signatures(now()), 2);
    // a co-signature that has not begun to count does not count
    let future =
        KeyRing::new([trusted_key(), TrustedKey { not_before: Some(time("2030-01-01T00:00:00Z")), ..trusted(1) }]);
    assert!(standing(&late, &future).is_better_than(&standing(&more, &future), now()));
    assert!(standing(&more, &future).is_better_than(&standing(&late, &future), time("2031-01-01T00:00:00Z")));
    // signed in the same second, by two keys
    let other = sign(skeleton(json!({})), &key(1), "key_1", time("2026-05-02T00:00:00Z")).unwrap();
    assert_eq!(judge(&other, &keys).digest(), judge(&late, &keys).digest());
    let since = |own: &str, other: &str| {
        keys.clone().with_since([(KEY_ID.to_owned(), time(own)), ("key_1".to_owned(), time(other))])
    };
    let younger = since("2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z");
    assert!(standing(&other, &younger).is_better_than(&standing(&late, &younger), now()));
    let older = since("2026-02-01T00:00:00Z", "2026-01-01T00:00:00Z");
    assert!(standing(&late, &older).is_better_than(&standing(&other, &older), now()));
    assert!(!standing(&late, &keys).is_better_than(&standing(&other, &keys), now()), "nobody knows");
}
