//! The gate of a pull request says of hostile trees what the controller says: both list them by one code, and read the same
//! bytes.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::{Command, Output};

use sekuire_policy::controller::documents::Documents;
use sekuire_policy::git::File;
use sekuire_policy::policy::KeyRing;
use serde_json::Value;

use super::support::{Fixture, Repository, command};

/// Reason by path.
type Verdicts = BTreeMap<String, String>;

/// Runs the gate in a checkout.
fn gate(fixture: &Fixture, checkout: &Path, arguments: &[&str]) -> Output {
    let keys = fixture.root().join("keys");
    let sekuire = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sekuire"));
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", fixture.root());
        command
    };
    if !keys.exists() {
        let made = sekuire().args(["key", "generate", "--workspace", "*", "--out"]).arg(&keys).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }
    let mut command = sekuire();
    command.args(["repo", "check", "--output", "json", "--trust"]).arg(keys).args(arguments).current_dir(checkout);
    command.output().unwrap()
}

fn verdicts_of_gate(fixture: &Fixture, checkout: &Path) -> Verdicts {
    let output = gate(fixture, checkout, &[]);
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let documents = report["documents"].as_array().unwrap();
    let mut verdicts: Verdicts =
        documents.iter().map(|document| (text(&document["file"]), text(&document["result"]))).collect();
    if documents.is_empty() {
        let findings = report["findings"].as_array().unwrap();
        verdicts.extend(findings.iter().map(|finding| (text(&finding["file"]), text(&finding["reason"]))));
    }
    verdicts
}

async fn verdicts_of_controller(fixture: &Fixture, repository: &Repository) -> Verdicts {
    let files = match fixture.snapshot(repository).await {
        Ok(snapshot) => snapshot.tip_files,
        Err(error) => return [(String::new(), error.reason().to_owned())].into(),
    };
    let mut documents = Documents::default();
    let (all, now) = (files.iter().collect::<Vec<&File>>(), jiff::Timestamp::now());
    documents.judge(&fixture.git, "one", &all, &KeyRing::default(), now).await.unwrap();
    let reason = |file: &File| {
        documents.of(file).verdict.map_or_else(|refusal| refusal.reason.to_string(), |_| "Verified".into())
    };
    files.iter().map(|file| (file.path.clone(), reason(file))).collect()
}

/// Adds `mode type id<TAB>path` entries to the last commit, as `git ls-tree` prints them.
fn commit_tree(repository: &Repository, tree: &str) {
    let root = repository.git_with_input(&["mktree"], format!("040000 tree {tree}\tpolicies\n").as_bytes());
    let commit = repository.git_with_input(&["commit-tree", &root], b"x");
    repository.git(&["update-ref", "refs/heads/main", &commit]);
}

fn nested(repository: &Repository, depth: usize, part: &str) {
    let blob = repository.git_with_input(&["hash-object", "-w", "--stdin"], b"{}");
    let mut tree = repository.git_with_input(&["mktree"], format!("100644 blob {blob}\ta.json\n").as_bytes());
    for _ in 0..depth {
        let entries = format!("100644 blob {blob}\tgood.json\n040000 tree {tree}\t{part}\n");
        tree = repository.git_with_input(&["mktree"], entries.as_bytes());
    }
    commit_tree(repository, &tree);
}

/// What it is, how it is committed, and a word of the verdicts.
type Hostile = (&'static str, fn(&Repository), &'static str);

