//! How many keys have to sign (two-person rule).

use jiff::Timestamp;
use sekuire_policy::policy::sign::{SignFault, cosign_with};
use sekuire_policy::policy::{
    Document, KeyRing, Pattern, PrivateKey, Reason, Refusal, Revocation, Threshold, TrustedKey, VerifiedPolicy, verify,
};
use serde_json::{Value, json};

use crate::support::{KEY_ID, WORKSPACE, now, private_key, signed, time, trusted_key};

fn key(number: u8) -> PrivateKey {
    PrivateKey::from_seed(&[number; 32])
}

fn trusted(number: u8) -> TrustedKey {
    TrustedKey { key_id: format!("key_{number}"), public_key: key(number).public(), ..trusted_key() }
}

fn threshold(signatures: u32) -> Threshold {
    Threshold { name: "two".to_owned(), workspaces: vec![Pattern::new("ws_*")], signatures: Ok(signatures) }
}

/// The own key and these, with a threshold.
fn ring(signatures: u32, others: impl IntoIterator<Item = TrustedKey>) -> KeyRing {
    KeyRing::new(std::iter::once(trusted_key()).chain(others)).with_thresholds([threshold(signatures)])
}

fn cosigned(document: Value, number: u8, key_id: &str) -> Value {
    let document = Document::from_value(document).unwrap();
    cosign_with(&document, &key(number).public(), key_id, |message| Ok(key(number).sign(message))).unwrap()
}

/// Signed with the own key, and co-signed with these.
fn document(others: &[u8]) -> Value {
    others.iter().fold(signed(json!({})), |document, n| cosigned(document, *n, &format!("key_{n}")))
}

fn judge(document: &Value, keys: &KeyRing, now: Timestamp) -> Result<VerifiedPolicy, Refusal> {
    verify(Document::from_value(document.clone())?, keys, now)
}

fn refused(document: &Value, keys: &KeyRing) -> String {
    let refusal = judge(document, keys, now()).unwrap_err();
    assert_eq!(refusal.reason, Reason::ThresholdNotMet, "{refusal}");
    refusal.message
}

#[test]
fn as_many_distinct_keys_as_the_workspace_asks_for_have_to_sign() {
    let keys = |signatures| ring(signatures, [trusted(1), trusted(2)]);
    assert!(judge(&document(&[]), &keys(1), now()).is_ok(), "one is enough by itself");
    assert!(judge(&document(&[1]), &keys(2), now()).is_ok());
    assert!(judge(&document(&[1, 2]), &keys(2), now()).is_ok(), "more than needed");
    assert!(judge(&document(&[1, 2]), &keys(3), now()).is_ok());
    let message = refused(&document(&[]), &keys(2));
    assert!(
        message.starts_with("1 of the 2 signatures that documents of ws_test need (SigningThreshold \"two\")"),
        "{message}"
    );
    assert!(message.ends_with("`sekuire policy cosign` adds one by \"key_1\" and \"key_2\""), "{message}");
    let message = refused(&document(&[1]), &keys(3));
    assert!(message.starts_with("2 of the 3 ") && message.ends_with("by \"key_2\""), "{message}");
    let message = refused(&document(&[1]), &ring(3, [trusted(1)]));
    assert!(message.contains("no other trusted key may sign"), "{message}");
}

#[test]
fn the_highest_of_all_thresholds_that_name_the_workspace_counts() {
    let other = |name: &str, pattern: &str, signatures| Threshold {
        name: name.to_owned(),
        workspaces: vec![Pattern::new(pattern)],
        signatures: Ok(signatures),
    };
    let keys = KeyRing::new([trusted_key(), trusted(1)]);
    let all = [other("three", WORKSPACE, 3), threshold(2), other("nine", "team_*", 9)];
    let message = refused(&document(&[1]), &keys.clone().with_thresholds(all.clone()));
    assert!(message.contains("2 of the 3") && message.contains("\"three\""), "{message}");
    assert!(judge(&document(&[1]), &keys.clone().with_thresholds(all[1..].to_vec()), now()).is_ok());
    let elsewhere = keys.with_thresholds([other("nine", "team_*", 9)]);
    assert!(judge(&document(&[]), &elsewhere, now()).is_ok(), "no threshold names this workspace");
}

