//! Git repositories: what is in a branch, and how it got there. Bytes out, bounded in size and time; nothing here
//! knows what a policy is.
//!
//! ```text
//! Git::snapshot ──▶ child process (`sekuire git-child`) ──▶ libgit2 ──▶ <data dir>/<key>/clone   a bare clone, a cache
//!               ◀── names, sizes and blob ids of files
//! Git::read_blobs ─▶ child process ──▶ the same clone, no network
//!               ◀── bytes
//! ```
//!
//! The controller never calls libgit2 itself. What a hostile server or repository can do to a C library (hang, exhaust
//! memory, crash, take over) it does to a child, which lives for one job, limits itself ([`Limits`]) before it opens
//! anything, is locked in ([`Sandbox`]) before it reads anything of strangers, and is killed when its time is over or its
//! parent is gone. It makes no connection by itself: it asks its parent for one, which knows where that job may go.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

mod access;
pub mod child;
mod errands;
mod error;
mod listing;
mod memory;
mod process;
mod protocol;
mod reach;
mod reference;
mod room;
mod sandbox;
mod shown;
mod signature;
mod url;

pub use access::{Access, ClientCertificate, GitHubApp, Login, Proxy, Secret};
pub(crate) use child::Trouble;
pub use error::GitError;
pub(crate) use listing::{Documents, Place, fault_of_path};
pub use reference::Reference;
#[cfg(debug_assertions)]
pub use sandbox::Attack;
pub use sandbox::Sandbox;
pub use shown::{one_line, shown};
pub use signature::{SignatureKeys, Signed, SignedObject};

use memory::Memory;
use protocol::{Answer, Job, Work};

/// How long a job without network may take. Reading is bounded by the other limits; this is for a disk that hangs.
const LOCAL_TIMEOUT: Duration = Duration::from_secs(60);

/// The most blobs that are asked of one child, so that a job stays one short line.
const BLOBS_PER_JOB: usize = 20_000;

/// Access to Git repositories through child processes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Git {
    exe: PathBuf,
    data_dir: PathBuf,
    limits: Limits,
    memory: Arc<Memory>,
    allow_insecure: bool,
}

/// What one child may cost, and how much it may hand over: a repository beyond that is `LimitExceeded`. And what all
/// may cost together: of those, the largest ones have to wait for each other ([`GitError::Crowded`]).
///
/// The chart gives the container 768 MiB of memory and 2 GiB for clones, which is for these defaults.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Address space of a child in bytes (`RLIMIT_AS`): default 512 MiB.
    pub memory_bytes: u64,
    /// Memory of all children, with what this process holds of their answers: default 576 MiB. One that has to be read
    /// alone may take seven eighths of it, else it is `LimitExceeded`. Takes Linux 5.3; before, each child has its own limit
    /// alone.
    pub all_memory_bytes: u64,
    /// Bytes that one fetch may receive: default 256 MiB. A file that a child writes may be a quarter larger. A clone that
    /// takes up twice as much through many fetches is made anew, and stays until that is done.
    pub pack_bytes: u64,
    /// Bytes of all clones: default 1.5 GiB, which is more than one repository ever takes.
    pub clones_bytes: u64,
    /// The largest file that is ever read: default 256 KiB. A larger one is listed with its size.
    pub file_bytes: u64,
    /// Documents below the path in one commit: default 20 000.
    pub files: usize,
    /// Commits between two tips that are looked at, the newest ones: default 1 000.
    pub commits: usize,
    /// Bytes of one answer of a child: default 64 MiB.
    pub output_bytes: usize,
    /// Processor time of a child in seconds (`RLIMIT_CPU`): default 60.
    pub cpu_seconds: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 512 << 20,
            all_memory_bytes: 576 << 20,
            pack_bytes: 256 << 20,
            clones_bytes: 1536 << 20,
            file_bytes: 256 << 10,
            files: 20_000,
            commits: 1_000,
            output_bytes: 64 << 20,
            cpu_seconds: 60,
        }
    }
}

/// What to fetch and what to list. Made with [`Request::new`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Request {
    /// The folder of the clone below the data directory: the object's uid. Letters, digits, `-`, `_` and `.`.
    pub key: String,
    /// `https://` or `ssh://`; `http://` and `file://` only if insecure URLs are allowed.
    pub url: String,
    /// What to read.
    pub reference: Reference,
    /// The folder whose documents are listed, relative to the root; empty or `.` is the root.
    pub path: String,
    /// After this the child is killed, whatever it does.
    pub timeout: Duration,
    /// The last verified commit (40 hex): the commits after it are listed too. Of a branch; a tag or a commit has no
    /// history that it would have to keep.
    pub since: Option<String>,
    /// Single documents that are wanted besides, e.g. those of marks: commit (40 hex) and path from the root.
    pub also: Vec<(String, String)>,
    /// Use the clone as it is, without network.
    pub offline: bool,
    /// How to reach it.
    pub access: Access,
    /// What has to be signed, and is therefore handed out as it is.
    pub signed: Option<Signed>,
}

