//! The status of a `PolicyRepository`, and the Events that go with it. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::leader::WorkspaceError;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::conditions::{self, NewCondition};
use crate::api::policy_repository::{
    AcceptedRewind, Cursor, DocumentCounts, PolicyRepositoryStatus, RefusedDocument, ResultCount,
};
use crate::api::{ACCEPT_REWIND, PolicyRepository};
use crate::git::{GitError, one_line, shown};
use crate::policy::Reason;

/// Refused documents that a status lists; the rest is counted.
const LISTED: usize = 50;
/// Longest message of a refused document in a status.
const LONGEST_MESSAGE: usize = 512;

/// The reason of a repository whose commits or tags are not signed as its spec asks.
const SIGNATURE_INVALID: &str = "InvalidCommitSignature";

/// A document at the tip and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Path in the repository, as it is there.
    pub path: String,
    /// Workspace that it names.
    pub workspace: Option<String>,
    /// Result.
    pub reason: Reason,
    /// The same in a sentence.
    pub message: String,
}

impl Finding {
    fn refused(&self) -> bool {
        !matches!(self.reason, Reason::Verified | Reason::Superseded)
    }
}

/// Why a look did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// One word of the closed set of a repository's reasons.
    pub reason: &'static str,
    /// What happened, and what would help.
    pub message: String,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Nothing failed; it takes several looks.
    GoesOn,
    Transient,
    Permanent,
    Suspended,
}

impl Fault {
    /// `spec.suspend` is set.
    pub fn suspended() -> Fault {
        let message = "looking for commits is suspended; what is enforced stays enforced".to_owned();
        Fault { reason: "Suspended", message, kind: Kind::Suspended }
    }

    /// The repository could not be fetched or read.
    pub fn git(error: &GitError) -> Fault {
        let kind = if error.permanent() { Kind::Permanent } else { Kind::Transient };
        Fault { reason: error.reason(), message: error.to_string(), kind }
    }

    /// The tip does not descend from the commit that was worked through last. `why_not`: why an administrator's word does
    /// not change that, if there is one.
    pub fn rewritten(tip: &str, last: &str, why_not: Option<&str>) -> Fault {
        let why_not = why_not.map(|why| format!(" ({why})")).unwrap_or_default();
        let message = format!(
            "commit {tip} does not descend from {last}, the last one that was worked through: history was rewritten. \
             Nothing of it is read; what is enforced stays. Push a branch that descends from {last}; or, if it was meant \
             so, annotate this object with {ACCEPT_REWIND}: {tip}{why_not}"
        );
        Fault { reason: "HistoryRewritten", message, kind: Kind::Permanent }
    }

    /// No signature that counts is on what was read. `waits`: for a Secret that is not there yet.
    pub fn signature(message: &str, waits: bool) -> Fault {
        let kind = if waits { Kind::Transient } else { Kind::Permanent };
        let message = format!("{message}. Nothing of it is read; what is enforced stays");
        Fault { reason: SIGNATURE_INVALID, message, kind }
    }

    /// A workspace could not be written.
    pub fn workspace(error: &WorkspaceError) -> Fault {
        Fault { reason: "Failed", message: error.to_string(), kind: Kind::Transient }
    }

    /// There is more to verify than one look may take, and the next one goes on.
    pub fn too_much(left: usize, total: usize) -> Fault {
        let message = format!(
            "{left} of {total} documents are not verified yet: together they are more than one look takes. What was verified is \
             applied, and the next look goes on; nothing else waits for that. See who committed so much"
        );
        Fault { reason: Reason::LimitExceeded.as_str(), message, kind: Kind::GoesOn }
    }

    /// Whether the next look takes up where this one ended.
    pub fn goes_on(&self) -> bool {
        self.kind == Kind::GoesOn
    }

    /// Whether trying again may help.
    pub fn transient(&self) -> bool {
        self.kind == Kind::Transient
    }
}

/// What one look found.
#[derive(Debug, Default)]
pub struct Look {
    /// Revision that was looked at.
    pub revision: Option<String>,
    /// Whether `spec.path` is a folder there.
    pub path_exists: bool,
    /// Commits since the last revision that were not read.
    pub skipped: usize,
    /// Documents at the tip; `None`: they could not be looked at.
    pub findings: Option<Vec<Finding>>,
    /// Why it did not succeed.
    pub fault: Option<Fault>,
    /// What of the revision was signed by whom, in a sentence.
    pub signer: Option<String>,
    /// Whether the revision was worked through.
    pub applied: bool,
    /// Where on a branch that was.
    pub cursor: Option<Cursor>,
    /// The commit before it, where an administrator has accepted that it does not descend from that.
    pub rewound_from: Option<String>,
    /// Since when there was no successful fetch, as far as that is known, if that is too long.
    pub stale_since: Option<Timestamp>,
}

