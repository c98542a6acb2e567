//! A policy document as it was read: strict parsing, with the place of the first fault.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::version::Version;

/// The largest document, in bytes.
pub const MAX_DOCUMENT_BYTES: usize = 256 * 1024;

/// How a document is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// `*.json`
    Json,
    /// `*.yaml`, `*.yml`
    Yaml,
}

impl Format {
    /// The format of a file, by its extension; none when it is not a policy document at all.
    #[must_use]
    pub fn of_path(path: &str) -> Option<Format> {
        let name = path.rsplit('/').next()?;
        match name.rsplit_once('.')?.1 {
            "json" => Some(Format::Json),
            "yaml" | "yml" => Some(Format::Yaml),
            _ => None,
        }
    }
}

/// Where a policy is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Verified and listed, never enforced.
    Draft,
    /// Enforced.
    Active,
    /// Retired by its signer.
    Archived,
}

impl Status {
    /// The word in the document.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Status::Draft => "draft",
            Status::Active => "active",
            Status::Archived => "archived",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What is wrong with a document, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The place as a JSON path, e.g. `content.agent.models.denied_models[0]`; empty for the document as a whole.
    pub path: String,
    /// The line, from 1, when there is a text.
    pub line: Option<u32>,
    /// The column in characters, from 1, when there is a text.
    pub column: Option<u32>,
    /// What is wrong, and what would have been accepted.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}

/// A well-formed document. Nothing in it has been believed yet.
#[derive(Clone, Debug)]
pub struct Document {
    value: Value,
}

impl Document {
    /// Reads a document.
    ///
    /// # Errors
    /// The first fault, with its place.
    pub fn parse(bytes: &[u8], format: Format) -> Result<Document, Fault> {
        todo!()
    }

    /// Takes a document that was parsed elsewhere, e.g. what the API server gave back. As strict as [`Document::parse`].
    ///
    /// # Errors
    /// The first fault, without a line.
    pub fn from_value(value: Value) -> Result<Document, Fault> {
        todo!()
    }

    /// The document as it was read, its members in their order.
    #[must_use]
    pub fn value(&self) -> &Value {
        &self.value
    }
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
    /// `signing_key_id`
    #[must_use]
    pub fn signing_key_id(&self) -> &str {
        todo!()
    }
    /// `hash`
    #[must_use]
    pub fn hash(&self) -> &str {
        todo!()
    }
    /// `expires_at`
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        todo!()
    }
    /// The document digest: what two documents of one version must share, 64 hex.
    #[must_use]
    pub fn digest(&self) -> String {
        todo!()
    }
}

/// What can be made out of a document that may be broken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peek {
    /// `policy_id`, as far as it is a text.
    pub policy_id: Option<String>,
    /// `workspace_id`
    pub workspace_id: Option<String>,
    /// `version`
    pub version: Option<String>,
    /// `signing_key_id`
    pub signing_key_id: Option<String>,
}

/// Reads, for a report only, what a broken document says of itself. Never fails.
#[must_use]
pub fn peek(bytes: &[u8], format: Format) -> Peek {
    todo!()
}
