//! Signing documents.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::canonical::{Members, signature_input};
use super::document::{Document, Fault, check_unsigned, signature_of};
use super::keys::PublicKey;
use super::private_key::PrivateKey;

/// Why a document cannot be signed.
#[derive(Debug, thiserror::Error)]
pub enum SignFault {
    /// It would not validate.
    #[error(transparent)]
    Document(#[from] Fault),
    /// Who was asked for a signature gave none.
    #[error("no signature was made: {0}")]
    Signer(String),
    /// The signature that was given is not one of the key.
    #[error("the signature is not one of the key {0}; expected an Ed25519 signature over the bytes that were given")]
    WrongSignature(String),
    /// There is no signature that another one could stand beside.
    #[error("{0}: sign it first (`sekuire policy sign`)")]
    NotSigned(&'static str),
    /// The key has signed before, under whatever id.
    #[error("this public key has signed it already, as {0}; only distinct keys count")]
    SignedAlready(String),
}

/// Signs a document, or one that still lacks what signing adds: `hash`, `signing_key_id`, `updated_at`, `signature` and
/// `document_signature` are filled in. Members keep their order; new ones come last. What belonged to the old
/// signature, `co_signatures` and `signing_public_key`, is dropped.
///
/// # Errors
/// [`SignFault::Document`] when the document would not validate.
pub fn sign(value: Value, key: &PrivateKey, key_id: &str, now: Timestamp) -> Result<Value, SignFault> {
    sign_with(value, &key.public(), key_id, now, |message| Ok(key.sign(message)))
}

/// As [`sign`], with a key that is somewhere else: `signer` is given the bytes to sign, twice, and returns the raw
/// signature, or why there is none.
///
/// # Errors
/// As [`sign`]; [`SignFault::Signer`] when there is no signature; [`SignFault::WrongSignature`] when it is not one of
/// `public`.
pub fn sign_with(
    mut value: Value,
    public: &PublicKey,
    key_id: &str,
    now: Timestamp,
    mut signer: impl FnMut(&[u8]) -> Result<[u8; 64], String>,
) -> Result<Value, SignFault> {
    let mut signature_over = |message: &[u8]| signature_over(message, public, &mut signer);
    if let Value::Object(document) = &mut value {
        for old in ["co_signatures", "signing_public_key"] {
            document.shift_remove(old);
        }
        // What is replaced anyway is no reason to refuse; what is new keeps this order.
        document.insert("signing_key_id".to_owned(), key_id.into());
        document.insert("updated_at".to_owned(), seconds(now).to_string().into());
        for (name, digits) in [("hash", 64), ("signature", 128), ("document_signature", 128)] {
            document.insert(name.to_owned(), "0".repeat(digits).into());
        }
    }
    check_unsigned(&value)?;
    set(&mut value, "hash", |members, _| Ok(members.content_hash().into()))?;
    set(&mut value, "signature", |_, document| {
        let text = |name: &str| document.get(name).and_then(Value::as_str).unwrap_or_default();
        signature_over(&signature_input(text("policy_id"), text("version"), text("hash")))
    })?;
    set(&mut value, "document_signature", |members, _| signature_over(&members.document_signature_input()))?;
    Ok(value)
}

/// Adds a co-signature: over the same bytes as `document_signature`, by another key. `signer` is given them once.
///
/// # Errors
/// [`SignFault::NotSigned`] when `hash` is not that of the content or a signature is missing,
/// [`SignFault::SignedAlready`], and those of [`sign_with`].
pub fn cosign_with(
    document: &Document,
    public: &PublicKey,
    key_id: &str,
    signer: impl FnMut(&[u8]) -> Result<[u8; 64], String>,
) -> Result<Value, SignFault> {
    let mut value = document.value().clone();
    let members = Members::of(document.value());
    if members.content_hash() != document.hash() {
        return Err(SignFault::NotSigned("hash is not that of the content"));
    }
    for name in ["signature", "document_signature"] {
        if value.get(name).is_none() {
            return Err(SignFault::NotSigned("a signature is missing"));
        }
    }
    let message = members.document_signature_input();
    for signed in signatures(&value) {
        let id = signed.get("signing_key_id").and_then(Value::as_str).unwrap_or_default();
        let by_this = signature_of(signed, "document_signature").is_some_and(|s| public.verifies(&message, &s));
        if by_this || id == key_id {
            return Err(SignFault::SignedAlready(id.to_owned()));
        }
    }
    let signature = signature_over(&message, public, signer)?;
    let added = json!({"signing_key_id": key_id, "document_signature": signature});
    match value.get_mut("co_signatures").and_then(Value::as_array_mut) {
        Some(list) => list.push(added),
        None => value["co_signatures"] = Value::from(vec![added]),
    }
    Ok(Document::from_value(value)?.value().clone())
}

/// Whether `hash` is that of the content, and a key made `document_signature` or a co-signature over the document as it is:
/// whether it counts, and for what, is not asked.
#[must_use]
pub fn is_signed_by(document: &Document, public: &PublicKey) -> bool {
    let members = Members::of(document.value());
    let message = members.document_signature_input();
    members.content_hash() == document.hash()
        && signatures(document.value())
            .any(|signed| signature_of(signed, "document_signature").is_some_and(|s| public.verifies(&message, &s)))
}

/// The document itself, and each of its co-signatures.
fn signatures(document: &Value) -> impl Iterator<Item = &Value> {
    let co_signatures = document.get("co_signatures").and_then(Value::as_array).into_iter().flatten();
    std::iter::once(document).chain(co_signatures)
}

fn signature_over(
    message: &[u8],
    public: &PublicKey,
    mut signer: impl FnMut(&[u8]) -> Result<[u8; 64], String>,
) -> Result<Value, SignFault> {
    let signature = signer(message).map_err(SignFault::Signer)?;
    if !public.verifies(message, &signature) {
        return Err(SignFault::WrongSignature(public.key_id()));
    }
    Ok(Value::from(hex::encode(signature)))
}

fn set(
    value: &mut Value,
    name: &str,
    make: impl FnOnce(&Members<'_>, &Map<String, Value>) -> Result<Value, SignFault>,
) -> Result<(), SignFault> {
    let made = match &*value {
        Value::Object(document) => make(&Members::of(value), document)?,
        _ => return Ok(()),
    };
    value[name] = made;
    Ok(())
}

fn seconds(now: Timestamp) -> Timestamp {
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}
