//! What all children take together. Each one is limited, but several large ones at once would take more than the
//! container has, and then the kernel ends all of it, and admission with it.
//!
//! While any child runs, a thread looks what they take. When it is too much the largest one is killed: its job fails, to
//! be tried again. From then on the jobs of that repository wait for a place of which there is one, so that large
//! repositories are read one after another. Who has the place may take all but an eighth, which is left to the others so
//! that small ones go on; beyond that the repository is too large.
//!
//! Not a number of children that may run: hundreds that take a few MB, most of them waiting for a network, are as it
//! should be, and one that hangs keeps nobody waiting.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use procfs::process::Process;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::GitError;

/// A child that takes less than this part of what all may take has not to run alone: it is not what made it too much.
const LARGE: u64 = 16;

/// Bytes that children take in a second at most, all cores together. The less is left, the sooner is the next look.
const GROWTH: u64 = 8 << 30;
const SHORTEST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// The children of one [`super::Git`].
#[derive(Debug)]
pub(super) struct Memory {
    /// What all children may take together, in bytes.
    most: u64,
    place: Semaphore,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Those that run, by a number of their own: the kernel gives the same id to one after another.
    children: HashMap<u64, Child>,
    started: u64,
    /// The keys of repositories that need the place.
    large: HashSet<String>,
    /// Whether the thread runs.
    watched: bool,
}

#[derive(Debug)]
struct Child {
    key: String,
    process: Process,
    handle: OwnedFd,
    /// Bytes of its answer that this process holds.
    answer: Arc<AtomicU64>,
    has_place: bool,
    taken: u64,
    most_taken: u64,
    /// What all took when this one was killed for it.
    killed_at: Option<u64>,
}

/// A child that is counted, until this is dropped.
pub(super) struct Counted<'a> {
    memory: &'a Memory,
    number: u64,
    pub(super) answer: Arc<AtomicU64>,
    _place: Option<SemaphorePermit<'a>>,
}

impl Memory {
    pub(super) fn new(most: u64) -> Self {
        Self { most, place: Semaphore::new(1), state: Mutex::default() }
    }

    /// The place, if the repository needs it, as soon as it is free. Whoever waits has no child, so no time runs for it;
    /// who has it keeps it no longer than its job may take.
    pub(super) async fn place(&self, key: &str) -> Option<SemaphorePermit<'_>> {
        let large = self.state().large.contains(key);
        if large { self.place.acquire().await.ok() } else { None }
    }

    /// Counts a child from now on.
    pub(super) fn count<'a>(
        self: &'a Arc<Self>,
        key: &str,
        child: &tokio::process::Child,
        place: Option<SemaphorePermit<'a>>,
    ) -> Counted<'a> {
        let answer = Arc::new(AtomicU64::new(0));
        let has_place = place.is_some();
        let mut state = self.state();
        state.started += 1;
        let number = state.started;
        // Not on kernels that have no handles of processes (before Linux 5.3): each child's own limit is what is left.
        if let Some((process, handle)) = child.id().and_then(open) {
            let (key, answer) = (key.to_owned(), Arc::clone(&answer));
            let child = Child { key, process, handle, answer, has_place, taken: 0, most_taken: 0, killed_at: None };
            state.children.insert(number, child);
        }
        if !state.watched && !state.children.is_empty() {
            let memory = Arc::clone(self);
            // Not a task: those wait for others, such as one that takes a long answer apart.
            state.watched = thread::Builder::new().name("git-memory".into()).spawn(move || memory.watch()).is_ok();
        }
        drop(state);
        Counted { memory: self, number, answer, _place: place }
    }

    /// From now on the jobs of this repository wait for the place.
    pub(super) fn needs_place(&self, key: &str) {
        self.state().large.insert(key.to_owned());
    }

    fn watch(&self) {
        while let Some(pause) = self.look() {
            thread::sleep(pause);
        }
    }

    /// Kills the largest children until the others take no more than is accepted. Returns how long that will last.
    fn look(&self) -> Option<Duration> {
        let mut state = self.state();
        let State { children, large, watched, .. } = &mut *state;
        if children.is_empty() {
            *watched = false;
            return None;
        }
        let mut alive: Vec<&mut Child> = children.values_mut().filter(|child| child.killed_at.is_none()).collect();
        alive.iter_mut().for_each(|child| child.measure());
        let share = self.most / 8 * 7;
        for child in alive.iter_mut().filter(|child| child.has_place && child.taken > share) {
            child.stop(child.taken);
        }
        alive.retain(|child| child.killed_at.is_none());
        let all: u64 = alive.iter().map(|child| child.taken).sum();
        let mut left = all;
        alive.retain(|child| !child.has_place && child.taken > 0);
        alive.sort_unstable_by_key(|child| Reverse(child.taken));
        for child in alive {
            if left <= self.most {
                break;
            }
            if child.stop(all) {
                left -= child.taken;
                if self.is_large(child.taken) {
                    large.insert(child.key.clone());
                }
            }
        }
        let lasts = Duration::from_millis(self.most.saturating_sub(left).saturating_mul(1000) / GROWTH);
        Some(lasts.clamp(SHORTEST_PAUSE, LONGEST_PAUSE))
    }

    fn is_large(&self, taken: u64) -> bool {
        taken >= self.most / LARGE
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Handles of a child, which no other process can come to have. It is not reaped yet.
fn open(id: u32) -> Option<(Process, OwnedFd)> {
    let id = i32::try_from(id).ok()?;
    Some((Process::new(id).ok()?, pidfd_open(Pid::from_raw(id)?, PidfdFlags::empty()).ok()?))
}

impl Child {
    /// Kills it, for what all took. Returns whether that worked.
    fn stop(&mut self, all: u64) -> bool {
        let stopped = pidfd_send_signal(&self.handle, Signal::KILL).is_ok();
        if stopped {
            self.killed_at = Some(all);
        }
        stopped
    }

    /// Memory of its own. What it maps of files is shared with other children, as the program is, or can be written back,
    /// as packs can: the kernel takes that when it needs it.
    fn measure(&mut self) {
        let own = self.process.statm().map_or(0, |pages| pages.resident.saturating_sub(pages.shared));
        self.taken = own.saturating_mul(procfs::page_size()).saturating_add(self.answer.load(Ordering::Relaxed));
        self.most_taken = self.most_taken.max(self.taken);
    }
}

impl Counted<'_> {
    /// Why the child was killed, if it was for what all took together.
    pub(super) fn killed(&self) -> Option<GitError> {
        let state = self.memory.state();
        let child = state.children.get(&self.number)?;
        let again = if self.memory.is_large(child.taken) { "alone" } else { "soon" };
        let mega = |bytes: u64| bytes >> 20;
        if child.has_place && child.killed_at.is_some() {
            return Some(GitError::Limit(format!(
                "the repository needs more memory than is accepted: {} MiB, where one may take {}",
                mega(child.taken),
                mega(self.memory.most / 8 * 7)
            )));
        }
        Some(GitError::Crowded(format!(
            "all Git processes together took {} MiB of memory, where {} MiB are accepted; that of this repository took the \
             most, {} MiB, and was stopped; it is tried again {again}",
            mega(child.killed_at?),
            mega(self.memory.most),
            mega(child.taken)
        )))
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        let mut state = self.memory.state();
        let Some(child) = state.children.remove(&self.number) else { return };
        // It was large once, such as for its first fetch.
        if child.has_place && !self.memory.is_large(child.most_taken) {
            state.large.remove(&child.key);
        }
    }
}
