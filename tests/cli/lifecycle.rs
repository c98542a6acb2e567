//! `sekuire policy new`, `activate`, `archive` and `revert`.

use serde_json::Value;

use super::support::{Desk, JSON};

fn json(desk: &Desk, file: &str) -> Value {
    serde_json::from_str(&desk.read(file)).unwrap()
}

impl Desk {
    /// Runs a command that signs, with the key.
    fn edit(&self, command: &str, arguments: &[&str]) -> super::support::Ended {
        self.run(&[&["policy", command, "--key", &self.private_key()], arguments].concat())
    }
}

#[test]
fn a_new_policy_is_signed_and_verifies_as_it_is_in_both_forms() {
    let desk = Desk::new();
    for file in ["a.yaml", "a.json"] {
        let made = desk.run(&["policy", "new", "--workspace", "ws_team", "--out", file]);
        assert_eq!((made.code, made.err.contains("sekuire policy sign")), (0, true), "{}", made.err);
        let text = desk.read(file);
        assert!(text.contains("policy_team") && text.contains("denied_tools"), "{text}");
        assert_eq!(desk.sign(&[file]).code, 0);
        assert_eq!(desk.results(&[file]), ["Verified"]);
        let again = desk.run(&["policy", "new", "--workspace", "ws_team", "--out", file]);
        assert_eq!((again.code, again.err.contains("exists already")), (3, true), "{}", again.err);
    }
    assert!(desk.read("a.yaml").contains("# which tools an agent may have"));
    let printed =
        desk.run(&["policy", "new", "--workspace", "ws_team", "--policy-id", "p", "--draft", "--format", "json"]);
    let printed: Value = serde_json::from_str(&printed.out).unwrap();
    assert_eq!((printed["policy_id"].as_str(), printed["status"].as_str()), (Some("p"), Some("draft")));
    let refused = desk.run(&["policy", "new", "--workspace", "not an id"]);
    assert_eq!((refused.code, refused.err.contains("policy_id: expected an id")), (2, true), "{}", refused.err);
    assert_eq!(desk.run(&["policy", "new", "--workspace", "a", "--out", "b.yaml", "--format", "json"]).code, 2);
}

#[test]
fn every_rule_of_the_skeleton_is_one_when_its_comment_signs_are_removed() {
    let desk = Desk::new();
    let text = desk.run(&["policy", "new", "--workspace", "ws_team"]).out;
    let uncomment = |line: &str| {
        let rest = line.trim_start();
        match rest.strip_prefix('#') {
            Some(rule) if !rule.starts_with(' ') || rule.starts_with("  ") => {
                format!("{}{rule}\n", &line[..line.len() - rest.len()])
            }
            _ => format!("{line}\n"),
        }
    };
    let all: String = text.lines().map(uncomment).collect();
    desk.write("all.yaml", &all);
    let signed = desk.sign(&["all.yaml"]);
    assert_eq!(signed.code, 0, "{}\n{all}", signed.err);
    for rule in [
        "retention_days: 30",
        "tokens_per_hour: 100000",
        "service_name: billing",
        "expires_at",
        "path_prefix: /anthropic",
        "allowed_servers",
        "denied_servers",
        "broker_tools",
        "allowed_images",
        "require_digest",
        "allowed_workspaces",
        "accept_declarations",
    ] {
        assert!(all.lines().any(|line| line.contains(rule) && !line.trim_start().starts_with('#')), "{rule}\n{all}");
    }
}

#[test]
fn nothing_of_the_skeleton_deserves_a_second_look() {
    let desk = Desk::new();
    desk.write("new.yaml", &desk.run(&["policy", "new", "--workspace", "ws_team"]).out);
    assert_eq!(desk.sign(&["new.yaml"]).code, 0);
    let ended = desk.run(&["policy", "validate", "new.yaml", "--trust", "keys"]);
    assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{}", ended.out);
}

