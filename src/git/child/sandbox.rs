//! A child is locked in before it reads anything that strangers wrote: what a hostile server could make of a fault in
//! libgit2, libssh2 or OpenSSL is then worth the clone of that one repository, and nothing else.
//!
//! - Not dumpable: no other process of this user reads its memory, in which credentials are.
//! - No new privileges, by whatever it executes.
//! - Landlock: of the file system, the folder of its own clone alone, and nothing in it to be executed; no TCP; no signals
//!   and no abstract sockets of others. So neither the token of the service account nor the key of the certificate.
//! - seccomp: the system calls that reading a repository takes, and no others. What has no place in that (to execute, to
//!   trace, to make a socket, to signal others) ends the process, which the parent reports; whatever else is not on the
//!   list does not exist, so that a newer C library falls back to what does.
//!
//! Connections are made by the parent (see [`super::parent`]), to what it was told of, so that no socket has to be made
//! here, nor any name be resolved. Certificate authorities are read before.
//!
//! The kernel may have neither (Landlock came with 5.13); then the rest counts, and the controller says so.

use std::io;
use std::path::Path;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, LandlockStatus, PathBeneath, PathFd,
    Ruleset, RulesetAttr as _, RulesetCreatedAttr as _, RulesetStatus, Scope, make_bitflags,
};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

use super::calls;
use crate::git::Sandbox;

/// What Landlock is asked for, of which the kernel may know a part. Signals and abstract sockets came with 6.
const FILES: ABI = ABI::V5;
const NETWORK: ABI = ABI::V4;
const SCOPES: ABI = ABI::V6;

/// The first thing in a child: from now on nobody else looks into it.
pub(super) fn hide() -> io::Result<()> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    rustix::thread::set_no_new_privs(true)?;
    Ok(())
}

/// Locks this thread in, and all that it will start. There must be no other yet.
///
/// `own` may be changed, `shown` be read.
///
/// # Errors
/// Only what the kernel does not have is no error.
pub(super) fn lock_in(own: &Path, shown: Option<&Path>) -> io::Result<Sandbox> {
    let (files, tcp) = landlock(own, shown)?;
    let system_calls = seccomp()?;
    Ok(Sandbox { files, network: tcp || system_calls, system_calls })
}

/// Whether the kernel restricts files, and whether TCP.
fn landlock(own: &Path, shown: Option<&Path>) -> io::Result<(bool, bool)> {
    let never = make_bitflags!(AccessFs::{Execute | MakeChar | MakeBlock | MakeSock | MakeFifo | MakeSym | IoctlDev});
    let change: BitFlags<AccessFs> = AccessFs::from_all(FILES) & !never;
    let read = make_bitflags!(AccessFs::{ReadFile | ReadDir});
    let mut rules = vec![PathBeneath::new(PathFd::new(own).map_err(io::Error::other)?, change)];
    // what is not there cannot be read either, and libgit2 says so better
    rules.extend(shown.and_then(|path| PathFd::new(path).ok()).map(|path| PathBeneath::new(path, read)));
    let restrict = || {
        let ruleset = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(FILES))?
            .handle_access(AccessNet::from_all(NETWORK))?
            .scope(Scope::from_all(SCOPES))?
            .create()?;
        ruleset.add_rules(rules.into_iter().map(Ok::<_, landlock::RulesetError>))?.restrict_self()
    };
    let status = restrict().map_err(io::Error::other)?;
    let tcp = match status.landlock {
        LandlockStatus::Available { effective_abi, .. } => effective_abi >= NETWORK,
        _ => false,
    };
    let enforced = status.ruleset != RulesetStatus::NotEnforced;
    Ok((enforced, enforced && tcp))
}

/// Whether the kernel has seccomp.
fn seccomp() -> io::Result<bool> {
    let own = u64::try_from(rustix::process::getpid().as_raw_nonzero().get()).map_err(io::Error::other)?;
    for (rules, on_match, otherwise) in [
        (calls::hostile(own)?, SeccompAction::KillProcess, SeccompAction::Allow),
        (calls::allowed(own)?, SeccompAction::Allow, SeccompAction::Errno(libc::ENOSYS.unsigned_abs())),
    ] {
        let arch = std::env::consts::ARCH.try_into().map_err(io::Error::other)?;
        let filter = SeccompFilter::new(rules.into_iter().collect(), otherwise, on_match, arch);
        let program: BpfProgram = filter.and_then(TryInto::try_into).map_err(io::Error::other)?;
        match seccompiler::apply_filter(&program) {
            Ok(()) => {}
            // not built in, not so new, or kept from this process by a profile of its container
            Err(seccompiler::Error::Seccomp(error) | seccompiler::Error::Prctl(error))
                if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL | libc::EPERM)) =>
            {
                return Ok(false);
            }
            Err(error) => return Err(io::Error::other(error)),
        }
    }
    Ok(true)
}

/// A rule: argument number `index` compares so.
pub(super) fn argument(index: u8, operator: SeccompCmpOp, value: u64) -> io::Result<SeccompRule> {
    let condition = SeccompCondition::new(index, SeccompCmpArgLen::Dword, operator, value);
    SeccompRule::new(vec![condition.map_err(io::Error::other)?]).map_err(io::Error::other)
}
