//! What is known of one workspace, and the conclusions from it. Pure.

use std::sync::Arc;

use jiff::Timestamp;

use super::by_itself::by_itself;
use super::hold::{self, Accept, Held, Mark};
use super::index::Enforced;
use crate::api::workspace_policy::{Source, WorkspacePolicyStatus};
use crate::api::{Plain, PolicyLedgerSpec, Unreadable, conditions, object_name};
use crate::policy::{Document, KeyRing, Reason, Refusal, Status, VerifiedPolicy, Version};

/// A `WorkspacePolicy` as it was seen last, and judged.
#[derive(Clone, Debug)]
pub struct ObjectView {
    /// Its uid.
    pub uid: String,
    /// Its resourceVersion: writes that are decided on this view carry it.
    pub resource_version: String,
    /// Its generation.
    pub generation: Option<i64>,
    /// `spec.workspace`.
    pub workspace: String,
    /// `spec.source`.
    pub source: Option<Source>,
    /// [`fingerprint`] of `spec.document`.
    pub fingerprint: [u8; 32],
    /// `status`.
    pub status: WorkspacePolicyStatus,
    /// What verification said of the document.
    pub verdict: Result<Arc<VerifiedPolicy>, Refusal>,
    /// The text of a document that was refused, or has something in it that no trusted key signed: to be judged again when keys
    /// or the time change.
    pub(super) text: Option<Arc<str>>,
}

impl ObjectView {
    /// An object that nobody wrote.
    #[cfg(test)]
    pub fn for_tests(workspace: &str, verdict: Result<Arc<VerifiedPolicy>, Refusal>, fingerprint: [u8; 32]) -> Self {
        ObjectView {
            uid: String::new(),
            resource_version: "1".to_owned(),
            generation: Some(1),
            workspace: workspace.to_owned(),
            source: None,
            fingerprint,
            status: WorkspacePolicyStatus::default(),
            verdict,
            text: None,
        }
    }

    /// An object that cannot be read: it offers nothing, and is like no document.
    pub(super) fn unreadable(object: &Unreadable) -> Self {
        let metadata = object.metadata.clone();
        let refusal = Refusal { reason: Reason::Malformed, message: object.to_string(), retry_at: None };
        ObjectView {
            uid: metadata.uid.unwrap_or_default(),
            resource_version: metadata.resource_version.unwrap_or_default(),
            generation: metadata.generation,
            workspace: object.text("workspace").unwrap_or_default(),
            source: None,
            fingerprint: [0; 32],
            status: object.status().unwrap_or_default(),
            verdict: Err(refusal),
            text: None,
        }
    }

    /// Whether its document is refused for its key alone, which counts no more.
    pub fn key_is_gone(&self) -> bool {
        withdrawn(self)
    }

    /// Whether it holds the document of another workspace than it says.
    pub fn of_another(&self) -> bool {
        self.verdict.as_ref().is_ok_and(|policy| policy.workspace_id() != self.workspace)
    }

    /// The text of its document, to be judged again; None if the object cannot be read, or holds no document.
    pub(super) fn text(&self) -> Option<Arc<str>> {
        match (&self.verdict, &self.text) {
            (_, Some(text)) => Some(text.clone()),
            (Ok(policy), None) => Some(policy.document_json().into()),
            (Err(_), None) => None,
        }
    }
}

/// A `PolicyLedger` as it was seen last.
#[derive(Clone, Debug)]
pub struct LedgerView {
    /// Its uid.
    pub uid: String,
    /// Its resourceVersion.
    pub resource_version: String,
    /// Its spec.
    pub spec: PolicyLedgerSpec,
    /// The mark that it states.
    pub mark: Mark,
    /// What its annotation `sekuire.ai/accept-version` asks for, or why it cannot be read.
    pub accept: Option<Result<Accept, String>>,
}

/// All that is known of one object name.
#[derive(Clone, Debug, Default)]
pub struct WorkspaceView {
    /// The object of that name.
    pub object: Option<ObjectView>,
    /// The ledger of that name.
    pub ledger: Option<LedgerView>,
    /// The resourceVersion of a ledger of that name that cannot be read: nobody knows its mark, as if it were deleted.
    pub unreadable_ledger: Option<String>,
    /// What this replica holds.
    pub held: Option<Held>,
    /// The highest version that this replica ever saw marked: a mark below it was lowered by somebody.
    pub marked: Option<Version>,
    /// The repository that the accepted document came from is there, and was not looked at yet. Only the leader knows.
    pub source_unseen: bool,
    /// When object and held policy were judged last, the later of the two: what was refused by a clock that was ahead is to be
    /// judged again.
    pub judged_at: Option<Timestamp>,
    /// How many deletions, of any name, watches had brought: an answer to what was asked before a later one may be of an
    /// object that is gone.
    pub deletions: u64,
}

/// BLAKE3 of the canonical form of a document: equal for equal data, whatever the order of members.
pub fn fingerprint(document: &serde_json::Value) -> [u8; 32] {
    // a value that has no canonical form (a number out of range) is told apart by its text
    let bytes = serde_json_canonicalizer::to_vec(document).unwrap_or_else(|_| document.to_string().into_bytes());
    *blake3::hash(&bytes).as_bytes()
}

