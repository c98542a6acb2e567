//! The shipped gates, run as their systems would run them: every step, as it stands in the file.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_yaml::Value;
use tempfile::TempDir;

use super::folder;
use crate::cluster::git::clean_env;

pub(super) const WORKFLOW: &str = ".github/workflows/policies.yaml";
pub(super) const GITLAB: &str = ".gitlab-ci.yml";
pub(super) const PRE_COMMIT: &str = ".pre-commit-config.yaml";
/// What the gates give to whom they trust.
pub(super) const TOKEN: &str = "the-token-of-the-pipeline";

#[derive(Clone, Copy, Debug)]
pub(super) enum Pipeline {
    GitHub,
    GitLab,
}

pub(super) fn read(gate: &str) -> String {
    fs::read_to_string(folder().join(gate)).unwrap()
}

pub(super) fn parsed(gate: &str) -> Value {
    serde_yaml::from_str(&read(gate)).unwrap_or_else(|e| panic!("{gate}: {e}"))
}

/// Why the pipelines cannot be run here.
pub(super) fn missing() -> Option<&'static str> {
    let there = Command::new("rustup").arg("--version").output().is_ok_and(|output| output.status.success());
    (!there).then_some("needs rustup")
}

/// A server with the example on its branch `main`, a clone to make a change in, and a machine that runs pipelines.
pub(super) struct Site {
    work: TempDir,
}

impl Site {
    pub(super) fn new() -> Site {
        let site = Site { work: tempfile::tempdir().unwrap() };
        for folder in ["home", "temp", "workspace", "rustup/toolchains", "cargo", "ran", "program/src"] {
            fs::create_dir_all(site.path(folder)).unwrap();
        }
        // the toolchain that is used here, under the name that the gates ask for
        let print = |what: &[&str]| Command::new("rustc").args(what).output().unwrap().stdout;
        let (root, version) = (print(&["--print", "sysroot"]), print(&["-vV"]));
        let (root, version) = (String::from_utf8(root).unwrap(), String::from_utf8(version).unwrap());
        let host = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
        symlink(root.trim(), site.path(&format!("rustup/toolchains/1.95.0-{host}"))).unwrap();
        site.program();
        let script = "git init -q --bare -b main server.git && git clone -q server.git clone && cp -r \"$EXAMPLE\"/. clone && \
                      cd clone && git add . && git commit -qm base && git push -q origin main && git switch -qc change";
        site.author(".", script);
        site
    }

    /// A package of the controller's name that is built in a second: it runs the program that is tested.
    fn program(&self) {
        let manifest = "[package]\nname = \"sekuire-policy-controller\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\
                        [[bin]]\nname = \"sekuire\"\npath = \"src/main.rs\"\n";
        let main = format!(
            "use std::os::unix::process::CommandExt as _;\nfn main() {{\n    let mut own = std::process::Command::new({:?});\n    \
             panic!(\"{{}}\", own.args(std::env::args_os().skip(1)).exec());\n}}\n",
            env!("CARGO_BIN_EXE_sekuire")
        );
        let lock = "version = 4\n\n[[package]]\nname = \"sekuire-policy-controller\"\nversion = \"0.1.0\"\n";
        for (file, text) in [("Cargo.toml", manifest), ("Cargo.lock", lock), ("src/main.rs", &*main)] {
            fs::write(self.path("program").join(file), text).unwrap();
        }
        self.author("program", "git init -q -b main . && git add . && git commit -qm program");
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.work.path().join(name)
    }

    /// Where the machine's pipelines have what they check, as far as that can be foreseen.
    pub(super) fn place(&self, pipeline: Pipeline) -> PathBuf {
        match pipeline {
            Pipeline::GitHub => self.path("temp/change"),
            Pipeline::GitLab => self.path("workspace"),
        }
    }

    /// Runs a script of whoever writes policies, which has to succeed; returns what it printed.
    pub(super) fn author(&self, folder: &str, script: &str) -> String {
        let own = Path::new(env!("CARGO_BIN_EXE_sekuire")).parent().unwrap();
        let mut bash = Command::new("bash");
        bash.args(["-eo", "pipefail", "-c", script]).current_dir(self.path(folder)).envs(clean_env(1_800_000_000));
        bash.env("PATH", format!("{}:{}", own.display(), std::env::var("PATH").unwrap()));
        let output = bash
            .env_remove("KUBECONFIG")
            .env("HOME", self.path("home"))
            .env("EXAMPLE", super::folder())
            .output()
            .unwrap();
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Commits what is in the clone and pushes it; returns the commit.
    pub(super) fn push(&self) -> String {
        let commit = self
            .author("clone", "git add . && git commit -qm change && git push -q origin change && git rev-parse HEAD");
        commit.trim().to_owned()
    }

    /// A shell as it runs on the machine: with its user's settings of Git, and with the folder it is in on its path.
    pub(super) fn machine(&self, folder: &Path) -> Command {
        let mut bash = Command::new("/bin/bash");
        bash.args(["--noprofile", "--norc", "-eo", "pipefail", "-c"]).current_dir(folder);
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            let of_others = ["GIT_", "CARGO", "RUST", "KUBECONFIG", "SEKUIRE_"];
            if of_others.iter().any(|prefix| name.starts_with(prefix)) {
                bash.env_remove(name);
            }
        }
        bash.env("HOME", self.path("home")).env("TMPDIR", self.path("temp")).env("GIT_TERMINAL_PROMPT", "0");
        bash.env("RUSTUP_HOME", self.path("rustup")).env("CARGO_HOME", self.path("cargo"));
        bash.env("PATH", format!(".:{}", std::env::var("PATH").unwrap()));
        bash
    }

