//! The settings of libgit2 that are global to a process: what the machine's Git configuration may say (nothing), who
//! speaks to servers, how much memory is cached and mapped.
#![allow(
    unsafe_code,
    reason = "git2 marks these setters unsafe because they write globals of the C library without a lock; they are \
              called once, in a process of its own, before anything else uses the library and from its only thread \
              that does"
)]

use std::time::Duration;

use git2::{ConfigLevel, opts, transport};

use super::http::Http;
use super::ssh::Ssh;
use crate::git::{Access, GitError, Limits, Request};

/// The longest wait for a connection.
pub(in crate::git) const CONNECT: Duration = Duration::from_secs(15);

/// Applies all settings.
pub(super) fn apply(limits: &Limits) -> Result<(), git2::Error> {
    opts::strict_hash_verification(true);
    opts::strict_object_creation(true);
    let memory = usize::try_from(limits.memory_bytes).unwrap_or(usize::MAX);
    // SAFETY: see the reason above. No repository is open, and the one other thread only reads standard input.
    unsafe {
        for level in [ConfigLevel::System, ConfigLevel::Global, ConfigLevel::XDG, ConfigLevel::ProgramData] {
            opts::set_search_path(level, "")?;
        }
        opts::set_cache_max_size(isize::try_from(memory / 16).unwrap_or(isize::MAX))?;
        // Packs are mapped in windows; both bounds are far below the address space that is left.
        opts::set_mwindow_size(8 << 20)?;
        opts::set_mwindow_mapped_limit(memory / 4)?;
    }
    Ok(())
}

/// How long a server may be silent: a little less than the job has, so that it gives an error that says so.
pub(in crate::git) fn silence(timeout: Duration) -> Duration {
    timeout.mul_f64(0.8)
}

/// Has everything over SSH done by our own transport.
pub(super) fn ssh(request: &Request) -> Result<(), GitError> {
    let ssh = Ssh::new(request)?;
    // SAFETY: see the reason above; no remote exists yet.
    unsafe { transport::register("ssh", move |remote| ssh.transport(remote)) }
        .map_err(|error| super::describe("cannot set up the Git library", &error))
}

/// Has everything over HTTP done by our own transport. Returns the access that counts.
pub(super) fn http(request: &Request) -> Result<Access, GitError> {
    let (http, access) = Http::new(&request.access, request.timeout)?;
    for scheme in ["http", "https"] {
        let http = http.clone();
        // SAFETY: see the reason above; no remote exists yet.
        unsafe { transport::register(scheme, move |remote| http.transport(remote)) }
            .map_err(|error| super::describe("cannot set up the Git library", &error))?;
    }
    Ok(access)
}
