//! What a new version forbids or allows that an old one did not.

use serde::Serialize;
use serde_json::Value;

use super::{
    APPROVAL, FACETS, Facet, Kind, SECTIONS, Section, State, Statement, all, endpoints, lookup, only, statement, texts,
    tools,
};
use crate::policy::words::quoted;

/// The difference of two contents, as agents feel it.
///
/// An entry is reported by itself: that another pattern of the list covers it too is not looked at. So everything that
/// an agent could notice is in here, and sometimes more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Changes {
    /// What was allowed.
    pub newly_forbidden: Vec<Statement>,
    /// What was forbidden.
    pub newly_allowed: Vec<Statement>,
    /// What is neither.
    pub changed: Vec<Statement>,
}

impl Changes {
    /// Whether nothing differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.newly_forbidden.is_empty() && self.newly_allowed.is_empty() && self.changed.is_empty()
    }
}

/// Collects what is found.
#[derive(Default)]
pub(super) struct Recorder(Changes);

impl Recorder {
    pub(super) fn forbidden(&mut self, group: &'static str, path: &str, text: String) {
        self.0.newly_forbidden.push(statement(group, path, text));
    }

    pub(super) fn allowed(&mut self, group: &'static str, path: &str, text: String) {
        self.0.newly_allowed.push(statement(group, path, text));
    }

    pub(super) fn changed(&mut self, group: &'static str, path: &str, text: String) {
        self.0.changed.push(statement(group, path, text));
    }

    pub(super) fn record(&mut self, allows: bool, group: &'static str, path: &str, text: String) {
        if allows { self.allowed(group, path, text) } else { self.forbidden(group, path, text) }
    }
}

/// Compares two contents.
#[must_use]
pub fn changes(old: &Value, new: &Value) -> Changes {
    let mut into = Recorder::default();
    for facet in FACETS.iter().filter(|facet| facet.path != APPROVAL && !facet.path.ends_with("_models")) {
        facet.compare(lookup(old, facet.path), lookup(new, facet.path), &mut into);
    }
    compare_models(old, new, &mut into);
    endpoints::compare(old, new, &mut into);
    tools::compare(old, new, &mut into);
    for section in &SECTIONS {
        section.compare(old, new, &mut into);
    }
    into.0
}

/// `denied_models` has a second name, so that a rename is no change.
fn compare_models(old: &Value, new: &Value, into: &mut Recorder) {
    const DENIED: [&str; 2] = ["agent.models.denied_models", "agent.models.blocked_models"];
    const ALLOWED: &str = "agent.models.allowed_models";
    let allowed = Facet { group: "Models", path: ALLOWED, kind: Kind::Allow("model") };
    allowed.compare(lookup(old, ALLOWED), lookup(new, ALLOWED), into);
    let denied = |content| DENIED.iter().find_map(|path| Some((*path, lookup(content, path)?)));
    let path = denied(new).or(denied(old)).map_or(DENIED[0], |(path, _)| path);
    let facet = Facet { group: "Models", path, kind: Kind::Deny("model") };
    facet.compare(denied(old).map(|(_, list)| list), denied(new).map(|(_, list)| list), into);
}

