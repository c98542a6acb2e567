//! The `ValidatingWebhookConfiguration`: what the API server sends where, made and kept.
//!
//! Every replica watches it, since its `caBundle` decides which certificate may be served; the leader alone writes. It puts
//! back whatever is changed or deleted, says so in an Event, and writes nothing when nothing differs. While break glass is open
//! ([`super::break_glass`]) it keeps `failurePolicy: Ignore` in the place of `Fail`.
//!
//! Whoever may patch it may write what nobody can read. What we do not need of it is not read; the rest, where it cannot be
//! read, is not as it ought to be, and is replaced.

use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, RuleWithOperations, ServiceReference, ValidatingWebhook, ValidatingWebhookConfiguration,
    WebhookClientConfig,
};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::rbac::v1::ClusterRole;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, OwnerReference};
use kube::api::{Api, ObjectMeta, PostParams};
use kube::{Client, Resource as _};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::plan::{Change, Known, Plan, is_registered, plan, webhooks};
use super::break_glass::Setting;
use super::certificates::Certificates;
use super::routes::VALIDATE_PATH;
use crate::api::{FIELD_MANAGER, GROUP, Sent};
use crate::controller::answer::in_time;
use crate::controller::events::Events;
use crate::controller::installation::{Installation, LOOK_SOON, NAMESPACE_ANNOTATION, Other};
use crate::controller::lease::Leading;
use crate::controller::watch::watch_object;
use crate::telemetry::metrics;

mod plan;

/// The name of the configuration unless told otherwise.
pub const CONFIGURATION_NAME: &str = "sekuire-policy-controller";
/// What `failurePolicy` is, and what it is while break glass is open.
const FAIL: &str = "Fail";
const IGNORE: &str = "Ignore";
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
/// How often the clock is looked at, and an owner that is gone: neither has a watch.
const TICK: Duration = Duration::from_secs(5);
/// Before a write that failed is tried again, doubled up to the second value.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// How often it is said that the configuration is gone.
const REMIND: Duration = Duration::from_secs(300);

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
    /// ClusterRole that owns what is made here, so that it goes when that is uninstalled. What a chart made is the chart's.
    pub owner: Option<String>,
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

    /// Takes away the owners that are not ours. True if there were any.
    fn disown(&self, metadata: &mut ObjectMeta) -> bool {
        let Some(owners) = &mut metadata.owner_references else { return false };
        let before = owners.len();
        owners.retain(|owner| owner.kind == ClusterRole::kind(&()) && self.owner.as_ref() == Some(&owner.name));
        owners.len() != before
    }

    /// The webhook as it ought to be, every field that an API server would fill in given, so that what it gives back is equal
    /// when nobody changed it.
    fn webhook(&self, authority: Option<ByteString>, failure_policy: &str) -> ValidatingWebhook {
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
            failure_policy: Some(failure_policy.to_owned()),
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
    let watch = watch_object(client.clone(), None, &registration.name);
    let bundle = certificates.bundle();
    let keeper = Keeper {
        api: Api::all(client.clone()),
        owners: Api::all(client),
        installation,
        registration,
        certificates,
        events,
        leader,
        bundle,
        seen: None,
        known: false,
        agreed: None,
        glass: Setting::Absent,
        orphaned: false,
        missing: None,
    };
    shutdown.run_until_cancelled(keeper.run(std::pin::pin!(watch))).await;
}

/// What came of an attempt to put things right.
enum Step {
    /// Nothing is to be done.
    Rest,
    /// Another installation may lead, and that shows within seconds.
    Wait,
    /// There is no right to do what is to be done.
    Refused,
    /// Something was written.
    Written,
}

struct Keeper {
    api: Api<Sent<ValidatingWebhookConfiguration>>,
    owners: Api<Sent<ClusterRole>>,
    installation: Installation,
    registration: Registration,
    certificates: Arc<Certificates>,
    events: Events,
    leader: Leading,
    bundle: watch::Receiver<Option<Arc<str>>>,
    /// `None` until the watch has said whether there is one.
    seen: Option<Option<Sent<ValidatingWebhookConfiguration>>>,
    /// Whether there ever was one: its absence is then a deletion.
    known: bool,
    /// The authority when the configuration was last as it ought to be: should it differ after that and ours has not
    /// changed, somebody else changed it.
    agreed: Option<Option<Arc<str>>>,
    /// What was said last of break glass while this replica led.
    glass: Setting,
    /// That the owner is gone was said.
    orphaned: bool,
    /// When it was said last that it is gone, and may not be made.
    missing: Option<Instant>,
}

