//! YAML text to the same checked tree as JSON. It works on the parser's events, since a deserialiser has already lost
//! anchors, tags and duplicates. Its own stack, so that depth costs no recursion.

use std::borrow::Cow;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span};
use serde_json::{Map, Value};

use super::place::{Path, Step};
use super::{Fault, MAX_DEPTH, NULL, TOO_DEEP, is_count, schema};
use crate::policy::words::quoted;

/// Parses a whole text.
pub(super) fn parse(text: &str) -> Result<Value, Fault> {
    printable(text)?;
    let mut builder = Builder::default();
    builder.read(text)?;
    builder.root.ok_or_else(|| Fault {
        path: String::new(),
        line: Some(1),
        column: Some(1),
        message: "the file is empty; expected a policy document".to_owned(),
    })
}

/// Line and column of the value at `path`: of its key, where it has one.
pub(super) fn locate(text: &str, path: &Path) -> Option<(u32, u32)> {
    // A member that is missing is reported at the object that lacks it.
    (0..=path.0.len()).rev().find_map(|steps| {
        let mut builder = Builder { wanted: Some(&path.0[..steps]), ..Builder::default() };
        // The text was parsed before; what is wrong with it is not a matter of syntax.
        let _ = builder.read(text);
        builder.found.map(place)
    })
}

/// Reads as far as it goes, and gives every member of the root object that is a text.
pub(super) fn texts(text: &str, mut found: impl FnMut(&str, &str)) {
    if printable(text).is_err() {
        return;
    }
    let mut builder = Builder::default();
    // A report on a broken document: whatever came before the fault is all there is.
    let _ = builder.read(text);
    let ((Some(Value::Object(members)), _) | (None, Some(Frame::Object { members, .. }))) =
        (&builder.root, builder.frames.first())
    else {
        return;
    };
    for (name, value) in members {
        if let Value::String(value) = value {
            found(name, value);
        }
    }
}

/// The characters that YAML allows in a text (YAML 1.2.2, 5.1). The parser takes NUL as the end and most others as
/// ordinary, so that what follows a NUL would be silently absent.
fn printable(text: &str) -> Result<(), Fault> {
    let allowed = |c: char| {
        matches!(c, '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' | '\u{A0}'..='\u{FFFD}' | '\u{10000}'..)
            && c != '\u{FEFF}'
    };
    let Some((offset, bad)) = text.char_indices().find(|(_, c)| !allowed(*c)) else { return Ok(()) };
    let before = &text[..offset];
    Err(Fault {
        path: String::new(),
        line: u32::try_from(before.matches('\n').count() + 1).ok(),
        column: u32::try_from(before.rsplit('\n').next().unwrap_or(before).chars().count() + 1).ok(),
        message: format!(
            "the character U+{:04X} does not belong in YAML text; expected an escape such as \"\\u{:04X}\" in quotes",
            u32::from(bad),
            u32::from(bad)
        ),
    })
}

fn place(mark: Marker) -> (u32, u32) {
    (u32::try_from(mark.line()).unwrap_or(u32::MAX), u32::try_from(mark.col() + 1).unwrap_or(u32::MAX))
}

/// A list or an object that is being filled.
enum Frame {
    List(Vec<Value>),
    Object { members: Map<String, Value>, key: Option<(String, Marker)> },
}

#[derive(Default)]
struct Builder<'a> {
    frames: Vec<Frame>,
    root: Option<Value>,
    documents: usize,
    wanted: Option<&'a [Step]>,
    found: Option<Marker>,
}

