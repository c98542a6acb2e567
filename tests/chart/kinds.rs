//! The definitions of the kinds beside those of the last release: within a version, fields are only added, and are optional.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

const RELEASED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/chart/released");
const NOW: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/crds");

/// The definitions in a folder, by name.
fn definitions(folder: &str) -> Vec<Value> {
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let yaml = files.iter().filter(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    yaml.map(|path: &std::path::PathBuf| serde_yaml::from_str(&fs::read_to_string(path).unwrap()).unwrap()).collect()
}

fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// What one definition takes, or keeps, and a newer one of the same kind does not.
fn lost(old: &Value, new: &Value) -> Vec<String> {
    let mut lost = Vec::new();
    let kind = text(old, "/spec/names/kind");
    for place in ["/spec/group", "/spec/scope", "/spec/names"] {
        if old.pointer(place) != new.pointer(place) {
            lost.push(format!("{kind}{place} is another"));
        }
    }
    for version in old["spec"]["versions"].as_array().unwrap() {
        let name = text(version, "/name");
        let newer = new["spec"]["versions"].as_array().into_iter().flatten().find(|newer| text(newer, "/name") == name);
        let Some(newer) = newer.filter(|newer| newer["served"] == version["served"]) else {
            lost.push(format!("{kind} {name} is not served"));
            continue;
        };
        if version.get("subresources") != newer.get("subresources") {
            lost.push(format!("{kind} {name} has other subresources"));
        }
        let schema = |version: &Value| version["schema"]["openAPIV3Schema"].clone();
        narrower(&format!("{kind} {name} "), &schema(version), &schema(newer), &mut lost);
    }
    lost
}

/// Of schemas of one place: what the first takes, or keeps, and the second does not.
#[expect(clippy::too_many_lines, reason = "one step a word of the schema language")]
fn narrower(at: &str, old: &Value, new: &Value, lost: &mut Vec<String>) {
    for same in [
        "type",
        "format",
        "x-kubernetes-int-or-string",
        "x-kubernetes-list-type",
        "x-kubernetes-list-map-keys",
        "x-kubernetes-map-type",
        "x-kubernetes-embedded-resource",
        "x-kubernetes-preserve-unknown-fields",
        "nullable",
        "default",
    ] {
        // what was strict before may become lax in these two
        let lax = ["x-kubernetes-preserve-unknown-fields", "nullable"].contains(&same) && old.get(same).is_none();
        if old.get(same) != new.get(same) && !lax {
            lost.push(format!("{at}: {same}"));
        }
    }
    for (bound, upper) in [
        ("maximum", true),
        ("maxLength", true),
        ("maxItems", true),
        ("maxProperties", true),
        ("minimum", false),
        ("minLength", false),
        ("minItems", false),
        ("minProperties", false),
    ] {
        let tighter = match (old[bound].as_f64(), new[bound].as_f64()) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(old), Some(new)) => {
                if upper {
                    new < old
                } else {
                    new > old
                }
            }
        };
        if tighter {
            lost.push(format!("{at}: {bound}"));
        }
    }
    for written in [
        "pattern",
        "allOf",
        "anyOf",
        "oneOf",
        "not",
        "exclusiveMaximum",
        "exclusiveMinimum",
        "multipleOf",
        "uniqueItems",
    ] {
        if new.get(written).is_some() && old.get(written) != new.get(written) {
            lost.push(format!("{at}: {written}"));
        }
    }
    // what is a list of its own: nothing may come to it, or nothing may go
    let members = |schema: &Value, list: &str| -> BTreeSet<String> {
        schema[list].as_array().into_iter().flatten().map(ToString::to_string).collect()
    };
    let comes = |list: &str| members(new, list).difference(&members(old, list)).next().is_some();
    if comes("required") {
        lost.push(format!("{at}: required"));
    }
    let rules = |schema: &Value| -> BTreeSet<String> {
        schema["x-kubernetes-validations"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|rule| rule["rule"].to_string())
            .collect()
    };
    if rules(new).difference(&rules(old)).next().is_some() {
        lost.push(format!("{at}: x-kubernetes-validations"));
    }
    if new.get("enum").is_some()
        && (old.get("enum").is_none() || !members(new, "enum").is_superset(&members(old, "enum")))
    {
        lost.push(format!("{at}: enum"));
    }
    for (name, property) in old["properties"].as_object().into_iter().flatten() {
        match new["properties"].get(name) {
            Some(newer) => narrower(&format!("{at}.{name}"), property, newer, lost),
            None => lost.push(format!("{at}.{name}: is gone")),
        }
    }
    for (below, mark) in [("items", "[]"), ("additionalProperties", "{}")] {
        match (old.get(below), new.get(below)) {
            (Some(older), Some(newer)) => narrower(&format!("{at}{mark}"), older, newer, lost),
            (Some(_), None) => lost.push(format!("{at}{mark}: is gone")),
            (None, _) => {}
        }
    }
}

