//! Names of providers, models, tools and servers: which of them could pass for others, and what stands behind their
//! prefixes.

use std::fmt;

use icu_normalizer::{ComposingNormalizer, ComposingNormalizerBorrowed};
use icu_properties::props::GeneralCategory;
use icu_properties::{CodePointMapData, CodePointMapDataBorrowed};

use super::words::{SHOWN_CHARS, quoted};

const NFKC: ComposingNormalizerBorrowed<'static> = ComposingNormalizer::new_nfkc();
const CATEGORIES: CodePointMapDataBorrowed<'static, GeneralCategory> = CodePointMapData::<GeneralCategory>::new();

/// Why a name can pass for another one, to people or to programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NameFault {
    /// White space at an end.
    OuterSpace,
    /// A control, format or separator character (Cc, Cf, Zl, Zp).
    Unseen(char),
    /// It is not in Unicode normalization form NFKC. With the form that is, cut to what is shown of it.
    NotNormalized(String),
}

/// What is accepted, for messages.
pub(super) const ACCEPTED_NAME: &str = "expected a name in Unicode form NFKC, without white space at its ends and \
                                        without control, format and separator characters";

impl fmt::Display for NameFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NameFault::OuterSpace => f.write_str("has white space at an end"),
            NameFault::Unseen(c) => write!(f, "has the character U+{:04X}, which is not seen", u32::from(*c)),
            NameFault::NotNormalized(normal) => write!(f, "passes for {}", quoted(normal)),
        }
    }
}

/// The first fault of a name, or of a pattern of names.
pub(super) fn fault(name: &str) -> Option<NameFault> {
    let bytes = name.as_bytes();
    // what nearly all names are; it costs nothing
    if bytes.iter().all(|b| matches!(b, b' '..=b'~')) {
        let space = |b: Option<&u8>| b == Some(&b' ');
        return (space(bytes.first()) || space(bytes.last())).then_some(NameFault::OuterSpace);
    }
    let unseen = |c: &char| {
        matches!(
            CATEGORIES.get(*c),
            GeneralCategory::Control
                | GeneralCategory::Format
                | GeneralCategory::LineSeparator
                | GeneralCategory::ParagraphSeparator
        )
    };
    if let Some(c) = name.chars().find(unseen) {
        return Some(NameFault::Unseen(c));
    }
    if name.starts_with(char::is_whitespace) || name.ends_with(char::is_whitespace) {
        return Some(NameFault::OuterSpace);
    }
    if NFKC.is_normalized(name) {
        return None;
    }
    let start: String = name.chars().take(SHOWN_CHARS + 1).collect();
    Some(NameFault::NotNormalized(NFKC.normalize(&start).into_owned()))
}

/// Where in a name something stands behind a `/`, and, if `underscores`, behind a `__`: in ascending order. Such a name
/// may be that of something else, led by the name of whoever offers it: `openai/gpt-4o`, `mcp__shell__exec`.
pub(super) fn behind_prefixes(name: &str, underscores: bool) -> Vec<usize> {
    let bytes = name.as_bytes();
    let (mut any, mut last) = (false, 0);
    for &b in bytes {
        any |= b == b'/' || b == b'_' && last == b'_';
        last = b;
    }
    // nearly all names have no prefix
    if !any {
        return Vec::new();
    }
    let follows = |at: usize| bytes[at - 1] == b'/' || underscores && at > 1 && bytes[at - 2..at] == *b"__";
    (1..bytes.len()).filter(|at| follows(*at)).collect()
}
