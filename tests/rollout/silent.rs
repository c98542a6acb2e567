//! A replica that hears nothing of the API server any more, while the API server goes on asking it.

use std::time::{Duration, Instant};

use kube::Client;
use serde_json::json;
use tokio::task::JoinHandle;

use super::support::{LABELS, protect_labels};
use crate::admission::client::{Connection, blind};
use crate::cluster::command::run;
use crate::cluster::controller::sekuire;
use crate::cluster::{Cluster, Controller, ControllerOptions, User};
use crate::resilience::probes::{direct, review};
use crate::resilience::proxy::Proxy;
use crate::resilience::support::{DENIED, Site, agent, until};

/// Stands for the five minutes after which a watch is dead: something is said on each of them every second.
const SILENCE: Duration = Duration::from_secs(12);
/// What may be said after that, at the latest: between two looks, on a busy machine.
const LATE: Duration = Duration::from_secs(10);

/// Touches one object of each kind that is watched, once a second.
struct Talk(JoinHandle<()>);

impl Talk {
    fn start(site: &Site, namespace: &str) -> Talk {
        let ours = "/apis/sekuire.ai/v1alpha1";
        let admission = "/apis/admissionregistration.k8s.io/v1";
        let paths = [
            format!("{ours}/workspacepolicies/ws-a"),
            format!("{ours}/policyledgers/ws-a"),
            format!("{ours}/signingkeys/platform"),
            format!("{ours}/signingthresholds/elsewhere"),
            format!("/api/v1/namespaces/{namespace}"),
            format!("{admission}/validatingadmissionpolicies/{LABELS}"),
            format!("{admission}/validatingadmissionpolicybindings/{LABELS}"),
            format!("{admission}/validatingwebhookconfigurations/sekuire-policy-controller"),
        ];
        let client = site.client.clone();
        Talk(tokio::spawn(async move {
            for number in 0_u64.. {
                futures::future::join_all(paths.iter().map(|path| touch(&client, path, number))).await;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }))
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn touch(client: &Client, path: &str, number: u64) {
    let patch = json!({"metadata": {"annotations": {"example.com/touched": number.to_string()}}}).to_string();
    let request = http::Request::patch(path).header("content-type", "application/merge-patch+json");
    // an object that is not there yet is touched the next time
    drop(client.request_text(request.body(patch.into_bytes()).unwrap()).await);
}

/// What the replica itself says to an agent that uses the denied tool, asked at its own port as an API server would. A client
/// of the API server would ask again and again until there is another answer.
async fn attempt(controller: &Controller, namespace: &str) -> Result<(), String> {
    match review(&direct(controller), &agent(namespace, "bad", &[DENIED])).await? {
        (true, _) => Ok(()),
        (false, why) => Err(why),
    }
}

/// Status and text of `/readyz`.
async fn readiness(controller: &Controller) -> (u16, String) {
    let address = controller.url().trim_start_matches("https://").parse().unwrap();
    let mut connection = Connection::open(address, "127.0.0.1", blind()).await.unwrap();
    let reply = connection.get("/readyz").await.unwrap();
    (reply.status.as_u16(), reply.text())
}

/// From the moment in which nothing comes through any more: admitted until the watches are dead, and then refused for that.
async fn refuses_once_dead(controller: &Controller, proxy: &Proxy, namespace: &str) {
    proxy.mute(true);
    let start = Instant::now();
    let why = loop {
        match attempt(controller, namespace).await {
            Ok(()) => assert!(start.elapsed() < SILENCE + LATE, "admitted {:?} after the last word", start.elapsed()),
            Err(why) => break why,
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    // the last word was said a moment before
    assert!(start.elapsed() > SILENCE - Duration::from_secs(4), "after {:?}: {why}", start.elapsed());
    // which of the watches is over first is chance: of the label policy, or of what verdicts depend on
    assert!(why.contains("has been silent for") || why.contains("was not heard of for"), "{why}");
    until("it is unready, and says which watch is dead", async || match readiness(controller).await {
        (503, why) if why.contains("has been silent for") => Ok(()),
        other => Err(other),
    })
    .await;
    until("it refuses for that", async || match attempt(controller, namespace).await {
        Err(why) if why.contains("has been silent for") => Ok(()),
        other => Err(other),
    })
    .await;
    // and goes on to
    for _ in 0..10 {
        attempt(controller, namespace).await.unwrap_err();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    proxy.mute(false);
    until("it is ready again", async || match readiness(controller).await {
        (200, _) => Ok(()),
        other => Err(other),
    })
    .await;
    until("it admits again", async || attempt(controller, namespace).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_whose_watches_are_silent_for_too_long_is_unready_and_refuses_whatever_modes_and_break_glass_said() {
    let site = Site::new(Cluster::options()).await;
    protect_labels(&site.cluster).await;
    let threshold = json!({"apiVersion": "sekuire.ai/v1alpha1", "kind": "SigningThreshold",
        "metadata": {"name": "elsewhere"}, "spec": {"workspaces": ["other_*"], "signatures": 2}});
    site.cluster.apply(&threshold.to_string()).await.ok();
    let namespace = site.namespace("ws_a").await;
    site.commit([&site.document("ws_a", "1", &[DENIED])]).await;
    let proxy = Proxy::start(&site).await;
    let _talk = Talk::start(&site, &namespace);
    let silence = format!("--watch-silence={}", SILENCE.as_secs());
    let mut controller = ControllerOptions::new("a")
        .kubeconfig(proxy.kubeconfig.clone())
        .flags([silence.as_str(), "--label-policy", LABELS])
        .spawn(&site.cluster)
        .await;
    controller.ready().await;
    site.enforced("ws-a", "1").await;
    until("refused for its tool", async || match attempt(&controller, &namespace).await {
        Err(why) if why.contains("[tool.blocked]") => Ok(()),
        other => Err(other),
    })
    .await;

    let warn = ["label", "namespace", &namespace, "sekuire.ai/enforcement=warn"];
    site.cluster.kubectl_as(User::ADMIN, &warn, "").await.ok();
    until("warn is obeyed", async || attempt(&controller, &namespace).await).await;
    refuses_once_dead(&controller, &proxy, &namespace).await;

    let enforce = ["label", "namespace", &namespace, "sekuire.ai/enforcement-"];
    site.cluster.kubectl_as(User::ADMIN, &enforce, "").await.ok();
    until(
        "refused again",
        async || if attempt(&controller, &namespace).await.is_err() { Ok(()) } else { Err("admitted") },
    )
    .await;
    let mut open = tokio::process::Command::new(sekuire());
    open.args(["break-glass", "open", "--for=1h", "--reason=INC-1", "--kubeconfig"]);
    open.arg(site.cluster.kubeconfig(User::ADMIN));
    run(open, b"").await.ok();
    until("break glass is obeyed", async || attempt(&controller, &namespace).await).await;
    refuses_once_dead(&controller, &proxy, &namespace).await;
}
