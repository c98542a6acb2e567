//! The closed set of results of looking at a policy document.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Why a document is accepted or refused. The name is used unchanged as condition reason, Event reason, metric label
/// and in what the command line prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Reason {
    /// The bytes are not a policy document.
    Malformed,
    /// No usable trusted key has the document's `signing_key_id`.
    UnknownSigningKey,
    /// The key may not sign for the document's workspace.
    KeyNotAuthorized,
    /// The key, or another one with the same public key, was revoked.
    KeyRevoked,
    /// The key's validity has not begun.
    KeyNotYetValid,
    /// The key's validity is over.
    KeyExpired,
    /// `hash` is not the hash of `content`.
    HashMismatch,
    /// There is no `signature`.
    SignatureMissing,
    /// `signature` was not made by the key over this id, version and hash.
    SignatureInvalid,
    /// There is no `document_signature`.
    DocumentSignatureMissing,
    /// `document_signature` was not made by the key over this document.
    DocumentSignatureInvalid,
    /// `expires_at` has been reached.
    PolicyExpired,
    /// Everything holds.
    Verified,
    /// The version is lower than the highest one that was ever accepted for the workspace.
    VersionRollback,
    /// The version was accepted before with other content.
    VersionReused,
    /// Active documents with different `policy_id` claim one workspace.
    ConflictingPolicies,
    /// The new commit does not descend from the last one.
    HistoryRewritten,
    /// The repository may not publish for this workspace.
    WorkspaceNotOwned,
    /// The file is gone from Git without a signed `archived` version.
    SourceMissing,
    /// A newer version stands beside it.
    Superseded,
    /// Fewer keys than required have signed.
    ThresholdNotMet,
    /// A bound on size or number was exceeded.
    LimitExceeded,
}

impl Reason {
    /// Every reason, in the order in which the specification names them.
    pub const ALL: [Reason; 22] = [
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
        Reason::VersionRollback,
        Reason::VersionReused,
        Reason::ConflictingPolicies,
        Reason::HistoryRewritten,
        Reason::WorkspaceNotOwned,
        Reason::SourceMissing,
        Reason::Superseded,
        Reason::ThresholdNotMet,
        Reason::LimitExceeded,
    ];

    /// The name, e.g. `HashMismatch`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Reason::Malformed => "Malformed",
            Reason::UnknownSigningKey => "UnknownSigningKey",
            Reason::KeyNotAuthorized => "KeyNotAuthorized",
            Reason::KeyRevoked => "KeyRevoked",
            Reason::KeyNotYetValid => "KeyNotYetValid",
            Reason::KeyExpired => "KeyExpired",
            Reason::HashMismatch => "HashMismatch",
            Reason::SignatureMissing => "SignatureMissing",
            Reason::SignatureInvalid => "SignatureInvalid",
            Reason::DocumentSignatureMissing => "DocumentSignatureMissing",
            Reason::DocumentSignatureInvalid => "DocumentSignatureInvalid",
            Reason::PolicyExpired => "PolicyExpired",
            Reason::Verified => "Verified",
            Reason::VersionRollback => "VersionRollback",
            Reason::VersionReused => "VersionReused",
            Reason::ConflictingPolicies => "ConflictingPolicies",
            Reason::HistoryRewritten => "HistoryRewritten",
            Reason::WorkspaceNotOwned => "WorkspaceNotOwned",
            Reason::SourceMissing => "SourceMissing",
            Reason::Superseded => "Superseded",
            Reason::ThresholdNotMet => "ThresholdNotMet",
            Reason::LimitExceeded => "LimitExceeded",
        }
    }
}

impl Reason {
    /// What it means, in a sentence.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Reason::Malformed => "The bytes are not a policy document.",
            Reason::UnknownSigningKey => "No usable trusted key has the document's signing_key_id.",
            Reason::KeyNotAuthorized => "The key may not sign for the document's workspace.",
            Reason::KeyRevoked => "The key, or another one with the same public key, was revoked.",
            Reason::KeyNotYetValid => "The key's validity has not begun.",
            Reason::KeyExpired => "The key's validity is over.",
            Reason::HashMismatch => "hash is not the hash of content.",
            Reason::SignatureMissing => "There is no signature.",
            Reason::SignatureInvalid => "signature was not made by the key over this id, version and hash.",
            Reason::DocumentSignatureMissing => "There is no document_signature.",
            Reason::DocumentSignatureInvalid => "document_signature was not made by the key over this document.",
            Reason::PolicyExpired => "expires_at has been reached.",
            Reason::Verified => "Everything holds.",
            Reason::VersionRollback => {
                "The version is lower than the highest one that was ever accepted for the workspace."
            }
            Reason::VersionReused => "The version was accepted before with other content.",
            Reason::ConflictingPolicies => "Active documents with different policy_id claim one workspace.",
            Reason::HistoryRewritten => "The new commit does not descend from the last one.",
            Reason::WorkspaceNotOwned => "The repository may not publish for this workspace.",
            Reason::SourceMissing => "The file is gone from Git without a signed archived version.",
            Reason::Superseded => "A newer version stands beside it.",
            Reason::ThresholdNotMet => "Fewer keys than required have signed.",
            Reason::LimitExceeded => "A bound on size or number was exceeded.",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A word that is not one of the reasons.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a reason; expected one of Malformed, UnknownSigningKey, … as in the specification")]
pub struct UnknownReason(String);

impl FromStr for Reason {
    type Err = UnknownReason;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Reason::ALL.into_iter().find(|r| r.as_str() == text).ok_or_else(|| UnknownReason(text.to_owned()))
    }
}
