//! The CustomResourceDefinitions, generated from the types.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value};

use super::{Agent, PolicyLedger, PolicyRepository, SigningKey, SigningThreshold, WorkspacePolicy};

/// One file name and one definition for each kind, as they stand in `crds/`.
///
/// # Errors
/// When a definition cannot be serialised, which a test of this crate would have shown.
pub fn all() -> Result<Vec<(String, Value)>, serde_json::Error> {
    let platform = [PolicyRepository::crd(), SigningKey::crd(), SigningThreshold::crd()];
    let others = [WorkspacePolicy::crd(), PolicyLedger::crd(), Agent::crd()];
    platform.into_iter().chain(others).map(|crd| Ok((file_name(&crd), tidy(serde_json::to_value(crd)?)))).collect()
}

fn file_name(crd: &CustomResourceDefinition) -> String {
    format!("{}_{}.yaml", crd.spec.group, crd.spec.names.plural)
}

/// What the generator leaves behind and the API server would warn of, or users would stumble over.
fn tidy(mut crd: Value) -> Value {
    if let Some(object) = crd.as_object_mut() {
        object.remove("status");
    }
    if let Some(schema) = crd.pointer_mut("/spec/versions/0/schema/openAPIV3Schema") {
        tidy_schema(schema, "");
        lift_description(schema);
    }
    crd
}

/// The generator describes the kind where it found the words, at `spec`; `kubectl explain KIND` prints those of the root.
fn lift_description(schema: &mut Value) {
    let words = schema
        .pointer_mut("/properties/spec/description")
        .map(|text| std::mem::replace(text, "What the object says.".into()));
    if let (Some(words), Some(root)) = (words, schema.as_object_mut()) {
        root.insert("description".to_owned(), words);
    }
}

fn tidy_schema(schema: &mut Value, name: &str) {
    match schema {
        Value::Object(map) => tidy_object(map, name),
        Value::Array(list) => list.iter_mut().for_each(|item| tidy_schema(item, "")),
        _ => {}
    }
}

fn tidy_object(map: &mut Map<String, Value>, name: &str) {
    // `revoked: null` must not be pruned: its presence revokes
    if name != "revoked" {
        map.remove("nullable");
    }
    map.remove("title");
    // the API server knows no unsigned formats, and says so with a warning at each apply
    if let Some(format) = map.get_mut("format") {
        match format.as_str() {
            Some("uint32" | "uint16" | "uint8") => *format = "int32".into(),
            Some("uint64" | "uint") => *format = "int64".into(),
            _ => {}
        }
    }
    if let Some(Value::String(text)) = map.get_mut("description") {
        *text = text.replace('\n', " ");
    }
    for (key, child) in map.iter_mut() {
        if key == "properties" {
            if let Value::Object(properties) = child {
                properties.iter_mut().for_each(|(name, schema)| tidy_schema(schema, name));
            }
        } else {
            tidy_schema(child, "");
        }
    }
}

/// Schema of `status.conditions`: a list map by type, as in the Kubernetes API conventions.
pub fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["type", "status", "reason", "message", "lastTransitionTime"],
            "properties": {
                "type": {"type": "string", "maxLength": 316, "description": "What the condition is about, such as `Ready`."},
                "status": {"type": "string", "enum": ["True", "False", "Unknown"], "description": "Whether it is so."},
                "reason": {"type": "string", "maxLength": 1024, "description": "One word of a closed set: why."},
                "message": {"type": "string", "maxLength": 32768, "description": "The same, in a sentence for people."},
                "observedGeneration": {"type": "integer", "format": "int64", "minimum": 0,
                    "description": "The generation of the object that the condition speaks of."},
                "lastTransitionTime": {"type": "string", "format": "date-time",
                    "description": "When the status last changed."},
            }
        }
    })
}

/// Schema of a version.
pub fn version(_: &mut SchemaGenerator) -> Schema {
    let pattern = "^(0|[1-9][0-9]{0,9})([.](0|[1-9][0-9]{0,9})){0,2}$";
    json_schema!({"type": "string", "maxLength": 32, "pattern": pattern})
}

/// Schema of the lifecycle of an accepted document.
pub fn lifecycle(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "enum": ["active", "archived"]})
}
