//! What anybody can have happen, and is told of all the same.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often one line tells of it.
const BETWEEN: Duration = Duration::from_secs(10);

/// Rations a line of the log to one in ten seconds, which says how often it happened.
#[derive(Debug, Default)]
pub struct Rationed {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    told: Option<Instant>,
    untold: u64,
}

impl Rationed {
    /// It has happened at the time `now`. How often since it was last told, if it is to be told.
    pub fn happened(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.untold += 1;
        if state.told.is_some_and(|told| now.saturating_duration_since(told) < BETWEEN) {
            return None;
        }
        state.told = Some(now);
        Some(std::mem::take(&mut state.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_at_once_and_then_every_ten_seconds_with_all_that_happened() {
        let (rationed, start) = (Rationed::default(), Instant::now());
        assert_eq!(rationed.happened(start), Some(1));
        assert_eq!(rationed.happened(start), None);
        assert_eq!(rationed.happened(start + BETWEEN / 2), None);
        assert_eq!(rationed.happened(start + BETWEEN), Some(3));
        assert_eq!(rationed.happened(start + BETWEEN * 3), Some(1));
    }
}
