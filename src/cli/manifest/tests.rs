use kube::CustomResourceExt as _;

use super::*;
use crate::api;

#[test]
fn a_stream_is_cut_at_its_boundaries_and_what_is_empty_is_left_out() {
    let stream = "# head\n---\na: 1\n--- # why\n\n---\nb: |\n  ---\n  x\n---x: 2\n";
    let found = pieces(stream);
    assert_eq!(found.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [2, 6]);
    assert!(found[1].1.contains("  ---\n  x\n---x: 2"));
}

/// The words that the schemas of our kinds are made of.
fn words(schema: &Value, all: &mut Vec<String>) {
    for (word, value) in schema.as_object().into_iter().flatten() {
        all.push(word.clone());
        match word.as_str() {
            "properties" => value.as_object().into_iter().flatten().for_each(|(_, schema)| words(schema, all)),
            "items" | "additionalProperties" => words(value, all),
            _ => {}
        }
    }
}

#[test]
fn every_word_of_the_schemas_of_what_is_read_is_one_that_is_checked() {
    // what is checked here, what CEL does, and what says nothing of a value
    const CHECKED: [&str; 17] = [
        "type",
        "properties",
        "items",
        "additionalProperties",
        "required",
        "nullable",
        "enum",
        "pattern",
        "minLength",
        "maxLength",
        "minItems",
        "maxItems",
        "minimum",
        "maximum",
        "x-kubernetes-list-type",
        "x-kubernetes-list-map-keys",
        "x-kubernetes-preserve-unknown-fields",
    ];
    const OTHER: [&str; 5] = ["x-kubernetes-validations", "description", "title", "default", "x-kubernetes-map-type"];
    let kinds = [api::Agent::crd(), api::SigningKey::crd(), api::SigningThreshold::crd(), api::PolicyRepository::crd()];
    for crd in kinds {
        let schema = crd.spec.versions.into_iter().find_map(|version| version.schema?.open_api_v3_schema);
        let (schema, mut all) = (serde_json::to_value(schema).unwrap(), Vec::new());
        words(&schema, &mut all);
        // formats: of numbers their size, of texts none that the API server holds them to, but times
        all.retain(|word| word != "format" && !CHECKED.contains(&&**word) && !OTHER.contains(&&**word));
        assert_eq!(all, [""; 0], "{}", crd.spec.names.kind);
        assert!(kube::core::cel::compile_schema(&schema).compilation_errors().is_empty());
    }
}
