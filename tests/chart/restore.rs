//! The drill of docs/backup.md: what is state is saved, restored into an empty cluster, and enforced again.

use std::path::Path;

use serde_json::{Value, json};
use tokio::process::Command;

use crate::cluster::command::run;
use crate::cluster::skip::skip;
use crate::cluster::{Cluster, ClusterOptions, ControllerOptions, Signer, User};
use crate::resilience::support::{DENIED, Site, agent, dry_run, until};

/// The commands of the page, in its order: to save, and to restore.
fn commands() -> [String; 2] {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/backup.md")).unwrap();
    let blocks: Vec<String> = page.split("```\n").skip(1).step_by(2).map(str::to_owned).collect();
    blocks.try_into().unwrap_or_else(|blocks| panic!("not two blocks of commands: {blocks:?}"))
}

/// Types commands in a folder, at a cluster; all have to succeed.
async fn type_in(cluster: &Cluster, folder: &Path, commands: &str) {
    let mut bash = Command::new("bash");
    bash.args(["-euo", "pipefail", "-c", commands]).current_dir(folder).envs(cluster.kubectl_env(User::ADMIN));
    bash.env("PATH", format!("{}:{}", cluster.programs().display(), std::env::var("PATH").unwrap()));
    run(bash, b"").await.ok();
}

/// A version of the workspace, signed by both where `other` is given.
fn document(site: &Site, version: &str, denied: &[&str], other: Option<&Signer>) -> Value {
    let content = json!({"agent": {"capabilities": {"denied_tools": denied}}});
    let document = site.signer.document("ws_a", version, "active", content);
    let document = other.map_or(document.clone(), |other| other.cosign(&document));
    serde_json::from_str(&document).unwrap()
}

#[tokio::test]
async fn what_the_commands_of_the_page_restore_is_enforced_again_with_its_marks_and_nothing_older_is_taken() {
    if std::process::Command::new("jq").arg("--version").output().is_err() {
        skip!("needs jq");
    }
    let site = Site::new(ClusterOptions::default()).await;
    let other = Signer::new(8);
    let threshold = json!({"apiVersion": "sekuire.ai/v1alpha1", "kind": "SigningThreshold", "metadata": {"name": "two"},
        "spec": {"workspaces": ["ws_a"], "signatures": 2}});
    for manifest in [other.manifest("security", &["ws_*"]), threshold] {
        site.cluster.apply(&manifest.to_string()).await.ok();
    }
    let first = site.commit([&document(&site, "1", &[], Some(&other))]).await;
    let controller = ControllerOptions::new("a").start(&site.cluster).await;
    site.enforced("ws-a", "1").await;
    site.commit([&document(&site, "2", &[DENIED], Some(&other))]).await;
    site.enforced("ws-a", "2").await;
    let namespace = site.namespace("ws_a").await;
    let running = agent(&namespace, "running", &["calculator"]);
    until("admitted", async || site.agents(&namespace).create(&dry_run(), &running).await.map(drop)).await;
    site.agents(&namespace).create(&Default::default(), &running).await.unwrap();
    drop(controller);
    let backup = tempfile::tempdir().unwrap();
    let [save, restore] = commands();
    type_in(&site.cluster, backup.path(), &save).await;

    // somebody took the repository back to the old version meanwhile
    site.repo.reset(&first).await;
    let Site { repo, signer, cluster, client } = site;
    drop((cluster, client));
    let cluster = Cluster::start().await;
    cluster.install_crds().await;
    type_in(&cluster, backup.path(), &restore).await;
    let site = Site { client: cluster.client().await, cluster, repo, signer };
    assert!(site.agents(&namespace).get_opt("running").await.unwrap().is_some());
    // no folder of clones: it is a cache
    let _controller = ControllerOptions::new("b").start(&site.cluster).await;
    until("refused", async || {
        match site.agents(&namespace).create(&dry_run(), &agent(&namespace, "a", &[DENIED])).await {
            Err(kube::Error::Api(status)) if status.message.contains("[tool.blocked]") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    site.at_rest().await; // it has looked at the old commit by now, and more than once
    let policy = site.policies().get("ws-a").await.unwrap();
    let ledger = site.ledgers().get("ws-a").await.unwrap();
    assert_eq!(policy.spec.document["version"], "2");
    assert_eq!(ledger.spec.version.to_string(), "2");
    // the cursor came back with the repository's status only where statuses are restored; the mark holds without it
    site.commit([&document(&site, "3", &[DENIED], None)]).await;
    site.at_rest().await;
    assert_eq!(site.policies().get("ws-a").await.unwrap().spec.document["version"], "2", "one signature of two");
    site.commit([&document(&site, "3", &[DENIED], Some(&other))]).await;
    until("the next version is enforced", async || {
        let (policy, ledger) = (site.policies().get("ws-a").await, site.ledgers().get("ws-a").await);
        let (policy, ledger) = (policy.map_err(|e| e.to_string())?, ledger.map_err(|e| e.to_string())?);
        if policy.spec.document["version"] == "3" && ledger.spec.version.to_string() == "3" {
            Ok(())
        } else {
            Err(format!("{:?}", policy.status))
        }
    })
    .await;
}
