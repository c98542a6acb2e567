//! The label `sekuire.ai/enforcement`, from the label to what kubectl prints and the audit log holds.

use serde_json::{Value, json};

use super::support::{LABELS, allow_everything, fastest_within_a_second, protect_labels, takes_effect};
use crate::cluster::{Cluster, ControllerOptions, Ran, User, controller::sekuire};
use crate::resilience::support::{DENIED, Site, agent, logged, until};

const LABEL: &str = "sekuire.ai/enforcement";

/// A site whose API server writes audit events of agents into the file `audit`.
async fn audited() -> (Site, std::path::PathBuf, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let (policy, log) = (folder.path().join("policy.yaml"), folder.path().join("audit"));
    let rules = json!({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"],
        "rules": [{"level": "Metadata", "resources": [{"group": "sekuire.ai", "resources": ["agents"]}]},
            {"level": "None"}]});
    std::fs::write(&policy, rules.to_string()).unwrap();
    let options = Cluster::options()
        .api_server_flag(&format!("--audit-policy-file={}", policy.display()))
        .api_server_flag(&format!("--audit-log-path={}", log.display()));
    (Site::new(options).await, log, folder)
}

/// Has kubectl make an agent that breaks a rule.
async fn kubectl(site: &Site, namespace: &str, name: &str) -> Ran {
    let manifest = serde_json::to_string(&agent(namespace, name, &[DENIED])).unwrap();
    site.cluster.kubectl_as(User::ADMIN, &["create", "-f", "-"], &manifest).await
}

async fn set(site: &Site, namespace: &str, labels: &[&str]) {
    let mut args = vec!["label", "namespace", namespace, "--overwrite"];
    args.extend(labels);
    site.cluster.kubectl_as(User::ADMIN, &args, "").await.ok();
}

/// The annotations of the audit event of an agent's creation that begin with the name of our webhook.
fn audit_annotations(log: &std::path::Path, name: &str) -> Option<Value> {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let mut events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let event = events.find(|event| event["verb"] == "create" && event["objectRef"]["name"] == name)?;
    let all = event["annotations"].as_object()?.iter().filter(|(key, _)| key.starts_with("agents.sekuire.ai/"));
    Some(Value::Object(all.map(|(key, value)| (key.clone(), value.clone())).collect()))
}

#[tokio::test]
async fn warn_admits_with_the_words_of_the_denial_audit_is_silent_and_anything_else_enforces() {
    let (site, audit, _folder) = audited().await;
    protect_labels(&site.cluster).await;
    let namespace = site.namespace("ws_a").await;
    site.commit([&site.document("ws_a", "1", &[DENIED])]).await;
    let controller = ControllerOptions::new("a").flags(["--label-policy", LABELS]).start(&site.cluster).await;
    site.enforced("ws-a", "1").await;
    let denial = denied_by_policy(&site, &namespace).await;

    set(&site, &namespace, &[&format!("{LABEL}=warn")]).await;
    let warned = until_ok("warn is obeyed", async || kubectl(&site, &namespace, "warned").await).await;
    let violation = denial.lines().find(|line| line.starts_with("- spec.tools")).unwrap();
    for words in [
        "Warning: admitted, as the namespace is labelled sekuire.ai/enforcement: warn",
        &format!("Warning: Agent {namespace}/warned would be refused for 1 violation of policy policy_ws_a version 1"),
        &format!("Warning: {violation}"),
    ] {
        assert!(warned.stderr.contains(words), "{words}\n{warned}");
    }

    set(&site, &namespace, &[&format!("{LABEL}=audit")]).await;
    let silent = until_ok("audit is obeyed", async || {
        let ran = kubectl(&site, &namespace, "audited").await;
        if ran.succeeded() && !ran.stderr.is_empty() {
            site.cluster.kubectl(["delete", "skagent", "audited", "-n", &namespace]).await.ok();
            return Ran { code: Some(1), ..ran };
        }
        ran
    })
    .await;
    assert_eq!(silent.stderr, "");
    for (name, mode) in [("warned", "warn"), ("audited", "audit")] {
        let expected = json!({"agents.sekuire.ai/decision": "deny", "agents.sekuire.ai/mode": mode,
            "agents.sekuire.ai/policy": "policy_ws_a version 1",
            "agents.sekuire.ai/violations": "spec.tools[0].name [tool.blocked]"});
        until("the audit event", async || {
            let last = audit_annotations(&audit, name);
            if last.as_ref() == Some(&expected) { Ok(()) } else { Err(last) }
        })
        .await;
        logged(&controller, &format!("mode=\"{mode}\"")).await;
    }

    set(&site, &namespace, &[&format!("{LABEL}=wran")]).await;
    refused(&site, &namespace, "is \"wran\", which is none of enforce, warn, audit").await;
    logged(&controller, "label not understood").await;
    // nobody's agents are spared by no mode
    set(&site, &namespace, &[&format!("{LABEL}=warn"), "sekuire.ai/workspace=ws_none"]).await;
    until("it is refused for that alone", async || {
        let ran = kubectl_dry(&site, &namespace).await;
        let said = ran.stderr.contains("[policy.missing]") && ran.stderr.contains("are enforced all the same");
        if !ran.succeeded() && said { Ok(()) } else { Err(ran) }
    })
    .await;
}

