//! What a replica holds to be enforced for a workspace, and what may change its mind. Pure.
//!
//! A replica follows the `WorkspacePolicy` of a workspace as long as its ledger exists and the object verifies at the
//! mark or above it; it ignores anything else, and keeps what it holds. So neither an edited object nor a deleted one, nor
//! a lowered mark, takes a policy away; only the held document's own state does (key, validity).

use std::str::FromStr;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::api::policy_ledger::Lowered;
use crate::api::workspace_policy::Source;
use crate::api::{ACCEPT_VERSION, PolicyLedgerSpec};
use crate::policy::{self, Document, KeyRing, Reason, Refusal, Status, VerifiedPolicy, Version};

/// The mark of a workspace: the highest version ever accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Version accepted.
    pub version: Version,
    /// Its document digest.
    pub digest: String,
    /// Its policy.
    pub policy_id: String,
    /// Active or archived.
    pub lifecycle: Status,
}

impl From<&PolicyLedgerSpec> for Mark {
    fn from(spec: &PolicyLedgerSpec) -> Self {
        Mark {
            version: spec.version,
            digest: spec.digest.clone(),
            policy_id: spec.policy_id.clone(),
            lifecycle: spec.lifecycle,
        }
    }
}

impl From<&VerifiedPolicy> for Mark {
    fn from(policy: &VerifiedPolicy) -> Self {
        Mark {
            version: *policy.version(),
            digest: policy.digest().to_owned(),
            policy_id: policy.policy_id().to_owned(),
            lifecycle: policy.status(),
        }
    }
}

impl Mark {
    /// Whether a policy is the marked one, or may follow it: a higher version, of the same policy as long as that one is not
    /// archived. A Git writer could bring forward no more.
    pub fn admits(&self, policy: &VerifiedPolicy) -> bool {
        let its_turn = self.lifecycle != Status::Active || policy.policy_id() == self.policy_id;
        self.is(policy) || (*policy.version() > self.version && its_turn)
    }

    /// Whether a policy may take the place of the marked one now. One that is past its time, or whose time has not come, may
    /// only if it is the marked one itself.
    pub fn yields_to(&self, policy: &VerifiedPolicy, now: Timestamp) -> bool {
        self.is(policy) || (self.admits(policy) && policy.holds(now).is_ok())
    }

    /// Whether a policy is the marked one: version and digest.
    pub fn is(&self, policy: &VerifiedPolicy) -> bool {
        *policy.version() == self.version && policy.digest() == self.digest
    }
}

/// A version below the mark that an administrator asks to accept, once: `<version>@<document digest>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accept {
    /// The version.
    pub version: Version,
    /// Its document digest, 64 hex.
    pub digest: String,
}

impl FromStr for Accept {
    type Err = String;

    fn from_str(text: &str) -> Result<Accept, String> {
        let accepted = || format!("{ACCEPT_VERSION}: expected <version>@<document digest of 64 hex digits>");
        let (version, digest) = text.trim().split_once('@').ok_or_else(accepted)?;
        let hex = digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        let version = version.parse().ok().filter(|_| hex).ok_or_else(accepted)?;
        Ok(Accept { version, digest: digest.to_owned() })
    }
}

impl Accept {
    /// Whether a mark is this one.
    pub fn is(&self, mark: &Mark) -> bool {
        self.version == mark.version && self.digest == mark.digest
    }
}

/// A policy that a replica holds: active or archived, fully verified when it was taken over.
#[derive(Clone, Debug)]
pub struct Held {
    /// The policy. It carries the time until which it holds: [`policy::decide`] looks at it.
    pub policy: Arc<VerifiedPolicy>,
    /// Where the object says that it came from. Information only.
    pub source: Option<Source>,
    /// Why it is not enforced although it is held: its key was revoked or removed, or too few keys have signed it.
    pub refused: Option<Refusal>,
}

impl Held {
    /// Whether the key that signed it counts no more, for good as far as anybody knows: revoked, removed, or no longer
    /// allowed to sign for the workspace.
    pub fn key_is_gone(&self) -> bool {
        self.refused.as_ref().is_some_and(|refusal| {
            matches!(refusal.reason, Reason::KeyRevoked | Reason::UnknownSigningKey | Reason::KeyNotAuthorized)
        })
    }

