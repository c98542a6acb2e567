//! Whether what is in memory may be trusted: are the caches complete, and do their watches still speak?

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The watches that a verdict depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watched {
    /// `WorkspacePolicy` objects.
    Policies,
    /// `SigningKey` objects.
    Keys,
    /// `PolicyLedger` objects.
    Ledgers,
    /// Namespaces, for their labels.
    Namespaces,
}

const ALL: [(Watched, &str); 4] = [
    (Watched::Policies, "workspacepolicies"),
    (Watched::Keys, "signingkeys"),
    (Watched::Ledgers, "policyledgers"),
    (Watched::Namespaces, "namespaces"),
];

/// The API server sends a bookmark about once a minute: a watch that is silent for longer than this is dead.
const SILENCE: Duration = Duration::from_secs(300);

/// How long a fresh replica waits for the leader to put a damaged object back, before it serves without it.
const GRACE: Duration = Duration::from_secs(5);

/// What is known of the watches.
pub struct Liveness {
    start: Instant,
    complete: [AtomicBool; 4],
    /// Milliseconds after `start` at which each watch last said something.
    last: [AtomicU64; 4],
    /// Milliseconds after `start` at which all caches were complete first; 0: not yet.
    complete_since: AtomicU64,
    /// Nothing more to wait for at the start.
    settled: AtomicBool,
}

impl Default for Liveness {
    fn default() -> Self {
        Liveness {
            start: Instant::now(),
            complete: Default::default(),
            last: Default::default(),
            complete_since: AtomicU64::new(0),
            settled: AtomicBool::new(false),
        }
    }
}

impl Liveness {
    /// A watch said something: an event, a bookmark, a page of a list.
    pub fn heard(&self, watched: Watched) {
        self.last[watched as usize].store(self.elapsed(), Ordering::Relaxed);
    }

    /// A first full list was read and judged.
    pub fn complete(&self, watched: Watched) {
        self.heard(watched);
        self.complete[watched as usize].store(true, Ordering::Release);
    }

    /// Ready when every cache is complete and no watch is silent. `gap` names something that is missing, but about to be
    /// put back: asked only in the first seconds of a replica.
    ///
    /// # Errors
    /// What is being waited for.
    pub fn ready(&self, gap: impl FnOnce() -> Option<String>) -> Result<(), String> {
        for (watched, name) in ALL {
            if !self.complete[watched as usize].load(Ordering::Acquire) {
                return Err(format!("waiting for the first list of {name}"));
            }
        }
        let now = self.elapsed();
        for (watched, name) in ALL {
            let silent = Duration::from_millis(now.saturating_sub(self.last[watched as usize].load(Ordering::Relaxed)));
            if silent > SILENCE {
                return Err(format!("the watch of {name} has been silent for {} s", silent.as_secs()));
            }
        }
        self.first_seconds(now, gap)
    }

    fn first_seconds(&self, now: u64, gap: impl FnOnce() -> Option<String>) -> Result<(), String> {
        if self.settled.load(Ordering::Acquire) {
            return Ok(());
        }
        let since = match self.complete_since.compare_exchange(0, now.max(1), Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => now,
            Err(since) => since,
        };
        if Duration::from_millis(now.saturating_sub(since)) < GRACE
            && let Some(name) = gap()
        {
            return Err(format!("waiting for WorkspacePolicy {name} to be put back"));
        }
        self.settled.store(true, Ordering::Release);
        Ok(())
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
