//! Times that come from outside: as people write them, and as certificates hold them. What is beyond the first or the last
//! time that can be counted is the first or the last.

use std::borrow::Cow;

use jiff::{SignedDuration, Timestamp};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::policy::document::parse_time;

/// A time as it was written (RFC 3339). The API server admits more than a clock can show, such as an offset of 99 hours:
/// such a time is to spoil what depends on it, not the object that it stands in.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(transparent)]
pub struct Moment(pub String);

impl Moment {
    /// The time. One after the last that can be counted, such as the end of the year 9999 ("never"), is the last one.
    /// None when no calendar has it.
    pub fn at(&self) -> Option<Timestamp> {
        parse_time(&self.0)
    }
}

/// The time so many seconds after 1970, or the first or last one that can be counted.
#[must_use]
pub fn from_unix(seconds: i64) -> Timestamp {
    let beyond = if seconds < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::from_second(seconds).unwrap_or(beyond)
}

/// So long after a time, or the last one that can be counted; for a negative length, so long before.
#[must_use]
pub fn after(time: Timestamp, length: SignedDuration) -> Timestamp {
    let beyond = if length.is_negative() { Timestamp::MIN } else { Timestamp::MAX };
    time.checked_add(length).unwrap_or(beyond)
}

impl JsonSchema for Moment {
    fn schema_name() -> Cow<'static, str> {
        "Moment".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "format": "date-time"})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beyond_the_times_that_can_be_counted_is_the_first_or_the_last_of_them() {
        let hour = SignedDuration::from_hours(1);
        assert_eq!((from_unix(i64::MAX), from_unix(i64::MIN)), (Timestamp::MAX, Timestamp::MIN));
        assert_eq!(from_unix(253_402_300_799), Timestamp::MAX, "the last second of the year 9999");
        assert_eq!(from_unix(-3600), Timestamp::UNIX_EPOCH - hour);
        for (time, length, then) in [
            (Timestamp::MAX, hour, Timestamp::MAX),
            (Timestamp::MIN, -hour, Timestamp::MIN),
            (Timestamp::MIN, SignedDuration::MAX, Timestamp::MAX),
            (Timestamp::MAX, SignedDuration::MIN, Timestamp::MIN),
            (Timestamp::UNIX_EPOCH, hour, from_unix(3600)),
        ] {
            assert_eq!(after(time, length), then, "{time} and {length}");
        }
    }
}
