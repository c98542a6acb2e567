//! Asking a server for one branch, tag or commit.

use git2::{
    AutotagOption, Direction, ErrorClass, ErrorCode, FetchOptions, ObjectType, Oid, Progress, Remote, RemoteCallbacks,
    Repository,
};

use super::choose::{Wanted, choose};
use super::room::Room;
use super::{Trouble, describe, http};
use crate::git::protocol::Job;
use crate::git::reference::{Range, version};
use crate::git::{GitError, Limits, Reference, Request};

/// Where what was fetched is kept: the name at the server, without `refs/`, follows. So it says what it is, for a look
/// without network.
const KEPT: &str = "refs/sekuire/";
const KEPT_COMMIT: &str = "refs/sekuire/commit";

/// What was asked for, and its commit.
pub(super) struct Tip {
    pub(super) reference: String,
    pub(super) id: Oid,
    /// The object that the branch or the tag stands at: the commit, or an annotated tag.
    pub(super) target: Oid,
    kept: String,
}

/// Asks the server for what is wanted, and downloads what the clone lacks of it, which is nothing if the clone has it.
pub(super) fn fetch(repository: &Repository, request: &Request, job: &Job) -> Result<Tip, Trouble> {
    let what = "cannot reach the repository";
    let mut remote = repository.remote_anonymous(&request.url).map_err(|error| describe(what, &error))?;
    let mut connection = remote.connect_auth(Direction::Fetch, None, None).map_err(|error| explain(what, &error))?;
    let default = connection.default_branch().ok().and_then(|name| name.as_str().ok().map(str::to_owned));
    let heads = connection.list().map_err(|error| explain(what, &error))?;
    let wanted = choose(heads, default.as_deref(), &request.reference)?;
    let kept = kept_as(wanted.source.as_deref().filter(|_| !matches!(request.reference, Reference::Commit(_))));
    if !repository.odb()?.exists(wanted.id) {
        let source = wanted.source.clone().unwrap_or_else(|| wanted.id.to_string());
        let alone = download(connection.remote(), &[format!("+{source}:{kept}")], request, &job.limits);
        drop(connection);
        match alone {
            // Few servers give out what no branch or tag stands at, unless it comes with one.
            Err(_) if wanted.source.is_none() => {
                let all = ["heads", "tags"].map(|of| format!("+refs/{of}/*:{KEPT}{of}/*"));
                download(&mut remote, &all, request, &job.limits)?;
            }
            outcome => outcome?,
        }
        repository.odb()?.refresh()?;
    }
    tip(repository, &wanted, kept)
}

/// The commit of what was fetched.
fn tip(repository: &Repository, wanted: &Wanted, kept: String) -> Result<Tip, Trouble> {
    if wanted.source.is_none() && !repository.odb()?.exists(wanted.id) {
        return Err(Trouble::Final(GitError::Failed(format!(
            "the repository has no commit {}: no branch and no tag of the server leads to it",
            wanted.id
        ))));
    }
    let id = commit_of(repository, wanted.id)?;
    Ok(Tip { reference: wanted.reference.clone(), id, kept, target: wanted.id })
}

/// Where a tag ends: at a commit, maybe behind objects of its own.
fn commit_of(repository: &Repository, id: Oid) -> Result<Oid, Trouble> {
    let object = repository.find_object(id, None)?;
    match object.kind() {
        Some(ObjectType::Commit) => return Ok(id),
        Some(ObjectType::Tag) => {}
        _ => return Err(no_commit(id).into()),
    }
    match object.peel(ObjectType::Commit) {
        Ok(commit) => Ok(commit.id()),
        // A tag of something else; an object that is missing is another matter.
        Err(error) if matches!(error.code(), ErrorCode::InvalidSpec | ErrorCode::Peel) => Err(no_commit(id).into()),
        Err(error) => Err(error.into()),
    }
}

fn no_commit(id: Oid) -> GitError {
    GitError::Failed(format!("what was asked for is object {id}, which is no commit and no tag of one"))
}

/// The name under which something of the server is kept.
fn kept_as(source: Option<&str>) -> String {
    source.map_or_else(|| KEPT_COMMIT.to_owned(), |name| format!("{KEPT}{}", name.trim_start_matches("refs/")))
}

