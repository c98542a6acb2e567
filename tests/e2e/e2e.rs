//! `make e2e`: the chart and the image on a real node, from `helm install` to `helm uninstall`, under a constant load of
//! admission requests of which every verdict is checked.
//!
//! The node is a machine of its own: private namespaces of this one, see `node/`. It takes root. With `E2E_KUBECONFIG` any
//! cluster does, such as kind; `E2E_LOAD` is then the command that gives it an image archive (`kind load image-archive`).
//! The cluster should be a throw-away one: kinds and webhook configuration are the cluster's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what does not happen ends the run")]

#[path = "../cluster/mod.rs"]
mod cluster;
mod faults;
mod images;
mod load;
mod node;
mod site;
mod story;

use std::{env, path::Path, process::ExitCode, time::Instant};

use tokio::process::Command;

use node::Node;
use site::Site;

/// Set where this program was started by itself, in the network of the node.
const INSIDE: &str = "E2E_INSIDE";

#[tokio::main]
async fn main() -> ExitCode {
    if env::var_os(INSIDE).is_some() {
        return if story::tell(&Site::new().await).await { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let start = Instant::now();
    let folder = tempfile::Builder::new().prefix("sekuire-e2e-").tempdir().expect("make a temporary folder");
    cluster::guard::remove_at_end(folder.path());
    let given = env::var_os("E2E_KUBECONFIG").filter(|path| !path.is_empty());
    if given.is_none()
        && let Some(why) = node::cannot_run()
    {
        // in CI this ends it
        cluster::skip::skipped(&format!("{why}; or name any cluster's kubeconfig in E2E_KUBECONFIG"));
        return ExitCode::SUCCESS;
    }
    let images = folder.path().join("images");
    std::fs::create_dir_all(&images).expect("make a folder");
    let built = Instant::now();
    images::build(&images).await;
    site::took("images built", built);
    let code = match given {
        Some(kubeconfig) => {
            images::load(&images).await;
            inside(folder.path(), Command::new(env::current_exe().expect("this program")), Path::new(&kubeconfig)).await
        }
        None => on_a_node(folder.path()).await,
    };
    println!("\ne2e: {} after {} s", if code { "all as it should be" } else { "FAILED" }, start.elapsed().as_secs());
    if code { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn on_a_node(folder: &Path) -> bool {
    let started = Instant::now();
    let node = Node::start(folder).await;
    site::took("node up: etcd, control plane, containerd, kubelet, kube-proxy", started);
    let code = inside(folder, node.command(), &node.kubeconfig()).await;
    let ended = Instant::now();
    if !code {
        node.show_logs();
    }
    node.end();
    site::took("node down, and nothing of it left", ended);
    code
}

/// Runs this program again, where the cluster can be reached.
async fn inside(folder: &Path, mut command: Command, kubeconfig: &Path) -> bool {
    let path = env::join_paths(
        [cluster::programs::programs().to_owned()].into_iter().chain(env::split_paths(&env::var_os("PATH").unwrap())),
    );
    command
        .env(INSIDE, "1")
        .env("KUBECONFIG", kubeconfig)
        .env("KUBERC", "off")
        .env("RUST_BACKTRACE", "0") // what was expected is said; where from is of no interest
        .env("PATH", path.expect("no folder has a colon in its name"))
        .env("E2E_FOLDER", folder)
        .kill_on_drop(true);
    command.status().await.expect("start this program again").success()
}
