//! `docs/getting-started.md`, pasted into a terminal.

use std::path::Path;

use tokio::process::Command;

use super::docs::{Block, blocks, read};
use crate::cluster::command::run;
use crate::cluster::controller::sekuire;
use crate::cluster::git::clean_env;
use crate::cluster::{Cluster, Controller, User};

/// What a block is to a terminal: what to type, what to type that has to fail, or nothing.
fn typed(block: &Block) -> String {
    let text = &block.text;
    match block.info.as_str() {
        "sh" => format!("{text}\n"),
        "sh refused" => format!("if {{\n{text}\n}}; then echo 'this was expected to be refused'; exit 1; fi\n"),
        _ => String::new(),
    }
}

/// The environment of whoever types it: in the demo's cluster, in a home of their own.
fn environment(cluster: &Cluster, home: &Path) -> Vec<(String, String)> {
    let mut all = cluster.kubectl_env(User::ADMIN);
    all.extend(clean_env(jiff::Timestamp::now().as_second()).into_iter().map(|(name, value)| (name.to_owned(), value)));
    let own = sekuire().parent().unwrap().display().to_string();
    let path = std::env::var("PATH").unwrap();
    all.push(("PATH".to_owned(), format!("{own}:{}:{path}", cluster.programs().display())));
    all.push(("HOME".to_owned(), home.display().to_string()));
    all
}

#[tokio::test]
async fn every_step_works_and_prints_what_it_says() {
    let page = blocks(&read("docs/getting-started.md"));
    let cluster = Cluster::start().await;
    cluster.install_crds().await;
    let _controller = Controller::start(&cluster).await;
    let home = tempfile::tempdir().unwrap();
    let script: String = page.iter().map(typed).collect();
    let mut bash = Command::new("bash");
    bash.args(["-euo", "pipefail", "-c", &format!("exec 2>&1\n{script}")]);
    bash.current_dir(home.path()).envs(environment(&cluster, home.path()));
    let ran = run(bash, &[]).await;
    assert!(ran.succeeded(), "{ran}");
    let mut printed = ran.stdout.clone();
    for line in page.iter().filter(|block| block.info == "text").flat_map(|block| block.text.lines()) {
        // an ellipsis stands for what differs each time
        for part in line.split('…') {
            let at = printed.find(part).unwrap_or_else(|| panic!("expected `{part}` in\n{printed}\nof\n{ran}"));
            printed.drain(..at + part.len());
        }
    }
}
