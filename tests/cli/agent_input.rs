//! Agents as people and programs write them: what kubectl reads is read the same way, and what is not read never complies.

use serde_json::{Value, json};

use super::support::{Desk, Ended};
use crate::cluster::Cluster;

/// What a policy wants to be met, so that an agent that was not read whole shows.
const POLICY: &str = "policy_id: policy_a\nworkspace_id: ws_a\nversion: '1'\nstatus: active\ncontent:\n  compliance: {require_audit_logging: true, retention_days: 365}\n  permissions: {network: {enabled: false}, filesystem: {enabled: false}}\n";

fn desk() -> Desk {
    let desk = Desk::new();
    desk.write("p.yaml", POLICY);
    assert_eq!(desk.sign(&["p.yaml"]).code, 0);
    desk
}

fn check(desk: &Desk, file: &str) -> Ended {
    desk.run(&["agent", "check", file, "--policy", "p.yaml", "--trust", "keys", "-o", "json"])
}

/// The names of those that comply, where all do.
fn complying(desk: &Desk, file: &str) -> Vec<String> {
    let ended = check(desk, file);
    assert_eq!(ended.code, 0, "{file}: {}{}", ended.out, ended.err);
    let list: Value = serde_json::from_str(&ended.out).unwrap();
    list.as_array().unwrap().iter().map(|verdict| verdict["name"].as_str().unwrap().to_owned()).collect()
}

/// An agent with every member that one can have, and that complies but for what it asks for.
fn whole() -> Value {
    json!({
        "apiVersion": "sekuire.ai/v1alpha1", "kind": "Agent", "metadata": {"name": "whole", "namespace": "a"},
        "spec": {
            "workspace": "ws_a",
            "model": {"provider": "p", "name": "m", "region": "r", "endpoint": "https://m.example.com/v1"},
            "fallbackModels": [{"provider": "p", "name": "n"}],
            "tools": [{"name": "t", "server": "s"}],
            "approval": {"mode": "Listed", "tools": ["t"]},
            "compliance": {
                "frameworks": ["soc2"], "auditLogging": true, "encryption": {"atRest": true, "inTransit": true},
                "dataResidency": ["eu"], "retentionDays": 400,
            },
            "permissions": {
                "network": {"allowedHosts": ["a.example.com"], "requireTls": true},
                "filesystem": {"allowedPaths": ["/data"], "allowedExtensions": [".txt"]},
                "api": {"services": [{"name": "stripe", "endpoints": ["/v1"]}]},
            },
            "rateLimits": {"requestsPerMinute": 10, "tokensPerHour": 1000},
            "identity": {"sekuireId": "a".repeat(64)},
            "image": format!("x@sha256:{}", "a".repeat(64)),
        },
    })
}

fn plain(name: &str) -> Value {
    json!({
        "apiVersion": "sekuire.ai/v1alpha1", "kind": "Agent", "metadata": {"name": name, "namespace": "a"},
        "spec": {"model": {"provider": "p", "name": "m"}, "compliance": {"auditLogging": true, "retentionDays": 400}},
    })
}

const HEAD: &str = "apiVersion: sekuire.ai/v1alpha1\nkind: Agent\nmetadata: {name: a, namespace: a}\nspec:\n  model: {provider: p, name: m}\n";

