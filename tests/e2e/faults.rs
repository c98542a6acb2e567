//! What happens to a controller in production, each while admission requests go on. None may be lost, and no verdict
//! may be wrong.

use std::{env, fs, time::Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::{
    images,
    load::{Counts, Load},
    site::{REPLICAS, SYSTEM, Site, until},
    story::{helm_to, json_of, push, version},
};

/// Tries them all under one load.
pub(crate) async fn under_load(site: &Site) {
    // right after an installation kube-proxy may not know all endpoints yet
    until("the Service answers", async || site.try_tool("ledger_read").await).await;
    let (load, mut all, began) = (Load::start(&site.client), Vec::new(), Instant::now());
    macro_rules! fault {
        ($what:expr, $fault:expr) => {{
            let since = Instant::now();
            $fault.await;
            load.answers(100).await; // what it set off shows a moment later
            all.push(report($what, since, load.take()));
        }};
    }
    fault!("nothing", std::future::ready(()));
    fault!("a new version, signed and pushed", new_version(site));
    fault!("a commit that nobody signed, taken back", bad_commit(site));
    fault!("helm upgrade --wait to another image", upgrade(site));
    fault!("the leader deleted by force", leader_deleted(site));
    fault!("a replica deleted", replica_deleted(site));
    fault!("a replica evicted, as a drain does; the second one is protected", drained(site));
    fault!("the certificate replaced", certificate_replaced(site));
    all.push(report("the end", Instant::now(), load.stop().await));
    let took = began.elapsed().as_secs_f64();
    killed(site).await;
    let (failed, wrong) =
        all.iter().fold((0, 0), |(failed, wrong), counts| (failed + counts.failed.len(), wrong + counts.wrong.len()));
    let sum: u64 = all.iter().map(Counts::all).sum();
    println!("           in all {sum} requests: {failed} failed, {wrong} wrong");
    assert_eq!((failed, wrong), (0, 0), "requests were lost or answered wrongly");
    let (rate, refused) = (sum as f64 / took, all.iter().map(|counts| counts.refused).sum::<u64>());
    assert!(rate >= 50.0, "{rate:.0} requests a second are no load");
    assert!(refused * 3 > sum && refused * 3 < sum * 2, "half are to be refused, not {refused} of {sum}");
}

fn report(what: &str, since: Instant, counts: Counts) -> Counts {
    let took = since.elapsed().as_secs_f64();
    println!(
        "{took:7.1} s  under load: {what}\n           {} requests ({:.0} a second): {} admitted, {} refused, {} failed, {} wrong; slowest {:?}",
        counts.all(),
        counts.all() as f64 / took,
        counts.admitted,
        counts.refused,
        counts.failed.len(),
        counts.wrong.len(),
        counts.slowest,
    );
    for line in counts.failed.iter().chain(&counts.wrong).take(5) {
        println!("           {line}");
    }
    counts
}

async fn new_version(site: &Site) {
    let refused = site.try_tool("refund_create").await.expect_err("it is not allowed yet");
    assert!(refused.contains("tool.not_allowed"), "{refused}");
    push(site, "1.1", &["ledger_read", "refund_create"]).await;
    version(site, "1.1").await;
    until("what was allowed is admitted", async || site.try_tool("refund_create").await).await;
}

async fn bad_commit(site: &Site) {
    let good = fs::read_to_string(site.repo.work().join("policies/payments.json")).expect("it was pushed");
    let bad = good.replace("\"1.1\"", "\"1.2\"").replace("\"shell_exec\"", "\"something_else\"");
    assert_ne!(good, bad);
    site.repo.commit_files("Small cleanup", [("policies/payments.json", &bad)]).await;
    let wait = "wait wsp/ws-payments --for=condition=Ready=false --timeout 50s";
    site.kubectl(wait).await.ok();
    let policy = json_of(site, "wsp ws-payments").await;
    assert_eq!(policy["spec"]["document"]["version"], "1.1");
    let conditions = policy["status"]["conditions"].as_array().expect("conditions");
    let ready = conditions.iter().find(|condition| condition["type"] == "Ready").expect("Ready");
    assert_eq!(ready["reason"], "HashMismatch", "{ready}");
    site.repo.commit_files("Take it back", [("policies/payments.json", &good)]).await;
    site.kubectl("wait wsp/ws-payments --for=condition=Ready --timeout 50s").await.ok();
}

async fn upgrade(site: &Site) {
    helm_to(site, "upgrade", images::SECOND).await;
    site.two_replicas().await;
    let pods = json_of(site, &format!("pods --namespace {SYSTEM} --selector {REPLICAS}")).await;
    for pod in pods["items"].as_array().expect("a list") {
        let image = pod["spec"]["containers"][0]["image"].as_str().unwrap_or_default();
        assert!(image.ends_with(images::SECOND), "still {image}");
    }
}

/// Waits until another replica than `former` leads.
async fn another_leads(site: &Site, former: &str) {
    until("another replica leads", async || {
        let leader = site.leader().await;
        if leader.is_empty() || leader == former { Err(format!("`{leader}`")) } else { Ok(()) }
    })
    .await;
}

async fn leader_deleted(site: &Site) {
    let leader = site.leader().await;
    site.kubectl(&format!("delete pod {leader} --namespace {SYSTEM} --force --grace-period 0")).await.ok();
    another_leads(site, &leader).await;
    site.two_replicas().await;
}

async fn replica_deleted(site: &Site) {
    let leader = site.leader().await;
    let replica = site.replicas().await.into_iter().find(|replica| *replica != leader).expect("there are two");
    site.kubectl(&format!("delete pod {replica} --namespace {SYSTEM} --wait=false")).await.ok();
    site.two_replicas().await;
}

async fn drained(site: &Site) {
    let replicas = site.replicas().await;
    let evict = async |pod: &str| {
        let eviction = json!({
            "apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": SYSTEM},
        });
        let raw = format!("create --raw /api/v1/namespaces/{SYSTEM}/pods/{pod}/eviction --filename -");
        site.kubectl_with(&raw, &eviction.to_string()).await
    };
    evict(&replicas[0]).await.ok();
    let refused = evict(&replicas[1]).await.refused();
    assert!(refused.contains("disruption budget"), "{refused}");
    site.two_replicas().await;
}

