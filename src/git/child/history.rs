//! The way from one commit to another.

use git2::{ErrorCode, Oid, Repository};

use super::Trouble;
use crate::git::Ancestry;

/// A commit and its first parent.
pub(super) struct Step {
    pub(super) id: Oid,
    pub(super) parent: Option<Oid>,
}

/// What lies between the last verified commit and a tip.
pub(super) struct Past {
    pub(super) ancestry: Ancestry,
    /// First-parent commits in between, both ends excluded.
    pub(super) newest_first: Vec<Step>,
    /// How many older ones are not in the list.
    pub(super) skipped: usize,
}

/// Walks from `tip` along first parents to `since`.
///
/// If `since` is an ancestor of the tip that is not on this line (a branch that was merged into another one, which then
/// took its place), the walk ends at the first commit that `since` has behind it as well.
pub(super) fn since(repository: &Repository, tip: Oid, since: Option<&str>, most: usize) -> Result<Past, Trouble> {
    let ended = |ancestry| Ok(Past { ancestry, newest_first: Vec::new(), skipped: 0 });
    let Some(since) = since else { return ended(Ancestry::FirstSight) };
    let since = Oid::from_str(since)?;
    if since == tip {
        return ended(Ancestry::Unchanged);
    }
    match repository.find_commit(since) {
        Ok(_) if repository.graph_descendant_of(tip, since)? => {}
        Ok(_) => return ended(Ancestry::Rewritten),
        // What is not there is no ancestor, unless it was lost: then its descendants lack it.
        Err(error) if error.code() == ErrorCode::NotFound => {
            let mut walk = repository.revwalk()?;
            walk.push(tip)?;
            for commit in walk {
                commit?;
            }
            return ended(Ancestry::Rewritten);
        }
        Err(error) => return Err(error.into()),
    }
    let mut line = Vec::new();
    let mut next = first_parent(repository, tip)?;
    while let Some(id) = next.filter(|id| *id != since) {
        line.push(id);
        next = first_parent(repository, id)?;
    }
    let bottom = match next {
        Some(_) => line.len(),
        // Whatever is behind an ancestor of `since` is one too, so the line has one such border.
        None => border(&line, |id| repository.graph_descendant_of(since, id))?,
    };
    let end = line.get(bottom).copied().or(next);
    line.truncate(bottom);
    let parents: Vec<Option<Oid>> = line.iter().skip(1).copied().map(Some).chain([end]).collect();
    let newest_first: Vec<Step> =
        line.iter().zip(parents).take(most).map(|(id, parent)| Step { id: *id, parent }).collect();
    let skipped = line.len() - newest_first.len();
    Ok(Past { ancestry: Ancestry::Descends, newest_first, skipped })
}

fn first_parent(repository: &Repository, id: Oid) -> Result<Option<Oid>, git2::Error> {
    let commit = repository.find_commit(id)?;
    if commit.parent_count() == 0 { Ok(None) } else { commit.parent_id(0).map(Some) }
}

/// The first index at which `behind` holds; it holds for all that follow. (`partition_point` for what can fail.)
fn border<E>(line: &[Oid], behind: impl Fn(Oid) -> Result<bool, E>) -> Result<usize, E> {
    let (mut low, mut high) = (0, line.len());
    while low < high {
        let middle = low + (high - low) / 2;
        if behind(line[middle])? {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    Ok(low)
}
