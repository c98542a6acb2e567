//! JSON text to a checked tree. The parser is serde_json's; it is only told to refuse more than it does by itself.

use std::fmt;
use std::ops::Range;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::place::{Path, Step};
use super::{Fault, MAX_DEPTH, NULL, NUMBER, TOO_DEEP, is_count, schema};
use crate::policy::words::quoted;

/// Parses a whole text.
pub(super) fn parse(text: &str) -> Result<Value, Fault> {
    let mut state = State::default();
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let parsed = Tree { depth: 1, state: &mut state }.deserialize(&mut deserializer);
    let path = Path::from_inside_out(std::mem::take(&mut state.trail));
    if state.message.as_deref() == Some(NUMBER) {
        state.message = Some(schema::instead_of_number(&path.0));
    }
    match parsed.and_then(|value| deserializer.end().map(|()| value)) {
        Ok(value) => Ok(value),
        Err(e) => Err(Fault {
            path: path.to_string(),
            line: u32::try_from(e.line()).ok().filter(|&line| line > 0),
            column: u32::try_from(column(text, e.line(), e.column())).ok().filter(|&column| column > 0),
            message: state.message.unwrap_or_else(|| syntax(text, &e)),
        }),
    }
}

/// serde_json counts bytes; people count characters.
fn column(text: &str, line: usize, bytes: usize) -> usize {
    let Some(line) = text.split('\n').nth(line.saturating_sub(1)) else { return bytes };
    line.char_indices().take_while(|(at, _)| *at < bytes).count()
}

fn syntax(text: &str, error: &serde_json::Error) -> String {
    if text.trim_start().is_empty() {
        return "the file is empty; expected a policy document".to_owned();
    }
    let place = format!(" at line {} column {}", error.line(), error.column());
    let what = error.to_string();
    format!("not JSON: {}", what.strip_suffix(&place).unwrap_or(&what))
}

/// What is remembered of a fault while the recursion unwinds.
#[derive(Default)]
struct State {
    trail: Vec<Step>,
    message: Option<String>,
}

struct Tree<'a> {
    depth: usize,
    state: &'a mut State,
}

impl Tree<'_> {
    fn refuse<E: de::Error>(self, message: impl Into<String>) -> E {
        self.state.message = Some(message.into());
        E::custom("refused")
    }

    fn inner(&mut self) -> Tree<'_> {
        Tree { depth: self.depth + 1, state: self.state }
    }
}

impl<'de> DeserializeSeed<'de> for Tree<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tree<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Err(self.refuse(NULL))
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        if is_count(value) { Ok(Value::from(value)) } else { Err(self.refuse(NUMBER)) }
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Value, E> {
        Err(self.refuse(NUMBER))
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Value, E> {
        Err(self.refuse(NUMBER))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_string<E: de::Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<Value, A::Error> {
        if self.depth > MAX_DEPTH {
            return Err(self.refuse(TOO_DEEP));
        }
        let mut list = Vec::new();
        loop {
            match items.next_element_seed(self.inner()) {
                Ok(Some(item)) => list.push(item),
                Ok(None) => return Ok(Value::Array(list)),
                Err(e) => {
                    self.state.trail.push(Step::Item(list.len()));
                    return Err(e);
                }
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut members: A) -> Result<Value, A::Error> {
        if self.depth > MAX_DEPTH {
            return Err(self.refuse(TOO_DEEP));
        }
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            if object.contains_key(&name) {
                let message = format!("the member {} occurs twice; expected it once", quoted(&name));
                self.state.trail.push(Step::Member(name));
                return Err(self.refuse(message));
            }
            match members.next_value_seed(self.inner()) {
                Ok(value) => {
                    object.insert(name, value);
                }
                Err(e) => {
                    self.state.trail.push(Step::Member(name));
                    return Err(e);
                }
            }
        }
        Ok(Value::Object(object))
    }
}

/// Line and column of the value at `path`, or of the last value on the way there that exists. Only called when there
/// is a fault to report, so that parsing need not keep places.
pub(super) fn locate(text: &str, path: &Path) -> Option<(u32, u32)> {
    let mut here: &RawValue = serde_json::from_str(text).ok()?;
    for step in &path.0 {
        let inside = match step {
            Step::Member(name) => serde_json::from_str::<Members<'_>>(here.get()).ok()?.get(name),
            Step::Item(i) => serde_json::from_str::<Vec<&RawValue>>(here.get()).ok()?.get(*i).copied(),
        };
        match inside {
            Some(value) => here = value,
            None => break,
        }
    }
    let before = text.get(..offset_in(text, here)?)?;
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or(before).chars().count() + 1;
    Some((u32::try_from(line).ok()?, u32::try_from(column).ok()?))
}

/// The members of the root object, in their order, and where the value of each stands in the text.
pub(super) fn members(text: &str) -> Option<Vec<(String, Range<usize>)>> {
    let members: Members<'_> = serde_json::from_str(text).ok()?;
    let place = |value: &RawValue| {
        let start = offset_in(text, value)?;
        Some(start..start + value.get().len())
    };
    members.0.into_iter().map(|(name, value)| Some((name, place(value)?))).collect()
}

/// A `RawValue` that was borrowed is a part of the text itself.
fn offset_in(text: &str, value: &RawValue) -> Option<usize> {
    value.get().as_ptr().addr().checked_sub(text.as_ptr().addr()).filter(|offset| *offset <= text.len())
}

/// The members of an object, each still as text.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'a> Members<'a> {
    fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| *value)
    }
}

impl<'de> de::Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}
