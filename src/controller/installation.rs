//! Which installation leads a cluster. Replicas of one installation share a Lease in its namespace. What they write is
//! the whole cluster's, so that a second installation, in another namespace with a Lease of its own, would write against
//! the first one for ever: each would register its own webhook and read its own Secrets.
//!
//! The one place that says who leads is the webhook configuration, which there is one of: the installation that it leads
//! the API server to. Another one stands aside for as long as that one's Lease is held, and says so; it takes over when
//! that Lease is over. Nobody but an administrator of the cluster can change the configuration, and one that is led
//! elsewhere is put back: at once where nobody holds a Lease, and where somebody does once this installation has been in
//! charge for a while. A real second one cannot have taken over from it then, for that takes a Lease that is over.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client, Resource as _};
use tokio::sync::watch::Sender;
use tokio::time::Instant;

use super::answer::within;
use super::events::Events;
use super::lease::{self, Leading};
use crate::admission::registration::{CONFIGURATION_NAME, WEBHOOK_NAME};

/// Names the installation in a configuration that leads to a URL and not to a Service.
pub const NAMESPACE_ANNOTATION: &str = "sekuire.ai/namespace";
/// How often the Lease of another installation is looked at, and for how long the API server may take.
const LOOK: Duration = Duration::from_secs(3);
/// For how long an installation is in charge before it gives way to no other. Longer than what was seen of the configuration
/// counts, so that one that was taken over from no longer believes to be in charge when the other begins to.
const INCUMBENT: Duration = Duration::from_secs(30);
/// How often it is said that this one stands aside, or that it cannot tell.
const REMIND: Duration = Duration::from_secs(300);

/// This installation, as one of several that there may be. Cheap to clone.
#[derive(Clone)]
pub struct Installation {
    client: Client,
    namespace: Arc<str>,
    /// The Lease of another one as it was seen last: whose, its resourceVersion, and since when by our clock.
    seen: Arc<Mutex<Option<(String, String, Instant)>>>,
    /// When it was said last that another one cannot be asked.
    said: Arc<Mutex<Option<Instant>>>,
    /// `None` while this replica does not lead, or another installation does.
    charge: Arc<Mutex<Option<Charge>>>,
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

    /// The namespace of another installation that a configuration leads to, if that one is alive and this one has not been
    /// in charge for long enough to say that it cannot be.
    ///
    /// # Errors
    /// The API server does not say.
    pub async fn other(
        &self,
        configuration: Option<&ValidatingWebhookConfiguration>,
    ) -> Result<Option<String>, kube::Error> {
        let Some(namespace) = configuration.and_then(namespace_of).filter(|other| **other != *self.namespace) else {
            return Ok(None);
        };
        if self.is_incumbent() {
            return Ok(None);
        }
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), &namespace);
        let lease = match within(LOOK, leases.get_opt(lease::NAME)).await {
            Err(kube::Error::Api(status)) if status.code == 403 => {
                // without the right to look, anybody's change of the configuration would have us stand aside
                self.cannot_ask(&namespace);
                return Ok(None);
            }
            found => found?,
        };
        Ok(lease.filter(|lease| self.alive(&namespace, lease)).map(|_| namespace))
    }

    /// Whether this replica has been in charge for so long that what leads elsewhere is to be put back, whoever is there.
    fn is_incumbent(&self) -> bool {
        let charge = *self.charge.lock().unwrap_or_else(PoisonError::into_inner);
        let now = (Instant::now(), Timestamp::now());
        charge.is_some_and(|charge| charge.counts(now) && now.0 - charge.since >= INCUMBENT)
    }

    /// What was just seen of the configuration while this replica held the Lease.
    fn saw(&self, configuration: Option<&ValidatingWebhookConfiguration>) {
        let here = configuration.and_then(namespace_of).is_some_and(|namespace| *namespace == *self.namespace);
        let mut charge = self.charge.lock().unwrap_or_else(PoisonError::into_inner);
        // what was seen before counts for a moment, in which it is to be put back
        *charge = if here { Some(Charge::seen(*charge)) } else { *charge };
    }

    /// This replica does not lead.
    fn not_in_charge(&self) {
        *self.charge.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn cannot_ask(&self, namespace: &str) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_none_or(|said| said.elapsed() > REMIND) {
            *said = Some(Instant::now());
            let missing = format!("no right to get leases.coordination.k8s.io {} in {namespace}", lease::NAME);
            tracing::warn!(error = %missing, "another installation cannot be asked: this one leads");
        }
    }

    /// Whether a Lease is held: it changes, by this replica's own clock. One that was just given back counts for as long,
    /// since in an upgrade the next replica of its installation is about to take it.
    fn alive(&self, namespace: &str, lease: &Lease) -> bool {
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let known = seen.take().filter(|(of, known, _)| of == namespace && *known == version);
        let since = known.map_or_else(Instant::now, |(.., since)| since);
        *seen = Some((namespace.to_owned(), version, since));
        since.elapsed() < lease::duration(Some(lease)) && !lease::long_dead(Some(lease))
    }
}

/// The namespace of the installation that a configuration leads to.
fn namespace_of(configuration: &ValidatingWebhookConfiguration) -> Option<String> {
    let webhook = configuration.webhooks.iter().flatten().find(|webhook| webhook.name == WEBHOOK_NAME)?;
    match &webhook.client_config.service {
        Some(service) => Some(service.namespace.clone()),
        None => configuration.metadata.annotations.as_ref()?.get(NAMESPACE_ANNOTATION).cloned(),
    }
    .filter(|namespace| !namespace.is_empty())
}

/// Passes on to `leading` what the Lease says, unless another installation leads. For ever.
pub async fn stand_aside(installation: Installation, held: Leading, leading: Sender<Option<Instant>>, events: Events) {
    let api = Api::all(installation.client.clone());
    let mut aside = Aside { installation, api, held, leading, events, asked: false, other: None, said: None };
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
    api: Api<ValidatingWebhookConfiguration>,
    held: Leading,
    leading: Sender<Option<Instant>>,
    events: Events,
    /// Whether the API server has said yet who leads.
    asked: bool,
    /// The other installation that leads.
    other: Option<String>,
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
        let until = self.held.until().filter(|_| self.asked && self.other.is_none());
        self.leading.send_if_modified(|known| std::mem::replace(known, until) != until);
        LOOK
    }

    /// Who leads.
    async fn look(&mut self) -> Result<(), kube::Error> {
        let configuration = within(LOOK, self.api.get_opt(CONFIGURATION_NAME)).await?;
        self.installation.saw(configuration.as_ref());
        let other = self.installation.other(configuration.as_ref()).await?;
        self.asked = true;
        self.decided(other, configuration.as_ref()).await;
        Ok(())
    }

    async fn decided(&mut self, other: Option<String>, configuration: Option<&ValidatingWebhookConfiguration>) {
        let changed = other != self.other;
        if other.is_some() {
            self.installation.not_in_charge();
            // before it is said in an Event, which may take a while
            self.leading.send_if_modified(|until| until.take().is_some());
        }
        self.other = other;
        let namespace = self.installation.namespace();
        let Some(other) = &self.other else {
            self.said = None;
            if changed {
                tracing::warn!(namespace, "standing aside no longer: the other installation is gone");
            }
            return;
        };
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
