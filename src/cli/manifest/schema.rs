//! Objects held against the schema that the API server has of their kind.
//!
//! By hand, since a schema of Kubernetes is no JSON Schema: null stands for a member that is not there, lists can be maps or
//! sets, and a member that the schema does not know is refused (as by `kubectl apply`, which validates strictly). Rules in
//! CEL are evaluated by kube's library.

use std::collections::HashSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::CustomResourceExt;
use kube::core::cel::{CompiledSchema, Validator, compile_schema};
use kube::core::schema::StructuralSchemaRewriter;
use regex::Regex;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::{Step, path};

/// More are not listed of one object.
const MAX_FAULTS: usize = 16;

/// The schema of a kind, as it is served.
pub(in crate::cli) struct Served {
    schema: Value,
    metadata: Value,
    rules: CompiledSchema,
    validator: Validator,
}

impl Served {
    /// That of a kind of ours.
    pub(in crate::cli) fn of<K: CustomResourceExt>() -> Served {
        let versions = K::crd().spec.versions;
        let schema = versions.into_iter().find_map(|version| version.schema?.open_api_v3_schema);
        // without a schema no member is known, so that none is taken; our kinds have one
        let nothing = || json!({"type": "object", "properties": {}});
        let schema = schema.and_then(|schema| serde_json::to_value(schema).ok()).unwrap_or_else(nothing);
        let settings = SchemaSettings::openapi3().with(|settings| settings.inline_subschemas = true);
        let metadata =
            settings.with_transform(StructuralSchemaRewriter).into_generator().into_root_schema_for::<ObjectMeta>();
        Served { rules: compile_schema(&schema), validator: Validator::new(), schema, metadata: metadata.to_value() }
    }

    /// Takes null members out, as the API server does, and holds the object against types, bounds and rules. Rules that
    /// compare with an object that is there already do not apply.
    ///
    /// # Errors
    /// What is wrong, each with its path.
    pub(in crate::cli) fn check(&self, value: &mut Value) -> Result<(), Vec<String>> {
        let mut walk = Walk::default();
        let Value::Object(members) = value else { return Err(vec![wrong("an object", value)]) };
        let mut metadata = members.remove("metadata").filter(|metadata| !metadata.is_null());
        if let Some(metadata) = &mut metadata {
            walk.within(Step::Member("metadata".to_owned()), |walk| walk.value(metadata, &self.metadata));
        }
        for name in ["apiVersion", "kind"] {
            walk.known.insert(name.to_owned());
        }
        walk.object(members, &self.schema);
        if let Some(metadata) = metadata {
            members.insert("metadata".to_owned(), metadata);
        }
        if walk.faults.is_empty()
            && let Err(errors) = self.validator.validate_compiled(&self.rules, value, None)
        {
            walk.faults.extend(errors.into_iter().map(|error| error.to_string()));
        }
        if walk.faults.is_empty() { Ok(()) } else { Err(walk.faults) }
    }
}

#[derive(Default)]
struct Walk {
    steps: Vec<Step>,
    faults: Vec<String>,
    /// Members of the root that its schema need not name.
    known: HashSet<String>,
}

impl Walk {
    fn within(&mut self, step: Step, walk: impl FnOnce(&mut Walk)) {
        self.steps.push(step);
        walk(self);
        self.steps.pop();
    }

    fn fault(&mut self, message: &str) {
        if self.faults.len() < MAX_FAULTS {
            let path = path(self.steps.iter().map(|step| match step {
                Step::Member(name) => Step::Member(name.clone()),
                Step::Item(index) => Step::Item(*index),
            }));
            self.faults.push(if path.is_empty() { message.to_owned() } else { format!("{path}: {message}") });
        }
    }

    fn value(&mut self, value: &mut Value, schema: &Value) {
        let text = |name: &str| schema.get(name).and_then(Value::as_str);
        let flag = |name: &str| schema.get(name).and_then(Value::as_bool) == Some(true);
        if value.is_null() && flag("nullable") {
            return;
        }
        match (text("type"), value) {
            (Some("object"), Value::Object(members)) => self.object(members, schema),
            (Some("array"), Value::Array(items)) => self.list(items, schema),
            (Some("string"), Value::String(text)) => self.text(text, schema),
            (Some("integer"), Value::Number(number)) if !number.is_f64() => self.number(number.as_f64(), schema),
            (Some("number"), Value::Number(number)) => self.number(number.as_f64(), schema),
            (Some("boolean"), Value::Bool(_)) | (None, _) => {}
            (Some(kind), value) => self.fault(&wrong(noun(kind), value)),
        }
    }

