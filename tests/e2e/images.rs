//! The images: the controller's, twice, and that of a Git server.

use std::{env, path::Path, process::Stdio};

use tokio::process::Command;

/// What is installed first.
pub(crate) const FIRST: &str = "e2e-1";
/// What it is upgraded to: the same program, built into an image of another revision.
pub(crate) const SECOND: &str = "e2e-2";
/// The image of the Git server.
pub(crate) const GIT: &str = "localhost/sekuire-e2e-git:1";

/// Builds all images into `folder`, as archives.
pub(crate) async fn build(folder: &Path) {
    for tag in [FIRST, SECOND] {
        let mut command = script(".ci/image");
        command.arg(folder.join(format!("{tag}.tar"))).arg(format!("revision-of-{tag}")).env("TAG", tag);
        run(command).await;
    }
    let root = folder.with_file_name("git-server");
    let mut command = script("tests/e2e/git/build.sh");
    command.arg(&root);
    run(command).await;
    let mut command = script("tests/image/pack.py");
    let dockerfile = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/git/Dockerfile");
    command.args([dockerfile, "--name", GIT, "--from", &format!("build={}", root.display())]);
    command.arg(folder.join("git.tar"));
    run(command).await;
}

/// Hands all images of `folder` to the cluster that was given.
pub(crate) async fn load(folder: &Path) {
    let Ok(load) = env::var("E2E_LOAD") else {
        println!("E2E_LOAD is not set: the cluster is taken to have the images");
        return;
    };
    for name in [FIRST, SECOND, "git"] {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{load} \"$1\""), "load"]).arg(folder.join(format!("{name}.tar")));
        run(command).await;
    }
}

fn script(name: &str) -> Command {
    Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join(name))
}

/// A release build may be part of it: no bound but that of the whole run.
async fn run(mut command: Command) {
    let status = command.stdin(Stdio::null()).kill_on_drop(true).status().await;
    let status = status.unwrap_or_else(|e| panic!("start {command:?}: {e}"));
    assert!(status.success(), "{command:?} ended with {status}");
}
