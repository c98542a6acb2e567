//! The endpoints: one for each `PolicyRepository` with `spec.receiver`, with what its Secret says now, and the way from
//! there to the replica that leads.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::watch::{Receiver, Sender};
use tokio_util::task::AbortOnDropHandle;

use super::bucket::Bucket;
use crate::api::policy_repository::WebhookReceiver;
use crate::api::{FIELD_MANAGER, PolicyRepository, REQUESTED_AT, Sent};
use crate::controller::answer::in_time;
use crate::controller::caches::Repositories;
use crate::controller::secrets::{Secrets, State};

/// The key of the Secret, as Flux's Receiver has it.
const TOKEN: &str = "token";
/// Looks at a repository that are asked for at once, and then one for each [`BETWEEN_LOOKS`]: what comes meanwhile is
/// asked for with the next.
const LOOKS_AT_ONCE: u32 = 3;
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);
/// Genuine requests for a repository that are answered with more than 429.
const REQUESTS_AT_ONCE: u32 = 30;
const BETWEEN_REQUESTS: Duration = Duration::from_millis(100);
/// How long a request waits until its look is asked for: GitHub gives up after 10 s.
const PATIENCE: Duration = Duration::from_secs(5);
/// Pause before the API server is asked again.
const PAUSE: Duration = Duration::from_secs(1);

/// All endpoints of a replica, by the name of their repository.
pub struct Endpoints {
    secrets: Secrets,
    by_name: ArcSwap<HashMap<String, Arc<Endpoint>>>,
    /// Counts changes of what they are and of their Secrets.
    changes: Sender<u64>,
}

impl Endpoints {
    /// None yet.
    pub fn new(secrets: Secrets) -> Endpoints {
        Endpoints { secrets, by_name: ArcSwap::default(), changes: Sender::new(0) }
    }

    /// The endpoint of a repository.
    pub fn get(&self, name: &str) -> Option<Arc<Endpoint>> {
        self.by_name.load().get(name).cloned()
    }

    /// Counts what changes.
    pub fn changes(&self) -> Receiver<u64> {
        self.changes.subscribe()
    }

    /// Follows the repositories, for ever.
    pub async fn follow(self: Arc<Self>, client: Client, mut repositories: Receiver<Repositories>) {
        let mut tasks: HashMap<String, AbortOnDropHandle<()>> = HashMap::new();
        loop {
            let all = repositories.borrow_and_update().clone().unwrap_or_default();
            let before = self.by_name.load_full();
            let mut now = HashMap::new();
            for (name, repository) in all.iter() {
                let Some(spec) = &repository.spec.receiver else { continue };
                let known = before.get(name).filter(|endpoint| endpoint.spec == *spec).cloned();
                let endpoint = known.unwrap_or_else(|| {
                    let endpoint = Arc::new(Endpoint::new(name, spec, &self.secrets));
                    let task = tokio::spawn(self.clone().tend(client.clone(), endpoint.clone()));
                    tasks.insert(name.clone(), AbortOnDropHandle::new(task));
                    endpoint
                });
                now.insert(name.clone(), endpoint);
            }
            tasks.retain(|name, _| now.contains_key(name));
            self.by_name.store(Arc::new(now));
            self.changes.send_modify(|count| *count = count.wrapping_add(1));
            if repositories.changed().await.is_err() {
                return;
            }
        }
    }

    /// Asks for the looks of one endpoint, and tells of changes of its Secret.
    async fn tend(self: Arc<Self>, client: Client, endpoint: Arc<Endpoint>) {
        let mut secret = endpoint.secret.clone();
        let told = async {
            while secret.changed().await.is_ok() {
                self.changes.send_modify(|count| *count = count.wrapping_add(1));
            }
        };
        tokio::join!(told, endpoint.ask_for_looks(client));
    }
}

/// The endpoint of one repository.
pub struct Endpoint {
    /// Name of the repository.
    pub name: String,
    /// What its object says.
    pub spec: WebhookReceiver,
    secret: Receiver<State>,
    namespace: String,
    requests: Mutex<Bucket>,
    /// How many requests asked for a look, and how many of them are in the cluster.
    asked: Sender<u64>,
    written: Sender<u64>,
}

