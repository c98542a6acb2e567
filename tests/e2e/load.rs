//! Admission requests at a constant rate, whatever becomes of them; each answer is checked.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use kube::{
    Api, Client,
    api::{DeleteParams, PostParams},
};
use sekuire_policy::api::Agent;
use tokio::{task::JoinHandle, time::MissedTickBehavior};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::site::{NAMESPACE, agent};

/// 62 requests a second.
const INTERVAL: Duration = Duration::from_millis(16);
/// Of so many requests, two are no dry run.
const REAL: u64 = 20;
/// What a request may take; an API server gives the webhook ten seconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// What became of the requests so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) admitted: u64,
    pub(crate) refused: u64,
    /// no verdict
    pub(crate) failed: Vec<String>,
    /// the wrong verdict
    pub(crate) wrong: Vec<String>,
    pub(crate) slowest: Duration,
}

impl Counts {
    pub(crate) fn all(&self) -> u64 {
        self.admitted + self.refused + self.failed.len() as u64 + self.wrong.len() as u64
    }
}

/// Agents that are created, half of which comply.
pub(crate) struct Load {
    counts: Arc<Mutex<Counts>>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Load {
    pub(crate) fn start(client: &Client) -> Load {
        let (counts, stop) = (Arc::<Mutex<Counts>>::default(), CancellationToken::new());
        let agents: Api<Agent> = Api::namespaced(client.clone(), NAMESPACE);
        let sender = Sender { agents, counts: Arc::clone(&counts) };
        let task = tokio::spawn(send_all(sender, stop.clone()));
        Load { counts, stop, task }
    }

    /// What became of the requests since the last time that this was asked.
    pub(crate) fn take(&self) -> Counts {
        std::mem::take(&mut *self.counts.lock().expect("no holder panics"))
    }

    /// Waits for so many more answers.
    pub(crate) async fn answers(&self, more: u64) {
        let deadline = Instant::now() + PATIENCE + INTERVAL * u32::try_from(more).unwrap_or(u32::MAX);
        let all = || self.counts.lock().expect("no holder panics").all();
        let enough = all() + more;
        while all() < enough {
            assert!(Instant::now() < deadline, "the load has stopped");
            tokio::time::sleep(INTERVAL).await;
        }
    }

    /// Ends it when all requests have been answered.
    pub(crate) async fn stop(self) -> Counts {
        self.stop.cancel();
        self.task.await.expect("it does not panic");
        std::mem::take(&mut *self.counts.lock().expect("no holder panics"))
    }
}

async fn send_all(sender: Sender, stop: CancellationToken) {
    let tasks = TaskTracker::new();
    let mut ticks = tokio::time::interval(INTERVAL);
    // late ticks are made up for: the rate is what is promised
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let number = AtomicU64::new(0);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        tasks.spawn(sender.clone().send(number.fetch_add(1, Ordering::Relaxed)));
    }
    tasks.close();
    tasks.wait().await;
}

#[derive(Clone)]
struct Sender {
    agents: Api<Agent>,
    counts: Arc<Mutex<Counts>>,
}

impl Sender {
    async fn send(self, number: u64) {
        let (complies, real) = (number.is_multiple_of(2), number % REAL < 2);
        let name = format!("load-{number}");
        let agent = agent(&name, if complies { "ledger_read" } else { "shell_exec" });
        let how = PostParams { dry_run: !real, ..PostParams::default() };
        let sent = Instant::now();
        let answer = tokio::time::timeout(PATIENCE, self.agents.create(&how, &agent)).await;
        let took = sent.elapsed();
        let answer =
            answer.unwrap_or_else(|_| Err(kube::Error::Service(format!("no answer within {PATIENCE:?}").into())));
        if real && answer.is_ok() {
            // What the webhook was asked about is judged; that the object goes again is housekeeping.
            let _ = self.agents.delete(&name, &DeleteParams::default()).await;
        }
        let mut counts = self.counts.lock().expect("no holder panics");
        counts.slowest = counts.slowest.max(took);
        match (complies, answer) {
            (true, Ok(_)) => counts.admitted += 1,
            (false, Ok(_)) => counts.wrong.push(format!("{name} was admitted")),
            (false, Err(kube::Error::Api(status))) if status.message.contains("tool.blocked") => counts.refused += 1,
            (_, Err(kube::Error::Api(status))) if status.code < 500 => {
                counts.wrong.push(format!("{name} was refused: {} {}", status.code, status.message));
            }
            (_, Err(error)) => counts.failed.push(format!("{name} after {took:?}: {error}")),
        }
    }
}
