//! What is, at the moment of a scrape: read from the index, the watches, the Lease and the certificates.
//!
//! Every replica says what it holds itself. They agree but for moments; a query takes the `max by` of them.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use prometheus::core::Collector as _;
use prometheus::proto::MetricFamily;
use prometheus::{GaugeVec, Opts};
use tokio::sync::watch::Receiver;

use super::metrics::{built, seconds};
use crate::admission::Certificates;
use crate::admission::certificates::Life;
use crate::admission::index::{Enforced, PolicyIndex};
use crate::api::{Moment, PolicyRepository, SigningKey, conditions};
use crate::controller::caches::Repositories;
use crate::controller::keys::{self, Keys};
use crate::controller::lease::Leading;
use crate::policy::{self, Reason, Status};

/// Where it is read.
pub struct Sources {
    /// Policies and watches.
    pub index: Arc<PolicyIndex>,
    /// Keys.
    pub keys: Arc<Mutex<Keys>>,
    /// Repositories.
    pub repositories: Receiver<Repositories>,
    /// Certificates of the webhook.
    pub certificates: Arc<Certificates>,
    /// Who leads.
    pub leading: Leading,
}

/// The series of one gauge: values of its labels, and its own.
type Series = Vec<(Vec<String>, f64)>;

/// A gauge that is made for this scrape. No series, no family: Prometheus has no use for one.
pub(super) fn gauges(
    name: &str,
    help: &str,
    labels: &[&str],
    series: impl IntoIterator<Item = (Vec<String>, f64)>,
) -> Vec<MetricFamily> {
    let gauge = built(GaugeVec::new(Opts::new(name, help), labels));
    for (values, value) in series {
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        gauge.with_label_values(&values).set(value);
    }
    gauge.collect().into_iter().filter(|family| !family.get_metric().is_empty()).collect()
}

const fn flag(set: bool) -> f64 {
    if set { 1.0 } else { 0.0 }
}

impl Sources {
    /// All of it.
    pub(super) fn families(&self, now: Timestamp) -> Vec<MetricFamily> {
        let mut all = self.replica(now);
        all.extend(self.policies(now));
        all.extend(self.repositories());
        all.extend(self.keys(now));
        all
    }

    fn replica(&self, now: Timestamp) -> Vec<MetricFamily> {
        let one = |value: f64| [(Vec::new(), value)];
        let build = vec![env!("CARGO_PKG_VERSION").to_owned(), super::revision()];
        let labels = ["version", "revision"];
        let mut all = gauges("sekuire_build_info", "Version and commit of this program.", &labels, [(build, 1.0)]);
        let leads = one(flag(self.leading.now()));
        all.extend(gauges("sekuire_leader", "1 for the replica that leads.", &[], leads));
        let ready = one(flag(self.index.ready().is_ok()));
        let help = "1 while this replica answers admission requests from complete and living caches.";
        all.extend(gauges("sekuire_ready", help, &[], ready));
        all.extend(self.rollout(now));
        let heard = self.index.liveness.silences().filter_map(|(resource, silence)| {
            let at = silence.and_then(|silence| now.checked_sub(silence).ok())?;
            Some((vec![resource.to_owned()], seconds(at)))
        });
        let help = "When a watch of the API server last said something; after 300 s of silence a replica is unready.";
        all.extend(gauges("sekuire_watch_last_heard_timestamp_seconds", help, &["resource"], heard));
        let (leaf, authority) = self.certificates.lives(now);
        let lives = [("serving", leaf), ("authority", authority)];
        let lives: Vec<_> = lives.into_iter().filter_map(|(which, life)| Some((which, life?))).collect();
        let of = |time: fn(&Life) -> Timestamp| -> Series {
            lives.iter().map(|(which, life)| (vec![(*which).to_owned()], seconds(time(life)))).collect()
        };
        let help = "When the webhook's certificate ends, and the last authority that vouches for it.";
        all.extend(gauges("sekuire_certificate_expiry_timestamp_seconds", help, &["certificate"], of(|life| life.end)));
        let help = "When their validity began.";
        all.extend(gauges(
            "sekuire_certificate_start_timestamp_seconds",
            help,
            &["certificate"],
            of(|life| life.start),
        ));
        all
    }

    fn rollout(&self, now: Timestamp) -> Vec<MetricFamily> {
        let open = self.index.break_glass.open(now);
        let help = "1 while break glass has stopped enforcement.";
        let mut all = gauges("sekuire_break_glass_open", help, &[], [(Vec::new(), flag(open.is_some()))]);
        let end = open.map(|open| (Vec::new(), seconds(open.until)));
        all.extend(gauges("sekuire_break_glass_end_timestamp_seconds", "When break glass ends by itself.", &[], end));
        let labels = &self.index.label_policy;
        let obeyed = labels.is_named().then(|| (Vec::new(), flag(labels.in_force().is_ok())));
        let help =
            "1 while the labels of namespaces are protected, so that warn and audit are obeyed (--label-policy).";
        all.extend(gauges("sekuire_label_policy_in_force", help, &[], obeyed));
        all
    }

