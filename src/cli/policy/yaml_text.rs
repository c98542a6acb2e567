//! Changing members of a YAML document in its text, so that comments and form stay as they were.
//!
//! By hand, because no library writes YAML back with its comments. It works on the spans of the parser's events, and
//! what it makes is parsed again and compared with what was meant; where that fails there is no result.

use std::ops::Range;

use anyhow::bail;
use saphyr_parser::{Event, Parser, ScalarStyle, Span};
use serde_json::Value;

use crate::policy::Format;
use crate::policy::document::parse_unsigned;

/// The text with the members of its root changed to those of `wanted`, which has the same members but for texts and
/// `co_signatures` that were changed or added and members that were dropped. None when the text has a form in which that
/// cannot be done.
pub(super) fn updated(text: &str, wanted: &Value) -> Option<String> {
    let chars: Vec<char> = text.chars().collect();
    let root = Root::read(text, &chars)?;
    let before = parse_unsigned(text.as_bytes(), Format::Yaml).ok()?;
    let mut edits: Vec<(Range<usize>, String)> = Vec::new();
    for (i, member) in root.members.iter().enumerate() {
        let value = wanted.get(&member.name);
        if value == before.get(&member.name) {
            continue;
        }
        let from = line_start(&chars, member.key);
        let lines = from..root.members.get(i + 1).map_or(root.end, |next| line_start(&chars, next.key));
        edits.push(match (value, &member.value) {
            (None, _) => (lines, String::new()),
            (Some(value), Some(place)) => (place.clone(), rendered(value)?),
            (Some(value), None) => (lines, root.line(&member.name, value)?),
        });
    }
    let mut added = String::new();
    if chars.last().is_some_and(|c| *c != '\n') {
        added.push('\n');
    }
    for (name, value) in wanted.as_object()?.iter().filter(|(name, _)| before.get(name).is_none()) {
        added += &root.line(name, value)?;
    }
    if !added.trim().is_empty() {
        edits.push((chars.len()..chars.len(), added));
    }
    let mut changed = chars;
    for (range, new) in edits.into_iter().rev() {
        changed.splice(range, new.chars());
    }
    let changed: String = changed.into_iter().collect();
    let same = parse_unsigned(changed.as_bytes(), Format::Yaml).is_ok_and(|value| value == *wanted);
    (same && comments(&changed) == comments(text)).then_some(changed)
}

/// A document as YAML of the plainest form.
pub(super) fn anew(document: &Value) -> anyhow::Result<String> {
    let text = serde_yaml::to_string(document)?;
    match parse_unsigned(text.as_bytes(), Format::Yaml) {
        Ok(read) if read == *document => Ok(text),
        _ => bail!("it cannot be written as YAML without changing it; write it as JSON"),
    }
}

/// How many comments there are.
pub(super) fn comments(text: &str) -> usize {
    let mut outside: Vec<char> = text.chars().collect();
    let whole = outside.clone();
    let mut parser = Parser::new_from_str(text);
    while let Some(Ok((event, span))) = parser.next_event() {
        if let Event::Scalar(text, style, ..) = event {
            // Whatever stands in a scalar is no comment; line breaks stay where they are.
            outside[span_of(&whole, &text, style, span)].iter_mut().filter(|c| **c != '\n').for_each(|c| *c = 'x');
        }
    }
    let begins = |line: &str| line.starts_with('#') || line.contains(" #") || line.contains("\t#");
    outside.into_iter().collect::<String>().lines().filter(|line| begins(line)).count()
}

/// A member of the root.
struct Member {
    name: String,
    /// Where its name begins.
    key: usize,
    /// Where its value stands, if that is a scalar, or a list in brackets.
    value: Option<Range<usize>>,
}

/// The root, in the form of one line a member.
struct Root {
    members: Vec<Member>,
    indent: usize,
    end: usize,
}