/// What is said to an agent that the policy denies. The watch may bring the namespace, and the policy, a moment later than
/// their objects are there.
async fn denied_by_policy(site: &Site, namespace: &str) -> String {
    let words = "is refused for 1 violation of policy policy_ws_a version 1";
    until("it is refused by the policy", async || {
        let said = kubectl_dry(site, namespace).await.stderr;
        if said.contains(words) { Ok(()) } else { Err(said) }
    })
    .await;
    let denial = kubectl(site, namespace, "denied").await.refused();
    assert!(denial.contains(words), "{denial}");
    denial
}

/// Tries until an agent is refused with these words, which may take until the watches have brought a change: until then it
/// may be refused for another reason, too.
async fn refused(site: &Site, namespace: &str, words: &str) {
    until(&format!("it is refused: {words}"), async || {
        let ran = kubectl_dry(site, namespace).await;
        if !ran.succeeded() && ran.stderr.contains(words) { Ok(()) } else { Err(ran) }
    })
    .await;
}

async fn kubectl_dry(site: &Site, namespace: &str) -> Ran {
    let manifest = serde_json::to_string(&agent(namespace, "dry", &[DENIED])).unwrap();
    site.cluster.kubectl_as(User::ADMIN, &["create", "--dry-run=server", "-f", "-"], &manifest).await
}

async fn until_ok(what: &str, ask: impl AsyncFn() -> Ran) -> Ran {
    let last = std::cell::RefCell::new(None);
    until(what, async || {
        let ran = ask().await;
        if !ran.succeeded() {
            return Err(ran);
        }
        last.replace(Some(ran));
        Ok(())
    })
    .await;
    last.into_inner().unwrap()
}

#[tokio::test]
async fn labels_are_obeyed_only_while_the_policy_that_protects_them_is_in_force() {
    let site = Site::new(Cluster::options()).await;
    allow_everything(&site.cluster).await;
    let namespace = site.namespace("ws_a").await;
    set(&site, &namespace, &[&format!("{LABEL}=warn")]).await;
    site.commit([&site.document("ws_a", "1", &[DENIED])]).await;
    let untold = ControllerOptions::new("untold").start(&site.cluster).await;
    site.enforced("ws-a", "1").await;
    let but = "is labelled sekuire.ai/enforcement: warn, but such labels are not obeyed: ";
    let untold_why = format!("{but}the controller was told of no policy that protects them");
    refused(&site, &namespace, &untold_why).await;
    drop(untold);

    let controller = ControllerOptions::new("told").flags(["--label-policy", LABELS]).start(&site.cluster).await;
    let says = async |why: &str| {
        until(why, async || {
            let ran = kubectl_dry(&site, &namespace).await;
            if !ran.succeeded() && ran.stderr.contains(but) && ran.stderr.contains(why) { Ok(()) } else { Err(ran) }
        })
        .await;
    };
    says("ValidatingAdmissionPolicy sekuire-policy-controller-labels does not exist").await;
    // the log tells what lasts for a second, as the changes below may not
    logged(&controller, "labels of namespaces are not obeyed").await;
    protect_labels(&site.cluster).await;
    logged(&controller, "labels of namespaces are protected, and obeyed").await;
    let patch = async |kind: &str, patch: Value| {
        site.cluster.kubectl(["patch", kind, LABELS, "--type=merge", "-p", &patch.to_string()]).await.ok();
    };
    let (policy, binding) = ("validatingadmissionpolicy", "validatingadmissionpolicybinding");
    let narrow = json!({"namespaceSelector": {"matchLabels": {"a": "b"}}});
    for (kind, change, why) in [
        (policy, json!({"spec": {"failurePolicy": "Ignore"}}), "failurePolicy differs"),
        (policy, json!({"spec": {"matchConstraints": narrow}}), "matchConstraints differs"),
        (policy, json!({"spec": {"validations": [{"expression": "true"}]}}), "validations differs"),
        (binding, json!({"spec": {"validationActions": ["Audit"]}}), "does not deny"),
        (binding, json!({"spec": {"matchResources": narrow}}), "matchResources"),
    ] {
        site.cluster.kubectl(["delete", kind, LABELS, "--ignore-not-found"]).await.ok();
        protect_labels(&site.cluster).await;
        until_ok("it is obeyed", async || kubectl_dry(&site, &namespace).await).await;
        patch(kind, change).await;
        says(why).await;
    }
    site.cluster.kubectl(["delete", binding, LABELS]).await.ok();
    says("Binding sekuire-policy-controller-labels does not exist").await;
}

