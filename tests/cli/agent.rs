//! `sekuire agent check` and `push`. That push and admission speak alike is told by the story.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::support::{Desk, JSON};

fn manifest(name: &str, model: &str) -> String {
    format!(
        "apiVersion: sekuire.ai/v1alpha1\nkind: Agent\nmetadata: {{name: {name}, namespace: a}}\nspec:\n  model: {{provider: p, name: {model}}}\n"
    )
}

/// A desk with a signed policy that denies the models `gpt-3*`.
fn desk() -> Desk {
    let desk = Desk::new();
    desk.write("p.json", JSON);
    assert_eq!(desk.sign(&["p.json"]).code, 0);
    desk
}

fn decisions(desk: &Desk, files: &[&str], code: i32) -> Vec<Value> {
    let arguments = ["agent", "check", "--policy", "p.json", "--trust", "keys", "-o", "json"];
    let ended = desk.run(&[&arguments[..], files].concat());
    assert_eq!(ended.code, code, "{}", ended.err);
    serde_json::from_str::<Value>(&ended.out).unwrap().as_array().unwrap().clone()
}

#[test]
fn each_agent_of_each_file_gets_its_decision() {
    let desk = desk();
    desk.write("good.yaml", &manifest("good", "claude"));
    desk.write("bad.yaml", &manifest("bad", "gpt-3.5"));
    let list = decisions(&desk, &["good.yaml", "bad.yaml"], 1);
    let [good, bad] = &list[..] else { panic!("{list:?}") };
    assert_eq!((&good["name"], &good["namespace"], &good["file"]), (&"good".into(), &"a".into(), &"good.yaml".into()));
    assert_eq!((&good["allowed"], &good["violations"]), (&true.into(), &Value::Array(Vec::new())));
    assert_eq!(good["policy"]["policy_id"], "policy_a");
    assert_eq!(good["policy"]["version"], "1.9");
    assert_eq!((&bad["allowed"], &bad["violations"][0]["rule"]), (&false.into(), &"model.blocked".into()));
    assert_eq!(bad["violations"][0]["field"], "spec.model.name");
    assert_eq!(bad["violations"][0]["policyPath"], "content.agent.models.denied_models[1]");
    assert_eq!(decisions(&desk, &["good.yaml"], 0).len(), 1, "a list, also of one");

    let table = desk.run(&["agent", "check", "good.yaml", "bad.yaml", "--policy", "p.json", "--trust", "keys"]);
    assert!(table.out.starts_with("✓ a/good  good.yaml\n✗ a/bad  bad.yaml\n    spec.model.name: "), "{}", table.out);
    assert!(table.out.ends_with("[model.blocked]\n2 agents, 1 refused\n"), "{}", table.out);
}

