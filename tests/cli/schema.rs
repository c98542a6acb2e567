//! `sekuire schema`, with a JSON Schema validator that is not ours.

use std::fs;
use std::path::Path;

use boon::{Compiler, SchemaIndex, Schemas};
use serde_json::{Value, json};

use super::support::{Desk, JSON, YAML};

const VECTORS: &str = include_str!("../vectors/policy-documents.json");

struct Schema {
    text: Value,
    schemas: Schemas,
    index: SchemaIndex,
}

impl Schema {
    fn of(kind: &str) -> Schema {
        let ended = Desk::new().run(&["schema", kind]);
        assert_eq!(ended.code, 0, "{}", ended.err);
        let text: Value = serde_json::from_str(&ended.out).unwrap();
        assert_eq!(text["$schema"], "https://json-schema.org/draft/2020-12/schema");
        let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
        compiler.enable_format_assertions();
        let id = text["$id"].as_str().unwrap();
        compiler.add_resource(id, text.clone()).unwrap();
        let index = compiler.compile(id, &mut schemas).unwrap_or_else(|e| panic!("{e:#}"));
        Schema { text, schemas, index }
    }

    /// What is wrong with a value.
    fn fault(&self, value: &Value) -> Option<String> {
        self.schemas.validate(value, self.index).err().map(|e| format!("{e:#}"))
    }

    #[track_caller]
    fn accepts(&self, value: &Value) {
        if let Some(fault) = self.fault(value) {
            panic!("{fault}\n{value:#}");
        }
    }

    #[track_caller]
    fn refuses(&self, value: &Value, place: &str) {
        let fault = self.fault(value).unwrap_or_else(|| panic!("accepted: {value:#}"));
        assert!(fault.contains(place), "{place} is not in: {fault}");
    }
}

fn examples(folder: &str) -> Vec<Value> {
    let mut found = Vec::new();
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("policies-example").join(folder)).unwrap() {
        for file in fs::read_dir(entry.unwrap().path()).unwrap() {
            found.push(serde_yaml::from_str(&fs::read_to_string(file.unwrap().path()).unwrap()).unwrap());
        }
    }
    assert!(!found.is_empty());
    found
}

#[test]
fn the_schema_of_policies_accepts_all_that_verify_and_all_that_are_still_to_be_signed() {
    let schema = Schema::of("policy");
    examples("policies").iter().for_each(|document| schema.accepts(document));
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    let mut verified = 0;
    for case in vectors["cases"].as_array().unwrap().iter().filter(|case| case["expect"] == "Verified") {
        let document = match case.get("raw") {
            Some(raw) => serde_yaml::from_str(raw.as_str().unwrap()).unwrap(),
            None => case["document"].clone(),
        };
        schema.accepts(&document);
        verified += 1;
    }
    assert!(verified > 5, "{verified}");
    schema.accepts(&serde_json::from_str(JSON).unwrap());
    schema.accepts(&serde_yaml::from_str(YAML).unwrap());
}

#[test]
fn the_schema_of_policies_refuses_what_is_misspelt_missing_or_of_another_type() {
    let schema = Schema::of("policy");
    let good: Value = serde_json::from_str(JSON).unwrap();
    for (path, value, place) in [
        ("/contents", json!({}), "contents"),
        ("/content/agent/model", json!({}), "model"),
        ("/content/agent/models/denied_model", json!([]), "denied_model"),
        ("/content/agent/models/denied_models", json!("gpt-3*"), "/content/agent/models/denied_models"),
        ("/content/agent/models/blocked_models", json!([]), "/content/agent/models"),
        ("/content/compliance", json!({"retention_days": -1}), "retention_days"),
        ("/content/permissions", json!({"network": {"enable": true}}), "enable"),
        ("/status", json!("enabled"), "/status"),
        ("/version", json!(1.9), "/version"),
        ("/workspace_id", json!("ws a"), "/workspace_id"),
        ("/expires_at", json!("tomorrow"), "/expires_at"),
        ("/hash", json!("00"), "/hash"),
        ("/$schema", json!("policy.schema.json"), "$schema"),
    ] {
        let mut bad = good.clone();
        let (parent, name) = path.rsplit_once('/').unwrap();
        bad.pointer_mut(parent).unwrap()[name] = value;
        schema.refuses(&bad, place);
    }
    for required in ["policy_id", "workspace_id", "version", "status", "content"] {
        let mut bad = good.clone();
        bad.as_object_mut().unwrap().remove(required);
        schema.refuses(&bad, required);
    }
}

#[test]
fn every_member_of_the_schemas_is_explained() {
    fn walk(schema: &Value, place: &str) {
        for (name, member) in schema["properties"].as_object().into_iter().flatten() {
            let place = format!("{place}.{name}");
            let words = member["description"].as_str().unwrap_or_default();
            let constant = member.get("const").is_some();
            assert!(constant || (!words.is_empty() && !words.starts_with("Expected")), "{place} is not explained");
            walk(member, &place);
        }
        if let Some(items) = schema.get("items") {
            walk(items, &format!("{place}[]"));
        }
    }
    for kind in ["policy", "agent"] {
        let schema = Schema::of(kind);
        assert!(schema.text["title"].as_str().is_some_and(|title| title.starts_with("Sekuire")));
        walk(&schema.text, kind);
    }
}

#[test]
fn the_schema_of_agents_accepts_the_examples_and_refuses_misspelt_members() {
    let schema = Schema::of("agent");
    let agents: Vec<Value> = examples("agents").into_iter().filter(|object| object["kind"] == "Agent").collect();
    assert!(agents.len() > 3);
    agents.iter().for_each(|agent| schema.accepts(agent));
    let good = json!({
        "apiVersion": "sekuire.ai/v1alpha1", "kind": "Agent",
        "metadata": {"generateName": "scout-", "namespace": "team", "labels": {"app": "scout"}},
        "spec": {"model": {"provider": "openai", "name": "gpt-4"}, "approval": {"mode": "All"}},
    });
    schema.accepts(&good);
    for (path, value, place) in [
        ("/specs", json!({}), "specs"),
        ("/kind", json!("Agents"), "/kind"),
        ("/apiVersion", json!("sekuire.ai/v1"), "/apiVersion"),
        ("/metadata", json!({"namespace": "team"}), "/metadata"),
        ("/metadata/lables", json!({}), "lables"),
        ("/spec/tool", json!([]), "tool"),
        ("/spec/model/provider", json!(1), "/spec/model/provider"),
        ("/spec/model/version", json!("4"), "version"),
        ("/spec/approval/mode", json!("Some"), "/spec/approval"),
        ("/spec/identity", json!({"sekuireId": "AB"}), "/spec/identity"),
    ] {
        let mut bad = good.clone();
        let (parent, name) = path.rsplit_once('/').unwrap();
        bad.pointer_mut(parent).unwrap()[name] = value;
        schema.refuses(&bad, place);
    }
}
