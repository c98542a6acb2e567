//! Bad values, made from the schema: each is refused by Helm with its name, before anything is applied, or is one that an API
//! server takes.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use boon::{Compiler, SchemaIndex, Schemas};
use kube::api::{DynamicObject, Patch, PatchParams, ValidationDirective};
use kube::{Api, Client, Discovery};
use serde::Deserialize as _;
use serde_json::{Value, json};

use super::helm::{CHART, EVERYTHING, find, render};
use super::server::OTHERS;
use crate::cluster::controller::NAMESPACE;
use crate::cluster::skip::skip;
use crate::cluster::{Cluster, Ran};

/// Strings that are wrong somewhere: as a name, a number, a quantity, a duration, a network, or as a piece of YAML.
const STRINGS: [&str; 44] = [
    "",
    " ",
    "a b",
    "A_b!",
    "-a",
    "a-",
    "a..b",
    ".",
    "..",
    "a/b",
    "a/b/c",
    "/a",
    "é",
    "1k",
    "-1",
    "0",
    "1",
    "1.5",
    "99999999999999999999",
    "it's",
    "say \"x\"",
    "back\\slash",
    "two\nlines",
    "tab\tx",
    "{{ .Values }}",
    "a: b",
    "#x",
    "*x",
    "[]",
    "null",
    "true",
    "1e3",
    "0x1F",
    "2001-01-01",
    "10.0.0.1",
    "10.0.0.0/33",
    "::::/64",
    "::1/129",
    "fe80::/10",
    "120%",
    "1h1x",
    "0h",
    "30m1h",
    "@RUNBOOKS@",
];

fn read(path: &str) -> Value {
    serde_yaml::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// As Helm puts values over those of the chart: what is null is taken away.
fn over(mut below: Value, above: &Value) -> Value {
    let (Some(map), Some(more)) = (below.as_object_mut(), above.as_object()) else { return above.clone() };
    for (key, value) in more {
        if value.is_null() {
            map.remove(key);
        } else {
            let merged = map.remove(key).map_or_else(|| value.clone(), |below| over(below, value));
            map.insert(key.clone(), merged);
        }
    }
    below
}

/// What a part of the schema says, behind its references.
fn resolve<'a>(schema: &'a Value, part: &'a Value) -> &'a Value {
    match part["$ref"].as_str() {
        Some(reference) => resolve(schema, schema.pointer(reference.trim_start_matches('#')).unwrap()),
        None => part,
    }
}

/// Changes one value of `values` in each way that is of interest, for every place that the schema knows.
fn bad_instances(schema: &Value, values: &Value) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    walk(schema, schema, values, "", &mut |at: &str, bad: Value| {
        let mut changed = values.clone();
        *changed.pointer_mut(at).unwrap() = bad;
        all.push((at.to_owned(), changed));
    });
    all
}

fn walk(schema: &Value, part: &Value, value: &Value, at: &str, tell: &mut impl FnMut(&str, Value)) {
    let part = resolve(schema, part);
    let escape = |key: &str| key.replace('~', "~0").replace('/', "~1");
    if !at.is_empty() {
        others_than(value).into_iter().for_each(|bad| tell(at, bad));
    }
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                let known = part["properties"].get(key).or_else(|| part.get("additionalProperties"));
                // what is free, such as spec of an Agent, is not of the chart
                let Some(known) = known else { continue };
                walk(schema, known, inner, &format!("{at}/{}", escape(key)), tell);
            }
            let keys = STRINGS.iter().map(|key| (*key).to_owned()).chain([64, 300].map(|count| "x".repeat(count)));
            for key in keys.filter(|_| part["additionalProperties"].is_object()) {
                let mut more = map.clone();
                more.insert(key, map.values().next().cloned().unwrap_or_default());
                tell(at, Value::Object(more));
            }
            let in_a_list = at.split('/').any(|step| step.parse::<usize>().is_ok());
            for key in part["properties"].as_object().iter().flat_map(|known| known.keys()) {
                let tried = map.contains_key(key) || in_a_list || UNTRIED.contains(&(at, key));
                assert!(tried, "{at}/{key} is not tried: give it in {EVERYTHING}");
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                walk(schema, &part["items"], item, &format!("{at}/{index}"), tell);
            }
            tell(at, items.iter().chain(items).cloned().collect());
        }
        _ => {}
    }
}

