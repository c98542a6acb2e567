//! What the file holds already that a policy is to be written into: whoever answers may have kept an older version.

use std::cmp::Ordering;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context as _, anyhow};
use jiff::Timestamp;

use super::Failure;
use crate::admission::hold;
use crate::cli::files;
use crate::policy::{Document, KeyRing, MAX_DOCUMENT_BYTES, VerifiedPolicy};

/// The policy of the workspace in a file, if there is one that a trusted key signed; also one that is past its time. Nothing for
/// a file that is not there, or holds something else, which is replaced as ever.
pub(super) fn policy(
    out: &Path,
    workspace: &str,
    keys: &KeyRing,
    now: Timestamp,
) -> Result<Option<VerifiedPolicy>, Failure> {
    let shown = files::name(out);
    // follows a symbolic link, as writing does; what a device would say is not waited for
    match fs::metadata(out) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(anyhow!(e).context(format!("cannot look at {shown}")).into()),
        Ok(there) if !there.is_file() => {
            return Err(anyhow!("cannot write {shown}: it is a folder or a device; expected a file").into());
        }
        Ok(_) => {}
    }
    let format = files::format(out).map_err(anyhow::Error::from)?;
    let bytes = files::read(out, MAX_DOCUMENT_BYTES)
        .with_context(|| format!("whether {shown} holds a later version cannot be told; see --allow-lower"))?;
    let Ok(document) = Document::parse(&bytes, format) else { return Ok(None) };
    let policy = hold::authenticate(document, keys, now).ok();
    Ok(policy.filter(|policy| policy.workspace_id() == workspace))
}

/// Whether the file is to stay as it is, since it holds a better copy of the same document.
///
/// # Errors
/// A refusal, where it holds a later version, or the same version with other content.
pub(super) fn stays(there: &VerifiedPolicy, new: &VerifiedPolicy, from: &str, now: Timestamp) -> Result<bool, Failure> {
    let (old_version, version, workspace) = (there.version(), new.version(), new.workspace_id());
    let refused = |what: String| Err(Failure::Refused(format!("{what}; --allow-lower replaces it all the same")));
    match version.cmp(old_version) {
        Ordering::Less => refused(format!(
            "the document from {from} is version {version} of {workspace}, and the file holds version {old_version}, \
             signed by {}",
            there.signing_key_id()
        )),
        Ordering::Equal if new.digest() != there.digest() => refused(format!(
            "the document from {from} is version {version} of {workspace} with other content (document digest {}) than \
             the file holds ({})",
            new.digest(),
            there.digest()
        )),
        Ordering::Equal => Ok(there.standing().is_better_than(&new.standing(), now)),
        Ordering::Greater => Ok(false),
    }
}