/// What somebody without a key may commit, each with a word that has to stand in the verdicts.
#[expect(clippy::too_many_lines, reason = "a table")]
fn hostile() -> Vec<Hostile> {
    vec![
        ("64 folders", |repository| nested(repository, 64, "x"), "Malformed"),
        ("65 folders", |repository| nested(repository, 65, "x"), "LimitExceeded"),
        ("70 folders", |repository| nested(repository, 70, "x"), "LimitExceeded"),
        ("a long path", |repository| nested(repository, 20, &"y".repeat(220)), "LimitExceeded"),
        (
            "another encoding",
            |repository| {
                repository.commit_file("policies/a.json", "{\"a\": 1}");
                repository.write("policies/.gitattributes", "*.json working-tree-encoding=UTF-16\n");
                repository.git(&["add", "policies/.gitattributes"]);
                repository.git(&["commit", "-q", "-m", "x"]);
            },
            "Malformed",
        ),
        (
            "line ends",
            |repository| {
                repository.commit_file("policies/a.yaml", "a: 1\nb: |\n  x\n");
                repository.commit_file(".gitattributes", "*.yaml text eol=crlf ident\n");
            },
            "Malformed",
        ),
        (
            "a filter",
            |repository| {
                repository.commit_file("policies/a.yaml", "a: 1\n");
                repository.commit_file(".gitattributes", "*.yaml filter=evil\n");
            },
            "Malformed",
        ),
        (
            "a name that is not UTF-8",
            |repository| {
                repository.write("policies/a.json", "{}");
                fs::write(repository.path.join(std::ffi::OsStr::from_bytes(b"policies/\xff.json")), "{}").unwrap();
                repository.commit("x");
            },
            "Malformed",
        ),
        (
            "links",
            |repository| {
                repository.write("policies/a.json", "{}");
                repository.write("elsewhere/b.json", "{}");
                std::os::unix::fs::symlink("a.json", repository.path.join("policies/link.json")).unwrap();
                std::os::unix::fs::symlink("../elsewhere", repository.path.join("policies/folder")).unwrap();
                std::os::unix::fs::symlink("/etc/passwd", repository.path.join("policies/passwd.yaml")).unwrap();
                repository.commit("x");
            },
            "Malformed",
        ),
        (
            "a submodule",
            |repository| {
                let commit = repository.commit_file("policies/a.json", "{}");
                repository.git(&[
                    "update-index",
                    "--add",
                    "--cacheinfo",
                    &format!("160000,{commit},policies/module.json"),
                ]);
                repository.git(&["commit", "-q", "-m", "x"]);
            },
            "Malformed",
        ),
        (
            "names that differ in case, folders named like documents",
            |repository| {
                for path in [
                    "policies/a.json",
                    "policies/A.json",
                    "policies/b.JSON",
                    "policies/c.json/d.yaml",
                    "policies/e.yml",
                ] {
                    repository.write(path, "{}");
                }
                repository.commit("x");
            },
            "Malformed",
        ),
        (
            "a folder .git",
            |repository| {
                let blob = repository.git_with_input(&["hash-object", "-w", "--stdin"], b"{}");
                let tree = repository.git_with_input(&["mktree"], format!("100644 blob {blob}\ta.json\n").as_bytes());
                let entries = format!("040000 tree {tree}\t.git\n");
                let tree = repository.git_with_input(&["mktree"], entries.as_bytes());
                commit_tree(repository, &tree);
            },
            "Malformed",
        ),
        (
            "a large file",
            |repository| {
                repository.write("policies/a.json", vec![b' '; (256 << 10) + 1]);
                repository.commit_file("policies/b.json", vec![b' '; 256 << 10]);
            },
            "Malformed",
        ),
        (
            "too many files",
            |repository| {
                let blob = repository.git_with_input(&["hash-object", "-w", "--stdin"], b"{}");
                let entries: String =
                    (0..20_001).map(|number| format!("100644 blob {blob}\t{number:05}.json\n")).collect();
                let tree = repository.git_with_input(&["mktree"], entries.as_bytes());
                commit_tree(repository, &tree);
            },
            "LimitExceeded",
        ),
    ]
}

#[tokio::test]
async fn gate_and_controller_say_the_same_of_every_hostile_tree() {
    for (what, make, says) in hostile() {
        let fixture = Fixture::new();
        let repository = fixture.repository("origin");
        make(&repository);
        let controller = verdicts_of_controller(&fixture, &repository).await;
        assert!(controller.values().any(|reason| reason == says), "{what}: {controller:?}");

        let checkout = fixture.root().join("checkout");
        let cloned = command(fixture.root()).args(["clone", "-q", "origin", "checkout"]).output().unwrap();
        if !cloned.status.success() {
            // Git cannot check it out: a checkout without those files, as a sparse one is
            let index = "git read-tree HEAD && git ls-files -z | git update-index --skip-worktree -z --stdin";
            // nor do all names find a place in its index
            drop(Command::new("sh").args(["-c", index]).current_dir(&checkout).output());
        }
        // what the machine that checks may have configured for it
        let marker = fixture.root().join("ran");
        for part in ["clean", "smudge", "process"] {
            let program = format!("touch {}", marker.display());
            let checkout = Repository { path: checkout.clone() };
            checkout.git(&["config", &format!("filter.evil.{part}"), &program]);
        }
        assert_eq!(verdicts_of_gate(&fixture, &checkout), controller, "{what}");
        assert!(!marker.exists(), "{what}");
    }
}

