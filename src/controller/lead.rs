//! The tasks of the leading replica. They are started when the Lease is won and dropped when it is lost.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use jiff::Timestamp;
use kube::{Api, Client, ResourceExt as _};
use tokio::sync::watch::{self, Receiver, Sender};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::LONGEST_SLEEP;
use super::answer::in_time;
use super::caches::Caches;
use super::events::Events;
use super::keys;
use super::leader::Leader;
use super::lease::Leading;
use super::repository::{self, Cause, Worker};
use super::retry::Retries;
use super::secrets::Secrets;
use crate::admission::index::PolicyIndex;
use crate::api::signing_key::SigningKeyStatus;
use crate::api::{PolicyRepository, Sent, SigningKey, conditions};
use crate::git::Git;

/// Workspaces that are put back at the same time.
const CONCURRENCY: usize = 16;

/// Leads, until the future is dropped.
pub async fn lead(client: Client, git: Git, secrets: Secrets, caches: Caches, events: Events, leading: Leading) {
    // not for what is missing: it is the leader who puts it back
    while let Err(waiting) = caches.index.liveness.listed() {
        tracing::debug!(waiting_for = %waiting, "leading, not ready yet");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    caches.index.liveness.leads();
    let index = caches.index.clone();
    let leader = Arc::new(Leader::new(client.clone(), git.clone(), index, events.clone(), leading));
    let mut tasks = JoinSet::new();
    tasks.spawn(report_keys(client.clone(), caches.clone(), events));
    tasks.spawn(repositories(client, git, secrets, caches.clone(), leader.clone()));
    tasks.spawn(keep(leader.clone(), caches));
    tasks.spawn(clock(leader));
    // none of them ends by itself; if one panics, leading ends, and with it the process
    if let Some(Err(error)) = tasks.join_next().await {
        tracing::error!(%error, "task of the leader ended");
    }
}

/// Puts back what somebody else changed, and raises marks, before anything is read from Git.
async fn keep(leader: Arc<Leader>, mut caches: Caches) {
    // the repositories are to be known before anybody says that a source is missing
    if caches.repositories.wait_for(Option::is_some).await.is_err() {
        return;
    }
    leader.index.mark_dirty(leader.index.names());
    let retries = Mutex::new(Retries::default());
    let retries = || retries.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let next = retries().next();
        let asked = tokio::select! {
            names = leader.index.dirty() => names,
            () = until(next) => Vec::new(),
        };
        let now = Instant::now();
        let mut names = retries().due(now);
        names.extend(asked.into_iter().filter(|name| retries().asked(name, || known(&leader.index, name), now)));
        names.sort();
        names.dedup();
        let put_back = |name: String| async {
            match leader.reconcile(&name, None).await {
                Ok(_) => retries().succeeded(&name),
                Err(error) => {
                    tracing::warn!(%error, kind = "WorkspacePolicy", name, "workspace not reconciled, trying again");
                    let known = known(&leader.index, &name);
                    retries().failed(name, known, Instant::now());
                }
            }
        };
        futures::stream::iter(names).for_each_concurrent(CONCURRENCY, put_back).await;
    }
}

/// What an attempt depends on that somebody else may change: object, ledger, and the trusted keys.
fn known(index: &PolicyIndex, name: &str) -> [Option<String>; 3] {
    let view = index.view(name);
    let ledger = view.ledger.map(|ledger| ledger.resource_version).or(view.unreadable_ledger);
    [view.object.map(|object| object.resource_version), ledger, Some(index.keys().fingerprint().to_owned())]
}

/// Until a moment, or for ever.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// What changes by the clock alone: a policy or a key runs out.
async fn clock(leader: Arc<Leader>) {
    loop {
        let now = Timestamp::now();
        let next = leader.index.clock_passed(now);
        leader.index.mark_dirty(leader.index.out_of_time(now));
        super::sleep_until(next).await;
    }
}

/// One worker for each repository.
async fn repositories(client: Client, git: Git, secrets: Secrets, mut caches: Caches, leader: Arc<Leader>) {
    let mut workers: HashMap<String, Sender<Option<Arc<PolicyRepository>>>> = HashMap::new();
    let mut tasks = JoinSet::new();
    let several = Sender::new(false);
    loop {
        let all = caches.repositories.borrow_and_update().clone();
        let (listed, all) = (all.is_some(), all.unwrap_or_default());
        all.iter().for_each(|(name, repository)| leader.expect(name, repository::key(repository)));
        if listed && all.is_empty() {
            leader.applied(None);
        }
        several.send_if_modified(|several| std::mem::replace(several, all.len() > 1) != *several);
        // dropping a sender tells the worker that its repository is gone
        workers.retain(|name, _| all.contains_key(name));
        for (name, repository) in all.iter() {
            match workers.get(name).filter(|sender| !sender.is_closed()) {
                Some(sender) => {
                    sender.send_replace(Some(repository.clone()));
                }
                None => {
                    let (sender, receiver) = watch::channel(Some(repository.clone()));
                    let worker = Worker::new(client.clone(), git.clone(), leader.clone(), secrets.clone());
                    let wakes =
                        Wakes { current: receiver, ring: caches.index.ring_changed(), several: several.subscribe() };
                    tasks.spawn(work(worker, wakes));
                    workers.insert(name.clone(), sender);
                }
            }
        }
        tokio::select! {
            changed = caches.repositories.changed() => if changed.is_err() { return },
            Some(ended) = tasks.join_next() => if let Err(error) = ended {
                tracing::error!(%error, "worker of a repository ended; it is started again");
            }
        }
    }
}

