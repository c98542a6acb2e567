//! What people do with an editor: files of the platform team's repository.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::{NEXT_VERSION, POLICY, shell::Shell};

/// Copies `policies-example` into `folder`, beside an empty bare repository that it will be pushed to. Returns the copy.
pub(crate) fn prepare(folder: &Path) -> PathBuf {
    let copy = folder.join("policies");
    copy_folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join("policies-example"), &copy);
    let origin = folder.join("policies.git");
    let made = std::process::Command::new("git")
        .args(["init", "--quiet", "--bare", "--initial-branch", "main"])
        .arg(&origin)
        .status();
    assert!(made.is_ok_and(|status| status.success()), "`git init` fails in {}", folder.display());
    edit(&copy, "repository.yaml", |text| {
        text.replace("https://git.example.com/platform/policies.git", &format!("file://{}", origin.display()))
            .replace("interval: 1m", "interval: 1s")
    });
    copy
}

/// Approves the tool that `refund-helper` was refused for, under the next version.
pub(crate) fn approve_tool(shell: &Shell) {
    edit_policy(shell, |policy| {
        policy["version"] = NEXT_VERSION.into();
        let tools = &mut policy["content"]["agent"]["capabilities"]["allowed_tools"];
        tools.as_array_mut().expect("a list").push("refund_create".into());
    });
}

/// Allows what was denied, and raises the version so that it would win.
pub(crate) fn tamper(shell: &Shell) {
    edit_policy(shell, |policy| {
        policy["version"] = "1.4".into();
        let capabilities = &mut policy["content"]["agent"]["capabilities"];
        capabilities["denied_tools"] = Value::Array(Vec::new());
        capabilities["allowed_tools"].as_array_mut().expect("a list").push("shell_exec".into());
    });
}

fn edit_policy(shell: &Shell, change: impl Fn(&mut Value)) {
    edit(shell.folder(), POLICY, |text| {
        let mut policy = serde_json::from_str(text).expect("the policy is JSON");
        change(&mut policy);
        format!("{policy:#}\n")
    });
}

fn edit(folder: &Path, name: &str, change: impl Fn(&str) -> String) {
    let path = folder.join(name);
    let old = fs::read_to_string(&path).unwrap_or_else(|e| panic!("read {}: {e}", path.display()));
    let new = change(&old);
    assert_ne!(old, new, "nothing to change in {}", path.display());
    fs::write(&path, new).unwrap_or_else(|e| panic!("write {}: {e}", path.display()));
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("make a folder");
    for entry in fs::read_dir(from).expect("policies-example is in the checkout") {
        let entry = entry.expect("policies-example can be read");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).expect("copy a file");
        }
    }
}