#[test]
#[allow(clippy::too_many_lines, reason = "a table of cases")]
fn what_kubectl_reads_is_read() {
    let desk = desk();
    let one = plain("a").to_string();
    let two = format!("{one}\n{}", plain("b"));
    let yaml = |rest: &str| format!("{HEAD}{rest}");
    let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let compliance = "  compliance: {auditLogging: true, retentionDays: 400}\n";
    for (what, text, names) in [
        ("merge key", yaml("  compliance:\n    <<: &c {auditLogging: true}\n    retentionDays: 400\n"), &["a"][..]),
        ("merge key of a list", yaml("  compliance:\n    <<: [{auditLogging: true}, {auditLogging: false, retentionDays: 400}]\n"), &["a"]),
        ("merge key that wins", yaml("  compliance:\n    auditLogging: false\n    <<: {auditLogging: true, retentionDays: 400}\n"), &["a"]),
        ("anchors", yaml("  compliance: {auditLogging: &t true, retentionDays: &n 400, encryption: {atRest: *t}}\n  rateLimits: {tokensPerHour: *n}\n"), &["a"]),
        ("yes", yaml("  compliance: {auditLogging: yes, retentionDays: 400}\n"), &["a"]),
        ("on, octal", yaml("  compliance: {auditLogging: ON, retentionDays: 0777}\n"), &["a"]),
        ("tags, exponents", yaml("  compliance: {auditLogging: !!bool 'y', retentionDays: 4e2}\n"), &["a"]),
        ("empty blocks", yaml(&format!("{compliance}  fallbackModels:\n  tools: ~\n  permissions: {{network: null}}\n  workspace:\n")), &["a"]),
        ("dry run", yaml(compliance).replace("namespace: a", "namespace: a, creationTimestamp: null, labels: null") + "status: {}\n", &["a"]),
        ("byte order mark", format!("\u{FEFF}{}", yaml(compliance)), &["a"]),
        ("marks of two files", format!("\u{FEFF}{}\u{FEFF}---\n\u{FEFF}{}", yaml(compliance), yaml(compliance).replace("name: a,", "name: b,")), &["a", "b"]),
        ("CRLF", yaml(compliance).replace('\n', "\r\n"), &["a"]),
        ("tabs behind values", yaml("  compliance: {auditLogging:\ttrue,\tretentionDays: 400}\t\n"), &["a"]),
        ("empty documents", format!("---\n---\n# nothing\n---\n{}---\nnull\n---\n", yaml(compliance)), &["a"]),
        ("end of document", format!("{}...\n", yaml(compliance)), &["a"]),
        ("stream of JSON, lines", two.clone(), &["a", "b"]),
        ("stream of JSON, together", two.replace('\n', ""), &["a", "b"]),
        ("JSON between ---", format!("---\n{one}\n---\n{}\n---\n{}", yaml(compliance).replace("name: a,", "name: b,"), plain("c")), &["a", "b", "c"]),
        ("JSON with a mark", format!("\u{FEFF}{one}"), &["a"]),
        ("surrogate pairs", one.replace("\"a\"}", "\"a\",\"annotations\":{\"note\":\"\\ud83d\\udfe2\"}}"), &["a"]),
        ("surrogate pairs in YAML", yaml(compliance).replace("namespace: a", "namespace: a, annotations: {n: \"\\ud83d\\udfe2\"}"), &["a"]),
        ("floats that are whole", one.replace("400", "400.0"), &["a"]),
        ("flow", format!("{{kind: Agent, {}", one[1..].replace("\"kind\":\"Agent\",", "")), &["a"]),
        ("List", json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": [plain("a"), {"apiVersion": "v1", "kind": "List", "items": [plain("b")]}]}).to_string(), &["a", "b"]),
        ("AgentList", json!({"apiVersion": "sekuire.ai/v1alpha1", "kind": "AgentList", "items": [{"metadata": {"name": "a"}, "spec": plain("a")["spec"]}]}).to_string(), &["a"]),
    ] {
        desk.write("agent.yaml", &text);
        assert_eq!(complying(&desk, "agent.yaml"), names, "{what}");
        if !text.starts_with('\u{FEFF}') {
            std::fs::write(desk.path("utf16.yaml"), utf16(&format!("\u{FEFF}{text}"))).unwrap();
            assert_eq!(complying(&desk, "utf16.yaml"), names, "{what}, in UTF-16");
        }
    }
}

/// The places of all members of an object, as JSON pointers; not of items of lists.
fn members(value: &Value, at: &str, all: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                all.push(format!("{at}/{name}"));
                members(value, &format!("{at}/{name}"), all);
            }
        }
        Value::Array(items) => items.iter().enumerate().for_each(|(i, item)| members(item, &format!("{at}/{i}"), all)),
        _ => {}
    }
}

/// Each of these is refused, in words that name its line and contain these: a stream, since a process takes its time.
fn all_refused(desk: &Desk, cases: &[(Value, String)]) {
    let stream: String = cases.iter().map(|(agent, _)| format!("{agent}\n")).collect();
    desk.write("all.json", &stream);
    let ended = check(desk, "all.json");
    assert_eq!((ended.code, ended.out.trim()), (1, "[]"), "{}", ended.err);
    for (line, (agent, said)) in cases.iter().enumerate() {
        let place = format!("all.json:{}: ", line + 1);
        let found = ended.err.lines().any(|fault| fault.contains(&place) && fault.contains(said));
        let of_line: Vec<&str> = ended.err.lines().filter(|fault| fault.contains(&place)).collect();
        assert!(found, "{said} is not said of {agent}: {of_line:?}");
    }
}

