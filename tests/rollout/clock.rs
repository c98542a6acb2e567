//! The clock of the controller jumps, ahead and back. libfaketime stands between the real program and its clock; timers keep
//! their own pace, as on a machine whose clock is set.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::cluster::{Cluster, Controller, ControllerOptions, Signer, skip::skip};
use crate::resilience::support::{DENIED, Site, agent, dry_run, until};

/// The library, where Debian and its kin put it.
fn library() -> Option<PathBuf> {
    let known = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"];
    known.iter().map(|folder| Path::new(folder).join("faketime/libfaketimeMT.so.1")).find(|path| path.exists())
}

/// A clock that can be set.
struct Clock(PathBuf);

impl Clock {
    fn new(site: &Site, name: &str) -> Clock {
        let clock = Clock(site.cluster.folder().join(format!("{name}.clock")));
        clock.ahead_by("0");
        clock
    }

    /// Sets it ahead of the true time: `61d`, `1h`, or `0`.
    fn ahead_by(&self, offset: &str) {
        let part = self.0.with_extension("part");
        std::fs::write(&part, format!("+{offset}\n")).unwrap();
        std::fs::rename(&part, &self.0).unwrap();
    }

    fn of(&self, identity: &str, library: &Path) -> ControllerOptions {
        ControllerOptions::new(identity)
            .env("LD_PRELOAD", &library.display().to_string())
            .env("FAKETIME_TIMESTAMP_FILE", &self.0.display().to_string())
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("DONT_FAKE_MONOTONIC", "1")
    }
}

async fn attempt(site: &Site, namespace: &str) -> Result<(), String> {
    let created = site.agents(namespace).create(&dry_run(), &agent(namespace, "good", &["search"])).await;
    created.map(drop).map_err(|error| error.to_string())
}

async fn said(controller: &Controller, words: &str, times: usize) {
    until(&format!("the log says {words} {times} times"), async || {
        let log = controller.log();
        if log.matches(words).count() >= times { Ok(()) } else { Err(log) }
    })
    .await;
}

/// Asks on and on until `done`; every answer has to be yes.
async fn admitted_until(site: &Site, namespace: &str, done: impl Future<Output = ()>) {
    tokio::pin!(done);
    loop {
        attempt(site, namespace).await.expect("admitted all the time");
        let pause = tokio::time::sleep(Duration::from_millis(100));
        tokio::select! { () = &mut done => return, () = pause => {} }
    }
}

#[tokio::test]
async fn the_certificate_is_renewed_by_a_clock_that_is_ahead_and_taken_by_servers_whose_clock_is_right() {
    let Some(library) = library() else { skip!("no libfaketime (Debian: faketime)") };
    let site = Site::new(Cluster::options()).await;
    let namespace = site.namespace("ws_a").await;
    site.commit([&site.document("ws_a", "1", &[DENIED])]).await;
    let clock = Clock::new(&site, "a");
    let mut controller = clock.of("a", &library).start(&site.cluster).await;
    site.enforced("ws-a", "1").await;
    until("it admits", async || attempt(&site, &namespace).await).await;

    // two thirds of 90 days are over: the next one is made and takes over, and no request is lost meanwhile
    clock.ahead_by("61d");
    let renewed = said(&controller, "next webhook certificate takes over", 1);
    admitted_until(&site, &namespace, renewed).await;
    clock.ahead_by("0");
    let end = Instant::now() + Duration::from_secs(8);
    let steady = async { tokio::time::sleep_until(end.into()).await };
    admitted_until(&site, &namespace, steady).await;

    // past the end of what is served: another is made at once
    clock.ahead_by("200d");
    said(&controller, "webhook certificate is unusable and replaced", 1).await;
    until("it admits again", async || attempt(&site, &namespace).await).await;
    clock.ahead_by("0");
    let end = Instant::now() + Duration::from_secs(8);
    let steady = async { tokio::time::sleep_until(end.into()).await };
    admitted_until(&site, &namespace, steady).await;
    // and from scratch
    controller.restart().await;
    until("it admits after a restart", async || attempt(&site, &namespace).await).await;
}