#[test]
fn a_draft_is_activated_and_archived_under_new_versions() {
    let desk = Desk::new();
    // the skeleton keeps its comments all the way
    assert_eq!(desk.run(&["policy", "new", "--workspace", "ws_team", "--draft", "--out", "p.yaml"]).code, 0);
    let comments = |text: &str| text.lines().filter(|line| line.contains('#')).count();
    let before = comments(&desk.read("p.yaml"));
    for command in ["activate", "archive"] {
        let ended = desk.edit(command, &["p.yaml"]);
        assert_eq!((ended.code, comments(&desk.read("p.yaml"))), (0, before), "{}", ended.err);
    }
    desk.write("p.json", &JSON.replace("active", "draft"));
    assert_eq!(desk.edit("activate", &["p.json"]).code, 0);
    let active = json(&desk, "p.json");
    assert_eq!((active["status"].as_str(), active["version"].as_str()), (Some("active"), Some("1.10")));
    assert!(active["activated_at"].is_string());
    let twice = desk.edit("activate", &["p.json"]);
    assert_eq!((twice.code, twice.err.contains("active already")), (1, true), "{}", twice.err);

    let lower = desk.edit("archive", &["p.json", "--version", "1.10"]);
    assert_eq!((lower.code, lower.err.contains("not above the present version 1.10")), (1, true), "{}", lower.err);
    assert_eq!(desk.edit("archive", &["p.json", "--version", "2.0"]).code, 0);
    let archived = json(&desk, "p.json");
    assert_eq!((archived["status"].as_str(), archived["version"].as_str()), (Some("archived"), Some("2.0")));
    assert_eq!(desk.results(&["p.json"]), ["Verified"]);
    assert_eq!(desk.edit("archive", &["p.json"]).code, 1);
}

#[test]
fn a_revert_publishes_the_rules_of_a_commit_under_a_higher_version_with_their_comments() {
    let desk = Desk::new();
    desk.git(&["init", "-q"]);
    std::fs::create_dir(desk.path("policies")).unwrap();
    desk.write("policies/a.yaml", "policy_id: p\nworkspace_id: ws_a\nversion: '1'\nstatus: active\ncontent:\n  tools: # old\n    blocked_tools: [a]\n");
    assert_eq!(desk.sign(&["policies/a.yaml"]).code, 0);
    desk.git(&["add", "policies"]);
    desk.git(&["commit", "-qm", "one"]);
    desk.write("policies/a.yaml", "policy_id: p\nworkspace_id: ws_a\nversion: '7'\nstatus: active\nexpires_at: '2040-01-01T00:00:00Z'\ncontent:\n  tools: {}\n");
    assert_eq!(desk.sign(&["policies/a.yaml"]).code, 0);
    let before = desk.read("policies/a.yaml");

    let dry = desk.edit("revert", &["policies/a.yaml", "--to", "HEAD", "--dry-run"]);
    assert_eq!((dry.code, desk.read("policies/a.yaml") == before), (0, true), "{}", dry.err);
    let reverted = desk.edit("revert", &["policies/a.yaml", "--to", "HEAD"]);
    assert_eq!(reverted.code, 0, "{}", reverted.err);
    let text = desk.read("policies/a.yaml");
    for part in ["version: '8'", "tools: # old", "blocked_tools: [a]", "expires_at: '2040-01-01T00:00:00Z'"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(desk.results(&["policies/a.yaml"]), ["Verified"]);
    let same = desk.edit("revert", &["policies/a.yaml", "--to", "HEAD"]);
    assert_eq!((same.code, same.err.contains("already")), (1, true), "{}", same.err);
    for (to, said) in [("no-such", "names no commit"), ("HEAD~9", "names no commit")] {
        let ended = desk.edit("revert", &["policies/a.yaml", "--to", to]);
        assert_eq!((ended.code, ended.err.contains(said)), (3, true), "{}", ended.err);
    }
    desk.write("policies/b.yaml", &text);
    let absent = desk.edit("revert", &["policies/b.yaml", "--to", "HEAD"]);
    assert_eq!((absent.code, absent.err.contains("there is no policies/b.yaml in HEAD")), (3, true), "{}", absent.err);
}

#[test]
fn what_cannot_be_written_is_left_whole() {
    let desk = Desk::new();
    desk.write("p.json", JSON);
    assert_eq!(desk.sign(&["p.json"]).code, 0);
    let before = desk.read("p.json");
    // as on a full disk: no file may grow beyond a block
    let command = format!(
        "ulimit -f 0; trap '' XFSZ; exec {} policy sign p.json --bump --key {}",
        env!("CARGO_BIN_EXE_sekuire"),
        desk.private_key()
    );
    let output = std::process::Command::new("bash").args(["-c", &command]).current_dir(desk.path("")).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), said.contains("it was left as it was")), (Some(3), true), "{said}");
    assert_eq!(desk.read("p.json"), before);
    let left: Vec<_> = std::fs::read_dir(desk.path("")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().contains(".tmp")), "{left:?}");
}

#[test]
fn a_signing_that_is_killed_at_any_moment_leaves_the_old_file_or_the_new_one() {
    let desk = Desk::new();
    desk.write("p.json", JSON);
    assert_eq!(desk.sign(&["p.json"]).code, 0);
    for delay in 0..40 {
        let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_sekuire"))
            .args(["policy", "sign", "p.json", "--bump", "--key", &desk.private_key()])
            .current_dir(desk.path(""))
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_micros(delay * 250));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(desk.results(&["p.json"]), ["Verified"], "killed after {} µs", delay * 250);
    }
}
