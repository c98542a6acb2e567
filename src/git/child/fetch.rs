//! Asking a server for one branch.

use std::panic::{self, AssertUnwindSafe};

use git2::{
    AutotagOption, Direction, ErrorClass, FetchOptions, Oid, Progress, Remote, RemoteCallbacks, RemoteHead,
    RemoteRedirect, Repository,
};

use super::{Trouble, describe};
use crate::git::protocol::Job;
use crate::git::{GitError, Request};

const HEADS: &str = "refs/heads/";

/// Where the fetched branch is kept. The name says which one it is, for a look without network.
const KEPT: &str = "refs/sekuire/";

/// A branch and its commit.
pub(super) struct Tip {
    pub(super) branch: String,
    pub(super) id: Oid,
}

/// Asks the server for the tip of the branch and downloads what the clone lacks of it, which is nothing if the clone
/// has the tip.
pub(super) fn fetch(repository: &Repository, request: &Request, job: &Job) -> Result<Tip, Trouble> {
    let what = "cannot reach the repository";
    let mut remote = repository.remote_anonymous(&request.url).map_err(|error| describe(what, &error))?;
    let mut connection =
        remote.connect_auth(Direction::Fetch, Some(callbacks()), None).map_err(|error| explain(what, &error))?;
    let default = connection.default_branch().ok().and_then(|name| name.as_str().ok().map(str::to_owned));
    let heads = connection.list().map_err(|error| explain(what, &error))?;
    let tip = choose(heads, default.as_deref(), request.branch.as_deref())?;
    if !repository.odb()?.exists(tip.id) {
        download(connection.remote(), &tip, job.limits.pack_bytes)?;
        repository.odb()?.refresh()?;
    }
    Ok(tip)
}

/// Remembers the tip: the next fetch tells the server that it has it.
pub(super) fn keep(repository: &Repository, tip: &Tip) -> Result<(), git2::Error> {
    let name = format!("{KEPT}{}", tip.branch);
    for reference in repository.references_glob(&format!("{KEPT}*"))? {
        let mut reference = reference?;
        if reference.name_bytes() != name.as_bytes() {
            reference.delete()?;
        } else if reference.target() == Some(tip.id) {
            return Ok(());
        }
    }
    repository.reference(&name, tip.id, true, "fetch")?;
    Ok(())
}

/// The tip that was kept last.
pub(super) fn kept(repository: &Repository, branch: Option<&str>) -> Result<Tip, GitError> {
    let missing =
        || GitError::Failed("the branch has not been fetched yet, and this is to be done without network".into());
    let find = || -> Result<Option<Tip>, git2::Error> {
        for reference in repository.references_glob(&format!("{KEPT}*"))? {
            let reference = reference?;
            let name = reference.name()?.trim_start_matches(KEPT).to_owned();
            if let Some(id) = reference.target()
                && branch.is_none_or(|wanted| wanted == name)
            {
                return Ok(Some(Tip { branch: name, id }));
            }
        }
        Ok(None)
    };
    find().map_err(|error| describe("cannot read the clone", &error))?.ok_or_else(missing)
}

/// No credentials are configured yet, so a server that asks for some is told that there are none.
fn callbacks<'a>() -> RemoteCallbacks<'a> {
    let mut callbacks = RemoteCallbacks::new();
    callbacks.credentials(|_, _, _| {
        Err(git2::Error::new(
            git2::ErrorCode::Auth,
            ErrorClass::Callback,
            "the server asks for credentials, and none are configured",
        ))
    });
    callbacks
}

fn choose(heads: &[RemoteHead<'_>], default: Option<&str>, wanted: Option<&str>) -> Result<Tip, GitError> {
    let branches = branches(heads);
    if branches.is_empty() {
        return Err(GitError::Failed("the repository is empty: it has no branch yet; push a first commit".into()));
    }
    let name = match wanted {
        Some(name) => name,
        None => default.and_then(|name| name.strip_prefix(HEADS)).unwrap_or(""),
    };
    if let Some((branch, id)) = branches.iter().find(|(branch, _)| *branch == name) {
        return Ok(Tip { branch: branch.clone(), id: *id });
    }
    let first: Vec<&str> = branches.iter().take(5).map(|(branch, _)| branch.as_str()).collect();
    let more = match branches.len() - first.len() {
        0 => String::new(),
        count => format!(" and {count} more"),
    };
    let there = format!("{}{more}", first.join(", "));
    Err(GitError::Failed(match wanted {
        Some(name) => format!("the repository has no branch {name:?}; there are: {there}"),
        None => format!("the repository's HEAD names no branch that exists; set spec.ref.branch to one of: {there}"),
    }))
}

/// The branches among what the server offers.
///
/// git2 panics when it is asked for a name that is not UTF-8, and whoever may push any branch may make one. Such
/// branches are left out, as are names that Git itself would refuse: nobody can ask for them.
fn branches(heads: &[RemoteHead<'_>]) -> Vec<(String, Oid)> {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let named = |head: &RemoteHead<'_>| {
        let name = panic::catch_unwind(AssertUnwindSafe(|| head.name().to_owned())).ok()?;
        let usable = git2::Reference::is_valid_name(&name);
        Some((name.strip_prefix(HEADS).filter(|_| usable)?.to_owned(), head.oid()))
    };
    let branches = heads.iter().filter_map(named).collect();
    panic::set_hook(hook);
    branches
}

/// Downloads the objects of one branch: no tags, no other refs, no redirect to another host, and not more bytes than
/// are accepted.
fn download(remote: &mut Remote<'_>, tip: &Tip, most: u64) -> Result<(), Trouble> {
    let mut received = 0;
    let mut callbacks = callbacks();
    callbacks.transfer_progress(|progress: Progress<'_>| {
        received = progress.received_bytes() as u64;
        received <= most
    });
    let mut options = FetchOptions::new();
    options
        .remote_callbacks(callbacks)
        .download_tags(AutotagOption::None)
        .update_fetchhead(false)
        .follow_redirects(RemoteRedirect::None);
    let refspec = format!("+{HEADS}{branch}:{KEPT}{branch}", branch = tip.branch);
    let outcome = remote.download(&[refspec], Some(&mut options));
    drop(options);
    let Err(error) = outcome else { return Ok(()) };
    if received > most {
        return Err(Trouble::Final(GitError::Limit(format!(
            "the server sent more than the accepted {most} bytes; keep the policies in a repository of their own"
        ))));
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
    let advice = match error.message() {
        text if text.contains("http status code: 404") => "there is no repository there, or it is private",
        text if text.contains("cannot redirect") || text.contains("redirect") => {
            "the server redirects; redirects to another host are not followed, so give the final address as the URL"
        }
        text if text.contains("invalid content-type") => "this is not a Git server",
        text if text.contains("invalid packet line") => {
            "the server does not speak Git's protocol, or its repository is a shallow clone, which cannot be read"
        }
        text if text.contains("timed out") => "the server is too slow, or something on the way drops the connection",
        text if text.contains("resolve") => "look at the name of the host, and at DNS",
        _ => return describe(what, error),
    };
    match describe(what, error) {
        GitError::Failed(text) => GitError::Failed(format!("{text} ({advice})")),
        error => error,
    }
}
