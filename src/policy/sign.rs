//! Signing documents.

use std::fmt;

use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, EncodePrivateKey};
use ed25519_dalek::{Signer, SigningKey};
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::canonical::{Members, signature_input};
use super::document::{Fault, check_unsigned};
use super::keys::{KeyFault, PublicKey};

/// An Ed25519 key that can sign. Its memory is wiped when it is dropped.
pub struct PrivateKey(SigningKey);

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(…)")
    }
}

const ACCEPTED: &str = "expected an Ed25519 private key as PKCS#8 PEM (-----BEGIN PRIVATE KEY-----), as an OpenSSH \
                        private key, or as 32 or 64 bytes in hex";

impl PrivateKey {
    /// The key of 32 random bytes.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> PrivateKey {
        PrivateKey(SigningKey::from_bytes(seed))
    }

    /// Reads a key: PKCS#8 PEM (RFC 8410, as openssl makes it), an OpenSSH private key, 32 bytes of seed in hex, or 64
    /// bytes of seed and public key in hex.
    ///
    /// # Errors
    /// [`KeyFault::Malformed`] when it is none of these, or encrypted. The message shows nothing of the text.
    pub fn parse(text: &str) -> Result<PrivateKey, KeyFault> {
        let text = text.trim();
        let malformed = |what: &str| KeyFault::Malformed(format!("{what}; {ACCEPTED}"));
        if text.starts_with("-----BEGIN OPENSSH PRIVATE KEY-----") {
            let key = ssh_key::PrivateKey::from_openssh(rewrapped(text))
                .map_err(|_| malformed("not an OpenSSH private key"))?;
            if key.is_encrypted() {
                return Err(malformed("the key is encrypted; remove the passphrase with `ssh-keygen -p` on a copy"));
            }
            let pair = key.key_data().ed25519().ok_or_else(|| malformed("an OpenSSH key, but not of type ed25519"))?;
            return Ok(PrivateKey(SigningKey::from_bytes(&pair.private.to_bytes())));
        }
        if text.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----") {
            return Err(malformed("the key is encrypted; decrypt it with `openssl pkey` first"));
        }
        if text.starts_with("-----") {
            return SigningKey::from_pkcs8_pem(text)
                .map(PrivateKey)
                .map_err(|_| malformed("not the PKCS#8 PEM of an Ed25519 key"));
        }
        let mut pair = [0; 64];
        if hex::decode_to_slice(text, &mut pair[..32]).is_ok() {
            let mut seed = [0; 32];
            seed.copy_from_slice(&pair[..32]);
            return Ok(PrivateKey::from_seed(&seed));
        }
        hex::decode_to_slice(text, &mut pair).map_err(|_| malformed("not a private key"))?;
        SigningKey::from_keypair_bytes(&pair)
            .map(PrivateKey)
            .map_err(|_| malformed("64 bytes, but the second half is not the public key of the first"))
    }

    /// PKCS#8 PEM.
    #[must_use]
    #[allow(clippy::expect_used, reason = "32 bytes always have this form")]
    pub fn to_pkcs8_pem(&self) -> String {
        self.0.to_pkcs8_pem(LineEnding::LF).expect("a private key can be encoded").as_str().to_owned()
    }

    /// The public half.
    #[must_use]
    #[allow(clippy::expect_used, reason = "the clamped multiple of the base point is never of small order")]
    pub fn public(&self) -> PublicKey {
        PublicKey::new(&self.0.verifying_key().to_bytes()).expect("a public key that was computed is not weak")
    }

    /// The signature over these bytes.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

/// The PEM in lines as ssh-keygen writes them; the parser takes no others, but other tools write others.
fn rewrapped(pem: &str) -> String {
    const LINE: usize = 70;
    let mut wrapped = String::with_capacity(pem.len() + pem.len() / LINE + 1);
    let mut column = 0;
    for line in pem.lines().map(str::trim) {
        if line.starts_with("-----") {
            if column > 0 {
                wrapped.push('\n');
                column = 0;
            }
            wrapped.push_str(line);
            wrapped.push('\n');
            continue;
        }
        for c in line.chars() {
            if column == LINE {
                wrapped.push('\n');
                column = 0;
            }
            wrapped.push(c);
            column += 1;
        }
    }
    wrapped
}

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
    let mut signature_over = |message: &[u8]| {
        let signature = signer(message).map_err(SignFault::Signer)?;
        if !public.verifies(message, &signature) {
            return Err(SignFault::WrongSignature(public.key_id()));
        }
        Ok(Value::from(hex::encode(signature)))
    };
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
