//! Versions of a policy: one to three numbers, compared number by number.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The largest number a version may have: 2³¹−1.
const MAX_NUMBER: u32 = i32::MAX as u32;

/// A version such as `1` or `1.2.0`. A missing number is 0, so `1` equals `1.0`; what was written is kept for printing.
#[derive(Clone, Copy, Debug)]
pub struct Version {
    numbers: [u32; 3],
    /// How many of the numbers were written, 1 to 3.
    written: u8,
}

/// Why a text is not a version, or why there is no next one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VersionFault {
    /// The text does not have the form.
    #[error("expected one to three decimal numbers joined by dots, such as \"1\" or \"1.2.0\"")]
    Form,
    /// A number is written with a leading zero.
    #[error("a number of a version has no leading zero, as in \"1.2.0\"")]
    LeadingZero,
    /// A number is larger than 2³¹−1.
    #[error("a number of a version is at most 2147483647")]
    TooLarge,
}

impl Version {
    /// The next version: the last number that was written, raised by one.
    ///
    /// # Errors
    /// [`VersionFault::TooLarge`] when that number is already 2³¹−1.
    pub fn bump(&self) -> Result<Version, VersionFault> {
        let mut next = *self;
        let last = &mut next.numbers[usize::from(self.written) - 1];
        if *last >= MAX_NUMBER {
            return Err(VersionFault::TooLarge);
        }
        *last += 1;
        Ok(next)
    }
}

fn number(text: &str) -> Result<u32, VersionFault> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(VersionFault::Form);
    }
    if text.len() > 1 && text.starts_with('0') {
        return Err(VersionFault::LeadingZero);
    }
    match text.parse::<u32>() {
        Ok(n) if n <= MAX_NUMBER => Ok(n),
        _ => Err(VersionFault::TooLarge),
    }
}

impl FromStr for Version {
    type Err = VersionFault;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut numbers = [0; 3];
        let mut written = 0;
        for part in text.split('.') {
            let slot = numbers.get_mut(usize::from(written)).ok_or(VersionFault::Form)?;
            *slot = number(part)?;
            written += 1;
        }
        Ok(Version { numbers, written })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c] = self.numbers;
        match self.written {
            1 => write!(f, "{a}"),
            2 => write!(f, "{a}.{b}"),
            _ => write!(f, "{a}.{b}.{c}"),
        }
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.numbers == other.numbers
    }
}

impl Eq for Version {}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        self.numbers.cmp(&other.numbers)
    }
}

impl Hash for Version {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.numbers.hash(state);
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}
