//! A mark that an administrator has lowered, after the key was revoked that signed what it marks.

use super::{Base, Place};
use crate::admission::hold::{Accept, Mark};
use crate::admission::index::WorkspaceView;
use crate::controller::candidate::Candidate;

/// The version below the mark that an administrator asks to accept, or why that cannot be done. It takes an explicit
/// word, a mark whose key is gone, and a document that verifies.
pub(super) fn base<'a>(view: &WorkspaceView, candidates: &'a [Candidate]) -> Option<Result<Base, String>> {
    let ledger = view.ledger.as_ref()?;
    let accept = match ledger.accept.clone()? {
        Ok(accept) => accept,
        Err(why) => return Some(Err(why)),
    };
    let was_done =
        ledger.spec.lowered.as_ref().is_some_and(|l| l.version == accept.version && l.digest == accept.digest);
    if was_done || accept.is(&ledger.mark) {
        return None;
    }
    let mark = ledger.mark.version;
    if accept.version > mark {
        return Some(Err(format!("version {} is above the mark {mark}: it needs no word of yours", accept.version)));
    }
    if let Some(held) = view.held.as_ref().filter(|held| !held.key_is_gone()) {
        return Some(Err(format!(
            "version {} was signed with {}, which is trusted: the mark is only lowered after that key was revoked",
            held.policy.version(),
            held.policy.signing_key_id()
        )));
    }
    let offered = |(place, candidate): (usize, &'a Candidate)| {
        let summary = candidate.verdict.as_ref().ok().filter(|summary| !summary.is_draft())?;
        (summary.mark.version == accept.version).then_some((place, candidate, &summary.mark))
    };
    let offers: Vec<_> = candidates.iter().enumerate().filter_map(offered).collect();
    Some(match offers.iter().find(|(.., mark)| accept.is(mark)) {
        Some((place, _, mark)) => Ok(Base { mark: (*mark).clone(), place: Place::Candidate(*place) }),
        None => Err(not_offered(&accept, offers.first().map(|(_, candidate, mark)| (*candidate, *mark)))),
    })
}

/// Why there is nothing to lower the mark to. The digest in the word may be another one than the document's, such as its
/// `hash`: what would be accepted is named, for whoever meant that document to look at.
fn not_offered(accept: &Accept, other: Option<(&Candidate, &Mark)>) -> String {
    let Accept { version, digest } = accept;
    let why =
        format!("no repository has a version {version} with the document digest {digest} that a trusted key signed");
    match other {
        None => format!("{why}: commit it"),
        Some((candidate, mark)) => format!(
            "{why}; the version {version} in {} of {} is {version}@{}",
            candidate.path, candidate.repository, mark.digest
        ),
    }
}