#[tokio::test]
async fn what_is_not_committed_is_judged_as_git_would_commit_it() {
    let fixture = Fixture::new();
    let repository = fixture.repository("a");
    repository.write(".gitignore", "ignored.json\n");
    repository.write(".gitattributes", "*.yaml text eol=crlf\n");
    for path in ["policies/kept.json", "policies/changed.json", "policies/deleted.json", "policies/ends.yaml"] {
        repository.write(path, "{}\n");
    }
    repository.commit("first");
    repository.write("policies/changed.json", "{\"workspace_id\": 1}");
    fs::remove_file(repository.path.join("policies/deleted.json")).unwrap();
    repository.write("policies/new.json", "{}");
    repository.write("policies/ignored.json", "{}");
    repository.write("policies/ends.yaml", "a: 1\r\nb: 2\r\n");
    repository.write(&format!("policies/{}a.json", "x/".repeat(65)), "{}");
    std::os::unix::fs::symlink("kept.json", repository.path.join("policies/link.json")).unwrap();
    let before = verdicts_of_gate(&fixture, &repository.path);
    let names: Vec<&str> = before.keys().map(|path| path.rsplit('/').next().unwrap()).collect();
    assert_eq!(names, ["changed.json", "ends.yaml", "kept.json", "link.json", "new.json", "a.json"]);
    assert_eq!(before.values().filter(|reason| *reason == "LimitExceeded").count(), 1);
    // nothing was written into the repository
    assert_eq!(repository.git(&["count-objects"]), {
        let _ = verdicts_of_gate(&fixture, &repository.path);
        repository.git(&["count-objects"])
    });
    repository.commit("second");
    assert_eq!(verdicts_of_gate(&fixture, &repository.path), before);
    assert_eq!(verdicts_of_controller(&fixture, &repository).await, before);
}

#[tokio::test]
async fn a_sparse_index_is_read_by_git_itself_which_runs_nothing_for_it() {
    let fixture = Fixture::new();
    let repository = fixture.repository("origin");
    for path in ["policies/a.json", "keys/a", "other/a/f", "other/b/f"] {
        repository.write(path, "{}");
    }
    repository.commit("first");
    let cloned = command(fixture.root()).args(["clone", "-q", "origin", "checkout"]).output().unwrap();
    assert!(cloned.status.success());
    let checkout = Repository { path: fixture.root().join("checkout") };
    checkout.git(&["sparse-checkout", "init", "--cone", "--sparse-index"]);
    checkout.git(&["sparse-checkout", "set", "policies", "keys"]);
    let marker = fixture.root().join("ran");
    let program = fixture.root().join("program");
    fs::write(&program, format!("#!/bin/sh\necho x > {}\n", marker.display())).unwrap();
    fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let program = program.to_str().unwrap();
    for name in ["core.fsmonitor", "filter.evil.clean", "filter.evil.process", "diff.external", "core.sshCommand"] {
        checkout.git(&["config", name, program]);
    }
    fs::write(checkout.path.join(".git/info/attributes"), "*.json filter=evil\n").unwrap();
    let committed = verdicts_of_gate(&fixture, &checkout.path);
    assert_eq!(committed.keys().collect::<Vec<_>>(), ["policies/a.json"]);
    fs::remove_file(checkout.path.join(".git/info/attributes")).unwrap();
    checkout.write("policies/b.json", "{}");
    assert_eq!(verdicts_of_gate(&fixture, &checkout.path).len(), 2);
    assert!(!marker.exists());
}

#[tokio::test]
async fn a_partial_clone_is_told_what_helps() {
    let fixture = Fixture::new();
    let repository = fixture.repository("origin");
    repository.git(&["config", "uploadpack.allowFilter", "true"]);
    for content in ["1", "2", "3"] {
        repository.commit_file("policies/a.json", content);
    }
    let url = repository.url();
    let cloned =
        command(fixture.root()).args(["clone", "-q", "--filter=blob:none", &url, "checkout"]).output().unwrap();
    assert!(cloned.status.success());
    let checkout = fixture.root().join("checkout");
    // what is checked out is there
    assert_eq!(verdicts_of_gate(&fixture, &checkout).len(), 1);
    let output = gate(&fixture, &checkout, &["--base", "HEAD"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("partial clone") && said.contains("git fetch --refetch --no-filter"), "{said}");
    let checkout = Repository { path: checkout };
    checkout.git(&["fetch", "-q", "--refetch", "--no-filter"]);
    assert_eq!(gate(&fixture, &checkout.path, &["--base", "HEAD"]).status.code(), Some(1));
}
