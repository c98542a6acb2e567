//! The `ValidatingWebhookConfiguration`: what the API server sends where, made and kept.
//!
//! Every replica watches it, since its `caBundle` decides which certificate may be served; the leader alone writes. It puts
//! back whatever is changed or deleted, says so in an Event, and writes nothing when nothing differs.

use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, RuleWithOperations, ServiceReference, ValidatingWebhook, ValidatingWebhookConfiguration,
    WebhookClientConfig,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, Resource as _};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::certificates::Certificates;
use super::routes::VALIDATE_PATH;
use crate::api::{FIELD_MANAGER, GROUP};
use crate::controller::events::Events;
use crate::controller::installation::{Installation, NAMESPACE_ANNOTATION};
use crate::controller::lease::Leading;

/// The name of the configuration unless told otherwise.
pub const CONFIGURATION_NAME: &str = "sekuire-policy-controller";
/// The name of the webhook in it, which API servers put into every denial.
pub const WEBHOOK_NAME: &str = "agents.sekuire.ai";
/// Lets updates through that change nothing of what is judged: finalizers, labels and the deletion of a namespace go on
/// while no replica answers. It holds while an agent is being deleted too: a new spec is judged.
pub const SPEC_CHANGES: &str = "request.operation != 'UPDATE' || object.spec != oldObject.spec";
/// Answers take a millisecond, or a second at most when a namespace is only just made. What the rest is for is a starved or
/// lost replica: refusing late is better than refusing early, and nothing but agents waits.
const TIMEOUT_SECONDS: i32 = 10;
/// Between two writes. Somebody who keeps changing the configuration is answered in well under a second, but not in a spin.
const PAUSE: Duration = Duration::from_millis(200);
/// Before a write that failed is tried again, doubled up to the second value.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// Where the API server finds the webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Through a Service.
    Service {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// Its port.
        port: u16,
    },
    /// At a URL, its path included: for a webhook outside of the cluster.
    Url(url::Url),
}

impl Target {
    /// The target of a base URL (`https://HOST:PORT`, the value of `--webhook-url`).
    #[must_use]
    pub fn at(base: &url::Url) -> Target {
        let mut url = base.clone();
        url.set_path(VALIDATE_PATH);
        url.set_query(None);
        url.set_fragment(None);
        Target::Url(url)
    }
}

/// What is registered.
#[derive(Clone, Debug)]
pub struct Registration {
    /// [`CONFIGURATION_NAME`].
    pub name: String,
    /// Where the webhook is.
    pub target: Target,
    /// The namespace of the installation, which a Service's says already and a URL does not.
    pub namespace: String,
}

impl Registration {
    /// Names the installation in the metadata of a configuration that leads to a URL. True if that changes anything.
    fn name_installation(&self, metadata: &mut ObjectMeta) -> bool {
        if let Target::Service { .. } = self.target {
            return false;
        }
        let annotations = metadata.annotations.get_or_insert_default();
        let before = annotations.insert(NAMESPACE_ANNOTATION.to_owned(), self.namespace.clone());
        before.as_ref() != Some(&self.namespace)
    }

    /// The webhook as it ought to be, every field that an API server would fill in given, so that what it gives back is equal
    /// when nobody changed it.
    fn webhook(&self, authority: Option<ByteString>) -> ValidatingWebhook {
        let (service, url) = match &self.target {
            Target::Service { namespace, name, port } => {
                let service = ServiceReference {
                    name: name.clone(),
                    namespace: namespace.clone(),
                    path: Some(VALIDATE_PATH.to_owned()),
                    port: Some(i32::from(*port)),
                };
                (Some(service), None)
            }
            Target::Url(url) => (None, Some(url.to_string())),
        };
        ValidatingWebhook {
            name: WEBHOOK_NAME.to_owned(),
            admission_review_versions: vec!["v1".to_owned()],
            client_config: WebhookClientConfig { ca_bundle: authority, service, url },
            failure_policy: Some("Fail".to_owned()),
            match_conditions: Some(vec![MatchCondition {
                name: "spec-changes".to_owned(),
                expression: SPEC_CHANGES.to_owned(),
            }]),
            match_policy: Some("Equivalent".to_owned()),
            namespace_selector: Some(LabelSelector::default()),
            object_selector: Some(LabelSelector::default()),
            rules: Some(vec![RuleWithOperations {
                api_groups: Some(vec![GROUP.to_owned()]),
                api_versions: Some(vec!["*".to_owned()]),
                operations: Some(vec!["CREATE".to_owned(), "UPDATE".to_owned()]),
                resources: Some(vec!["agents".to_owned()]),
                scope: Some("Namespaced".to_owned()),
            }]),
            side_effects: "None".to_owned(),
            timeout_seconds: Some(TIMEOUT_SECONDS),
        }
    }
}

