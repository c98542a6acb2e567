//! Which installation leads a cluster. Replicas of one installation share a Lease in its namespace. What they write is
//! the whole cluster's, so that a second installation, in another namespace with a Lease of its own, would write against
//! the first one for ever: each would register its own webhook and read its own Secrets.
//!
//! The one place that says who leads is the webhook configuration, which there is one of: the installation that it leads
//! the API server to. Another one stands aside for as long as that one's Lease is held, and says so; it takes over when
//! that Lease is over. Nobody but an administrator of the cluster can change the configuration, and one that is led
//! elsewhere is put back: at once where nobody holds a Lease, and where somebody does once this installation has been in
//! charge for a while. A real second one cannot have taken over from it then, for that takes a Lease that is over.
//!
//! A live Lease is one that changes. What keeps this one from seeing that, whatever it is, means that there is none: a
//! namespace that cannot be one, a Lease that may not be read or cannot be, a time of renewal that is none.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client, Resource as _};
use tokio::sync::watch::Sender;
use tokio::time::Instant;

use super::answer::within;
use super::events::Events;
use super::lease::{self, Leading};
use crate::admission::registration::{CONFIGURATION_NAME, WEBHOOK_NAME};
use crate::api::Sent;

/// Names the installation in a configuration that leads to a URL and not to a Service.
pub const NAMESPACE_ANNOTATION: &str = "sekuire.ai/namespace";
/// How often the Lease of another installation is looked at, and for how long the API server may take.
const LOOK: Duration = Duration::from_secs(3);
/// For how long an installation is in charge before it gives way to no other. Longer than what was seen of the configuration
/// counts, so that one that was taken over from no longer believes to be in charge when the other begins to.
const INCUMBENT: Duration = Duration::from_secs(30);
/// A Lease that is seen for the first time may be alive if it was renewed no longer ago than this, or is to be no later, by
/// a wall clock that may differ. Whether it is shows when it changes: a holder renews every five seconds, and one that did not
/// for ten does not count on it.
const PLAUSIBLE: SignedDuration = SignedDuration::from_secs(30);
/// How often it is looked at until then.
pub const LOOK_SOON: Duration = Duration::from_secs(1);
/// How often it is said that this one stands aside, or that it cannot tell.
const REMIND: Duration = Duration::from_secs(300);

/// This installation, as one of several that there may be. Cheap to clone.
#[derive(Clone)]
pub struct Installation {
    client: Client,
    namespace: Arc<str>,
    /// The Lease of another one as it was seen last.
    seen: Arc<Mutex<Option<Sighting>>>,
    /// When it was said last that another one cannot be asked.
    said: Arc<Mutex<Option<Instant>>>,
    /// `None` while this replica does not lead, or another installation does.
    charge: Arc<Mutex<Option<Charge>>>,
}

/// Which installation leads, if it is not this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Other {
    /// None.
    Nobody,
    /// That of this namespace: its Lease is alive.
    Leads(String),
    /// Perhaps that of this namespace: whether its Lease is alive shows within seconds.
    Perhaps(String),
}

/// A Lease of another installation.
#[derive(Debug)]
struct Sighting {
    namespace: String,
    version: String,
    /// Since when it is so, by our clock.
    since: Instant,
    /// It was another one before.
    changed: bool,
}

/// That this replica leads, and that the configuration leads to it.
#[derive(Clone, Copy)]
struct Charge {
    since: Instant,
    /// When that was seen last, by both clocks: the monotonic one stands still while a machine is suspended.
    seen: (Instant, Timestamp),
}

impl Charge {
    /// It was seen just now.
    fn seen(before: Option<Charge>) -> Self {
        let now = (Instant::now(), Timestamp::now());
        Charge { since: before.filter(|before| before.counts(now)).map_or(now.0, |before| before.since), seen: now }
    }

    /// Whether what was seen cannot have changed for long: no longer than a Lease counts.
    fn counts(&self, now: (Instant, Timestamp)) -> bool {
        let wall = now.1.duration_since(self.seen.1);
        now.0 - self.seen.0 < lease::DURATION && !wall.is_negative() && wall.unsigned_abs() < lease::DURATION
    }
}

