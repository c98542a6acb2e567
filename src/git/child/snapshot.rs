//! Taking a snapshot: fetch, look at history, list files; and once more with a new clone if the clone is to blame.

use std::collections::BTreeMap;

use git2::{ObjectType, Oid, Repository};

use super::Trouble;
use super::clone::Store;
use super::fetch::{self, Tip};
use super::history::{self, Past, Step};
use crate::git::listing::Documents;
use crate::git::protocol::Job;
use crate::git::{Commit, File, GitError, Limits, Request, Signed, SignedObject, Snapshot};

/// Where the objects come from, which says what is to blame when one cannot be read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// An older clone, used without network: nothing can be mended.
    Offline,
    /// An older clone. It may be damaged, and is made anew if it is.
    Kept,
    /// Just made: what is wrong came from the server.
    Fresh,
}

pub(super) fn take(store: &Store, request: &Request, job: &Job) -> Result<Snapshot, GitError> {
    if request.offline {
        let Some(repository) = store.open() else {
            return Err(GitError::Failed("there is no clone yet, and this is to be done without network".into()));
        };
        let tip = fetch::kept(&repository, &request.reference)?;
        return read(&repository, &tip, request, job, Origin::Offline).map_err(Trouble::into_error);
    }
    if let Some(repository) = store.open_for(&request.url, &job.limits) {
        match attempt(&repository, request, job, Origin::Kept) {
            Ok(snapshot) => return Ok(snapshot),
            Err(Trouble::Final(error)) => return Err(error),
            Err(Trouble::Clone(error) | Trouble::Disk(error)) => eprintln!("the clone is made anew: {error}"),
        }
    }
    let repository = store.fresh(&request.url)?;
    let outcome = attempt(&repository, request, job, Origin::Fresh).map_err(Trouble::into_error);
    drop(repository);
    match outcome {
        Ok(_) => store.adopt()?,
        // The old clone, if any, stays: it serves looks without network.
        Err(_) => store.abandon()?,
    }
    outcome
}

fn attempt(repository: &Repository, request: &Request, job: &Job, origin: Origin) -> Result<Snapshot, Trouble> {
    let tip = fetch::fetch(repository, request, job)?;
    let snapshot = read(repository, &tip, request, job, origin)?;
    // Only a tip that can be read is one to build the next fetch upon.
    fetch::keep(repository, &tip)?;
    Ok(snapshot)
}

fn read(repository: &Repository, tip: &Tip, request: &Request, job: &Job, origin: Origin) -> Result<Snapshot, Trouble> {
    let limits = &job.limits;
    let documents = Documents::new(repository, &request.path, limits.files)?;
    let tip_files = documents.of(tip.id, None)?;
    let since = request.since.as_deref().filter(|_| request.reference.is_branch());
    let past = history::since(repository, tip.id, since, limits.commits)?;
    let (commits, skipped) = between(&documents, &past, limits.files.saturating_mul(2), origin)?;
    Ok(Snapshot {
        reference: tip.reference.clone(),
        tip: tip.id.to_string(),
        ancestry: past.ancestry,
        commits,
        skipped,
        path_exists: tip_files.is_some(),
        tip_files: tip_files.unwrap_or_default(),
        also: also(repository, &documents, request, origin)?,
        signed: request.signed.map(|kind| signed(repository, tip, kind, limits)).transpose()?.flatten(),
    })
}

/// The commit or the tag that has to be signed, as it is: who signed it is looked at elsewhere.
fn signed(repository: &Repository, tip: &Tip, kind: Signed, limits: &Limits) -> Result<Option<SignedObject>, Trouble> {
    let id = match kind {
        Signed::Commit => tip.id,
        Signed::Tag => tip.target,
    };
    let odb = repository.odb()?;
    let (size, found) = odb.read_header(id)?;
    if kind == Signed::Tag && found != ObjectType::Tag {
        return Ok(None);
    }
    if size as u64 > limits.file_bytes {
        let what = format!("{found} {id} is {size} bytes long, which is more than the accepted {}", limits.file_bytes);
        return Err(GitError::Limit(what).into());
    }
    let content = odb.read(id)?.data().to_vec();
    Ok(Some(SignedObject { kind, id: id.to_string(), content }))
}

/// The documents of the commits in between, oldest first, and how many commits were left out.
fn between(
    documents: &Documents<'_>,
    past: &Past,
    mut room: usize,
    origin: Origin,
) -> Result<(Vec<Commit>, usize), Trouble> {
    let mut skipped = past.skipped;
    if skipped > 0 {
        eprintln!("the {skipped} oldest commits are not read: there are too many since the last look");
    }
    let mut commits = Vec::new();
    for (index, step) in past.newest_first.iter().enumerate() {
        let files = match changes(documents, step, origin) {
            Ok(files) => files,
            Err(trouble) if unreadable(&trouble, origin) => {
                eprintln!("commit {} is not read: {}", step.id, trouble.into_error());
                skipped += 1;
                continue;
            }
            Err(trouble) => return Err(trouble),
        };
        if files.len() > room {
            let rest = past.newest_first.len() - index;
            eprintln!("commit {} and older ones, {rest} in all, are not read: too many documents together", step.id);
            skipped += rest;
            break;
        }
        room -= files.len();
        commits.push(Commit { id: step.id.to_string(), files });
    }
    commits.reverse();
    Ok((commits, skipped))
}

/// What a commit changed. Where its parent cannot be read, that is all it has: one bad commit hides no good one.
fn changes(documents: &Documents<'_>, step: &Step, origin: Origin) -> Result<Vec<File>, Trouble> {
    match documents.of(step.id, step.parent) {
        Err(Trouble::Clone(_)) if origin == Origin::Fresh => documents.of(step.id, None),
        outcome => outcome,
    }
    .map(Option::unwrap_or_default)
}

/// Whether one commit is to blame, and not the clone: anyone who may push can make a commit that is too large or
/// malformed, and it must not hide the others for ever.
fn unreadable(trouble: &Trouble, origin: Origin) -> bool {
    match trouble {
        Trouble::Final(_) => true,
        Trouble::Clone(_) => origin == Origin::Fresh,
        Trouble::Disk(_) => false,
    }
}

/// The single documents that were asked for. They are an extra, to put back what was lost: what cannot be read is
/// absent, and only a clone that may be mended by making it anew is a reason to fail.
fn also(
    repository: &Repository,
    documents: &Documents<'_>,
    request: &Request,
    origin: Origin,
) -> Result<Vec<Commit>, Trouble> {
    let mut files: BTreeMap<&str, Vec<File>> = BTreeMap::new();
    for (id, path) in &request.also {
        let Ok(oid) = Oid::from_str(id) else { continue };
        if repository.find_commit(oid).is_err() {
            continue;
        }
        match documents.at(oid, path) {
            Ok(file) => files.entry(id).or_default().extend(file),
            Err(trouble @ (Trouble::Clone(_) | Trouble::Disk(_))) if origin == Origin::Kept => return Err(trouble),
            Err(trouble) => eprintln!("{path:?} in commit {id} is not read: {}", trouble.into_error()),
        }
    }
    let found = files.into_iter().filter(|(_, files)| !files.is_empty());
    Ok(found.map(|(id, files)| Commit { id: id.to_owned(), files }).collect())
}
