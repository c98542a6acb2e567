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
    /// `SigningThreshold` objects.
    Thresholds,
    /// `PolicyLedger` objects.
    Ledgers,
    /// Namespaces, for their labels.
    Namespaces,
}

const ALL: [(Watched, &str); 5] = [
    (Watched::Policies, "workspacepolicies"),
    (Watched::Keys, "signingkeys"),
    (Watched::Thresholds, "signingthresholds"),
    (Watched::Ledgers, "policyledgers"),
    (Watched::Namespaces, "namespaces"),
];

/// The API server sends a bookmark about once a minute: a watch that is silent for longer than this is dead.
pub const SILENCE: Duration = Duration::from_secs(300);

/// How long a fresh replica only listens. What it listed first may be what somebody tampered with a moment ago, mark and
/// object both: the leader is about to put that back, and what is held since never goes down again.
const LISTEN: Duration = Duration::from_secs(1);

/// How long a fresh replica waits for what is still missing or unconfirmed, before it serves without it.
const GRACE: Duration = Duration::from_secs(5);

/// What is known of the watches.
pub struct Liveness {
    /// After so long a watch is dead.
    silence: Duration,
    start: Instant,
    complete: [AtomicBool; 5],
    /// Milliseconds after `start` at which each watch last said something.
    last: [AtomicU64; 5],
    /// Milliseconds after `start` at which all caches were complete first; 0: not yet.
    complete_since: AtomicU64,
    /// Nothing more to wait for at the start.
    settled: AtomicBool,
    /// This replica leads: nobody but itself puts anything back.
    leads: AtomicBool,
}

impl Default for Liveness {
    /// With [`SILENCE`].
    fn default() -> Self {
        Liveness::new(SILENCE)
    }
}

impl Liveness {
    /// Of watches that are dead after so long a silence: [`SILENCE`], shorter in tests.
    #[must_use]
    pub fn new(silence: Duration) -> Self {
        Liveness {
            silence,
            start: Instant::now(),
            complete: Default::default(),
            last: Default::default(),
            complete_since: AtomicU64::new(0),
            settled: AtomicBool::new(false),
            leads: AtomicBool::new(false),
        }
    }

    /// After how long a silence a watch is dead.
    #[must_use]
    pub fn silence(&self) -> Duration {
        self.silence
    }

    /// A watch said something: an event, a bookmark, a page of a list.
    pub fn heard(&self, watched: Watched) {
        self.last[watched as usize].store(self.elapsed(), Ordering::Relaxed);
    }

    /// A first full list was read and judged.
    pub fn complete(&self, watched: Watched) {
        self.heard(watched);
        self.complete[watched as usize].store(true, Ordering::Release);
        if self.listed().is_ok() {
            let now = self.elapsed().max(1);
            // only the first time counts
            let _ = self.complete_since.compare_exchange(0, now, Ordering::AcqRel, Ordering::Acquire);
        }
    }

    /// Whether a first full list was read and judged.
    pub fn is_complete(&self, watched: Watched) -> bool {
        self.complete[watched as usize].load(Ordering::Acquire)
    }

    /// This replica has begun to lead: until it has looked at Git, nobody but itself could say that what it found in the
    /// cluster is what was accepted.
    pub fn leads(&self) {
        self.leads.store(true, Ordering::Release);
    }

    /// This replica leads, and has put everything where Git and the marks want it.
    pub fn confirmed(&self) {
        self.settled.store(true, Ordering::Release);
    }

    /// Each watch, and for how long it has said nothing; `None`: it has not said anything yet.
    pub fn silences(&self) -> impl Iterator<Item = (&'static str, Option<Duration>)> {
        let now = self.elapsed();
        ALL.into_iter().map(move |(watched, name)| {
            let last = self.last[watched as usize].load(Ordering::Relaxed);
            (name, (last > 0).then(|| Duration::from_millis(now.saturating_sub(last))))
        })
    }

    /// Whether every cache is complete.
    ///
    /// # Errors
    /// Which one is not.
    pub fn listed(&self) -> Result<(), String> {
        for (watched, name) in ALL {
            if !self.is_complete(watched) {
                return Err(format!("waiting for the first list of {name}"));
            }
        }
        Ok(())
    }

    /// Ready when every cache is complete and no watch is silent. `gap` names something that is missing, but about to be
    /// put back: asked only in the first seconds of a replica.
    ///
    /// # Errors
    /// What is being waited for.
    pub fn ready(&self, gap: impl FnOnce() -> Option<String>) -> Result<(), String> {
        self.listed()?;
        let now = self.elapsed();
        for (watched, name) in ALL {
            let silent = Duration::from_millis(now.saturating_sub(self.last[watched as usize].load(Ordering::Relaxed)));
            if silent > self.silence {
                return Err(format!("the watch of {name} has been silent for {} s", silent.as_secs()));
            }
        }
        self.first_seconds(now, gap)
    }

    fn first_seconds(&self, now: u64, gap: impl FnOnce() -> Option<String>) -> Result<(), String> {
        if self.settled.load(Ordering::Acquire) {
            return Ok(());
        }
        let since = self.complete_since.load(Ordering::Acquire);
        let listening = Duration::from_millis(now.saturating_sub(since));
        if listening < LISTEN {
            return Err("listening for what is being put back just now".to_owned());
        }
        if listening < GRACE {
            if self.leads.load(Ordering::Acquire) {
                return Err("leading, and waiting for the first look at the repositories".to_owned());
            }
            if let Some(name) = gap() {
                return Err(format!("waiting for WorkspacePolicy {name} to be put back"));
            }
        }
        self.settled.store(true, Ordering::Release);
        Ok(())
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