impl Installation {
    /// The one of a namespace.
    pub fn new(client: Client, namespace: &str) -> Self {
        Installation {
            client,
            namespace: namespace.into(),
            seen: Arc::default(),
            said: Arc::default(),
            charge: Arc::default(),
        }
    }

    /// What talks to its API server.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Its namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The installation that a configuration leads to, if it is another one that is alive and this one has not been in charge
    /// for long enough to say that it cannot be.
    pub async fn other(&self, configuration: Option<&Sent<ValidatingWebhookConfiguration>>) -> Other {
        let Some(namespace) = configuration.and_then(namespace_of).filter(|other| **other != *self.namespace) else {
            return Other::Nobody;
        };
        if self.is_incumbent() {
            return Other::Nobody;
        }
        let leases: Api<Sent<Lease>> = Api::namespaced(self.client.clone(), &namespace);
        match within(LOOK, leases.get_opt(lease::NAME)).await {
            Ok(found) => found.map_or(Other::Nobody, |found| self.judge(namespace, &lease::read(found))),
            Err(error) => {
                // whoever can keep us from looking would have us stand aside
                self.cannot_ask(&namespace, &error);
                self.unseen(namespace)
            }
        }
    }

    /// Whether this replica has been in charge for so long that what leads elsewhere is to be put back, whoever is there.
    fn is_incumbent(&self) -> bool {
        let charge = *self.charge.lock().unwrap_or_else(PoisonError::into_inner);
        let now = (Instant::now(), Timestamp::now());
        charge.is_some_and(|charge| charge.counts(now) && now.0 - charge.since >= INCUMBENT)
    }

    /// What was just seen of the configuration while this replica held the Lease.
    fn saw(&self, configuration: Option<&Sent<ValidatingWebhookConfiguration>>) {
        let here = configuration.and_then(namespace_of).is_some_and(|namespace| *namespace == *self.namespace);
        let mut charge = self.charge.lock().unwrap_or_else(PoisonError::into_inner);
        // what was seen before counts for a moment, in which it is to be put back
        *charge = if here { Some(Charge::seen(*charge)) } else { *charge };
    }

    /// This replica does not lead.
    fn not_in_charge(&self) {
        *self.charge.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn cannot_ask(&self, namespace: &str, error: &kube::Error) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_none_or(|said| said.elapsed() > REMIND) {
            *said = Some(Instant::now());
            tracing::warn!(%error, namespace, kind = "Lease", name = lease::NAME, "another installation cannot be asked: this one leads");
        }
    }

    /// That the Lease of a namespace was not seen now. One that was seen to be alive counts until it is over.
    fn unseen(&self, namespace: String) -> Other {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let alive = seen
            .as_ref()
            .is_some_and(|seen| seen.namespace == namespace && seen.changed && seen.since.elapsed() < lease::DURATION);
        if alive { Other::Leads(namespace) } else { Other::Nobody }
    }

    /// Whether a Lease is held: it changes, by this replica's own clock. One that was just given back counts for as long,
    /// since in an upgrade the next replica of its installation is about to take it.
    fn judge(&self, namespace: String, lease: &Lease) -> Other {
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let before = seen.take().filter(|before| before.namespace == namespace);
        let same = before.as_ref().is_some_and(|before| before.version == version);
        let (since, changed) = match &before {
            Some(before) if same => (before.since, before.changed),
            _ => (Instant::now(), before.is_some()),
        };
        *seen = Some(Sighting { namespace: namespace.clone(), version, since, changed });
        let plausible = lease::since_renewal(Some(lease)).is_some_and(|since| since.abs() <= PLAUSIBLE);
        match changed {
            true if since.elapsed() < lease::DURATION => Other::Leads(namespace),
            false if since.elapsed() < lease::COUNTS_FOR && plausible => Other::Perhaps(namespace),
            _ => Other::Nobody,
        }
    }
}