/// What everything.yaml cannot have beside the rest.
const UNTRIED: [(&str, &str); 8] = [
    ("", "global"),
    ("/tls", "secretName"),
    ("/podSecurityContext/seccompProfile", "localhostProfile"),
    ("/podSecurityContext/appArmorProfile", "localhostProfile"),
    // not for pods that are `restricted`
    ("/podSecurityContext/seLinuxOptions", "user"),
    ("/podSecurityContext/seLinuxOptions", "role"),
    ("/securityContext/seLinuxOptions", "user"),
    ("/securityContext/seLinuxOptions", "role"),
];

/// Values of every type that this one is not, and those of its own that may be wrong.
fn others_than(value: &Value) -> Vec<Value> {
    let mut bad =
        vec![json!(null), json!([]), json!({}), json!([null]), json!({"a": null}), json!(true), json!(1), json!("x")];
    if value.is_string() {
        bad.extend(STRINGS.iter().map(|text| json!(text)));
        bad.extend([64, 300, 5000].map(|count| json!("x".repeat(count))));
    }
    if value.is_number() || value.is_string() {
        bad.extend([
            json!(-1),
            json!(0),
            json!(1.5),
            json!(65_536),
            json!(2_147_483_648_u64),
            json!(9_007_199_254_740_993_u64),
            json!(1e300),
        ]);
    }
    bad.retain(|bad| bad != value);
    bad
}

/// A real API server that has all kinds that the chart can make.
struct Server {
    client: Client,
    discovery: Discovery,
}

impl Server {
    /// Server-side apply without effect, as strict as it goes.
    async fn takes(&self, object: &Value) -> Result<(), String> {
        let object: DynamicObject = serde_json::from_value(object.clone()).map_err(|e| format!("{e}: {object}"))?;
        let kind = object.types.as_ref().ok_or("no kind")?;
        let group_version: kube::core::GroupVersion = kind.api_version.parse().map_err(|e| format!("{e:?}"))?;
        let (resource, capabilities) =
            self.discovery.resolve_gvk(&group_version.with_kind(&kind.kind)).ok_or(format!("no kind {kind:?}"))?;
        let name = object.metadata.name.clone().unwrap_or_default();
        let api: Api<DynamicObject> = match &object.metadata.namespace {
            Some(namespace) if capabilities.scope == kube::discovery::Scope::Namespaced => {
                Api::namespaced_with(self.client.clone(), namespace, &resource)
            }
            _ => Api::all_with(self.client.clone(), &resource),
        };
        let params = PatchParams {
            dry_run: true,
            force: true,
            field_manager: Some("helm".to_owned()),
            field_validation: Some(ValidationDirective::Strict),
        };
        match api.patch(&name, &params, &Patch::Apply(&object)).await {
            Ok(_) => Ok(()),
            // what depends on the cluster, as whether a namespace is there, no chart can know
            Err(kube::Error::Api(status)) if status.message.starts_with("namespaces ") && status.code == 404 => Ok(()),
            Err(error) => Err(format!("{} {name}: {error}", kind.kind)),
        }
    }
}

fn parsed(yaml: &str) -> Result<Vec<Value>, String> {
    let documents = serde_yaml::Deserializer::from_str(yaml).map(Value::deserialize);
    let all: Result<Vec<Value>, _> = documents.collect();
    all.map(|all| all.into_iter().filter(|object| !object.is_null()).collect()).map_err(|error| error.to_string())
}

/// The schema of the chart, ready to judge.
fn compiled() -> (Schemas, SchemaIndex) {
    let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
    let index = compiler.compile(&format!("{CHART}/values.schema.json"), &mut schemas).unwrap();
    (schemas, index)
}

async fn rendered(program: &Path, folder: &Path, number: usize, values: &Value) -> Ran {
    let file = folder.join(format!("{number}.json"));
    fs::write(&file, values.to_string()).unwrap();
    let ran = render(program, &["--values", file.to_str().unwrap()]).await;
    fs::remove_file(file).unwrap();
    ran
}