/// The status to store: equal to the present one when nothing changed.
pub fn status(
    repository: &PolicyRepository,
    look: &Look,
    requested: Option<&str>,
    now: Timestamp,
) -> PolicyRepositoryStatus {
    let previous = repository.status.clone().unwrap_or_default();
    let generation = repository.metadata.generation;
    let mut status = PolicyRepositoryStatus {
        observed_generation: generation,
        last_handled_reconcile_at: requested.map(str::to_owned).or(previous.last_handled_reconcile_at.clone()),
        last_attempted_revision: look.revision.clone().or(previous.last_attempted_revision.clone()),
        ..previous.clone()
    };
    if let Some(findings) = &look.findings {
        status.documents = Some(count(findings));
        let refused = || findings.iter().filter(|finding| finding.refused());
        status.refused = refused().take(LISTED).map(listed).collect();
        let more = refused().count().saturating_sub(LISTED);
        status.refused_omitted = u32::try_from(more).ok().filter(|more| *more > 0);
    }
    if look.revision.is_some() {
        // the next look at the same revision has no commits in between, and must not forget about those
        let same = look.revision == previous.last_attempted_revision;
        let before = previous.skipped_commits.filter(|_| same);
        let now = u32::try_from(look.skipped).unwrap_or(u32::MAX);
        status.skipped_commits = Some(now).max(before).filter(|skipped| *skipped > 0);
    }
    if look.applied {
        status.last_applied_revision.clone_from(&look.revision);
    }
    if let Some(cursor) = &look.cursor {
        status.cursor = Some(cursor.clone());
        if let Some(previous) = &look.rewound_from {
            let accepted_at = Time(conditions::whole_seconds(now));
            let (commit, previous) = (cursor.commit.clone(), previous.clone());
            status.accepted_rewind = Some(AcceptedRewind { commit, previous, accepted_at });
        }
    }
    let mut new = new_conditions(look, &status);
    new.extend(look.stale_since.map(stale));
    new.extend(source_verified(look));
    status.conditions = conditions::merge(&previous.conditions, &new, generation, now);
    status
}

fn new_conditions(look: &Look, status: &PolicyRepositoryStatus) -> Vec<NewCondition> {
    let Some(fault) = &look.fault else {
        return vec![NewCondition::new("Ready", true, "Succeeded", summary(look, status))];
    };
    let ready = NewCondition::new("Ready", false, fault.reason, &fault.message);
    match fault.kind {
        Kind::Suspended => vec![ready],
        Kind::Permanent => vec![ready, NewCondition::new("Stalled", true, fault.reason, &fault.message)],
        Kind::GoesOn => {
            vec![ready, NewCondition::new("Reconciling", true, "Progressing", "the next look goes on")]
        }
        Kind::Transient => {
            let progress =
                NewCondition::new("Reconciling", true, "ProgressingWithRetry", "the last look failed; trying again");
            vec![ready, progress]
        }
    }
}

/// Flux's condition for signatures of commits and tags.
fn source_verified(look: &Look) -> Option<NewCondition> {
    let refused = look.fault.as_ref().filter(|fault| fault.reason == SIGNATURE_INVALID);
    let refused = refused.map(|fault| NewCondition::new("SourceVerified", false, fault.reason, &fault.message));
    refused.or_else(|| look.signer.as_ref().map(|by| NewCondition::new("SourceVerified", true, "Succeeded", by)))
}

fn stale(since: Timestamp) -> NewCondition {
    let since = conditions::whole_seconds(since);
    let message = format!(
        "no successful fetch since {since}: the policies may have been changed without this cluster having seen it. What \
         is enforced stays enforced"
    );
    NewCondition::new("Stale", true, "Stale", message)
}

/// Whether the word of an administrator accepts a tip that does not descend from the last commit.
///
/// # Errors
/// Why it does not, if there is one.
pub fn accepts_rewind(repository: &PolicyRepository, tip: &str) -> Result<bool, String> {
    let annotations = repository.metadata.annotations.as_ref();
    let Some(word) = annotations.and_then(|annotations| annotations.get(ACCEPT_REWIND)).map(|word| word.trim()) else {
        return Ok(false);
    };
    let done = repository.status.as_ref().and_then(|status| status.accepted_rewind.as_ref());
    match done.filter(|done| done.commit == word) {
        Some(done) if word == tip => Err(format!(
            "the annotation was followed at {}, and counts once: commit on top, and accept that",
            done.accepted_at.0
        )),
        // it was followed; this is another rewrite
        Some(_) => Ok(false),
        None if word == tip => Ok(true),
        None => Err(format!("the annotation names {}, which is not that commit", shown(word))),
    }
}

fn summary(look: &Look, status: &PolicyRepositoryStatus) -> String {
    let counts = status.documents.clone().unwrap_or_default();
    let unread = status.skipped_commits.map(|skipped| format!("; {}", not_read(skipped))).unwrap_or_default();
    if !look.path_exists {
        return format!("spec.path does not exist in this revision: no documents{unread}");
    }
    let superseded = counts.total.saturating_sub(counts.verified + counts.refused);
    let more = if superseded > 0 { format!(", {superseded} superseded") } else { String::new() };
    let documents = if counts.total == 1 { "document" } else { "documents" };
    format!("{} {documents}: {} verified, {} refused{more}{unread}", counts.total, counts.verified, counts.refused)
}

