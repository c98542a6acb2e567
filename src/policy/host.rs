//! Hosts: what agents ask for, what policies allow and block.

use core::net::Ipv4Addr;
use std::fmt;

/// The longest name that DNS carries, without the final dot.
const MAX_NAME: usize = 253;

/// An entry of a policy's list of domains.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum HostPattern {
    /// `*`
    Any,
    /// `*.d`: `d` and everything below it; lower-cased.
    Below(Box<str>),
    /// One host, lower-cased.
    Host(Box<str>),
}

impl HostPattern {
    /// None for what is not `*`, `*.d` or a host without port.
    pub(super) fn parse(text: &str) -> Option<HostPattern> {
        if text == "*" {
            return Some(HostPattern::Any);
        }
        let (below, name) = wildcard(text);
        let name = host_name(name)?.to_ascii_lowercase().into();
        Some(if below { HostPattern::Below(name) } else { HostPattern::Host(name) })
    }

    /// Whether it stands for more than one host.
    pub(super) fn is_wide(&self) -> bool {
        !matches!(self, HostPattern::Host(_))
    }

    /// Whether it allows all of what is asked for.
    pub(super) fn covers(&self, asked: Asked<'_>) -> bool {
        match self {
            HostPattern::Any => true,
            HostPattern::Below(domain) => is_or_below(asked.name, domain),
            HostPattern::Host(host) => !asked.below && asked.name.eq_ignore_ascii_case(host),
        }
    }

    /// Whether it meets any of what is asked for.
    pub(super) fn overlaps(&self, asked: Asked<'_>) -> bool {
        self.covers(asked)
            || match self {
                HostPattern::Any => true,
                HostPattern::Below(name) | HostPattern::Host(name) => asked.below && is_or_below(name, asked.name),
            }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostPattern::Any => f.write_str("*"),
            HostPattern::Below(domain) => write!(f, "*.{domain}"),
            HostPattern::Host(host) => f.write_str(host),
        }
    }
}

/// What an agent asks for: a host, or (`below`) a host and everything below it. As it was written, but without
/// wildcard, final dot and port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked<'a> {
    name: &'a str,
    below: bool,
}

impl<'a> Asked<'a> {
    /// Reads an entry of `allowedHosts`: `host`, `host:port`, `*.host`.
    pub(super) fn host(text: &'a str) -> Option<Asked<'a>> {
        let (below, rest) = wildcard(text);
        Some(Asked { name: host_name(without_port(rest)?)?, below })
    }

    /// Reads an endpoint: `http(s)://host[:port][/…]`, without user info, backslash or space, which programs do not
    /// agree on.
    pub(super) fn endpoint(text: &'a str) -> Option<Asked<'a>> {
        Self::located(text).map(|(asked, _)| asked)
    }

    /// As [`Asked::endpoint`], with the path of the URL as it was written, without query and fragment.
    pub(super) fn located(text: &'a str) -> Option<(Asked<'a>, &'a str)> {
        let rest = strip_scheme(text, "https://").or_else(|| strip_scheme(text, "http://"))?;
        if rest.contains(|c: char| c == '\\' || c.is_whitespace() || c.is_control()) {
            return None;
        }
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let asked = Asked { name: host_name(without_port(authority)?)?, below: false };
        Some((asked, path.split(['?', '#']).next()?))
    }
}

/// Whether the text names https as its scheme.
pub(super) fn is_https(endpoint: &str) -> bool {
    strip_scheme(endpoint, "https://").is_some()
}

fn strip_scheme<'a>(text: &'a str, scheme: &str) -> Option<&'a str> {
    let (head, rest) = text.split_at_checked(scheme.len())?;
    head.eq_ignore_ascii_case(scheme).then_some(rest)
}

fn wildcard(text: &str) -> (bool, &str) {
    text.strip_prefix("*.").map_or((false, text), |rest| (true, rest))
}

fn without_port(text: &str) -> Option<&str> {
    let Some((host, port)) = text.split_once(':') else { return Some(text) };
    let digits = (1..=5).contains(&port.len()) && port.bytes().all(|b| b.is_ascii_digit());
    (digits && port.parse::<u16>().is_ok_and(|n| n > 0)).then_some(host)
}

/// A DNS name or IPv4 address, without its final dot. What ends in a number is an address to many programs, in forms
/// such as `127.1` or `0x7f.1`; only the plain form is accepted, so that a block of it cannot be evaded.
fn host_name(text: &str) -> Option<&str> {
    let name = text.strip_suffix('.').unwrap_or(text);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if name.len() > MAX_NAME || !name.split('.').all(label) {
        return None;
    }
    let last = name.rsplit('.').next()?;
    let number = last.bytes().all(|b| b.is_ascii_digit())
        || last.get(..2).is_some_and(|head| head.eq_ignore_ascii_case("0x"))
            && last[2..].bytes().all(|b| b.is_ascii_hexdigit());
    if number && name.parse::<Ipv4Addr>().is_err() {
        return None;
    }
    Some(name)
}

fn is_or_below(name: &str, domain: &str) -> bool {
    let Some(head) = name.len().checked_sub(domain.len()) else { return false };
    name.as_bytes()[head..].eq_ignore_ascii_case(domain.as_bytes()) && (head == 0 || name.as_bytes()[head - 1] == b'.')
}