#[test]
fn a_member_that_stands_where_none_is_read_is_named_and_does_not_comply() {
    let desk = desk();
    let spec = whole()["spec"].clone();
    let mut places = Vec::new();
    members(&spec, "", &mut places);
    assert!(places.len() > 30, "{places:?}");
    let mut cases = Vec::new();
    let mut objects = vec![String::new(), "/metadata".to_owned(), "/spec".to_owned(), "/status".to_owned()];
    let of_spec = places.iter().filter(|place| spec.pointer(place).unwrap().is_object());
    objects.extend(of_spec.map(|place| format!("/spec{place}")));
    // each member of the spec, put beside it and into the metadata
    for place in &places {
        let (parent, name) = place.rsplit_once('/').unwrap();
        for object in ["", "/metadata"] {
            if (object, name) != ("/metadata", "name") {
                let mut agent = plain("a");
                agent.pointer_mut(object).unwrap()[name] = spec.pointer(place).unwrap().clone();
                cases.push((agent, format!("{name}: unknown member")));
            }
        }
        // misspelt, and with nothing behind it
        for value in [spec.pointer(place).unwrap().clone(), Value::Null] {
            let mut agent = whole();
            let parent = agent["spec"].pointer_mut(parent).unwrap().as_object_mut().unwrap();
            parent.insert(format!("{name}x"), value);
            cases.push((agent, format!("{name}x: unknown member")));
        }
    }
    for object in objects {
        let mut agent = whole();
        agent["status"] = json!({"conditions": []});
        agent.pointer_mut(&object).unwrap()["$serde_json::private::RawValue"] = "{}".into();
        cases.push((agent, "$serde_json::private::RawValue: unknown member".to_owned()));
    }
    all_refused(&desk, &cases);
}

#[test]
fn a_value_of_another_type_is_a_fault_with_its_place() {
    let desk = desk();
    let mut places = Vec::new();
    members(&whole(), "", &mut places);
    let mut cases = Vec::new();
    for place in places.iter().filter(|place| !place.starts_with("/apiVersion") && !place.starts_with("/kind")) {
        let whole = whole();
        let right = whole.pointer(place).unwrap();
        for wrong in [json!(true), json!(7), json!(-1), json!(1.5), json!("7"), json!([7]), json!({"x": 7})] {
            let same = std::mem::discriminant(right) == std::mem::discriminant(&wrong);
            if same && wrong != json!(-1) && wrong != json!(1.5) {
                continue; // what it should be
            }
            let mut agent = whole.clone();
            *agent.pointer_mut(place).unwrap() = wrong;
            let last = place.rsplit('/').next().unwrap();
            let required = ["/metadata", "/spec"].contains(&place.as_str());
            cases.push((agent, format!("{last}: {}", if required { "found" } else { "" })));
        }
    }
    all_refused(&desk, &cases);
    desk.write("agent.yaml", &format!("{}  tools: [{{name: 007}}, null]\n", HEAD.replace("name: a,", "name: 1.10,")));
    let ended = check(&desk, "agent.yaml");
    for said in [
        "metadata.name: found 1.1, expected a text; put it in quotes",
        "spec.tools[0].name: found 7, expected a text; put it in quotes",
        "spec.tools[1]: found null, expected an object",
    ] {
        assert!(ended.err.contains(said), "{}", ended.err);
    }
}

#[test]
fn rules_of_the_api_server_are_applied() {
    let desk = desk();
    let edits: [(&str, Value, &str); 10] = [
        ("/spec/tools", json!([{"name": "t"}, {"name": "t"}]), "spec.tools[1]: the name of one before it"),
        ("/spec/tools", json!(vec![json!({"name": "t"}); 257]), "spec.tools: 257 items; expected at most 256"),
        ("/spec/model/name", json!("x".repeat(257)), "spec.model.name: 257 characters; expected at most 256"),
        ("/spec/model/name", json!(""), "spec.model.name: 0 characters; expected at least 1"),
        ("/spec/identity/sekuireId", json!("G".repeat(64)), "spec.identity.sekuireId: "),
        ("/spec/approval/mode", json!("listed"), "expected one of None, Listed, All"),
        ("/spec/approval/tools", json!(["other"]), "must be one of spec.tools"),
        ("/spec/fallbackModels", json!([whole()["spec"]["model"]]), "must differ from the model it stands in for"),
        ("/spec/image", json!("x:latest"), "names its image by digest"),
        ("/spec/permissions/filesystem/allowedPaths", json!(["/a*"]), "a path has no wildcard"),
    ];
    for (place, value, said) in edits {
        let mut agent = whole();
        *agent.pointer_mut(place).unwrap() = value;
        desk.write("agent.json", &agent.to_string());
        let ended = check(&desk, "agent.json");
        assert_eq!((ended.code, ended.err.contains(said)), (1, true), "{place}: {}", ended.err);
    }
}

