//! The watches of every replica: they keep the index true, and the leader informed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::{Client, ResourceExt as _};
use tokio::sync::watch::{self, Receiver, Sender};
use tokio::task::JoinSet;

use super::keys::Keys;
use super::rollout;
use super::watch::{Seen, list_watch};
use crate::admission::index::{PolicyIndex, Watched};
use crate::api::{PolicyLedger, PolicyRepository, SigningKey, SigningThreshold, WorkspacePolicy};

/// `PolicyRepository` objects by name; `None` until they were listed.
pub type Repositories = Option<Arc<HashMap<String, Arc<PolicyRepository>>>>;

/// What the watches of one replica bring.
#[derive(Clone)]
pub struct Caches {
    /// What is enforced.
    pub index: Arc<PolicyIndex>,
    /// All `SigningKey` and `SigningThreshold` objects.
    pub keys: Arc<Mutex<Keys>>,
    /// Counts changes of the keys.
    pub keys_changed: Receiver<u64>,
    /// All `PolicyRepository` objects.
    pub repositories: Receiver<Repositories>,
}

/// Starts the watches in `tasks`. They run for ever. One that says nothing for `silence` counts as dead.
pub fn start(client: &Client, silence: Duration, tasks: &mut JoinSet<()>) -> Caches {
    let index = Arc::new(PolicyIndex::of_watches(silence));
    let keys = Arc::new(Mutex::new(Keys::default()));
    let (keys_sender, keys_changed) = watch::channel(0);
    let (repositories_sender, repositories) = watch::channel(None);
    tasks.spawn(policies(client.clone(), index.clone()));
    tasks.spawn(ledgers(client.clone(), index.clone()));
    tasks.spawn(namespaces(client.clone(), index.clone()));
    let trust = Trust { index: index.clone(), keys: keys.clone(), changed: keys_sender };
    tasks.spawn(signing_keys(client.clone(), trust.clone()));
    tasks.spawn(signing_thresholds(client.clone(), trust));
    tasks.spawn(policy_repositories(client.clone(), repositories_sender));
    tasks.spawn(clock(index.clone()));
    Caches { index, keys, keys_changed, repositories }
}

/// What begins to count by the clock alone, in every replica: nothing else would have it judged again.
async fn clock(index: Arc<PolicyIndex>) {
    loop {
        let next = index.clock_passed(Timestamp::now());
        super::sleep_until(next).await;
    }
}

async fn policies(client: Client, index: Arc<PolicyIndex>) {
    list_watch(client, |seen: Seen<WorkspacePolicy>| {
        match seen {
            Seen::Now(object) => index.object_seen(*object, Timestamp::now()),
            Seen::Unreadable(object) => index.object_unreadable(&object, Timestamp::now()),
            Seen::Gone(name) => index.object_gone(&name, Timestamp::now()),
            Seen::All(names) => {
                index.retain_objects(&names, Timestamp::now());
                index.liveness.complete(Watched::Policies);
            }
            Seen::Alive => {}
        }
        index.liveness.heard(Watched::Policies);
    })
    .await;
}

async fn ledgers(client: Client, index: Arc<PolicyIndex>) {
    list_watch(client, |seen: Seen<PolicyLedger>| {
        match seen {
            Seen::Now(ledger) => index.ledger_seen(*ledger, Timestamp::now()),
            Seen::Unreadable(ledger) => index.ledger_unreadable(&ledger, Timestamp::now()),
            Seen::Gone(name) => index.ledger_gone(&name, Timestamp::now()),
            Seen::All(names) => {
                index.retain_ledgers(&names, Timestamp::now());
                index.liveness.complete(Watched::Ledgers);
            }
            Seen::Alive => {}
        }
        index.liveness.heard(Watched::Ledgers);
    })
    .await;
}

