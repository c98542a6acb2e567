//! Public keys, which of them are trusted, and for what.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePublicKey, EncodePublicKey};
use ed25519_dalek::{Signature, VerifyingKey};
use jiff::Timestamp;
use serde_json::json;

use super::canonical::blake3_hex;
use super::pattern::Pattern;
use super::pem;
use super::threshold::Threshold;

/// An Ed25519 public key that is not weak.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// Reads a key: PEM (`-----BEGIN PUBLIC KEY-----`, RFC 8410), an OpenSSH line (`ssh-ed25519 AAAA…`) or 64 hex
    /// digits.
    ///
    /// # Errors
    /// [`KeyFault::Weak`] for a key of small order, [`KeyFault::Malformed`] for everything else that is no key.
    pub fn parse(text: &str) -> Result<PublicKey, KeyFault> {
        let text = text.trim();
        let malformed = |what: &str| KeyFault::Malformed(format!("{what}; {ACCEPTED}"));
        if text.contains("PRIVATE KEY") {
            return Err(malformed("this is a private key"));
        }
        if text.starts_with("-----") {
            let (blocks, around) = pem::blocks(text);
            let [block] = blocks.as_slice() else { return Err(malformed("not one key as PEM, whole")) };
            if around.iter().any(|line| !line.is_empty()) {
                return Err(malformed("more than the PEM of one key"));
            }
            return match VerifyingKey::from_public_key_pem(&block.text) {
                Ok(key) => PublicKey::new(&key.to_bytes()),
                Err(e) => Err(malformed(&format!("not the PEM of an Ed25519 key ({e})"))),
            };
        }
        if text.contains('\n') {
            return Err(malformed("more than one line, and not PEM"));
        }
        if text.contains(' ') {
            let key = ssh_key::PublicKey::from_openssh(text)
                .map_err(|e| malformed(&format!("not an OpenSSH public key ({e})")))?;
            let key =
                key.key_data().ed25519().ok_or_else(|| malformed("an OpenSSH key, but not of type ssh-ed25519"))?;
            return PublicKey::new(&key.0);
        }
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| malformed("not a public key"))?;
        PublicKey::new(&bytes)
    }

    /// Takes the 32 raw bytes.
    ///
    /// # Errors
    /// As [`PublicKey::parse`].
    pub fn new(bytes: &[u8; 32]) -> Result<PublicKey, KeyFault> {
        let no_point = || KeyFault::Malformed("these 32 bytes are not a point of the curve".to_owned());
        // One point, one form: what is revoked under one spelling must not come back under another.
        let coordinate_too_large =
            bytes[0] >= 0xed && bytes[1..31].iter().all(|b| *b == 0xff) && bytes[31] & 0x7f == 0x7f;
        let key = VerifyingKey::from_bytes(bytes).map_err(|_| no_point())?;
        if key.is_weak() {
            return Err(KeyFault::Weak);
        }
        if coordinate_too_large {
            return Err(no_point());
        }
        Ok(PublicKey(key))
    }

    /// Whether the key made this signature over these bytes, by the strict rules (no small order, one form of each
    /// signature).
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        self.0.verify_strict(message, &Signature::from_bytes(signature)).is_ok()
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

    /// PEM of the SPKI form (RFC 8410), as openssl writes it.
    #[must_use]
    #[allow(clippy::expect_used, reason = "32 bytes always have this form")]
    pub fn to_pem(&self) -> String {
        self.0.to_public_key_pem(LineEnding::LF).expect("a public key can be encoded")
    }

    /// The id that `sekuire key` gives a key: `key_` and 16 hex of the BLAKE3 of the raw key.
    #[must_use]
    pub fn key_id(&self) -> String {
        format!("key_{}", &blake3_hex(&self.to_bytes())[..16])
    }
}

const ACCEPTED: &str = "expected an Ed25519 public key as PEM (-----BEGIN PUBLIC KEY-----), as an OpenSSH line \
                        (ssh-ed25519 AAAA…) or as 64 hex digits";

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
    /// For which workspaces it may sign; none when empty.
    pub workspaces: Vec<Pattern>,
    /// From when on it is valid.
    pub not_before: Option<Timestamp>,
    /// Until when (excluded) it is valid.
    pub not_after: Option<Timestamp>,
    /// Set when it was revoked.
    pub revoked: Option<Revocation>,
}

impl TrustedKey {
    /// Whether a moment is within its validity.
    pub(super) fn counts_at(&self, at: Timestamp) -> bool {
        self.not_before.is_none_or(|from| from <= at) && self.not_after.is_none_or(|until| at < until)
    }
}

/// Why a configured key cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    /// A key of small order: anybody can make signatures that it accepts.
    #[error("the public key is weak (of small order): anybody could sign for it; make a new one")]
    Weak,
    /// Not a key.
    #[error("{0}")]
    Malformed(String),
    /// Two keys of one id.
    #[error("the key id is claimed by two keys, so neither is used; give one of them another id")]
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

/// The trusted keys, and how many of them have to sign for which workspaces. Cheap to clone.
#[derive(Clone, Debug)]
pub struct KeyRing(Arc<Ring>);

#[derive(Clone, Debug, Default)]
struct Ring {
    entries: HashMap<String, Entry>,
    /// By name.
    thresholds: Vec<Threshold>,
    /// Since when keys have been trusted, by their ids.
    since: BTreeMap<String, Timestamp>,
    fingerprint: String,
}

