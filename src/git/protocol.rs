//! What the controller and the fetch child say to each other.
//!
//! The parent writes one [`Job`] as a line of JSON to the child's standard input, which is a socket, and keeps it open: its
//! end tells the child that the parent is gone. While the child works it asks on the same socket for what it may not do
//! itself: a line of JSON, [`Ask`], and one as the answer, `Result<(), GitError>`. The child answers on standard output with one line of JSON, `Result<Answer, GitError>`,
//! after which the bytes of the blobs follow, one after another without any mark, in the order of [`Answer::Blobs`].

use serde::{Deserialize, Serialize};

use super::{Limits, Request, Sandbox, Snapshot};

/// The folder of a child that has no clone. No uid is like it.
const PROBED: &str = "probe";

/// What a child is to do: one job, then it ends.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Job {
    pub(super) limits: Limits,
    pub(super) allow_insecure: bool,
    pub(super) work: Work,
}

/// The kinds of job.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Work {
    /// Fetch, and list the files.
    Snapshot(Box<Request>),
    /// Read blobs (40 hex each) out of the clone of `key`.
    Blobs { key: String, blobs: Vec<String> },
    /// Delete the clone of `key`.
    Forget { key: String },
    /// Say what this process is locked in by.
    Probe,
    /// Do what an attacker would who has taken over the process, on the clone of `key`.
    #[cfg(debug_assertions)]
    Attack { key: String, attack: super::Attack },
}

impl Work {
    /// The folder of the repository that this is about.
    pub(super) fn key(&self) -> &str {
        match self {
            Self::Snapshot(request) => &request.key,
            Self::Blobs { key, .. } | Self::Forget { key } => key,
            Self::Probe => PROBED,
            #[cfg(debug_assertions)]
            Self::Attack { key, .. } => key,
        }
    }

    /// What a child says, without the credentials that it was given.
    pub(super) fn hide(&self, text: &str) -> String {
        match self {
            Self::Snapshot(request) => request.access.hide(text),
            _ => text.to_owned(),
        }
    }
}

/// What a child answers.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    Snapshot(Snapshot),
    /// The sizes of the blobs whose bytes follow: the first ones of those asked for, as many as one answer holds.
    Blobs(Vec<usize>),
    Forgotten,
    Probed(Sandbox),
    /// What came of an attack that did not end the process.
    #[cfg(debug_assertions)]
    Attacked(String),
}

/// What a child asks its parent for.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Ask {
    /// A TCP connection. It comes with the answer, as an open file.
    Connect { host: String, port: u16 },
    /// Room on the disk for what was received.
    Room,
}