#[test]
fn what_is_passed_over_is_said_and_what_may_be_meant_is_a_fault() {
    let desk = desk();
    let with = |other: &str| {
        desk.write("all.yaml", &format!("{}\n---\n{other}\n", plain("a")));
        check(&desk, "all.yaml")
    };
    for (other, said) in [
        (
            "{apiVersion: v1, kind: ConfigMap, metadata: {name: c}}",
            "not judged, since it is no Agent of sekuire.ai/v1alpha1: all.yaml:2: ConfigMap c",
        ),
        (
            "{apiVersion: agent.k8s.elastic.co/v1alpha1, kind: Agent, metadata: {name: e}}",
            "this Agent of agent.k8s.elastic.co/v1alpha1 is not judged",
        ),
        ("{apiVersion: sekuire.ai/v1alpha1, kind: SigningKey, metadata: {name: k}}", "SigningKey k"),
    ] {
        let ended = with(other);
        assert_eq!((ended.code, ended.err.contains(said)), (0, true), "{other}: {}", ended.err);
    }
    for (other, said) in [
        (
            "{apiVersion: sekuire.ai/v1beta1, kind: Agent, metadata: {name: b}}",
            "an Agent of \"sekuire.ai/v1beta1\"; this program knows sekuire.ai/v1alpha1",
        ),
        ("{apiVersion: sekuire.io/v1alpha1, kind: Agent}", "did you mean an Agent of sekuire.ai/v1alpha1?"),
        ("{apiVersion: v1, kind: Agent}", "did you mean an Agent of sekuire.ai/v1alpha1?"),
        ("{apiVersion: sekuire.ai/v1alpha1, kind: agent}", "did you mean Agent?"),
        ("{apiVersion: sekuire.ai/v1alpha1, kind: Agents}", "did you mean Agent?"),
        ("{kind: Agent, spec: {}}", "a manifest without apiVersion"),
        ("{apiVersion: 1, kind: Agent}", "apiVersion: found 1, expected a text; put it in quotes"),
        ("permissions: {network: {allowedHosts: [a]}}", "a manifest without apiVersion or kind"),
        ("just words", "expected a manifest, which is an object"),
        ("[]", "a list; expected a manifest"),
        ("{apiVersion: v1, kind: List, items: {}}", "items: found an object, expected a list of manifests"),
        ("{apiVersion: v1, kind: List, items: [], spec: {}}", "spec in a List"),
        ("{apiVersion: v1, kind: List, items: [7]}", "items[0]: 7; expected a manifest"),
        ("a: 1\na: 2", "the member \"a\" is there twice"),
        ("{\"a\": 1, \"a\": 2}", "the member \"a\" is there twice"),
        ("...\nkind: x\n...\nkind: y", "something follows the end of the document"),
    ] {
        let ended = with(other);
        assert_eq!(ended.code, 1, "{other}: {}{}", ended.out, ended.err);
        assert!(ended.err.contains(said) && ended.err.contains("all.yaml:2"), "{other}: {}", ended.err);
        assert!(ended.out.contains("\"name\": \"a\""), "the rest is judged: {}", ended.out);
    }
    for empty in ["", "\u{FEFF}", "---\n", "# nothing\n---\n...\n", "null", "{apiVersion: v1, kind: List, items: []}"] {
        desk.write("empty.yaml", empty);
        let ended = check(&desk, "empty.yaml");
        assert_eq!((ended.code, ended.out.trim()), (1, "[]"), "{empty:?}: {}", ended.err);
    }
}

#[test]
fn a_text_that_would_cost_much_is_refused_in_little_time() {
    let desk = desk();
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let alias = format!("*a{}", level - 1);
        bomb += &format!("a{level}: &a{level} [{}]\n", [alias.as_str(); 10].join(", "));
    }
    let words = format!("a: &a \"{}\"\nb: [{}]\n", "x".repeat(1 << 20), vec!["*a"; 1000].join(", "));
    let merges = format!("a0: &a0 {{x: [{}]}}\n", vec!["1"; 1000].join(", "))
        + &(1..5000).map(|i| format!("a{i}: &a{i} {{<<: *a{}, y{i}: 1}}\n", i - 1)).collect::<String>();
    for (what, text, said) in [
        ("aliases", bomb, "with its aliases more than"),
        ("long aliases", words, "with its aliases more than"),
        ("merges", merges, "with its aliases more than"),
        ("itself", "a: &a [*a]\n".to_owned(), "alias"),
        ("deep JSON", "{\"a\":".repeat(100_000), "not YAML or JSON"),
        ("deep lists", "[".repeat(100_000), "not YAML or JSON"),
        ("deep YAML", (0..5000).map(|i| format!("{}a:\n", " ".repeat(i))).collect(), "not YAML or JSON"),
        ("many values", format!("[{}]", "1,".repeat(3_000_000)), "more than 2000000 values"),
    ] {
        desk.write("bomb.yaml", &text);
        let start = std::time::Instant::now();
        let ended = check(&desk, "bomb.yaml");
        assert_eq!(
            (ended.code, ended.err.contains(said)),
            (1, true),
            "{what}: {}",
            &ended.err[..ended.err.len().min(500)]
        );
        assert!(start.elapsed().as_secs() < 60, "{what} took {:?}", start.elapsed());
    }
}