#[derive(Clone, Debug)]
enum Entry {
    Usable(Box<TrustedKey>),
    Unusable(KeyFault),
}

impl KeyRing {
    /// A ring of these keys. Of two keys with one id, neither can be used. A public key that is revoked in any entry is
    /// revoked in every entry, also where an id clashes.
    pub fn new(keys: impl IntoIterator<Item = TrustedKey>) -> KeyRing {
        let keys: Vec<TrustedKey> = keys.into_iter().collect();
        let mut revoked: HashMap<[u8; 32], Revocation> = HashMap::new();
        for key in &keys {
            if let Some(revocation) = &key.revoked {
                revoked.entry(key.public_key.to_bytes()).or_insert_with(|| revocation.clone());
            }
        }
        let mut ring = Ring::default();
        for mut key in keys {
            if key.revoked.is_none() {
                key.revoked = revoked.get(&key.public_key.to_bytes()).cloned();
            }
            ring.add(key.key_id.clone(), Entry::Usable(Box::new(key)));
        }
        ring.finish()
    }

    /// Names an id that is configured, but cannot be used, so that a refusal can say why. Where a usable key has the
    /// same id, two claim it, and neither is used.
    #[must_use]
    pub fn with_unusable(self, key_id: String, why: KeyFault) -> KeyRing {
        let mut ring = Arc::unwrap_or_clone(self.0);
        ring.add(key_id, Entry::Unusable(why));
        ring.finish()
    }

    /// Asks for several signatures in the workspaces of these thresholds.
    #[must_use]
    pub fn with_thresholds(self, thresholds: impl IntoIterator<Item = Threshold>) -> KeyRing {
        let mut ring = Arc::unwrap_or_clone(self.0);
        ring.thresholds.extend(thresholds);
        ring.thresholds.sort_by(|a, b| a.name.cmp(&b.name));
        ring.finish()
    }

    /// Remembers since when keys, by their ids, have been trusted. No verdict depends on it: only which of two copies of a
    /// document is the later one.
    #[must_use]
    pub fn with_since(self, since: impl IntoIterator<Item = (String, Timestamp)>) -> KeyRing {
        let mut ring = Arc::unwrap_or_clone(self.0);
        ring.since.extend(since);
        ring.finish()
    }

    /// Since when the key of this id has been trusted, if that is known.
    #[must_use]
    pub fn since(&self, key_id: &str) -> Option<Timestamp> {
        self.0.since.get(key_id).copied()
    }

    /// The highest threshold of a workspace, if it has one.
    #[must_use]
    pub fn threshold(&self, workspace: &str) -> Option<&Threshold> {
        self.0.thresholds.iter().filter(|threshold| threshold.concerns(workspace)).max_by_key(|t| t.height())
    }

    /// The key of this id, if it can be used; its `revoked` says whether that public key was revoked anywhere.
    #[must_use]
    pub fn get(&self, key_id: &str) -> Option<&TrustedKey> {
        match self.0.entries.get(key_id)? {
            Entry::Usable(key) => Some(key),
            Entry::Unusable(_) => None,
        }
    }

    /// Why a configured id cannot be used.
    #[must_use]
    pub fn unusable(&self, key_id: &str) -> Option<&KeyFault> {
        match self.0.entries.get(key_id)? {
            Entry::Usable(_) => None,
            Entry::Unusable(why) => Some(why),
        }
    }

    /// Whether two keys claim this id.
    #[must_use]
    pub fn is_duplicate(&self, key_id: &str) -> bool {
        matches!(self.unusable(key_id), Some(KeyFault::DuplicateKeyId))
    }

    /// The usable keys, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &TrustedKey> {
        self.0.entries.values().filter_map(|entry| match entry {
            Entry::Usable(key) => Some(&**key),
            Entry::Unusable(_) => None,
        })
    }

    /// How many usable keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether there is no usable key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// 64 hex that change when anything changes that verification looks at, and do not depend on the order of keys and
    /// thresholds.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.0.fingerprint
    }
}

impl Default for KeyRing {
    fn default() -> Self {
        KeyRing::new([])
    }
}

impl Ring {
    fn add(&mut self, key_id: String, entry: Entry) {
        self.entries
            .entry(key_id)
            .and_modify(|present| *present = Entry::Unusable(KeyFault::DuplicateKeyId))
            .or_insert(entry);
    }

    fn finish(mut self) -> KeyRing {
        let facts: BTreeMap<&String, serde_json::Value> =
            self.entries.iter().map(|(id, entry)| (id, entry.facts())).collect();
        let thresholds: Vec<serde_json::Value> = self.thresholds.iter().map(Threshold::facts).collect();
        self.fingerprint = blake3_hex(json!([facts, thresholds, self.since]).to_string().as_bytes());
        KeyRing(Arc::new(self))
    }
}

impl Entry {
    /// All that a verdict or its message depends on.
    fn facts(&self) -> serde_json::Value {
        match self {
            Entry::Unusable(why) => json!([why.reason(), why.to_string()]),
            Entry::Usable(key) => {
                let mut workspaces: Vec<&str> = key.workspaces.iter().map(Pattern::as_str).collect();
                workspaces.sort_unstable();
                let revoked = key.revoked.as_ref().map(|r| json!([r.reason, r.at]));
                json!([key.public_key.to_hex(), workspaces, key.not_before, key.not_after, revoked])
            }
        }
    }
}