impl Endpoint {
    fn new(name: &str, spec: &WebhookReceiver, secrets: &Secrets) -> Endpoint {
        Endpoint {
            name: name.to_owned(),
            spec: spec.clone(),
            secret: secrets.follow(&spec.secret_ref.name),
            namespace: secrets.namespace().to_owned(),
            requests: Mutex::new(Bucket::new(REQUESTS_AT_ONCE, BETWEEN_REQUESTS, Instant::now())),
            asked: Sender::new(0),
            written: Sender::new(0),
        }
    }

    /// What a sender has to know. `Ok(None)`: the API server has not said yet.
    ///
    /// # Errors
    /// Reason and message: what is missing or wrong in which Secret, and what to do. No value is repeated.
    pub fn token(&self) -> Result<Option<Vec<u8>>, (&'static str, String)> {
        let secret = format!("Secret {}/{} (spec.receiver.secretRef)", self.namespace, self.spec.secret_ref.name);
        let content = match &*self.secret.borrow() {
            State::Waiting => return Ok(None),
            State::Present(content) => content.clone(),
            State::Absent => {
                let create = format!(
                    "kubectl -n {} create secret generic {} --from-literal={TOKEN}=\"$(openssl rand -hex 32)\"",
                    self.namespace, self.spec.secret_ref.name
                );
                return Err(("SecretMissing", format!("there is no {secret}; create it: {create}")));
            }
            State::Unreadable(why) => return Err(("SecretMissing", format!("{secret} cannot be read: {why}"))),
        };
        let invalid = |what: &str| Err(("SecretInvalid", format!("{secret} {what}")));
        match content.data.get(TOKEN) {
            None => invalid("has no key token, which holds what the sender proves that it knows"),
            Some(token) if token.0.is_empty() => invalid("has an empty token"),
            // what editors and `echo` leave at the end, and nobody types into a forge's form
            Some(token) if token.0.iter().any(u8::is_ascii_control) => invalid(
                "has a line break or another control character in token; `kubectl create secret generic --from-literal` \
                 puts none there",
            ),
            Some(token) => Ok(Some(token.0.clone())),
        }
    }

    /// Counts a genuine request.
    ///
    /// # Errors
    /// How long until there may be another, if there are too many.
    pub fn admit(&self) -> Result<(), Duration> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now())
    }

    /// Asks for a look at the repository. True: that stands in the cluster now, where it outlives this replica.
    pub async fn look(&self) -> bool {
        let number = self.look_soon();
        let mut written = self.written.subscribe();
        let written = written.wait_for(|written| *written >= number);
        tokio::time::timeout(PATIENCE, written).await.is_ok_and(|written| written.is_ok())
    }

    /// The same, and does not wait for that. Returns the number of the request.
    pub fn look_soon(&self) -> u64 {
        let mut number = 0;
        self.asked.send_modify(|asked| {
            *asked += 1;
            number = *asked;
        });
        number
    }

    async fn ask_for_looks(&self, client: Client) {
        let api: Api<Sent<PolicyRepository>> = Api::all(client);
        let mut bucket = Bucket::new(LOOKS_AT_ONCE, BETWEEN_LOOKS, Instant::now());
        let mut asked = self.asked.subscribe();
        // the sender lives in `self`
        while asked.wait_for(|asked| *asked > *self.written.borrow()).await.is_ok() {
            while let Err(wait) = bucket.take(Instant::now()) {
                tokio::time::sleep(wait).await;
            }
            let number = *asked.borrow_and_update();
            let annotation = json!({"metadata": {"annotations": {REQUESTED_AT[0]: Timestamp::now().to_string()}}});
            let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
            match in_time(api.patch(&self.name, &params, &Patch::Merge(annotation))).await {
                Ok(_) => {
                    self.written.send_replace(number);
                }
                Err(error) => {
                    tracing::warn!(%error, repository = %self.name, "look not asked for, trying again");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}
