//! What all clones together may take on disk. They are a cache, and the folder that they are in has a size: a pod that
//! goes beyond it is evicted.

use std::cmp::Reverse;
use std::fs;
use std::path::{Path, PathBuf};

use super::clone::Store;
use crate::git::GitError;

/// When a clone has come to so many bytes, and after as many more, a fetch looks for room; clones of more are deleted for
/// it. So what is small is never refused, and never deleted.
const STEP: u64 = 8 << 20;

/// The room that one fetch needs.
pub(super) struct Room<'a> {
    key: &'a str,
    most: u64,
    next_look: u64,
    /// What all took when there was none.
    full: Option<u64>,
}

impl<'a> Room<'a> {
    pub(super) fn new(key: &'a str, most: u64) -> Self {
        Self { key, most, next_look: STEP.saturating_sub(taken(Path::new(key))), full: None }
    }

    /// Whether there is room for what was received, all in all. If not, clones that nobody uses are deleted first, the
    /// largest one before others.
    pub(super) fn has(&mut self, received: u64) -> bool {
        if received < self.next_look {
            return true;
        }
        self.next_look = received.saturating_add(STEP);
        let mut clones = clones();
        let mut taken: u64 = clones.iter().map(|(_, bytes)| bytes).sum();
        clones.retain(|(root, bytes)| *bytes > STEP && root != Path::new(self.key));
        clones.sort_unstable_by_key(|(_, bytes)| Reverse(*bytes));
        for (root, bytes) in clones {
            if taken <= self.most {
                break;
            }
            let Some(idle) = Store::idle(&root) else { continue };
            if idle.discard().and_then(|()| idle.abandon()).is_ok() {
                eprintln!("the clone {} was deleted to make room; the next fetch makes it anew", root.display());
                taken = taken.saturating_sub(bytes);
            }
        }
        self.full = (taken > self.most).then_some(taken);
        self.full.is_none()
    }

    /// Why the fetch was stopped, if it was for want of room.
    pub(super) fn full(&self) -> Option<GitError> {
        self.full.map(|taken| {
            GitError::Crowded(format!(
                "the clones of all repositories take {} MiB on disk, where {} MiB are accepted, and those that could be \
                 deleted are in use; it is tried again alone",
                taken >> 20,
                self.most >> 20
            ))
        })
    }
}

/// The folders of all repositories, and what they take.
fn clones() -> Vec<(PathBuf, u64)> {
    let entries = fs::read_dir(".").into_iter().flatten();
    let roots = entries.filter_map(|entry| Some(PathBuf::from(entry.ok()?.file_name())));
    roots.map(|root| (root.clone(), taken(&root))).collect()
}

/// The bytes of a clone, and of the one that is being made beside it.
fn taken(root: &Path) -> u64 {
    let packs = ["clone", "new"].map(|part| fs::read_dir(root.join(part).join("objects/pack")));
    let files = packs.into_iter().flatten().flatten();
    // What is renamed or deleted at this moment is no reason to miss the others.
    files.filter_map(|file| Some(file.ok()?.metadata().ok()?.len())).sum()
}
