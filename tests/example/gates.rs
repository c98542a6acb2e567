//! The ready-made gates are files that their systems can read, and what they run is a command that there is.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_yaml::Value;

use super::folder;
use crate::cluster::git::clean_env;

const WORKFLOW: &str = ".github/workflows/policies.yaml";
const GATES: [&str; 3] = [WORKFLOW, ".gitlab-ci.yml", ".pre-commit-config.yaml"];

fn read(gate: &str) -> String {
    fs::read_to_string(folder().join(gate)).unwrap()
}

fn parsed(gate: &str) -> Value {
    serde_yaml::from_str(&read(gate)).unwrap_or_else(|e| panic!("{gate}: {e}"))
}

/// What a gate runs: `sekuire repo check` and its arguments.
fn command(gate: &str) -> Vec<String> {
    let text = read(gate).replace("\\\n", " ");
    let line = text.lines().find_map(|line| line.find("sekuire repo check --").map(|at| &line[at..])).unwrap();
    let words = line.split_whitespace().take_while(|word| *word != ">");
    words.map(|word| word.trim_matches('"').to_owned()).collect()
}

#[test]
fn every_gate_runs_a_command_that_there_is() {
    for gate in GATES {
        let words = command(gate);
        for option in ["--base", "--trust"] {
            assert!(words.iter().any(|word| word == option), "{gate}: {words:?}");
        }
        // what stands before --help is parsed as if it were run
        let ended = Command::new(env!("CARGO_BIN_EXE_sekuire")).args(&words[1..]).arg("--help").output().unwrap();
        assert!(ended.status.success(), "{gate}: {}", String::from_utf8_lossy(&ended.stderr));
    }
}

#[test]
fn the_pipelines_trust_the_keys_of_the_base_and_have_its_history() {
    for gate in [WORKFLOW, ".gitlab-ci.yml"] {
        let text = read(gate);
        assert!(text.contains("git archive ") && text.contains("/keys\" --repository"), "{gate}");
        assert!(!text.contains("--trust keys"), "a change must not vouch for itself: {gate}");
        assert!(!text.contains("--depth"), "{gate}");
    }
    assert_eq!(parsed(".gitlab-ci.yml")["policies"]["variables"]["GIT_DEPTH"], "0");
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
    }
}

/// A repository on a server, with the example on its branch `main`, and a clone to make a change in.
fn prepare(work: &Path) {
    let script = format!(
        "git init -q --bare -b main server.git && git clone -q server.git clone && cp -r {}/. clone && cd clone && \
         git add . && git commit -qm base && git push -q origin main && git switch -qc change",
        folder().display()
    );
    let output = shell(work, &script, &[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn shell(work: &Path, script: &str, environment: &[(&str, &str)]) -> Output {
    let own = Path::new(env!("CARGO_BIN_EXE_sekuire")).parent().unwrap();
    let path = format!("{}:{}", own.display(), std::env::var("PATH").unwrap());
    let mut bash = Command::new("bash");
    bash.args(["-eo", "pipefail", "-c", script]).current_dir(work).envs(clean_env(1_800_000_000)).env("PATH", path);
    bash.env_remove("KUBECONFIG").env("HOME", work).envs(environment.iter().copied()).output().unwrap()
}

/// Makes a change by a script, and runs the workflow on it, but for the step that installs the program.
fn pull_request(work: &Path, change: &str) -> Output {
    let script = format!("cd clone; {change}\ngit add .; git commit -qm change; git push -q origin change");
    let pushed = shell(work, &script, &[]);
    assert!(pushed.status.success(), "{}", String::from_utf8_lossy(&pushed.stderr));
    let commit = shell(&work.join("clone"), "git rev-parse HEAD", &[]).stdout;
    let runner = work.join("runner");
    fs::create_dir(&runner).unwrap();
    let environment = [
        ("GITHUB_SERVER_URL", &*format!("file://{}", work.display())),
        ("GITHUB_REPOSITORY", "server.git"),
        ("GITHUB_SHA", String::from_utf8(commit).unwrap().trim()),
        ("GITHUB_BASE_REF", "main"),
        ("TOKEN", "secret"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let environment: Vec<_> = environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let workflow = parsed(WORKFLOW);
    let steps = workflow["jobs"]["check"]["steps"].as_sequence().unwrap();
    let mut steps = steps.iter().filter(|step| step["name"] != "Install sekuire").peekable();
    loop {
        let output = shell(&runner, steps.next().unwrap()["run"].as_str().unwrap(), &environment);
        if steps.peek().is_none() {
            return output;
        }
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn the_workflow_passes_a_change_that_is_none_of_its_business() {
    let work = tempfile::tempdir().unwrap();
    prepare(work.path());
    let output = pull_request(work.path(), "echo more >> README.md");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_workflow_refuses_a_change_that_brings_its_own_key() {
    let work = tempfile::tempdir().unwrap();
    prepare(work.path());
    let change = "sekuire key generate --out ../private --workspace '*'; cp ../private/key_*.yaml keys/
        sekuire policy sign policies/payments/policy.json --bump --key ../private/key_*.pem";
    let output = pull_request(work.path(), change);
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("UnknownSigningKey") && said.contains("file=policies/payments/policy.json"), "{said}");
}
