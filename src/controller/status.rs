//! The status of a `WorkspacePolicy`. Pure: the same observations give the same words.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::candidate::Candidate;
use super::plan::{self, Outcome, Plan};
use crate::admission::hold::Held;
use crate::admission::index::WorkspaceView;
use crate::api::conditions::{self, NewCondition};
use crate::api::workspace_policy::WorkspacePolicyStatus;
use crate::policy::{Reason, Refusal, Status};

/// What the status is computed from.
pub struct Observed<'a> {
    /// The object, ledger and held policy, after all writes.
    pub view: &'a WorkspaceView,
    /// What was planned.
    pub plan: &'a Plan,
    /// The documents that name the workspace.
    pub candidates: &'a [Candidate],
    /// Whether the repository that the document came from was looked at since this process began to lead, or is gone.
    /// Until then nobody can say that the source is missing, or that nothing was refused.
    pub looked_at: bool,
    /// The clock.
    pub now: Timestamp,
}

/// The status to store: equal to the present one when nothing changed.
pub fn workspace_status(observed: &Observed<'_>) -> WorkspacePolicyStatus {
    let Some(object) = &observed.view.object else { return WorkspacePolicyStatus::default() };
    let own = own_state(observed);
    let verified = match &own {
        Own::Refused(refusal) => NewCondition::new("Verified", false, refusal.reason.as_str(), &refusal.message),
        _ => NewCondition::new("Verified", true, "Verified", "hash, both signatures, key and validity hold"),
    };
    let mut new = vec![ready(observed, &own), verified, enforced(&own)];
    if let Some(previous) = still_true(observed, &own) {
        new[0] = NewCondition::new("Ready", previous.status == "True", &previous.reason, &previous.message);
    }
    if let Some(previous) = conditions::find(&object.status.conditions, "Ready")
        && new[0].reason == previous.reason
        && but_for_commits(&new[0].message) == but_for_commits(&previous.message)
    {
        // a refused file keeps the commit in which it was seen first, also after a restart
        new[0].message.clone_from(&previous.message);
    }
    new.extend(conditions::stalled(&new[0]));
    if let Own::Active(held) = &own {
        new.extend(held.ending(observed.now).map(conditions::expiring));
    }
    WorkspacePolicyStatus {
        observed_generation: object.generation,
        conditions: conditions::merge(&object.status.conditions, &new, object.generation, observed.now),
        revision: revision(observed).or_else(|| object.status.revision.clone()),
        enforced_version: match &own {
            Own::Active(held) => Some(format!("{} ({})", held.policy.version(), held.policy.policy_id())),
            _ => None,
        },
    }
}

/// The `Ready` condition of before, when nothing is known that could change it.
fn still_true<'a>(observed: &'a Observed<'_>, own: &Own<'_>) -> Option<&'a Condition> {
    let conditions = &observed.view.object.as_ref()?.status.conditions;
    let was_verified = conditions::find(conditions, "Verified").is_some_and(|verified| verified.status == "True");
    let nothing_new = !observed.looked_at && was_verified && !matches!(own, Own::Refused(_)) && !base_at_tip(observed);
    conditions::find(conditions, "Ready").filter(|_| nothing_new)
}

fn base_at_tip(observed: &Observed<'_>) -> bool {
    let Some(base) = &observed.plan.base else { return false };
    let is_base = |candidate: &Candidate| {
        candidate.at_tip && candidate.verdict.as_ref().is_ok_and(|summary| plan::is_base(base, summary))
    };
    observed.candidates.iter().any(is_base)
}

/// What is true of the accepted document itself.
enum Own<'a> {
    Active(&'a Held),
    Archived(&'a Held),
    Refused(Refusal),
}

fn own_state<'a>(observed: &Observed<'a>) -> Own<'a> {
    let view = observed.view;
    let Some(held) = &view.held else {
        let refusal = view.object.as_ref().and_then(|object| object.verdict.as_ref().err().cloned());
        return Own::Refused(refusal.unwrap_or_else(|| not_enforceable(observed)));
    };
    if let Some(refusal) = &held.refused {
        return Own::Refused(refusal.clone());
    }
    if let Err(reason) = held.policy.holds(observed.now) {
        let until = held.policy.holds_until().map(|at| at.to_string()).unwrap_or_default();
        let message = format!("{}: it held until {until}; publish a new version", out_of_time(reason));
        return Own::Refused(Refusal { reason, message, retry_at: None });
    }
    if held.policy.status() == Status::Archived { Own::Archived(held) } else { Own::Active(held) }
}

