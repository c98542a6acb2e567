//! Beside kubectl, and as its plugin: which cluster, which namespace, whose fields, and what a tab completes.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::support::{Desk, Ended};
use crate::cluster::{Cluster, User};

const AGENT: &str = "apiVersion: sekuire.ai/v1alpha1\nkind: Agent\nmetadata: {name: probe}\nspec: {model: {provider: any, name: any}, rateLimits: {requestsPerMinute: 10}}\n";

/// The kubeconfig of a cluster, as data.
fn kubeconfig(cluster: &Cluster) -> Value {
    serde_json::from_str(&std::fs::read_to_string(cluster.kubeconfig(User::ADMIN)).unwrap()).unwrap()
}

fn namespaces(desk: &Desk, environment: &[(&str, &str)]) -> Ended {
    desk.run_with(environment, &["agent", "check", "agent.yaml"])
}

#[tokio::test]
#[allow(clippy::too_many_lines, reason = "a table of cases")]
async fn the_kubeconfig_is_found_as_kubectl_finds_it() {
    let cluster = Cluster::start().await;
    cluster.install_crds().await;
    cluster.kubectl(["create", "namespace", "context-namespace"]).await.ok();
    let desk = Desk::new();
    desk.write("agent.yaml", AGENT);
    std::fs::create_dir_all(desk.path("sub/.kube")).unwrap();
    let mut whole = kubeconfig(&cluster);
    whole["contexts"][0]["context"]["namespace"] = "context-namespace".into();
    desk.write("good", &whole.to_string());
    // the cluster in one file, who asks in another, and what belongs to them in files beside them
    let mut who = whole.clone();
    who["clusters"] = json!([]);
    let mut what = whole.clone();
    (what["users"], what["contexts"]) = (json!([]), json!([]));
    what.as_object_mut().unwrap().remove("current-context");
    let data = what["clusters"][0]["cluster"].as_object_mut().unwrap().remove("certificate-authority-data").unwrap();
    what["clusters"][0]["cluster"]["certificate-authority"] = "ca.crt".into();
    let authority = data.as_str().map_or_else(|| cluster.ca_pem(), |_| cluster.ca_pem());
    desk.write("sub/ca.crt", &authority);
    desk.write("who", &who.to_string());
    desk.write("sub/what", &what.to_string());
    desk.write("empty", "");
    desk.write("sub/.kube/config", &whole.to_string());
    let home = desk.path("sub").display().to_string();
    let (mut named, mut broken) = (whole.clone(), whole.clone());
    named["clusters"][0]["cluster"]["tls-server-name"] = "localhost".into();
    named["clusters"][0]["cluster"]["proxy-url"] = "".into();
    desk.write("named", &named.to_string());
    broken["clusters"][0]["cluster"]["proxy-url"] = "http://127.0.0.1:1".into();
    desk.write("proxied", &broken.to_string());
    for (what, environment) in [
        ("one", &[("KUBECONFIG", "good")][..]),
        ("one that is not there, before", &[("KUBECONFIG", "/nonexistent/config:good")]),
        ("one that is not there, behind", &[("KUBECONFIG", "good:/nonexistent/config:missing")]),
        ("empty names and files", &[("KUBECONFIG", ":empty::good:")]),
        ("two that make one", &[("KUBECONFIG", "who:sub/what")]),
        ("the other way round", &[("KUBECONFIG", "sub/what:missing:who")]),
        ("home", &[("HOME", home.as_str())]),
        ("an empty list", &[("KUBECONFIG", ""), ("HOME", home.as_str())]),
        ("tls-server-name, and a proxy of none", &[("KUBECONFIG", "named")]),
        (
            "a proxy for others",
            &[("KUBECONFIG", "good"), ("HTTPS_PROXY", "http://127.0.0.1:1"), ("NO_PROXY", "127.0.0.1")],
        ),
    ] {
        let ended = namespaces(&desk, environment);
        assert_eq!(ended.code, 1, "{what}: {}{}", ended.out, ended.err);
        assert!(
            ended.out.contains("context-namespace") && ended.out.contains("workspace.unbound"),
            "{what}: {}",
            ended.out
        );
    }
    desk.write("bad", "clusters: {");
    for (environment, said) in [
        (&[("KUBECONFIG", "/nonexistent/config:missing")][..], "found no cluster: no kubeconfig"),
        (&[("KUBECONFIG", "missing"), ("HOME", home.as_str())], "found no cluster: no kubeconfig"),
        (&[("KUBECONFIG", "good:bad")], "cannot read kubeconfig bad"),
        (&[("KUBECONFIG", "empty")], "found no cluster: no kubeconfig"),
        (&[("KUBECONFIG", "proxied"), ("NO_PROXY", "*")], "no answer from"),
    ] {
        let ended = namespaces(&desk, environment);
        assert_eq!((ended.code, ended.err.contains(said)), (3, true), "{environment:?}: {}", ended.err);
    }
    let ended = desk.run(&["agent", "check", "agent.yaml", "--kubeconfig", "missing"]);
    assert_eq!((ended.code, ended.err.contains("cannot read kubeconfig missing")), (3, true), "{}", ended.err);
}