/// A document that allows everything but [`DENIED`], until ten days from now.
fn expiring(site: &Site, version: &str) -> Value {
    let ends = Timestamp::now() + Duration::from_secs(10 * 24 * 3600);
    let mut document = site.document("ws_a", version, &[DENIED]);
    document["expires_at"] = json!(Timestamp::from_second(ends.as_second()).unwrap().to_string());
    let members = document.as_object_mut().unwrap();
    members.retain(|name, _| !name.contains("signature") && name != "hash");
    site.signer.sign(document)
}

#[tokio::test]
async fn no_agent_is_admitted_under_an_expired_policy_and_all_is_judged_again_when_the_clock_goes_back() {
    let Some(library) = library() else { skip!("no libfaketime (Debian: faketime)") };
    let site = Site::new(Cluster::options()).await;
    let namespace = site.namespace("ws_a").await;
    site.commit([&expiring(&site, "1")]).await;
    let clock = Clock::new(&site, "a");
    let controller = clock.of("a", &library).start(&site.cluster).await;
    site.enforced("ws-a", "1").await;
    until("it admits", async || attempt(&site, &namespace).await).await;

    clock.ahead_by("11d");
    for _ in 0..20 {
        let why = attempt(&site, &namespace).await.expect_err("the policy has expired");
        assert!(why.contains("policy.expired"), "{why}");
    }
    site.commit([&expiring(&site, "2")]).await;
    until("the next version is refused as expired", async || {
        let shown = site.cluster.kubectl(["get", "prepo", "policies", "-o", "jsonpath={.status}"]).await.ok();
        if shown.contains("PolicyExpired") { Ok(()) } else { Err(shown) }
    })
    .await;
    clock.ahead_by("0");
    until("it admits", async || attempt(&site, &namespace).await).await;
    site.enforced("ws-a", "2").await;
    assert!(!controller.log().contains("panicked"), "{}", controller.log());
}

/// A key, its object, and a document of its workspace.
fn keyed(number: u16, workspace: &str, ends: Option<Timestamp>) -> (Signer, Value) {
    let signer = Signer::new(number);
    let mut manifest = signer.manifest(&format!("key-{number}"), &[workspace]);
    if let Some(ends) = ends {
        manifest["spec"]["notAfter"] = json!(ends.to_string());
    }
    (signer, manifest)
}

/// The workspaces of [`Windows`], each with a namespace.
const WORKSPACES: [&str; 4] = ["ws_key", "ws_two", "ws_three", "ws_a"];

/// Policies that hold for ten days, each for another reason.
struct Windows {
    site: Site,
    namespaces: Vec<String>,
    ending: Signer,
    co_signer: Signer,
    third: Signer,
}

impl Windows {
    /// A key that ends, a co-signer's key that ends, one of three that ends, and a policy that does.
    async fn new() -> Windows {
        let site = Site::new(Cluster::options()).await;
        let ends =
            Timestamp::from_second((Timestamp::now() + Duration::from_secs(10 * 24 * 3600)).as_second()).unwrap();
        let (ending, ending_key) = keyed(20, "ws_key", Some(ends));
        let (co_signer, co_key) = keyed(21, "ws_t*", Some(ends));
        let (third, third_key) = keyed(22, "ws_three", None);
        let threshold = |workspace: &str, signatures: u32| {
            let name = workspace.replace('_', "-");
            json!({"apiVersion": "sekuire.ai/v1alpha1", "kind": "SigningThreshold", "metadata": {"name": name},
                "spec": {"workspaces": [workspace], "signatures": signatures}})
        };
        for manifest in [ending_key, co_key, third_key, threshold("ws_two", 2), threshold("ws_three", 3)] {
            site.cluster.apply(&manifest.to_string()).await.ok();
        }
        let mut namespaces = Vec::new();
        for workspace in WORKSPACES {
            namespaces.push(site.namespace(workspace).await);
        }
        Windows { site, namespaces, ending, co_signer, third }
    }

