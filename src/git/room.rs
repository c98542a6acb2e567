//! What all clones together may take on disk. They are a cache, and the folder that they are in has a size: a pod that
//! goes beyond it is evicted.

use std::cmp::Reverse;
use std::fs;
use std::path::{Path, PathBuf};

use super::GitError;
use super::child::Store;

/// When a clone has come to so many bytes, and after as many more, a fetch looks for room; clones of more are deleted for
/// it. So what is small is never refused, and never deleted.
pub(super) const STEP: u64 = 8 << 20;

/// Folders within the folder of a clone, at most. A name of a branch has 255 bytes between two `/`, and few of those.
const DEPTH: usize = 200;

/// Makes sure that all clones take no more than `most` bytes. Those that nobody uses are deleted for it, the largest one
/// before others, but not that of `key`.
///
/// # Errors
/// [`GitError::Crowded`] if they take more, and are in use.
pub(super) fn make(data_dir: &Path, key: &str, most: u64) -> Result<(), GitError> {
    let mut clones = clones(data_dir);
    let mut all: u64 = clones.iter().map(|(_, bytes)| bytes).sum();
    let own = data_dir.join(key);
    clones.retain(|(root, bytes)| *bytes > STEP && *root != own);
    clones.sort_unstable_by_key(|(_, bytes)| Reverse(*bytes));
    for (root, bytes) in clones {
        if all <= most {
            break;
        }
        if !shallow(&root, DEPTH) {
            continue;
        }
        let Some(idle) = Store::idle(&root) else { continue };
        if idle.discard().and_then(|()| idle.abandon()).is_ok() {
            let repository_uid = root.file_name().unwrap_or_default().to_string_lossy();
            tracing::warn!(%repository_uid, "clone deleted to make room: the next fetch makes it anew");
            all = all.saturating_sub(bytes);
        }
    }
    if all <= most {
        return Ok(());
    }
    Err(GitError::Crowded(format!(
        "the clones of all repositories take {} MiB on disk, where {} MiB are accepted, and those that could be \
         deleted are in use; it is tried again alone",
        all >> 20,
        most >> 20
    )))
}

/// Whether folders are nested no deeper than branches are. A child that was taken over may have made others, and to delete a
/// folder takes the stack of this process.
fn shallow(folder: &Path, left: usize) -> bool {
    let is_folder = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    let mut folders = fs::read_dir(folder).into_iter().flatten().flatten().filter(is_folder);
    folders.all(|entry| left > 0 && shallow(&entry.path(), left - 1))
}

/// The folders of all repositories, and what they take.
fn clones(data_dir: &Path) -> Vec<(PathBuf, u64)> {
    let entries = fs::read_dir(data_dir).into_iter().flatten();
    let roots = entries.filter_map(|entry| Some(entry.ok()?.path()));
    roots.map(|root| (root.clone(), taken(&root))).collect()
}

/// The bytes of a clone, and of the one that is being made beside it.
pub(super) fn taken(root: &Path) -> u64 {
    let packs = ["clone", "new"].map(|part| fs::read_dir(root.join(part).join("objects/pack")));
    let files = packs.into_iter().flatten().flatten();
    // What is renamed or deleted at this moment is no reason to miss the others.
    files.filter_map(|file| Some(file.ok()?.metadata().ok()?.len())).sum()
}
