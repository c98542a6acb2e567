//! Running the binary in a folder of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// A folder with a key that is trusted for every workspace.
pub(crate) struct Desk {
    folder: TempDir,
    pub(crate) key_id: String,
}

/// How a command ended.
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Desk {
    pub(crate) fn new() -> Desk {
        let mut desk = Desk { folder: tempfile::tempdir().unwrap(), key_id: String::new() };
        let ended = desk.run(&["key", "generate", "--out", "keys", "--workspace", "*"]);
        assert_eq!(ended.code, 0, "{}", ended.err);
        desk.key_id = ended.out.lines().next().unwrap().to_owned();
        desk
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: &str) {
        fs::write(self.path(name), content).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    pub(crate) fn private_key(&self) -> String {
        format!("keys/{}.pem", self.key_id)
    }

    /// Runs `sekuire` in the folder.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        self.run_with(&[], arguments)
    }

    /// Runs `sekuire` in the folder, with these variables in its environment and nothing of the cluster or the keys of
    /// whoever runs the test.
    pub(crate) fn run_with(&self, environment: &[(&str, &str)], arguments: &[&str]) -> Ended {
        let output = Command::new(env!("CARGO_BIN_EXE_sekuire"))
            .args(arguments)
            .current_dir(self.folder.path())
            .env_remove("KUBECONFIG")
            .env_remove("SEKUIRE_KEY_PASSPHRASE")
            .env("HOME", self.folder.path())
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        Ended {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Runs `git` in a folder of it.
    pub(crate) fn git_in(&self, folder: &str, arguments: &[&str]) {
        let mut git = std::process::Command::new("git");
        git.args(["-c", "user.name=t", "-c", "user.email=t@t"]).args(arguments).current_dir(self.path(folder));
        let output = git.output().unwrap();
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Runs `git` in the folder.
    pub(crate) fn git(&self, arguments: &[&str]) {
        self.git_in("", arguments);
    }

    /// Runs `sekuire policy sign` with the key.
    pub(crate) fn sign(&self, arguments: &[&str]) -> Ended {
        self.run(&[&["policy", "sign", "--key", &self.private_key()], arguments].concat())
    }

    /// The result of each file, by `sekuire policy validate`.
    pub(crate) fn results(&self, files: &[&str]) -> Vec<String> {
        let ended =
            self.run(&[&["policy", "validate", "--trust", "keys", "--output", "json", "--file"], files].concat());
        let list: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
        list.as_array().unwrap().iter().map(|v| v["result"].as_str().unwrap().to_owned()).collect()
    }
}

pub(crate) const JSON: &str = r#"{
  "status": "active",
  "policy_id": "policy_a",
  "workspace_id": "ws_a",
  "version": "1.9",
  "content": {"tools": {}, "agent": {"models": {"denied_models": ["größe", "gpt-3*"]}}}
}
"#;

pub(crate) const YAML: &str = "# reviewed by two
policy_id: policy_b   # ours
workspace_id: ws_b
version: 1.0.0
status: \"active\" # enforced
content:
  agent:
    # no old models
    models:
      denied_models: [gpt-3*, \"a # b\"]
# the end
";