#[test]
fn a_co_signature_that_does_not_count_is_named_with_its_reason() {
    let with = |change: fn(&mut TrustedKey)| {
        let mut key = trusted(1);
        change(&mut key);
        refused(&document(&[1]), &ring(2, [key]))
    };
    for (reason, message) in [
        ("UnknownSigningKey", refused(&document(&[1]), &ring(2, []))),
        ("KeyNotAuthorized", with(|key| key.workspaces = vec![Pattern::new("ws_other")])),
        ("KeyRevoked", with(|key| key.revoked = Some(Revocation::default()))),
        ("KeyNotYetValid", with(|key| key.not_before = Some(time("2030-01-01T00:00:00Z")))),
        ("KeyExpired", with(|key| key.not_after = Some(time("2026-01-01T00:00:00Z")))),
    ] {
        assert!(message.contains(&format!("do not count: \"key_1: {reason}\"")), "{reason}: {message}");
    }
    // over other bytes: the document was changed, and signed again, afterwards
    let mut moved = signed(json!({"tools": {}}));
    moved["co_signatures"] = document(&[1])["co_signatures"].clone();
    assert!(refused(&moved, &ring(2, [trusted(1)])).contains("\"key_1: DocumentSignatureInvalid\""));
    // by another key than it says
    let forged = cosigned(signed(json!({})), 2, "key_1");
    assert!(refused(&forged, &ring(2, [trusted(1)])).contains("\"key_1: DocumentSignatureInvalid\""));
}

#[test]
fn one_public_key_counts_once_under_whatever_ids() {
    let twin = TrustedKey { key_id: "twin".to_owned(), ..trusted_key() };
    let mut twice = signed(json!({}));
    twice["co_signatures"] =
        json!([{"signing_key_id": "twin", "document_signature": twice["document_signature"].clone()}]);
    assert!(refused(&twice, &ring(2, [twin])).contains("\"twin: its public key has signed already\""));
    let mut thrice = document(&[1]);
    let mut copy = thrice["co_signatures"][0].clone();
    thrice["co_signatures"].as_array_mut().unwrap().push(copy.clone());
    copy["signing_key_id"] = "other".into();
    thrice["co_signatures"].as_array_mut().unwrap().push(copy);
    let other = TrustedKey { key_id: "other".to_owned(), ..trusted(1) };
    let message = refused(&thrice, &ring(3, [trusted(1), other]));
    assert!(message.starts_with("2 of the 3 "), "{message}");
    assert_eq!(message.matches("has signed already").count(), 2, "{message}");
}

#[test]
fn a_fault_of_the_documents_own_key_comes_first_and_expiry_last() {
    let keys = |change: fn(&mut TrustedKey)| {
        let mut own = trusted_key();
        change(&mut own);
        KeyRing::new([own]).with_thresholds([threshold(2)])
    };
    let reason = |document: &Value, keys: &KeyRing| judge(document, keys, now()).unwrap_err().reason;
    assert_eq!(reason(&document(&[]), &keys(|key| key.revoked = Some(Revocation::default()))), Reason::KeyRevoked);
    let ended = keys(|key| key.not_after = Some(time("2026-01-01T00:00:00Z")));
    assert_eq!(reason(&document(&[]), &ended), Reason::KeyExpired);
    let mut edited = document(&[]);
    edited["expires_at"] = "2026-01-01T00:00:00Z".into();
    assert_eq!(reason(&edited, &keys(|_| {})), Reason::DocumentSignatureInvalid);
    let mut expired = crate::support::skeleton(json!({}));
    expired["expires_at"] = "2026-01-01T00:00:00Z".into();
    let expired = sekuire_policy::policy::sign(expired, &private_key(), KEY_ID, now()).unwrap();
    assert_eq!(reason(&expired, &keys(|_| {})), Reason::ThresholdNotMet);
}

#[test]
fn it_holds_as_long_as_enough_of_the_keys_count() {
    let at = |day: &str| time(&format!("2026-06-{day}T00:00:00Z"));
    let valid = |n: u8, from: &str, until: &str| TrustedKey {
        not_before: Some(at(from)),
        not_after: Some(at(until)),
        ..trusted(n)
    };
    // two of three: 1 until the 10th, 2 until the 20th, 3 from the 15th to the 25th
    let keys = ring(2, [valid(1, "01", "10"), valid(2, "01", "20"), valid(3, "15", "25")]);
    let policy = judge(&document(&[1, 2, 3]), &keys, at("02")).unwrap();
    assert_eq!((policy.holds_from(), policy.holds_until()), (Some(at("01")), Some(at("25"))));
    for (day, holds) in [("01", Ok(())), ("12", Ok(())), ("24", Ok(())), ("25", Err(Reason::ThresholdNotMet))] {
        assert_eq!(policy.holds(at(day)), holds, "{day}");
    }
    // a gap between 1 and 3
    let policy = judge(&document(&[1, 3]), &keys, at("02")).unwrap();
    assert_eq!(policy.holds_until(), Some(at("10")));
    let refusal = judge(&document(&[1, 3]), &keys, at("12")).unwrap_err();
    assert_eq!((refusal.reason, refusal.retry_at), (Reason::ThresholdNotMet, Some(at("15"))));
    let policy = judge(&document(&[1, 3]), &keys, at("15")).unwrap();
    assert_eq!((policy.holds_from(), policy.holds_until()), (Some(at("15")), Some(at("25"))));
    let refusal = judge(&document(&[1, 3]), &keys, at("25")).unwrap_err();
    assert_eq!((refusal.reason, refusal.retry_at), (Reason::ThresholdNotMet, None));
    // three of three: the shortest of all
    let keys = ring(3, [valid(1, "01", "10"), valid(2, "03", "20")]);
    let policy = judge(&document(&[1, 2]), &keys, at("05")).unwrap();
    assert_eq!((policy.holds_from(), policy.holds_until()), (Some(at("03")), Some(at("10"))));
}

