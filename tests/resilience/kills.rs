//! SIGKILL at any moment loses nothing.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use kube::{ResourceExt as _, api::ListParams};
use sekuire_policy::api::object_name;
use serde_json::Value;

use super::support::{History, Random, Site, agent, at_version, dry_run, until};
use crate::cluster::{Cluster, Controller, ControllerOptions};

const WORKSPACES: usize = 100;
const KILLS: u64 = 50;
/// A new commit, of all workspaces, each time that it was killed so often.
const KILLS_A_COMMIT: u64 = 5;
/// How many writes a controller is granted, where it is killed by their number.
const WRITES: Range<u64> = 1..200;

fn workspaces() -> impl Iterator<Item = String> {
    (0..WORKSPACES).map(|number| format!("ws_{number}"))
}

fn documents(site: &Site, version: u64) -> Vec<Value> {
    let (version, denied) = (version.to_string(), format!("tool_{version}"));
    workspaces().map(|workspace| site.document(&workspace, &version, &[&denied])).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_fifty_random_moments_it_converges_loses_nothing_and_comes_to_rest() {
    let site = Site::new(Cluster::options()).await;
    let mut random = Random::new();
    let history = History::record(&site.client);
    let mut controller = ControllerOptions::new("a").spawn(&site.cluster).await;
    let (mut version, mut lives) = (0, Vec::new());
    for kill in 0..KILLS {
        if kill % KILLS_A_COMMIT == 0 {
            version += 1;
            site.commit(&documents(&site, version)).await;
        }
        let before = history.writes();
        if kill % 2 == 0 {
            tokio::time::sleep(Duration::from_millis(20 + random.below(580))).await;
        } else {
            let target = WRITES.start + random.below(WRITES.end - WRITES.start);
            after_writes(&history, before + usize::try_from(target).unwrap()).await;
        }
        controller.kill();
        lives.push(history.writes() - before);
        controller.start_again();
    }
    println!("writes of each life: {lives:?}");
    // one more, so that what was seen of the commits before is not all that there is
    version += 1;
    let tip = site.commit(&documents(&site, version)).await;
    let start = Instant::now();
    until("all workspaces are at the last commit", || converged(&site, version, &tip)).await;
    println!("converged after {} ms", start.elapsed().as_millis());
    assert_eq!(history.faults(), Vec::<String>::new());
    controller.ready().await;
    every_workspace_enforces(&site, version).await;
    nothing_moves(&site, &mut controller).await;
    assert_eq!(history.faults(), Vec::<String>::new());
}

/// Waits for so many writes; in vain where there is nothing to write, so for a second at most after the last one.
async fn after_writes(history: &History, target: usize) {
    let mut last = (history.writes(), Instant::now());
    let start = last.1;
    while last.0 < target && last.1.elapsed() < Duration::from_secs(1) && start.elapsed() < Duration::from_secs(3) {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let now = history.writes();
        if now != last.0 {
            last = (now, Instant::now());
        }
    }
}

/// Whether object, mark and Git agree for every workspace, and the cursor stands at the tip.
async fn converged(site: &Site, version: u64, tip: &str) -> Result<(), String> {
    let all = ListParams::default();
    let policies = site.policies().list(&all).await.map_err(|e| e.to_string())?;
    let ledgers = site.ledgers().list(&all).await.map_err(|e| e.to_string())?;
    if (policies.items.len(), ledgers.items.len()) != (WORKSPACES, WORKSPACES) {
        return Err(format!("{} objects, {} ledgers", policies.items.len(), ledgers.items.len()));
    }
    for policy in &policies.items {
        let name = policy.name_any();
        let ledger = ledgers.items.iter().find(|ledger| ledger.name_any() == name).ok_or(name.clone())?;
        at_version(policy, ledger, &version.to_string()).map_err(|why| format!("{name}: {why}"))?;
    }
    let repository = site.cluster.kubectl(["get", "prepo", "policies", "-o", "jsonpath={.status.cursor.commit}"]).await;
    if repository.stdout != tip {
        return Err(format!("the cursor stands at {:?}", repository.stdout));
    }
    Ok(())
}

/// The tool of the newest version is refused, and that of the one before admitted, in every workspace.
async fn every_workspace_enforces(site: &Site, version: u64) {
    let (newest, before) = (format!("tool_{version}"), format!("tool_{}", version - 1));
    for workspace in workspaces() {
        let namespace = site.namespace(&workspace).await;
        let api = site.agents(&namespace);
        until(&format!("{workspace} admits"), async || {
            api.create(&dry_run(), &agent(&namespace, "good", &[&before])).await.map(drop).map_err(|e| e.to_string())
        })
        .await;
        let refused = api.create(&dry_run(), &agent(&namespace, "bad", &[&newest])).await;
        let why = refused.expect_err(&workspace).to_string();
        assert!(why.contains(&format!("version {version} ")), "{}: {why}", object_name(&workspace));
    }
}

/// No resourceVersion moves when nothing has changed: over several looks, and over a restart.
async fn nothing_moves(site: &Site, controller: &mut Controller) {
    let rest = site.at_rest().await;
    site.stays_at(&rest, Duration::from_secs(4), "over several looks at the repository").await;
    controller.restart().await;
    site.stays_at(&rest, Duration::from_secs(4), "after a SIGKILL and a new start").await;
    controller.terminate().await;
    controller.start_again();
    controller.ready().await;
    site.stays_at(&rest, Duration::from_secs(4), "after a SIGTERM and a new start").await;
}
