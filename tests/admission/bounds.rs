//! How long the lists and texts of an agent may be: as its schema says, wherever one is read.

use sekuire_policy::admission::review::{self, Request, Settled};
use sekuire_policy::api::crds;
use sekuire_policy::policy::AgentSpec;
use sekuire_policy::policy::agent::LONGEST_TEXT;
use serde_json::{Map, Value, json};

use super::world;
use crate::cli::support::{Desk, JSON};

/// The schema of `spec` that the API server is given.
fn schema() -> Value {
    let (_, crd) = crds::all().unwrap().into_iter().find(|(name, _)| name.ends_with("_agents.yaml")).unwrap();
    crd.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec").unwrap().clone()
}

/// A place in an agent whose length is bounded.
#[derive(Clone, Debug)]
struct Bound {
    /// Names of members, and `[]` for the entry of a list.
    path: Vec<String>,
    most: usize,
    list: bool,
}

impl Bound {
    /// As a message writes it.
    fn place(&self) -> String {
        format!("spec.{}", self.path.join(".").replace(".[]", "[0]"))
    }

    /// As a message says it.
    fn words(&self) -> String {
        let most = self.most;
        if self.list { format!("more than {most} entries") } else { format!("longer than {most} characters") }
    }
}

/// Every place of a schema whose length is bounded. Whatever could be longer without end fails the test.
fn bounds(schema: &Value, path: &[String], found: &mut Vec<Bound>) {
    let deeper = |name: &str| [path, &[name.to_owned()]].concat();
    let most = |name: &str| {
        let most = schema[name].as_u64().unwrap_or_else(|| panic!("{path:?} has no {name}"));
        usize::try_from(most).unwrap()
    };
    assert!(schema.get("x-kubernetes-preserve-unknown-fields").is_none(), "{path:?} takes anything");
    match schema["type"].as_str() {
        Some("object") => {
            assert!(schema.get("additionalProperties").is_none_or(|more| *more == json!(false)), "{path:?} is a map");
            let members = schema["properties"].as_object().unwrap_or_else(|| panic!("{path:?} has no members"));
            for (name, member) in members {
                bounds(member, &deeper(name), found);
            }
        }
        Some("array") => {
            found.push(Bound { path: path.to_vec(), most: most("maxItems"), list: true });
            bounds(&schema["items"], &deeper("[]"), found);
        }
        Some("string") if schema.get("enum").is_some() => {}
        Some("string") => found.push(Bound { path: path.to_vec(), most: most("maxLength"), list: false }),
        Some("boolean" | "integer") => {}
        other => panic!("{path:?} is of type {other:?}"),
    }
}

/// The smallest value that a schema takes.
fn smallest(schema: &Value) -> Value {
    if let Some(values) = schema["enum"].as_array() {
        return values[0].clone();
    }
    match schema["type"].as_str().unwrap() {
        "object" => member(schema, None),
        "array" => json!([]),
        "string" => json!("a".repeat(usize::try_from(schema["minLength"].as_u64().unwrap_or(0)).unwrap())),
        "boolean" => json!(true),
        _ => json!(0),
    }
}

/// An object with what is required, and one member beside it.
fn member(schema: &Value, with: Option<(&str, Value)>) -> Value {
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    let names = required.iter().map(|name| name.as_str().unwrap());
    let mut object: Map<String, Value> =
        names.map(|name| (name.to_owned(), smallest(&schema["properties"][name]))).collect();
    object.extend(with.map(|(name, value)| (name.to_owned(), value)));
    Value::Object(object)
}

/// The smallest agent that has something of this length at that place.
fn of_length(schema: &Value, path: &[String], length: usize) -> Value {
    match path.split_first() {
        None if schema["type"] == "array" => Value::Array(vec![smallest(&schema["items"]); length]),
        // characters are counted, not bytes
        None => json!("é".repeat(length)),
        Some((name, rest)) if name == "[]" => json!([of_length(&schema["items"], rest, length)]),
        Some((name, rest)) => {
            let value = of_length(&schema["properties"][name.as_str()], rest, length);
            member(schema, Some((name, value)))
        }
    }
}