    fn object(&mut self, members: &mut Map<String, Value>, schema: &Value) {
        let properties = schema.get("properties").and_then(Value::as_object);
        let of_all = schema.get("additionalProperties").filter(|schema| schema.is_object());
        let open = schema.get("x-kubernetes-preserve-unknown-fields").and_then(Value::as_bool) == Some(true)
            || (properties.is_none() && of_all.is_none());
        let mut nulls = Vec::new();
        for (name, value) in &mut *members {
            let of_one = properties.and_then(|properties| properties.get(name)).or(of_all);
            let Some(schema) = of_one else {
                let known_here = self.steps.is_empty() && self.known.contains(name);
                if !open && !known_here {
                    let known: Vec<&str> = properties.into_iter().flatten().map(|(name, _)| &**name).collect();
                    let message = unknown(name, &known);
                    self.within(Step::Member(name.clone()), |walk| walk.fault(&message));
                }
                continue;
            };
            if value.is_null() && schema.get("nullable").and_then(Value::as_bool) != Some(true) {
                nulls.push(name.clone());
                continue;
            }
            self.within(Step::Member(name.clone()), |walk| walk.value(value, schema));
        }
        for name in nulls {
            members.shift_remove(&name);
        }
        for name in schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
            let said_elsewhere = self.steps.is_empty() && name == "metadata";
            if !members.contains_key(name) && !said_elsewhere {
                self.within(Step::Member(name.to_owned()), |walk| walk.fault("is missing"));
            }
        }
    }

    fn list(&mut self, items: &mut [Value], schema: &Value) {
        self.length(items.len(), "items", (bound(schema, "minItems"), bound(schema, "maxItems")));
        if bound(schema, "maxItems").is_some_and(|most| items.len() > most) {
            return;
        }
        let keys: Vec<&str> = schema
            .get("x-kubernetes-list-map-keys")
            .and_then(Value::as_array)
            .map(|keys| keys.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default();
        let set = schema.get("x-kubernetes-list-type").and_then(Value::as_str) == Some("set");
        let mut seen = HashSet::new();
        for (index, item) in items.iter_mut().enumerate() {
            if let Some(of) = schema.get("items") {
                self.within(Step::Item(index), |walk| walk.value(item, of));
            }
            let key = match keys.as_slice() {
                [] if set => item.to_string(),
                [] => continue,
                keys => keys.iter().map(|key| item.get(key).map(Value::to_string).unwrap_or_default() + "\n").collect(),
            };
            if !seen.insert(key) {
                let what = if set { "the item".to_owned() } else { format!("the {}", keys.join(" and ")) };
                self.within(Step::Item(index), |walk| {
                    walk.fault(&format!("{what} of one before it; expected each once"));
                });
            }
        }
    }

    fn text(&mut self, text: &str, schema: &Value) {
        let least = bound(schema, "minLength");
        self.length(text.chars().count(), "characters", (least, bound(schema, "maxLength")));
        if let Some(allowed) = schema.get("enum").and_then(Value::as_array)
            && !allowed.iter().any(|word| word.as_str() == Some(text))
        {
            let allowed: Vec<&str> = allowed.iter().filter_map(Value::as_str).collect();
            self.fault(&format!("{text:?}; expected one of {}", allowed.join(", ")));
        }
        if let Some(pattern) = schema.get("pattern").and_then(Value::as_str)
            && !Regex::new(pattern).is_ok_and(|regex| regex.is_match(text))
        {
            self.fault(&format!("{text:?}; expected what {pattern} matches"));
        }
    }

    fn length(&mut self, length: usize, unit: &str, (least, most): (Option<usize>, Option<usize>)) {
        match (least, most) {
            (Some(least), _) if length < least => self.fault(&format!("{length} {unit}; expected at least {least}")),
            (_, Some(most)) if length > most => self.fault(&format!("{length} {unit}; expected at most {most}")),
            _ => {}
        }
    }

    fn number(&mut self, number: Option<f64>, schema: &Value) {
        let (Some(number), limit) = (number, |name: &str| schema.get(name).and_then(Value::as_f64)) else { return };
        if let Some(least) = limit("minimum").filter(|least| number < *least) {
            self.fault(&format!("{number}; expected at least {least}"));
        }
        if let Some(most) = limit("maximum").filter(|most| number > *most) {
            self.fault(&format!("{number}; expected at most {most}"));
        }
    }
}

fn bound(schema: &Value, name: &str) -> Option<usize> {
    schema.get(name).and_then(Value::as_u64).and_then(|bound| usize::try_from(bound).ok())
}

fn noun(kind: &str) -> &'static str {
    match kind {
        "object" => "an object",
        "array" => "a list",
        "string" => "a text",
        "integer" => "a whole number",
        "number" => "a number",
        _ => "true or false",
    }
}

/// What a value is, in words.
pub(super) fn found(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) if text.chars().count() <= 64 => format!("{text:?}"),
        Value::String(_) => "a text".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

/// That a value is not of the type that is expected.
pub(in crate::cli) fn wrong(expected: &str, value: &Value) -> String {
    let advice = match value {
        Value::Bool(_) | Value::Number(_) if expected == "a text" => "; put it in quotes",
        Value::String(_) if matches!(expected, "a whole number" | "a number" | "true or false") => ", without quotes",
        _ => "",
    };
    format!("found {}, expected {expected}{advice}", found(value))
}

/// That a member is not known, with what it resembles, or all that is known.
pub(in crate::cli) fn unknown(name: &str, known: &[&str]) -> String {
    const NEAR: usize = 2;
    let distance = |other: &str| strsim::damerau_levenshtein(&name.to_lowercase(), &other.to_lowercase());
    let near = known.iter().min_by_key(|other| distance(other)).filter(|other| distance(other) <= NEAR);
    match near {
        Some(other) => format!("unknown member; did you mean {other}?"),
        None if known.is_empty() => "unknown member; expected none here".to_owned(),
        None => format!("unknown member; expected one of {}", known.join(", ")),
    }
}
