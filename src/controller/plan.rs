//! What is to be done for one workspace. Pure: everything that was observed comes in, and what to write comes out.
//!
//! The *base* is the highest of what the ledger marks, what the object holds and what this replica holds. Documents from
//! Git may raise it; nothing lowers it. A document that is refused never replaces or withdraws anything.

mod copies;
mod lowering;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::candidate::{Candidate, Summary};
use crate::admission::hold::Mark;
use crate::admission::index::{LedgerView, WorkspaceView};
use crate::api::workspace_policy::Source;
use crate::policy::{Reason, Status, Version};

/// Where the document is that belongs to the base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// This replica holds it.
    Held,
    /// The object has it, and the replica does not hold it yet.
    Object,
    /// It is this candidate.
    Candidate(usize),
    /// Nobody has it: only the ledger knows of it.
    Nowhere,
}

/// The accepted document of a workspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// Version, digest, policy and lifecycle.
    pub mark: Mark,
    /// Where its document is.
    pub place: Place,
}

/// What became of a candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Its result: `Verified`, `Superseded`, or why it was refused.
    pub reason: Reason,
    /// The same in a sentence.
    pub message: String,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The accepted document, if the workspace has one.
    pub base: Option<Base>,
    /// Take this document and write it into the object. None: the object is as it should be, or cannot be mended.
    pub write: Option<Place>,
    /// What `spec.source` should be, when the document is written or somebody changed it.
    pub source: Option<Source>,
    /// What is written is the version that is in place, signed again.
    pub signed_again: bool,
    /// Write the base's mark into the ledger.
    pub raise_mark: bool,
    /// Where the ledger is to say that the base came from.
    pub mark_source: Source,
    /// An administrator has the mark lowered to the base.
    pub lowers: bool,
    /// Why what an administrator asks for, to lower the mark, is not done.
    pub not_lowered: Option<String>,
    /// One for each candidate, in their order.
    pub outcomes: Vec<Outcome>,
}

/// Decides for one workspace. `candidates` are the documents that name it, commits in their order, the tip last.
pub fn plan(view: &WorkspaceView, candidates: &[Candidate], now: Timestamp) -> Plan {
    let lowered = lowering::base(view, candidates);
    let (lowers, not_lowered) = (matches!(lowered, Some(Ok(_))), lowered.clone().and_then(Result::err));
    let start = lowered.and_then(Result::ok).or_else(|| initial_base(view, now));
    let mut state = Acceptance::new(start, publisher(view, candidates), candidates);
    let orders: BTreeSet<usize> = candidates.iter().map(|candidate| candidate.order).collect();
    for order in orders {
        state.commit(order);
    }
    state.finish();
    let Acceptance { base, outcomes, .. } = state;
    let base = base.map(|base| copies::best(base, view, candidates, now));
    let write = base.as_ref().and_then(|base| document_to_write(base, view, candidates));
    let signed_again = write.is_some() && base.as_ref().is_some_and(|base| signed_again(base, view));
    let source = base.as_ref().and_then(|base| source(base, write, signed_again, view, candidates));
    let raise_mark = base.as_ref().is_some_and(|base| {
        let marked = view.ledger.as_ref().is_some_and(|ledger| ledger.mark == base.mark && is_known(ledger, base));
        base.place != Place::Nowhere && (!marked || signed_again)
    });
    let mark_source = base.as_ref().map(|base| origin(base, candidates).unwrap_or_else(|| remembered(view)));
    let mark_source = mark_source.unwrap_or_default();
    let outcomes = outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(not_looked_at)).collect();
    Plan { base, write, source, signed_again, raise_mark, mark_source, lowers, not_lowered, outcomes }
}

fn not_looked_at() -> Outcome {
    Outcome { reason: Reason::Superseded, message: "overtaken by a newer version".to_owned() }
}

