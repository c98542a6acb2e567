//! An object of somebody else's format, read member by member: what nobody has taken at its end was not read.

use anyhow::{anyhow, bail};
use serde_json::{Map, Value};

use crate::cli::manifest::{unknown, wrong};

/// An object whose members are taken out of it.
pub(super) struct Section {
    path: String,
    members: Map<String, Value>,
    /// What was asked for.
    known: Vec<String>,
    /// Paths of what is known to say nothing that is judged.
    neutral: Vec<String>,
    faults: Vec<String>,
}

impl Section {
    pub(super) fn new(path: &str, value: Value) -> Section {
        let mut section = Section {
            path: path.to_owned(),
            members: Map::new(),
            known: Vec::new(),
            neutral: Vec::new(),
            faults: Vec::new(),
        };
        match value {
            Value::Object(members) => section.members = members,
            other => section.faults.push(format!(
                "{}{}",
                if path.is_empty() { String::new() } else { format!("{path}: ") },
                wrong("an object", &other)
            )),
        }
        section
    }

    /// The path of a member.
    pub(super) fn path(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// Takes a member; null is as if it were not there.
    fn take(&mut self, name: &str) -> Option<Value> {
        self.known.push(name.to_owned());
        self.members.shift_remove(name).filter(|value| !value.is_null())
    }

    fn wrong(&self, name: &str, expected: &str, value: &Value) -> anyhow::Error {
        anyhow!("{}: {}", self.path(name), wrong(expected, value))
    }

    pub(super) fn section(&mut self, name: &str) -> anyhow::Result<Option<Section>> {
        match self.take(name) {
            None => Ok(None),
            Some(value @ Value::Object(_)) => Ok(Some(Section::new(&self.path(name), value))),
            Some(other) => Err(self.wrong(name, "an object", &other)),
        }
    }

    /// All members, each an object.
    pub(super) fn sections(&mut self) -> anyhow::Result<Vec<(String, Section)>> {
        let names: Vec<String> = self.members.keys().cloned().collect();
        names
            .into_iter()
            .filter_map(|name| Some(self.section(&name).transpose()?.map(|section| (name, section))))
            .collect()
    }

    pub(super) fn list_of_sections(&mut self, name: &str) -> anyhow::Result<Vec<Section>> {
        let path = self.path(name);
        let list = self.list(name)?.unwrap_or_default();
        Ok(list.into_iter().enumerate().map(|(index, item)| Section::new(&format!("{path}[{index}]"), item)).collect())
    }

    pub(super) fn list(&mut self, name: &str) -> anyhow::Result<Option<Vec<Value>>> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Array(list)) => Ok(Some(list)),
            Some(other) => Err(self.wrong(name, "a list", &other)),
        }
    }

    pub(super) fn text(&mut self, name: &str) -> anyhow::Result<Option<String>> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong(name, "a text", &other)),
        }
    }

    pub(super) fn texts(&mut self, name: &str) -> anyhow::Result<Option<Vec<String>>> {
        let Some(list) = self.list(name)? else { return Ok(None) };
        let mut texts = Vec::new();
        for (index, item) in list.into_iter().enumerate() {
            match item {
                Value::String(text) => texts.push(text),
                other => bail!("{}[{index}]: {}", self.path(name), wrong("a text", &other)),
            }
        }
        Ok(Some(texts))
    }

    pub(super) fn flag(&mut self, name: &str) -> anyhow::Result<Option<bool>> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(other) => Err(self.wrong(name, "true or false", &other)),
        }
    }

    pub(super) fn count(&mut self, name: &str) -> anyhow::Result<Option<u64>> {
        match self.take(name) {
            None => Ok(None),
            Some(value) => value.as_u64().map(Some).ok_or_else(|| self.wrong(name, "a whole number", &value)),
        }
    }

    /// Takes members that say nothing which is judged.
    pub(super) fn neutral_here(&mut self, names: &[&str]) {
        for name in names {
            if self.take(name).is_some_and(|value| !is_empty(&value)) {
                self.neutral.push(self.path(name));
            }
        }
    }

    /// As [`Section::neutral_here`], at the end of a section.
    pub(super) fn neutral(mut self, names: &[&str]) -> Section {
        self.neutral_here(names);
        self
    }

    /// Ends a section below: what is left of it was not read.
    pub(super) fn done(&mut self, section: Section) {
        let (neutral, faults) = section.end();
        self.neutral.extend(neutral);
        self.faults.extend(faults);
    }

    /// What is judged by no rule, and what nobody knows.
    pub(super) fn end(self) -> (Vec<String>, Vec<String>) {
        let known: Vec<&str> = self.known.iter().map(String::as_str).collect();
        let unread = self.members.iter().filter(|(_, value)| !is_empty(value));
        let unread = unread.map(|(name, _)| format!("{}: {}", self.path(name), unknown(name, &known)));
        let faults = self.faults.iter().cloned().chain(unread).collect();
        (self.neutral, faults)
    }
}

/// What says nothing at all.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => false,
    }
}
