//! The parent's side: one child process per job, bounded in time and in what it may print, and with all others in memory.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as Socket;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use super::GitError;
use super::errands::Errands;
use super::memory::Memory;
use super::protocol::{Answer, Job};
use crate::telemetry::labels::ChildFailure;
use crate::telemetry::metrics;

/// What is kept of a child's standard error. It is read to its end, so that the child is not stopped by a full pipe.
const STDERR_BYTES: usize = 4 << 10;

/// Room in an answer for its first line, besides the bytes that the limit is about.
const HEAD_BYTES: usize = 1 << 20;

/// The variables that a child keeps: where the trusted certificate authorities are.
const KEPT_VARIABLES: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

/// Runs one job in a child of its own and returns its answer and the bytes that follow it.
pub(super) async fn run(
    exe: &Path,
    data_dir: &Path,
    memory: &Arc<Memory>,
    job: &Job,
    timeout: Duration,
) -> Result<(Answer, Vec<u8>), GitError> {
    let mut line = serde_json::to_vec(job).map_err(|error| GitError::Failed(format!("cannot write a job: {error}")))?;
    line.push(b'\n');
    let place = memory.place(job.work.key()).await;
    let errands = Errands::of(job, data_dir.to_owned());
    let (mut child, socket) = spawn(exe, data_dir, job.work.key()).await?;
    let counted = memory.count(job.work.key(), &child, place);
    let most = job.limits.output_bytes.saturating_add(HEAD_BYTES);
    let outcome = match tokio::time::timeout(timeout, talk(&mut child, socket, &line, &errands, most, &counted.answer))
        .await
    {
        Ok(outcome) => outcome.inspect_err(|error| metrics().git_process_failed(failure(error))),
        Err(_) => {
            metrics().git_process_failed(ChildFailure::Timeout);
            Err(GitError::Failed(format!(
                "gave up after {timeout:?}: the server or the repository is too slow (spec.timeout sets how long to wait)"
            )))
        }
    };
    let output = match outcome {
        Ok(output) => output,
        Err(error) => {
            // It still runs. If it cannot be killed it is already dead; dropping it reaps it in either case.
            if child.start_kill().is_ok() {
                drop(tokio::time::timeout(Duration::from_secs(5), child.wait()).await);
            }
            return Err(error);
        }
    };
    if let Some(error) = counted.killed().filter(|_| !output.status.success()) {
        metrics().git_process_failed(if let GitError::Limit(_) = error {
            ChildFailure::Limit
        } else {
            ChildFailure::Crowded
        });
        return Err(error);
    }
    if output.status.success() && !output.stderr.is_empty() {
        let said = job.work.hide(&String::from_utf8_lossy(&output.stderr));
        tracing::warn!(repository_uid = job.work.key(), remarks = said.trim(), "Git process has remarks");
    }
    let outcome = parse(output).map_err(|error| error.map(|text| job.work.hide(&text)));
    drop(counted);
    if let Err(GitError::Crowded(_)) = outcome {
        memory.needs_place(job.work.key()); // not for its memory, but for the disk
    }
    outcome
}