fn cases() -> Vec<(Bound, Value, Value)> {
    let schema = schema();
    let mut found = Vec::new();
    bounds(&schema, &[], &mut found);
    // no walk that has lost its way
    assert!(found.len() > 25 && found.iter().filter(|bound| bound.list).count() > 8, "{found:?}");
    let longest = found.iter().filter(|bound| !bound.list).map(|bound| bound.most).max();
    assert_eq!(longest, Some(LONGEST_TEXT));
    let agents = |bound: Bound| {
        let [most, more] = [bound.most, bound.most + 1].map(|length| of_length(&schema, &bound.path, length));
        (bound, most, more)
    };
    found.into_iter().map(agents).collect()
}

/// The same with so much beside it that it is read as a large one.
fn large(review: &[u8]) -> Vec<u8> {
    let mut review: Value = serde_json::from_slice(review).unwrap();
    review["request"]["object"]["metadata"]["annotations"]["more"] = json!("x".repeat(70_000));
    serde_json::to_vec(&review).unwrap()
}

#[test]
fn a_review_takes_what_the_schema_admits_and_refuses_one_more_of_each_by_its_place() {
    for (bound, most, more) in cases() {
        for enlarge in [<[u8]>::to_vec, large] {
            let body = enlarge(&world::review("team-a", &most));
            assert!(matches!(review::read(&body), Request::Judge(..)), "{bound:?} is refused");
            let body = enlarge(&world::review("team-a", &more));
            let Request::Settled(_, Settled::Refused(why), _) = review::read(&body) else { panic!("{bound:?}") };
            assert!(why.contains(&format!("{}: {}", bound.place(), bound.words())), "{bound:?}: {why}");
        }
        assert!(
            serde_json::from_value::<AgentSpec>(most).is_ok() && serde_json::from_value::<AgentSpec>(more).is_err()
        );
    }
}

#[test]
fn so_does_the_command_line() {
    let desk = Desk::new();
    desk.write("p.json", JSON);
    assert_eq!(desk.sign(&["p.json"]).code, 0);
    let manifest = |name: &str, spec: &Value| json!({"apiVersion": "sekuire.ai/v1alpha1", "kind": "Agent", "metadata": {"name": name, "namespace": "a"}, "spec": spec});
    let cases = cases();
    let named = |more: bool| {
        let agents = cases.iter().enumerate();
        let agents = agents.map(|(number, (_, at_most, beyond))| {
            manifest(&format!("n{number}"), if more { beyond } else { at_most }).to_string()
        });
        agents.collect::<Vec<_>>().join("\n---\n")
    };
    desk.write("most.yaml", &named(false));
    desk.write("more.yaml", &named(true));
    let check = |file: &str| desk.run(&["agent", "check", file, "--policy", "p.json", "--trust", "keys", "-o", "json"]);
    // what is as long as may be is judged, unless its form is another one; that it is too long is said of none
    let taken = check("most.yaml");
    let judged: Value = serde_json::from_str(&taken.out).unwrap();
    assert!(judged.as_array().unwrap().len() * 2 > cases.len() && !taken.err.contains("at most"), "{}", taken.err);
    let refused = check("more.yaml");
    assert_eq!(refused.code, 1);
    assert_eq!(serde_json::from_str::<Value>(&refused.out).unwrap(), json!([]));
    for (number, (bound, ..)) in cases.iter().enumerate() {
        let place = format!("Agent n{number}: {}: ", bound.place());
        let words = format!("expected at most {}", bound.most);
        let said = refused.err.lines().any(|line| line.contains(&place) && line.contains(&words));
        assert!(said, "{place}{words} is not in {}", refused.err);
    }
}

#[test]
fn so_is_the_vendors_file() {
    let desk = Desk::new();
    desk.write("p.json", JSON);
    assert_eq!(desk.sign(&["p.json"]).code, 0);
    desk.write("prompt.txt", "Help.");
    desk.write("sekuire.yml", "identity: {model: claude, system_prompt_path: prompt.txt, tools_path: tools.json}\n");
    for (tools, words) in [
        (vec![json!({"name": "t"}); 256], None),
        (vec![json!({"name": "t"}); 257], Some("tools: more than 256 entries")),
        (vec![json!({"name": "t".repeat(257)})], Some("tools[0].name: longer than 256 characters")),
    ] {
        desk.write("tools.json", &json!(tools).to_string());
        let ended = desk.run(&["agent", "check", "sekuire.yml", "--policy", "p.json", "--trust", "keys"]);
        match words {
            None => assert!(ended.out.contains("agent"), "{}{}", ended.out, ended.err),
            Some(words) => assert!(ended.code == 1 && ended.err.contains(words), "{}", ended.err),
        }
    }
}