    /// What is to be done soon, where it is in force and near its end.
    pub fn ending(&self, now: Timestamp) -> Option<String> {
        let in_force = self.refused.is_none() && self.policy.status() == Status::Active;
        self.policy.ending(now).filter(|_| in_force)
    }

    /// Whether another copy of the same version and digest is better: this one counts no more, or the other one holds longer,
    /// or has more signatures that count. So nobody without a key makes a policy weaker by bringing back an older copy.
    fn is_beaten_by(&self, other: &Held, now: Timestamp) -> bool {
        self.refused.is_some() || other.policy.standing().is_better_than(&self.policy.standing(), now)
    }

    /// Whether an administrator had the mark lowered from this policy, whose key is gone.
    pub fn is_given_up(&self, ledger: &PolicyLedgerSpec) -> bool {
        let from_here = |lowered: &Lowered| {
            lowered.from_version == *self.policy.version() && lowered.from_digest == self.policy.digest()
        };
        self.key_is_gone() && ledger.lowered.as_ref().is_some_and(from_here)
    }
}

/// Verifies a document whatever the time: one that is past its time is a policy too, which
/// [`VerifiedPolicy::holds`] refuses. Without that, a replica that starts after the expiry could tell neither that
/// the policy has expired nor that its version was reached.
///
/// # Errors
/// The refusal of [`policy::verify()`]. `KeyExpired` and `PolicyExpired` only when it never held at all.
pub fn authenticate(document: Document, keys: &KeyRing, now: Timestamp) -> Result<VerifiedPolicy, Refusal> {
    let key_ends = keys.get(document.signing_key_id()).and_then(|key| key.not_after);
    let ends = [key_ends, document.expires_at()].into_iter().flatten().min();
    let value = ends.filter(|ends| *ends <= now).map(|ends| (document.value().clone(), ends));
    match policy::verify(document, keys, now) {
        Err(refusal) if matches!(refusal.reason, Reason::KeyExpired | Reason::PolicyExpired) => {
            let Some((value, ends)) = value else { return Err(refusal) };
            let last_moment = ends.checked_sub(SignedDuration::from_nanos(1)).unwrap_or(ends);
            let again = Document::from_value(value).map_err(|fault| malformed(&fault))?;
            policy::verify(again, keys, last_moment).map_err(|other| match other.reason {
                // the other end of the window: it never held
                Reason::KeyNotYetValid => refusal,
                _ => other,
            })
        }
        other => other,
    }
}

/// A fault of the document's form as a refusal.
pub fn malformed(fault: &policy::Fault) -> Refusal {
    Refusal { reason: Reason::Malformed, message: fault.to_string(), retry_at: None }
}

/// What a replica holds after it has seen an object and a mark.
///
/// `object` is what the object named for the workspace holds, if that verified.
pub fn follow(held: Option<Held>, object: Option<Held>, mark: Option<&Mark>, now: Timestamp) -> Option<Held> {
    let candidate = object.filter(|object| {
        object.policy.status() != Status::Draft && mark.is_some_and(|mark| mark.yields_to(&object.policy, now))
    });
    match (held, candidate) {
        (None, candidate) => candidate,
        (held, None) => held,
        (Some(held), Some(candidate)) => {
            let present = Mark::from(&*held.policy);
            // the same version signed again: only a better copy takes the place of what is held
            let same = present.is(&candidate.policy)
                && (candidate.policy.document_json() == held.policy.document_json()
                    || held.is_beaten_by(&candidate, now));
            let newer = !present.is(&candidate.policy) && present.yields_to(&candidate.policy, now);
            Some(if same || newer { candidate } else { held })
        }
    }
}

/// What is said of a workspace without an enforced policy.
pub fn why_not(held: Option<&Held>, object: Option<&Refusal>) -> String {
    match (held, object) {
        (Some(Held { policy, refused: Some(refusal), .. }), _) => format!(
            "policy {} version {} is not enforced: {}: {}",
            policy.policy_id(),
            policy.version(),
            refusal.reason,
            refusal.message
        ),
        (Some(held), _) => {
            format!("policy {} was archived in version {}", held.policy.policy_id(), held.policy.version())
        }
        (None, Some(refusal)) => {
            format!("its WorkspacePolicy is not enforceable: {}: {}", refusal.reason, refusal.message)
        }
        (None, None) => "none was ever accepted".to_owned(),
    }
}
