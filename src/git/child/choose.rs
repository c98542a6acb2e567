//! Which of what a server offers is asked for.

use std::panic::{self, AssertUnwindSafe};

use git2::{Oid, RemoteHead};

use crate::git::reference::{Range, version};
use crate::git::{GitError, Reference};

const HEADS: &str = "refs/heads/";
const TAGS: &str = "refs/tags/";

/// Names that an error lists.
const LISTED: usize = 5;

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// The full name of a branch or a tag at the server; `None`: a commit that it does not name.
    pub(super) source: Option<String>,
    /// What it stands at: a commit, or, for a tag, a tag object.
    pub(super) id: Oid,
    /// For people: the branch or the tag; empty if a commit was asked for.
    pub(super) reference: String,
}

/// Finds what is asked for among what the server offers; `default` is the full name of its default branch.
pub(super) fn choose(heads: &[RemoteHead<'_>], default: Option<&str>, wanted: &Reference) -> Result<Wanted, GitError> {
    let offered = named(heads);
    if offered.is_empty() {
        return Err(GitError::Failed("the repository is empty: it has no branch yet; push a first commit".into()));
    }
    match wanted {
        Reference::Default => default.and_then(|name| find(&offered, HEADS, name)).ok_or_else(|| {
            GitError::Failed(format!(
                "the repository's HEAD names no branch that exists; set spec.ref.branch to one of: {}",
                list(&offered, HEADS)
            ))
        }),
        Reference::Branch(name) => by_name(&offered, HEADS, "branch", name),
        Reference::Tag(name) => by_name(&offered, TAGS, "tag", name),
        Reference::Semver(range) => highest(&offered, range),
        Reference::Commit(id) => {
            let id = Oid::from_str(id).map_err(|error| GitError::Request(error.message().to_owned()))?;
            let source = offered.iter().find(|(_, at)| *at == id).map(|(name, _)| (*name).to_owned());
            Ok(Wanted { source, id, reference: String::new() })
        }
    }
}

fn by_name(offered: &[(&str, Oid)], prefix: &str, what: &str, name: &str) -> Result<Wanted, GitError> {
    let full = format!("{prefix}{name}");
    if !git2::Reference::is_valid_name(&full) {
        return Err(GitError::Request(format!(
            "{name:?} cannot be the name of a {what}; give one as `git {what}` lists it"
        )));
    }
    find(offered, prefix, &full).ok_or_else(|| {
        GitError::Failed(match list(offered, prefix) {
            none if none.is_empty() => format!("the repository has no {what} {name:?}, and none at all"),
            there => format!("the repository has no {what} {name:?}; there are: {there}"),
        })
    })
}

/// The tag of the highest version in a range. Of several tags for one version it is the last by name.
fn highest(offered: &[(&str, Oid)], range: &str) -> Result<Wanted, GitError> {
    let parsed = Range::parse(range)?;
    let tags = offered.iter().filter_map(|(name, _)| name.strip_prefix(TAGS));
    let versions = tags.filter_map(|tag| Some((version(tag)?, tag)));
    let best = versions.filter(|(version, _)| parsed.contains(version)).max();
    best.and_then(|(_, tag)| find(offered, TAGS, &format!("{TAGS}{tag}"))).ok_or_else(|| {
        GitError::Failed(match list(offered, TAGS) {
            none if none.is_empty() => format!("the repository has no tag, so none in the range {range:?}"),
            there => format!("the repository has no tag that is a version in the range {range:?}; there are: {there}"),
        })
    })
}

/// The one that is offered under its full name, which begins with `prefix`.
fn find(offered: &[(&str, Oid)], prefix: &str, full: &str) -> Option<Wanted> {
    let (name, id) = offered.iter().find(|(name, _)| *name == full)?;
    let reference = name.strip_prefix(prefix)?.to_owned();
    Some(Wanted { source: Some((*name).to_owned()), id: *id, reference })
}

fn list(offered: &[(&str, Oid)], prefix: &str) -> String {
    let names: Vec<&str> = offered.iter().filter_map(|(name, _)| name.strip_prefix(prefix)).collect();
    let more = match names.len().saturating_sub(LISTED) {
        0 => String::new(),
        count => format!(" and {count} more"),
    };
    format!("{}{more}", names[..names.len().min(LISTED)].join(", "))
}

/// The branches and tags among what the server offers.
///
/// git2 panics when it is asked for a name that is not UTF-8, and whoever may push any branch may make one. Such ones
/// are left out, as are names that Git itself would refuse: nobody can ask for them.
fn named<'a>(heads: &'a [RemoteHead<'_>]) -> Vec<(&'a str, Oid)> {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let named = |head: &'a RemoteHead<'_>| {
        let name = panic::catch_unwind(AssertUnwindSafe(|| head.name())).ok()?;
        let usable = (name.starts_with(HEADS) || name.starts_with(TAGS)) && git2::Reference::is_valid_name(name);
        usable.then(|| (name, head.oid()))
    };
    let offered = heads.iter().filter_map(named).collect();
    panic::set_hook(hook);
    offered
}
