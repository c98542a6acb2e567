//! What can go wrong with a repository, in words for its owner.

use serde::{Deserialize, Serialize};

/// Why a repository could not be read. The text says what happened and what to do; it never holds a credential: URLs
/// with one are refused before anything else sees them, and those of its access are taken out of what a child says.
///
/// The fetch child sends these to its parent as JSON.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum GitError {
    /// The URL is of a form that is not accepted.
    #[error("{0}")]
    Url(String),
    /// Another part of the request (path, branch, commit, key) can never work as it is written.
    #[error("{0}")]
    Request(String),
    /// The server wants credentials, or other ones.
    #[error("{0}")]
    Authentication(String),
    /// The credentials cannot be used, whatever the server says.
    #[error("{0}")]
    Credentials(String),
    /// The repository, or what the server sent, is larger than what is accepted, or costs more to read.
    #[error("{0}")]
    Limit(String),
    /// All repositories together take more than what is accepted, and this one was stopped.
    #[error("{0}")]
    Crowded(String),
    /// The child tried what no child does: it was taken over, or is one of another version.
    #[error("{0}")]
    Forbidden(String),
    /// Anything else: unreachable, no such branch, broken data, out of time, a crash of the child.
    #[error("{0}")]
    Failed(String),
}

impl GitError {
    /// The reason of the repository's condition: one of a closed set, also used as a metric label.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Url(_) => "URLInvalid",
            Self::Authentication(_) | Self::Credentials(_) => "AuthenticationFailed",
            Self::Limit(_) => "LimitExceeded",
            Self::Request(_) | Self::Crowded(_) | Self::Forbidden(_) | Self::Failed(_) => "GitOperationFailed",
        }
    }

    /// The same, with another text.
    pub(super) fn map(self, change: impl FnOnce(String) -> String) -> Self {
        match self {
            Self::Url(text) => Self::Url(change(text)),
            Self::Request(text) => Self::Request(change(text)),
            Self::Authentication(text) => Self::Authentication(change(text)),
            Self::Credentials(text) => Self::Credentials(change(text)),
            Self::Limit(text) => Self::Limit(change(text)),
            Self::Crowded(text) => Self::Crowded(change(text)),
            Self::Forbidden(text) => Self::Forbidden(change(text)),
            Self::Failed(text) => Self::Failed(change(text)),
        }
    }

    /// Whether only a change of the `PolicyRepository` or its Secrets can help, so that trying again is pointless
    /// (`Stalled`).
    #[must_use]
    pub fn permanent(&self) -> bool {
        matches!(self, Self::Url(_) | Self::Request(_) | Self::Credentials(_))
    }
}
