//! What a document may hold. A table instead of derived types, because a fault has to name its place, what it
//! resembles and what would be accepted, and because the value itself, not a type made from it, is what is signed.

use serde_json::{Map, Value};

use super::place::{Path, Problem, Step};
use super::{NUMBER, is_count, time};
use crate::policy::host::HostPattern;
use crate::policy::path::PathPattern;
use crate::policy::version::{Version, VersionFault};
use crate::policy::words::quoted;

mod editor;

pub use editor::json_schema;

/// What a value may be.
enum Kind {
    Object(&'static [Member]),
    List(&'static Kind),
    Text(Form),
    Flag,
    Count,
}

/// What a text may be.
#[derive(Clone, Copy)]
enum Form {
    Any,
    Filled,
    Id,
    Version,
    Status,
    Hex(usize),
    Time,
    Host,
    Path,
}

struct Member {
    name: &'static str,
    kind: &'static Kind,
    need: Need,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    Optional,
    Always,
    /// A document that is still to be signed may lack it.
    WhenSigned,
}

const fn optional(name: &'static str, kind: &'static Kind) -> Member {
    Member { name, kind, need: Need::Optional }
}

const fn required(name: &'static str, kind: &'static Kind) -> Member {
    Member { name, kind, need: Need::Always }
}

const fn when_signed(name: &'static str, kind: &'static Kind) -> Member {
    Member { name, kind, need: Need::WhenSigned }
}

const TEXT: Kind = Kind::Text(Form::Any);
const NAME: Kind = Kind::Text(Form::Filled);
const ID: Kind = Kind::Text(Form::Id);
const HASH: Kind = Kind::Text(Form::Hex(64));
const SIGNATURE: Kind = Kind::Text(Form::Hex(128));
const TIME: Kind = Kind::Text(Form::Time);
const TEXTS: Kind = Kind::List(&NAME);
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
    optional("co_signatures", &Kind::List(&CO_SIGNATURE)),
    optional("created_at", &TIME),
    optional("updated_at", &TIME),
    optional("activated_at", &TIME),
    optional("expires_at", &TIME),
    optional("signing_public_key", &HASH),
]);

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
            optional("allowed_providers", &TEXTS),
            optional("allowed_models", &TEXTS),
            optional("denied_models", &TEXTS),
            optional("blocked_models", &TEXTS),
        ]),
    ),
    optional(
        "capabilities",
        &Kind::Object(&[
            optional("allowed_tools", &TEXTS),
            optional("denied_tools", &TEXTS),
            optional("require_tool_approval", &FLAG),
        ]),
    ),
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
    optional("blocked_tools", &TEXTS),
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
                &Kind::List(&Kind::Object(&[required("service_name", &NAME), optional("endpoints", &TEXTS)])),
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

/// Holds a tree against the table. `signed`: whether what signing adds has to be there.
pub(super) fn check(document: &Value, signed: bool) -> Result<(), Problem> {
    let mut trail = Vec::new();
    walk(document, &DOCUMENT, signed, &mut trail)
        .map_err(|message| Problem { path: Path::from_inside_out(trail), message })
}

/// The steps to a fault are collected on the way out, so that a document without one costs none.
fn walk(value: &Value, kind: &Kind, signed: bool, trail: &mut Vec<Step>) -> Result<(), String> {
    match (kind, value) {
        (Kind::Object(members), Value::Object(object)) => walk_object(object, members, signed, trail),
        (Kind::List(of), Value::Array(items)) => items
            .iter()
            .enumerate()
            .try_for_each(|(i, item)| walk(item, of, signed, trail).inspect_err(|_| trail.push(Step::Item(i)))),
        (Kind::Text(form), Value::String(text)) => form.check(text),
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

fn walk_object(
    object: &Map<String, Value>,
    members: &[Member],
    signed: bool,
    trail: &mut Vec<Step>,
) -> Result<(), String> {
    for (name, value) in object {
        let checked = match members.iter().find(|m| m.name == name) {
            Some(member) => walk(value, member.kind, signed, trail),
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
        Need::WhenSigned => signed && !object.contains_key(m.name),
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
            Kind::List(Kind::Object(_)) => "a list of objects",
            Kind::List(_) => "a list of strings",
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

impl Form {
    fn noun(self) -> &'static str {
        match self {
            Form::Any => "a string",
            Form::Filled => "a string that is not empty",
            Form::Id => "an id: 1 to 63 letters, digits, '.', '_' or '-', with a letter or digit at both ends",
            Form::Version => "a version in quotes, such as \"1\" or \"1.2.0\"",
            Form::Status => "one of draft, active, archived",
            Form::Hex(64) => "64 lower-case hex digits",
            Form::Hex(_) => "128 lower-case hex digits",
            Form::Time => "a time with a zone as in RFC 3339, such as \"2026-06-01T00:00:00Z\"",
            Form::Host => "*, *.domain or a host without port, such as \"api.example.com\"",
            Form::Path => "a path without empty, '.' or '..' parts, such as \"/tmp/*\" or \"data/report.txt\"",
        }
    }

    fn check(self, text: &str) -> Result<(), String> {
        let ok = match self {
            Form::Any => true,
            Form::Filled => !text.is_empty(),
            Form::Id => is_id(text),
            Form::Version => match text.parse::<Version>() {
                Err(why @ (VersionFault::LeadingZero | VersionFault::TooLarge)) => return Err(why.to_string()),
                parsed => parsed.is_ok(),
            },
            Form::Status => super::Status::from_word(text).is_some(),
            Form::Hex(digits) => text.len() == digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')),
            Form::Time => time::parse(text).is_some(),
            Form::Host => HostPattern::parse(text).is_some(),
            Form::Path => PathPattern::parse(text).is_some(),
        };
        if ok { Ok(()) } else { Err(format!("expected {}, found {}", self.noun(), quoted(text))) }
    }
}

/// Whether a text can be the id of a policy, a workspace or a key: a valid value of a label of the cluster, and never
/// empty.
#[must_use]
pub fn is_id(text: &str) -> bool {
    let bytes = text.as_bytes();
    let ends = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    bytes.len() <= 63
        && ends(bytes.first())
        && ends(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}
