//! `content.agent.models.endpoints`: which provider answers where.

use std::cmp::Reverse;
use std::fmt;

use super::Section;
use crate::policy::host::{Asked, HostPattern};
use crate::policy::pattern::Pattern;

/// The table of endpoints.
#[derive(Debug)]
pub(super) struct Table(Box<[Entry]>);

/// What answers at one place.
#[derive(Debug)]
pub(super) struct Entry {
    host: HostPattern,
    /// Without a slash at its end. Absent: any path.
    prefix: Option<Box<str>>,
    pub(super) provider: Box<str>,
    /// Absent: every model that is not refused otherwise.
    pub(super) models: Option<Box<[Pattern]>>,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.host, self.prefix.as_deref().unwrap_or_default())
    }
}

impl Table {
    pub(super) fn compile(models: Section<'_>) -> Option<Table> {
        let entries = models.list("endpoints", |entry| {
            let entry = Section(Some(entry));
            let text = |name| entry.get(name).and_then(|value| value.as_str());
            Some(Entry {
                host: HostPattern::parse(text("host")?)?,
                prefix: text("path_prefix").map(|prefix| prefix.strip_suffix('/').unwrap_or(prefix).into()),
                provider: text("provider")?.into(),
                models: entry.patterns("models"),
            })
        });
        entries.map(Table)
    }

    /// All that it knows.
    pub(super) fn entries(&self) -> &[Entry] {
        &self.0
    }

    /// The entry that speaks of an endpoint, with its place in the table; none for what is no endpoint. Of several it is
    /// the one with the longest prefix, then one for a single host, then the first.
    pub(super) fn entry(&self, endpoint: &str) -> Option<(usize, &Entry)> {
        let (host, path) = Asked::located(endpoint)?;
        let plain = is_plain(path);
        let meets = |entry: &Entry| {
            entry.host.covers(host) && entry.prefix.as_ref().is_none_or(|prefix| plain && is_below(path, prefix))
        };
        let rank = |entry: &Entry| {
            let prefix = entry.prefix.as_ref().map(|prefix| prefix.len());
            (Reverse(prefix), entry.host.is_wide())
        };
        // of equal ones the first is the least
        self.0.iter().enumerate().filter(|(_, entry)| meets(entry)).min_by_key(|(_, entry)| rank(entry))
    }
}

/// Whether every program reads a path alike: nothing to be resolved, nothing to be decoded.
fn is_plain(path: &str) -> bool {
    !path.contains('%')
        && (matches!(path, "" | "/") || !path.split('/').skip(1).any(|part| matches!(part, "" | "." | "..")))
}

/// Whether a path begins with whole parts.
fn is_below(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
