//! What a child cannot do itself, since it is locked in, and asks its parent for: connections, and room on the disk.
//!
//! Standard input is a socket. The child writes a line on it and waits for the answer; a connection comes along with it as
//! an open file.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::TcpStream;
use std::os::fd::{AsFd as _, OwnedFd};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags};
use rustix::process::Signal;

use crate::git::GitError;
use crate::git::protocol::Ask;

/// An answer is an error's text at most.
const ANSWER_BYTES: usize = 64 << 10;

/// A connection to the server that this job is about, or to what is on the way. `host` may have brackets.
///
/// # Errors
/// Any [`GitError`]: it cannot be reached, or is none that this job may reach.
pub(super) fn connect(host: &str, port: u16) -> Result<TcpStream, GitError> {
    let told = ask(&Ask::Connect { host: host.to_owned(), port })?;
    told.map(TcpStream::from).ok_or_else(|| lost(&io::Error::other("no connection came")))
}

/// Has room made on the disk for what was received.
///
/// # Errors
/// [`GitError::Crowded`] if there is none.
pub(super) fn make_room() -> Result<(), GitError> {
    ask(&Ask::Room).map(|_| ())
}

fn ask(question: &Ask) -> Result<Option<OwnedFd>, GitError> {
    let mut line = serde_json::to_vec(question).map_err(|error| lost(&io::Error::other(error)))?;
    line.push(b'\n');
    send(&line).map_err(|error| lost(&error))?;
    let (line, told) = receive().map_err(|error| lost(&error))?;
    let answer: Result<(), GitError> = serde_json::from_slice(&line).map_err(|error| lost(&io::Error::other(error)))?;
    answer.map(|()| told)
}

fn lost(error: &io::Error) -> GitError {
    GitError::Failed(format!("lost the process that waits for this one: {error}"))
}

fn send(mut line: &[u8]) -> io::Result<()> {
    let stdin = io::stdin();
    while !line.is_empty() {
        match rustix::net::send(stdin.as_fd(), line, SendFlags::NOSIGNAL) {
            Ok(count) => line = line.get(count..).unwrap_or_default(),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// One line, and what came along with it.
fn receive() -> io::Result<(Vec<u8>, Option<OwnedFd>)> {
    let stdin = io::stdin();
    let (mut line, mut told) = (Vec::new(), None);
    while line.last() != Some(&b'\n') {
        let mut buffer = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let count = match rustix::net::recvmsg(stdin.as_fd(), &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Ok(message) => message.bytes,
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        };
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(files) = message {
                told = files.last().or(told);
            }
        }
        if count == 0 {
            end();
        }
        line.extend_from_slice(&buffer[..count]);
        if line.len() > ANSWER_BYTES {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    Ok((line, told))
}

/// Whether nobody waits for this process any more; waits so long for that.
pub(super) fn gone_within(time: Duration) -> bool {
    let stdin = io::stdin();
    let time = Timespec::try_from(time).ok();
    let mut polled = [PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::RDHUP)];
    match poll(&mut polled, time.as_ref()) {
        Ok(count) => count > 0,
        Err(rustix::io::Errno::INTR) => false,
        Err(_) => true,
    }
}

/// Waits on a thread for the end of the parent, which is that of its socket, and then kills this process.
///
/// Not `PR_SET_PDEATHSIG`: that fires when the *thread* that started the child ends, and a runtime ends threads as it
/// likes.
pub(super) fn die_with_parent() -> io::Result<()> {
    thread::Builder::new().stack_size(64 << 10).spawn(|| {
        while !gone_within(Duration::from_secs(3600)) {}
        end();
    })?;
    Ok(())
}

/// Nobody waits for this process any more.
fn end() -> ! {
    let _ = rustix::process::kill_process(rustix::process::getpid(), Signal::KILL);
    std::process::abort();
}