/// The namespace of the installation that a configuration leads to. What is no name of a namespace names nobody.
fn namespace_of(configuration: &Sent<ValidatingWebhookConfiguration>) -> Option<String> {
    let webhooks =
        configuration.object.as_ref().map_or(&[][..], |object| object.webhooks.as_deref().unwrap_or_default());
    let ours = webhooks.iter().find(|webhook| webhook.name == WEBHOOK_NAME);
    match ours.and_then(|webhook| webhook.client_config.service.as_ref()) {
        Some(service) => Some(service.namespace.clone()),
        None => configuration.metadata.annotations.as_ref()?.get(NAMESPACE_ANNOTATION).cloned(),
    }
    .filter(|namespace| is_dns_label(namespace))
}

/// RFC 1123: what the API server takes for the name of a namespace.
fn is_dns_label(text: &str) -> bool {
    let inside = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&text.len()) && text.bytes().all(inside) && !text.starts_with('-') && !text.ends_with('-')
}

/// Passes on to `leading` what the Lease says, unless another installation leads. For ever.
pub async fn stand_aside(installation: Installation, held: Leading, leading: Sender<Option<Instant>>, events: Events) {
    let api = Api::all(installation.client.clone());
    let mut aside = Aside { installation, api, held, leading, events, asked: false, other: Other::Nobody, said: None };
    loop {
        let pause = aside.pass_on().await;
        tokio::select! {
            more = aside.held.changed() => if !more { return },
            () = tokio::time::sleep(pause) => {}
        }
    }
}

struct Aside {
    installation: Installation,
    api: Api<Sent<ValidatingWebhookConfiguration>>,
    held: Leading,
    leading: Sender<Option<Instant>>,
    events: Events,
    /// Whether the API server has said yet who leads.
    asked: bool,
    /// The other installation that leads, as it was told last.
    other: Other,
    /// When it was said last that this one stands aside.
    said: Option<Instant>,
}

impl Aside {
    /// Says when to look again.
    async fn pass_on(&mut self) -> Duration {
        if self.held.until().is_none() {
            self.installation.not_in_charge();
            self.leading.send_if_modified(|until| until.take().is_some());
            return Duration::MAX;
        }
        let mut held = self.held.clone();
        // asked for and not watched: a watch can be silent while somebody else takes over
        tokio::select! {
            looked = self.look() => if let Err(error) = looked {
                // as it was until it can be told
                tracing::warn!(%error, "not known which installation leads");
            },
            // a Lease that is given back may be another replica's at once, whatever is being waited for
            () = held.wait_for(false) => {}
        }
        // asked again: it took a moment
        let until = self.held.until().filter(|_| self.asked && self.other == Other::Nobody);
        self.leading.send_if_modified(|known| std::mem::replace(known, until) != until);
        if matches!(self.other, Other::Perhaps(_)) { LOOK_SOON } else { LOOK }
    }

    /// Who leads.
    async fn look(&mut self) -> Result<(), kube::Error> {
        let configuration = within(LOOK, self.api.get_opt(CONFIGURATION_NAME)).await?;
        self.installation.saw(configuration.as_ref());
        let other = self.installation.other(configuration.as_ref()).await;
        self.asked = true;
        self.decided(other, configuration.as_ref()).await;
        Ok(())
    }

    async fn decided(&mut self, other: Other, configuration: Option<&Sent<ValidatingWebhookConfiguration>>) {
        let before = std::mem::replace(&mut self.other, other.clone());
        if other != Other::Nobody {
            self.installation.not_in_charge();
            // before it is said in an Event, which may take a while
            self.leading.send_if_modified(|until| until.take().is_some());
        }
        let namespace = self.installation.namespace();
        let Other::Leads(other) = other else {
            self.said = None;
            if matches!(before, Other::Leads(_)) {
                tracing::warn!(namespace, "standing aside no longer: the other installation is gone");
            }
            return;
        };
        let changed = before != self.other;
        if changed || self.said.is_none_or(|said| said.elapsed() > REMIND) {
            let note = format!(
                "two installations in one cluster: the one in namespace {other} leads, the one in {namespace} stands aside \
                 and writes nothing. Remove one of them"
            );
            tracing::error!(namespace, installation = other, "standing aside: another installation leads");
            self.said = Some(Instant::now());
            if let (true, Some(configuration)) = (changed, configuration) {
                self.events.warning(configuration.object_ref(&()), "StandsAside", note).await;
            }
        }
    }
}
