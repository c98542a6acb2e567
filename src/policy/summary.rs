//! The rules of a policy in words: what each says, and what a new version forbids or allows that an old one did not.
//!
//! It works on the content of a document that was checked (`parse_unsigned`), signed or not.

use std::fmt::Display;

use serde::Serialize;
use serde_json::Value;

use super::words::quoted;

mod changes;
mod endpoints;
mod tools;

pub use changes::{Changes, changes};

/// One rule in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Statement {
    /// What it is about: `Models`, `Tools`, `Images`, `Delegates`, `Opaque`, `Compliance`, `Network`, `Filesystem`, `API`, `Limits`.
    pub group: &'static str,
    /// The member that says it, e.g. `content.agent.models.denied_models`.
    pub path: String,
    /// The rule. What it shows of the document is bounded and harmless for a terminal.
    pub text: String,
}

/// A member of the content that is a rule by itself.
struct Facet {
    group: &'static str,
    /// From the content, without it.
    path: &'static str,
    kind: Kind,
}

/// What a member means.
enum Kind {
    /// A list of what may be; absent: everything. With what the entries are called.
    Allow(&'static str),
    /// A list of what may not be.
    Deny(&'static str),
    /// A list of what may be too; absent: nothing of it.
    Grant(&'static str),
    /// True: this may be too.
    Permit(&'static str),
    /// A list of what every agent has to declare.
    Frameworks,
    /// True: agents have to do this.
    Demand(&'static str),
    /// A text: where data stays.
    Residency,
    /// A number of which there have to be at least so many: words before and after it.
    AtLeast(&'static str, &'static str),
    /// A number that is not to be exceeded.
    AtMost(&'static str),
}

const fn facet(group: &'static str, path: &'static str, kind: Kind) -> Facet {
    Facet { group, path, kind }
}

const APPROVAL: &str = "agent.capabilities.require_tool_approval";

/// Rules outside of tools and endpoints, which two lists speak of, and of services.
const FACETS: [Facet; 19] = [
    facet("Models", "agent.models.allowed_providers", Kind::Allow("provider")),
    facet("Models", "agent.models.allowed_models", Kind::Allow("model")),
    facet("Models", "agent.models.denied_models", Kind::Deny("model")),
    facet("Models", "agent.models.blocked_models", Kind::Deny("model")),
    facet("Tools", "agent.capabilities.allowed_servers", Kind::Allow("server")),
    facet("Tools", "agent.capabilities.denied_servers", Kind::Deny("server")),
    facet("Images", "agent.images.allowed_images", Kind::Allow("image")),
    facet("Images", "agent.images.require_digest", Kind::Demand("images are named by digest")),
    facet("Delegates", "agent.delegates.allowed_workspaces", Kind::Grant("delegates of the workspace")),
    facet("Opaque", "agent.opaque.allowed", Kind::Permit("parts of agents that no rule can read")),
    facet(
        "Opaque",
        "agent.opaque.accept_declarations",
        Kind::Permit("parts that no rule can read, where the agent declares its models"),
    ),
    facet("Compliance", "compliance.frameworks", Kind::Frameworks),
    facet("Compliance", "compliance.require_audit_logging", Kind::Demand("agents declare audit logging")),
    facet(
        "Compliance",
        "compliance.require_encryption",
        Kind::Demand("agents declare encryption at rest and in transit"),
    ),
    facet("Compliance", "compliance.data_residency", Kind::Residency),
    facet("Compliance", "compliance.retention_days", Kind::AtLeast("agents keep data for at least", "days")),
    facet("Limits", "rate_limits.per_agent.requests_per_minute", Kind::AtMost("requests a minute")),
    facet("Limits", "rate_limits.per_agent.tokens_per_hour", Kind::AtMost("tokens an hour")),
    // last: it is no rule of its own where no list names tools
    facet("Tools", APPROVAL, Kind::Demand("only tools that an allow list names")),
];

/// A section that forbids everything unless it is enabled, and its members.
struct Section {
    group: &'static str,
    path: &'static str,
    /// What may be asked for, one of them.
    noun: &'static str,
    facets: &'static [Facet],
}

const SECTIONS: [Section; 3] = [
    Section {
        group: "Network",
        path: "permissions.network",
        noun: "host",
        facets: &[
            facet("Network", "permissions.network.allowed_domains", Kind::Allow("host")),
            facet("Network", "permissions.network.blocked_domains", Kind::Deny("host")),
            facet("Network", "permissions.network.require_tls", Kind::Demand("hosts only over TLS")),
        ],
    },
    Section {
        group: "Filesystem",
        path: "permissions.filesystem",
        noun: "path",
        facets: &[
            facet("Filesystem", "permissions.filesystem.allowed_paths", Kind::Allow("path")),
            facet("Filesystem", "permissions.filesystem.blocked_paths", Kind::Deny("path")),
            facet("Filesystem", "permissions.filesystem.allowed_extensions", Kind::Allow("file name extension")),
        ],
    },
    // its services are looked at by themselves
    Section { group: "API", path: "permissions.api", noun: "service", facets: &[] },
];

/// How a section stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// It is absent: nothing is judged.
    Unrestricted,
    /// It is there and enabled: its lists decide.
    On,
    /// It is there and not enabled: nothing may be asked for.
    Off,
}

impl Section {
    fn state(&self, content: &Value) -> State {
        match lookup(content, self.path) {
            None => State::Unrestricted,
            Some(section) if section.get("enabled").and_then(Value::as_bool) == Some(true) => State::On,
            Some(_) => State::Off,
        }
    }
}

/// Every rule of a content in words, in the order of the groups. Empty: everything is allowed.
#[must_use]
pub fn describe(content: &Value) -> Vec<Statement> {
    let mut statements: Vec<Statement> = FACETS.iter().filter_map(|facet| facet.describe(content)).collect();
    statements.extend(endpoints::describe(content));
    statements.extend(tools::describe(content));
    for section in &SECTIONS {
        let statement = |text: String| statement(section.group, section.path, text);
        match section.state(content) {
            State::Unrestricted => {}
            State::Off => statements.push(statement(format!("no {} may be asked for", section.noun))),
            State::On => {
                let before = statements.len();
                statements.extend(section.facets.iter().filter_map(|facet| facet.describe(content)));
                if section.group == "API" {
                    statements.extend(tools::describe_services(content));
                }
                if statements.len() == before {
                    statements.push(statement(format!("any {} may be asked for", section.noun)));
                }
            }
        }
    }
    let order =
        ["Models", "Tools", "Images", "Delegates", "Opaque", "Compliance", "Network", "Filesystem", "API", "Limits"];
    statements.sort_by_key(|statement| order.iter().position(|group| *group == statement.group));
    statements
}

impl Facet {
    fn describe(&self, content: &Value) -> Option<Statement> {
        let value = lookup(content, self.path)?;
        let text = match &self.kind {
            Kind::Allow(noun) => only(noun, &texts(value)),
            Kind::Deny(noun) => never(noun, &texts(value))?,
            Kind::Grant(noun) => Some(texts(value)).filter(|list| !list.is_empty()).map(|list| allowed(noun, &list))?,
            Kind::Permit(what) => value.as_bool()?.then(|| format!("allowed: {what}"))?,
            Kind::Frameworks if texts(value).is_empty() => return None,
            Kind::Frameworks => format!("agents declare {}", all(&texts(value))),
            Kind::Demand(what) => value.as_bool()?.then(|| (*what).to_owned())?,
            Kind::Residency => format!("data stays in {}, or in a region of it", quoted(value.as_str()?)),
            Kind::AtLeast(before, after) => format!("{before} {} {after}", value.as_u64()?),
            Kind::AtMost(what) => format!("at most {} {what}", value.as_u64()?),
        };
        Some(statement(self.group, self.path, text))
    }
}

fn statement(group: &'static str, path: &str, text: String) -> Statement {
    Statement { group, path: format!("content.{path}"), text }
}

/// The member at a path of names joined by dots.
fn lookup<'a>(content: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(content, |value, name| value.get(name))
}

/// The entries of a list, each once, in their order.
fn texts(value: &Value) -> Vec<&str> {
    let mut texts: Vec<&str> = Vec::new();
    for text in value.as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    texts
}

fn only(noun: &str, entries: &[&str]) -> String {
    match entries {
        [] => format!("no {noun} is allowed"),
        [_] => format!("only the {noun} {}", all(entries)),
        _ => format!("only the {noun}s {}", all(entries)),
    }
}

fn allowed(noun: &str, entries: &[&str]) -> String {
    let s = if entries.len() == 1 { "" } else { "s" };
    format!("allowed: {noun}{s} {}", all(entries))
}

fn never(noun: &str, entries: &[&str]) -> Option<String> {
    match entries {
        [] => None,
        [_] => Some(format!("never the {noun} {}", all(entries))),
        _ => Some(format!("never the {noun}s {}", all(entries))),
    }
}

/// `"a", "b" and "c"`, all of them: a summary that leaves rules out is none.
fn all<T: Display>(entries: &[T]) -> String {
    let quoted: Vec<String> = entries.iter().map(|entry| quoted(&entry.to_string())).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => quoted.join(""),
    }
}
