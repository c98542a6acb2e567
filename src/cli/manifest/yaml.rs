//! A YAML document to JSON data, as kubectl makes it: anchors, aliases, merge keys and tags count.
//!
//! The syntax is read by a library; what becomes of it by hand, since the rules are kubectl's (see [`super::scalar`]; a
//! merge key wins over what stands before it), and since what it may cost has to be bounded: an alias is a copy.

use std::collections::{HashMap, HashSet};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use granit_parser::{Event, Marker, Parser, ScalarStyle, Tag};
use serde_json::{Map, Value};

use super::{MAX_DEPTH, MAX_NODES, MAX_TEXT, Step, Unread, scalar, twice};
use crate::git::one_line;

/// Reads one document. What follows it is refused: kubectl would not look at it.
pub(super) fn read(text: &str) -> Result<Value, Unread> {
    let options = granit_parser::options! {
        block_scalar_eof_without_line_feed: true,
        emit_comments: false,
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    };
    let mut builder = Builder::default();
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, span) = event.map_err(|error| builder.fault(*error.marker(), one_line(&error.info()).as_ref()))?;
        builder.take(event, span.start)?;
    }
    Ok(builder.root.unwrap_or_default())
}

/// A list or an object that is being filled.
enum Frame {
    List { items: Vec<Value>, anchor: usize },
    Object { members: Map<String, Value>, named: HashSet<String>, key: Option<Key>, anchor: usize },
}

/// What a value is for.
enum Key {
    Name(String),
    Merge,
}