/// Keeps the configuration until `shutdown`: watches it in every replica, writes it while this replica leads.
pub async fn run(
    client: Client,
    installation: Installation,
    registration: Registration,
    certificates: Arc<Certificates>,
    leader: Leading,
    events: Events,
    shutdown: CancellationToken,
) {
    let api: Api<ValidatingWebhookConfiguration> = Api::all(client);
    let watch = watcher::watch_object(api.clone(), &registration.name).default_backoff();
    let bundle = certificates.bundle();
    let keeper = Keeper {
        api,
        installation,
        registration,
        certificates,
        events,
        leader,
        bundle,
        seen: None,
        known: false,
        agreed: None,
    };
    shutdown.run_until_cancelled(keeper.run(std::pin::pin!(watch))).await;
}

struct Keeper {
    api: Api<ValidatingWebhookConfiguration>,
    installation: Installation,
    registration: Registration,
    certificates: Arc<Certificates>,
    events: Events,
    leader: Leading,
    bundle: watch::Receiver<Option<Arc<str>>>,
    /// `None` until the watch has said whether there is one.
    seen: Option<Option<ValidatingWebhookConfiguration>>,
    /// Whether there ever was one: its absence is then a deletion.
    known: bool,
    /// The authority when the configuration was last as it ought to be: should it differ after that and ours has not
    /// changed, somebody else changed it.
    agreed: Option<Option<Arc<str>>>,
}

impl Keeper {
    async fn run<W>(mut self, mut watch: std::pin::Pin<&mut W>)
    where
        W: Stream<Item = Result<Option<ValidatingWebhookConfiguration>, watcher::Error>>,
    {
        let mut retry: Option<Duration> = None;
        loop {
            let pause = retry.unwrap_or(Duration::MAX);
            tokio::select! {
                event = watch.next() => match event {
                    Some(Ok(seen)) => self.saw(seen),
                    Some(Err(error)) => {
                        tracing::warn!(%error, "watch of the webhook configuration failed");
                        continue;
                    }
                    None => return,
                },
                more = self.leader.changed() => if !more { return },
                // The sender lives in `certificates`, which is held here.
                _ = self.bundle.changed() => {}
                () = tokio::time::sleep(pause), if retry.is_some() => {}
            }
            retry = self.lead(retry).await;
        }
    }

    /// Puts things right if this replica leads. Says when to try again.
    async fn lead(&mut self, last: Option<Duration>) -> Option<Duration> {
        if !self.leader.now() {
            return None;
        }
        match self.step().await {
            Ok(false) => None,
            Ok(true) => {
                tokio::time::sleep(PAUSE).await;
                None
            }
            // It moved under us: the watch brings how.
            Err(kube::Error::Api(status)) if status.code == 409 => Some(RETRY.0),
            Err(error) => {
                tracing::warn!(%error, name = self.registration.name, "webhook configuration could not be written");
                Some(last.map_or(RETRY.0, |last| (last * 2).min(RETRY.1)))
            }
        }
    }

    fn saw(&mut self, seen: Option<ValidatingWebhookConfiguration>) {
        self.known |= seen.is_some();
        self.certificates.saw_published(seen.as_ref().and_then(published).as_deref());
        self.seen = Some(seen);
    }

    /// Writes what differs. True if something did.
    async fn step(&mut self) -> Result<bool, kube::Error> {
        let Some(seen) = self.seen.clone() else { return Ok(false) };
        if self.installation.other(seen.as_ref()).await?.is_some() {
            return Ok(false);
        }
        let authority = self.bundle.borrow_and_update().clone();
        let plan = plan(&self.registration, seen.as_ref(), authority.as_deref(), self.known, self.agreed.as_ref());
        let (written, change) = match plan {
            Plan::Keep => {
                self.agreed = Some(authority);
                return Ok(false);
            }
            Plan::Create(object, change) => (self.api.create(&params(), &object).await?, change),
            Plan::Replace(object, change) => {
                (self.api.replace(&self.registration.name, &params(), &object).await?, change)
            }
        };
        self.agreed = Some(authority);
        self.report(&written, &change).await;
        self.saw(Some(written));
        Ok(true)
    }

    async fn report(&self, object: &ValidatingWebhookConfiguration, change: &Change) {
        let name = &self.registration.name;
        let about = object.object_ref(&());
        match change {
            Change::Registered => {
                tracing::info!(name, "webhook registered");
                self.events.normal(about, "WebhookRegistered", "the API server asks it about agents".to_owned()).await;
            }
            Change::Restored(what) => {
                tracing::warn!(name, what, "webhook configuration put back");
                self.events.warning(about, "WebhookRestored", format!("put back: {what}")).await;
            }
            Change::Authority => tracing::info!(name, "caBundle of the webhook configuration brought up to date"),
        }
    }
}