fn not_read(skipped: u32) -> String {
    format!(
        "commits in between that were not read: {skipped} (LimitExceeded: too many at once, too many documents in them, \
         or malformed; the log names them). What stands at the tip was read; commit again what stood in them alone"
    )
}

fn count(findings: &[Finding]) -> DocumentCounts {
    let mut by_result: BTreeMap<&str, u32> = BTreeMap::new();
    for finding in findings {
        *by_result.entry(finding.reason.as_str()).or_default() += 1;
    }
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    DocumentCounts {
        total: number(findings.len()),
        verified: by_result.get(Reason::Verified.as_str()).copied().unwrap_or(0),
        refused: number(findings.iter().filter(|finding| finding.refused()).count()),
        by_result: by_result
            .into_iter()
            .map(|(result, count)| ResultCount { result: result.to_owned(), count })
            .collect(),
    }
}

fn listed(finding: &Finding) -> RefusedDocument {
    let mut message = one_line(&finding.message).into_owned();
    if message.len() > LONGEST_MESSAGE {
        message.truncate(message.floor_char_boundary(LONGEST_MESSAGE));
        message.push('…');
    }
    RefusedDocument {
        path: shown(&finding.path),
        reason: finding.reason.as_str().to_owned(),
        message,
        // a refused document may name anything
        workspace: finding.workspace.as_deref().map(shown),
    }
}

/// An Event to publish.
pub struct Told {
    /// Whether it needs a look.
    pub warning: bool,
    /// One word of the closed sets.
    pub reason: String,
    /// A sentence.
    pub note: String,
}

/// What is new in a status: one Event for each revision and reason, not for each file.
pub fn events(before: &PolicyRepositoryStatus, after: &PolicyRepositoryStatus) -> Vec<Told> {
    let mut told = Vec::new();
    let ready = |status: &PolicyRepositoryStatus| conditions::find(&status.conditions, "Ready").cloned();
    if let Some(now) = ready(after) {
        let was = ready(before);
        let new_revision = after.last_applied_revision != before.last_applied_revision;
        let changed = was.as_ref().is_none_or(|was| was.status != now.status || was.reason != now.reason);
        if now.status == "True" && (changed || new_revision) {
            let revision = after.last_applied_revision.as_deref().unwrap_or_default();
            told.push(Told { warning: false, reason: now.reason, note: format!("{revision}: {}", now.message) });
        } else if now.status == "False" && changed {
            told.push(Told { warning: true, reason: now.reason, note: now.message });
        }
    }
    if let Some(rewind) = after.accepted_rewind.as_ref().filter(|_| after.accepted_rewind != before.accepted_rewind) {
        let note = format!(
            "commit {} was accepted although it does not descend from {}, as the annotation {ACCEPT_REWIND} asks",
            rewind.commit, rewind.previous
        );
        told.push(Told { warning: true, reason: "RewindAccepted".to_owned(), note });
    }
    let is_stale = |status: &PolicyRepositoryStatus| conditions::find(&status.conditions, "Stale").cloned();
    if let (Some(stale), None) = (is_stale(after), is_stale(before)) {
        told.push(Told { warning: true, reason: stale.reason, note: stale.message });
    }
    let attempted = after.last_attempted_revision != before.last_attempted_revision;
    if let Some(skipped) =
        after.skipped_commits.filter(|_| attempted || after.skipped_commits != before.skipped_commits)
    {
        let revision = after.last_attempted_revision.as_deref().unwrap_or_default();
        let note = format!("{revision}: {}", not_read(skipped));
        told.push(Told { warning: true, reason: Reason::LimitExceeded.as_str().to_owned(), note });
    }
    if after.refused != before.refused || after.last_applied_revision != before.last_applied_revision {
        told.extend(refusals(before, after));
    }
    told
}

fn refusals(before: &PolicyRepositoryStatus, after: &PolicyRepositoryStatus) -> Vec<Told> {
    let mut by_reason: BTreeMap<&str, Vec<&RefusedDocument>> = BTreeMap::new();
    for refused in after.refused.iter().filter(|refused| !before.refused.contains(refused)) {
        by_reason.entry(&refused.reason).or_default().push(refused);
    }
    let revision = after.last_attempted_revision.as_deref().unwrap_or_default();
    by_reason
        .into_iter()
        .map(|(reason, documents)| {
            let more = documents.len().saturating_sub(1);
            let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
            let first = documents.first().map(|first| format!("{}: {}", first.path, first.message)).unwrap_or_default();
            Told { warning: true, reason: reason.to_owned(), note: format!("{revision}: {first}{more}") }
        })
        .collect()
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
