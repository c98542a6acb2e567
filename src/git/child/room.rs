//! When the parent is asked for room on the disk: it sees the clones of all repositories, and a child its own.

use std::path::Path;

use super::parent;
use crate::git::GitError;
use crate::git::room::{STEP, taken};

/// The room that one fetch needs.
pub(super) struct Room {
    next_look: u64,
    full: Option<GitError>,
}

impl Room {
    pub(super) fn new(key: &str) -> Self {
        Self { next_look: STEP.saturating_sub(taken(Path::new(key))), full: None }
    }

    /// Whether there is room for what was received, all in all.
    pub(super) fn has(&mut self, received: u64) -> bool {
        if received >= self.next_look {
            self.next_look = received.saturating_add(STEP);
            self.full = parent::make_room().err();
        }
        self.full.is_none()
    }

    /// Why the fetch was stopped, if it was for want of room.
    pub(super) fn full(self) -> Option<GitError> {
        self.full
    }
}
