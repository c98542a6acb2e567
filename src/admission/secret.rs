//! The Secret that the replicas keep the webhook's certificate in.
//!
//! | key | what it is |
//! | --- | --- |
//! | `tls.crt`, `tls.key` | what is served |
//! | `ca.crt` | the authorities to publish as `caBundle`: of what is served, of what comes next, of what was before |
//! | `next.tls.crt`, `next.tls.key` | made at two thirds of life; takes the place of the former once its authority is published |
//!
//! Any replica makes what is missing and changes what is due: what is absent is created, anything else carries the
//! `resourceVersion` that it was decided on, so that of several one wins and the others read what it wrote.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::{Client, ResourceExt as _};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::bundle;
use super::certificates::Certificates;
use super::pair::{self, Names, Pair, PairFault};
use crate::api::{FIELD_MANAGER, Sent};
use crate::controller::answer::in_time;
use crate::controller::watch::watch_object;

const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const AUTHORITIES: &str = "ca.crt";
const NEXT_CERTIFICATE: &str = "next.tls.crt";
const NEXT_KEY: &str = "next.tls.key";
const TYPE: &str = "kubernetes.io/tls";
/// How often the clock alone is looked at.
const TICK: Duration = Duration::from_secs(5);
/// Between two replacements of what is unusable: replicas whose clocks disagree about that must not do nothing else.
const REPLACE_INTERVAL: Duration = Duration::from_secs(60);

/// The name of the Secret unless told otherwise.
pub const SECRET_NAME: &str = "sekuire-webhook-certificate";

/// Where the certificate is kept.
#[derive(Clone, Debug)]
pub struct SecretSource {
    /// The controller's namespace.
    pub namespace: String,
    /// [`SECRET_NAME`].
    pub name: String,
}

/// What the Secret holds, read.
struct Stored {
    served: Result<Arc<Pair>, PairFault>,
    next: Option<Result<Arc<Pair>, PairFault>>,
    authorities: String,
}

/// What is to be done about it.
#[derive(Debug, PartialEq, Eq)]
enum Plan {
    /// There is none.
    Create,
    /// What is served is of no use to the API server.
    Replace {
        why: String,
        names: Names,
    },
    /// Due: make the next one and publish its authority.
    Rotate,
    /// The next one is trusted: serve it.
    Promote,
    Keep,
}

/// Keeps the Secret, and serves what is in it, until `shutdown`. Runs in every replica.
pub async fn keep(client: Client, source: SecretSource, certificates: Arc<Certificates>, shutdown: CancellationToken) {
    let watch = watch_object(client.clone(), Some(&source.namespace), &source.name);
    let api = Api::namespaced(client, &source.namespace);
    let keeper = Keeper { api, name: source.name, certificates, seen: None, replaced: None, said: None };
    shutdown.run_until_cancelled(keeper.run(std::pin::pin!(watch))).await;
}

struct Keeper {
    api: Api<Sent<Secret>>,
    name: String,
    certificates: Arc<Certificates>,
    /// `None` until the watch has said whether there is one.
    seen: Option<Option<Secret>>,
    replaced: Option<Instant>,
    /// What was said last of what keeps the Secret from being used or renewed.
    said: Option<String>,
}

