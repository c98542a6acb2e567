//! Two replicas: one leads, the other takes over, and two that both think they lead do no harm.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustix::process::Signal;
use serde_json::Value;

use super::support::{History, Random, Site, until};
use crate::cluster::{Cluster, Controller, ControllerOptions};

/// Duration of the Lease.
const LEASE: Duration = Duration::from_secs(15);
const WORKSPACES: usize = 20;
/// What takes milliseconds, on a busy machine. No wait of the election is as short.
const AT_ONCE: Duration = Duration::from_secs(2);

async fn two_replicas() -> (Site, Controller, Controller) {
    let site = Site::new(Cluster::options()).await;
    let a = ControllerOptions::new("a").metrics().start(&site.cluster).await;
    site.led_by("a").await;
    let b = ControllerOptions::new("b").metrics().start(&site.cluster).await;
    commit(&site, "1").await;
    enforced(&site, "1").await;
    (site, a, b)
}

async fn commit(site: &Site, version: &str) {
    let documents: Vec<Value> =
        (0..WORKSPACES).map(|number| site.document(&format!("ws_{number}"), version, &[version])).collect();
    site.commit(&documents).await;
}

/// How many workspaces are not at this version yet.
async fn pending(site: &Site, version: &str) -> usize {
    let all = site.policies().list(&kube::api::ListParams::default()).await.unwrap();
    let there = all.iter().filter(|policy| policy.spec.document["version"] == version).count();
    WORKSPACES - there
}

async fn enforced(site: &Site, version: &str) {
    for number in 0..WORKSPACES {
        site.enforced(&format!("ws-{number}"), version).await;
    }
}

/// Waits until the leader has just renewed its Lease. Returns when that was.
async fn renewed(site: &Site) -> Timestamp {
    let (_, _, before) = site.lease().await;
    until("the Lease is renewed", async || {
        let (_, _, now) = site.lease().await;
        if now == before { Err(now) } else { Ok(()) }
    })
    .await;
    site.lease().await.2.unwrap()
}

fn after(time: Timestamp, pause: Duration) -> Timestamp {
    time.checked_add(jiff::SignedDuration::try_from(pause).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_told_to_stop_hands_over_at_once() {
    let (site, mut a, b) = two_replicas().await;
    // right after a renewal, so that waiting the Lease out would take its whole duration
    let renewal = renewed(&site).await;
    assert!(a.terminate().await.success(), "{}", a.log());
    let ended = Instant::now();
    site.led_by("b").await;
    assert!(ended.elapsed() < AT_ONCE, "taken over only after {:?}", ended.elapsed());
    let (_, taken, _) = site.lease().await;
    assert!(taken.unwrap() < after(renewal, LEASE), "renewed at {renewal}, taken over only at {taken:?}");
    commit(&site, "2").await;
    enforced(&site, "2").await;
    drop(b);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_killed_is_replaced_when_its_lease_is_over() {
    let (site, mut a, b) = two_replicas().await;
    renewed(&site).await;
    a.kill();
    let renewal = site.lease().await.2.unwrap(); // the last one for sure: it may have renewed once more
    commit(&site, "2").await;
    let start = Instant::now();
    site.led_by("b").await;
    println!("taken over {} ms after the kill", start.elapsed().as_millis());
    let (_, taken, _) = site.lease().await;
    let slack = Duration::from_secs(10); // a busy machine; another Lease waited out would be more
    assert!(taken.unwrap() < after(renewal, LEASE + slack), "renewed at {renewal}, taken over only at {taken:?}");
    enforced(&site, "2").await;
    // and a restart of the one that leads now takes its own Lease back at once
    let mut b = b;
    b.kill();
    let killed = Timestamp::now();
    b.start_again();
    until("b leads again", async || {
        let (holder, _, renewal) = site.lease().await;
        if holder.as_deref() == Some("b") && renewal > Some(killed) { Ok(()) } else { Err((holder, renewal)) }
    })
    .await;
    let (_, _, renewal) = site.lease().await;
    assert!(renewal.unwrap() < after(killed, LEASE), "killed at {killed}, leads again only at {renewal:?}");
    b.ready().await;
    site.at_rest().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_was_paused_in_the_middle_of_a_commit_and_deposed_lowers_nothing_when_it_wakes() {
    let (site, a, b) = two_replicas().await;
    let history = History::record(&site.client);
    let mut random = Random::new();
    // an object and a ledger of each: what is counted after that is written after that
    until("what is there is recorded", async || match history.writes() {
        all if all >= 2 * WORKSPACES => Ok(()),
        some => Err(some),
    })
    .await;
    // paused in the middle of writing a commit, then two more come
    let first = history.writes();
    commit(&site, "2").await;
    let writes = usize::try_from(1 + random.below(20)).unwrap();
    until("some of the commit is written", async || {
        if history.writes() >= first + writes { Ok(()) } else { Err(history.writes() - first) }
    })
    .await;
    a.signal(Signal::STOP);
    // in the middle: some of the commit is not written, and nobody else writes yet
    let pending = pending(&site, "2").await;
    assert!(pending > 0 && pending < WORKSPACES, "{pending} of {WORKSPACES} workspaces were not written yet");
    commit(&site, "3").await;
    site.led_by("b").await;
    enforced(&site, "3").await;
    commit(&site, "4").await;
    enforced(&site, "4").await;
    a.signal(Signal::CONT);
    until("it finds out that it leads no more", async || {
        if a.log().contains("no longer leading") { Ok(()) } else { Err(a.log()) }
    })
    .await;
    let rest = site.at_rest().await;
    site.stays_at(&rest, Duration::from_secs(5), "with both replicas running").await;
    assert_eq!(history.faults(), Vec::<String>::new());
    site.led_by("b").await;
    enforced(&site, "4").await;
    commit(&site, "5").await;
    enforced(&site, "5").await;
    assert_eq!(history.faults(), Vec::<String>::new());
    assert_eq!(history.gaps(), 0, "all writes were seen");
    drop((a, b));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_lease_is_made_again_and_exactly_one_replica_leads_at_any_time_but_for_a_moment_without_one() {
    let (site, a, b) = two_replicas().await;
    let leaders = async || {
        let of = async |replica: &Controller| {
            let scraped = crate::observe::support::scrape(replica).await;
            crate::observe::support::series(&scraped)["sekuire_leader"] > 0.0
        };
        usize::from(of(&a).await) + usize::from(of(&b).await)
    };
    assert_eq!(leaders().await, 1);
    let namespace = crate::cluster::controller::NAMESPACE;
    site.cluster.kubectl(["delete", "lease", "sekuire-policy-controller", "-n", namespace]).await.ok();
    let (start, mut counts) = (Instant::now(), Vec::new());
    // for longer than any Lease lasts
    while start.elapsed() < LEASE + Duration::from_secs(5) {
        counts.push(leaders().await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(counts.iter().all(|leaders| *leaders <= 1), "{counts:?}");
    assert!(counts.iter().rev().take(20).all(|leaders| *leaders == 1), "{counts:?}");
    assert!(site.lease().await.0.is_some());
    commit(&site, "2").await;
    enforced(&site, "2").await;
    site.at_rest().await;
    drop((a, b));
}