/// What has a repository looked at again, beside its interval.
struct Wakes {
    /// The object, or its absence.
    current: Receiver<Option<Arc<PolicyRepository>>>,
    /// The trusted keys are others.
    ring: Receiver<u64>,
    /// Whether there are several repositories: then each must say what it may publish.
    several: Receiver<bool>,
}

async fn work(mut worker: Worker, mut wakes: Wakes) {
    let Some(mut repository) = wakes.current.borrow_and_update().clone() else { return };
    let mut cause = Cause::Look;
    let mut next_fetch = Instant::now();
    loop {
        wakes.ring.borrow_and_update();
        wakes.several.borrow_and_update();
        let pause = worker.look(&repository, cause).await;
        // a judgement that failed for want of the clone is mended by a fetch
        let next_look = Instant::now() + pause;
        next_fetch = if cause == Cause::Look { next_look } else { next_fetch.min(next_look) };
        let looked_at = asked(&repository);
        // a sleep follows no clock that is set: it is looked at in between
        let doze =
            |worker: &Worker| worker.verdicts_change_in().map_or(LONGEST_SLEEP, |until| until.min(LONGEST_SLEEP));
        let judge = tokio::time::sleep(doze(&worker));
        let fetch = tokio::time::sleep_until(next_fetch);
        tokio::pin!(judge, fetch);
        cause = loop {
            tokio::select! {
                changed = wakes.current.changed() => {
                    let latest = wakes.current.borrow_and_update().clone();
                    let (Ok(()), Some(latest)) = (changed, latest) else { return worker.forget(&repository).await };
                    repository = latest;
                    if asked(&repository) != looked_at {
                        break Cause::Look;
                    }
                }
                () = worker.credentials.changed() => break Cause::Look,
                Ok(()) = wakes.ring.changed() => break Cause::Judge,
                Ok(()) = wakes.several.changed() => break Cause::Judge,
                () = &mut judge => {
                    if worker.clock_was_set() {
                        break Cause::Look;
                    }
                    if worker.verdicts_changed() {
                        break Cause::Judge;
                    }
                    judge.as_mut().reset(Instant::now() + doze(&worker));
                }
                () = &mut fetch => break Cause::Look,
            }
        };
    }
}

/// What of an object asks for a look when it changes.
fn asked(repository: &PolicyRepository) -> (Option<String>, Option<i64>, [Option<String>; 2], Option<String>) {
    let (requests, rewind) = (repository::requests(repository), repository::accepted_rewind(repository));
    (repository.uid(), repository.metadata.generation, requests, rewind)
}

/// Keeps the status of the `SigningKey` objects.
async fn report_keys(client: Client, mut caches: Caches, events: Events) {
    let api: Api<Sent<SigningKey>> = Api::all(client);
    loop {
        let now = Timestamp::now();
        let (due, next) = due_key_statuses(&caches, now);
        for (key, status) in due {
            let name = key.name_any();
            let version = key.resource_version();
            let (params, patch) = super::apply::<SigningKey>(&name, version.as_deref(), "status", &status);
            if let Err(error) = in_time(api.patch_status(&name, &params, &patch)).await {
                // the watch brings what is newer
                tracing::debug!(%error, kind = "SigningKey", name, "status not written");
                continue;
            }
            let before = key.status.clone().unwrap_or_default().conditions;
            if let Some(ending) = conditions::begins_to_expire(&before, &status.conditions) {
                let about = Events::key(&name, key.uid());
                events.warning(about, &ending.reason, ending.message.clone()).await;
            }
        }
        tokio::select! {
            changed = caches.keys_changed.changed() => if changed.is_err() { return },
            () = super::sleep_until(next) => {}
        }
    }
}

/// The keys whose status is not what it should be, and the next moment at which one changes by the clock.
fn due_key_statuses(caches: &Caches, now: Timestamp) -> (Vec<(SigningKey, SigningKeyStatus)>, Option<Timestamp>) {
    let keys = caches.keys.lock().unwrap_or_else(PoisonError::into_inner);
    let (ring, claims) = (keys.ring(), keys.claims());
    let due = keys.objects().filter_map(|key| {
        let generation = key.metadata.generation;
        let mut previous = key.status.clone().unwrap_or_default();
        previous.conditions = conditions::ours(&previous.conditions);
        let ready = keys::condition(&key.spec, &ring, &claims, now);
        let more = [conditions::stalled(&ready), keys::expiring(&key.spec, &ready, now)];
        let new: Vec<_> = std::iter::once(ready).chain(more.into_iter().flatten()).collect();
        let status = SigningKeyStatus {
            observed_generation: generation,
            conditions: conditions::merge(&previous.conditions, &new, generation, now),
            fingerprint: key.spec.trusted_key().ok().map(|key| key.public_key.key_id()),
        };
        (status != previous).then(|| (key.clone(), status))
    });
    (due.collect(), keys.next_boundary(now))
}
