//! `docs/` says what is so: its examples are run, its lists are complete, its links lead somewhere.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use sekuire_policy::api::SigningKey;
use sekuire_policy::policy::{AgentSpec, Document, Enforced, KeyRing, Reason, Rule, Subject, decide, verify};

use super::support::Desk;
use crate::cluster::Signer;
use crate::cluster::skip::skip;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

pub(super) fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A block of code, and what stands behind its fence.
pub(super) struct Block {
    pub(super) info: String,
    pub(super) text: String,
}

pub(super) fn blocks(markdown: &str) -> Vec<Block> {
    let (mut found, mut open): (Vec<Block>, Option<Block>) = (Vec::new(), None);
    for line in markdown.lines() {
        match (line.strip_prefix("```"), open.take()) {
            (Some(info), None) => open = Some(Block { info: info.to_owned(), text: String::new() }),
            (Some(_), Some(block)) => found.push(block),
            (None, Some(block)) => open = Some(Block { text: format!("{}{line}\n", block.text), ..block }),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block is not closed");
    found
}

fn headings(markdown: &str) -> Vec<String> {
    let outside = markdown.split("```").step_by(2).collect::<String>();
    let heading = |line: &str| line.starts_with('#').then(|| line.trim_start_matches('#').trim().to_owned());
    outside.lines().filter_map(heading).collect()
}

/// The rules of the policy reference, each with its section.
fn rules() -> Vec<(String, Vec<Block>)> {
    let reference = read("docs/policy-reference.md");
    let sections = reference.split("\n#### ").skip(1);
    sections.map(|section| (section.lines().next().unwrap().to_owned(), blocks(section))).collect()
}

fn the<'b>(blocks: &'b [Block], info: &str) -> &'b str {
    blocks.iter().find(|block| block.info == info).map_or("", |block| &block.text)
}

/// The document that an example stands for.
fn policy(snippet: &str) -> Value {
    let mut document = json!({
        "policy_id": "policy_payments", "workspace_id": "ws_payments", "version": "1", "status": "active"
    });
    let members: serde_json::Map<String, Value> = serde_yaml::from_str(snippet).unwrap();
    document.as_object_mut().unwrap().extend(members);
    document
}

/// The agent that an example stands for.
fn agent(snippet: &str) -> Value {
    let mut agent: Value = serde_yaml::from_str(snippet).unwrap();
    let spec = agent["spec"].as_object_mut().unwrap();
    spec.entry("model").or_insert(json!({"provider": "anthropic", "name": "claude-sonnet-4-5"}));
    json!({
        "apiVersion": "sekuire.ai/v1alpha1", "kind": "Agent",
        "metadata": {"name": "example", "namespace": "payments"}, "spec": agent["spec"]
    })
}

#[test]
fn every_rule_has_a_section_and_an_example_that_it_refuses() {
    let documented: Vec<String> = rules().into_iter().map(|(rule, _)| rule).collect();
    assert_eq!(documented, Rule::ALL.map(Rule::as_str));
    for (rule, blocks) in rules() {
        let refusal = the(&blocks, "text refusal");
        assert!(refusal.lines().any(|line| line.ends_with(&format!("[{rule}]"))), "{rule}: {refusal}");
    }
}

/// These two are about the cluster and the clock, and no file alone breaks them.
const NOT_OF_A_FILE: [&str; 2] = ["workspace.unbound", "policy.expired"];

/// The sections of the policy reference that show a policy for a task, with the agents that it allows and refuses.
fn tasks() -> Vec<(String, Vec<Block>)> {
    let reference = read("docs/policy-reference.md");
    let before = reference.split("\n#### ").next().unwrap();
    let sections = before.split("\n## ").skip(1);
    let all = sections.map(|section| (section.lines().next().unwrap().to_owned(), blocks(section)));
    all.filter(|(_, blocks)| blocks.iter().any(|block| block.info == "yaml policy")).collect()
}

#[test]
fn the_examples_of_the_rules_are_judged_as_the_reference_says() {
    let desk = Desk::new();
    assert_eq!(tasks().len(), 1);
    for (rule, blocks) in tasks().into_iter().chain(rules()).filter(|(rule, _)| !NOT_OF_A_FILE.contains(&rule.as_str()))
    {
        desk.write("policy.json", &policy(the(&blocks, "yaml policy")).to_string());
        let signed = desk.sign(&["policy.json"]);
        assert_eq!(signed.code, 0, "{rule}: {}", signed.err);
        for block in blocks.iter().filter(|block| block.info.starts_with("yaml agent")) {
            desk.write("agent.json", &agent(&block.text).to_string());
            let ended = desk.run(&["agent", "check", "agent.json", "--policy", "policy.json", "--trust", "keys"]);
            let printed: String = ended
                .out
                .lines()
                .filter_map(|line| line.strip_prefix("    "))
                .map(|line| format!("{line}\n"))
                .collect();
            let expected = match block.info.as_str() {
                "yaml agent allowed" => (0, ""),
                _ => (1, the(&blocks, "text refusal")),
            };
            assert_eq!((ended.code, printed.as_str()), expected, "{rule}, {}: {}", block.info, ended.err);
        }
    }
}