/// The highest of what is held, the mark and the object. The object counts only where a Git writer could have brought it
/// forward too: [`Mark::yields_to`]. What is held was verified here, so it beats a mark of the same version and
/// another digest; a mark beats such an object, whose document somebody may have exchanged.
fn initial_base(view: &WorkspaceView, now: Timestamp) -> Option<Base> {
    let held = view.held.as_ref().map(|held| Base { mark: Mark::from(&*held.policy), place: Place::Held });
    let ledger = view.ledger.as_ref().map(|ledger| Base { mark: ledger.mark.clone(), place: Place::Nowhere });
    let known = match (held, ledger) {
        (Some(held), Some(ledger)) if ledger.mark.version > held.mark.version => Some(ledger),
        (held, ledger) => held.or(ledger),
    };
    let object = view.object.as_ref().and_then(|object| {
        let policy = object.verdict.as_ref().ok()?;
        let its_own = policy.workspace_id() == object.workspace && policy.status() != Status::Draft;
        its_own.then_some(policy)
    });
    match (known, object) {
        (Some(known), Some(policy)) if known.place != Place::Held || !known.mark.is(policy) => {
            let follows = known.mark.yields_to(policy, now);
            Some(if follows { Base { mark: Mark::from(&**policy), place: Place::Object } } else { known })
        }
        (None, Some(policy)) if policy.holds(now).is_ok() => {
            Some(Base { mark: Mark::from(&**policy), place: Place::Object })
        }
        (known, _) => known,
    }
}

/// The repository that publishes the workspace: the accepted document came from it, is active, and is still offered by
/// it. Another one may take over when that one has no document of the workspace any more, or is gone.
fn publisher<'a>(view: &'a WorkspaceView, candidates: &[Candidate]) -> Option<&'a str> {
    let ledger = view.ledger.as_ref().filter(|ledger| ledger.mark.lifecycle == Status::Active)?;
    let publisher = ledger.spec.repository.as_str();
    let offers = |candidate: &Candidate| {
        candidate.at_tip
            && *candidate.repository == *publisher
            && candidate.verdict.as_ref().is_ok_and(|summary| !summary.is_draft())
    };
    (view.source_unseen || candidates.iter().any(offers)).then_some(publisher)
}

/// The acceptance of candidates, commit by commit.
struct Acceptance<'a> {
    base: Option<Base>,
    /// The one repository that may publish the workspace now, if it is taken.
    publisher: Option<&'a str>,
    candidates: &'a [Candidate],
    outcomes: Vec<Option<Outcome>>,
    /// Policies of the present commit that were refused because another claims the same free workspace.
    claims: BTreeSet<&'a str>,
}

impl<'a> Acceptance<'a> {
    fn new(base: Option<Base>, publisher: Option<&'a str>, candidates: &'a [Candidate]) -> Self {
        Acceptance { base, publisher, candidates, outcomes: vec![None; candidates.len()], claims: BTreeSet::new() }
    }

