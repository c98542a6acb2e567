//! Patterns of providers, models, tools, servers, images and workspaces: `*` is any run of characters, nothing else is special.

use std::fmt;

/// A pattern, ready to match. Matching allocates nothing and costs at most the product of both lengths.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Pattern(Box<str>);

impl Pattern {
    /// Every text is a pattern.
    #[must_use]
    pub fn new(text: &str) -> Pattern {
        Pattern(text.into())
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the whole of `text` matches, letter by letter.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        glob(self.0.as_bytes(), text.as_bytes(), |a, b| a == b)
    }

    /// As [`Pattern::matches`], but `A` to `Z` are `a` to `z`. No other letters are folded.
    #[must_use]
    pub fn matches_ignore_case(&self, text: &str) -> bool {
        glob(self.0.as_bytes(), text.as_bytes(), |a, b| a.eq_ignore_ascii_case(&b))
    }

    /// As [`Pattern::matches_ignore_case`], of the whole of `text` or of what stands in it from one of `starts` on
    /// (offsets in bytes, ascending). However many there are, it costs little more than two matches: what begins at
    /// the first place where the letters before the first `*` stand is the longest text that can match, and a `*` can
    /// take up whatever a later start would leave out.
    pub(super) fn matches_from_ignore_case(&self, text: &str, starts: &[usize]) -> bool {
        if self.matches_ignore_case(text) {
            return true;
        }
        if starts.is_empty() {
            return false;
        }
        let (pattern, text) = (self.0.as_bytes(), text.as_bytes());
        let star = pattern.iter().position(|&b| b == b'*');
        let begins = &pattern[..star.unwrap_or(pattern.len())];
        let mut tails = starts.iter().filter_map(|start| text.get(*start..));
        match star {
            None => tails.any(|tail| tail.eq_ignore_ascii_case(pattern)),
            Some(_) => {
                let first = tails.find(|tail| tail.get(..begins.len()).is_some_and(|t| t.eq_ignore_ascii_case(begins)));
                first.is_some_and(|tail| glob(pattern, tail, |a, b| a.eq_ignore_ascii_case(&b)))
            }
        }
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({:?})", &*self.0)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Only the last star needs to be reconsidered after a mismatch: whatever an earlier star could take up, the last one
/// can as well. Bytes suffice, since `*` and ASCII letters never occur inside a longer UTF-8 sequence.
fn glob(pattern: &[u8], text: &[u8], same: impl Fn(u8, u8) -> bool) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut last_star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                last_star = Some((p + 1, t));
                p += 1;
            }
            Some(&b) if same(b, text[t]) => {
                p += 1;
                t += 1;
            }
            _ => {
                let Some((after, from)) = last_star else { return false };
                last_star = Some((after, from + 1));
                p = after;
                t = from + 1;
            }
        }
    }
    pattern[p..].iter().all(|&b| b == b'*')
}
