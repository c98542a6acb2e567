//! A document in Git, as verification left it: what [`super::plan`] decides by.

use std::sync::Arc;

use crate::admission::hold::Mark;
use crate::admission::index;
use crate::api::Plain;
use crate::policy::{Refusal, Standing, Status, VerifiedPolicy};

/// What of a verified document is kept in memory for every blob; the document itself is read again when it is needed.
#[derive(Clone, Debug)]
pub struct Summary {
    /// `workspace_id`.
    pub workspace: Arc<str>,
    /// Version, digest, policy and lifecycle. A draft has a mark too, which is never reached.
    pub mark: Mark,
    /// Fingerprint of the document as it is to be stored, see [`index::fingerprint`].
    pub fingerprint: [u8; 32],
    /// What speaks for this copy of it.
    pub standing: Standing,
    /// Key that signed.
    pub key_id: Arc<str>,
}

impl Summary {
    /// Of a policy that has just been verified.
    pub fn of(policy: &VerifiedPolicy) -> Summary {
        Summary {
            workspace: policy.workspace_id().into(),
            mark: Mark::from(policy),
            fingerprint: of_text(policy.stored_json()),
            standing: policy.standing(),
            key_id: policy.signing_key_id().into(),
        }
    }

    /// Whether this is a draft.
    pub fn is_draft(&self) -> bool {
        self.mark.lifecycle == Status::Draft
    }
}

/// Fingerprint of a policy's document.
pub fn fingerprint(policy: &VerifiedPolicy) -> [u8; 32] {
    of_text(policy.document_json())
}

fn of_text(document: &str) -> [u8; 32] {
    // the text was a JSON value when it was verified; were it none, no object could have this fingerprint
    let Plain(value) = serde_json::from_str(document).unwrap_or_default();
    index::fingerprint(&value)
}

/// A document that a repository offers for a workspace.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Name of the `PolicyRepository`.
    pub repository: Arc<str>,
    /// Branch or tag that it was found on; empty if a commit is followed.
    pub reference: Arc<str>,
    /// Path in the repository.
    pub path: Arc<str>,
    /// Commit that it was found in.
    pub commit: Arc<str>,
    /// Id of the blob.
    pub blob: Arc<str>,
    /// Place of the commit in the order in which commits were made.
    pub order: usize,
    /// Whether the file stands so at the tip.
    pub at_tip: bool,
    /// Workspace that the document is for, or names, if that could be read.
    pub workspace: Option<Arc<str>>,
    /// What verification said.
    pub verdict: Result<Summary, Refusal>,
}