    async fn commit(&self, version: &str) {
        let plain = |workspace: &str| self.site.document(workspace, version, &[DENIED]);
        let cosign = |document: &Value| self.co_signer.cosign(&document.to_string());
        let parsed = |text: String| -> Value { serde_json::from_str(&text).unwrap() };
        let (two, three) = (cosign(&plain("ws_two")), self.third.cosign(&cosign(&plain("ws_three"))));
        let of_key = self.ending.sign(plain("ws_key"));
        self.site.commit(&[of_key, parsed(two), parsed(three), expiring(&self.site, version)]).await;
    }

    async fn all_enforced(&self, version: &str) {
        for workspace in WORKSPACES {
            self.site.enforced(&workspace.replace('_', "-"), version).await;
        }
        for namespace in &self.namespaces {
            until("it admits", async || attempt(&self.site, namespace).await).await;
        }
    }

    async fn nobody_is_admitted(&self) {
        until("no agent is admitted", async || {
            for namespace in &self.namespaces {
                let why = attempt(&self.site, namespace).await.err().ok_or("admitted")?;
                if !why.contains("policy.") {
                    return Err("not answered yet");
                }
            }
            Ok(())
        })
        .await;
    }
}

#[tokio::test]
async fn whatever_a_clock_that_was_ahead_refused_is_judged_again_when_it_goes_back() {
    let Some(library) = library() else { skip!("no libfaketime (Debian: faketime)") };
    let windows = Windows::new().await;
    let site = &windows.site;
    windows.commit("1").await;
    let clock = Clock::new(site, "a");
    let mut controller = clock.of("a", &library).start(&site.cluster).await;
    windows.all_enforced("1").await;

    // a replica that starts while its clock is ahead judges all objects by it, and holds nothing else
    clock.ahead_by("11d");
    controller.kill();
    controller.start_again();
    windows.nobody_is_admitted().await;
    clock.ahead_by("0");
    windows.all_enforced("1").await;

    // and what is committed meanwhile
    clock.ahead_by("11d");
    windows.nobody_is_admitted().await;
    windows.commit("2").await;
    until("the next versions are refused, each for its reason", async || {
        let shown = site.cluster.kubectl(["get", "prepo", "policies", "-o", "jsonpath={.status.refused}"]).await.ok();
        let reasons = ["KeyExpired", "ThresholdNotMet", "PolicyExpired"];
        if reasons.iter().all(|reason| shown.contains(reason)) { Ok(()) } else { Err(shown) }
    })
    .await;
    clock.ahead_by("0");
    windows.all_enforced("2").await;
    assert!(!controller.log().contains("panicked"), "{}", controller.log());
}

#[tokio::test]
async fn a_replica_whose_clock_jumps_takes_the_lease_from_nobody_and_loses_it_to_nobody() {
    let Some(library) = library() else { skip!("no libfaketime (Debian: faketime)") };
    let site = Site::new(Cluster::options()).await;
    let (clock_a, clock_b) = (Clock::new(&site, "a"), Clock::new(&site, "b"));
    let _a = clock_a.of("a", &library).start(&site.cluster).await;
    site.led_by("a").await;
    let _b = clock_b.of("b", &library).start(&site.cluster).await;
    let (_, acquired, _) = site.lease().await;
    let transitions = [(&clock_b, "1h"), (&clock_b, "0"), (&clock_a, "30d"), (&clock_a, "0"), (&clock_b, "11d")];
    for (clock, offset) in transitions {
        clock.ahead_by(offset);
        // it is renewed, and still by whoever had it
        let (_, _, before) = site.lease().await;
        until("the Lease is renewed", async || {
            let (holder, since, renewed) = site.lease().await;
            assert_eq!((holder.as_deref(), since), (Some("a"), acquired), "after {offset}");
            if renewed == before { Err("not yet") } else { Ok(()) }
        })
        .await;
    }
}
