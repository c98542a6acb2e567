//! `sekuire repo check`: the pull-request gate.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use serde_json::Value;

use super::support::{Desk, Ended};

const PAYMENTS: &str = "policies/payments/policy.json";
const NEXT: &str = "policies/payments/next.json";
const RESEARCH: &str = "policies/research/policy.yaml";

/// A copy of `policies-example` in a repository of its own, signed with the desk's key.
struct Gate(Desk);

/// A finding: reason, file and line.
type Found = (String, Option<String>, Option<u64>);

impl Gate {
    fn new() -> Gate {
        let gate = Gate(Desk::new());
        copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("policies-example"), &gate.0.path("repo"));
        for file in [PAYMENTS, NEXT, RESEARCH] {
            gate.sign(file);
        }
        gate.0.git_in("repo", &["init", "--quiet", "--initial-branch", "main"]);
        gate.commit();
        gate
    }

    fn commit(&self) {
        self.0.git_in("repo", &["add", "--all"]);
        self.0.git_in("repo", &["commit", "--quiet", "--message", "x"]);
    }

    fn read(&self, file: &str) -> String {
        self.0.read(&format!("repo/{file}"))
    }

    fn write(&self, file: &str, text: &str) {
        fs::create_dir_all(self.0.path(format!("repo/{file}")).parent().unwrap()).unwrap();
        self.0.write(&format!("repo/{file}"), text);
    }

    fn edit(&self, file: &str, from: &str, to: &str) {
        let text = self.read(file);
        assert!(text.contains(from), "{from} in {text}");
        self.write(file, &text.replacen(from, to, 1));
    }

    fn sign(&self, file: &str) {
        let ended = self.0.sign(&[&format!("repo/{file}")]);
        assert_eq!(ended.code, 0, "{}", ended.err);
    }

    /// Changes the one trusted key.
    fn distrust(&self, add: &str) {
        let file = format!("keys/{}.yaml", self.0.key_id);
        let manifest = self.0.read(&file);
        self.0.write(&file, &format!("{}\n{add}\n", manifest.trim_end()));
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        self.0.run(&[&["repo", "check", "repo", "--trust", "keys"], arguments].concat())
    }

    /// The findings against the last commit, with the exit code that belongs to them.
    fn check(&self, arguments: &[&str]) -> Vec<Found> {
        let ended = self.run(&[&["--base", "HEAD", "--output", "json"], arguments].concat());
        let report: Value =
            serde_json::from_str(&ended.out).unwrap_or_else(|e| panic!("{e}: {}{}", ended.out, ended.err));
        let findings = report["findings"].as_array().unwrap();
        assert_eq!(ended.code, i32::from(!findings.is_empty()), "{}", ended.err);
        let uploaded = self.upload(&[&["--base", "HEAD"], arguments].concat());
        assert_eq!(uploaded.len(), findings.len());
        findings
            .iter()
            .map(|finding| {
                let text = |name: &str| finding[name].as_str().map(str::to_owned);
                assert_eq!((text("level").unwrap(), text("message").unwrap().is_empty()), ("error".to_owned(), false));
                (text("reason").unwrap(), text("file"), finding["line"].as_u64())
            })
            .collect()
    }

    /// The results that GitHub's code scanning takes, which takes all or nothing: each needs a rule, words, and a place in a file
    /// (docs.github.com, "SARIF support for code scanning").
    fn upload(&self, arguments: &[&str]) -> Vec<Value> {
        let ended = self.run(&[arguments, &["--output", "sarif"]].concat());
        let sarif: Value = serde_json::from_str(&ended.out).unwrap_or_else(|e| panic!("{e}: {}", ended.out));
        let run = &sarif["runs"][0];
        let results = run["results"].as_array().unwrap().clone();
        for result in &results {
            let rule = &run["tool"]["driver"]["rules"][usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap()];
            assert_eq!(rule["id"], result["ruleId"], "{result}");
            assert!(result["message"]["text"].as_str().is_some_and(|text| !text.is_empty()), "{result}");
            let locations = result["locations"].as_array().unwrap();
            assert!(!locations.is_empty(), "expected at least one location: {result}");
            for location in locations.iter().map(|location| &location["physicalLocation"]) {
                let uri = location["artifactLocation"]["uri"].as_str().unwrap();
                let allowed = |c: char| c.is_ascii_graphic() && !"\"<>\\^`{|}".contains(c);
                assert!(!uri.is_empty() && uri.chars().all(allowed), "{result}");
                assert!(!uri.starts_with('/') && (!uri.contains(':') || uri.starts_with("file:///")), "{result}");
                for member in ["startLine", "startColumn"] {
                    assert!(location["region"][member].as_u64().unwrap() >= 1, "{result}");
                }
            }
        }
        results
    }

    /// The line of the first text like this.
    fn line(&self, file: &str, text: &str) -> u64 {
        let line = self.read(file).lines().position(|line| line.contains(text));
        line.unwrap_or_else(|| panic!("no {text} in {file}")) as u64 + 1
    }

    /// The one finding that is expected, at the line with this text.
    fn expect(&self, reason: &str, file: &str, text: &str) -> Vec<Found> {
        vec![(reason.to_owned(), Some(file.to_owned()), Some(self.line(file, text)))]
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.path().is_dir() {
            copy(&entry.path(), &to.join(entry.file_name()));
        } else {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

#[test]
fn the_example_passes_as_it_is() {
    let desk = Desk::new();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies-example");
    let (folder, keys) = (example.to_str().unwrap(), example.join("keys"));
    let ended = desk.run(&["repo", "check", folder, "--trust", keys.to_str().unwrap()]);
    assert_eq!(ended.code, 0, "{}{}", ended.out, ended.err);
    assert!(ended.out.ends_with("\n3 documents, 0 faults\n"), "{}", ended.out);
    assert_eq!(ended.out.matches('✓').count(), 3);
    assert_eq!(Gate::new().check(&[]), []);
}

#[test]
fn each_reason_of_a_document_by_itself_is_found_in_its_file_and_line() {
    let malformed = Gate::new();
    malformed.edit(PAYMENTS, "denied_models", "denied_model");
    assert_eq!(malformed.check(&[]), malformed.expect("Malformed", PAYMENTS, "\"denied_model\""));

    let link = Gate::new();
    std::os::unix::fs::symlink("../research/policy.yaml", link.0.path("repo/policies/payments/link.yaml")).unwrap();
    let file = Some("policies/payments/link.yaml".to_owned());
    assert_eq!(link.check(&[]), [("Malformed".to_owned(), file, None)]);

    let unknown = Gate::new();
    unknown.edit(RESEARCH, &unknown.0.key_id, "key_of_somebody");
    assert_eq!(unknown.check(&[]), unknown.expect("UnknownSigningKey", RESEARCH, "signing_key_id"));

    let hash = Gate::new();
    hash.edit(PAYMENTS, "\"invoice_search\"", "\"invoice_delete\"");
    assert_eq!(hash.check(&[]), hash.expect("HashMismatch", PAYMENTS, "\"hash\""));

    for (member, reason) in [("signature", "SignatureInvalid"), ("document_signature", "DocumentSignatureInvalid")] {
        let gate = Gate::new();
        let text = gate.read(PAYMENTS);
        let document: Value = serde_json::from_str(&text).unwrap();
        let signature = document[member].as_str().unwrap();
        let other = if signature.starts_with('0') { '1' } else { '0' };
        gate.edit(PAYMENTS, signature, &format!("{other}{}", &signature[1..]));
        assert_eq!(gate.check(&[]), gate.expect(reason, PAYMENTS, &format!("\"{member}\"")));
    }
    for (member, reason) in [("signature", "SignatureMissing"), ("document_signature", "DocumentSignatureMissing")] {
        let gate = Gate::new();
        let lines = gate.read(RESEARCH);
        let kept: Vec<&str> = lines.lines().filter(|line| !line.starts_with(&format!("{member}:"))).collect();
        gate.write(RESEARCH, &format!("{}\n", kept.join("\n")));
        assert_eq!(gate.check(&[]), gate.expect(reason, RESEARCH, "policy_id"), "the document, which lacks it");
    }

    let two = Gate::new();
    let threshold = "{apiVersion: sekuire.ai/v1alpha1, kind: SigningThreshold, metadata: {name: two}, \
                     spec: {workspaces: [ws_research], signatures: 2}}";
    two.0.write("keys/two.yaml", threshold);
    assert_eq!(two.check(&[]), two.expect("ThresholdNotMet", RESEARCH, "policy_id"), "the document, which has one");
    let made = two.0.run(&["key", "generate", "--out", "strangers"]);
    let stranger = format!("strangers/{}.pem", made.out.lines().next().unwrap());
    let ended = two.0.run(&["policy", "cosign", &format!("repo/{RESEARCH}"), "--key", &stranger]);
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert_eq!(two.check(&[]), two.expect("ThresholdNotMet", RESEARCH, "co_signatures"));

    let expired = Gate::new();
    expired.edit(PAYMENTS, "\"version\": \"1.2\"", "\"version\": \"1.3\",\n  \"expires_at\": \"2030-01-01T00:00:00Z\"");
    expired.sign(PAYMENTS);
    assert_eq!(expired.check(&["--now", "2029-12-31T00:00:00Z"]), []);
    assert_eq!(
        expired.check(&["--now", "2030-01-01T00:00:00Z"]),
        expired.expect("PolicyExpired", PAYMENTS, "expires_at")
    );
}

#[test]
fn each_reason_of_a_key_is_found_at_the_key_of_every_document() {
    for (change, reason) in [
        ("  revoked: {reason: stolen}", "KeyRevoked"),
        ("  notBefore: 2040-01-01T00:00:00Z", "KeyNotYetValid"),
        ("  notAfter: 2020-01-01T00:00:00Z", "KeyExpired"),
    ] {
        let gate = Gate::new();
        gate.distrust(change);
        let found = gate.check(&[]);
        let expected = [NEXT, PAYMENTS, RESEARCH].map(|file| gate.expect(reason, file, "signing_key_id").remove(0));
        assert_eq!(found, expected);
    }
    let gate = Gate::new();
    let file = format!("keys/{}.yaml", gate.0.key_id);
    let manifest = gate.0.read(&file).replace("- '*'", "- ws_payments");
    assert!(manifest.contains("ws_payments"), "{manifest}");
    gate.0.write(&file, &manifest);
    assert_eq!(gate.check(&[]), gate.expect("KeyNotAuthorized", RESEARCH, "signing_key_id"));
}

#[test]
fn each_reason_of_a_change_is_found_against_the_base() {
    let rollback = Gate::new();
    rollback.edit(RESEARCH, "version: \"3\"", "version: \"2\"");
    rollback.sign(RESEARCH);
    assert_eq!(rollback.check(&[]), rollback.expect("VersionRollback", RESEARCH, "version:"));

    let reused = Gate::new();
    reused.edit(PAYMENTS, "\"invoice_search\"", "\"invoice_delete\"");
    reused.sign(PAYMENTS);
    assert_eq!(reused.check(&[]), reused.expect("VersionReused", PAYMENTS, "\"version\""));

    let conflict = Gate::new();
    let other = conflict.read(RESEARCH).replace("policy_research", "policy_other").replace("\"3\"", "\"4\"");
    conflict.write("policies/other.yaml", &other);
    conflict.sign("policies/other.yaml");
    assert_eq!(conflict.check(&[]), conflict.expect("ConflictingPolicies", "policies/other.yaml", "policy_id"));

    let not_owned = Gate::new();
    let other = not_owned.read(RESEARCH).replace("ws_research", "ws_finance");
    not_owned.write("policies/finance.yaml", &other);
    not_owned.sign("policies/finance.yaml");
    assert_eq!(not_owned.check(&[]), not_owned.expect("WorkspaceNotOwned", "policies/finance.yaml", "workspace_id"));

    let deleted = Gate::new();
    fs::remove_file(deleted.0.path(format!("repo/{RESEARCH}"))).unwrap();
    assert_eq!(deleted.check(&[]), [("SourceMissing".to_owned(), Some(RESEARCH.to_owned()), None)]);

    let many = Gate::new();
    let folder = many.0.path("repo/policies/many");
    fs::create_dir(&folder).unwrap();
    for i in 0..20_000 {
        fs::write(folder.join(format!("{i}.json")), "").unwrap();
    }
    assert_eq!(many.check(&[]), [("LimitExceeded".to_owned(), None, None)]);
}

#[test]
fn a_history_that_is_not_the_one_of_the_base_is_found() {
    let gate = Gate::new();
    gate.0.git_in("repo", &["checkout", "--quiet", "--orphan", "other"]);
    gate.write("README.md", "another beginning");
    gate.commit();
    let found = gate.run(&["--base", "main", "--output", "json"]);
    assert_eq!((found.code, found.out.contains("\"HistoryRewritten\"")), (1, true), "{}", found.out);

    // a pull request may lag behind; a push may not
    let gate = Gate::new();
    gate.0.git_in("repo", &["checkout", "--quiet", "-b", "change"]);
    gate.write("README.md", "changed");
    gate.commit();
    gate.0.git_in("repo", &["checkout", "--quiet", "main"]);
    gate.write("other.txt", "changed too");
    gate.commit();
    gate.0.git_in("repo", &["checkout", "--quiet", "change"]);
    assert_eq!(gate.run(&["--base", "main"]).code, 0);
    let pushed = gate.run(&["--base", "main", "--push"]);
    assert_eq!((pushed.code, pushed.out.contains("HEAD does not descend from main")), (1, true), "{}", pushed.out);
}

#[test]
fn a_change_cannot_lead_the_gate_away_from_what_the_controller_reads() {
    let ignored = Gate::new();
    ignored.write("policies/.gitignore", "hidden/\n");
    ignored.write("policies/hidden/bad.json", "{}");
    assert_eq!(ignored.check(&[]), [], "nothing that will be committed");
    ignored.0.git_in("repo", &["add", "--force", "policies/hidden/bad.json"]);
    assert_eq!(ignored.check(&[])[0].1.as_deref(), Some("policies/hidden/bad.json"));

    let moved = Gate::new();
    moved.edit("repository.yaml", "path: policies", "path: nothing");
    moved.write("nothing/note.txt", "");
    moved.edit(PAYMENTS, "denied_models", "denied_model");
    assert_eq!(moved.check(&[]), moved.expect("Malformed", PAYMENTS, "\"denied_model\""));

    // what Git would follow no link to is not there
    let linked = Gate::new();
    fs::rename(linked.0.path("repo/policies"), linked.0.path("repo/real")).unwrap();
    std::os::unix::fs::symlink("real", linked.0.path("repo/policies")).unwrap();
    let reasons: Vec<String> = linked.check(&[]).into_iter().map(|found| found.0).collect();
    assert_eq!(reasons, ["SourceMissing", "SourceMissing"]);

    let name = std::ffi::OsStr::from_bytes(b"b\xff.yaml");
    let bytes = Gate::new();
    fs::rename(bytes.0.path(format!("repo/{RESEARCH}")), bytes.0.path("repo/policies").join(name)).unwrap();
    let found = bytes.check(&[]);
    assert!(found.iter().any(|(reason, ..)| reason == "Malformed"), "{found:?}");
}

#[test]
fn what_is_no_fault_passes() {
    // a new version, the same one signed again, an archived one, a moved file, an old copy beside, a new draft
    let gate = Gate::new();
    gate.edit(PAYMENTS, "\"1.2\"", "\"1.3\"");
    gate.sign(PAYMENTS);
    gate.sign(RESEARCH);
    assert_eq!(gate.check(&[]), []);
    let said = gate.run(&["--base", "HEAD"]).out;
    assert!(
        said.contains("✓ policies/payments/policy.json")
            && said.contains("version 1.3 of ws_payments, active, follows 1.2"),
        "{said}"
    );
    gate.commit();
    fs::copy(gate.0.path(format!("repo/{PAYMENTS}")), gate.0.path("repo/policies/copy.json")).unwrap();
    gate.edit(PAYMENTS, "\"1.3\"", "\"1.4\"");
    gate.sign(PAYMENTS);
    assert_eq!(gate.check(&[]), []);
    assert!(gate.run(&["--base", "HEAD"]).out.contains("– policies/copy.json"));
    gate.commit();
    gate.0.git_in("repo", &["mv", RESEARCH, "policies/moved.yaml"]);
    assert_eq!(gate.check(&[]), []);
    gate.commit();
    gate.edit("policies/moved.yaml", "active", "archived");
    gate.edit("policies/moved.yaml", "\"3\"", "\"4\"");
    gate.sign("policies/moved.yaml");
    assert_eq!(gate.check(&[]), []);
    gate.commit();
    fs::remove_file(gate.0.path("repo/policies/moved.yaml")).unwrap();
    assert_eq!(gate.check(&[]), [], "what was archived may go");
    // what Git leaves out is none of the controller's
    gate.write(".gitignore", "*.tmp.json\n");
    gate.write("policies/scratch.tmp.json", "{");
    assert_eq!(gate.check(&[]), []);
}

#[test]
fn a_change_that_lags_behind_is_judged_as_merging_would_leave_it() {
    let gate = Gate::new();
    gate.0.git_in("repo", &["checkout", "--quiet", "-b", "change"]);
    gate.edit(RESEARCH, "\"3\"", "\"4\"");
    gate.sign(RESEARCH);
    gate.commit();
    gate.0.git_in("repo", &["checkout", "--quiet", "main"]);
    gate.edit(PAYMENTS, "\"1.2\"", "\"1.3\"");
    gate.sign(PAYMENTS);
    gate.commit();
    gate.0.git_in("repo", &["checkout", "--quiet", "change"]);
    let ended = gate.run(&["--base", "main"]);
    assert_eq!(ended.code, 0, "version 1.2 is not brought back: {}", ended.out);
    assert!(
        ended.out.contains("version 1.3 of ws_payments") && ended.out.contains("version 4 of ws_research"),
        "{}",
        ended.out
    );
    // a version that stood in an earlier commit counts, also where its file is gone
    let gate = Gate::new();
    gate.edit(RESEARCH, "\"3\"", "\"9\"");
    gate.sign(RESEARCH);
    gate.commit();
    fs::remove_file(gate.0.path(format!("repo/{RESEARCH}"))).unwrap();
    gate.commit();
    gate.0.git_in("repo", &["checkout", "--quiet", "HEAD~2", "--", RESEARCH]);
    assert_eq!(gate.check(&[]), gate.expect("VersionRollback", RESEARCH, "version:"));
}

#[test]
fn agents_that_would_newly_be_refused_are_named_and_fail_only_when_told() {
    let gate = Gate::new();
    gate.edit(PAYMENTS, "\"shell_*\"", "\"ledger_*\", \"shell_*\"");
    gate.edit(PAYMENTS, "\"1.2\"", "\"1.3\"");
    gate.sign(PAYMENTS);
    let arguments = ["--base", "HEAD", "--agents", "repo/agents"];
    let ended = gate.run(&arguments);
    assert_eq!(ended.code, 0, "{}{}", ended.out, ended.err);
    assert!(ended.out.ends_with("3 documents, 0 faults, 1 agent newly refused\n"), "{}", ended.out);
    assert!(ended.out.contains("✗ payments/reconciler  repo/agents/payments/reconciler.yaml"), "{}", ended.out);
    assert!(ended.out.contains("[tool.blocked]") && !ended.out.contains("shadow-bot"), "{}", ended.out);
    let strict = gate.run(&[&arguments[..], &["--strict", "-o", "json"]].concat());
    let report: Value = serde_json::from_str(&strict.out).unwrap();
    assert_eq!(strict.code, 1);
    assert_eq!(report["newly_refused"][0]["name"], "reconciler");
    assert_eq!(report["findings"][0]["reason"], "AgentNewlyRefused");
    assert_eq!(report["findings"][0]["file"], "agents/payments/reconciler.yaml");
    // archiving leaves the workspace without a policy
    let gate = Gate::new();
    gate.edit(PAYMENTS, "\"active\"", "\"archived\"");
    gate.edit(PAYMENTS, "\"1.2\"", "\"1.3\"");
    gate.sign(PAYMENTS);
    let ended = gate.run(&arguments);
    assert!(ended.out.contains("payments/reconciler") && ended.out.contains("[policy.missing]"), "{}", ended.out);
    // an agent that nobody can read is a fault
    gate.write(
        "agents/payments/bad.yaml",
        "apiVersion: sekuire.ai/v1alpha1\nkind: Agent\nmetadata: {name: b}\nspec: {model: 1}\n",
    );
    let ended = gate.run(&arguments);
    assert_eq!((ended.code, ended.out.contains("bad.yaml: Agent b: spec.model")), (1, true), "{}", ended.out);
    assert!(ended.out.contains("agents/payments/bad.yaml:1: AgentMalformed"), "{}", ended.out);
}

#[test]
fn every_form_of_output_names_the_reason_the_file_and_the_line() {
    let gate = Gate::new();
    gate.edit(PAYMENTS, "\"invoice_search\"", "\"invoice_delete\"");
    let line = gate.line(PAYMENTS, "\"hash\"");
    let out = |form: &str| {
        let ended = gate.run(&["--base", "HEAD", "--output", form]);
        assert_eq!((ended.code, ended.err.as_str()), (1, ""), "{form}");
        ended.out
    };
    assert!(out("text").contains(&format!("{PAYMENTS}:{line}: HashMismatch\n  hash is ")), "{}", out("text"));
    let github = out("github");
    assert!(
        github.starts_with(&format!("::error file={PAYMENTS},line={line},col=11,title=HashMismatch::hash is ")),
        "{github}"
    );

    // the members that SARIF 2.1.0 requires (3.13, 3.14, 3.18, 3.19, 3.27, 3.28)
    let sarif: Value = serde_json::from_str(&out("sarif")).unwrap();
    assert_eq!(sarif["version"], "2.1.0");
    let run = &sarif["runs"][0];
    assert_eq!(run["tool"]["driver"]["name"], "sekuire");
    let result = &run["results"][0];
    assert_eq!((&result["ruleId"], &result["level"]), (&"HashMismatch".into(), &"error".into()));
    assert!(result["message"]["text"].as_str().unwrap().starts_with("hash is "));
    let rule = &run["tool"]["driver"]["rules"][usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap()];
    assert_eq!(rule["id"], "HashMismatch");
    let location = &result["locations"][0]["physicalLocation"];
    assert_eq!(location["artifactLocation"]["uri"], PAYMENTS);
    assert_eq!(location["region"]["startLine"], line);

    let junit = out("junit");
    assert!(junit.contains("tests=\"3\" skipped=\"0\" failures=\"1\""), "{junit}");
    assert!(
        junit.contains(&format!("<testcase name=\"{PAYMENTS}\">\n")) && junit.contains("type=\"HashMismatch\""),
        "{junit}"
    );
}

#[test]
fn every_result_in_sarif_has_a_place_also_where_no_file_is_to_blame() {
    // of the repository as a whole
    let gate = Gate::new();
    gate.0.git_in("repo", &["checkout", "--quiet", "--orphan", "other"]);
    gate.write("README.md", "another beginning");
    gate.commit();
    let results = gate.upload(&["--base", "main", "--push"]);
    assert_eq!(results[0]["ruleId"], "HistoryRewritten");
    // of an agent that lies elsewhere, by a path that is no part of the repository
    gate.0.git_in("repo", &["checkout", "--quiet", "main"]);
    gate.0.write("agent.yaml", "apiVersion: sekuire.ai/v1alpha1\nkind: Agent\nmetadata: {name: b}\nspec: {model: 1}\n");
    let elsewhere = gate.0.path("agent.yaml").display().to_string();
    for agents in ["agent.yaml", &elsewhere] {
        let results = gate.upload(&["--base", "main", "--agents", agents]);
        assert_eq!(results[0]["ruleId"], "AgentMalformed");
    }
    // of a file with a name as no editor writes it
    for name in ["a b#c?d%e:f.json", "a\nb\u{7f}\u{fc}.json"] {
        gate.write(&format!("policies/{name}"), "{");
    }
    assert_eq!(gate.upload(&["--base", "main"]).len(), 2);
}

#[test]
fn what_cannot_be_found_out_ends_with_3_and_wrong_usage_with_2() {
    let gate = Gate::new();
    for (arguments, code, said) in [
        (&["--base", "no-such"][..], 3, "no-such names no commit"),
        (&["--path", "no/such"], 3, "there is no folder repo/no/such"),
        (&["--repository", "keys"], 3, "keys is a folder"),
        (
            &["--repository", "repo/agents/payments/namespace.yaml"],
            3,
            "is a Namespace of v1; expected a PolicyRepository",
        ),
        (&["--push"], 2, "--base"),
        (&["--agents", "repo/agents"], 2, "--agents needs --base or --cluster"),
        (&["--output", "xml"], 2, "xml"),
    ] {
        let ended = gate.run(arguments);
        assert_eq!((ended.code, ended.err.contains(said)), (code, true), "{arguments:?}: {}", ended.err);
    }
    let desk = Desk::new();
    fs::create_dir_all(desk.path("plain/policies")).unwrap();
    assert_eq!(desk.run(&["repo", "check", "plain", "--trust", "keys", "--base", "HEAD"]).code, 2);
    assert_eq!(desk.run(&["repo", "check", "plain", "--trust", "keys"]).code, 0);
    assert_eq!(desk.run(&["repo", "check", "none", "--trust", "keys"]).code, 3);
    assert_eq!(desk.run(&["repo", "check", "plain"]).code, 3, "no keys, no cluster");
}

#[test]
fn denials_without_an_allow_list_are_warned_of_where_they_stand_and_fail_nothing() {
    let gate = Gate::new();
    let ended = gate.run(&["--output", "json"]);
    assert_eq!(ended.code, 0, "{}", ended.err);
    let report: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(report["findings"], serde_json::json!([]));
    let found: Vec<(&str, &str, &str, u64)> = report["advice"]
        .as_array()
        .unwrap()
        .iter()
        .map(|advice| {
            let text = |name: &str| advice[name].as_str().unwrap();
            (text("file"), text("kind"), text("path"), advice["line"].as_u64().unwrap())
        })
        .collect();
    let expected = |member: &'static str, text: &str| (RESEARCH, "DenialsAlone", member, gate.line(RESEARCH, text));
    assert_eq!(
        found,
        [
            expected("content.agent.models.denied_models", "denied_models"),
            expected("content.agent.capabilities.denied_tools", "denied_tools"),
            expected("content.tools.blocked_tools", "blocked_tools"),
        ]
    );
    let said: Vec<&str> = ended.err.lines().collect();
    assert_eq!(said.len(), 3, "{}", ended.err);
    assert!(
        said.iter().all(|line| line.starts_with(&format!("warning: {RESEARCH}:")) && line.ends_with("[DenialsAlone]"))
    );
}
