//! Nothing that a pull request brings runs in a gate, before or after it was looked at.
//!
//! Each trap is a file that some tool runs where it is used in a checkout without care, on a machine whose user has set up
//! Git as many do. The control shows that each of them springs; the gates, run as they stand, spring none.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use super::pipeline::{PRE_COMMIT, Pipeline, Site, TOKEN, missing, parsed};
use crate::cluster::skip::skip;

/// Programs that the gates use, and so are worth putting where a path leads to.
const PROGRAMS: [&str; 12] =
    ["base64", "bash", "cargo", "git", "mkdir", "mktemp", "rm", "rustc", "rustup", "sekuire", "sh", "tar"];
/// What the control springs, but for `PROGRAMS`.
const SPRUNG: [&str; 9] = [
    "build-script-or-wrapper",
    "environment",
    "filter",
    "fsmonitor",
    "hook",
    "lfs",
    "submodule",
    "textconv",
    "toolchain",
];

fn write(folder: &Path, file: &str, text: &str) {
    let path = folder.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// A program that leaves a mark.
fn trap(site: &Site, folder: &Path, file: &str, mark: &str) {
    write(folder, file, &format!("#!/bin/sh\n: > '{}'\n", site.path("ran").join(mark).display()));
    fs::set_permissions(folder.join(file), fs::Permissions::from_mode(0o755)).unwrap();
}

/// Puts all traps into a folder; `place` is where it will lie when they are to spring.
fn plant(site: &Site, folder: &Path, place: &Path) {
    let mark = |name: &str| format!(": > '{}'", site.path("ran").join(name).display());
    for program in PROGRAMS {
        trap(site, folder, program, program);
        trap(site, folder, &format!("trap/bin/{program}"), "toolchain");
    }
    let toolchain = format!("[toolchain]\npath = \"{}/trap\"\n", place.display());
    write(folder, "rust-toolchain.toml", &toolchain);
    trap(site, folder, ".cargo/wrapper", "build-script-or-wrapper");
    write(folder, ".cargo/config.toml", "[build]\nrustc-wrapper = \".cargo/wrapper\"\n[install]\nroot = \"stolen\"\n");
    write(
        folder,
        "Cargo.toml",
        "[package]\nname = \"sekuire-policy-controller\"\nversion = \"9.9.9\"\nbuild = \"build.rs\"\n",
    );
    write(folder, "src/main.rs", "fn main() {}\n");
    let build = format!(
        "fn main() {{ std::fs::write({:?}, \"\").unwrap() }}\n",
        site.path("ran").join("build-script-or-wrapper")
    );
    write(folder, "build.rs", &build);
    for hook in ["post-checkout", "pre-commit", "reference-transaction", "post-index-change", "post-merge"] {
        trap(site, folder, &format!(".githooks/{hook}"), "hook");
    }
    trap(site, folder, ".githooks/fsmonitor", "fsmonitor");
    write(folder, ".gitattributes", "*.md filter=lfs diff=trap\n*.yaml filter=trap\n");
    write(folder, ".lfsconfig", "[lfs]\n\turl = https://attacker.example.com/\n");
    trap(site, folder, "trap/submodule", "submodule");
    let url = format!("ext::{}/trap/submodule", place.display());
    write(folder, ".gitmodules", &format!("[submodule \"sub\"]\n\tpath = sub\n\turl = {url}\n"));
    write(folder, "notes.md", "for the filter and the diff\n");
    for file in [".env", ".envrc", ".bashrc", ".profile", ".bash_profile"] {
        write(folder, file, &format!("{}\n", mark("environment")));
    }
    // a bare repository among the files, with a configuration of its own
    write(folder, "agents/HEAD", "ref: refs/heads/main\n");
    write(folder, "agents/config", "[core]\n\tbare = true\n\tfsmonitor = \"./../.githooks/fsmonitor\"\n");
    write(folder, "agents/objects/x", "");
    write(folder, "agents/refs/x", "");
}

/// What leads out of the checkout, or speaks to what reads the log.
fn plant_links_and_names(site: &Site, folder: &Path) {
    fs::write(site.path("victim"), "as it was").unwrap();
    fs::write(site.path("secret"), format!("kind: Agent\nspec: {TOKEN}\n")).unwrap();
    symlink(site.path("victim"), folder.join("policies.xml")).unwrap();
    symlink(site.path("secret"), folder.join("agents/leak.yaml")).unwrap();
    write(folder, "policies/a\n::add-path::trap\n##[add-path]trap.json", "{\"policy_id\": \"\n::add-path::trap\"}");
    write(folder, "policies/b.json", "{\"policy_id\": \"\\n::add-path::trap\", \"%0A::stop-commands::x\": 1}");
}

/// Git as it is set up on many machines: hooks that repositories bring along, Git LFS, a monitor, filters.
fn set_up_git(site: &Site) {
    let mark = |name: &str| format!("sh -c ': > \\\"{}\\\"; cat'", site.path("ran").join(name).display());
    let config = format!(
        "[core]\n\thooksPath = .githooks\n\tfsmonitor = .githooks/fsmonitor\n[protocol \"ext\"]\n\tallow = always\n\
         [submodule]\n\trecurse = true\n[fetch]\n\trecurseSubmodules = true\n\
         [filter \"lfs\"]\n\tsmudge = \"{lfs}\"\n\tclean = cat\n[filter \"trap\"]\n\tsmudge = \"{filter}\"\n\tclean = cat\n\
         [diff \"trap\"]\n\ttextconv = \"{textconv}\"\n[safe]\n\tbareRepository = all\n",
        lfs = mark("lfs"),
        filter = mark("filter"),
        textconv = mark("textconv"),
    );
    fs::write(site.path("home/.gitconfig"), config).unwrap();
}

fn sprung(site: &Site) -> BTreeSet<String> {
    fs::read_dir(site.path("ran")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Commits the traps, with a submodule, and pushes them.
fn push(site: &Site, place: &Path) -> String {
    plant(site, &site.path("clone"), place);
    plant_links_and_names(site, &site.path("clone"));
    let commit = site.author("clone", "git rev-parse HEAD");
    site.author("clone", &format!("git add -A && git update-index --add --cacheinfo 160000,{},sub", commit.trim()));
    site.author("clone", "git commit -qm change && git push -q origin change && git rev-parse HEAD").trim().to_owned()
}

#[test]
fn each_trap_springs_where_a_tool_is_used_in_the_checkout_without_care() {
    if let Some(why) = missing() {
        skip!(why);
    }
    let site = Site::new();
    let place = site.path("careless");
    let commit = push(&site, &place);
    set_up_git(&site);
    let script = format!(
        "git clone -q --no-checkout '{server}' careless; cd careless; git checkout -q {commit} || true; git status >/dev/null || true
         git show >/dev/null || true; git submodule update --init || true; . ./.env
         cargo --version || true; rm rust-toolchain.toml; cargo +1.95.0 build || true",
        server = site.path("server.git").display()
    );
    let path = std::env::var("PATH").unwrap();
    let careless = |script: &str, path: &str, folder: &Path| {
        site.machine(folder).args([script]).env("PATH", path).output().unwrap()
    };
    let said = careless(&script, &path, &site.path("."));
    let expected: BTreeSet<String> = SPRUNG.map(str::to_owned).into();
    assert_eq!(sprung(&site), expected, "{said:?}");
    let all = PROGRAMS.join("; ");
    careless(&all, &format!(".:{path}"), &place);
    let programs: BTreeSet<String> = PROGRAMS.map(str::to_owned).into();
    assert!(sprung(&site).is_superset(&programs), "{:?}", sprung(&site));
}

#[test]
fn nothing_of_a_pull_request_runs_in_a_pipeline_and_nothing_of_it_speaks_to_the_runner() {
    if let Some(why) = missing() {
        skip!(why);
    }
    for pipeline in [Pipeline::GitHub, Pipeline::GitLab] {
        let site = Site::new();
        let commit = push(&site, &site.place(pipeline));
        set_up_git(&site);
        // what a job before has left on a machine that is used again
        plant(&site, &site.path("workspace"), &site.path("workspace"));
        plant_links_and_names(&site, &site.path("workspace"));
        let (said, code) = site.run(pipeline, &commit);
        assert_eq!(sprung(&site), BTreeSet::new(), "{pipeline:?}: {said}");
        assert_eq!(code, Some(1), "two files are no policies. {pipeline:?}: {said}");
        for name in ["GITHUB_ENV", "GITHUB_PATH", "GITHUB_OUTPUT", "GITHUB_STATE"] {
            assert!(!site.path(name).exists(), "{name}");
        }
        assert_eq!(fs::read_to_string(site.path("victim")).unwrap(), "as it was");
        let report = site.path("workspace/policies.xml");
        let written = fs::read_to_string(&report).unwrap();
        assert!(!said.contains(TOKEN) && !written.contains(TOKEN), "{pipeline:?}: {said}{written}");
        assert!(!site.path("stolen").exists() && !site.path("temp/stolen").exists());
        match pipeline {
            Pipeline::GitHub => assert!(said.contains("::error file=policies/b.json"), "{said}"),
            Pipeline::GitLab => {
                assert!(!report.is_symlink() && written.contains("<testsuites"), "{written}");
            }
        }
        let commands = said.lines().filter(|line| line.trim_start().starts_with("::") || line.contains("##["));
        for command in commands {
            assert!(command.starts_with("::error ") || command.starts_with("::warning "), "{pipeline:?}: {command}");
        }
    }
}

#[test]
fn nothing_of_a_branch_runs_in_the_hook_of_pre_commit() {
    let site = Site::new();
    push(&site, &site.path("clone"));
    site.author("clone", "git update-ref refs/remotes/origin/main origin/main");
    set_up_git(&site);
    let hook = &parsed(PRE_COMMIT)["repos"][0]["hooks"][0];
    assert_eq!((&hook["language"], &hook["pass_filenames"]), (&"system".into(), &false.into()));
    let entry: Vec<&str> = hook["entry"].as_str().unwrap().split(' ').collect();
    assert_eq!(entry[0], "sekuire");
    // pre-commit looks for the program on the path, and runs it without a shell
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_sekuire"));
    command.args(&entry[1..]).current_dir(site.path("clone")).env("HOME", site.path("home"));
    let output = command.env_remove("GIT_CONFIG_GLOBAL").env_remove("KUBECONFIG").output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("policies/b.json"), "{said}");
    assert_eq!(sprung(&site), BTreeSet::new(), "{said}");
}
