//! When a repository is looked at again, and a workspace that failed is tried again.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

/// Pauses after faults that may pass by themselves grow up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// They grow up to this also where the interval is shorter.
const SHORTEST_PAUSE: Duration = Duration::from_secs(10);
/// Pauses of a workspace grow from the first to the second value.
const WORKSPACE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// How long to wait after so many failures in a row: twice as long each time, up to a bound, and no longer than a quiet
/// repository waits anyway.
pub fn pause(failures: u32, interval: Duration) -> Duration {
    let pause = Duration::from_millis(500).saturating_mul(2_u32.saturating_pow(failures));
    pause.min(LONGEST_PAUSE).min(interval.max(SHORTEST_PAUSE))
}

/// Up to a tenth more, so that many repositories do not ask one server at the same moment.
pub fn jittered(pause: Duration) -> Duration {
    let random = getrandom::u32().unwrap_or(0);
    pause + pause.mul_f64(f64::from(random) / f64::from(u32::MAX) / 10.0)
}

/// What failed, by name, and when it is tried again: after twice as long each time. `K` is what is known of it: once that is
/// something else than when it failed, it need not wait for its turn, but still for the shortest pause, so that whoever changes
/// it as fast as it is tried has nobody do nothing else.
pub struct Retries<K>(HashMap<String, Failing<K>>);

struct Failing<K> {
    failures: u32,
    /// When it was tried last.
    tried: Instant,
    /// When it is tried again.
    next: Instant,
    /// What was known of it when it had failed, with all that the attempt itself had written.
    known: K,
}

impl<K> Default for Retries<K> {
    fn default() -> Self {
        Retries(HashMap::new())
    }
}

impl<K: PartialEq> Retries<K> {
    /// Whether it is to be tried, now that somebody has asked for it.
    pub fn asked(&mut self, name: &str, known: impl FnOnce() -> K, now: Instant) -> bool {
        let Some(failing) = self.0.get_mut(name) else { return true };
        if failing.next > now && failing.known != known() {
            failing.next = failing.next.min(failing.tried + WORKSPACE.0);
        }
        failing.next <= now
    }

    /// It failed.
    pub fn failed(&mut self, name: String, known: K, now: Instant) {
        let failures = self.0.get(&name).map_or(0, |failing| failing.failures).saturating_add(1);
        let next = now + pause(failures, WORKSPACE.1);
        self.0.insert(name, Failing { failures, tried: now, next, known });
    }

    /// It did not.
    pub fn succeeded(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// When the next one is to be tried. `None`: nothing fails.
    pub fn next(&self) -> Option<Instant> {
        self.0.values().map(|failing| failing.next).min()
    }

    /// Whose time has come.
    pub fn due(&self, now: Instant) -> Vec<String> {
        self.0.iter().filter(|(_, failing)| failing.next <= now).map(|(name, _)| name.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_workspace_that_fails_is_tried_more_and_more_seldom_and_afresh_once_it_succeeded() {
        let (mut retries, mut now) = (Retries::default(), Instant::now());
        let mut pauses = Vec::new();
        for _ in 0..8 {
            retries.failed("a".to_owned(), 1, now);
            let next = retries.next().unwrap();
            assert!(retries.due(next - SECOND / 1000).is_empty());
            assert_eq!(retries.due(next), ["a"]);
            pauses.push((next - now).as_secs());
            now = next;
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        retries.succeeded("a");
        assert_eq!((retries.next(), retries.due(now + SECOND * 60)), (None, Vec::new()));
        retries.failed("a".to_owned(), 1, now);
        assert_eq!(retries.next(), Some(now + SECOND));
    }

    #[test]
    fn a_workspace_that_fails_is_tried_before_its_turn_when_somebody_changed_it_and_not_for_what_was_written_in_vain() {
        let (mut retries, start) = (Retries::default(), Instant::now());
        assert!(retries.asked("a", || 1, start), "nothing failed");
        for _ in 0..6 {
            retries.failed("a".to_owned(), 2, start);
        }
        let at = |milliseconds: u64| start + Duration::from_millis(milliseconds);
        // the echo of what was written, and whoever asks again and again
        for milliseconds in (0..31_000).step_by(500) {
            assert!(!retries.asked("a", || 2, at(milliseconds)), "after {milliseconds} ms");
        }
        assert!(retries.asked("b", || 2, at(0)), "another workspace");
        assert!(retries.asked("a", || 3, at(31_000)), "somebody changed it");
        // one that is changed at once comes soon, also if nobody asks again
        retries.failed("a".to_owned(), 3, at(31_000));
        assert!(!retries.asked("a", || 4, at(31_100)));
        assert_eq!((retries.next(), retries.due(at(32_000))), (Some(at(32_000)), vec!["a".to_owned()]));
    }

    #[test]
    fn pauses_double_up_to_a_bound_and_are_never_longer_than_the_interval_asks_for() {
        let pauses = |interval: u64, failures: &[u32]| -> Vec<u64> {
            let of = |failures: &u32| pause(*failures, Duration::from_secs(interval)).as_secs();
            failures.iter().map(of).collect()
        };
        assert_eq!(pauses(3600, &[1, 2, 3, 4, 9, 10, 40, u32::MAX]), [1, 2, 4, 8, 256, 300, 300, 300]);
        assert_eq!(pauses(60, &[5, 6, 7]), [16, 32, 60]);
        assert_eq!(pauses(1, &[3, 4, 5]), [4, 8, 10]);
        for _ in 0..100 {
            let jittered = jittered(Duration::from_secs(10));
            assert!((Duration::from_secs(10)..=Duration::from_secs(11)).contains(&jittered), "{jittered:?}");
        }
    }
}