impl Keeper {
    async fn run<W>(mut self, mut watch: std::pin::Pin<&mut W>)
    where
        W: Stream<Item = Result<Option<Sent<ValidatingWebhookConfiguration>>, kube::Error>>,
    {
        let mut retry: Option<Duration> = None;
        loop {
            let pause = retry.unwrap_or(TICK);
            tokio::select! {
                event = watch.next() => match event {
                    Some(Ok(seen)) => self.saw(seen),
                    // nobody knows what it is now
                    Some(Err(_said)) => {
                        metrics().webhook_registered(false);
                        continue;
                    }
                    None => return,
                },
                more = self.leader.changed() => if !more { return },
                // The sender lives in `certificates`, which is held here.
                _ = self.bundle.changed() => {}
                () = tokio::time::sleep(pause) => {}
            }
            retry = self.lead(retry).await;
        }
    }

    /// Puts things right if this replica leads. Says when to try again.
    async fn lead(&mut self, last: Option<Duration>) -> Option<Duration> {
        if !self.leader.now() {
            // the next time it leads it says again what it finds
            self.glass = Setting::Absent;
            return None;
        }
        match self.step().await {
            Ok(Step::Rest) => None,
            Ok(Step::Wait) => Some(LOOK_SOON),
            Ok(Step::Refused) => Some(RETRY.1),
            Ok(Step::Written) => {
                tokio::time::sleep(PAUSE).await;
                None
            }
            // It moved under us: the watch brings how.
            Err(kube::Error::Api(status)) if status.code == 409 => Some(RETRY.0),
            Err(error) => {
                tracing::warn!(%error, name = self.registration.name, "webhook configuration not written");
                Some(last.map_or(RETRY.0, |last| (last * 2).min(RETRY.1)))
            }
        }
    }

    fn saw(&mut self, seen: Option<Sent<ValidatingWebhookConfiguration>>) {
        self.known |= seen.is_some();
        self.missing = self.missing.filter(|_| seen.is_none());
        // of one that cannot be read nothing else is known than before
        if seen.as_ref().is_none_or(|seen| seen.object.is_ok()) {
            self.certificates.saw_published(seen.as_ref().and_then(published).as_deref());
        }
        let glass = Setting::of(seen.as_ref().and_then(|seen| seen.metadata.annotations.as_ref()), Timestamp::now());
        metrics().webhook_registered(is_registered(&self.registration, seen.as_ref(), &glass));
        self.seen = Some(seen);
    }

    /// Writes what differs.
    async fn step(&mut self) -> Result<Step, kube::Error> {
        let Some(seen) = self.seen.clone() else { return Ok(Step::Rest) };
        match self.installation.other(seen.as_ref()).await {
            Other::Nobody => {}
            Other::Leads(_) => return Ok(Step::Rest),
            Other::Perhaps(_) => return Ok(Step::Wait),
        }
        let authority = self.bundle.borrow_and_update().clone();
        let setting = Setting::of(seen.as_ref().and_then(|seen| seen.metadata.annotations.as_ref()), Timestamp::now());
        let was_open = matches!(self.glass, Setting::Open(_));
        let known = Known { ever: self.known, agreed: self.agreed.as_ref(), glass: &setting, was_open };
        let plan = plan(&self.registration, seen.as_ref(), authority.as_deref(), &known);
        let (written, change) = match plan {
            Plan::Keep => {
                self.agreed = Some(authority);
                self.tell(seen.as_ref(), setting).await;
                return Ok(Step::Rest);
            }
            Plan::Create(mut object, change) => {
                let Some(owners) = self.owners().await? else { return Ok(Step::Rest) };
                object.metadata.owner_references = owners;
                match in_time(self.api.create(&params(), &Sent::from(*object))).await {
                    Err(kube::Error::Api(status)) if status.code == 403 => {
                        self.missing(&status.message).await;
                        return Ok(Step::Refused);
                    }
                    created => (created?, change),
                }
            }
            Plan::Replace(object, change) => {
                let object = Sent::from(*object);
                (in_time(self.api.replace(&self.registration.name, &params(), &object)).await?, change)
            }
        };
        self.agreed = Some(authority);
        self.saw(Some(written.clone()));
        // only now: what stops or begins enforcement waits for no Event
        self.tell(seen.as_ref(), setting).await;
        self.report(&written, &change).await;
        Ok(Step::Written)
    }

