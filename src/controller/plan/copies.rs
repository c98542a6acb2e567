//! Which copy of the accepted version is to be in force.

use jiff::Timestamp;

use super::{Base, Place, is_base};
use crate::admission::index::WorkspaceView;
use crate::controller::candidate::{self, Candidate, Summary};
use crate::policy::VerifiedPolicy;

/// Of all copies of the accepted version the best one: nobody makes a policy weaker by bringing back an older copy. What is in
/// place stays unless one in Git is better ([`crate::policy::Standing::is_better_than`]), so that of two equal ones neither takes turns.
pub(super) fn best(mut base: Base, view: &WorkspaceView, candidates: &[Candidate], now: Timestamp) -> Base {
    let copies: Vec<(usize, &Candidate, &Summary)> = candidates
        .iter()
        .enumerate()
        .filter_map(|(index, candidate)| Some((index, candidate, candidate.verdict.as_ref().ok()?)))
        .filter(|(.., summary)| is_base(&base, summary))
        .collect();
    let mut best: Option<&(usize, &Candidate, &Summary)> = None;
    for copy in &copies {
        let better = best.is_none_or(|best| {
            copy.2.standing.is_better_than(&best.2.standing, now)
                || (copy.1.at_tip && !best.1.at_tip && !best.2.standing.is_better_than(&copy.2.standing, now))
        });
        best = if better { Some(copy) } else { best };
    }
    let Some((index, _, best)) = best.copied() else { return base };
    let in_place = in_place(&base, view).filter(|there| !best.standing.is_better_than(&there.standing(), now));
    let Some(there) = in_place else {
        base.place = Place::Candidate(index);
        return base;
    };
    // the same document in Git tells where it came from
    let fingerprint = candidate::fingerprint(there);
    let same = |at_tip: bool| copies.iter().find(|(_, c, s)| c.at_tip == at_tip && s.fingerprint == fingerprint);
    base.place = match same(true).or_else(|| same(false)) {
        Some((index, ..)) => Place::Candidate(*index),
        None if holds_base(&base, view).is_some() => Place::Held,
        None => Place::Object,
    };
    base
}

/// What this replica holds, if that is the accepted version, and counts.
fn holds_base<'v>(base: &Base, view: &'v WorkspaceView) -> Option<&'v VerifiedPolicy> {
    let held = view.held.as_ref().filter(|held| held.refused.is_none())?;
    base.mark.is(&held.policy).then_some(&*held.policy)
}

/// The accepted version as it is in force, or, where nobody holds it yet, in the object.
fn in_place<'v>(base: &Base, view: &'v WorkspaceView) -> Option<&'v VerifiedPolicy> {
    let object = view.object.as_ref().and_then(|object| object.verdict.as_deref().ok());
    holds_base(base, view).or_else(|| object.filter(|policy| base.mark.is(policy)))
}
