//! Texts in messages: documents and agents are written by others, so what is shown of them is bounded and harmless for
//! a terminal.

use std::fmt::{Display, Write};

/// How much is shown of one text.
pub(super) const SHOWN_CHARS: usize = 64;

/// How many entries of a list are shown.
const SHOWN_ENTRIES: usize = 8;

/// A text cut to what is shown.
pub(super) fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A text in quotes.
pub(super) fn quoted(text: &str) -> String {
    format!("{:?}", shortened(text))
}

/// `a, b and c`, or the first entries `and 12 more`.
pub(super) fn list<T: Display>(entries: impl ExactSizeIterator<Item = T>) -> String {
    let total = entries.len();
    let shown = if total > SHOWN_ENTRIES + 1 { SHOWN_ENTRIES } else { total };
    let mut text = String::new();
    for (i, entry) in entries.take(shown).enumerate() {
        let joint = match i {
            0 => "",
            _ if i + 1 == total => " and ",
            _ => ", ",
        };
        // Writing to a string cannot fail.
        let _ = write!(text, "{joint}{}", quoted(&entry.to_string()));
    }
    if shown < total {
        let _ = write!(text, " and {} more", total - shown);
    }
    text
}