#[tokio::test]
async fn a_label_takes_effect_within_a_second() {
    let site = Site::new(Cluster::options()).await;
    protect_labels(&site.cluster).await;
    let namespace = site.namespace("ws_a").await;
    site.commit([&site.document("ws_a", "1", &[DENIED])]).await;
    let one = ControllerOptions::new("a").flags(["--label-policy", LABELS]).start(&site.cluster).await;
    site.enforced("ws-a", "1").await;
    let two = ControllerOptions::new("b").flags(["--label-policy", LABELS]).start(&site.cluster).await;
    for controller in [&one, &two] {
        logged(controller, "labels of namespaces are protected, and obeyed").await;
    }
    let (mut relaxed, mut enforced) = (Vec::new(), Vec::new());
    for mode in ["warn", "audit", "warn"] {
        set(&site, &namespace, &[&format!("{LABEL}={mode}")]).await;
        relaxed.push(takes_effect(&[&one, &two], &namespace, true).await);
        set(&site, &namespace, &[&format!("{LABEL}=enforce")]).await;
        enforced.push(takes_effect(&[&one, &two], &namespace, false).await);
    }
    fastest_within_a_second(&relaxed);
    fastest_within_a_second(&enforced);
}

#[tokio::test]
async fn the_command_line_says_the_mode_and_shows_the_warnings_of_the_cluster() {
    let site = Site::new(Cluster::options()).await;
    protect_labels(&site.cluster).await;
    let namespace = site.namespace("ws_a").await;
    set(&site, &namespace, &[&format!("{LABEL}=warn")]).await;
    site.commit([&site.document("ws_a", "1", &[DENIED])]).await;
    let mut controller = ControllerOptions::new("a").flags(["--label-policy", LABELS]).start(&site.cluster).await;
    site.enforced("ws-a", "1").await;
    until_ok("warn is obeyed", async || kubectl_dry(&site, &namespace).await).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("agent.json");
    std::fs::write(&file, serde_json::to_string(&agent(&namespace, "pushed", &[DENIED])).unwrap()).unwrap();
    let kubeconfig = site.cluster.kubeconfig(User::ADMIN);
    let run = async |args: &[&str]| {
        let mut command = tokio::process::Command::new(sekuire());
        command.args(args).arg(&file).arg("--kubeconfig").arg(&kubeconfig);
        crate::cluster::command::run(command, b"").await
    };
    let checked = run(&["agent", "check"]).await;
    assert_eq!(checked.code, Some(1), "{checked}");
    let words = "its namespace is labelled sekuire.ai/enforcement: warn; where such labels are obeyed, it is admitted";
    assert!(checked.stdout.contains(words), "{checked}");
    let pushed = run(&["agent", "push", "--workspace", "ws_a"]).await;
    assert!(pushed.succeeded() && pushed.stdout.contains(&format!("applied {namespace}/pushed")), "{pushed}");
    assert!(pushed.stderr.contains("warning: pushed: admitted, as the namespace is labelled"), "{pushed}");
    assert!(pushed.stderr.contains("[tool.blocked]"), "{pushed}");

    // where the label is not obeyed, the cluster refuses before anything is applied
    site.cluster.kubectl(["delete", "skagent", "pushed", "-n", &namespace]).await.ok();
    controller.terminate().await;
    let _unprotected = ControllerOptions::new("b").start(&site.cluster).await;
    refused(&site, &namespace, "[tool.blocked]").await;
    let pushed = run(&["agent", "push", "--workspace", "ws_a"]).await;
    assert_eq!(pushed.code, Some(1), "{pushed}");
    assert!(pushed.stderr.contains("0 of 1 agents were applied"), "{pushed}");
}