    /// The owner of what is about to be made, if one was named. `None`: it is gone, and so is whoever installed this: nothing
    /// is to be made that nobody would remove.
    async fn owners(&mut self) -> Result<Option<Option<Vec<OwnerReference>>>, kube::Error> {
        let Some(name) = &self.registration.owner else { return Ok(Some(None)) };
        let role = in_time(self.owners.get_opt(name)).await?.filter(|role| role.metadata.deletion_timestamp.is_none());
        let owner = role.and_then(|role| role.owner_ref(&()));
        if owner.is_none() && !self.orphaned {
            tracing::warn!(owner = %name, "no webhook configuration is made: its owner is gone, as when it is uninstalled");
        }
        self.orphaned = owner.is_none();
        Ok(owner.map(|owner| Some(vec![owner])))
    }

    /// Says that there is no configuration, so that no agent is refused, and that this program may not make one.
    async fn missing(&mut self, why: &str) {
        if self.missing.is_some_and(|said| said.elapsed() < REMIND) {
            return;
        }
        let first = self.missing.replace(Instant::now()).is_none();
        let name = &self.registration.name;
        let advice = "install it again with the chart (`helm upgrade`), or give the right to make it \
                      (webhook.recreate=true)";
        tracing::error!(name, error = why, advice, "the webhook configuration is gone: no agent is refused");
        if first {
            let about = ObjectReference {
                api_version: Some(ValidatingWebhookConfiguration::api_version(&()).into_owned()),
                kind: Some(ValidatingWebhookConfiguration::kind(&()).into_owned()),
                name: Some(name.clone()),
                ..ObjectReference::default()
            };
            let note = format!("it is gone, so that no agent is refused, and the controller may not make it: {advice}");
            self.events.warning(about, "WebhookMissing", note).await;
        }
    }

    /// Says what becomes of break glass.
    async fn tell(&mut self, object: Option<&Sent<ValidatingWebhookConfiguration>>, now: Setting) {
        let before = std::mem::replace(&mut self.glass, now);
        let Some(object) = object.filter(|_| before != self.glass) else { return };
        let about = object.object_ref(&());
        match (&before, &self.glass) {
            (_, Setting::Open(open)) => {
                let note = format!("nothing is enforced {open}");
                self.events.warning(about, "BreakGlassOpened", note).await;
            }
            (_, Setting::Refused(why)) => self.events.warning(about, "BreakGlassRefused", why.clone()).await,
            (Setting::Open(open), Setting::Absent) | (_, Setting::Over(open)) => {
                let note = format!("rules are enforced again; it was open {open}");
                self.events.normal(about, "BreakGlassClosed", note).await;
            }
            _ => {}
        }
    }

    async fn report(&self, object: &Sent<ValidatingWebhookConfiguration>, change: &Change) {
        let name = &self.registration.name;
        match change {
            Change::Registered => {
                tracing::info!(name, "webhook registered");
                let note = "the API server asks it about agents".to_owned();
                self.events.normal(object.object_ref(&()), "WebhookRegistered", note).await;
            }
            Change::Restored(what) => {
                metrics().webhook_restored();
                tracing::warn!(name, changed = what, "webhook configuration put back");
                self.events.warning(object.object_ref(&()), "WebhookRestored", format!("put back: {what}")).await;
            }
            Change::Authority | Change::BreakGlass => {
                tracing::info!(name, changed = ?change, "webhook configuration brought up to date");
            }
        }
    }
}

fn params() -> PostParams {
    PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() }
}

/// The `caBundle` of our webhook in a configuration.
fn published(configuration: &Sent<ValidatingWebhookConfiguration>) -> Option<String> {
    let webhook = webhooks(configuration).iter().find(|webhook| webhook.name == WEBHOOK_NAME)?;
    let bundle = webhook.client_config.ca_bundle.as_ref()?;
    (!bundle.0.is_empty()).then(|| String::from_utf8_lossy(&bundle.0).into_owned())
}