async fn namespaces(client: Client, index: Arc<PolicyIndex>) {
    list_watch(client, |seen: Seen<Namespace>| {
        match seen {
            Seen::Now(namespace) => {
                rollout::labels(&index, &namespace);
            }
            Seen::Unreadable(namespace) => index.bindings.set(namespace.name(), None),
            Seen::Gone(name) => index.bindings.remove(&name),
            Seen::All(names) => {
                index.bindings.retain(&names);
                index.liveness.complete(Watched::Namespaces);
            }
            Seen::Alive => {}
        }
        index.liveness.heard(Watched::Namespaces);
    })
    .await;
}

/// Where keys and thresholds, which two watches bring, become the one ring that everything is judged by.
#[derive(Clone)]
struct Trust {
    index: Arc<PolicyIndex>,
    keys: Arc<Mutex<Keys>>,
    changed: Sender<u64>,
}

impl Trust {
    /// What a watch said of `watched` changes the keys; `listed`: whether a full list was among it. Before the first full
    /// lists of both kinds there is no ring: without a threshold, too few signatures would seem to be enough.
    fn change(&self, watched: Watched, listed: bool, change: impl FnOnce(&mut Keys)) {
        // held until the ring is in place, so that an older one never replaces it
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut keys);
        let liveness = &self.index.liveness;
        let there = |kind| (listed && watched == kind) || liveness.is_complete(kind);
        if there(Watched::Keys) && there(Watched::Thresholds) {
            // with thousands of documents it takes a second or more, in which this thread answers nobody
            tokio::task::block_in_place(|| self.index.keys_changed(keys.ring(), Timestamp::now()));
            self.changed.send_modify(|count| *count = count.wrapping_add(1));
        }
        // only now: whoever sees both complete finds the ring in place
        if listed {
            liveness.complete(watched);
        }
    }
}

async fn signing_keys(client: Client, trust: Trust) {
    list_watch(client, |seen: Seen<SigningKey>| {
        match seen {
            Seen::Now(key) => trust.change(Watched::Keys, false, |keys| keys.seen(*key)),
            Seen::Unreadable(key) => trust.change(Watched::Keys, false, |keys| keys.unreadable(&key)),
            Seen::Gone(name) => trust.change(Watched::Keys, false, |keys| keys.gone(&name)),
            Seen::All(names) => trust.change(Watched::Keys, true, |keys| keys.retain(&names)),
            Seen::Alive => {}
        }
        trust.index.liveness.heard(Watched::Keys);
    })
    .await;
}

async fn signing_thresholds(client: Client, trust: Trust) {
    const OF: Watched = Watched::Thresholds;
    list_watch(client, |seen: Seen<SigningThreshold>| {
        match seen {
            Seen::Now(threshold) => trust.change(OF, false, |keys| keys.threshold_seen(&threshold)),
            Seen::Unreadable(threshold) => trust.change(OF, false, |keys| keys.threshold_unreadable(&threshold)),
            Seen::Gone(name) => trust.change(OF, false, |keys| keys.threshold_gone(&name)),
            Seen::All(names) => trust.change(OF, true, |keys| keys.retain_thresholds(&names)),
            Seen::Alive => {}
        }
        trust.index.liveness.heard(OF);
    })
    .await;
}

async fn policy_repositories(client: Client, sender: Sender<Repositories>) {
    let mut all: HashMap<String, Arc<PolicyRepository>> = HashMap::new();
    let mut listed = false;
    list_watch(client, |seen: Seen<PolicyRepository>| {
        let alive = matches!(seen, Seen::Alive);
        match seen {
            Seen::Now(repository) => {
                all.insert(repository.name_any(), Arc::new(*repository));
            }
            // what was read of it last stays: without it, another repository would seem to be the only one
            Seen::Unreadable(_) => {}
            Seen::Gone(name) => {
                all.remove(&name);
            }
            Seen::All(names) => {
                all.retain(|name, _| names.contains(name));
                listed = true;
            }
            Seen::Alive => {}
        }
        if listed && !alive {
            sender.send_replace(Some(Arc::new(all.clone())));
        }
    })
    .await;
}