impl Request {
    /// A request for the documents below `policies` on the default branch, with a minute of time.
    #[must_use]
    pub fn new(key: impl Into<String>, url: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            url: url.into(),
            reference: Reference::Default,
            path: "policies".into(),
            timeout: Duration::from_secs(60),
            since: None,
            also: Vec::new(),
            offline: false,
            access: Access::default(),
            signed: None,
        }
    }
}

/// A branch or a tag at one moment, or a commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The branch or the tag that was read, without `refs/heads/` or `refs/tags/`; empty if a commit was asked for.
    pub reference: String,
    /// Its commit, 40 hex.
    pub tip: String,
    /// How the tip relates to the commit of [`Request::since`].
    pub ancestry: Ancestry,
    /// First-parent commits between `since` and the tip, both excluded, oldest first, each with the documents that it
    /// added or changed against its own first parent. Empty unless the tip descends from `since`.
    pub commits: Vec<Commit>,
    /// How many such commits are not in `commits` because there are too many of them, or too many files in them. It
    /// is the oldest ones that are left out, except for single commits that are malformed or have more documents than
    /// is accepted. The child's remarks in the log say which.
    pub skipped: usize,
    /// Whether the path is a folder at the tip. If not, `tip_files` is empty.
    pub path_exists: bool,
    /// Every document below the path at the tip, by path.
    pub tip_files: Vec<File>,
    /// What was found of [`Request::also`], by commit. What the clone does not hold, is not below the path or cannot be
    /// read is absent.
    pub also: Vec<Commit>,
    /// What [`Request::signed`] asks for. Absent if it asks for a tag, and what was read is no annotated tag.
    pub signed: Option<SignedObject>,
}

/// How a tip relates to the last verified commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ancestry {
    /// There was no last verified commit, or it is no branch that was read.
    FirstSight,
    /// The tip is that commit.
    Unchanged,
    /// The tip descends from it.
    Descends,
    /// It does not: history was rewritten, or the branch is another one.
    Rewritten,
}

/// Documents of one commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// 40 hex.
    pub id: String,
    /// By path.
    pub files: Vec<File>,
}

/// An entry of a tree whose name ends in `.json`, `.yaml` or `.yml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// From the root of the repository, with `/`. Untrusted text; may hold any character but NUL. It is for looking
    /// things up; people get to see [`shown`] of it.
    pub path: String,
    /// The id of the content, 40 hex. Equal ids are equal bytes.
    pub blob: String,
    /// Bytes of content; 0 for a submodule.
    pub size: u64,
    /// Only [`FileKind::Regular`] ones have content that may be read.
    pub kind: FileKind,
}

/// What a tree says an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FileKind {
    /// A regular file, executable or not.
    Regular,
    /// A symbolic link; it is never followed.
    Symlink,
    /// A commit of another repository; it is never fetched.
    Submodule,
    /// A regular file whose path is not UTF-8; `path` shows it with replacement characters.
    NotUtf8,
    /// A folder, or a file, in more folders than are read. Of a folder nothing is listed.
    TooDeep,
    /// A folder, or a file, with a longer path than is read. Of a folder nothing is listed.
    TooLong,
    /// An entry as Git makes none: a name that cannot be one, two entries of one name, what is no file. It is not read.
    Malformed,
}

impl FileKind {
    /// Whether it is not read because it goes beyond a limit.
    #[must_use]
    pub fn exceeds_limit(self) -> bool {
        matches!(self, Self::TooDeep | Self::TooLong)
    }
}

impl Git {
    /// `exe` is this program; `data_dir` is where clones are kept (made if absent); with `allow_insecure`, `http://` and
    /// `file://` URLs are accepted, which is for tests and the demo.
    #[must_use]
    pub fn new(exe: PathBuf, data_dir: PathBuf, limits: Limits, allow_insecure: bool) -> Self {
        let memory = Arc::new(Memory::new(limits.all_memory_bytes));
        Self { exe, data_dir, limits, memory, allow_insecure }
    }

    /// Fetches what is asked for, unless the clone has it already, and lists documents.
    ///
    /// # Errors
    /// Any [`GitError`]. The clone stays usable, or is made anew by the next call.
    pub async fn snapshot(&self, request: &Request) -> Result<Snapshot, GitError> {
        check_key(&request.key)?;
        check_path(&request.path)?;
        request.reference.check()?;
        for id in request.since.iter().chain(request.also.iter().map(|(commit, _)| commit)) {
            check_id(id)?;
        }
        let url = url::check(&request.url, self.allow_insecure)?;
        if !request.offline {
            request.access.check(&url)?;
        }
        let work = Work::Snapshot(Box::new(Request { url, ..request.clone() }));
        match self.run(work, request.timeout).await? {
            (Answer::Snapshot(snapshot), _) => Ok(snapshot),
            _ => Err(process::nonsense()),
        }
    }