    fn policies(&self, now: Timestamp) -> Vec<MetricFamily> {
        let (mut info, mut ready, mut active) = (Series::new(), Series::new(), Series::new());
        let (mut expiry, mut accepted) = (Series::new(), Series::new());
        for name in self.index.names() {
            let view = self.index.view(&name);
            let held = view.held.as_ref();
            let ledger = view.ledger.as_ref().map(|ledger| &ledger.spec);
            let workspace =
                held.map(|held| held.policy.workspace_id()).or(ledger.map(|ledger| ledger.workspace.as_str()));
            let Some(workspace) = workspace else { continue };
            let labels = || vec![workspace.to_owned()];
            let in_force = match self.index.enforced(workspace) {
                Enforced::Policy { policy, .. } => policy::unfit(&policy, workspace, now).is_none(),
                Enforced::None { .. } => false,
            };
            ready.push((labels(), flag(in_force)));
            // of a policy whose key no longer counts, a replica that starts later holds nothing: the mark is what it knows
            let lifecycle = ledger.map(|ledger| ledger.lifecycle).or(held.map(|held| held.policy.status()));
            active.push((labels(), flag(lifecycle == Some(Status::Active))));
            if let Some(at) = ledger.and_then(|ledger| ledger.accepted_at.as_ref()) {
                accepted.push((labels(), seconds(at.0)));
            }
            let Some(held) = held else { continue };
            let source = held.source.clone().unwrap_or_default();
            let policy = &held.policy;
            let (id, version, key) = (policy.policy_id(), policy.version().to_string(), policy.signing_key_id());
            let values = [workspace, id, &version, policy.status().as_str(), key, &source.repository, &source.commit];
            info.push((values.map(str::to_owned).to_vec(), 1.0));
            if let Some(end) = policy.expires_at() {
                expiry.push((labels(), seconds(end)));
            }
        }
        let of = ["workspace"];
        let labels = ["workspace", "policy_id", "version", "lifecycle", "key_id", "repository", "commit"];
        let mut all = gauges("sekuire_policy_info", "The policy that is held for a workspace.", &labels, info);
        let help = "1 while a policy is in force in the workspace; 0: it admits no agent.";
        all.extend(gauges("sekuire_policy_ready", help, &of, ready));
        let help = "1 while the version that is marked is active; 0: it is archived.";
        all.extend(gauges("sekuire_policy_active", help, &of, active));
        all.extend(gauges(
            "sekuire_policy_expiry_timestamp_seconds",
            "When the policy expires, if it does.",
            &of,
            expiry,
        ));
        let help = "When the version that is marked was accepted.";
        all.extend(gauges("sekuire_policy_accepted_timestamp_seconds", help, &of, accepted));
        all
    }

    fn repositories(&self) -> Vec<MetricFamily> {
        let all = self.repositories.borrow().clone().unwrap_or_default();
        let condition = |type_: &'static str| -> Series {
            let is = |repository: &PolicyRepository| {
                let status = repository.status.as_ref();
                status
                    .and_then(|status| conditions::find(&status.conditions, type_))
                    .is_some_and(|c| c.status == "True")
            };
            all.iter().map(|(name, repository)| (vec![name.clone()], flag(is(repository)))).collect()
        };
        let of = ["repository"];
        let mut families =
            gauges("sekuire_repository_ready", "Condition Ready of the PolicyRepository.", &of, condition("Ready"));
        let help = "1: only a change of the PolicyRepository, its Secret or the repository helps.";
        families.extend(gauges("sekuire_repository_stalled", help, &of, condition("Stalled")));
        let help = "1: no successful fetch for longer than spec.staleAfter.";
        families.extend(gauges("sekuire_repository_stale", help, &of, condition("Stale")));
        let suspended = all.iter().map(|(name, repository)| (vec![name.clone()], flag(repository.spec.suspended())));
        families.extend(gauges("sekuire_repository_suspended", "1 while spec.suspend is set.", &of, suspended));
        let documents = all.iter().flat_map(|(name, repository)| {
            let counts = repository.status.iter().flat_map(|status| status.documents.iter());
            let results = counts.flat_map(|counts| &counts.by_result);
            results.filter_map(move |result| {
                // whoever can write a status could put any word there: labels are of a closed set
                let reason: Reason = result.result.parse().ok()?;
                Some((vec![name.clone(), reason.as_str().to_owned()], f64::from(result.count)))
            })
        });
        let help = "Documents at the tip of a repository, by result: Verified, Superseded or why they are refused.";
        families.extend(gauges("sekuire_documents", help, &["repository", "reason"], documents));
        families
    }

    fn keys(&self, now: Timestamp) -> Vec<MetricFamily> {
        let keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let (ring, claims) = (keys.ring(), keys.claims());
        let labels = |key: &SigningKey| vec![key.metadata.name.clone().unwrap_or_default(), key.spec.key_id.clone()];
        let ready: Series = keys
            .objects()
            .map(|key| (labels(key), flag(keys::condition(&key.spec, &ring, &claims, now).status)))
            .collect();
        let end = |key: &SigningKey| key.spec.not_after.as_ref().and_then(Moment::at).map(seconds);
        let ends: Series = keys.objects().filter_map(|key| Some((labels(key), end(key)?))).collect();
        drop(keys);
        let of = ["signing_key", "key_id"];
        let mut all = gauges("sekuire_signing_key_ready", "1 while the key may sign.", &of, ready);
        let help = "When the key ends, and with it what it signed; absent if it has no end.";
        all.extend(gauges("sekuire_signing_key_expiry_timestamp_seconds", help, &of, ends));
        all
    }
}