impl Keeper {
    async fn run<W>(mut self, mut watch: std::pin::Pin<&mut W>)
    where
        W: Stream<Item = Result<Option<Sent<Secret>>, kube::Error>>,
    {
        let mut published = self.certificates.published();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                event = watch.next() => match event {
                    Some(Ok(secret)) => self.seen = Some(secret.map(read)),
                    Some(Err(_said)) => continue,
                    None => return,
                },
                // The sender lives in `certificates`, which is held here.
                _ = published.changed() => {}
                _ = tick.tick() => {}
            }
            self.step(Timestamp::now()).await;
        }
    }

    async fn step(&mut self, now: Timestamp) {
        let Some(seen) = &self.seen else { return };
        let stored = seen.as_ref().map(|secret| Stored::read(secret, now));
        if let Some(stored) = &stored {
            self.serve(stored, now);
        }
        let plan = plan(stored.as_ref(), self.certificates.names(), now, |next| self.certificates.settled(next, now));
        self.say(&plan);
        match self.execute(plan, stored, now).await {
            Ok(None) => {}
            Ok(Some(written)) => {
                self.serve(&Stored::read(&written, now), now);
                self.seen = Some(Some(written));
            }
            // Another replica was first: the watch brings what it wrote.
            Err(Fault::Api(kube::Error::Api(status))) if status.code == 409 => {}
            Err(error) => tracing::warn!(%error, kind = "Secret", name = self.name, "webhook certificate not kept"),
        }
    }

    /// Says, once, what is wrong with the Secret: where it was replaced a moment ago, it may stay so for a minute.
    fn say(&mut self, plan: &Plan) {
        let immutable = self.seen.iter().flatten().any(|secret| secret.immutable == Some(true));
        let wrong = match plan {
            Plan::Replace { why, .. } => Some(why.clone()),
            _ if immutable => {
                Some("it is immutable, and cannot be renewed: delete it, and it is made again".to_owned())
            }
            _ => None,
        };
        if let Some(error) = wrong.as_ref().filter(|wrong| self.said.as_ref() != Some(wrong)) {
            tracing::warn!(%error, kind = "Secret", name = self.name, "webhook certificate cannot stay as it is");
        }
        self.said = wrong;
    }

    fn serve(&self, stored: &Stored, now: Timestamp) {
        if let Ok(pair) = &stored.served
            && pair.trusted_by(&stored.authorities, self.certificates.names(), now).is_ok()
        {
            self.certificates.publish(&stored.authorities);
            self.certificates.offer(pair, now);
        }
    }

    async fn execute(&mut self, plan: Plan, stored: Option<Stored>, now: Timestamp) -> Result<Option<Secret>, Fault> {
        let Some((Some(secret), stored)) = self.seen.clone().zip(stored) else {
            return match plan {
                Plan::Create => self.create(now).await.map(Some),
                _ => Ok(None),
            };
        };
        let names = self.certificates.names();
        let changed = match plan {
            Plan::Keep | Plan::Create => return Ok(None),
            Plan::Replace { why, names } => {
                if self.replaced.is_some_and(|at| at.elapsed() < REPLACE_INTERVAL) {
                    return Ok(None);
                }
                self.replaced = Some(Instant::now());
                tracing::warn!(
                    error = why,
                    kind = "Secret",
                    name = self.name,
                    "webhook certificate is unusable and replaced"
                );
                fill(secret, &next(&stored, &names, now)?, &self.former(&stored.authorities, now), now)
            }
            Plan::Rotate => {
                tracing::info!(kind = "Secret", name = self.name, "next webhook certificate made");
                prepare(secret, &next(&stored, names, now)?, &stored.authorities, now)
            }
            Plan::Promote => {
                tracing::info!(kind = "Secret", name = self.name, "next webhook certificate takes over");
                promote(secret)
            }
        };
        Ok(Some(read(in_time(self.api.replace(&self.name, &params(), &changed.into())).await?)))
    }

    /// The authorities of before, also when somebody took them out of the Secret: this replica and others still serve what
    /// they vouch for.
    fn former(&self, stored: &str, now: Timestamp) -> String {
        let published = self.certificates.bundle().borrow().clone();
        bundle::merge([stored, published.as_deref().unwrap_or_default()], now)
    }

    async fn create(&self, now: Timestamp) -> Result<Secret, Fault> {
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                labels: Some(BTreeMap::from([("app.kubernetes.io/managed-by".to_owned(), FIELD_MANAGER.to_owned())])),
                ..ObjectMeta::default()
            },
            type_: Some(TYPE.to_owned()),
            ..Secret::default()
        };
        let secret = fill(secret, &pair::make(self.certificates.names(), now)?, &self.former("", now), now);
        let created = in_time(self.api.create(&params(), &secret.into())).await?;
        tracing::info!(kind = "Secret", name = created.name_any(), "webhook certificate made");
        Ok(read(created))
    }
}

#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Api(#[from] kube::Error),
    #[error(transparent)]
    Pair(#[from] PairFault),
}

fn params() -> PostParams {
    PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() }
}

/// What can be read of a Secret. One without data is replaced.
fn read(sent: Sent<Secret>) -> Secret {
    sent.object
        .map_or_else(|unreadable| Secret { metadata: unreadable.metadata, ..Secret::default() }, |secret| *secret)
}