impl Facet {
    fn compare(&self, old: Option<&Value>, new: Option<&Value>, into: &mut Recorder) {
        if old == new {
            return;
        }
        match &self.kind {
            Kind::Allow(noun) => self.compare_allowed(noun, old, new, into),
            Kind::Deny(noun) => self.compare_list(noun, old, new, false, into),
            Kind::Grant(noun) => self.compare_list(noun, old, new, true, into),
            Kind::Permit(what) => {
                let set = |value: Option<&Value>| value.and_then(Value::as_bool) == Some(true);
                if set(old) != set(new) {
                    into.record(set(new), self.group, self.path, (*what).to_owned());
                }
            }
            Kind::Frameworks => self.compare_list("agents without framework", old, new, false, into),
            Kind::Demand(what) => {
                let set = |value: Option<&Value>| value.and_then(Value::as_bool) == Some(true);
                match (set(old), set(new)) {
                    (false, true) => into.forbidden(self.group, self.path, format!("anything else: {what}")),
                    (true, false) => into.allowed(self.group, self.path, format!("no longer required: {what}")),
                    _ => {}
                }
            }
            Kind::Residency => {
                if let Some(region) = new.and_then(Value::as_str) {
                    into.forbidden(self.group, self.path, format!("data outside of {}", quoted(region)));
                }
                if let Some(region) = old.and_then(Value::as_str) {
                    into.allowed(self.group, self.path, format!("data outside of {}", quoted(region)));
                }
            }
            Kind::AtLeast(before, after) => {
                let of = |value: Option<&Value>| value.and_then(Value::as_u64);
                let text = of(new).map_or_else(
                    || format!("no longer required: {before} any number of {after}"),
                    |number| format!("{before} {number} {after}"),
                );
                into.record(of(new) < of(old), self.group, self.path, text);
            }
            Kind::AtMost(what) => {
                let of = |value: Option<&Value>| value.and_then(Value::as_u64).unwrap_or(u64::MAX);
                let text = new
                    .and_then(Value::as_u64)
                    .map_or_else(|| format!("any number of {what}"), |number| format!("at most {number} {what}"));
                into.record(of(new) > of(old), self.group, self.path, text);
            }
        }
    }

    fn compare_allowed(&self, noun: &str, old: Option<&Value>, new: Option<&Value>, into: &mut Recorder) {
        match (old, new) {
            (None, Some(list)) => into.forbidden(self.group, self.path, only(noun, &texts(list))),
            (Some(_), None) => into.allowed(self.group, self.path, format!("any {noun}")),
            _ => self.compare_list(noun, old, new, true, into),
        }
    }

    /// `allows`: whether to be named is to be allowed.
    fn compare_list(&self, noun: &str, old: Option<&Value>, new: Option<&Value>, allows: bool, into: &mut Recorder) {
        let (old, new) = (old.map(texts).unwrap_or_default(), new.map(texts).unwrap_or_default());
        let beyond = |list: &[&str], than: &[&str]| {
            list.iter().copied().filter(|e| !than.contains(e)).map(str::to_owned).collect::<Vec<_>>()
        };
        let (gone, come) = (beyond(&old, &new), beyond(&new, &old));
        if !gone.is_empty() {
            into.record(!allows, self.group, self.path, format!("{noun} {}", all(&gone)));
        }
        if !come.is_empty() {
            into.record(allows, self.group, self.path, format!("{noun} {}", all(&come)));
        }
    }
}

impl Section {
    fn compare(&self, old: &Value, new: &Value, into: &mut Recorder) {
        let (was, is) = (self.state(old), self.state(new));
        let noun = self.noun;
        let record = |into: &mut Recorder, allows: bool, text: String| into.record(allows, self.group, self.path, text);
        match (was, is) {
            (State::Off, State::Off) | (State::Unrestricted, State::Unrestricted) => return,
            (_, State::Off) => return record(into, false, format!("every {noun}")),
            (State::Off, _) => {
                let listed = self.facets.iter().filter_map(|facet| facet.describe(new)).map(|rule| rule.text);
                let listed: Vec<String> = if is == State::On { listed.collect() } else { Vec::new() };
                let but = if listed.is_empty() { String::new() } else { format!(": {}", listed.join("; ")) };
                return record(into, true, format!("{noun}s may be asked for{but}"));
            }
            // also what is no host, or no path, is refused where the section is there
            (State::Unrestricted, State::On) => record(into, false, format!("whatever is no valid {noun}")),
            (State::On, State::Unrestricted) => record(into, true, format!("{noun}s are not judged any more")),
            (State::On, State::On) => {}
        }
        for facet in self.facets {
            facet.compare(lookup(old, facet.path), lookup(new, facet.path), into);
        }
        if self.group == "API" {
            tools::compare_services(old, new, into);
        }
    }
}