/// What is said of the document of an object, and its text, where that is not the policy's own.
pub(super) type Judged = (Result<Arc<VerifiedPolicy>, Refusal>, Option<Arc<str>>);

/// Judges the document of the object of this name.
pub(super) fn judge(name: &str, text: Arc<str>, keys: &KeyRing, now: Timestamp) -> Judged {
    match judge_text(name, &text, keys, now) {
        Ok(policy) if policy.has_unsigned() => (Ok(Arc::new(policy.without_unsigned())), Some(text)),
        Ok(policy) => (Ok(Arc::new(policy)), None),
        // no key and no time makes a document of it: whoever may write objects is not to fill memory with it
        Err(refusal) if refusal.reason == Reason::Malformed => (Err(refusal), None),
        Err(refusal) => (Err(refusal), Some(text)),
    }
}

pub(super) fn judge_text(
    name: &str,
    document: &str,
    keys: &KeyRing,
    now: Timestamp,
) -> Result<VerifiedPolicy, Refusal> {
    by_itself(&format!("WorkspacePolicy {name}"), || {
        let Plain(value) = serde_json::from_str(document).map_err(|error| Refusal {
            reason: Reason::Malformed,
            message: error.to_string(),
            retry_at: None,
        })?;
        let document = Document::from_value(value).map_err(|fault| hold::malformed(&fault))?;
        hold::authenticate(document, keys, now)
    })
}

/// What an object offers: its document, if that verified and the object is the one named for the document's workspace.
pub(super) fn candidate(name: &str, object: &ObjectView) -> Option<Held> {
    let policy = object.verdict.as_ref().ok()?;
    let named = policy.workspace_id() == object.workspace && object_name(policy.workspace_id()) == name;
    named.then(|| Held { policy: policy.clone(), source: object.source.clone(), refused: None })
}

pub(super) fn workspace_of(view: &WorkspaceView) -> Option<Arc<str>> {
    let held = view.held.as_ref().map(|held| held.policy.workspace_id());
    let ledger = view.ledger.as_ref().map(|ledger| ledger.spec.workspace.as_str());
    let object = view.object.as_ref().map(|object| object.workspace.as_str());
    held.or(ledger).or(object).map(Arc::from)
}

pub(super) fn conclusion(view: &WorkspaceView) -> Enforced {
    if let Some(Held { policy, source, refused: None }) = &view.held
        && policy.status() == Status::Active
    {
        return Enforced::Policy { policy: policy.clone(), source: source.clone().map(Arc::new) };
    }
    let refusal = view.object.as_ref().and_then(|object| object.verdict.as_ref().err());
    Enforced::None { why: hold::why_not(view.held.as_ref(), refusal).into() }
}

pub(super) fn retry_at(view: &WorkspaceView) -> Option<Timestamp> {
    let object = view.object.as_ref().and_then(|object| object.verdict.as_ref().err()?.retry_at);
    let held = view.held.as_ref().and_then(|held| held.refused.as_ref()?.retry_at);
    [object, held].into_iter().flatten().min()
}

/// Whether something was refused at a time that has not come yet: the clock was ahead then.
pub(super) fn refused_in_the_future(view: &WorkspaceView, now: Timestamp) -> bool {
    let refused = view.object.as_ref().is_some_and(|object| object.verdict.is_err())
        || view.held.as_ref().is_some_and(|held| held.refused.is_some());
    refused && view.judged_at.is_some_and(|at| at > now)
}

/// Whether too few of the keys count by now that signed what is held, or offered: others may have begun to count since.
pub(super) fn lacks_signatures(view: &WorkspaceView, now: Timestamp) -> bool {
    let held = view.held.as_ref().filter(|held| held.refused.is_none()).map(|held| &held.policy);
    let object = view.object.as_ref().and_then(|object| object.verdict.as_ref().ok());
    [held, object].into_iter().flatten().any(|policy| policy.holds(now) == Err(Reason::ThresholdNotMet))
}

/// Whether a policy is in force that is near its end, and its status does not say so yet.
pub(super) fn is_to_be_warned_of(view: &WorkspaceView, now: Timestamp) -> bool {
    let ending = view.held.as_ref().is_some_and(|held| held.ending(now).is_some());
    let unsaid = |object: &ObjectView| conditions::find(&object.status.conditions, conditions::EXPIRING).is_none();
    ending && view.object.as_ref().is_some_and(unsaid)
}

/// Whether an object is refused for a reason that nobody is about to mend: its keys.
pub(super) fn withdrawn(object: &ObjectView) -> bool {
    object.verdict.as_ref().is_err_and(|refusal| {
        matches!(
            refusal.reason,
            Reason::KeyRevoked
                | Reason::UnknownSigningKey
                | Reason::KeyNotAuthorized
                | Reason::KeyNotYetValid
                | Reason::ThresholdNotMet
        )
    })
}
