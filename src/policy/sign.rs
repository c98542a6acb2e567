//! Signing documents.

use jiff::Timestamp;
use serde_json::Value;

use super::document::Fault;
use super::keys::{KeyFault, PublicKey};

/// An Ed25519 key that can sign.
pub struct PrivateKey(ed25519_dalek::SigningKey);

impl PrivateKey {
    /// The key of 32 random bytes.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> PrivateKey {
        PrivateKey(ed25519_dalek::SigningKey::from_bytes(seed))
    }
    /// Reads a key: PKCS#8 PEM, an OpenSSH private key, or 32 or 64 bytes in hex.
    ///
    /// # Errors
    /// [`KeyFault::Malformed`] when it is none of these, or encrypted.
    pub fn parse(text: &str) -> Result<PrivateKey, KeyFault> {
        todo!()
    }
    /// PKCS#8 PEM.
    #[must_use]
    pub fn to_pkcs8_pem(&self) -> String {
        todo!()
    }
    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        todo!()
    }
}

/// Why a document cannot be signed.
#[derive(Debug, thiserror::Error)]
pub enum SignFault {
    /// It would not validate.
    #[error(transparent)]
    Document(#[from] Fault),
}

/// Signs a document, or one that is still without signatures.
///
/// # Errors
/// When the document would not validate.
pub fn sign(value: Value, key: &PrivateKey, key_id: &str, now: Timestamp) -> Result<Value, SignFault> {
    todo!()
}