    /// Reads blobs out of the clone that [`Git::snapshot`] made, by id. Only regular files of a listing should be asked
    /// for. All of them are held in memory at once, so ask for as many as that may cost.
    ///
    /// # Errors
    /// [`GitError::Limit`] if one is larger than [`Limits::file_bytes`]. [`GitError::Failed`] if the clone does not
    /// hold one or is damaged; a damaged one is thrown away, and the next snapshot makes it anew.
    pub async fn read_blobs(&self, key: &str, blobs: &[String]) -> Result<HashMap<String, Vec<u8>>, GitError> {
        check_key(key)?;
        for id in blobs {
            check_id(id)?;
        }
        let mut found = HashMap::with_capacity(blobs.len());
        let mut rest = blobs;
        while !rest.is_empty() {
            let asked = &rest[..rest.len().min(BLOBS_PER_JOB)];
            let work = Work::Blobs { key: key.to_owned(), blobs: asked.to_vec() };
            let (Answer::Blobs(sizes), bytes) = self.run(work, LOCAL_TIMEOUT).await? else {
                return Err(process::nonsense());
            };
            if sizes.is_empty() || sizes.len() > asked.len() {
                return Err(process::nonsense());
            }
            let mut bytes = bytes.as_slice();
            for (id, size) in asked.iter().zip(&sizes) {
                let (content, after) = bytes.split_at_checked(*size).ok_or_else(process::nonsense)?;
                found.insert(id.clone(), content.to_vec());
                bytes = after;
            }
            rest = &rest[sizes.len()..];
        }
        Ok(found)
    }

    /// Deletes the clone of a repository that is gone. Deleting what is not there is no error.
    ///
    /// # Errors
    /// [`GitError::Failed`] if the files cannot be deleted.
    pub async fn forget(&self, key: &str) -> Result<(), GitError> {
        check_key(key)?;
        match self.run(Work::Forget { key: key.to_owned() }, LOCAL_TIMEOUT).await? {
            (Answer::Forgotten, _) => Ok(()),
            _ => Err(process::nonsense()),
        }
    }

    /// What children of this program are locked in by here. It is tried, not asked for.
    ///
    /// # Errors
    /// [`GitError::Failed`] if no child can be run, or it cannot be locked in for a reason other than the kernel's age.
    pub async fn sandbox(&self) -> Result<Sandbox, GitError> {
        match self.run(Work::Probe, LOCAL_TIMEOUT).await? {
            (Answer::Probed(sandbox), _) => Ok(sandbox),
            _ => Err(process::nonsense()),
        }
    }

    /// Has a child do what an attacker would who has taken it over, in a build for tests alone. Returns what came of it.
    ///
    /// # Errors
    /// [`GitError::Forbidden`] if it was stopped for it.
    #[cfg(debug_assertions)]
    pub async fn attack(&self, key: &str, attack: Attack) -> Result<String, GitError> {
        check_key(key)?;
        match self.run(Work::Attack { key: key.to_owned(), attack }, LOCAL_TIMEOUT).await? {
            (Answer::Attacked(outcome), _) => Ok(outcome),
            _ => Err(process::nonsense()),
        }
    }

    async fn run(&self, work: Work, timeout: Duration) -> Result<(Answer, Vec<u8>), GitError> {
        let job = Job { limits: self.limits.clone(), allow_insecure: self.allow_insecure, work };
        process::run(&self.exe, &self.data_dir, &self.memory, &job, timeout).await
    }
}

/// A key becomes the name of a folder.
fn check_key(key: &str) -> Result<(), GitError> {
    let fits = (1..=128).contains(&key.len())
        && !key.starts_with('.')
        && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if fits {
        return Ok(());
    }
    Err(GitError::Request(format!("the repository key {key:?} cannot name a folder; accepted: letters, digits, - _ .")))
}

fn check_path(path: &str) -> Result<(), GitError> {
    let plain = |part: &str| part == "." || !(part.is_empty() || part == ".." || part.contains('\0'));
    if path.is_empty() || path.trim_end_matches('/').split('/').all(plain) {
        return Ok(());
    }
    Err(GitError::Request(format!(
        "the path {path:?} is not accepted; give a folder below the root of the repository, such as policies or \
         teams/policies, without .. and without a leading /"
    )))
}

fn check_id(id: &str) -> Result<(), GitError> {
    if id.len() == 40 && id.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(());
    }
    Err(GitError::Request(format!("{id:?} is not an object id; accepted: 40 hexadecimal digits")))
}
