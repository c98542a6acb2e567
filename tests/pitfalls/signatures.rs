//! Signatures and keys.

use ed25519_dalek::{Signature, VerifyingKey};
use sekuire_policy::api::conditions;
use serde_json::{Value, json};

use super::support::{Target, with};
use crate::cluster::Signer;
use crate::reconcile::tenant::{Tenant, eventually};

#[tokio::test]
async fn signature_stripped_a_document_without_one_of_its_signatures_is_not_taken_for_one_that_needs_none() {
    let target = Target::new().await;
    let genuine = target.permissive("9");
    let without = |names: &[&str]| {
        let mut document = genuine.clone();
        names.iter().for_each(|name| drop(document.as_object_mut().unwrap().shift_remove(*name)));
        document
    };
    target
        .refuses_all(&[
            ("signature", without(&["signature"]).to_string(), "SignatureMissing"),
            ("document_signature", without(&["document_signature"]).to_string(), "DocumentSignatureMissing"),
            ("both", without(&["signature", "document_signature"]).to_string(), "SignatureMissing"),
            ("both, and the hash", without(&["signature", "document_signature", "hash"]).to_string(), "Malformed"),
            (
                "all, and the key",
                without(&["signature", "document_signature", "hash", "signing_key_id"]).to_string(),
                "Malformed",
            ),
            ("an empty one", with(&genuine, "signature", json!("")).to_string(), "Malformed"),
            ("null", with(&genuine, "document_signature", Value::Null).to_string(), "Malformed"),
            (
                "zeros",
                with(&genuine, "document_signature", json!("0".repeat(128))).to_string(),
                "DocumentSignatureInvalid",
            ),
        ])
        .await;
}

#[tokio::test]
async fn key_from_bundle_a_key_that_a_document_or_a_repository_brings_along_is_not_trusted() {
    let target = Target::new().await;
    let (team, thief) = (&target.team, target.team.stranger());
    let workspace = team.workspace("a");
    let sign = |signer: &Signer, key: Value| {
        let mut document = target.permissive("9");
        document["signing_public_key"] = key;
        signer.sign(document)
    };
    let mut brought = sign(&thief, json!(thief.public_hex()));
    brought["signing_public_key"] = json!(thief.public_hex());
    target.refuses_file("a key of its own", &brought.to_string(), "UnknownSigningKey").await;
    let posing = thief.with_id(team.signer.key_id());
    let mut brought = sign(&posing, json!(posing.public_hex()));
    brought["signing_public_key"] = json!(posing.public_hex());
    target.refuses_file("a key under the trusted id", &brought.to_string(), "SignatureInvalid").await;

    // a manifest in the repository is a file that is no document, and nobody applies it
    let thief = team.stranger();
    let name = format!("{}-brought", team.name);
    let (manifest, document) = (thief.manifest(&name, &["*"]).to_string(), thief.active(&workspace, "9", json!({})));
    let files = [("a.json", &*document, "UnknownSigningKey"), ("key.yaml", &*manifest, "Malformed")];
    target.attack("a SigningKey among the policies", &files).await;
    assert!(team.keys().get_opt(&name).await.unwrap().is_none());
}

