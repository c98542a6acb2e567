//! A cluster that is restored from an old backup, and clones that are.

use std::{fs, path::Path, process::Command, time::Duration};

use kube::{
    Client,
    api::{Patch, PatchParams},
};
use serde_json::json;

use super::{
    probes::{direct, review},
    support::{DENIED, Site, agent, dry_run, logged, until},
};
use crate::cluster::{Cluster, ControllerOptions};

const WORKSPACE: &str = "ws_a";
const NAME: &str = "ws-a";

fn copy(from: &Path, to: &Path) {
    drop(fs::remove_dir_all(to));
    assert!(Command::new("cp").arg("-r").args([from, to]).status().unwrap().success());
}

/// Ends the API server and etcd, has their data exchanged, and starts them again.
async fn with_data(site: &Site, exchange: impl FnOnce(&Path)) {
    site.cluster.stop_api_server().await;
    site.cluster.kill_etcd();
    exchange(&site.cluster.folder().join("etcd"));
    site.cluster.start_etcd().await;
    site.cluster.start_api_server().await;
}

/// Waits until the API server refuses an agent for this.
async fn refused(site: &Site, namespace: &str, part: &str) {
    let bad = agent(namespace, "bad", &[DENIED]);
    until(&format!("it is refused: {part}"), async || match site.agents(namespace).create(&dry_run(), &bad).await {
        Err(error) if error.to_string().contains(part) => Ok(()),
        other => Err(other),
    })
    .await;
}

/// Asks the replicas themselves, all the while, whether they admit the denied tool. Returns if one does.
async fn opened(replicas: &[Client], namespace: &str) -> String {
    let bad = agent(namespace, "bad", &[DENIED]);
    loop {
        for replica in replicas {
            match review(replica, &bad).await {
                Ok((false, why)) if why.contains("[tool.blocked]") => {}
                other => return format!("{other:?}"),
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until a replica says nothing of a namespace but that it belongs to no workspace.
async fn unbound(replica: &Client, namespace: &str) {
    let good = agent(namespace, "good", &["search"]);
    until("the namespace is forgotten", async || match review(replica, &good).await {
        Ok((false, why)) if why.contains("[workspace.unbound]") => Ok(()),
        other => Err(other),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_run_while_the_cluster_is_restored_from_an_old_backup_keep_what_they_hold_and_put_it_back() {
    let site = Site::new(Cluster::options()).await;
    let first = site.commit([&site.document(WORKSPACE, "1", &[])]).await;
    let namespace = site.namespace(WORKSPACE).await;
    let a = ControllerOptions::new("a").start(&site.cluster).await;
    site.led_by("a").await;
    let b = ControllerOptions::new("b").start(&site.cluster).await;
    site.enforced(NAME, "1").await;
    site.at_rest().await;
    let backup = site.cluster.folder().join("backup-etcd");
    with_data(&site, |etcd| copy(etcd, &backup)).await;

    // what happens after the backup
    site.commit([&site.document(WORKSPACE, "2", &[DENIED])]).await;
    site.enforced(NAME, "2").await;
    let replicas = [direct(&a), direct(&b)];
    let later = site.namespace(WORKSPACE).await;
    for replica in &replicas {
        until("the replica decides by version 2", async || {
            match review(replica, &agent(&later, "bad", &[DENIED])).await {
                Ok((false, why)) if why.contains("[tool.blocked]") => Ok(()),
                other => Err(other),
            }
        })
        .await;
    }
    let mark = site.ledgers().get(NAME).await.unwrap().metadata.resource_version;

    // Git goes back too, so that nothing newer can be seen there
    site.repo.reset(&first).await;
    let put_back = async {
        with_data(&site, |etcd| copy(&backup, etcd)).await;
        let old = site.ledgers().get(NAME).await.unwrap().metadata.resource_version;
        println!("resourceVersion of the mark: {mark:?} before the restore, {old:?} after it");
        site.enforced(NAME, "2").await;
    };
    tokio::select! {
        why = opened(&replicas, &namespace) => panic!("version 2 no longer decides: {why}"),
        () = put_back => {}
    }
    refused(&site, &namespace, "[tool.blocked]").await;
    for replica in &replicas {
        unbound(replica, &later).await;
    }
    let older = "cluster is in an older state, as after a restore: everything was listed again";
    for replica in [&a, &b] {
        logged(replica, older).await;
    }
    // and changes arrive as before
    site.commit([&site.document(WORKSPACE, "3", &[DENIED])]).await;
    site.enforced(NAME, "3").await;
    site.at_rest().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_starts_after_a_restore_takes_what_is_newer_from_git_and_cannot_see_what_is_nowhere() {
    let site = Site::new(Cluster::options()).await;
    let first = site.commit([&site.document(WORKSPACE, "1", &[])]).await;
    let namespace = site.namespace(WORKSPACE).await;
    let mut controller = ControllerOptions::new("a").start(&site.cluster).await;
    site.enforced(NAME, "1").await;
    site.at_rest().await;
    let (backup, clones) = (site.cluster.folder().join("backup-etcd"), site.cluster.folder().join("backup-clones"));
    with_data(&site, |etcd| copy(etcd, &backup)).await;
    copy(&controller.data_dir(), &clones);
    let second = site.commit([&site.document(WORKSPACE, "2", &[DENIED])]).await;
    site.enforced(NAME, "2").await;

    // an old clone alone changes nothing, even where Git went back as well: no mark is kept in it
    controller.kill();
    site.repo.reset(&first).await;
    copy(&clones, &controller.data_dir());
    controller.start_again();
    controller.ready().await;
    refused(&site, &namespace, "[tool.blocked]").await;
    site.at_rest().await; // it has looked at the old commit by now, and more than once
    assert_eq!(site.policies().get(NAME).await.unwrap().spec.document["version"], "2");
    assert_eq!(site.ledgers().get(NAME).await.unwrap().spec.version.to_string(), "2");

    // the cluster and the clone go back, and Git has what is newer
    controller.kill();
    site.repo.reset(&second).await;
    with_data(&site, |etcd| copy(&backup, etcd)).await;
    copy(&clones, &controller.data_dir());
    controller.start_again();
    controller.ready().await;
    site.enforced(NAME, "2").await;
    refused(&site, &namespace, "[tool.blocked]").await;

    // a key that was revoked since is trusted again, which nobody can see: docs/limits.md and docs/backup.md say so
    let revoked = json!({"spec": {"revoked": {"reason": "stolen"}}});
    let keys = kube::Api::<sekuire_policy::api::SigningKey>::all(site.client.clone());
    keys.patch("platform", &PatchParams::default(), &Patch::Merge(&revoked)).await.unwrap();
    refused(&site, &namespace, "KeyRevoked").await;
    with_data(&site, |etcd| copy(&backup, etcd)).await;
    refused(&site, &namespace, "[tool.blocked]").await;
    site.enforced(NAME, "2").await;

    // nor can it be seen that there was a version 2 where no replica ran and Git went back as well
    controller.kill();
    site.repo.reset(&first).await;
    with_data(&site, |etcd| copy(&backup, etcd)).await;
    copy(&clones, &controller.data_dir());
    controller.start_again();
    controller.ready().await;
    site.enforced(NAME, "1").await;
    until("what version 2 denied is admitted", async || {
        site.agents(&namespace).create(&dry_run(), &agent(&namespace, "bad", &[DENIED])).await.map(drop)
    })
    .await;
}
