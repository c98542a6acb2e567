//! Tools, which two allow lists and two deny lists speak of, and services with their endpoints.

use std::collections::BTreeMap;

use serde_json::Value;

use super::changes::Recorder;
use super::{APPROVAL, Statement, all, lookup, never, only, statement, texts};

const CAPABILITIES: &str = "agent.capabilities.allowed_tools";
const TOOLS: &str = "tools.allowed_tools";
const DENIED: [&str; 2] = ["agent.capabilities.denied_tools", "tools.blocked_tools"];
const BROKERS: &str = "agent.capabilities.broker_tools";
const SERVICES: &str = "permissions.api.allowed_services";

/// The names in `tools.allowed_tools`, which holds objects.
fn names(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(|tool| tool.get("name")?.as_str()).collect()
}

pub(super) fn describe(content: &Value) -> Vec<Statement> {
    let mut statements = Vec::new();
    let lists = [(CAPABILITIES, lookup(content, CAPABILITIES).map(texts)), (TOOLS, lookup(content, TOOLS).map(names))];
    let several = lists.iter().filter(|(_, list)| list.is_some()).count() > 1;
    for (path, list) in &lists {
        if let Some(list) = list {
            let beside = if several { " (a tool that either list names is allowed)" } else { "" };
            statements.push(statement("Tools", path, format!("{}{beside}", only("tool", list))));
        }
    }
    for path in DENIED {
        let denied = lookup(content, path).and_then(|list| never("tool", &texts(list)));
        statements.extend(denied.map(|text| statement("Tools", path, text)));
    }
    let brokers = lookup(content, BROKERS).map(texts).unwrap_or_default();
    if let Some(never) = never("tool", &brokers) {
        let text = if everything(content) {
            format!("tools that reach other tools, allowed as every tool is: {}", all(&brokers))
        } else {
            format!("{never}, as tools that reach other tools")
        };
        statements.push(statement("Tools", BROKERS, text));
    }
    statements
}

/// Whether every tool is allowed, so that one that reaches others is too.
fn everything(content: &Value) -> bool {
    let all = |list: Vec<Named<'_>>| list.iter().any(|(name, _)| *name == "*");
    denied(content).is_empty() && allowed(content).is_none_or(all)
}

/// The tools that are refused since they reach others.
fn brokers(content: &Value) -> Vec<Named<'_>> {
    let list = lookup(content, BROKERS).filter(|_| !everything(content));
    list.map(texts).unwrap_or_default().into_iter().map(|name| (name, BROKERS)).collect()
}

/// What may be, with the list that says so. None: everything.
fn allowed(content: &Value) -> Option<Vec<(&str, &'static str)>> {
    let (one, other) = (lookup(content, CAPABILITIES), lookup(content, TOOLS));
    let approval = lookup(content, APPROVAL).and_then(Value::as_bool) == Some(true);
    if one.is_none() && other.is_none() && !approval {
        return None;
    }
    let one = one.map(texts).unwrap_or_default().into_iter().map(|name| (name, CAPABILITIES));
    let other = other.map(names).unwrap_or_default().into_iter().map(|name| (name, TOOLS));
    Some(one.chain(other).collect())
}

fn denied(content: &Value) -> Vec<(&str, &'static str)> {
    let lists = DENIED.into_iter().filter_map(|path| Some((path, lookup(content, path)?)));
    lists.flat_map(|(path, list)| texts(list).into_iter().map(move |name| (name, path))).collect()
}

pub(super) fn compare(old: &Value, new: &Value, into: &mut Recorder) {
    let place = |content: &Value| if lookup(content, CAPABILITIES).is_some() { CAPABILITIES } else { TOOLS };
    let (was, is) = (allowed(old), allowed(new));
    match (&was, &is) {
        (None, None) => {}
        (None, Some(list)) => {
            let names: Vec<&str> = list.iter().map(|(name, _)| *name).collect();
            let listed = lookup(new, CAPABILITIES).is_some() || lookup(new, TOOLS).is_some();
            into.forbidden("Tools", if listed { place(new) } else { APPROVAL }, only("tool", &names));
        }
        (Some(_), None) => into.allowed("Tools", place(old), "any tool".to_owned()),
        (Some(was), Some(is)) => entries("Tools", "tool", (was, is), into, true),
    }
    entries("Tools", "tool", (&denied(old), &denied(new)), into, false);
    entries("Tools", "tool that reaches others", (&brokers(old), &brokers(new)), into, false);
    let approval = |content: &Value| lookup(content, APPROVAL).and_then(Value::as_bool) == Some(true);
    if was.is_some() && is.is_some() && approval(old) != approval(new) {
        let text = if approval(new) { "tools that no list names need an approval" } else { "tools need no approval" };
        into.changed("Tools", APPROVAL, text.to_owned());
    }
    if lookup(old, TOOLS) != lookup(new, TOOLS) && lookup(old, TOOLS).map(names) == lookup(new, TOOLS).map(names) {
        into.changed("Tools", TOOLS, "descriptions".to_owned());
    }
}

