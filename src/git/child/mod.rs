//! The child process: one job, done with libgit2, under limits that it sets itself before it opens anything, and locked in
//! (`sandbox`) before it reads anything that strangers wrote.
//!
//! No runtime and no concurrency but one thread, which waits for the parent to go away.

use std::io::{self, BufRead as _, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use git2::{ErrorClass, ErrorCode};
use rustix::process::{Resource, Rlimit};
use url::Url;

use super::protocol::{Answer, Job, Work};
use super::{GitError, Limits, Request, Snapshot};

#[cfg(debug_assertions)]
mod attack;
mod blobs;
mod calls;
mod choose;
mod clone;
mod connector;
mod fetch;
mod github;
mod history;
mod http;
mod known_hosts;
mod parent;
mod room;
mod sandbox;
mod settings;
mod snapshot;
mod ssh;
mod tls;

pub(super) use clone::Store;
pub(super) use settings::{CONNECT, silence};

/// The longest job that is read: the ids of the blobs of the largest accepted commit fit many times.
const JOB_BYTES: u64 = 16 << 20;

/// The entry point of `sekuire git-child`: reads one job from standard input, answers on standard output.
///
/// The exit code is 0 whenever an answer was given, also one that is an error.
#[must_use]
pub fn main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> io::Result<()> {
    sandbox::hide()?;
    let mut line = Vec::new();
    io::stdin().lock().take(JOB_BYTES).read_until(b'\n', &mut line)?;
    let job: Job = serde_json::from_slice(&line)?;
    drop(line);
    limit(&job.limits)?;

    let mut bytes = Vec::new();
    let answer = work(&job, &mut bytes);
    let mut head = serde_json::to_vec(&answer)?;
    if head.len() > job.limits.output_bytes {
        let error = GitError::Limit(format!(
            "the listing is {} bytes long, which is more than the accepted {}",
            head.len(),
            job.limits.output_bytes
        ));
        head = serde_json::to_vec(&Err::<Answer, _>(error))?;
    }
    head.push(b'\n');
    let mut out = io::stdout().lock();
    out.write_all(&head)?;
    out.write_all(&bytes)?;
    out.flush()
}

/// Limits this process for good.
fn limit(limits: &Limits) -> io::Result<()> {
    let set = |resource, current, maximum| {
        rustix::process::setrlimit(resource, Rlimit { current: Some(current), maximum: Some(maximum) })
    };
    // A pack ends with objects that were borrowed from the clone, so a file may be a little longer than was received.
    let file = limits.pack_bytes.saturating_add(limits.pack_bytes / 4).saturating_add(1 << 20);
    set(Resource::Core, 0, 0)?;
    set(Resource::As, limits.memory_bytes, limits.memory_bytes)?;
    set(Resource::Fsize, file, file)?;
    // The signal of the lower limit says what the matter is; that of the upper one would be a plain kill.
    set(Resource::Cpu, limits.cpu_seconds, limits.cpu_seconds.saturating_add(1))?;
    Ok(())
}

/// Prepares the job, locks this process in, and does it.
fn work(job: &Job, bytes: &mut Vec<u8>) -> Result<Answer, GitError> {
    settings::apply(&job.limits).map_err(|error| describe("cannot set up the Git library", &error))?;
    let online = match &job.work {
        Work::Snapshot(request) => Some(&**request).filter(|request| !request.offline),
        _ => None,
    };
    if let Some(request) = online {
        http::load_authorities(&request.access);
    }
    let store = Store::lock(job.work.key())?;
    // to delete a folder takes rights on the one that it is in; that job reads nothing
    let own = if matches!(job.work, Work::Forget { .. }) { "." } else { job.work.key() };
    let shown = online.and_then(local_path);
    let sandbox = sandbox::lock_in(Path::new(own), shown.as_deref())
        .and_then(|sandbox| parent::die_with_parent().map(|()| sandbox))
        .map_err(|error| GitError::Failed(format!("cannot lock the Git process in: {error}")))?;
    match &job.work {
        Work::Snapshot(request) => take(&store, request, job).map(Answer::Snapshot),
        Work::Blobs { blobs, .. } => blobs::read(&store, blobs, &job.limits, bytes).map(Answer::Blobs),
        Work::Forget { .. } => store.forget().map(|()| Answer::Forgotten),
        Work::Probe => Ok(Answer::Probed(sandbox)),
        #[cfg(debug_assertions)]
        Work::Attack { attack, .. } => Ok(Answer::Attacked(attack::run(attack))),
    }
}

/// The repository of a `file://` URL, which is for tests and the demo.
fn local_path(request: &Request) -> Option<PathBuf> {
    Url::parse(&request.url).ok().filter(|url| url.scheme() == "file")?.to_file_path().ok()
}

/// Sets up how the server is reached, and takes the snapshot.
fn take(store: &Store, request: &Request, job: &Job) -> Result<Snapshot, GitError> {
    if request.offline || request.url.starts_with("file:") {
        return snapshot::take(store, request, job);
    }
    if request.url.starts_with("ssh:") {
        settings::ssh(request)?;
        return snapshot::take(store, request, job);
    }
    let access = settings::http(request)?;
    // the parent does not know a token that was made here
    snapshot::take(store, request, job).map_err(|error| error.map(|text| access.hide(&text)))
}

/// What to do about a fault.
pub(crate) enum Trouble {
    /// It is the answer.
    Final(GitError),
    /// The clone may be to blame, so it is worth making it anew.
    Clone(GitError),
    /// The same, but it was the operating system that failed, so that no object is to blame.
    Disk(GitError),
}

impl Trouble {
    pub(crate) fn into_error(self) -> GitError {
        match self {
            Self::Final(error) | Self::Clone(error) | Self::Disk(error) => error,
        }
    }
}

impl From<GitError> for Trouble {
    fn from(error: GitError) -> Self {
        Self::Final(error)
    }
}

/// A fault while objects were read. The clone may be damaged.
impl From<git2::Error> for Trouble {
    fn from(error: git2::Error) -> Self {
        match describe("cannot read the repository", &error) {
            failed @ GitError::Failed(_) if error.class() == ErrorClass::Os => Self::Disk(failed),
            failed @ GitError::Failed(_) => Self::Clone(failed),
            error => Self::Final(error),
        }
    }
}

/// An error of libgit2 in our terms. `what` is what was being done.
fn describe(what: &str, error: &git2::Error) -> GitError {
    let message = error.message();
    let text = format!("{what}: {message}");
    match (error.code(), error.class()) {
        (ErrorCode::Auth, _) => GitError::Authentication(text),
        (_, ErrorClass::NoMemory) => GitError::Limit(format!("{what}: it needs more memory than is accepted")),
        _ if message.contains("Cannot allocate memory") || message.contains("out of memory") => {
            GitError::Limit(format!("{what}: it needs more memory than is accepted ({message})"))
        }
        _ => GitError::Failed(text),
    }
}
