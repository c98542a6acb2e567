//! Paths: what agents ask for, what policies allow and block.

use std::borrow::Cow;
use std::fmt;

use super::pattern::Pattern;

/// An entry of a policy's list of paths. `p/*` covers `p` and everything below it; any other `*` matches any run of
/// characters, `/` included; without `*` it covers itself only.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PathPattern {
    whole: Pattern,
    /// The `p` of `p/*`.
    directory: Option<Pattern>,
}

impl PathPattern {
    /// None for a pattern with an empty, `.` or `..` part: no path that was resolved ever has one.
    pub(super) fn parse(text: &str) -> Option<PathPattern> {
        let parts = text.strip_prefix('/').unwrap_or(text);
        if parts.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return None;
        }
        let directory = text.strip_suffix("/*").map(|p| Pattern::new(if p.is_empty() { "/" } else { p }));
        Some(PathPattern { whole: Pattern::new(text), directory })
    }

    /// The pattern as it was written.
    pub(super) fn as_str(&self) -> &str {
        self.whole.as_str()
    }

    /// Whether it allows a requested path, letter by letter.
    pub(super) fn allows(&self, asked: &Asked<'_>) -> bool {
        !asked.escapes()
            && (self.whole.matches(&asked.0) || self.directory.as_ref().is_some_and(|p| p.matches(&asked.0)))
    }

    /// Whether it covers a requested path or anything below it, whatever the case of letters.
    pub(super) fn meets(&self, asked: &Asked<'_>) -> bool {
        asked.escapes()
            // a relative path could be anywhere
            || self.is_absolute() && !asked.is_absolute()
            || self.whole.matches_ignore_case(&asked.0)
            || self.directory.as_ref().is_some_and(|p| p.matches_ignore_case(&asked.0))
            || self.reaches_below(&asked.0)
    }

    /// Whether it begins at the root.
    pub(super) fn is_absolute(&self) -> bool {
        self.as_str().starts_with('/')
    }

    /// Whether the pattern covers some path strictly below `directory`.
    ///
    /// That is so exactly when the pattern can begin with `directory/`: what then remains of it always matches some
    /// path. Its stars can stand for `a`; its parts are neither empty, `.` nor `..`; and where a star swallowed the
    /// slash, it can go on to swallow an `a` too. And a pattern can begin with a text when the two agree up to the end
    /// of the text or the first star, whichever comes first, since a star swallows anything.
    fn reaches_below(&self, directory: &str) -> bool {
        let pattern = self.whole.as_str().as_bytes();
        if directory.is_empty() {
            // The place that relative paths begin at.
            return !pattern.starts_with(b"/");
        }
        let slash = (!directory.ends_with('/')).then_some(b'/');
        let mut prefix = directory.bytes().chain(slash);
        for &b in pattern {
            match prefix.next() {
                None => return true,
                Some(_) if b == b'*' => return true,
                Some(c) if !c.eq_ignore_ascii_case(&b) => return false,
                Some(_) => {}
            }
        }
        false
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A requested path, resolved: absolute, or relative and then without `.`; the place that relative paths begin at is
/// the empty path. It stands for itself and everything below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked<'a>(Cow<'a, str>);

impl<'a> Asked<'a> {
    /// Reads a path.
    ///
    /// # Errors
    /// Why it is none: it has a wildcard, or something that a shell or another system reads differently.
    pub(super) fn path(text: &'a str) -> Result<Asked<'a>, PathFault> {
        if text.starts_with('~') {
            return Err(PathFault::Home);
        }
        if let Some(c) = text.chars().find(|c| matches!(c, '*' | '$' | '\\') || c.is_control()) {
            return Err(if c == '*' { PathFault::Wildcard } else { PathFault::Character(c) });
        }
        let absolute = text.starts_with('/');
        let inner = text.strip_prefix('/').unwrap_or(text);
        if !inner.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Ok(Asked(Cow::Borrowed(text)));
        }
        let mut parts: Vec<&str> = Vec::new();
        for part in text.split('/') {
            match part {
                "" | "." => {}
                ".." if parts.last().is_some_and(|last| *last != "..") => {
                    parts.pop();
                }
                ".." if absolute => {}
                part => parts.push(part),
            }
        }
        let joined = parts.join("/");
        Ok(Asked(Cow::Owned(if absolute { format!("/{joined}") } else { joined })))
    }

    /// Whether it begins at the root.
    pub(super) fn is_absolute(&self) -> bool {
        self.0.starts_with('/')
    }

    /// Whether it leaves the place that relative paths begin at.
    fn escapes(&self) -> bool {
        self.0 == ".." || self.0.starts_with("../")
    }
}

/// Why a text is no path that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PathFault {
    /// It has a `*`.
    Wildcard,
    /// It begins with a `~`, which shells take for somebody's home.
    Home,
    /// It has a `$`, a backslash or a control character.
    Character(char),
}

impl fmt::Display for PathFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PathFault::Wildcard => {
                f.write_str("has a wildcard; expected a path, which stands for itself and everything below it")
            }
            PathFault::Home => {
                f.write_str("begins with ~, which is another place for everyone; expected an absolute path")
            }
            PathFault::Character(c) => write!(
                f,
                "has a {c:?}, which not every program reads alike; expected an absolute path without $, backslash and \
                 control characters"
            ),
        }
    }
}