#[test]
fn kinds_take_and_keep_all_that_those_of_the_last_release_did() {
    let (released, now) = (definitions(RELEASED), definitions(NOW));
    assert!(released.len() >= 6, "{}", released.len());
    let mut found = BTreeSet::new();
    for old in &released {
        let new = now.iter().find(|new| new["metadata"]["name"] == old["metadata"]["name"]);
        match new {
            Some(new) => found.extend(lost(old, new)),
            None => _ = found.insert(format!("{} is gone", old["metadata"]["name"])),
        }
    }
    let changelog = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/CHANGELOG.md")).unwrap();
    let changelog: String = changelog.split_whitespace().collect::<Vec<_>>().join(" ");
    let list = fs::read_to_string(Path::new(RELEASED).join("narrowed.txt")).unwrap();
    let mut told = BTreeSet::new();
    for line in list.lines() {
        let (place, words) = line.split_once('\t').expect("a place, a tab, and words of the changelog");
        assert!(!words.is_empty() && changelog.contains(words), "CHANGELOG.md does not say of {place}: {words}");
        told.insert(place.to_owned());
    }
    assert_eq!(found, told, "left: what is narrower now; right: what tests/chart/released/narrowed.txt tells");
}

/// Every place of a schema, as a JSON pointer.
fn places(schema: &Value, at: &str, all: &mut Vec<String>) {
    all.push(at.to_owned());
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        places(property, &format!("{at}/properties/{name}"), all);
    }
    for below in ["items", "additionalProperties"] {
        if schema.get(below).is_some_and(Value::is_object) {
            places(&schema[below], &format!("{at}/{below}"), all);
        }
    }
}

#[test]
fn each_way_to_narrow_any_place_of_any_kind_is_noticed_and_what_widens_it_is_not() {
    type Change = fn(&mut serde_json::Map<String, Value>);
    let narrowing: [(&str, Change); 7] = [
        ("type", |schema| _ = schema.insert("type".to_owned(), "null".into())),
        ("maxLength", |schema| _ = schema.insert("maxLength".to_owned(), json!(0))),
        ("minLength", |schema| _ = schema.insert("minLength".to_owned(), json!(1_000_000))),
        ("pattern", |schema| _ = schema.insert("pattern".to_owned(), "^never$".into())),
        ("enum", |schema| _ = schema.insert("enum".to_owned(), json!(["never"]))),
        ("required", |schema| _ = schema.insert("required".to_owned(), json!(["never"]))),
        ("x-kubernetes-validations", |schema| {
            schema.insert("x-kubernetes-validations".to_owned(), json!([{"rule": "false"}]));
        }),
    ];
    let mut tried = 0;
    for old in definitions(NOW) {
        const SCHEMA: &str = "/spec/versions/0/schema/openAPIV3Schema";
        assert_eq!(lost(&old, &old), Vec::<String>::new());
        let mut all = Vec::new();
        places(old.pointer(SCHEMA).unwrap(), SCHEMA, &mut all);
        for place in all {
            for (what, narrow) in narrowing {
                let mut new = old.clone();
                narrow(new.pointer_mut(&place).unwrap().as_object_mut().unwrap());
                assert!(lost(&old, &new).iter().any(|lost| lost.ends_with(what)), "{place}: {what}");
                tried += 1;
            }
            let mut wider = old.clone();
            let schema = wider.pointer_mut(&place).unwrap().as_object_mut().unwrap();
            for bound in ["maxLength", "minLength", "pattern", "enum", "required", "x-kubernetes-validations"] {
                schema.remove(bound);
            }
            if let Some(properties) = schema.get_mut("properties") {
                properties["added"] = json!({"type": "string"});
            }
            assert_eq!(lost(&old, &wider), Vec::<String>::new(), "{place}");
            if let Some((parent, name)) = place.rsplit_once("/properties/").filter(|(_, name)| !name.contains('/')) {
                let mut less = old.clone();
                less.pointer_mut(parent).unwrap()["properties"].as_object_mut().unwrap().remove(name);
                assert!(lost(&old, &less).iter().any(|lost| lost.ends_with(&format!(".{name}: is gone"))), "{place}");
            }
        }
    }
    assert!(tried > 500, "{tried}");
}
