//! Taking a snapshot: fetch, look at history, list files; and once more with a new clone if the clone is to blame.

use git2::{Oid, Repository};

use super::clone::Store;
use super::fetch::{self, Tip};
use super::listing::Lister;
use super::{Trouble, history};
use crate::git::protocol::Job;
use crate::git::{Commit, GitError, Request, Snapshot};

pub(super) fn take(store: &Store, request: &Request, job: &Job) -> Result<Snapshot, GitError> {
    if request.offline {
        let Some(repository) = store.open() else {
            return Err(GitError::Failed("there is no clone yet, and this is to be done without network".into()));
        };
        let tip = fetch::kept(&repository, request.branch.as_deref())?;
        return read(&repository, &tip, request, job).map_err(Trouble::into_error);
    }
    if let Some(repository) = store.open_for(&request.url, &job.limits) {
        match attempt(&repository, request, job) {
            Ok(snapshot) => return Ok(snapshot),
            Err(Trouble::Final(error)) => return Err(error),
            Err(Trouble::Clone(error)) => eprintln!("the clone is made anew: {error}"),
        }
    }
    let repository = store.fresh(&request.url)?;
    let outcome = attempt(&repository, request, job).map_err(Trouble::into_error);
    drop(repository);
    match outcome {
        Ok(_) => store.adopt()?,
        // The old clone, if any, stays: it serves looks without network.
        Err(_) => store.abandon()?,
    }
    outcome
}

fn attempt(repository: &Repository, request: &Request, job: &Job) -> Result<Snapshot, Trouble> {
    let tip = fetch::fetch(repository, request, job)?;
    let snapshot = read(repository, &tip, request, job)?;
    // Only a tip that can be read is one to build the next fetch upon.
    fetch::keep(repository, &tip)?;
    Ok(snapshot)
}

fn read(repository: &Repository, tip: &Tip, request: &Request, job: &Job) -> Result<Snapshot, Trouble> {
    let limits = &job.limits;
    let lister = Lister::new(repository, &request.path, limits)?;
    let tip_files = lister.documents(tip.id, None)?;
    let past = history::since(repository, tip.id, request.since.as_deref(), limits.commits)?;

    let mut skipped = past.skipped;
    let mut commits = Vec::new();
    let mut room = limits.files.saturating_mul(2);
    for (index, step) in past.newest_first.iter().enumerate() {
        let files = match lister.documents(step.id, step.parent) {
            Ok(files) => files.unwrap_or_default(),
            // One commit that is too large must not hide the others.
            Err(Trouble::Final(GitError::Limit(_))) => {
                skipped += 1;
                continue;
            }
            Err(trouble) => return Err(trouble),
        };
        if files.len() > room {
            skipped += past.newest_first.len() - index;
            break;
        }
        room -= files.len();
        commits.push(Commit { id: step.id.to_string(), files });
    }
    commits.reverse();

    Ok(Snapshot {
        branch: tip.branch.clone(),
        tip: tip.id.to_string(),
        ancestry: past.ancestry,
        commits,
        skipped,
        path_exists: tip_files.is_some(),
        tip_files: tip_files.unwrap_or_default(),
        also: also(repository, &lister, request, limits.files)?,
    })
}

fn also(repository: &Repository, lister: &Lister<'_>, request: &Request, most: usize) -> Result<Vec<Commit>, Trouble> {
    let mut room = most.saturating_mul(4);
    let mut commits = Vec::new();
    for id in &request.also {
        let Ok(oid) = Oid::from_str(id) else { continue };
        if repository.find_commit(oid).is_err() {
            continue;
        }
        let files = lister.documents(oid, None)?.unwrap_or_default();
        room = room.checked_sub(files.len()).ok_or_else(|| {
            GitError::Limit(format!("the {} older commits asked for have too many documents", request.also.len()))
        })?;
        commits.push(Commit { id: id.clone(), files });
    }
    Ok(commits)
}