fn params() -> PostParams {
    PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() }
}

/// The `caBundle` of our webhook in a configuration.
fn published(configuration: &ValidatingWebhookConfiguration) -> Option<String> {
    let webhook = configuration.webhooks.iter().flatten().find(|webhook| webhook.name == WEBHOOK_NAME)?;
    let bundle = webhook.client_config.ca_bundle.as_ref()?;
    (!bundle.0.is_empty()).then(|| String::from_utf8_lossy(&bundle.0).into_owned())
}

/// What a write changes, for those who watch.
#[derive(Debug, PartialEq, Eq)]
enum Change {
    /// There is a webhook where there was none, or none that the API server could reach.
    Registered,
    /// Somebody had changed this.
    Restored(String),
    /// Ours changed.
    Authority,
}

#[derive(Debug, PartialEq)]
enum Plan {
    Keep,
    Create(Box<ValidatingWebhookConfiguration>, Change),
    Replace(Box<ValidatingWebhookConfiguration>, Change),
}

/// What is to be written. `authority`: `None` leaves that of the configuration alone.
fn plan(
    registration: &Registration,
    seen: Option<&ValidatingWebhookConfiguration>,
    authority: Option<&str>,
    known: bool,
    agreed: Option<&Option<Arc<str>>>,
) -> Plan {
    let bytes = authority.map(|authority| ByteString(authority.as_bytes().to_vec()));
    let Some(seen) = seen else {
        let mut metadata = ObjectMeta { name: Some(registration.name.clone()), ..ObjectMeta::default() };
        registration.name_installation(&mut metadata);
        let object = ValidatingWebhookConfiguration { metadata, webhooks: Some(vec![registration.webhook(bytes)]) };
        let change =
            if known { Change::Restored("the configuration was deleted".to_owned()) } else { Change::Registered };
        return Plan::Create(Box::new(object), change);
    };
    let webhooks = seen.webhooks.as_deref().unwrap_or_default();
    let ours = webhooks.iter().find(|webhook| webhook.name == WEBHOOK_NAME);
    let present = ours.and_then(|webhook| webhook.client_config.ca_bundle.clone());
    let desired = registration.webhook(bytes.or_else(|| present.clone()));
    let mut differences = ours.map_or_else(|| vec!["the webhook was gone"], |ours| differences(ours, &desired));
    if webhooks.iter().any(|webhook| webhook.name != WEBHOOK_NAME) {
        differences.push("webhooks that are not ours");
    }
    let mut object = seen.clone();
    if registration.name_installation(&mut object.metadata) {
        differences.push("the installation's namespace");
    }
    let change = match differences.as_slice() {
        [] => return Plan::Keep,
        ["caBundle"] if present.is_none() && agreed.is_none() => Change::Registered,
        ["caBundle"] if agreed.is_none_or(|agreed| agreed.as_deref() != authority) => Change::Authority,
        all => Change::Restored(all.join(", ")),
    };
    object.webhooks = Some(vec![desired]);
    Plan::Replace(Box::new(object), change)
}

/// The fields in which they differ, by the names that users know.
fn differences(seen: &ValidatingWebhook, desired: &ValidatingWebhook) -> Vec<&'static str> {
    let (from, to) = (&seen.client_config, &desired.client_config);
    let fields = [
        ("clientConfig", from.service != to.service || from.url != to.url),
        ("rules", seen.rules != desired.rules),
        ("failurePolicy", seen.failure_policy != desired.failure_policy),
        ("matchPolicy", seen.match_policy != desired.match_policy),
        ("matchConditions", seen.match_conditions != desired.match_conditions),
        ("namespaceSelector", seen.namespace_selector != desired.namespace_selector),
        ("objectSelector", seen.object_selector != desired.object_selector),
        ("sideEffects", seen.side_effects != desired.side_effects),
        ("timeoutSeconds", seen.timeout_seconds != desired.timeout_seconds),
        ("admissionReviewVersions", seen.admission_review_versions != desired.admission_review_versions),
        ("caBundle", from.ca_bundle != to.ca_bundle),
    ];
    let mut differing: Vec<_> = fields.iter().filter(|(_, differs)| *differs).map(|(name, _)| *name).collect();
    if differing.is_empty() && seen != desired {
        differing.push("a field that is not ours");
    }
    differing
}

#[cfg(test)]
#[path = "registration_tests.rs"]
mod tests;
