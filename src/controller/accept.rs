//! Whether what a repository's reference leads to may be read: it is signed as `spec.verify` asks, and history was not
//! rewritten.

use jiff::Timestamp;
use kube::ResourceExt as _;

use super::access::Named;
use super::report::{self, Fault, Look};
use crate::api::PolicyRepository;
use crate::api::policy_repository::Cursor;
use crate::git::{Ancestry, SignatureKeys, Signed, SignedObject, Snapshot, shown};

/// Whether a tip may be read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// It may.
    Yes,
    /// It may, because an administrator said so: it does not descend from the last commit.
    Rewound,
    /// It may not, and the fault of the look says why.
    No,
}

/// Whether a tip may be read: it is signed, if it has to be, and history was not rewritten.
pub async fn accept(
    repository: &PolicyRepository,
    cursor: Option<&Cursor>,
    snapshot: &Snapshot,
    keys: Option<Named>,
    look: &mut Look,
) -> Accepted {
    if let Some(keys) = keys {
        match signer(keys, snapshot, Timestamp::now()).await {
            Ok(signer) => look.signer = Some(signer),
            Err(why) => {
                look.fault = Some(Fault::signature(&why, false));
                return Accepted::No;
            }
        }
    }
    if snapshot.ancestry != Ancestry::Rewritten {
        return Accepted::Yes;
    }
    let word = report::accepts_rewind(repository, &snapshot.tip);
    if word == Ok(true) {
        tracing::warn!(repository = %repository.name_any(), commit = %snapshot.tip, "rewind accepted, as an administrator asked");
        return Accepted::Rewound;
    }
    let last = cursor.map_or("", |cursor| cursor.commit.as_str());
    look.fault = Some(Fault::rewritten(&snapshot.tip, last, word.err().as_deref()));
    Accepted::No
}

/// Who signed it, in a sentence; or why nobody did whose key is in the Secret.
async fn signer(keys: Named, snapshot: &Snapshot, now: Timestamp) -> Result<String, String> {
    let reference = snapshot.reference.clone();
    let Some(object) = snapshot.signed.clone() else {
        return Err(format!("{} is no annotated tag, and no other is signed (git tag --sign)", shown(&reference)));
    };
    // Hostile bytes and public keys take their time; and should a library panic over them, it is a refusal.
    let verified = tokio::task::spawn_blocking(move || verify(&keys, &object, &reference, now));
    verified.await.unwrap_or_else(|error| Err(format!("the signature of {} cannot be verified: {error}", snapshot.tip)))
}

fn verify(keys: &Named, object: &SignedObject, reference: &str, now: Timestamp) -> Result<String, String> {
    let secret = format!("Secret {} ({})", keys.name, keys.field);
    let members = keys.content.data.iter().map(|(name, value)| (name.as_str(), value.0.as_slice()));
    let read = SignatureKeys::read(members).map_err(|fault| format!("{secret}: {fault}"))?;
    let what = match object.kind {
        Signed::Commit => format!("commit {}", object.id),
        Signed::Tag => format!("tag {} ({})", shown(reference), object.id),
    };
    match read.signer(object, reference, now) {
        Ok(signer) => Ok(format!("{what} is signed by {signer}")),
        Err(fault) => Err(format!("{what} {fault}; it has to be signed by one of the keys in {secret}")),
    }
}