#[tokio::test]
async fn an_agent_without_namespace_is_of_the_contexts_and_fields_of_others_are_taken_over_where_it_is_asked_for() {
    let cluster = Cluster::start().await;
    cluster.install_crds().await;
    cluster.kubectl(["create", "namespace", "payments"]).await.ok();
    let desk = Desk::new();
    desk.write("agent.yaml", AGENT);
    let mut config = kubeconfig(&cluster);
    config["contexts"][0]["context"]["namespace"] = "payments".into();
    desk.write("config", &config.to_string());
    let push = |more: &[&str]| {
        let args = ["agent", "push", "--kubeconfig", "config", "--dry-run=server", "agent.yaml"];
        desk.run(&[&args[..], more].concat())
    };
    let tried = push(&[]);
    assert_eq!((tried.code, tried.out.as_str()), (0, "would apply payments/probe\n"), "{}", tried.err);
    let tried = push(&["--namespace", "default"]);
    assert_eq!((tried.code, tried.out.as_str()), (0, "would apply default/probe\n"), "{}", tried.err);
    let applied = AGENT
        .replace("requestsPerMinute: 10", "requestsPerMinute: 11")
        .replace("name: probe", "name: probe, namespace: payments");
    cluster.apply(&applied).await.ok();
    let tried = push(&[]);
    assert_eq!(tried.code, 1, "{}", tried.out);
    assert!(
        tried.err.contains("kubectl-client-side-apply") && tried.err.contains("--force-conflicts"),
        "{}",
        tried.err
    );
    let tried = push(&["--force-conflicts"]);
    assert_eq!((tried.code, tried.out.as_str()), (0, "would apply payments/probe\n"), "{}", tried.err);
}

#[test]
fn kubectl_completes_the_plugin() {
    let desk = Desk::new();
    for name in ["kubectl_complete-sekuire", "kubectl-sekuire"] {
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_sekuire"), desk.path(name)).unwrap();
    }
    let complete = |words: &[&str]| {
        let mut command = Command::new(desk.path("kubectl_complete-sekuire"));
        let output = command.args(words).current_dir(desk.path("")).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    let names = |words: &[&str]| {
        let out = complete(words);
        out.lines().map(|line| line.split('\t').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(&["po"]), ["policy", ":4"]);
    assert!(names(&[""]).contains(&"agent".to_owned()) && names(&[""]).ends_with(&[":4".to_owned()]));
    assert_eq!(names(&["agent", ""]), ["check", "push", ":4"]);
    assert_eq!(names(&["agent", "push", "--force"]), ["--force-conflicts", ":4"]);
    assert_eq!(names(&["agent", "check", "-o", "j"]), ["json", ":4"]);
    assert_eq!(names(&["agent", "check", "--output=y"]), ["--output=yaml", ":4"]);
    assert_eq!(names(&["agent", "check", "a"]), [":0"], "files");
    assert_eq!(names(&["agent", "check", "--policy", ""]), [":0"], "files");
    assert_eq!(names(&["no-such", "x"]), [":4"]);
    assert!(
        complete(&["agent", "pu"]).starts_with("push\tApply agents to the cluster"),
        "{}",
        complete(&["agent", "pu"])
    );
    let output = Command::new(desk.path("kubectl-sekuire")).args(["completion", "bash"]).output().unwrap();
    let script = String::from_utf8(output.stdout).unwrap();
    assert!(script.contains("kubectl-sekuire") && !script.contains(" sekuire\n"), "{script}");
}