    /// The repository that stands in the way of a document of another one. What is accepted already may be offered by
    /// both, so that a workspace can be moved from one to the other.
    fn taken_by(&self, candidate: &Candidate, summary: &Summary) -> Option<&'a str> {
        let accepted = self.base.as_ref().is_some_and(|base| is_base(base, summary));
        self.publisher.filter(|publisher| **publisher != *candidate.repository && !accepted)
    }

    fn refuse(&mut self, index: usize, reason: Reason, message: String) {
        self.outcomes[index] = Some(Outcome { reason, message });
    }

    /// Works through the documents of one commit.
    fn commit(&mut self, order: usize) {
        let mut higher: Vec<(usize, &'a Summary)> = Vec::new();
        self.claims.clear();
        for (index, candidate) in self.candidates.iter().enumerate().filter(|(_, c)| c.order == order) {
            match &candidate.verdict {
                Err(refusal) => self.refuse(index, refusal.reason, refusal.message.clone()),
                Ok(summary) if summary.is_draft() => self.outcomes[index] = Some(verified("a draft; not enforced")),
                Ok(summary) if let Some(publisher) = self.taken_by(candidate, summary) => {
                    let message = format!(
                        "workspace {} is published by the PolicyRepository {publisher}: remove it from one of the two",
                        summary.workspace
                    );
                    self.refuse(index, Reason::ConflictingPolicies, message);
                }
                Ok(summary) => match self.base.as_ref().map(|base| summary.mark.version.cmp(&base.mark.version)) {
                    None | Some(std::cmp::Ordering::Greater) => higher.push((index, summary)),
                    Some(std::cmp::Ordering::Equal) => self.same_version(index, summary),
                    Some(std::cmp::Ordering::Less) => {} // whether that is a fault shows at the end
                },
            }
        }
        // what becomes of one copy becomes of all: there may be thousands, and each is held against all others
        let mut copies: BTreeMap<(Version, &str), Vec<usize>> = BTreeMap::new();
        higher.retain(|(index, summary)| {
            let same = copies.entry((summary.mark.version, &summary.mark.digest)).or_default();
            same.push(*index);
            same.len() == 1
        });
        self.drop_ambiguous_versions(&mut higher);
        higher.sort_by_key(|(_, summary)| summary.mark.version);
        for place in 0..higher.len() {
            self.next(&higher[place..]);
        }
        for same in copies.into_values() {
            let outcome = same.first().and_then(|first| self.outcomes[*first].clone());
            same.iter().skip(1).for_each(|index| self.outcomes[*index].clone_from(&outcome));
        }
    }

    /// Accepts the first of these documents, or refuses it. A workspace belongs to one policy until that one is archived;
    /// two active ones that claim a free workspace in one commit are both refused.
    fn next(&mut self, waiting: &[(usize, &'a Summary)]) {
        let Some(&(index, summary)) = waiting.first() else { return };
        let owner = self.base.as_ref().filter(|base| base.mark.lifecycle == Status::Active);
        let owner = owner.map(|base| base.mark.policy_id.clone());
        let active = |summary: &Summary| summary.mark.lifecycle == Status::Active;
        let claims: BTreeSet<&str> = self
            .claims
            .iter()
            .copied()
            .chain(waiting.iter().filter(|(_, s)| active(s)).map(|(_, s)| s.mark.policy_id.as_str()))
            .collect();
        let message = match &owner {
            Some(owner) if *owner != summary.mark.policy_id => format!(
                "workspace {} has the active policy {owner}: archive that one first, or publish under its policy_id",
                summary.workspace
            ),
            None if active(summary) && claims.len() > 1 => {
                let list = claims.iter().copied().collect::<Vec<_>>().join(", ");
                self.claims.insert(&summary.mark.policy_id);
                format!("workspace {} is claimed by several policies: {list}; keep one", summary.workspace)
            }
            _ => {
                self.base = Some(Base { mark: summary.mark.clone(), place: Place::Candidate(index) });
                self.outcomes[index] = Some(verified("accepted"));
                return;
            }
        };
        self.refuse(index, Reason::ConflictingPolicies, message);
    }

    fn same_version(&mut self, index: usize, summary: &Summary) {
        let Some(base) = &mut self.base else { return };
        if base.mark.digest == summary.mark.digest {
            if base.place == Place::Nowhere {
                base.place = Place::Candidate(index);
            }
            self.outcomes[index] = Some(verified("this is the accepted version"));
        } else {
            let message = format!(
                "version {} of workspace {} was accepted with other content (document digest {}, this one has {}): give the change a higher version",
                summary.mark.version, summary.workspace, base.mark.digest, summary.mark.digest
            );
            self.refuse(index, Reason::VersionReused, message);
        }
    }

    /// Two documents of one version in one commit: nobody can say which one was meant.
    fn drop_ambiguous_versions(&mut self, higher: &mut Vec<(usize, &'a Summary)>) {
        let all = higher.clone();
        higher.retain(|(index, summary)| {
            let other = all.iter().find(|(_, other)| {
                other.mark.version == summary.mark.version && other.mark.digest != summary.mark.digest
            });
            if let Some((other, _)) = other {
                let message = format!(
                    "version {} of workspace {} stands in {} too, with other content: give one of them a higher version",
                    summary.mark.version, summary.workspace, self.candidates[*other].path
                );
                self.outcomes[*index] = Some(Outcome { reason: Reason::VersionReused, message });
            }
            other.is_none()
        });
    }

    /// Older versions are a fault only where the newer one is gone from the tip.
    fn finish(&mut self) {
        let Some(base) = &self.base else { return };
        let accepted_at_tip = self.candidates.iter().any(|candidate| {
            candidate.at_tip && candidate.verdict.as_ref().is_ok_and(|summary| is_base(base, summary))
        });
        for (index, candidate) in self.candidates.iter().enumerate() {
            let Ok(summary) = &candidate.verdict else { continue };
            if summary.mark.version >= base.mark.version {
                continue;
            }
            let refused = self.outcomes[index]
                .as_ref()
                .is_some_and(|outcome| matches!(outcome.reason, Reason::VersionReused | Reason::ConflictingPolicies));
            if refused && candidate.at_tip {
                continue;
            }
            let no_fault = summary.mark.lifecycle != Status::Active || accepted_at_tip || !candidate.at_tip;
            self.outcomes[index] = Some(if no_fault { not_looked_at() } else { rollback(base, summary) });
        }
    }
}

/// Whether a document is the accepted version.
pub fn is_base(base: &Base, summary: &Summary) -> bool {
    summary.mark.version == base.mark.version && summary.mark.digest == base.mark.digest
}

fn verified(message: &str) -> Outcome {
    Outcome { reason: Reason::Verified, message: message.to_owned() }
}

fn rollback(base: &Base, summary: &Summary) -> Outcome {
    Outcome {
        reason: Reason::VersionRollback,
        message: format!(
            "version {} of workspace {} is older than the accepted {}: to go back to older rules, publish them under a higher version",
            summary.mark.version, summary.workspace, base.mark.version
        ),
    }
}

fn document_to_write(base: &Base, view: &WorkspaceView, candidates: &[Candidate]) -> Option<Place> {
    let wanted = match base.place {
        Place::Candidate(index) => candidates[index].verdict.as_ref().ok()?.fingerprint,
        Place::Held => super::candidate::fingerprint(&view.held.as_ref()?.policy),
        Place::Object | Place::Nowhere => return None,
    };
    let there = view.object.as_ref().map(|object| object.fingerprint);
    (there != Some(wanted)).then_some(base.place)
}

/// Whether Git has the accepted version with another signature than the object, which nobody else has changed: it is as this
/// replica took it over, or its key is gone.
fn signed_again(base: &Base, view: &WorkspaceView) -> bool {
    let (Place::Candidate(_), Some(object)) = (base.place, &view.object) else { return false };
    match &view.held {
        Some(held) => base.mark.is(&held.policy) && object.fingerprint == super::candidate::fingerprint(&held.policy),
        None => object.key_is_gone(),
    }
}

/// Where the base's document is in Git, if it was seen there.
fn origin(base: &Base, candidates: &[Candidate]) -> Option<Source> {
    let Place::Candidate(index) = base.place else { return None };
    let candidate = &candidates[index];
    Some(Source {
        repository: candidate.repository.to_string(),
        path: candidate.path.to_string(),
        commit: candidate.commit.to_string(),
    })
}

/// Where a document came from that was not seen in Git: what the object says, unless the ledger names another repository or
/// path. That decides who may publish the workspace, so whoever may write the object alone must not change it: the commit is
/// left open then, until the document is seen.
fn remembered(view: &WorkspaceView) -> Source {
    let said = view.object.as_ref().and_then(|object| object.source.clone());
    let said = said.or_else(|| view.held.as_ref().and_then(|held| held.source.clone())).unwrap_or_default();
    match view.ledger.as_ref().map(|ledger| &ledger.spec).filter(|ledger| !ledger.repository.is_empty()) {
        Some(ledger) if (&ledger.repository, &ledger.path) != (&said.repository, &said.path) => {
            Source { repository: ledger.repository.clone(), path: ledger.path.clone(), commit: String::new() }
        }
        _ => said,
    }
}

/// Whether the ledger says where its document came from, or nobody can know yet.
fn is_known(ledger: &LedgerView, base: &Base) -> bool {
    !ledger.spec.commit.is_empty() || !matches!(base.place, Place::Candidate(_))
}

/// Where the document came from. A document that is in place keeps the source under which it was accepted, which the ledger
/// remembers, until it is signed again.
fn source(
    base: &Base,
    write: Option<Place>,
    signed_again: bool,
    view: &WorkspaceView,
    candidates: &[Candidate],
) -> Option<Source> {
    let marked = view.ledger.as_ref().filter(|_| !signed_again);
    let marked = marked.filter(|ledger| ledger.mark == base.mark && !ledger.spec.commit.is_empty());
    let marked = marked.map(|ledger| Source {
        repository: ledger.spec.repository.clone(),
        path: ledger.spec.path.clone(),
        commit: ledger.spec.commit.clone(),
    });
    let found = origin(base, candidates).or_else(|| view.held.as_ref().and_then(|held| held.source.clone()));
    let wanted = marked.or(found)?;
    let there = view.object.as_ref().and_then(|object| object.source.as_ref());
    (write.is_some() || (view.object.is_some() && there != Some(&wanted))).then_some(wanted)
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
