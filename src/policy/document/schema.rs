//! What a document may hold. A table instead of derived types, because a fault has to name its place, what it
//! resembles and what would be accepted, and because the value itself, not a type made from it, is what is signed.

use serde_json::{Map, Value};

use super::place::{Path, Problem, Step};
use super::{NUMBER, is_count};
use crate::policy::name::{self, NameFault};
use crate::policy::words::quoted;

mod editor;
mod form;

pub use editor::json_schema;
use form::Form;
pub use form::is_id;

/// What a value may be.
enum Kind {
    Object(&'static [Member]),
    List(&'static Kind),
    /// A list of so many entries at most.
    Few(usize, &'static Kind),
    Text(Form),
    Flag,
    Count,
}

struct Member {
    name: &'static str,
    kind: &'static Kind,
    need: Need,
    /// Whether older versions of this program do not know it.
    second_part: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    Optional,
    Always,
    /// A document that is still to be signed may lack it.
    WhenSigned,
}

const fn optional(name: &'static str, kind: &'static Kind) -> Member {
    Member { name, kind, need: Need::Optional, second_part: false }
}

const fn required(name: &'static str, kind: &'static Kind) -> Member {
    Member { name, kind, need: Need::Always, second_part: false }
}

const fn when_signed(name: &'static str, kind: &'static Kind) -> Member {
    Member { name, kind, need: Need::WhenSigned, second_part: false }
}

const fn second_part(name: &'static str, kind: &'static Kind) -> Member {
    Member { name, kind, need: Need::Optional, second_part: true }
}

const TEXT: Kind = Kind::Text(Form::Any);
const FILLED: Kind = Kind::Text(Form::Filled);
const NAME: Kind = Kind::Text(Form::Name);
const ID: Kind = Kind::Text(Form::Id);
const HASH: Kind = Kind::Text(Form::Hex(64));
const SIGNATURE: Kind = Kind::Text(Form::Hex(128));
const TIME: Kind = Kind::Text(Form::Time);
const TEXTS: Kind = Kind::List(&FILLED);
const NAMES: Kind = Kind::List(&NAME);
const HOSTS: Kind = Kind::List(&Kind::Text(Form::Host));
const PATHS: Kind = Kind::List(&Kind::Text(Form::Path));
const FLAG: Kind = Kind::Flag;
const COUNT: Kind = Kind::Count;

const DOCUMENT: Kind = Kind::Object(&[
    required("policy_id", &ID),
    required("workspace_id", &ID),
    required("version", &Kind::Text(Form::Version)),
    required("status", &Kind::Text(Form::Status)),
    required("content", &CONTENT),
    when_signed("hash", &HASH),
    when_signed("signing_key_id", &ID),
    // A signature that is missing has a reason of its own.
    optional("signature", &SIGNATURE),
    optional("document_signature", &SIGNATURE),
    optional("co_signatures", &Kind::Few(MAX_CO_SIGNATURES, &CO_SIGNATURE)),
    optional("created_at", &TIME),
    optional("updated_at", &TIME),
    optional("activated_at", &TIME),
    optional("expires_at", &TIME),
    optional("signing_public_key", &HASH),
]);

/// More signatures than any threshold asks for; without a bound anybody could fill documents with them.
pub(in crate::policy) const MAX_CO_SIGNATURES: usize = 16;

const CO_SIGNATURE: Kind = Kind::Object(&[required("signing_key_id", &ID), required("document_signature", &SIGNATURE)]);

const CONTENT: Kind = Kind::Object(&[
    optional("agent", &AGENT),
    optional("compliance", &COMPLIANCE),
    optional("tools", &TOOLS),
    optional("permissions", &PERMISSIONS),
    optional("rate_limits", &RATE_LIMITS),
]);

const AGENT: Kind = Kind::Object(&[
    optional(
        "models",
        &Kind::Object(&[
            optional("allowed_providers", &NAMES),
            optional("allowed_models", &NAMES),
            optional("denied_models", &NAMES),
            optional("blocked_models", &NAMES),
            second_part("endpoints", &Kind::List(&ENDPOINT)),
        ]),
    ),
    optional(
        "capabilities",
        &Kind::Object(&[
            optional("allowed_tools", &NAMES),
            optional("denied_tools", &NAMES),
            optional("require_tool_approval", &FLAG),
            second_part("allowed_servers", &NAMES),
            second_part("denied_servers", &NAMES),
            second_part("broker_tools", &NAMES),
        ]),
    ),
    second_part(
        "images",
        &Kind::Object(&[
            optional("allowed_images", &Kind::List(&Kind::Text(Form::Image))),
            optional("require_digest", &FLAG),
        ]),
    ),
    // these two are read, and judged where agents are those of other resources
    second_part("delegates", &Kind::Object(&[optional("allowed_workspaces", &NAMES)])),
    second_part("opaque", &Kind::Object(&[optional("allowed", &FLAG), optional("accept_declarations", &FLAG)])),
]);

const ENDPOINT: Kind = Kind::Object(&[
    required("host", &Kind::Text(Form::Host)),
    required("provider", &NAME),
    optional("path_prefix", &Kind::Text(Form::Prefix)),
    optional("models", &NAMES),
]);

const COMPLIANCE: Kind = Kind::Object(&[
    optional("frameworks", &TEXTS),
    optional("require_audit_logging", &FLAG),
    optional("require_encryption", &FLAG),
    optional("data_residency", &TEXT),
    optional("retention_days", &COUNT),
]);

const TOOLS: Kind = Kind::Object(&[
    optional("allowed_tools", &Kind::List(&Kind::Object(&[required("name", &NAME), optional("description", &TEXT)]))),
    optional("blocked_tools", &NAMES),
]);

const PERMISSIONS: Kind = Kind::Object(&[
    optional(
        "network",
        &Kind::Object(&[
            optional("enabled", &FLAG),
            optional("require_tls", &FLAG),
            optional("allowed_domains", &HOSTS),
            optional("blocked_domains", &HOSTS),
        ]),
    ),
    optional(
        "filesystem",
        &Kind::Object(&[
            optional("enabled", &FLAG),
            optional("allowed_paths", &PATHS),
            optional("blocked_paths", &PATHS),
            optional("allowed_extensions", &TEXTS),
        ]),
    ),
    optional(
        "api",
        &Kind::Object(&[
            optional("enabled", &FLAG),
            optional(
                "allowed_services",
                &Kind::List(&Kind::Object(&[required("service_name", &FILLED), optional("endpoints", &TEXTS)])),
            ),
        ]),
    ),
]);

const RATE_LIMITS: Kind = Kind::Object(&[optional(
    "per_agent",
    &Kind::Object(&[optional("requests_per_minute", &COUNT), optional("tokens_per_hour", &COUNT)]),
)]);

/// Two names of one member: both at once would leave open which one counts.
const SYNONYMS: (&str, &str) = ("denied_models", "blocked_models");

/// How strictly a document is held against the table.
#[derive(Clone, Copy)]
struct How {
    /// What signing adds has to be there.
    signed: bool,
    /// Names that can pass for others are refused in patterns.
    names: bool,
}

/// Holds a tree against the table. `signed`: whether what signing adds has to be there.
///
/// A document without members of the second part means what it meant before there was one, so in these a pattern may be
/// one that no name can meet any more; `advice` says so.
pub(super) fn check(document: &Value, signed: bool) -> Result<(), Problem> {
    let mut trail = Vec::new();
    let how = How { signed, names: has_second_part(document, &DOCUMENT) };
    walk(document, &DOCUMENT, how, &mut trail)
        .map_err(|message| Problem { path: Path::from_inside_out(trail), message })
}

fn has_second_part(value: &Value, kind: &Kind) -> bool {
    let Kind::Object(members) = kind else { return false };
    let there =
        |member: &Member| value.get(member.name).is_some_and(|v| member.second_part || has_second_part(v, member.kind));
    members.iter().any(there)
}

/// Each pattern that no name can meet, since it can pass for another: its place from `content` on, and why.
pub(in crate::policy) fn idle_names(content: &Value) -> Vec<(String, NameFault)> {
    let mut found = Vec::new();
    collect_idle(content, &CONTENT, "content", &mut found);
    found
}

fn collect_idle(value: &Value, kind: &Kind, path: &str, found: &mut Vec<(String, NameFault)>) {
    match (kind, value) {
        (Kind::Object(members), _) => {
            for member in *members {
                if let Some(value) = value.get(member.name) {
                    collect_idle(value, member.kind, &format!("{path}.{}", member.name), found);
                }
            }
        }
        (Kind::List(of), Value::Array(items)) => {
            for (i, item) in items.iter().enumerate() {
                collect_idle(item, of, &format!("{path}[{i}]"), found);
            }
        }
        (Kind::Text(Form::Name), Value::String(text)) => {
            found.extend(name::fault(text).map(|fault| (path.to_owned(), fault)));
        }
        _ => {}
    }
}

/// The steps to a fault are collected on the way out, so that a document without one costs none.
fn walk(value: &Value, kind: &Kind, how: How, trail: &mut Vec<Step>) -> Result<(), String> {
    match (kind, value) {
        (Kind::Object(members), Value::Object(object)) => walk_object(object, members, how, trail),
        (Kind::Few(most, _), Value::Array(items)) if items.len() > *most => {
            Err(format!("{} entries; expected {most} at most", items.len()))
        }
        (Kind::List(of) | Kind::Few(_, of), Value::Array(items)) => items
            .iter()
            .enumerate()
            .try_for_each(|(i, item)| walk(item, of, how, trail).inspect_err(|_| trail.push(Step::Item(i)))),
        (Kind::Text(form), Value::String(text)) => form.check(text, how),
        (Kind::Flag, Value::Bool(_)) => Ok(()),
        (Kind::Count, Value::Number(n)) if n.as_u64().is_some_and(is_count) => Ok(()),
        (Kind::Count, Value::Number(_)) => Err(NUMBER.to_owned()),
        (_, Value::Null) => Err(super::NULL.to_owned()),
        _ => Err(kind.instead_of(value)),
    }
}

/// What to say of a number at `path` that no document may hold: it may be that a text was meant, such as a version.
pub(super) fn instead_of_number(path: &[Step]) -> String {
    let mut kind = &DOCUMENT;
    for step in path {
        kind = match (kind, step) {
            (Kind::Object(members), Step::Member(name)) => match members.iter().find(|member| member.name == name) {
                Some(member) => member.kind,
                None => return NUMBER.to_owned(),
            },
            (Kind::List(of), Step::Item(_)) => of,
            _ => return NUMBER.to_owned(),
        };
    }
    match kind {
        Kind::Count => NUMBER.to_owned(),
        _ => kind.instead_of(&Value::from(0)),
    }
}

fn walk_object(object: &Map<String, Value>, members: &[Member], how: How, trail: &mut Vec<Step>) -> Result<(), String> {
    for (name, value) in object {
        let checked = match members.iter().find(|m| m.name == name) {
            Some(member) => walk(value, member.kind, how, trail),
            None => Err(unknown(name, members)),
        };
        let checked = checked.and_then(|()| {
            if name == SYNONYMS.1 && object.contains_key(SYNONYMS.0) {
                return Err(format!("{} is another name of {}; expected only one of them", SYNONYMS.1, SYNONYMS.0));
            }
            Ok(())
        });
        checked.inspect_err(|_| trail.push(Step::Member(name.clone())))?;
    }
    let missing = |m: &&Member| match m.need {
        Need::Optional => false,
        Need::Always => !object.contains_key(m.name),
        Need::WhenSigned => how.signed && !object.contains_key(m.name),
    };
    if let Some(member) = members.iter().find(missing) {
        trail.push(Step::Member(member.name.to_owned()));
        let unsigned = if member.need == Need::WhenSigned { "; `sekuire policy sign` fills it in" } else { "" };
        return Err(format!("missing; expected {}{unsigned}", member.kind.noun()));
    }
    Ok(())
}

fn unknown(name: &str, members: &[Member]) -> String {
    // Comparing costs the product of the lengths; a name much longer than any known one resembles none.
    let short = name.len() <= 128;
    let nearest = members
        .iter()
        .filter(|_| short)
        .map(|m| (strsim::damerau_levenshtein(&name.to_lowercase(), m.name), m.name))
        .filter(|(distance, known)| *distance <= known.len().max(name.chars().count()) / 3 + 1)
        .min();
    match nearest {
        Some((_, known)) => format!("unknown member {}; did you mean {known}?", quoted(name)),
        None => {
            let known: Vec<&str> = members.iter().map(|m| m.name).collect();
            format!("unknown member {}; expected one of {}", quoted(name), known.join(", "))
        }
    }
}

fn found(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

impl Kind {
    fn noun(&self) -> &'static str {
        match self {
            Kind::Object(_) => "an object",
            Kind::List(Kind::Object(_)) | Kind::Few(_, Kind::Object(_)) => "a list of objects",
            Kind::List(_) | Kind::Few(..) => "a list of strings",
            Kind::Text(form) => form.noun(),
            Kind::Flag => "true or false",
            Kind::Count => "a whole number from 0 to 9007199254740991",
        }
    }

    /// That a value is of another kind. What only looks like another kind becomes a text in quotes.
    fn instead_of(&self, value: &Value) -> String {
        let bare = matches!(self, Kind::Text(_)) && matches!(value, Value::Number(_) | Value::Bool(_));
        let quotes = if bare && !self.noun().contains("quotes") { "; put it in quotes" } else { "" };
        format!("expected {}, found {}{quotes}", self.noun(), found(value))
    }
}
