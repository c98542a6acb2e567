//! What a text of a document may be.

use super::super::{Status, time};
use super::How;
use crate::policy::host::HostPattern;
use crate::policy::image;
use crate::policy::name::{self, ACCEPTED_NAME};
use crate::policy::path::PathPattern;
use crate::policy::version::{Version, VersionFault};
use crate::policy::words::quoted;

/// What a text may be.
#[derive(Clone, Copy)]
pub(super) enum Form {
    Any,
    Filled,
    /// A name, or a pattern of names: of providers, models, tools, servers, workspaces.
    Name,
    Image,
    Prefix,
    Id,
    Version,
    Status,
    Hex(usize),
    Time,
    Host,
    Path,
}

impl Form {
    pub(super) fn noun(self) -> &'static str {
        match self {
            Form::Any => "a string",
            Form::Filled | Form::Name => "a string that is not empty",
            Form::Image => {
                "an image's name with its domain, without tag and digest, such as \"ghcr.io/acme/*\" or \
                 \"docker.io/library/python\""
            }
            Form::Prefix => "a path that begins with /, such as \"/v1\"",
            Form::Id => "an id: 1 to 63 letters, digits, '.', '_' or '-', with a letter or digit at both ends",
            Form::Version => "a version in quotes, such as \"1\" or \"1.2.0\"",
            Form::Status => "one of draft, active, archived",
            Form::Hex(64) => "64 lower-case hex digits",
            Form::Hex(_) => "128 lower-case hex digits",
            Form::Time => "a time with a zone as in RFC 3339, such as \"2026-06-01T00:00:00Z\"",
            Form::Host => "*, *.domain or a host without port, such as \"api.example.com\"",
            Form::Path => "a path without empty, '.' or '..' parts, such as \"/tmp/*\" or \"data/report.txt\"",
        }
    }

    pub(super) fn check(self, text: &str, how: How) -> Result<(), String> {
        if let Form::Name | Form::Image = self
            && how.names
            && let Some(fault) = name::fault(text)
        {
            return Err(format!("{} {fault}; {ACCEPTED_NAME}", quoted(text)));
        }
        let ok = match self {
            Form::Any => true,
            Form::Filled | Form::Name => !text.is_empty(),
            Form::Image => image::is_pattern(text),
            Form::Prefix => text.starts_with('/'),
            Form::Id => is_id(text),
            Form::Version => match text.parse::<Version>() {
                Err(why @ (VersionFault::LeadingZero | VersionFault::TooLarge)) => return Err(why.to_string()),
                parsed => parsed.is_ok(),
            },
            Form::Status => Status::from_word(text).is_some(),
            Form::Hex(digits) => text.len() == digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')),
            Form::Time => time::parse(text).is_some(),
            Form::Host => HostPattern::parse(text).is_some(),
            Form::Path => PathPattern::parse(text).is_some(),
        };
        if ok { Ok(()) } else { Err(format!("expected {}, found {}", self.noun(), quoted(text))) }
    }
}

/// Whether a text can be the id of a policy, a workspace or a key: a valid value of a label of the cluster, and never
/// empty.
#[must_use]
pub fn is_id(text: &str) -> bool {
    let bytes = text.as_bytes();
    let ends = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    bytes.len() <= 63
        && ends(bytes.first())
        && ends(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}