impl Stored {
    fn read(secret: &Secret, now: Timestamp) -> Stored {
        let empty = BTreeMap::new();
        let data = secret.data.as_ref().unwrap_or(&empty);
        let bytes = |key: &str| data.get(key).map_or(&[][..], |value| value.0.as_slice());
        let next = data
            .contains_key(NEXT_CERTIFICATE)
            .then(|| Pair::read(bytes(NEXT_CERTIFICATE), bytes(NEXT_KEY)).map(Arc::new));
        Stored {
            served: Pair::read(bytes(CERTIFICATE), bytes(KEY)).map(Arc::new),
            next,
            authorities: bundle::merge([&*String::from_utf8_lossy(bytes(AUTHORITIES))], now),
        }
    }
}

/// What is to be done. `settled`: whether API servers can be taken to trust the next certificate.
fn plan(stored: Option<&Stored>, names: &Names, now: Timestamp, settled: impl Fn(&Pair) -> bool) -> Plan {
    let Some(stored) = stored else { return Plan::Create };
    let sound = |pair: &Pair| pair.trusted_by(&stored.authorities, names, now);
    let next = stored.next.as_ref().and_then(|next| next.as_ref().ok()).filter(|next| sound(next).is_ok());
    let served = match &stored.served {
        Ok(served) => served,
        Err(fault) => return Plan::Replace { why: fault.to_string(), names: names.clone() },
    };
    if let Err(fault) = sound(served) {
        if next.is_some() {
            return Plan::Promote;
        }
        // A replica of another version or setting may go by other names, and must not find its own gone.
        let own = Names::of_certificate(served.names());
        let theirs = own.filter(|own| served.trusted_by(&stored.authorities, own, now).is_ok());
        let names = if theirs.is_some() { names.with(served.names()) } else { names.clone() };
        return Plan::Replace { why: fault.to_string(), names };
    }
    match (&stored.next, next) {
        (Some(_), Some(next)) if settled(next) => Plan::Promote,
        (Some(_), Some(_)) => Plan::Keep,
        (Some(_), None) => Plan::Rotate,
        (None, _) if now >= served.renew_at() => Plan::Rotate,
        (None, _) => Plan::Keep,
    }
}

/// What is to follow what is stored.
fn next(stored: &Stored, names: &Names, now: Timestamp) -> Result<pair::Made, PairFault> {
    stored.served.as_ref().map_or_else(|_| pair::make(names, now), |served| served.make_next(names, now))
}

type Data = BTreeMap<String, ByteString>;

fn put(data: &mut Data, key: &str, text: &str) {
    data.insert(key.to_owned(), ByteString(text.as_bytes().to_vec()));
}

/// A pair to serve at once. The authorities of before stay: other replicas still serve what they vouch for.
fn fill(mut secret: Secret, made: &pair::Made, authorities: &str, now: Timestamp) -> Secret {
    let data = secret.data.get_or_insert_default();
    put(data, CERTIFICATE, &made.certificate);
    put(data, KEY, &made.key);
    put(data, AUTHORITIES, &bundle::merge([made.authority.as_str(), authorities], now));
    data.remove(NEXT_CERTIFICATE);
    data.remove(NEXT_KEY);
    secret
}

/// A pair to serve later, its authority to be published now.
fn prepare(mut secret: Secret, made: &pair::Made, authorities: &str, now: Timestamp) -> Secret {
    let data = secret.data.get_or_insert_default();
    put(data, NEXT_CERTIFICATE, &made.certificate);
    put(data, NEXT_KEY, &made.key);
    put(data, AUTHORITIES, &bundle::merge([authorities, made.authority.as_str()], now));
    secret
}

fn promote(mut secret: Secret) -> Secret {
    let data = secret.data.get_or_insert_default();
    for (from, to) in [(NEXT_CERTIFICATE, CERTIFICATE), (NEXT_KEY, KEY)] {
        if let Some(value) = data.remove(from) {
            data.insert(to.to_owned(), value);
        }
    }
    secret
}

#[cfg(test)]
#[path = "secret_tests.rs"]
mod tests;