    /// Runs a gate on a commit, from its first step to its last or the one that fails. All that it printed, and how it ended.
    pub(super) fn run(&self, pipeline: Pipeline, commit: &str) -> (String, Option<i32>) {
        let (program, revision) =
            (format!("file://{}", self.path("program").display()), self.author("program", "git rev-parse HEAD"));
        let steps = match pipeline {
            Pipeline::GitHub => self.workflow(commit, &program, revision.trim()),
            Pipeline::GitLab => vec![self.job(commit, &program, revision.trim())],
        };
        let (mut said, mut code) = (String::new(), None);
        for mut step in steps {
            let Output { status, stdout, stderr } = step.output().unwrap();
            said += &format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
            code = status.code();
            if !status.success() {
                break;
            }
        }
        (said, code)
    }

    /// The job as the fork with the number 8 runs it.
    pub(super) fn job_of_a_fork(&self, commit: &str) -> Command {
        let mut job = self.job(commit, "file:///nowhere", "0000");
        job.env("CI_PROJECT_ID", "8");
        job
    }

    fn workflow(&self, commit: &str, program: &str, revision: &str) -> Vec<Command> {
        let workflow = parsed(WORKFLOW);
        assert_eq!(
            workflow["defaults"]["run"]["shell"], "bash",
            "`bash -e` alone goes on after a failed `git archive |`"
        );
        let temp = self.path("temp").display().to_string();
        let value = |text: &str| match text {
            "${{ vars.SEKUIRE_GIT }}" => program.to_owned(),
            "${{ vars.SEKUIRE_REV }}" => revision.to_owned(),
            "${{ github.token }}" => TOKEN.to_owned(),
            "${{ runner.temp }}" => temp.clone(),
            text => {
                assert!(!text.contains("${{"), "{text}");
                text.to_owned()
            }
        };
        let step = |step: &Value| {
            let folder = step["working-directory"]
                .as_str()
                .map_or_else(|| self.path("workspace"), |folder| value(folder).into());
            let mut bash = self.machine(&folder);
            bash.arg(step["run"].as_str().unwrap()).env("RUNNER_TEMP", &temp);
            bash.env("GITHUB_SERVER_URL", format!("file://{}", self.work.path().display()));
            bash.env("GITHUB_REPOSITORY", "server.git").env("GITHUB_SHA", commit).env("GITHUB_BASE_REF", "main");
            bash.env("GITHUB_WORKSPACE", self.path("workspace"));
            for name in ["GITHUB_ENV", "GITHUB_PATH", "GITHUB_OUTPUT", "GITHUB_STATE"] {
                bash.env(name, self.path(name));
            }
            for (name, text) in step["env"].as_mapping().into_iter().flatten() {
                bash.env(name.as_str().unwrap(), value(text.as_str().unwrap()));
            }
            bash
        };
        workflow["jobs"]["check"]["steps"].as_sequence().unwrap().iter().map(step).collect()
    }

    fn job(&self, commit: &str, program: &str, revision: &str) -> Command {
        let job = &parsed(GITLAB)["policies"];
        let lines: Vec<&str> = job["script"].as_sequence().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
        let mut bash = self.machine(&self.path("workspace"));
        bash.arg(lines.join("\n")).env("CI_PROJECT_DIR", self.path("workspace")).env("CI_JOB_TOKEN", TOKEN);
        bash.env("CI_REPOSITORY_URL", format!("file://{}", self.path("server.git").display()))
            .env("CI_COMMIT_SHA", commit);
        bash.env("CI_MERGE_REQUEST_TARGET_BRANCH_NAME", "main")
            .env("CI_PROJECT_ID", "7")
            .env("CI_MERGE_REQUEST_PROJECT_ID", "7");
        bash.env("SEKUIRE_GIT", program).env("SEKUIRE_REV", revision);
        for (name, value) in job["variables"].as_mapping().unwrap() {
            bash.env(name.as_str().unwrap(), value.as_str().unwrap());
        }
        bash
    }
}
