//! The ready-made gates are files that their systems can read, and what they run is a command that there is.

use std::fs;
use std::process::Command;

use serde_yaml::Value;

use super::pipeline::{GITLAB, PRE_COMMIT, Pipeline, Site, WORKFLOW, missing, parsed, read};
use crate::cluster::skip::skip;

/// What a gate runs: the arguments of `sekuire`.
fn command(gate: &str) -> Vec<String> {
    let text = read(gate).replace("\\\n", " ");
    let line = text.lines().find(|line| line.contains("repo check ") && line.contains("--base")).unwrap();
    let words = line[line.find("repo check ").unwrap()..].split_whitespace().take_while(|word| *word != ">");
    words.map(|word| word.trim_matches('"').to_owned()).collect()
}

#[test]
fn every_gate_runs_a_command_that_there_is() {
    for gate in [WORKFLOW, GITLAB, PRE_COMMIT] {
        let words = command(gate);
        for option in ["--base", "--trust"] {
            assert!(words.iter().any(|word| word == option), "{gate}: {words:?}");
        }
        // what stands before --help is parsed as if it were run
        let ended = Command::new(env!("CARGO_BIN_EXE_sekuire")).args(&words).arg("--help").output().unwrap();
        assert!(ended.status.success(), "{gate}: {}", String::from_utf8_lossy(&ended.stderr));
    }
}

#[test]
fn the_pipelines_trust_the_keys_of_the_base_and_have_its_history() {
    for gate in [WORKFLOW, GITLAB] {
        let text = read(gate);
        assert!(text.contains("git -C change archive ") && text.contains("--trust base/keys"), "{gate}");
        assert!(text.contains("--repository base/repository.yaml"), "{gate}");
        assert!(!text.contains("--depth"), "{gate}");
    }
}

#[test]
fn the_workflow_has_no_more_rights_than_it_needs_and_runs_no_code_that_others_can_change() {
    let workflow = parsed(WORKFLOW);
    assert_eq!(workflow["on"], "pull_request");
    let permissions = workflow["permissions"].as_mapping().unwrap();
    assert_eq!((permissions.len(), &workflow["permissions"]["contents"]), (1, &Value::from("read")));
    for step in workflow["jobs"]["check"]["steps"].as_sequence().unwrap() {
        assert!(step.get("uses").is_none(), "an action by tag is whatever its owner makes of it: {step:?}");
        let run = step["run"].as_str().unwrap();
        assert!(!run.contains("${{"), "what others write must not become part of a script: {run}");
        assert_eq!(step["working-directory"], "${{ runner.temp }}", "never among the files of a pull request");
    }
    let job = &parsed(GITLAB)["policies"];
    assert_eq!(job["variables"]["GIT_STRATEGY"], "none", "the runner checks nothing out");
    for key in ["cache", "services", "before_script", "include"] {
        assert!(job.get(key).is_none(), "{key}");
    }
}

/// Makes a change by a script, and runs a pipeline on it.
fn change(pipeline: Pipeline, script: &str) -> (String, Option<i32>) {
    let site = Site::new();
    site.author("clone", script);
    let commit = site.push();
    let (said, code) = site.run(pipeline, &commit);
    let report = fs::read_to_string(site.path("workspace/policies.xml")).unwrap_or_default();
    (said + &report, code)
}

#[test]
fn the_pipelines_pass_a_change_that_is_none_of_their_business() {
    if let Some(why) = missing() {
        skip!(why);
    }
    for pipeline in [Pipeline::GitHub, Pipeline::GitLab] {
        let (said, code) = change(pipeline, "echo more >> README.md");
        assert_eq!(code, Some(0), "{pipeline:?}: {said}");
    }
}

#[test]
fn the_pipelines_refuse_a_change_that_brings_its_own_key() {
    if let Some(why) = missing() {
        skip!(why);
    }
    let script = "sekuire key generate --out ../private --workspace '*'; cp ../private/key_*.yaml keys/
        sekuire policy sign policies/payments/policy.json --bump --key ../private/key_*.pem";
    for (pipeline, place) in [
        (Pipeline::GitHub, "file=policies/payments/policy.json"),
        (Pipeline::GitLab, "name=\"policies/payments/policy.json\""),
    ] {
        let (said, code) = change(pipeline, script);
        assert_eq!(code, Some(1), "{pipeline:?}: {said}");
        assert!(said.contains("UnknownSigningKey") && said.contains(place), "{pipeline:?}: {said}");
    }
}

#[test]
fn a_pipeline_that_a_fork_runs_for_itself_does_not_pass() {
    if let Some(why) = missing() {
        skip!(why);
    }
    let site = Site::new();
    site.author("clone", "echo more >> README.md");
    let commit = site.push();
    let mut job = site.job_of_a_fork(&commit);
    let output = job.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("runs in the fork"));
    assert!(!site.path("workspace/policies.xml").exists());
}