/// Every scalar in the place of a boolean, a number and a text: kubectl and the API server say what it is.
#[tokio::test]
#[allow(clippy::too_many_lines, reason = "a table of cases")]
async fn scalars_are_read_as_kubectl_and_the_api_server_read_them() {
    let cluster = Cluster::start().await;
    cluster.install_crds().await;
    cluster.kubectl(["create", "namespace", "a"]).await.ok();
    let desk = desk();
    let scalars = [
        "yes",
        "No",
        "on",
        "OFF",
        "y",
        "N",
        "true",
        "TRUE",
        "tRUE",
        "'yes'",
        "\"true\"",
        "!!str yes",
        "!!bool yes",
        "!!bool 'no'",
        "~",
        "null",
        "''",
        "400",
        "+400",
        "0400",
        "0o400",
        "0x400",
        "0b111",
        "4_00",
        "400.0",
        "4e2",
        ".4e3",
        "400.5",
        "08",
        "-1",
        "'400'",
        "!!int '400'",
        "!!float 400",
        "1:30",
        "2026-01-01",
        ".inf",
        ".nan",
        "1.10",
        "007",
        "<<",
        "a: b",
        "*a",
        "!x 400",
        "! 400",
        "9223372036854775807",
        "1e400",
        "[400]",
        "{}",
        "- 400",
        "|\n      400",
        ">-\n      yes",
        "!!binary NDAw",
        "# 400",
        "@x",
        "%x",
        "\"\\x41\"",
        "\"\\ud83d\\udfe2\"",
        "'a''b'",
        "a #b",
        "400 # c",
        "\t400",
    ];
    let places = ["    auditLogging: ", "    retentionDays: ", "  workspace: "];
    let mut differ = Vec::new();
    for scalar in scalars {
        for place in places {
            let text = match place {
                "  workspace: " => {
                    format!("{HEAD}  compliance: {{auditLogging: true, retentionDays: 400}}\n  workspace: {scalar}\n")
                }
                place if place.contains("audit") => {
                    format!("{HEAD}  compliance:\n    retentionDays: 400\n{place}{scalar}\n")
                }
                place => format!("{HEAD}  compliance:\n    auditLogging: true\n{place}{scalar}\n"),
            };
            desk.write("agent.yaml", &text);
            let file = desk.path("agent.yaml").display().to_string();
            let admitted = cluster.kubectl(["create", "--dry-run=server", "-o", "json", "-f", &file]).await;
            let read = check(&desk, "agent.yaml");
            // what was read is an agent, whether it complies or not; and has the value that the API server has
            let ours: Value = serde_json::from_str(&read.out).unwrap();
            let is_agent = ours.as_array().unwrap().len() == 1;
            // a pair of surrogates, as in JSON: kubectl reads it there, and not in YAML
            let here_alone = scalar.contains("\\ud83d") && is_agent;
            if here_alone {
                assert!(ours[0]["violations"][0]["value"] == "\u{1f7e2}" || !place.contains("workspace"), "{ours}");
            } else if is_agent != admitted.succeeded() {
                differ.push(format!("{place}{scalar}: kubectl: {admitted}\nhere: {}", read.err));
            } else if is_agent {
                let object: Value = serde_json::from_str(&admitted.stdout).unwrap();
                let spec = &object["spec"];
                let theirs = spec["compliance"]["auditLogging"] == true
                    && spec["compliance"]["retentionDays"].as_u64().is_some_and(|days| days >= 365)
                    && spec["workspace"].as_str().is_none_or(|workspace| workspace == "ws_a");
                // the text as it was read
                if spec["workspace"].is_string() && ours[0]["violations"][0]["value"] != spec["workspace"] {
                    differ.push(format!("{place}{scalar}: kubectl read {spec}, here: {ours}"));
                }
                if theirs != (ours[0]["allowed"] == true) {
                    differ.push(format!("{place}{scalar}: kubectl read {object}, here: {ours}"));
                }
            }
        }
    }
    assert!(differ.is_empty(), "{}", differ.join("\n"));
}