impl Root {
    /// None for what is not an object in block form, in a document that ends with the text.
    fn read(text: &str, chars: &[char]) -> Option<Root> {
        let mut root = Root { members: Vec::new(), indent: 0, end: chars.len() };
        let mut depth = 0;
        let mut name: Option<(String, usize)> = None;
        let mut parser = Parser::new_from_str(text);
        while let Some(event) = parser.next_event() {
            let (event, span) = event.ok()?;
            let start = span.start.index();
            match event {
                Event::MappingStart(..) | Event::SequenceStart(..) => {
                    if depth == 0 && chars.get(start) == Some(&'{') {
                        return None;
                    }
                    if depth == 1
                        && let Some((name, key)) = name.take()
                    {
                        let value = (chars.get(start) == Some(&'[')).then_some(start..start);
                        root.members.push(Member { name, key, value });
                    }
                    depth += 1;
                }
                Event::MappingEnd | Event::SequenceEnd => {
                    depth -= 1;
                    if depth == 1
                        && let Some(Member { value: Some(list), .. }) = root.members.last_mut()
                    {
                        list.end = span.end.index();
                    }
                }
                Event::Scalar(text, ..) if depth == 1 && name.is_none() => {
                    root.indent = span.start.col();
                    name = Some((text.into_owned(), start));
                }
                Event::Scalar(text, style, ..) if depth == 1 => {
                    let (name, key) = name.take()?;
                    root.members.push(Member { name, key, value: Some(span_of(chars, &text, style, span)) });
                }
                Event::DocumentEnd if span.end.index() > start => return None,
                _ => {}
            }
        }
        Some(root)
    }

    /// A member in a line of its own.
    fn line(&self, name: &str, value: &Value) -> Option<String> {
        Some(format!("{}{name}: {}\n", " ".repeat(self.indent), rendered(value)?))
    }
}

/// Where a scalar stands. The parser's span of one that is no block runs on to what follows it.
fn span_of(chars: &[char], text: &str, style: ScalarStyle, span: Span) -> Range<usize> {
    let (start, end) = (span.start.index().min(chars.len()), span.end.index().min(chars.len()));
    let length = text.chars().count();
    match style {
        ScalarStyle::DoubleQuoted | ScalarStyle::SingleQuoted => start..quoted_end(&chars[..end], start),
        // one that stands on a single line stands there as it is
        ScalarStyle::Plain if chars[start..end].iter().copied().take(length).eq(text.chars()) => start..start + length,
        _ => start..end,
    }
}

/// Behind the closing quote of the scalar that begins at `start` (YAML 1.2, 7.3.1 and 7.3.2).
fn quoted_end(chars: &[char], start: usize) -> usize {
    let Some(quote) = chars.get(start) else { return chars.len() };
    let mut at = start + 1;
    while let Some(c) = chars.get(at) {
        let escaped = match quote {
            '"' => *c == '\\',
            _ => *c == '\'' && chars.get(at + 1) == Some(&'\''),
        };
        if c == quote && !escaped {
            return at + 1;
        }
        at += if escaped { 2 } else { 1 };
    }
    chars.len()
}

fn line_start(chars: &[char], at: usize) -> usize {
    chars[..at].iter().rposition(|c| *c == '\n').map_or(0, |newline| newline + 1)
}

/// What signing puts in: a text, or a list of objects of such.
fn rendered(value: &Value) -> Option<String> {
    let Some(list) = value.as_array() else { return quoted(value) };
    let object = |item: &Value| {
        let members = item.as_object()?.iter().map(|(name, value)| Some(format!("{name}: {}", quoted(value)?)));
        Some(format!("{{{}}}", members.collect::<Option<Vec<_>>>()?.join(", ")))
    };
    Some(format!("[{}]", list.iter().map(object).collect::<Option<Vec<_>>>()?.join(", ")))
}

/// What signing puts in as a text: digits, ids and times, which single quotes can hold.
fn quoted(value: &Value) -> Option<String> {
    let text = value.as_str()?;
    text.chars().all(|c| c.is_ascii_graphic() && c != '\'').then(|| format!("'{text}'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_behind_values_stay_however_these_are_written() {
        let content = "policy_id: a # \"one\"\nworkspace_id: 'it''s' # 'two'\n#expires_at: 'x' # three\n";
        let text = format!("{content}status: \"draft\" # four\ncontent: {{}}\n");
        let chars: Vec<char> = text.chars().collect();
        let root = Root::read(&text, &chars).unwrap();
        let value = |member: &Member| member.value.clone().map(|range| chars[range].iter().collect::<String>());
        let values: Vec<_> = root.members.iter().map(value).collect();
        assert_eq!(values, [Some("a".into()), Some("'it''s'".into()), Some("\"draft\"".into()), None]);
        assert_eq!(comments(&text), 4);
    }
}