#[test]
fn the_rules_about_cluster_and_clock_speak_as_the_reference_says() {
    // not by the command, which signs nothing that is past its time
    let signer = Signer::new(1);
    let key: SigningKey = serde_json::from_value(signer.manifest("key", &["*"])).unwrap();
    let keys = KeyRing::new([key.spec.trusted_key().unwrap()]);
    for (rule, blocks) in rules().into_iter().filter(|(rule, _)| NOT_OF_A_FILE.contains(&rule.as_str())) {
        let text = match the(&blocks, "yaml policy") {
            "" => "content: {}\n",
            text => text,
        };
        let document = Document::from_value(signer.sign(policy(text))).unwrap();
        let policy = verify(document, &keys, "2026-06-30T23:59:59Z".parse().unwrap()).unwrap();
        let spec: AgentSpec =
            serde_json::from_value(agent(the(&blocks, "yaml agent refused"))["spec"].clone()).unwrap();
        let workspace = (rule != "workspace.unbound").then_some("ws_payments");
        let subject = Subject { namespace: "payments", workspace };
        let enforced = Enforced::Policy { policy: &policy, commit: None };
        let decision = decide(&subject, enforced, &spec, "2026-07-01T00:00:00Z".parse().unwrap());
        let said: String =
            decision.violations.iter().map(|v| format!("{}: {} [{}]\n", v.field, v.message, v.rule)).collect();
        assert_eq!(said, the(&blocks, "text refusal"), "{rule}");
    }
}

#[test]
fn every_reason_has_a_section_and_every_rule_a_line_in_the_troubleshooting() {
    let text = read("docs/troubleshooting.md");
    let headings = headings(&text);
    // those of repositories and keys; `Archived` and `Failed` stand in conditions beside them
    let others = [
        "Archived",
        "Succeeded",
        "AuthenticationFailed",
        "GitOperationFailed",
        "URLInvalid",
        "InvalidCommitSignature",
        "Suspended",
        "Stale",
        "NotServed",
        "SecretMissing",
        "SecretInvalid",
        "Failed",
        "WeakKey",
        "DuplicateKeyId",
        "MalformedKey",
    ];
    for reason in Reason::ALL.map(Reason::as_str).into_iter().chain(others) {
        assert!(headings.iter().any(|heading| heading == reason), "{reason}");
    }
    for rule in Rule::ALL.map(Rule::as_str) {
        assert!(text.contains(&format!("`{rule}`")), "{rule}");
    }
}

#[test]
fn the_script_for_a_kms_signs() {
    let missing = |program: &str| std::process::Command::new(program).arg("version").output().is_err();
    if missing("openssl") {
        skip!("needs openssl");
    }
    let desk = Desk::new();
    let script = blocks(&read("docs/signing-and-keys.md")).into_iter().find(|block| block.info == "sh signer").unwrap();
    desk.write("sign-with-kms", &script.text);
    let prepare = "chmod +x sign-with-kms && openssl genpkey -algorithm ed25519 -out kms.pem && \
                   openssl pkey -in kms.pem -pubout -out kms.pub";
    let done = std::process::Command::new("sh").args(["-c", prepare]).current_dir(desk.path("")).status().unwrap();
    assert!(done.success());
    desk.write("policy.json", &policy("content: {}").to_string());
    let signer = ["policy", "sign", "policy.json", "--signer", "./sign-with-kms", "--public-key", "kms.pub"];
    let signed = desk.run(&signer);
    assert_eq!(signed.code, 0, "{}", signed.err);
    let verified = desk.run(&["policy", "validate", "--file", "policy.json", "--trust", "kms.pub"]);
    assert_eq!(verified.code, 0, "{}{}", verified.out, verified.err);
}

/// The name under which a heading is linked to.
fn anchor(heading: &str) -> String {
    let heading = heading.to_lowercase().replace(' ', "-");
    heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect()
}

#[test]
fn links_lead_to_files_and_headings_that_are_there() {
    let mut pages: Vec<PathBuf> = fs::read_dir(root().join("docs")).unwrap().map(|e| e.unwrap().path()).collect();
    pages.extend(["README.md", "CONTRIBUTING.md", "policies-example/README.md"].map(|name| root().join(name)));
    for page in pages.iter().filter(|page| page.extension().is_some_and(|e| e == "md")) {
        let text = read(page);
        let prose = text.split("```").step_by(2).collect::<String>();
        for link in prose.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            if link.starts_with("http") {
                continue;
            }
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            assert!(target.exists(), "{}: {link}", page.display());
            if !heading.is_empty() {
                let anchors: BTreeSet<String> = headings(&read(&target)).iter().map(|h| anchor(h)).collect();
                assert!(anchors.contains(heading), "{}: {link}", page.display());
            }
        }
    }
}
