//! The only way to a [`VerifiedPolicy`].

use jiff::Timestamp;

use super::document::{Document, Status};
use super::keys::{KeyRing, PublicKey};
use super::reason::Reason;
use super::version::Version;

/// Why a document is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// The reason out of the closed set.
    pub reason: Reason,
    /// What is wrong and what would be accepted, in one sentence.
    pub message: String,
    /// When the clock alone changes the verdict: set for [`Reason::KeyNotYetValid`].
    pub retry_at: Option<Timestamp>,
}

/// A policy that a trusted key signed.
#[derive(Debug)]
pub struct VerifiedPolicy {
    document_json: Box<str>,
}

/// Judges a document by the trusted keys at the time `now`.
///
/// # Errors
/// The first reason, in the order of the specification, for which it is not believed.
pub fn verify(document: Document, keys: &KeyRing, now: Timestamp) -> Result<VerifiedPolicy, Refusal> {
    todo!()
}

impl VerifiedPolicy {
    /// `policy_id`
    #[must_use]
    pub fn policy_id(&self) -> &str {
        todo!()
    }
    /// `workspace_id`
    #[must_use]
    pub fn workspace_id(&self) -> &str {
        todo!()
    }
    /// `version`
    #[must_use]
    pub fn version(&self) -> &Version {
        todo!()
    }
    /// `status`
    #[must_use]
    pub fn status(&self) -> Status {
        todo!()
    }
    /// `hash`
    #[must_use]
    pub fn hash(&self) -> &str {
        todo!()
    }
    /// `signing_key_id`
    #[must_use]
    pub fn signing_key_id(&self) -> &str {
        todo!()
    }
    /// The document digest, 64 hex.
    #[must_use]
    pub fn digest(&self) -> &str {
        todo!()
    }
    /// The trusted key that signed.
    #[must_use]
    pub fn public_key(&self) -> &PublicKey {
        todo!()
    }
    /// The document as compact JSON, its members in their order.
    #[must_use]
    pub fn document_json(&self) -> &str {
        &self.document_json
    }
    /// `expires_at`
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        todo!()
    }
    /// From when on policy and key hold.
    #[must_use]
    pub fn holds_from(&self) -> Option<Timestamp> {
        todo!()
    }
    /// Until when (excluded) policy and key hold.
    #[must_use]
    pub fn holds_until(&self) -> Option<Timestamp> {
        todo!()
    }
    /// Whether policy and key hold at `now`.
    ///
    /// # Errors
    /// [`Reason::KeyNotYetValid`], [`Reason::KeyExpired`] or [`Reason::PolicyExpired`].
    pub fn holds(&self, now: Timestamp) -> Result<(), Reason> {
        todo!()
    }
}
