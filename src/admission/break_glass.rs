//! Break glass: enforcement is stopped for a while, by an annotation of the webhook configuration, loudly.
//!
//! `sekuire.ai/break-glass: <until, RFC 3339> <reason>`. While it is open every replica admits what it would have refused, and
//! the leader keeps `failurePolicy: Ignore`, so that dead replicas refuse nothing either. Without an end, or past it, nothing
//! is obeyed: the worst that is forgotten lasts a day.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use super::liveness::SILENCE;
use crate::api::BREAK_GLASS;
use crate::git::one_line;
use crate::policy::document::parse_time;

/// For how long it can be opened at a time.
pub const LONGEST: SignedDuration = SignedDuration::from_hours(24);
/// Characters of a reason that are shown.
const LONGEST_REASON: usize = 200;
/// Bytes of the annotation that are read, at each denial: an annotation can be 256 KiB long.
const READ: usize = 2048;

/// That it is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// Until then.
    pub until: Timestamp,
    /// Why, in the words of whoever opened it.
    pub reason: Arc<str>,
}

impl std::fmt::Display for Open {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "until {}: {}", self.until, self.reason)
    }
}

/// What the annotation says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Setting {
    /// There is none.
    Absent,
    /// Enforcement is stopped.
    Open(Open),
    /// It was, until then.
    Over(Open),
    /// It is not obeyed, and why.
    Refused(String),
}

impl Setting {
    /// Reads the annotations of a webhook configuration.
    #[must_use]
    pub fn of(annotations: Option<&BTreeMap<String, String>>, now: Timestamp) -> Setting {
        Setting::read(annotations.and_then(|all| all.get(BREAK_GLASS)).map(String::as_str), now)
    }

    /// Reads the value of the annotation.
    #[must_use]
    pub fn read(value: Option<&str>, now: Timestamp) -> Setting {
        let Some(value) = value.map(str::trim) else { return Setting::Absent };
        let value = &value[..value.floor_char_boundary(READ)];
        let expected = || {
            let shown: String = one_line(value).chars().take(LONGEST_REASON).collect();
            Setting::Refused(format!(
                "{BREAK_GLASS} is {shown:?}; expected a time and a reason, such as \"2026-06-01T14:00:00Z INC-123\""
            ))
        };
        let Some((until, reason)) = value.split_once(char::is_whitespace) else { return expected() };
        let Some(until) = parse_time(until) else { return expected() };
        let reason: String = one_line(reason.trim()).chars().take(LONGEST_REASON).collect();
        if until.duration_since(now) > LONGEST {
            let most = LONGEST.as_hours();
            return Setting::Refused(format!(
                "{BREAK_GLASS} is until {until}; at most {most} hours ahead are accepted"
            ));
        }
        let open = Open { until, reason: reason.into() };
        if now < until { Setting::Open(open) } else { Setting::Over(open) }
    }
}

/// What a replica knows of it: every replica watches the webhook configuration.
#[derive(Debug)]
pub struct BreakGlass {
    /// After so long its watch is dead.
    silence: Duration,
    seen: Mutex<Seen>,
}

impl Default for BreakGlass {
    fn default() -> Self {
        BreakGlass::new(SILENCE)
    }
}

#[derive(Debug, Default)]
struct Seen {
    annotation: Option<Arc<str>>,
    heard: Option<Instant>,
}

impl BreakGlass {
    /// By a watch that is dead after so long a silence.
    #[must_use]
    pub fn new(silence: Duration) -> Self {
        BreakGlass { silence, seen: Mutex::default() }
    }

    /// The webhook configuration was seen, or seen to be absent.
    pub fn saw(&self, annotations: Option<&BTreeMap<String, String>>) {
        let mut seen = self.lock();
        seen.annotation = annotations.and_then(|all| all.get(BREAK_GLASS)).map(|value| value.as_str().into());
        seen.heard = Some(Instant::now());
    }

    /// The watch is alive.
    pub fn heard(&self) {
        self.lock().heard = Some(Instant::now());
    }

    /// What the annotation says, as far as is known: one that was seen last by a watch that is dead since may be gone by now.
    pub fn setting(&self, now: Timestamp) -> Setting {
        let seen = self.lock();
        let alive = seen.heard.is_some_and(|heard| heard.elapsed() <= self.silence);
        Setting::read(seen.annotation.as_deref().filter(|_| alive), now)
    }

    /// How enforcement is stopped, if it is.
    pub fn open(&self, now: Timestamp) -> Option<Open> {
        match self.setting(now) {
            Setting::Open(open) => Some(open),
            Setting::Absent | Setting::Over(_) | Setting::Refused(_) => None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        // nothing under the lock can leave it half-written
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-06-01T12:00:00Z";

    fn read(value: &str) -> Setting {
        Setting::read(Some(value), NOW.parse().unwrap())
    }

    #[test]
    fn a_time_within_a_day_and_a_reason_open_it_until_then() {
        let Setting::Open(open) = read("2026-06-01T14:00:00+00:00  INC-123 payments down ") else { panic!() };
        assert_eq!(open.to_string(), "until 2026-06-01T14:00:00Z: INC-123 payments down");
        assert!(matches!(read("2026-06-02T12:00:00Z x"), Setting::Open(_)), "to the second");
        assert!(matches!(read("2026-06-01T12:00:00Z x"), Setting::Over(_)), "its last moment is over");
        assert!(matches!(read("2020-06-01T12:00:00Z x"), Setting::Over(_)));
    }

    #[test]
    fn anything_else_is_not_obeyed_and_says_what_would_be() {
        for value in
            ["", "true", "2026-06-01T14:00:00Z", "2026-06-01T14:00:00Z ", "tomorrow INC-1", "2h INC-1", "INC-1"]
        {
            let Setting::Refused(why) = read(value) else { panic!("{value}") };
            assert!(why.contains("expected a time and a reason"), "{why}");
        }
        for value in ["2026-06-02T12:00:01Z INC-1", "2026-06-02T12:04:00Z INC-1", "9999-12-31T23:59:59Z for ever"] {
            let Setting::Refused(why) = read(value) else { panic!("{value}") };
            assert!(why.contains("at most 24 hours ahead"), "{why}");
        }
        assert_eq!(Setting::read(None, NOW.parse().unwrap()), Setting::Absent);
    }

    #[test]
    fn a_reason_is_one_short_line() {
        let Setting::Open(open) = read(&format!("2026-06-01T14:00:00Z a\nb{}", "x".repeat(1000))) else { panic!() };
        assert!(!open.reason.contains('\n') && open.reason.chars().count() == LONGEST_REASON, "{open}");
        let Setting::Open(open) = read(&format!("2026-06-01T14:00:00Z {}", "é".repeat(100_000))) else { panic!() };
        assert_eq!(&*open.reason, "é".repeat(LONGEST_REASON));
    }

    #[test]
    fn it_is_closed_until_the_configuration_was_seen_and_when_the_annotation_goes() {
        let (glass, now) = (BreakGlass::default(), NOW.parse().unwrap());
        assert_eq!(glass.open(now), None);
        let open = BTreeMap::from([(BREAK_GLASS.to_owned(), "2026-06-01T14:00:00Z INC-1".to_owned())]);
        glass.saw(Some(&open));
        assert!(glass.open(now).is_some());
        assert_eq!(glass.open("2026-06-01T14:00:00Z".parse().unwrap()), None);
        glass.saw(Some(&BTreeMap::new()));
        assert_eq!(glass.open(now), None);
        glass.saw(Some(&open));
        glass.saw(None);
        assert_eq!(glass.open(now), None, "no configuration, no break glass");
    }
}