fn out_of_time(reason: Reason) -> &'static str {
    match reason {
        Reason::PolicyExpired => "the policy has expired",
        Reason::KeyExpired => "the validity of its signing key has ended",
        Reason::ThresholdNotMet => "the validity of a key that co-signed has ended, and too few are left",
        _ => "the validity of its signing key has not begun",
    }
}

/// A document that verifies, but that this object cannot enforce.
fn not_enforceable(observed: &Observed<'_>) -> Refusal {
    let mark = observed.view.ledger.as_ref().map(|ledger| ledger.mark.version.to_string());
    let policy = observed.view.object.as_ref().and_then(|object| object.verdict.as_ref().ok());
    let (reason, message) = match (policy, mark) {
        (Some(policy), _) if policy.status() == Status::Draft => {
            (Reason::SourceMissing, "a draft is never enforced; no active version was ever accepted".to_owned())
        }
        (Some(policy), Some(mark)) => (
            Reason::VersionRollback,
            format!("the object holds version {}, below the mark {mark}, whose document nobody has", policy.version()),
        ),
        _ => (Reason::SourceMissing, "nobody has the accepted document; commit it again".to_owned()),
    };
    Refusal { reason, message, retry_at: None }
}

fn enforced(own: &Own<'_>) -> NewCondition {
    match own {
        Own::Active(held) => NewCondition::new(
            "Enforced",
            true,
            "Succeeded",
            format!("version {} of {} is enforced", held.policy.version(), held.policy.policy_id()),
        ),
        Own::Archived(held) => NewCondition::new(
            "Enforced",
            false,
            "Archived",
            format!("retired by version {}; the workspace admits no agent", held.policy.version()),
        ),
        Own::Refused(refusal) => NewCondition::new(
            "Enforced",
            false,
            refusal.reason.as_str(),
            format!("{}; the workspace admits no agent", refusal.message),
        ),
    }
}

fn ready(observed: &Observed<'_>, own: &Own<'_>) -> NewCondition {
    let not = |reason: Reason, message: String| NewCondition::new("Ready", false, reason.as_str(), message);
    let held = match own {
        Own::Refused(refusal) => return not(refusal.reason, refusal.message.clone()),
        Own::Active(held) | Own::Archived(held) => held,
    };
    let version = held.policy.version();
    if let Some((candidate, outcome)) = first_fault(observed) {
        let key = candidate.verdict.as_ref().map(|summary| format!(", key {}", summary.key_id)).unwrap_or_default();
        return not(
            outcome.reason,
            format!(
                "{} in commit {}{key} was refused: {}; version {version} stays as it was",
                crate::git::shown(&candidate.path),
                candidate.commit,
                outcome.message
            ),
        );
    }
    if matches!(own, Own::Archived(_)) {
        return NewCondition::new("Ready", true, "Archived", format!("retired by version {version}"));
    }
    if observed.looked_at && !base_at_tip(observed) {
        return not(
            Reason::SourceMissing,
            format!(
                "no repository has version {version} any more; it stays enforced. To retire it, commit a higher version with status archived"
            ),
        );
    }
    NewCondition::new("Ready", true, "Succeeded", format!("version {version}, {}", words(held)))
}

fn words(held: &Held) -> String {
    let key = held.policy.signing_key_id();
    match &held.source {
        Some(source) => format!("{} in commit {}, signed by {key}", crate::git::shown(&source.path), source.commit),
        None => format!("signed by {key}"),
    }
}

/// The first document at the tip that was refused: by path, so that the words do not flip.
fn first_fault<'a>(observed: &'a Observed<'_>) -> Option<(&'a Candidate, &'a Outcome)> {
    let pairs = observed.candidates.iter().zip(&observed.plan.outcomes);
    pairs
        .filter(|(candidate, outcome)| {
            candidate.at_tip && !matches!(outcome.reason, Reason::Verified | Reason::Superseded)
        })
        .min_by(|a, b| (&a.0.repository, &a.0.path).cmp(&(&b.0.repository, &b.0.path)))
}

/// A message without the commits that it names.
fn but_for_commits(message: &str) -> Vec<&str> {
    let commit = |word: &&str| word.len() == 40 && word.bytes().all(|b| b.is_ascii_hexdigit());
    message.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !commit(word)).collect()
}

fn revision(observed: &Observed<'_>) -> Option<String> {
    let source = observed.view.object.as_ref()?.source.as_ref()?;
    let found = observed.candidates.iter().find(|candidate| *candidate.repository == *source.repository)?;
    Some(super::revision(&found.reference, &source.commit))
}