#[tokio::test]
async fn every_bad_value_is_refused_by_its_name_before_anything_is_applied_or_is_one_that_an_api_server_takes() {
    let program = match find() {
        Ok(program) => program,
        Err(why) => skip!(why),
    };
    let cluster = Cluster::options().api_server_flag("--service-cluster-ip-range=10.0.0.0/24,fd00::/112").start().await;
    cluster.install_crds().await;
    cluster.kubectl(["apply", "-f", OTHERS]).await.ok();
    cluster.kubectl(["wait", "--for=condition=Established", "--timeout=60s", "-f", OTHERS]).await.ok();
    for name in [NAMESPACE, "payments"] {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        cluster.apply(&namespace.to_string()).await.ok();
    }
    let client = cluster.client().await;
    let server = Server { discovery: Discovery::new(client.clone()).run().await.unwrap(), client };
    let (schema, defaults) = (read(&format!("{CHART}/values.schema.json")), read(&format!("{CHART}/values.yaml")));
    let everything = over(defaults.clone(), &read(EVERYTHING));
    let folder = tempfile::tempdir().unwrap();
    let good = parsed(&rendered(&program, folder.path(), 0, &everything).await.ok()).unwrap();
    for object in &good {
        server.takes(object).await.unwrap();
    }
    let good: HashSet<String> = good.iter().map(Value::to_string).collect();

    let (schemas, index) = compiled();
    let all = bad_instances(&schema, &everything);
    assert!(all.len() > 5_000, "{}", all.len());
    let passing: Vec<&(String, Value)> =
        all.iter().filter(|(_, values)| schemas.validate(&over(defaults.clone(), values), index).is_ok()).collect();
    assert!(passing.len() > 100, "the schema refuses everything: {}", passing.len());
    let chart = Chart { program, folder: folder.path().to_owned(), server, good };
    let (mut work, mut wrong) = (batches(&passing), Vec::new());
    while let Some(batch) = work.pop() {
        let mut values = everything.clone();
        for (at, changed) in &batch {
            changed.pointer(at).unwrap().clone_into(values.pointer_mut(at).unwrap());
        }
        match chart.judge(&values).await {
            Ok(()) => {}
            // who of them it was
            Err(fault) if batch.len() > 1 => {
                let named = |case: &&&(String, Value)| matches!(&fault, Fault::Told(words) if words.contains(&case.0[1..].replace('/', ".")));
                let (mut some, mut others): (Vec<_>, Vec<_>) = batch.iter().partition(named);
                if some.is_empty() || others.is_empty() {
                    some = batch[..batch.len() / 2].to_vec();
                    others = batch[batch.len() / 2..].to_vec();
                }
                work.extend([some, others]);
            }
            Err(Fault::Told(_)) => {}
            Err(Fault::Late(why)) => {
                wrong.push(format!("{} = {}: {why}", batch[0].0, values.pointer(&batch[0].0).unwrap()));
            }
        }
    }
    assert!(wrong.is_empty(), "{} values are refused too late:\n{}", wrong.len(), wrong.join("\n"));
}

/// Cases of which no two change the same place, so that they can be tried at once.
fn batches<'a>(cases: &[&'a (String, Value)]) -> Vec<Vec<&'a (String, Value)>> {
    let within = |a: &str, b: &str| a.strip_prefix(b).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let mut all: Vec<Vec<&(String, Value)>> = Vec::new();
    for case in cases {
        let apart = |batch: &&mut Vec<&(String, Value)>| {
            !batch.iter().any(|(at, _)| within(at, &case.0) || within(&case.0, at))
        };
        match all.iter_mut().find(apart) {
            Some(batch) => batch.push(case),
            None => all.push(vec![case]),
        }
    }
    all
}

/// Why values did not get through.
enum Fault {
    /// Helm said in words which value it is: those.
    Told(String),
    /// It did not, or the API server had to.
    Late(String),
}

struct Chart {
    program: std::path::PathBuf,
    folder: std::path::PathBuf,
    server: Server,
    /// What is rendered with good values, which the API server has taken.
    good: HashSet<String>,
}

impl Chart {
    async fn judge(&self, values: &Value) -> Result<(), Fault> {
        let ran = rendered(&self.program, &self.folder, 1, values).await;
        if !ran.succeeded() {
            let told =
                ["values: ", "values don't meet the specifications"].iter().any(|words| ran.stderr.contains(words));
            return Err(if told { Fault::Told(ran.stderr) } else { Fault::Late(ran.stderr) });
        }
        for object in parsed(&ran.stdout).map_err(Fault::Late)? {
            if !self.good.contains(&object.to_string()) {
                self.server.takes(&object).await.map_err(Fault::Late)?;
            }
        }
        Ok(())
    }
}