#[tokio::test]
async fn key_confusion_a_key_signs_for_its_workspaces_and_a_signature_counts_for_what_it_was_made_over() {
    let target = Target::new().await;
    let (team, other) = (&target.team, Tenant::new().await);
    let workspace = team.workspace("a");
    let genuine = target.permissive("9");
    let foreign = other.signer.active(&workspace, "9", json!({}));
    let posing = Signer::new(other.name.trim_start_matches("team").parse().unwrap()).with_id(team.signer.key_id());
    let theirs: Value = serde_json::from_str(&other.active("a", "9", "nothing")).unwrap();
    // the same key, for another workspace of the same team
    let sibling: Value = serde_json::from_str(&team.active("b", "9", "nothing")).unwrap();
    let both = |signature: &str, document_signature: &str| {
        let swapped = with(&genuine, "signature", genuine[signature].clone());
        with(&swapped, "document_signature", genuine[document_signature].clone()).to_string()
    };
    let mixed = with(&genuine, "content", sibling["content"].clone());
    let mixed = with(&with(&mixed, "hash", sibling["hash"].clone()), "signature", sibling["signature"].clone());
    target
        .refuses_all(&[
            ("a trusted key of another team", foreign, "KeyNotAuthorized"),
            ("that key under this team's id", posing.active(&workspace, "9", json!({})), "SignatureInvalid"),
            (
                "their policy, for this workspace",
                with(&theirs, "workspace_id", json!(workspace)).to_string(),
                "KeyNotAuthorized",
            ),
            (
                "a signature in the place of the other",
                both("document_signature", "document_signature"),
                "SignatureInvalid",
            ),
            ("and the other way round", both("signature", "signature"), "DocumentSignatureInvalid"),
            (
                "a policy of a sibling",
                with(&sibling, "workspace_id", json!(workspace)).to_string(),
                "DocumentSignatureInvalid",
            ),
            ("parts of two genuine policies", mixed.to_string(), "SignatureInvalid"),
        ])
        .await;
}

#[tokio::test]
async fn ed25519_malleability_another_form_of_a_signature_and_a_weak_key_are_refused() {
    let target = Target::new().await;
    let team = &target.team;
    let genuine: Value = serde_json::from_str(&team.active("a", "3", "shell_exec")).unwrap();
    let mut attempts = Vec::new();
    for member in ["signature", "document_signature"] {
        let signature = plus_order(genuine[member].as_str().unwrap());
        let reason = if member == "signature" { "SignatureInvalid" } else { "DocumentSignatureInvalid" };
        attempts.push((member, with(&genuine, member, json!(signature)).to_string(), reason));
    }
    let upper = genuine["signature"].as_str().unwrap().to_uppercase();
    attempts.push(("other digits", with(&genuine, "signature", json!(upper)).to_string(), "Malformed"));
    target.refuses_all(&attempts).await;

    // the neutral element: by the lax equation, (R = A, S = 0) is its signature over every message
    let neutral = format!("01{}", "00".repeat(31));
    let point = hex_array::<32>(&neutral);
    let forged = format!("{neutral}{}", "00".repeat(32));
    let lax = VerifyingKey::from_bytes(&point).unwrap();
    let by_anybody = Signature::from_bytes(&hex_array::<64>(&forged));
    assert!(ed25519_dalek::Verifier::verify(&lax, b"any message", &by_anybody).is_ok(), "this is an attack");
    let name = format!("{}-neutral", team.name);
    let key = json!({
        "apiVersion": "sekuire.ai/v1alpha1", "kind": "SigningKey", "metadata": {"name": name},
        "spec": {"keyId": name, "publicKey": neutral, "workspaces": [team.workspace("*")]},
    });
    team.apply(&key).await;
    eventually("WeakKey", async || {
        let conditions = team.keys().get(&name).await.unwrap().status.unwrap_or_default().conditions;
        let found = conditions::find(&conditions, "Ready").is_some_and(|ready| ready.reason == "WeakKey");
        if found { Ok(()) } else { Err(format!("{conditions:?}")) }
    })
    .await;
    let mut document = target.permissive("9");
    document["signing_key_id"] = json!(name);
    document["signature"] = json!(forged);
    document["document_signature"] = json!(forged);
    let message = target.refuses_file("by anybody", &document.to_string(), "UnknownSigningKey").await;
    assert!(message.contains("weak"), "{message}");
}

fn hex_array<const N: usize>(text: &str) -> [u8; N] {
    hex::decode(text).unwrap().try_into().unwrap()
}

/// The same signature with the order of the group added to its S: the equation still holds.
fn plus_order(signature: &str) -> String {
    // 2^252 + 27742317777372353535851937790883648493, little-endian
    let order = hex_array::<32>("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010");
    let mut bytes = hex_array::<64>(signature);
    let mut carry = 0;
    for (byte, add) in bytes[32..].iter_mut().zip(order) {
        let sum = u16::from(*byte) + u16::from(add) + carry;
        [_, *byte] = sum.to_be_bytes();
        carry = sum >> 8;
    }
    assert_eq!(carry, 0);
    hex::encode(bytes)
}