impl Builder<'_> {
    fn read(&mut self, text: &str) -> Result<(), Fault> {
        let mut parser = Parser::new_from_str(text);
        while let Some(event) = parser.next_event() {
            let (event, span) = event.map_err(|e| self.fault(*e.marker(), format!("not YAML: {}", e.info())))?;
            self.take(event, span)?;
        }
        Ok(())
    }

    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Fault> {
        let at = span.start;
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(self.fault(at, "a second document begins here; expected one policy document a file"));
                }
                Ok(())
            }
            Event::Alias(_) => Err(self.fault(at, "an alias (*name) is not accepted; write the value itself")),
            Event::Scalar(text, style, anchor, tag) => {
                self.plain_node(at, anchor, tag.is_some())?;
                if self.awaits_key() { self.key(text, style, at) } else { self.scalar(&text, style, at) }
            }
            Event::SequenceStart(anchor, tag) => {
                self.plain_node(at, anchor, tag.is_some())?;
                self.open(Frame::List(Vec::new()), at)
            }
            Event::MappingStart(anchor, tag) => {
                self.plain_node(at, anchor, tag.is_some())?;
                self.open(Frame::Object { members: Map::new(), key: None }, at)
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(frame) = self.frames.pop() {
                    self.place(match frame {
                        Frame::List(items) => Value::Array(items),
                        Frame::Object { members, .. } => Value::Object(members),
                    });
                }
                Ok(())
            }
        }
    }

    fn plain_node(&self, at: Marker, anchor: usize, tagged: bool) -> Result<(), Fault> {
        if anchor > 0 {
            return Err(self.fault(at, "an anchor (&name) is not accepted; write the value where it is meant"));
        }
        if tagged {
            return Err(self.fault(at, "a tag (!name) is not accepted; write the plain value"));
        }
        Ok(())
    }

    fn awaits_key(&self) -> bool {
        matches!(self.frames.last(), Some(Frame::Object { key: None, .. }))
    }

    fn open(&mut self, frame: Frame, at: Marker) -> Result<(), Fault> {
        if self.awaits_key() {
            return Err(self.fault(at, "a list or object is not accepted as a key; expected a string"));
        }
        self.look(at);
        if self.frames.len() >= MAX_DEPTH {
            return Err(self.fault(at, TOO_DEEP));
        }
        self.frames.push(frame);
        Ok(())
    }

    fn key(&mut self, text: Cow<'_, str>, style: ScalarStyle, at: Marker) -> Result<(), Fault> {
        if style == ScalarStyle::Plain {
            if text == "<<" {
                return Err(self.fault(at, "a merge key (<<) is not accepted; write the members themselves"));
            }
            if !matches!(plain(&text), Plain::Text) {
                let message = format!("the key {} is not a string; put it in quotes if it is meant", quoted(&text));
                return Err(self.fault(at, message));
            }
        }
        let twice = matches!(self.frames.last(), Some(Frame::Object { members, .. }) if members.contains_key(&*text));
        let message = twice.then(|| format!("the member {} occurs twice; expected it once", quoted(&text)));
        if let Some(Frame::Object { key, .. }) = self.frames.last_mut() {
            *key = Some((text.into_owned(), at));
        }
        message.map_or(Ok(()), |message| Err(self.fault(at, message)))
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, at: Marker) -> Result<(), Fault> {
        self.look(at);
        let value = match if style == ScalarStyle::Plain { plain(text) } else { Plain::Text } {
            Plain::Text => Value::from(text),
            Plain::Flag(flag) => Value::Bool(flag),
            Plain::Count(count) => Value::from(count),
            Plain::Null => return Err(self.fault(at, NULL)),
            Plain::OtherNumber => {
                let path: Vec<Step> = self.path().collect();
                return Err(self.fault(at, schema::instead_of_number(&path)));
            }
        };
        self.place(value);
        Ok(())
    }

    fn place(&mut self, value: Value) {
        match self.frames.last_mut() {
            None => self.root = Some(value),
            Some(Frame::List(items)) => items.push(value),
            Some(Frame::Object { members, key }) => {
                if let Some((name, _)) = key.take() {
                    members.insert(name, value);
                }
            }
        }
    }

    fn path(&self) -> impl Iterator<Item = Step> {
        self.frames.iter().filter_map(|frame| match frame {
            Frame::List(items) => Some(Step::Item(items.len())),
            Frame::Object { key, .. } => key.as_ref().map(|(name, _)| Step::Member(name.clone())),
        })
    }

    /// Remembers the place of the value that is about to begin, if it is the one that is looked for.
    fn look(&mut self, at: Marker) {
        let Some(wanted) = self.wanted else { return };
        if self.found.is_none() && self.frames.len() == wanted.len() && self.path().eq(wanted.iter().cloned()) {
            self.found = Some(match self.frames.last() {
                Some(Frame::Object { key: Some((_, key_at)), .. }) => *key_at,
                _ => at,
            });
        }
    }

    fn fault(&self, at: Marker, message: impl Into<String>) -> Fault {
        let (line, column) = place(at);
        Fault {
            path: Path(self.path().collect()).to_string(),
            line: Some(line),
            column: Some(column),
            message: message.into(),
        }
    }
}

/// What a scalar without quotes is.
enum Plain {
    Text,
    Flag(bool),
    Count(u64),
    Null,
    /// A number, but not one that a document may hold.
    OtherNumber,
}

/// The core schema of YAML 1.2.2 (10.3.2). Libraries resolve more than it (`yes`), less, or hide what was written
/// (`0o17`, `1.0`), hence by hand.
fn plain(text: &str) -> Plain {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Plain::Null,
        "true" | "True" | "TRUE" => return Plain::Flag(true),
        "false" | "False" | "FALSE" => return Plain::Flag(false),
        ".nan" | ".NaN" | ".NAN" => return Plain::OtherNumber,
        _ => {}
    }
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    if digits(text) && (text == "0" || !text.starts_with('0')) {
        return text.parse().ok().filter(|&n| is_count(n)).map_or(Plain::OtherNumber, Plain::Count);
    }
    let based = text.strip_prefix("0o").is_some_and(|s| !s.is_empty() && s.bytes().all(|b| (b'0'..=b'7').contains(&b)))
        || text.strip_prefix("0x").is_some_and(|s| !s.is_empty() && s.bytes().all(|b| b.is_ascii_hexdigit()));
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let infinite = matches!(unsigned, ".inf" | ".Inf" | ".INF");
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['-', '+']).unwrap_or(exponent))),
        None => (unsigned, None),
    };
    let decimal = match mantissa.split_once('.') {
        None => digits(mantissa),
        Some(("", fraction)) => digits(fraction),
        Some((whole, fraction)) => digits(whole) && (fraction.is_empty() || digits(fraction)),
    };
    if based || infinite || (decimal && exponent.is_none_or(digits)) { Plain::OtherNumber } else { Plain::Text }
}
