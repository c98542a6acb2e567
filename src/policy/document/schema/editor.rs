//! The table as JSON Schema (draft 2020-12), for editors.
//!
//! It accepts whatever [`super::check`] accepts of a document that is still to be signed, and refuses what an editor can
//! see: members that are misspelt, missing or of another type. What takes more than a pattern is left to `check`.

use serde_json::{Map, Value, json};

use super::super::Status;
use super::{DOCUMENT, Form, Kind, Member, Need, SYNONYMS};

/// The schema of a policy document.
#[must_use]
pub fn json_schema() -> Value {
    schema(&DOCUMENT)
}

fn schema(kind: &Kind) -> Value {
    match kind {
        Kind::Object(members) => object(members),
        Kind::List(of) => json!({"type": "array", "items": schema(of)}),
        Kind::Few(most, of) => json!({"type": "array", "maxItems": most, "items": schema(of)}),
        Kind::Text(form) => text(*form),
        Kind::Flag => json!({"type": "boolean"}),
        Kind::Count => json!({"type": "integer", "minimum": 0, "maximum": (1_u64 << 53) - 1}),
    }
}

fn object(members: &[Member]) -> Value {
    let required = members.iter().filter(|member| member.need == Need::Always).map(|member| member.name);
    let properties: Map<String, Value> =
        members.iter().map(|member| (member.name.to_owned(), schema(member.kind))).collect();
    let mut schema = json!({"type": "object", "additionalProperties": false});
    let required: Vec<&str> = required.collect();
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    if properties.contains_key(SYNONYMS.0) && properties.contains_key(SYNONYMS.1) {
        schema["not"] = json!({"required": [SYNONYMS.0, SYNONYMS.1]});
    }
    schema["properties"] = properties.into();
    schema
}

fn text(form: Form) -> Value {
    let mut schema = json!({"type": "string"});
    let mut say = |name: &str, value: Value| schema[name] = value;
    match form {
        Form::Any => return schema,
        Form::Filled | Form::Name | Form::Host | Form::Path => say("minLength", 1.into()),
        Form::Image => say("pattern", "^(localhost(/.*)?|[^/]*[.:*].*)$".into()),
        Form::Prefix => say("pattern", "^/".into()),
        Form::Id => say("pattern", "^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$".into()),
        Form::Version => say("pattern", r"^(0|[1-9][0-9]{0,9})(\.(0|[1-9][0-9]{0,9})){0,2}$".into()),
        Form::Status => say("enum", json!([Status::Draft, Status::Active, Status::Archived])),
        Form::Hex(digits) => say("pattern", format!("^[0-9a-f]{{{digits}}}$").into()),
        Form::Time => say("format", "date-time".into()),
    }
    say("description", format!("Expected: {}.", form.noun()).into());
    schema
}
