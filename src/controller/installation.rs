//! Which installation leads a cluster. Replicas of one installation share a Lease in its namespace. What they write is
//! the whole cluster's, so that a second installation, in another namespace with a Lease of its own, would write against
//! the first one for ever: each would register its own webhook and read its own Secrets.
//!
//! The one place that says who leads is the webhook configuration, which there is one of: the installation that it leads
//! the API server to. Another one stands aside for as long as that one's Lease is held, and says so; it takes over when
//! that Lease is over. Nobody but an administrator of the cluster can change the configuration, and to put it into somebody
//! else's hands takes a live Lease in the namespace that it names: any other change is put back.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client, Resource as _};
use tokio::sync::watch::Sender;
use tokio::time::Instant;

use super::events::Events;
use super::lease::{self, Leading};
use super::watch::watch_object;
use crate::admission::registration::{CONFIGURATION_NAME, WEBHOOK_NAME};
use crate::telemetry::metrics;

/// Names the installation in a configuration that leads to a URL and not to a Service.
pub const NAMESPACE_ANNOTATION: &str = "sekuire.ai/namespace";
/// How often the Lease of another installation is looked at, and for how long the API server may take.
const LOOK: Duration = Duration::from_secs(3);
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
}

impl Installation {
    /// The one of a namespace.
    pub fn new(client: Client, namespace: &str) -> Self {
        Installation { client, namespace: namespace.into(), seen: Arc::default(), said: Arc::default() }
    }

    /// What talks to its API server.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Its namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The namespace of another installation that a configuration leads to, if that one is alive.
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
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), &namespace);
        let lease = match tokio::time::timeout(LOOK, leases.get_opt(lease::NAME)).await {
            Ok(Err(kube::Error::Api(status))) if status.code == 403 => {
                // without the right to look, anybody's change of the configuration would have us stand aside
                self.cannot_ask(&namespace);
                return Ok(None);
            }
            Ok(found) => found?,
            Err(_) => return Err(kube::Error::Service("no answer in time".into())),
        };
        Ok(lease.filter(|lease| self.alive(&namespace, lease)).map(|_| namespace))
    }

    fn cannot_ask(&self, namespace: &str) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_none_or(|said| said.elapsed() > REMIND) {
            *said = Some(Instant::now());
            let missing = format!("no right to get leases.coordination.k8s.io {} in {namespace}", lease::NAME);
            tracing::warn!(error = %missing, "another installation cannot be asked: this one leads");
        }
    }

    /// Whether a Lease is held: it changes, by this replica's own clock.
    fn alive(&self, namespace: &str, lease: &Lease) -> bool {
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let known = seen.take().filter(|(of, known, _)| of == namespace && *known == version);
        let since = known.map_or_else(Instant::now, |(.., since)| since);
        *seen = Some((namespace.to_owned(), version, since));
        lease::holder(lease).is_some()
            && since.elapsed() < lease::duration(Some(lease))
            && !lease::long_dead(Some(lease))
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
    let api: Api<ValidatingWebhookConfiguration> = Api::all(installation.client.clone());
    let mut watch = std::pin::pin!(watch_object(api, CONFIGURATION_NAME));
    let mut aside = Aside { installation, held, leading, events, configuration: None, other: None, said: None };
    loop {
        let pause = aside.pass_on().await;
        tokio::select! {
            event = watch.next() => match event {
                Some(Ok(configuration)) => aside.configuration = Some(configuration),
                Some(Err(error)) => {
                    metrics().watch_failed("validatingwebhookconfigurations");
                    tracing::warn!(%error, resource = "validatingwebhookconfigurations", "watch failed, trying again");
                }
                None => return,
            },
            more = aside.held.changed() => if !more { return },
            () = tokio::time::sleep(pause) => {}
        }
    }
}

struct Aside {
    installation: Installation,
    held: Leading,
    leading: Sender<Option<Instant>>,
    events: Events,
    /// `None` until the watch has said whether there is one.
    configuration: Option<Option<ValidatingWebhookConfiguration>>,
    /// The installation that leads.
    other: Option<String>,
    /// When it was said last that this one stands aside.
    said: Option<Instant>,
}

impl Aside {
    /// Says when to look again.
    async fn pass_on(&mut self) -> Duration {
        let Some(configuration) = self.configuration.clone() else { return Duration::MAX };
        if self.held.until().is_none() {
            self.leading.send_if_modified(|until| until.take().is_some());
            return Duration::MAX;
        }
        match self.installation.other(configuration.as_ref()).await {
            Ok(other) => self.decided(other, configuration.as_ref()).await,
            // as it was until it can be told
            Err(error) => tracing::warn!(%error, "Lease of another installation not read"),
        }
        // asked again: it took a moment
        let until = self.held.until().filter(|_| self.other.is_none());
        self.leading.send_if_modified(|known| std::mem::replace(known, until) != until);
        LOOK
    }

    async fn decided(&mut self, other: Option<String>, configuration: Option<&ValidatingWebhookConfiguration>) {
        let changed = other != self.other;
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