#[test]
fn all_of_a_stream_is_judged_and_what_is_no_agent_in_it_is_named() {
    let desk = desk();
    let stream = format!(
        "---\n# Source: chart/templates/agents.yaml\n{}---\n{}---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: c}}\n---\n{}---\nkind: {{\n---\n{}",
        manifest("one", "claude"),
        manifest("two", "claude").replace("provider", "providr"),
        manifest("three", "gpt-3.5"),
        manifest("four", "claude").replace("name: four", "name: four, name: five"),
    );
    let mut child = Command::new(env!("CARGO_BIN_EXE_sekuire"))
        .args(["agent", "check", "-", "--policy", "p.json", "--trust", "keys", "-o", "json"])
        .current_dir(desk.path(""))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(stream.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(1), "{err}");
    let list: Value = serde_json::from_str(&out).unwrap();
    let names: Vec<&str> = list.as_array().unwrap().iter().map(|verdict| verdict["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["one", "three"]);
    assert_eq!(list[0]["file"], "standard input:1 (chart/templates/agents.yaml)");
    for said in [
        "standard input:8: Agent two: spec.model.providr: unknown member; did you mean provider?",
        "standard input:8: Agent two: spec.model.provider: is missing",
        "standard input:24: not YAML or JSON",
        "standard input:26: not YAML or JSON: metadata.name: the member \"name\" is there twice; expected it once at line 29",
    ] {
        assert!(err.contains(said), "{said} is not in {err}");
    }
}

#[test]
fn an_agent_of_the_vendors_file_has_its_identity_computed() {
    let desk = desk();
    desk.write("prompt.txt", "  Help.\n");
    desk.write("tools.json", r#"{"tools": [{"name": "calculator", "schema": {"b": 1, "a": 2}}]}"#);
    desk.write(
        "sekuire.yml",
        "project: {name: helper}\nidentity: {model: gpt-3.5, system_prompt_path: prompt.txt, tools_path: tools.json}\n",
    );
    let list = decisions(&desk, &["sekuire.yml"], 1);
    assert_eq!((&list[0]["name"], &list[0]["violations"][0]["rule"]), (&"helper".into(), &"model.blocked".into()));
    // a file outside of its folder is not read
    desk.write("outside.txt", "secret");
    std::fs::create_dir(desk.path("agent")).unwrap();
    desk.write(
        "agent/sekuire.yml",
        "identity: {model: m, system_prompt_path: ../outside.txt, tools_path: ../tools.json}\n",
    );
    let ended = desk.run(&["agent", "check", "agent/sekuire.yml", "--policy", "p.json", "--trust", "keys"]);
    assert_eq!(ended.code, 1);
    assert!(ended.err.contains("../outside.txt is outside of the folder of the manifest"), "{}", ended.err);
}

#[test]
fn a_policy_that_does_not_verify_decides_nothing() {
    let desk = desk();
    desk.write("good.yaml", &manifest("good", "claude"));
    let check = |policy: &str| desk.run(&["agent", "check", "good.yaml", "--policy", policy, "--trust", "keys"]);
    desk.write("changed.json", &desk.read("p.json").replace("gpt-3*", "gpt-2*"));
    let ended = check("changed.json");
    assert_eq!((ended.code, ended.err.contains("changed.json is refused: HashMismatch")), (1, true), "{}", ended.err);
    assert_eq!(ended.out, "");
    let draft = JSON.replace("active", "draft");
    desk.write("draft.json", &draft);
    desk.sign(&["draft.json"]);
    assert_eq!(check("draft.json").code, 0, "what a draft would decide can be seen");
    desk.write("bad.yaml", &manifest("bad", "gpt-3.5"));
    let ended = desk.run(&["agent", "check", "bad.yaml", "--policy", "draft.json", "--trust", "keys", "-o", "json"]);
    assert_eq!(
        (ended.code, ended.err.contains("is a draft: this is what it would decide")),
        (1, true),
        "{}",
        ended.err
    );
    assert!(
        ended.out.contains("model.blocked") && ended.out.contains("nothing is enforced by it yet"),
        "{}",
        ended.out
    );
}

#[test]
fn what_cannot_be_found_out_ends_with_3_and_wrong_usage_with_2() {
    let desk = desk();
    desk.write("good.yaml", &manifest("good", "claude"));
    desk.write("typo.yaml", &manifest("good", "claude").replace("kind: Agent", "kind: Agnt"));
    desk.write("bare.yaml", "metadata: {name: good}\nspec: {model: {}}\n");
    desk.write("none.yaml", "apiVersion: v1\nkind: Secret\n");
    desk.write("kubeconfig", "apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: 'https://127.0.0.1:1'}}]\ncontexts: [{name: c, context: {cluster: c, user: u}}]\ncurrent-context: c\nusers: [{name: u, user: {token: t}}]\n");
    for (arguments, code, said) in [
        (&["good.yaml", "--policy", "no.json", "--trust", "keys"][..], 3, "cannot read no.json"),
        (&["no.yaml", "--policy", "p.json", "--trust", "keys"], 3, "cannot read no.yaml"),
        (&["typo.yaml", "--policy", "p.json", "--trust", "keys"], 1, "typo.yaml: a \"Agnt\" of sekuire.ai/v1alpha1"),
        (
            &["bare.yaml", "--policy", "p.json", "--trust", "keys"],
            1,
            "bare.yaml: a manifest without apiVersion or kind",
        ),
        (&["none.yaml", "--policy", "p.json", "--trust", "keys"], 1, "no Agent of sekuire.ai/v1alpha1 in none.yaml"),
        (&["good.yaml", "--workspace", "ws_a", "--kubeconfig", "kubeconfig"], 3, "no answer from https://127.0.0.1:1"),
        (&["good.yaml", "--workspace", "ws_a", "--kubeconfig", "none"], 3, "cannot read kubeconfig none"),
        (&["good.yaml", "--workspace", "ws_a", "--policy", "p.json"], 2, "cannot be used with"),
        (&["--policy", "p.json"], 2, "FILE"),
    ] {
        let ended = desk.run(&[&["agent", "check"], arguments].concat());
        assert_eq!((ended.code, ended.err.contains(said)), (code, true), "{arguments:?}: {}", ended.err);
    }
}

#[test]
fn an_agent_that_serde_json_would_read_out_of_a_text_is_read_as_what_it_says() {
    let desk = desk();
    let spec = r#"{"model": {"provider": "p", "name": "claude"}}"#;
    let token = "$serde_json::private::RawValue";
    let of = |spec: Value| serde_json::json!({"apiVersion": "sekuire.ai/v1alpha1", "kind": "Agent", "metadata": {"name": "a"}, "spec": spec});
    let whole = of(serde_json::from_str(spec).unwrap()).to_string();
    let mut nested = spec.to_owned();
    for _ in 0..10 {
        nested = serde_json::json!({token: nested}).to_string();
    }
    // each of them would comply; as JSON and as YAML, in a list, and beside the good one
    let attempts = [
        format!(
            "{{\"apiVersion\":\"sekuire.ai/v1alpha1\",\"kind\":\"Agent\",\"metadata\":{{\"name\":\"a\"}},\"spec\":{}}}",
            serde_json::json!({token: spec})
        ),
        format!(
            "{{\"apiVersion\":\"sekuire.ai/v1alpha1\",\"kind\":\"Agent\",\"metadata\":{{\"name\":\"a\"}},\"spec\":{nested}}}"
        ),
        format!("apiVersion: sekuire.ai/v1alpha1\nkind: Agent\nmetadata: {{name: a}}\nspec:\n  {token}: '{spec}'\n"),
        format!(
            "apiVersion: sekuire.ai/v1alpha1\nkind: Agent\nmetadata: {{name: a}}\nspec:\n  model:\n    {token}: '{{\"provider\":\"p\",\"name\":\"claude\"}}'\n"
        ),
        serde_json::json!({token: whole}).to_string(),
    ];
    for attempt in attempts {
        desk.write("a.yaml", &attempt);
        let ended = desk.run(&["agent", "check", "a.yaml", "--policy", "p.json", "--trust", "keys"]);
        assert_ne!(ended.code, 0, "{attempt}: {}{}", ended.out, ended.err);
        assert!(!ended.out.contains('✓') && !ended.err.contains("panicked"), "{attempt}: {}{}", ended.out, ended.err);
    }
}
