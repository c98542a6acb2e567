//! How text out of a repository is shown to people: in statuses, Events and logs.

use std::borrow::Cow;

/// Longest path that is shown, in bytes; Git has paths of 4096 bytes.
const LONGEST_PATH: usize = 256;

/// A path for people: [`one_line`], and its middle left out if it is long, so that the sentence around it can be read.
#[must_use]
pub fn shown(path: &str) -> String {
    let path = one_line(path);
    if path.len() <= LONGEST_PATH {
        return path.into_owned();
    }
    let half = LONGEST_PATH / 2;
    let (start, end) = (path.floor_char_boundary(half), path.ceil_char_boundary(path.len() - half));
    format!("{}…{}", &path[..start], &path[end..])
}

/// Text without characters that end lines, drive a terminal, or turn the direction of what is read: those are written as
/// escapes (`\n`, `\u{1b}`). Letters of all languages stay.
#[must_use]
pub fn one_line(text: &str) -> Cow<'_, str> {
    if !text.contains(steers) {
        return Cow::Borrowed(text);
    }
    let mut line = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if steers(character) {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    Cow::Owned(line)
}

/// Control characters, the two line separators of Unicode, and the marks that change the direction of text.
fn steers(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_become_escapes_and_letters_stay() {
        assert_eq!(shown("policies/größe-政策.json"), "policies/größe-政策.json");
        assert_eq!(shown("a\nReady\u{1b}[2J\u{202e}.json"), "a\\nReady\\u{1b}[2J\\u{202e}.json");
    }

    #[test]
    fn a_long_path_keeps_its_start_and_its_end() {
        let path = format!("policies/{}/a.json", "ü".repeat(2000));
        let shown = shown(&path);
        assert!(shown.len() <= LONGEST_PATH + '…'.len_utf8(), "{}", shown.len());
        assert!(shown.starts_with("policies/ü") && shown.ends_with("ü/a.json"), "{shown}");
    }
}