/// An entry of a list, and the member that has the list.
type Named<'a> = (&'a str, &'static str);

/// What came and went of two lists. `allows`: whether to be named is to be allowed.
fn entries(
    group: &'static str,
    noun: &str,
    (was, is): (&[Named<'_>], &[Named<'_>]),
    into: &mut Recorder,
    allows: bool,
) {
    let missing = |from: &[Named<'_>], than: &[Named<'_>]| {
        let mut by_path: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
        for (name, path) in from.iter().filter(|(name, _)| !than.iter().any(|(other, _)| other == name)) {
            by_path.entry(path).or_default().push((*name).to_owned());
        }
        by_path
    };
    for (path, gone) in missing(was, is) {
        into.record(!allows, group, path, format!("{noun} {}", all(&gone)));
    }
    for (path, come) in missing(is, was) {
        into.record(allows, group, path, format!("{noun} {}", all(&come)));
    }
}

/// Services by name, with the endpoints that are allowed; none: all of them. Several entries of one name add up.
fn services(content: &Value) -> Option<BTreeMap<&str, Option<Vec<&str>>>> {
    let mut services: BTreeMap<&str, Option<Vec<&str>>> = BTreeMap::new();
    for service in lookup(content, SERVICES)?.as_array()? {
        let Some(name) = service.get("service_name").and_then(Value::as_str) else { continue };
        let endpoints = service.get("endpoints").map(texts);
        let known = services.entry(name).or_insert_with(|| Some(Vec::new()));
        match (known.as_mut(), endpoints) {
            (Some(known), Some(more)) => known.extend(more),
            _ => *known = None,
        }
    }
    Some(services)
}

fn words(name: &str, endpoints: Option<&[&str]>) -> String {
    let name = super::quoted(name);
    match endpoints {
        None => name,
        Some([]) => format!("{name} without any endpoint"),
        Some(endpoints) => format!("{name} with {}", all(endpoints)),
    }
}

pub(super) fn describe_services(content: &Value) -> Vec<Statement> {
    let Some(services) = services(content) else { return Vec::new() };
    if services.is_empty() {
        return vec![statement("API", SERVICES, "no service is allowed".to_owned())];
    }
    let each = services.into_iter();
    each.map(|(name, endpoints)| {
        let text = format!("allowed: the service {}", words(name, endpoints.as_deref()));
        statement("API", SERVICES, text)
    })
    .collect()
}

pub(super) fn compare_services(old: &Value, new: &Value, into: &mut Recorder) {
    let (was, is) = match (services(old), services(new)) {
        (None, None) => return,
        (None, Some(is)) => {
            let names: Vec<&str> = is.keys().copied().collect();
            into.forbidden("API", SERVICES, only("service", &names));
            for (name, endpoints) in is.iter().filter(|(_, endpoints)| endpoints.is_some()) {
                let text = format!("the service {} and nothing else of it", words(name, endpoints.as_deref()));
                into.forbidden("API", SERVICES, text);
            }
            return;
        }
        (Some(_), None) => return into.allowed("API", SERVICES, "any service".to_owned()),
        (Some(was), Some(is)) => (was, is),
    };
    for (name, endpoints) in was.iter().filter(|(name, _)| !is.contains_key(*name)) {
        into.forbidden("API", SERVICES, format!("service {}", words(name, endpoints.as_deref())));
    }
    for (name, endpoints) in &is {
        match (was.get(name), endpoints) {
            (None, _) => into.allowed("API", SERVICES, format!("service {}", words(name, endpoints.as_deref()))),
            (Some(None), None) => {}
            (Some(None), Some(some)) => {
                into.forbidden("API", SERVICES, format!("any other endpoint than {}", words(name, Some(some))));
            }
            (Some(Some(_)), None) => {
                into.allowed("API", SERVICES, format!("any endpoint of service {}", super::quoted(name)));
            }
            (Some(Some(before)), Some(now)) => {
                let beyond = |list: &[&str], than: &[&str]| {
                    list.iter().copied().filter(|e| !than.contains(e)).map(str::to_owned).collect::<Vec<_>>()
                };
                let (gone, come) = (beyond(before, now), beyond(now, before));
                let text = |list: &[String]| format!("service {}, endpoint {}", super::quoted(name), all(list));
                if !gone.is_empty() {
                    into.forbidden("API", SERVICES, text(&gone));
                }
                if !come.is_empty() {
                    into.allowed("API", SERVICES, text(&come));
                }
            }
        }
    }
}
