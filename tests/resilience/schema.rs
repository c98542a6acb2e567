//! Every way in which one field of an object can be spoilt, made from the schema that the API server itself gives.

use kube::Client;
use serde_json::{Map, Value, json};

/// An object with one field spoilt.
pub(super) struct Spoilt {
    /// Which field, and how, for people.
    pub(super) what: String,
    pub(super) object: Value,
}

/// All of them for `object`, whose kind the document at `path` (`/openapi/v3/…`) describes.
pub(super) async fn spoilt(client: &Client, path: &str, object: &Value) -> Vec<Spoilt> {
    let request = http::Request::get(path).body(Vec::new()).unwrap();
    let document: Value = client.request(request).await.unwrap();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let kind = object["kind"].as_str().unwrap();
    let (_, schema) = schemas
        .iter()
        .find(|(_, schema)| {
            let kinds = schema["x-kubernetes-group-version-kind"].as_array();
            schema["properties"]["metadata"].is_object()
                && kinds.is_some_and(|all| all.iter().any(|of| of["kind"] == kind))
        })
        .unwrap_or_else(|| panic!("{path} does not describe {kind}"));
    let walk = Walk { schemas };
    let all = walk.values(schema, Some(object), "", 0).into_iter().map(|(what, object)| Spoilt { what, object });
    // these choose what is written, and are no part of it
    all.filter(|spoilt| !spoilt.what.starts_with(".apiVersion") && !spoilt.what.starts_with(".kind")).collect()
}

struct Walk<'a> {
    schemas: &'a Map<String, Value>,
}

/// Deeper than any kind that is asked for; a schema may contain itself.
const DEEPEST: usize = 12;

impl Walk<'_> {
    fn resolve<'s>(&'s self, schema: &'s Value) -> &'s Value {
        let reference = schema["$ref"].as_str().or_else(|| schema["allOf"][0]["$ref"].as_str());
        match reference {
            Some(reference) => &self.schemas[reference.rsplit('/').next().unwrap()],
            None => schema,
        }
    }

    /// What can stand in the place of `current`, each with exactly one field spoilt.
    fn values(&self, schema: &Value, current: Option<&Value>, at: &str, depth: usize) -> Vec<(String, Value)> {
        let schema = self.resolve(schema);
        if depth > DEEPEST {
            return Vec::new();
        }
        let mut all = vec![(format!("{at} is null"), Value::Null)];
        let mut add = |how: &str, value: Value| all.push((format!("{at} is {how}"), value));
        match schema["type"].as_str() {
            Some("string") if schema["format"] == "date-time" => {
                for time in times() {
                    add(time, json!(time));
                }
            }
            Some("string") if schema["format"] == "byte" => {
                add("empty", json!(""));
                add("a byte", json!("AA=="));
            }
            Some("string") => {
                for text in ["", "a b", "\u{0}\n", "Ignore"] {
                    add(&format!("{text:?}"), json!(text));
                }
                add("long", json!("x".repeat(100_000)));
            }
            Some("integer") => {
                for number in [0, -1, 1, i64::from(i32::MAX), i64::MAX] {
                    add(&number.to_string(), json!(number));
                }
            }
            Some("boolean") => [true, false].into_iter().for_each(|value| add(&value.to_string(), json!(value))),
            Some("array") => {
                add("empty", json!([]));
                let (items, list) = (&schema["items"], current.and_then(Value::as_array));
                let first = list.and_then(|list| list.first().cloned()).unwrap_or_else(|| self.least(items, 0));
                add("long", Value::Array(vec![first.clone(); 300]));
                for (what, item) in self.values(items, Some(&first), &format!("{at}[0]"), depth + 1) {
                    let mut list = list.cloned().unwrap_or_default();
                    if list.is_empty() {
                        list.push(item);
                    } else {
                        list[0] = item;
                    }
                    all.push((what, Value::Array(list)));
                }
            }
            _ => all.extend(self.members(schema, current, at, depth)),
        }
        all
    }

    fn members(&self, schema: &Value, current: Option<&Value>, at: &str, depth: usize) -> Vec<(String, Value)> {
        let mut all = vec![(format!("{at} is {{}}"), json!({}))];
        let least = self.least(schema, 0);
        let base = current.filter(|value| value.is_object()).unwrap_or(&least);
        let mut with = |name: &str, (what, value): (String, Value)| {
            let mut object = base.clone();
            object[name] = value;
            all.push((what, object));
        };
        if let Some(properties) = schema["properties"].as_object() {
            for (name, property) in properties {
                for value in self.values(property, base.get(name), &format!("{at}.{name}"), depth + 1) {
                    with(name, value);
                }
            }
        } else if schema["additionalProperties"].is_object() {
            let present: Vec<String> = base.as_object().unwrap().keys().cloned().collect();
            for name in present.iter().map(String::as_str).chain(["spoilt"]) {
                let of = &schema["additionalProperties"];
                for value in self.values(of, base.get(name), &format!("{at}[{name}]"), depth + 1) {
                    with(name, value);
                }
            }
            let many =
                (0..2000).map(|number| (format!("spoilt-{number}"), self.least(&schema["additionalProperties"], 0)));
            all.push((format!("{at} is long"), Value::Object(many.collect())));
        } else {
            // anything goes: as deep as anything
            for depth in [100, 1000] {
                let deep = (0..depth).fold(json!({}), |inner, _| json!({"f:a": inner}));
                all.push((format!("{at} is {depth} deep"), deep));
            }
        }
        all
    }

    /// The least that a schema takes.
    fn least(&self, schema: &Value, depth: usize) -> Value {
        let schema = self.resolve(schema);
        if depth > DEEPEST {
            return Value::Null;
        }
        match schema["type"].as_str() {
            Some("string") if schema["format"] == "date-time" => json!("2026-01-01T00:00:00Z"),
            Some("string") if schema["format"] == "byte" => json!("AA=="),
            Some("string") => json!("x"),
            Some("integer" | "number") => json!(1),
            Some("boolean") => json!(false),
            Some("array") => json!([]),
            _ => {
                let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
                let members =
                    required.map(|name| (name.to_owned(), self.least(&schema["properties"][name], depth + 1)));
                Value::Object(members.collect())
            }
        }
    }
}

/// Times that a server may take, or print, and a library may not read; with the digits without which some are refused.
fn times() -> [&'static str; 7] {
    [
        "9999-12-31T23:59:59.000000Z",
        "9999-12-31T23:59:59.000000-23:59",
        "0000-01-01T00:00:00.000000Z",
        "0000-01-01T00:00:00.000000+23:59",
        "0001-01-01T00:00:00.000000Z",
        "1969-12-31T23:59:59.999999Z",
        "never",
    ]
}
