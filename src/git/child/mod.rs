//! The child process: one job, done with libgit2, under limits that it sets itself before it opens anything.
//!
//! No runtime and no concurrency but one thread, which waits for the parent to go away.

use std::io::{self, BufRead as _, Read as _, Write as _};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use git2::{ErrorClass, ErrorCode};
use rustix::process::{Resource, Rlimit, Signal};

use super::protocol::{Answer, Job, Work};
use super::{GitError, Limits, Request, Snapshot};

mod blobs;
mod choose;
mod clone;
mod fetch;
mod github;
mod history;
mod http;
mod listing;
mod resolve;
mod room;
mod settings;
mod snapshot;
mod ssh;
mod tls;

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
    let mut line = Vec::new();
    io::stdin().lock().take(JOB_BYTES).read_until(b'\n', &mut line)?;
    let job: Job = serde_json::from_slice(&line)?;
    drop(line);
    limit(&job.limits)?;
    die_with_parent()?;

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

/// Waits on a thread for the end of standard input, which the parent holds open, and then kills this process.
///
/// Not `PR_SET_PDEATHSIG`: that fires when the *thread* that started the child ends, and a runtime ends threads as it
/// likes.
fn die_with_parent() -> io::Result<()> {
    thread::Builder::new().stack_size(64 << 10).spawn(|| {
        let mut byte = [0];
        // Any outcome but an interruption means that nobody waits for the answer any more.
        while matches!(io::stdin().read(&mut byte), Err(error) if error.kind() == io::ErrorKind::Interrupted) {}
        if rustix::process::kill_process(rustix::process::getpid(), Signal::KILL).is_err() {
            std::process::abort();
        }
    })?;
    Ok(())
}

fn work(job: &Job, bytes: &mut Vec<u8>) -> Result<Answer, GitError> {
    let timeout = match &job.work {
        Work::Snapshot(request) => request.timeout,
        _ => Duration::ZERO,
    };
    settings::apply(&job.limits, timeout).map_err(|error| describe("cannot set up the Git library", &error))?;
    let store = clone::Store::lock(job.work.key())?;
    match &job.work {
        Work::Snapshot(request) => take(&store, request, job).map(Answer::Snapshot),
        Work::Blobs { blobs, .. } => blobs::read(&store, blobs, &job.limits, bytes).map(Answer::Blobs),
        Work::Forget { .. } => store.forget().map(|()| Answer::Forgotten),
    }
}

/// Sets up how the server is reached, and takes the snapshot.
fn take(store: &clone::Store, request: &Request, job: &Job) -> Result<Snapshot, GitError> {
    if request.offline {
        return snapshot::take(store, request, job);
    }
    if !request.url.starts_with("http") {
        ssh::believe(request)?;
        return snapshot::take(store, request, job);
    }
    let access = settings::transports(request)?;
    // the parent does not know a token that was made here
    snapshot::take(store, request, job).map_err(|error| error.map(|text| access.hide(&text)))
}

/// What to do about a fault.
enum Trouble {
    /// It is the answer.
    Final(GitError),
    /// The clone may be to blame, so it is worth making it anew.
    Clone(GitError),
    /// The same, but it was the operating system that failed, so that no object is to blame.
    Disk(GitError),
}

impl Trouble {
    fn into_error(self) -> GitError {
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
