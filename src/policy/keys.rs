//! Public keys, which of them are trusted, and for what.

use std::sync::Arc;

use jiff::Timestamp;

use super::pattern::Pattern;

/// An Ed25519 public key that is not weak.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PublicKey(ed25519_dalek::VerifyingKey);

impl PublicKey {
    /// Reads a key: PEM (`-----BEGIN PUBLIC KEY-----`), an OpenSSH line (`ssh-ed25519 AAAA…`) or 64 hex digits.
    ///
    /// # Errors
    /// [`KeyFault::Weak`] for a key of small order, [`KeyFault::Malformed`] for everything else that is no key.
    pub fn parse(text: &str) -> Result<PublicKey, KeyFault> {
        todo!()
    }
    /// The 32 raw bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0.to_bytes()
    }
    /// 64 lower-case hex digits.
    #[must_use]
    pub fn to_hex(&self) -> String {
        hex::encode(self.to_bytes())
    }
    /// PEM of the SPKI form.
    #[must_use]
    pub fn to_pem(&self) -> String {
        todo!()
    }
    /// `key_` and 16 hex of the BLAKE3 of the raw key.
    #[must_use]
    pub fn key_id(&self) -> String {
        todo!()
    }
}

/// That a key was revoked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revocation {
    /// Why, in words.
    pub reason: Option<String>,
    /// When; for information, a revoked key is revoked at every time.
    pub at: Option<Timestamp>,
}

/// A configured key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedKey {
    /// What documents call it in `signing_key_id`.
    pub key_id: String,
    /// The key.
    pub public_key: PublicKey,
    /// For which workspaces it may sign.
    pub workspaces: Vec<Pattern>,
    /// From when on it is valid.
    pub not_before: Option<Timestamp>,
    /// Until when (excluded) it is valid.
    pub not_after: Option<Timestamp>,
    /// Set when it was revoked.
    pub revoked: Option<Revocation>,
}

/// Why a configured key cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    /// A key of small order: anybody can make signatures that it accepts.
    #[error("the public key is weak")]
    Weak,
    /// Not a key.
    #[error("{0}")]
    Malformed(String),
    /// Two keys of one id.
    #[error("the key id is claimed twice")]
    DuplicateKeyId,
}

impl KeyFault {
    /// The name for conditions: `WeakKey`, `MalformedKey` or `DuplicateKeyId`.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            KeyFault::Weak => "WeakKey",
            KeyFault::Malformed(_) => "MalformedKey",
            KeyFault::DuplicateKeyId => "DuplicateKeyId",
        }
    }
}

/// The trusted keys. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct KeyRing {
    inner: Arc<Ring>,
}

#[derive(Debug, Default)]
struct Ring {
    fingerprint: String,
}

impl KeyRing {
    /// A ring of these keys.
    pub fn new(keys: impl IntoIterator<Item = TrustedKey>) -> KeyRing {
        todo!()
    }
    /// Names an id that is configured, but cannot be used, so that a refusal can say why.
    #[must_use]
    pub fn with_unusable(self, key_id: String, why: KeyFault) -> KeyRing {
        todo!()
    }
    /// The key of this id, unless the id is claimed twice.
    #[must_use]
    pub fn get(&self, key_id: &str) -> Option<&TrustedKey> {
        todo!()
    }
    /// Whether two keys claim this id.
    #[must_use]
    pub fn is_duplicate(&self, key_id: &str) -> bool {
        todo!()
    }
    /// How many usable keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        todo!()
    }
    /// Whether there is no usable key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// 64 hex that change when anything changes that verification looks at.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.inner.fingerprint
    }
}