#[derive(Default)]
struct Builder {
    frames: Vec<Frame>,
    root: Option<Value>,
    documents: usize,
    anchors: HashMap<usize, Value>,
    nodes: usize,
    text: usize,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, at: Marker) -> Result<(), Unread> {
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(self.fault(at, "something follows the end of the document (...); begin it with ---"));
                }
                Ok(())
            }
            Event::Alias(id) => {
                let Some(value) = self.anchors.get(&id).cloned() else {
                    return Err(self.fault(at, "an alias of what it stands in"));
                };
                self.count(&value, at)?;
                self.value(value, at)
            }
            Event::Scalar(text, style, anchor, tag) => {
                if style == ScalarStyle::Plain && tag.is_none() && text == "<<" && self.awaits_key() {
                    return self.key(Key::Merge, at);
                }
                let value = self.scalar(&text, style, tag.as_deref(), at)?;
                self.remember(anchor, &value, at)?;
                self.count(&value, at)?;
                self.value(value, at)
            }
            Event::SequenceStart(_, anchor, _) => self.open(Frame::List { items: Vec::new(), anchor }, at),
            Event::MappingStart(_, anchor, _) => {
                self.open(Frame::Object { members: Map::new(), named: HashSet::new(), key: None, anchor }, at)
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let (value, anchor) = match self.frames.pop() {
                    Some(Frame::List { items, anchor }) => (Value::Array(items), anchor),
                    Some(Frame::Object { members, anchor, .. }) => (Value::Object(members), anchor),
                    None => return Ok(()),
                };
                self.remember(anchor, &value, at)?;
                self.value(value, at)
            }
            _ => Ok(()),
        }
    }

    fn awaits_key(&self) -> bool {
        matches!(self.frames.last(), Some(Frame::Object { key: None, .. }))
    }

    fn open(&mut self, frame: Frame, at: Marker) -> Result<(), Unread> {
        if self.awaits_key() {
            return Err(self.fault(at, "a list or an object as a key; expected a text"));
        }
        if self.frames.len() >= MAX_DEPTH {
            return Err(self.fault(at, &format!("nested more than {MAX_DEPTH} deep")));
        }
        self.frames.push(frame);
        Ok(())
    }

    fn scalar(&self, text: &str, style: ScalarStyle, tag: Option<&Tag>, at: Marker) -> Result<Value, Unread> {
        let plain = || scalar::plain(text).ok_or_else(|| self.fault(at, &format!("{text} is no number of JSON")));
        let Some(tag) = tag else {
            return if style == ScalarStyle::Plain { plain() } else { Ok(Value::from(text)) };
        };
        let kind = tag.suffix_in_namespace("tag:yaml.org,2002:");
        let kind = match kind.as_deref() {
            // a tag that nobody knows says nothing, and what it stands before is a text
            None | Some("str" | "timestamp") => return Ok(Value::from(text)),
            Some("binary") => {
                let bytes = BASE64_STANDARD.decode(text.split_whitespace().collect::<String>());
                let text = bytes.ok().and_then(|bytes| String::from_utf8(bytes).ok());
                return text.map(Value::from).ok_or_else(|| self.fault(at, "!!binary that is no text in base64"));
            }
            Some(kind) => kind,
        };
        let value = plain()?;
        let fits = match &value {
            Value::Null => kind == "null",
            Value::Bool(_) => kind == "bool",
            Value::Number(number) => kind == "float" || (kind == "int" && !number.is_f64()),
            _ => !matches!(kind, "null" | "bool" | "int" | "float"),
        };
        if fits { Ok(value) } else { Err(self.fault(at, &format!("{text:?} is no !!{kind}"))) }
    }

    fn value(&mut self, value: Value, at: Marker) -> Result<(), Unread> {
        if self.awaits_key() {
            let name = match value {
                Value::String(name) => name,
                Value::Bool(_) | Value::Number(_) => value.to_string(),
                _ => return Err(self.fault(at, "null, a list or an object as a key; expected a text")),
            };
            return self.key(Key::Name(name), at);
        }
        if matches!(self.frames.last(), Some(Frame::Object { key: Some(Key::Merge), .. })) {
            return self.merge(value, at);
        }
        match self.frames.last_mut() {
            None => self.root = Some(value),
            Some(Frame::List { items, .. }) => items.push(value),
            Some(Frame::Object { members, key, .. }) => {
                if let Some(Key::Name(name)) = key.take() {
                    members.insert(name, value);
                }
            }
        }
        Ok(())
    }

    fn key(&mut self, next: Key, at: Marker) -> Result<(), Unread> {
        let Some(Frame::Object { named, key, .. }) = self.frames.last_mut() else { return Ok(()) };
        let again = match &next {
            Key::Name(name) => !named.insert(name.clone()),
            Key::Merge => false,
        };
        let message = if let (true, Key::Name(name)) = (again, &next) { Some(twice(name)) } else { None };
        *key = Some(next);
        message.map_or(Ok(()), |message| Err(self.fault(at, &message)))
    }

    /// `<<`: the members of an object, or of several, of which the first counts most.
    fn merge(&mut self, value: Value, at: Marker) -> Result<(), Unread> {
        let sources = match value {
            Value::Array(items) => items,
            other => vec![other],
        };
        if !sources.iter().all(Value::is_object) {
            return Err(self.fault(at, "<< merges objects; expected one, or a list of them"));
        }
        if let Some(Frame::Object { members, key, .. }) = self.frames.last_mut() {
            *key = None;
            for source in sources.into_iter().rev() {
                if let Value::Object(source) = source {
                    members.extend(source);
                }
            }
        }
        Ok(())
    }

    fn remember(&mut self, anchor: usize, value: &Value, at: Marker) -> Result<(), Unread> {
        if anchor > 0 {
            self.count(value, at)?;
            self.anchors.insert(anchor, value.clone());
        }
        Ok(())
    }

    /// Counts what a value costs: each one that is read, and each copy.
    fn count(&mut self, value: &Value, at: Marker) -> Result<(), Unread> {
        let mut stack = vec![value];
        while let Some(value) = stack.pop() {
            self.nodes += 1;
            match value {
                Value::String(text) => self.text += text.len(),
                Value::Array(items) => stack.extend(items),
                Value::Object(members) => {
                    self.text += members.keys().map(String::len).sum::<usize>();
                    stack.extend(members.values());
                }
                _ => {}
            }
            if self.nodes > MAX_NODES || self.text > MAX_TEXT {
                let message = format!("with its aliases more than {MAX_NODES} values or {MAX_TEXT} bytes of text");
                return Err(self.fault(at, &message));
            }
        }
        Ok(())
    }

    fn fault(&self, at: Marker, message: &str) -> Unread {
        let steps = self.frames.iter().filter_map(|frame| match frame {
            Frame::List { items, .. } => Some(Step::Item(items.len())),
            Frame::Object { key: Some(Key::Name(name)), .. } => Some(Step::Member(name.clone())),
            Frame::Object { key: Some(Key::Merge), .. } => Some(Step::Member("<<".to_owned())),
            Frame::Object { .. } => None,
        });
        Unread { line: at.line(), path: super::path(steps), message: message.to_owned() }
    }
}