/// What a child left behind.
struct Output {
    status: ExitStatus,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

/// The folder of the clone is an argument for people who look at a list of processes. Returns the other end of its
/// standard input.
async fn spawn(exe: &Path, data_dir: &Path, key: &str) -> Result<(Child, UnixStream), GitError> {
    tokio::fs::create_dir_all(data_dir)
        .await
        .map_err(|error| GitError::Failed(format!("cannot make the data directory {}: {error}", data_dir.display())))?;
    let failed = |error| GitError::Failed(format!("cannot start the Git process {}: {error}", exe.display()));
    let (ours, theirs) = Socket::pair().map_err(failed)?;
    ours.set_nonblocking(true).map_err(failed)?;
    let ours = UnixStream::from_std(ours).map_err(failed)?;
    let mut command = Command::new(exe);
    command.arg("git-child").arg(data_dir.join(key)).env_clear().current_dir(data_dir);
    for name in KEPT_VARIABLES {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    let child = command
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn();
    child.map(|child| (child, ours)).map_err(failed)
}

/// Gives the job to the child and waits for its end.
async fn talk(
    child: &mut Child,
    mut socket: UnixStream,
    line: &[u8],
    errands: &Errands,
    most: usize,
    answer: &AtomicU64,
) -> Result<Output, GitError> {
    let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(GitError::Failed("the Git process has no pipes".into()));
    };
    // A child that dies before it has read its job is reported by how it ended, not by the broken pipe.
    let serve = async { if socket.write_all(line).await.is_ok() { errands.run(&mut socket).await } else { Ok(()) } };
    let stderr = async { Ok(drain(stderr).await) };
    let ((), stdout, stderr) = tokio::try_join!(serve, read(stdout, most, answer), stderr)?;
    let status = child.wait().await.map_err(|error| GitError::Failed(format!("lost the Git process: {error}")))?;
    drop(socket); // not before: its end tells the child that nobody waits any more
    Ok(Output { status, stdout, stderr })
}

/// Reads to the end, or fails as soon as there is more than `most`. Says meanwhile how much is held.
async fn read(from: impl AsyncRead + Unpin, most: usize, held: &AtomicU64) -> Result<Vec<u8>, GitError> {
    let mut bytes = Vec::with_capacity(8 << 10);
    let mut from = from.take(most as u64 + 1);
    loop {
        let read = from.read_buf(&mut bytes).await;
        let count = read.map_err(|error| GitError::Failed(format!("cannot read from the Git process: {error}")))?;
        held.store(bytes.len() as u64, Ordering::Relaxed);
        if bytes.len() > most {
            return Err(GitError::Limit(format!("the Git process printed more than {most} bytes and was stopped")));
        }
        if count == 0 {
            return Ok(bytes);
        }
    }
}

/// Reads to the end and keeps the last bytes: what a dying program says last is what it died of.
async fn drain(mut from: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut buffer = [0; 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        kept.extend_from_slice(&buffer[..count]);
        kept.drain(..kept.len().saturating_sub(STDERR_BYTES));
    }
    kept
}

/// Takes an answer apart. Only a child that ended well is believed.
fn parse(output: Output) -> Result<(Answer, Vec<u8>), GitError> {
    if !output.status.success() {
        let error = death(output.status, &String::from_utf8_lossy(&output.stderr));
        metrics().git_process_failed(failure(&error));
        return Err(error);
    }
    let mut stdout = output.stdout;
    let end = stdout.iter().position(|byte| *byte == b'\n').ok_or_else(nonsense)?;
    let bytes = stdout.split_off(end + 1);
    let answer: Result<Answer, GitError> = serde_json::from_slice(&stdout).map_err(|_| nonsense())?;
    Ok((answer?, bytes))
}

fn failure(error: &GitError) -> ChildFailure {
    match error {
        GitError::Limit(_) => ChildFailure::Limit,
        GitError::Forbidden(_) => {
            tracing::error!(%error, "Git process stopped");
            ChildFailure::Forbidden
        }
        _ => ChildFailure::Crash,
    }
}

/// Why a child died, as far as its end tells.
fn death(status: ExitStatus, stderr: &str) -> GitError {
    let said = match stderr.trim() {
        "" => String::new(),
        text => format!(": {}", text.replace(char::is_control, " ")),
    };
    let Some(number) = status.signal() else {
        return GitError::Failed(format!("the Git process failed ({status}){said}"));
    };
    match Signal::from_named_raw(number) {
        Some(Signal::XCPU) => GitError::Limit("the repository costs more processor time than is accepted".into()),
        Some(Signal::SYS) => GitError::Forbidden(format!(
            "the Git process tried what reading a repository never takes, and was stopped: a server or a repository may have \
             taken it over{said}"
        )),
        Some(Signal::XFSZ) => GitError::Limit("the repository needs a larger file than is accepted".into()),
        // How the standard library reports memory that it did not get, before it aborts.
        Some(Signal::ABORT) if stderr.contains("memory allocation of") => {
            GitError::Limit(format!("the repository needs more memory than is accepted{said}"))
        }
        _ => GitError::Failed(format!(
            "the Git process was killed by {status}{said}; nothing else is affected, and it will be tried again"
        )),
    }
}

/// The child's answer is not one.
pub(super) fn nonsense() -> GitError {
    GitError::Failed("the Git process gave an answer that cannot be understood".into())
}