#[test]
fn a_threshold_that_cannot_be_read_lets_nothing_pass() {
    let unreadable = Threshold { signatures: Err("it is damaged".to_owned()), ..threshold(1) };
    let keys = KeyRing::new([trusted_key(), trusted(1)]).with_thresholds([threshold(1), unreadable]);
    let message = refused(&document(&[1]), &keys);
    assert!(message.contains("\"two\": it is damaged"), "{message}");
}

#[test]
fn the_fingerprint_of_the_ring_changes_with_each_threshold() {
    let keys = || KeyRing::new([trusted_key()]);
    let wider = Threshold { workspaces: vec![Pattern::new("*")], ..threshold(2) };
    let named = Threshold { name: "other".to_owned(), ..threshold(2) };
    let broken = Threshold { signatures: Err("x".to_owned()), ..threshold(2) };
    let all = [threshold(2), threshold(3), wider, named.clone(), broken];
    let mut prints: Vec<String> =
        all.into_iter().map(|threshold| keys().with_thresholds([threshold]).fingerprint().to_owned()).collect();
    prints.push(keys().fingerprint().to_owned());
    let count = prints.len();
    prints.sort();
    prints.dedup();
    assert_eq!(prints.len(), count);
    let one = keys().with_thresholds([threshold(2), named.clone()]);
    assert_eq!(one.fingerprint(), keys().with_thresholds([named, threshold(2)]).fingerprint(), "in any order");
}

#[test]
fn a_co_signature_changes_nothing_else_and_its_key_signs_once() {
    let before = signed(json!({"agent": {}}));
    let after = cosigned(before.clone(), 1, "key_1");
    let mut without = after.clone();
    without.as_object_mut().unwrap().shift_remove("co_signatures");
    assert_eq!(without, before);
    let digest = |value: &Value| Document::from_value(value.clone()).unwrap().digest();
    assert_eq!(digest(&after), digest(&before));
    let again = |document: &Value, number: u8, id: &str| {
        let document = Document::from_value(document.clone()).unwrap();
        cosign_with(&document, &key(number).public(), id, |message| Ok(key(number).sign(message)))
    };
    for (number, id) in [(1, "key_1"), (1, "another_id"), (2, "key_1"), (2, KEY_ID)] {
        assert!(matches!(again(&after, number, id), Err(SignFault::SignedAlready(_))), "{number} {id}");
    }
    assert!(matches!(again(&before, 7, "another_id"), Err(SignFault::SignedAlready(_))), "the own key");
    for damage in ["hash", "signature", "document_signature"] {
        let mut damaged = before.clone();
        match damage {
            "hash" => damaged["hash"] = "0".repeat(64).into(),
            missing => drop(damaged.as_object_mut().unwrap().shift_remove(missing)),
        }
        assert!(matches!(again(&damaged, 1, "key_1"), Err(SignFault::NotSigned(_))), "{damage}");
    }
    let document = Document::from_value(before).unwrap();
    let wrong = cosign_with(&document, &key(1).public(), "key_1", |message| Ok(key(2).sign(message)));
    assert!(matches!(wrong, Err(SignFault::WrongSignature(_))));
}

#[test]
fn weeks_before_the_end_it_is_said_what_will_end() {
    let ends = |until: &str| Some(time(until));
    let keys = |own: Option<Timestamp>, other: Option<Timestamp>| {
        let own = TrustedKey { not_after: own, ..trusted_key() };
        let other = TrustedKey { not_after: other, ..trusted(1) };
        KeyRing::new([own, other]).with_thresholds([threshold(2)])
    };
    let ending = |keys: &KeyRing| judge(&document(&[1]), keys, now()).unwrap().ending(now());
    assert_eq!(ending(&keys(None, None)), None);
    assert_eq!(ending(&keys(ends("2026-07-01T00:00:01Z"), None)), None, "thirty days and a second");
    let said = ending(&keys(ends("2026-07-01T00:00:00Z"), None)).unwrap();
    assert!(said.starts_with("the key key_test ends at 2026-07-01T00:00:00Z"), "{said}");
    let said = ending(&keys(None, ends("2026-06-20T00:00:00Z"))).unwrap();
    assert!(said.starts_with("a key that co-signed ends at 2026-06-20T00:00:00Z"), "{said}");
}
