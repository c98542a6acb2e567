//! `sekuire schema`: JSON Schema for editors.

use clap::Subcommand;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Value, json};

use super::trust::API_VERSION;
use super::{Outcome, emit};
use crate::api::document_schema::PolicyDocument;
use crate::policy::AgentSpec;
use crate::policy::document::json_schema;

const DRAFT: &str = "https://json-schema.org/draft/2020-12/schema";

/// Print a JSON Schema, with which an editor completes members, explains them, and marks those that are misspelt.
#[derive(Subcommand, Debug)]
#[command(after_help = "Examples:
  sekuire schema policy > policy.schema.json
  sekuire schema agent > agent.schema.json

An editor with the YAML language server takes the schema that the first line of a YAML file names, such as
`# yaml-language-server: $schema=policy.schema.json`. For JSON, name the schema in the settings of the editor: a policy
document must not have a member $schema.

The output is a JSON Schema of draft 2020-12. A schema does not say whether a document verifies: see
`sekuire policy validate`.")]
pub(super) enum Schema {
    /// Of policy documents, signed or still to be signed.
    Policy,
    /// Of manifests of the kind Agent.
    Agent,
}

impl Schema {
    pub(super) fn run(self) -> anyhow::Result<Outcome> {
        let schema = match self {
            Schema::Policy => policy(),
            Schema::Agent => agent(),
        };
        emit(&format!("{schema:#}\n"))?;
        Ok(Outcome::Fine)
    }
}

/// What the core checks, explained with the words of the cluster's schema.
fn policy() -> Value {
    let mut schema = json_schema();
    explain(&mut schema, &generated::<PolicyDocument>());
    headed("policy", "Sekuire policy document", schema)
}

fn agent() -> Value {
    let mut metadata = generated::<ObjectMeta>();
    metadata["additionalProperties"] = false.into();
    metadata["anyOf"] = json!([{"required": ["name"]}, {"required": ["generateName"]}]);
    headed(
        "agent",
        "Sekuire Agent",
        json!({
            "description": "An AI agent: its models, its tools, and what it asks for. It is admitted only where it complies \
                with the policy of the workspace that its namespace belongs to.",
            "type": "object",
            "required": ["apiVersion", "kind", "metadata", "spec"],
            "properties": {
                "apiVersion": {"const": API_VERSION},
                "kind": {"const": "Agent"},
                "metadata": metadata,
                "spec": generated::<AgentSpec>(),
                "status": {"type": "object", "description": "Written by the controller."},
            },
            "additionalProperties": false,
        }),
    )
}

/// A schema with what says which one it is, in front.
fn headed(name: &str, title: &str, schema: Value) -> Value {
    let mut headed = json!({"$schema": DRAFT, "$id": format!("urn:sekuire:v1alpha1:{name}"), "title": title});
    if let (Value::Object(headed), Value::Object(schema)) = (&mut headed, schema) {
        headed.extend(schema);
    }
    headed
}

/// The schema of a type, whole and without what only an API server understands.
fn generated<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    plain(&mut schema);
    schema
}

fn plain(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            map.retain(|name, _| !name.starts_with("x-") && name != "$schema" && name != "title");
            map.values_mut().for_each(plain);
        }
        Value::Array(list) => list.iter_mut().for_each(plain),
        _ => {}
    }
}

/// Takes the descriptions over, place by place, in front of what a schema says itself.
fn explain(schema: &mut Value, words: &Value) {
    if let Some(said) = words["description"].as_str() {
        let said = said.replace('\n', " ");
        schema["description"] = match schema["description"].as_str() {
            Some(expected) => format!("{said} {expected}").into(),
            None => said.into(),
        };
    }
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        properties.iter_mut().for_each(|(name, property)| explain(property, &words["properties"][name]));
    }
    if let Some(items) = schema.get_mut("items") {
        explain(items, &words["items"]);
    }
}
