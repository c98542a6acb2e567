//! What somebody would do who has taken over this process: for the tests of [`super::sandbox`], and in no release build.
#![allow(unsafe_code, reason = "an attacker does not ask a safe library; a build for tests alone has this")]

use std::fmt::Debug;
use std::fs;
use std::io::Read as _;
use std::net::{TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::process::{Pid, Signal};

use super::parent;
use crate::git::Attack;

/// What came of it; begins with `Ok` if it succeeded.
pub(super) fn run(attack: &Attack) -> String {
    match attack {
        Attack::Read(path) => told(fs::File::open(path).and_then(|mut file| {
            let mut text = [0; 256];
            file.read(&mut text).map(|count| String::from_utf8_lossy(&text[..count]).into_owned())
        })),
        Attack::List(path) => told(fs::read_dir(path).map(Iterator::count)),
        Attack::Write(path) => told(fs::write(path, "taken over")),
        Attack::Spawn(program) => told(Command::new(program).status()),
        Attack::Execute(program) => told(Err::<(), _>(Command::new(program).exec())),
        Attack::Connect(address) => told(TcpStream::connect(address)),
        Attack::Udp => told(UdpSocket::bind("127.0.0.1:0")),
        Attack::Unix(path) => told(UnixStream::connect(path)),
        Attack::AskFor(host, port) => told(parent::connect(host, *port)),
        // SAFETY: neither reads nor writes memory of this process.
        Attack::Trace(pid) => number(unsafe { libc::ptrace(libc::PTRACE_ATTACH, *pid, 0, 0) }),
        Attack::ReadMemory(pid) => {
            let mut byte = [0_u8; 1];
            let local = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
            let remote = libc::iovec { iov_base: run as *mut _, iov_len: 1 };
            // SAFETY: `local` is one byte, and outlives the call.
            let count = unsafe { libc::process_vm_readv(*pid, &raw const local, 1, &raw const remote, 1, 0) };
            number(i64::try_from(count).unwrap_or(-1))
        }
        Attack::Kill(pid) => {
            let pid = Pid::from_raw(*pid).ok_or("no such process");
            told(
                pid.map(|pid| rustix::process::kill_process(pid, Signal::TERM))
                    .and_then(|sent| sent.map_err(|_| "refused")),
            )
        }
        Attack::ExecutableMemory => {
            let rights = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
            let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            // SAFETY: new memory, which nobody uses.
            let mapped = unsafe { libc::mmap(std::ptr::null_mut(), 4096, rights, kind, -1, 0) };
            number(if mapped == libc::MAP_FAILED { -1 } else { 0 })
        }
    }
}

#[allow(clippy::needless_pass_by_value, reason = "so that each line above is one expression")]
fn told<T: Debug, E: Debug>(outcome: Result<T, E>) -> String {
    format!("{outcome:?}")
}

fn number(result: i64) -> String {
    told(if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(result) })
}
