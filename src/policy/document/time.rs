//! Times as RFC 3339 writes them.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;

/// Reads `2026-06-01T12:00:00Z`, with any zone offset and any fraction of a second; nothing else that a library may
/// take for a time (jiff, like most, reads more than RFC 3339). None when it is no such time, or no calendar has it.
///
/// A leap second counts as the last moment before it. A time that is later than jiff can count, such as the last of
/// the year 9999, is the latest that it can.
#[must_use]
pub fn parse(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    let shape = |at: usize, allowed: &[u8]| bytes.get(at).is_some_and(|b| allowed.contains(b));
    let number = |from: usize, digits: usize| -> Option<i16> {
        let part = text.get(from..from + digits)?;
        if part.bytes().all(|b| b.is_ascii_digit()) { part.parse().ok() } else { None }
    };
    let small = |from: usize| number(from, 2).and_then(|n| i8::try_from(n).ok());
    if !(shape(4, b"-") && shape(7, b"-") && shape(10, b"Tt") && shape(13, b":") && shape(16, b":")) {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, small(5)?, small(8)?);
    let (hour, minute, second) = (small(11)?, small(14)?, small(17)?);

    let mut at = 19;
    let mut nanos = 0;
    if shape(at, b".") {
        let digits = bytes[at + 1..].iter().take_while(|b| b.is_ascii_digit()).count();
        if digits == 0 {
            return None;
        }
        let kept = text.get(at + 1..at + 1 + digits.min(9))?;
        nanos = format!("{kept:0<9}").parse().ok()?;
        at += 1 + digits;
    }
    let offset_seconds = if shape(at, b"Zz") {
        at += 1;
        0
    } else {
        if !(shape(at, b"+-") && shape(at + 3, b":")) {
            return None;
        }
        let (hours, minutes) = (small(at + 1)?, small(at + 4)?);
        if hours > 23 || minutes > 59 {
            return None;
        }
        let seconds = i32::from(hours) * 3600 + i32::from(minutes) * 60;
        let seconds = if bytes[at] == b'-' { -seconds } else { seconds };
        at += 6;
        seconds
    };
    if at != bytes.len() {
        return None;
    }

    let leap = second == 60;
    let local = DateTime::new(year, month, day, hour, minute, if leap { 59 } else { second }, nanos).ok()?;
    let offset = Offset::from_seconds(offset_seconds).ok()?;
    let time = offset.to_timestamp(local).unwrap_or(if year > 0 { Timestamp::MAX } else { Timestamp::MIN });
    if leap {
        // Leap seconds are inserted at the end of a day of UTC only.
        let utc = Offset::UTC.to_datetime(time);
        if (utc.hour(), utc.minute()) != (23, 59) {
            return None;
        }
    }
    Some(time)
}