async fn certificate_replaced(site: &Site) {
    let taken = async || {
        let logs = format!("logs --namespace {SYSTEM} --selector {REPLICAS} --tail -1");
        site.kubectl(&logs).await.ok().matches("webhook certificate in use").count()
    };
    let before = taken().await;
    site.kubectl(&format!("delete secret sekuire-webhook-certificate --namespace {SYSTEM}")).await.ok();
    until("both replicas serve another certificate", async || {
        let now = taken().await;
        if now >= before + 2 { Ok(()) } else { Err(format!("{} of 2", now - before)) }
    })
    .await;
}

/// A replica that is killed takes with it what it was just answering, and until kubelet and kube-proxy have noticed, who
/// knocks at its door is turned away. That cannot be helped from inside; but no verdict may be wrong, and it has to end.
async fn killed(site: &Site) {
    let Some(process) = leader_process(&site.leader().await) else { return };
    let (load, since, former) = (Load::start(&site.client), Instant::now(), site.leader().await);
    load.answers(50).await;
    kill_process(process, Signal::KILL).expect("it runs");
    // it is restarted under the same name, and takes its own Lease back
    until("two replicas again", async || {
        let restarts = json_of(site, &format!("pod {former} --namespace {SYSTEM}")).await;
        let restarts = restarts["status"]["containerStatuses"][0]["restartCount"].as_u64();
        if restarts == Some(0) { Err("not restarted yet".to_owned()) } else { Ok(()) }
    })
    .await;
    site.two_replicas().await;
    load.answers(100).await;
    let counts = report("the leader's process killed (not counted below)", since, load.stop().await);
    assert!(counts.wrong.is_empty(), "a verdict was wrong");
}

/// The process of this pod, where it runs on this machine.
fn leader_process(pod: &str) -> Option<Pid> {
    env::var_os("E2E_NODE")?;
    let name = format!("POD_NAME={pod}");
    let entries = fs::read_dir("/proc").expect("Linux").flatten();
    let found = entries.filter_map(|entry| {
        let environment = fs::read(entry.path().join("environ")).ok()?;
        environment.split(|byte| *byte == 0).any(|variable| variable == name.as_bytes()).then_some(())?;
        entry.file_name().to_str()?.parse().ok()
    });
    // a fetch is a child of it, and younger
    Pid::from_raw(found.min().expect("the leader runs"))
}
