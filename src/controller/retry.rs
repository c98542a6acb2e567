//! When a repository is looked at again.

use std::time::Duration;

/// Pauses after faults that may pass by themselves grow up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// They grow up to this also where the interval is shorter.
const SHORTEST_PAUSE: Duration = Duration::from_secs(10);

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

#[cfg(test)]
mod tests {
    use super::*;

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
