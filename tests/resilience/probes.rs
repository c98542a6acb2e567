//! Two agents, one with the denied tool and one without, shown to the webhook twenty times a second.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use kube::{Api, Client, Config};
use sekuire_policy::api::Agent;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::support::{DENIED, Site, agent, dry_run};
use crate::cluster::Controller;

const PERIOD: Duration = Duration::from_millis(50);

/// What was seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) probes: usize,
    pub(super) faults: Vec<String>,
}

impl Seen {
    fn note(&mut self, start: Instant, who: &str, verdicts: [Result<(), String>; 2]) {
        self.probes += 1;
        for why in verdicts.into_iter().filter_map(Result::err) {
            self.faults.push(format!("{who}, {} ms after the start: {why}", start.elapsed().as_millis()));
        }
    }
}

/// Probes through the API server, until it is stopped.
pub(super) struct Prober {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Seen>,
}

impl Prober {
    pub(super) fn start(site: &Site, namespace: &str) -> Prober {
        let stop = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(through_api_server(site.agents(namespace), namespace.to_owned(), stop.clone()));
        Prober { stop, task }
    }

    pub(super) async fn stop(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}

async fn through_api_server(api: Api<Agent>, namespace: String, stop: Arc<AtomicBool>) -> Seen {
    let (bad, good) = (agent(&namespace, "bad", &["search", DENIED]), agent(&namespace, "good", &["search"]));
    let (mut seen, start, params) = (Seen::default(), Instant::now(), dry_run());
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while !stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        let (bad, good) = tokio::join!(api.create(&params, &bad), api.create(&params, &good));
        let bad = match bad {
            Ok(_) => Err("the agent with the denied tool was admitted".to_owned()),
            Err(error) => refused_for_its_tool(&error.to_string()),
        };
        let good = good.map(drop).map_err(|error| format!("the agent that complies was refused: {error}"));
        seen.note(start, "the API server", [bad, good]);
    }
    seen
}

fn refused_for_its_tool(why: &str) -> Result<(), String> {
    let right = why.contains("[tool.blocked]");
    if right { Ok(()) } else { Err(format!("the agent with the denied tool was refused for something else: {why}")) }
}

/// Probes a replica that has just been started at its own port: from the first success of `/readyz` on, for `how_long`.
pub(super) async fn fresh_replica(replica: &mut Controller, namespace: &str, how_long: Duration) -> Seen {
    let client = direct(replica);
    wait_ready(replica, &client).await;
    let bad = agent(namespace, "bad", &["search", DENIED]);
    let good = agent(namespace, "good", &["search"]);
    let (mut seen, start) = (Seen::default(), Instant::now());
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while start.elapsed() < how_long {
        ticks.tick().await;
        let (bad, good) = tokio::join!(review(&client, &bad), review(&client, &good));
        let bad = match bad {
            Ok((true, _)) => Err("the agent with the denied tool was admitted".to_owned()),
            Ok((false, why)) => refused_for_its_tool(&why),
            Err(error) => Err(error),
        };
        let good = match good {
            Ok((true, _)) => Ok(()),
            Ok((false, why)) => Err(format!("the agent that complies was refused: {why}")),
            Err(error) => Err(error),
        };
        seen.note(start, &format!("replica {}", replica.identity()), [bad, good]);
    }
    seen
}

/// A client of the replica's own port, which keeps its connection.
pub(crate) fn direct(replica: &Controller) -> Client {
    let mut config = Config::new(replica.url().parse().unwrap());
    config.accept_invalid_certs = true;
    Client::try_from(config).unwrap()
}

async fn wait_ready(replica: &mut Controller, client: &Client) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let request = http::Request::get("/readyz").body(Vec::new()).unwrap();
        let answer = client.request_text(request).await;
        if answer.is_ok() {
            return;
        }
        let over = replica.ended().is_some() || Instant::now() > deadline;
        assert!(!over, "replica {} is not ready: {answer:?}\n{}", replica.identity(), replica.log());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Whether a replica allows an agent, and what it says.
pub(crate) async fn review(client: &Client, agent: &Agent) -> Result<(bool, String), String> {
    let body = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "6f2a7c0e-0000-4000-8000-000000000001",
            "kind": {"group": "sekuire.ai", "version": "v1alpha1", "kind": "Agent"},
            "resource": {"group": "sekuire.ai", "version": "v1alpha1", "resource": "agents"},
            "name": agent.metadata.name, "namespace": agent.metadata.namespace,
            "operation": "CREATE", "userInfo": {"username": "probe"}, "object": agent, "dryRun": true,
        },
    });
    let request = http::Request::post("/validate").header("content-type", "application/json");
    let request = request.body(body.to_string().into_bytes()).unwrap();
    let answer: Value = client.request(request).await.map_err(|error| format!("no answer: {error}"))?;
    let allowed = answer["response"]["allowed"].as_bool().ok_or_else(|| format!("no verdict: {answer}"))?;
    Ok((allowed, answer["response"]["status"]["message"].as_str().unwrap_or_default().to_owned()))
}