/// Remembers the tip: the next fetch tells the server that it has it.
pub(super) fn keep(repository: &Repository, tip: &Tip) -> Result<(), git2::Error> {
    for reference in repository.references_glob(&format!("{KEPT}*"))? {
        let mut reference = reference?;
        if reference.name_bytes() != tip.kept.as_bytes() {
            reference.delete()?;
        } else if reference.target() == Some(tip.target) {
            return Ok(());
        }
    }
    repository.reference(&tip.kept, tip.target, true, "fetch")?;
    Ok(())
}

/// What was kept last, if it is what is asked for.
pub(super) fn kept(repository: &Repository, wanted: &Reference) -> Result<Tip, GitError> {
    let range = match wanted {
        Reference::Semver(range) => Some(Range::parse(range)?),
        _ => None,
    };
    let fits = |name: &str, target: Oid| match wanted {
        Reference::Default => name.starts_with("heads/"),
        Reference::Branch(branch) => name.strip_prefix("heads/") == Some(branch),
        Reference::Tag(tag) => name.strip_prefix("tags/") == Some(tag),
        Reference::Semver(_) => {
            let version = name.strip_prefix("tags/").and_then(version);
            range.as_ref().zip(version).is_some_and(|(range, version)| range.contains(&version))
        }
        Reference::Commit(id) => target.to_string() == *id,
    };
    let find = || -> Result<Option<Tip>, Trouble> {
        for reference in repository.references_glob(&format!("{KEPT}*"))? {
            let reference = reference?;
            let (kept, target) = (reference.name()?.to_owned(), reference.target());
            let name = kept.trim_start_matches(KEPT);
            let Some(target) = target.filter(|target| fits(name, *target)) else { continue };
            let shown = name.split_once('/').map(|(_, name)| name).unwrap_or_default().to_owned();
            return Ok(Some(Tip { reference: shown, id: commit_of(repository, target)?, kept, target }));
        }
        Ok(None)
    };
    find().map_err(Trouble::into_error)?.ok_or_else(|| {
        GitError::Failed(
            "the branch, tag or commit has not been fetched yet, and this is to be done without network".into(),
        )
    })
}

/// Downloads the objects of what is named: nothing else, and not more bytes than are accepted.
fn download(remote: &mut Remote<'_>, refspecs: &[String], request: &Request, limits: &Limits) -> Result<(), Trouble> {
    let most = limits.pack_bytes;
    let mut received = 0;
    let mut room = Room::new(&request.key);
    let mut callbacks = RemoteCallbacks::new();
    callbacks.transfer_progress(|progress: Progress<'_>| {
        received = progress.received_bytes() as u64;
        received <= most && room.has(received)
    });
    let mut options = FetchOptions::new();
    options.remote_callbacks(callbacks).download_tags(AutotagOption::None).update_fetchhead(false);
    let outcome = remote.download(refspecs, Some(&mut options));
    drop(options);
    let Err(error) = outcome else { return Ok(()) };
    if received > most {
        return Err(Trouble::Final(GitError::Limit(format!(
            "the server sent more than the accepted {most} bytes; keep the policies in a repository of their own"
        ))));
    }
    if let Some(full) = room.full() {
        return Err(Trouble::Final(full));
    }
    let network = matches!(
        error.class(),
        ErrorClass::Net | ErrorClass::Http | ErrorClass::Ssl | ErrorClass::Ssh | ErrorClass::Callback
    );
    match explain("the fetch failed", &error) {
        error @ GitError::Failed(_) if !network => Err(Trouble::Clone(error)),
        error => Err(Trouble::Final(error)),
    }
}

/// An error of the network, with what to look at.
fn explain(what: &str, error: &git2::Error) -> GitError {
    if let Some(failure) = http::take_failure() {
        return failure;
    }
    let advice = match error.message() {
        text if text.contains("invalid packet line") => {
            "the server does not speak Git's protocol, or its repository is a shallow clone, which cannot be read"
        }
        text if text.contains("resolve path") => "look at the path: it is one of this machine, and of a repository",
        _ => return describe(what, error),
    };
    match describe(what, error) {
        GitError::Failed(text) => GitError::Failed(format!("{text} ({advice})")),
        error => error,
    }
}
