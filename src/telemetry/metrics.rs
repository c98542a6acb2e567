//! What happens, counted.
//!
//! One set for the process, as the log is one: handing it to everything that counts would only add arguments. The children
//! that admission counts with are looked up once, so that a request costs a few atomic additions and no allocation.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use jiff::Timestamp;
use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use super::labels::{ChildFailure, Decided, Hook, Mode};
use super::repositories::RepositoryMetrics;
use super::watches::{WatchUp, Watches};
use crate::policy::Rule;

/// Seconds. A decision takes tens of microseconds; one that waits for the label of a namespace up to a second.
const LATENCIES: [f64; 15] =
    [0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];

/// What is watched.
const WATCHED: [&str; 11] = [
    "workspacepolicies",
    "signingkeys",
    "signingthresholds",
    "policyledgers",
    "policyrepositories",
    "namespaces",
    "secrets",
    "leases",
    "validatingwebhookconfigurations",
    "validatingadmissionpolicies",
    "validatingadmissionpolicybindings",
];

/// The kind of what is judged.
const KIND: &str = "Agent";

struct Admission {
    requests: IntCounter,
    duration: Histogram,
}

/// All that is counted.
pub struct Metrics {
    registry: Registry,
    /// By [`Decided`] and [`Mode`].
    admission: [[Admission; 4]; 3],
    violations: IntCounterVec,
    objects_restored: IntCounterVec,
    webhook_restored: IntCounter,
    webhook_registered: IntGauge,
    receiver: [IntCounter; 6],
    git_processes: [IntCounter; 5],
    git_sandbox: IntGaugeVec,
    events_dropped: IntCounter,
    watch_failures: IntCounterVec,
    watches: Watches,
    panics: IntCounterVec,
    trace_failures: IntCounter,
    /// Those of the leader; gone with it.
    repositories: ArcSwapOption<RepositoryMetrics>,
}

static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);

/// Those of this process.
pub fn metrics() -> &'static Metrics {
    &METRICS
}

impl Metrics {
    fn new() -> Metrics {
        let registry = Registry::new();
        let counter = |name, help| counter(&registry, name, help);
        let receiver = counters(
            &registry,
            "sekuire_receiver_requests_total",
            "Requests to the receiver, by what became of them.",
            "result",
            &Hook::ALL.map(Hook::as_str),
        );
        let git_processes = counters(
            &registry,
            "sekuire_git_process_failures_total",
            "Git processes that did not end in order.",
            "reason",
            &ChildFailure::ALL.map(ChildFailure::as_str),
        );
        Metrics {
            admission: admission(&registry),
            violations: violations(&registry),
            objects_restored: counters(
                &registry,
                "sekuire_objects_restored_total",
                "Objects of the controller that somebody else changed or deleted, and that were put back.",
                "kind",
                &["WorkspacePolicy", "PolicyLedger"],
            ),
            webhook_restored: counter(
                "sekuire_webhook_configuration_restored_total",
                "How often the webhook configuration was put back that somebody else had changed or deleted.",
            ),
            webhook_registered: webhook_registered(&registry),
            receiver: Hook::ALL.map(|hook| receiver.with_label_values(&[hook.as_str()])),
            git_processes: ChildFailure::ALL.map(|failure| git_processes.with_label_values(&[failure.as_str()])),
            git_sandbox: git_sandbox(&registry),
            events_dropped: counter(
                "sekuire_events_dropped_total",
                "Kubernetes Events that the API server did not take.",
            ),
            watch_failures: counters(
                &registry,
                "sekuire_watch_failures_total",
                "Lists and watches of the API server that failed and were begun again.",
                "resource",
                &WATCHED,
            ),
            watches: watches(&registry),
            panics: counters(
                &registry,
                "sekuire_panics_total",
                "Requests that were answered with an internal error, and documents that were refused, because of a fault of this program.",
                "server",
                &["webhook", "read API", "receiver", "metrics", "documents"],
            ),
            trace_failures: counter(
                "sekuire_trace_export_failures_total",
                "Batches of spans that the collector did not take.",
            ),
            repositories: ArcSwapOption::empty(),
            registry,
        }
    }

    /// An admission request was answered after `elapsed`.
    pub fn admission(&self, verdict: Decided, mode: Mode, elapsed: Duration) {
        let children = &self.admission[verdict as usize][mode as usize];
        children.requests.inc();
        children.duration.observe(elapsed.as_secs_f64());
    }

    /// An admission request was refused before its body had arrived.
    pub fn admission_unread(&self) {
        self.admission[Decided::Error as usize][Mode::Enforce as usize].requests.inc();
    }

    /// A request broke these rules, each named once.
    pub fn violations(&self, rules: &[&str], mode: Mode) {
        for rule in rules {
            self.violations.with_label_values(&[rule, mode.as_str()]).inc();
        }
    }

    /// An object of this kind was put back.
    pub fn object_restored(&self, kind: &'static str) {
        self.objects_restored.with_label_values(&[kind]).inc();
    }

    /// The webhook configuration was put back.
    pub fn webhook_restored(&self) {
        self.webhook_restored.inc();
    }

    /// Whether the API server is told to ask this installation about agents.
    pub fn webhook_registered(&self, registered: bool) {
        self.webhook_registered.set(registered.into());
    }

    /// The receiver has answered.
    pub fn hook(&self, hook: Hook) {
        self.receiver[hook as usize].inc();
    }

    /// A Git process did not end in order.
    pub fn git_process_failed(&self, failure: ChildFailure) {
        self.git_processes[failure as usize].inc();
    }

    /// Whether Git processes are kept from something (`part`) on this machine.
    pub fn git_sandbox(&self, part: &str, kept: bool) {
        self.git_sandbox.with_label_values(&[part]).set(kept.into());
    }

    /// An Event could not be published.
    pub fn event_dropped(&self) {
        self.events_dropped.inc();
    }

    /// A list or a watch failed.
    pub fn watch_failed(&self, resource: &str) {
        self.watch_failures.with_label_values(&[resource]).inc();
    }

    /// A watch begins. It is down until it is said to be up.
    pub fn watch_begins(&self, resource: &str) -> WatchUp {
        self.watches.begin(resource)
    }

    /// A request was answered with a 500, or a document refused, because of a panic.
    pub fn panicked(&self, server: &'static str) {
        self.panics.with_label_values(&[server]).inc();
    }

    /// Spans were lost.
    pub(super) fn trace_export_failed(&self) {
        self.trace_failures.inc();
    }

    /// Whoever begins to lead counts for the repositories, in place of whoever did before.
    pub fn leads(&self, metrics: Arc<RepositoryMetrics>) {
        self.repositories.store(Some(metrics));
    }

    /// Whoever stops leading takes its series along, unless another already counts.
    pub fn leads_no_more(&self, metrics: &Arc<RepositoryMetrics>) {
        let current = self.repositories.load();
        if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, metrics)) {
            self.repositories.compare_and_swap(&current, None);
        }
    }

    /// Everything counted so far.
    pub fn families(&self) -> Vec<MetricFamily> {
        let mut families = self.registry.gather();
        if let Some(repositories) = self.repositories.load().as_ref() {
            families.extend(repositories.families());
        }
        families
    }
}

/// Seconds since 1970.
pub(super) fn seconds(at: Timestamp) -> f64 {
    at.as_duration().as_secs_f64()
}

fn counter(registry: &Registry, name: &str, help: &str) -> IntCounter {
    let counter = built(IntCounter::new(name, help));
    register(registry, counter.clone());
    counter
}

fn webhook_registered(registry: &Registry) -> IntGauge {
    let help = "1 while the API server is told to ask this installation about every agent.";
    let gauge = built(IntGauge::new("sekuire_webhook_registered", help));
    register(registry, gauge.clone());
    gauge
}

fn watches(registry: &Registry) -> Watches {
    let help =
        "1 while this replica sees the objects of a resource: 0 from when a list or watch of it fails until one works.";
    let gauge = built(IntGaugeVec::new(Opts::new("sekuire_watch_up", help), &["resource"]));
    register(registry, gauge.clone());
    Watches::new(gauge)
}

fn git_sandbox(registry: &Registry) -> IntGaugeVec {
    let help = "1 where Git processes are kept from a part of the machine, 0 where its kernel cannot.";
    let gauges = built(IntGaugeVec::new(Opts::new("sekuire_git_sandbox", help), &["part"]));
    register(registry, gauges.clone());
    gauges
}

/// With a series for each of these values from the start: else the first increase of each would go unseen.
fn counters(registry: &Registry, name: &str, help: &str, label: &str, values: &[&str]) -> IntCounterVec {
    let counters = built(IntCounterVec::new(Opts::new(name, help), &[label]));
    for value in values {
        counters.with_label_values(&[value]);
    }
    register(registry, counters.clone());
    counters
}

fn admission(registry: &Registry) -> [[Admission; 4]; 3] {
    let labels = ["kind", "decision", "mode"];
    let help = "Admission requests, by what was decided and what that does in the namespace.";
    let requests = built(IntCounterVec::new(Opts::new("sekuire_admission_requests_total", help), &labels));
    let help = "From the arrived body of an admission request to its answer.";
    let durations = histograms("sekuire_admission_duration_seconds", help, &labels, &LATENCIES);
    register(registry, requests.clone());
    register(registry, durations.clone());
    Decided::ALL.map(|decided| {
        Mode::ALL.map(|mode| {
            let values = [KIND, decided.as_str(), mode.as_str()];
            let (requests, duration) = (requests.with_label_values(&values), durations.with_label_values(&values));
            Admission { requests, duration }
        })
    })
}

fn violations(registry: &Registry) -> IntCounterVec {
    let help = "Admission requests that broke a rule, by rule; one that breaks several counts for each.";
    let options = Opts::new("sekuire_admission_violations_total", help);
    let violations = built(IntCounterVec::new(options, &["rule", "mode"]));
    // as in `counters`
    for (rule, mode) in Rule::ALL.iter().flat_map(|rule| Mode::ALL.map(|mode| (rule, mode))) {
        violations.with_label_values(&[rule.as_str(), mode.as_str()]);
    }
    register(registry, violations.clone());
    violations
}

pub(super) fn histograms(name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> HistogramVec {
    built(HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), labels))
}

fn register(registry: &Registry, collector: impl Collector + 'static) {
    built(registry.register(Box::new(collector)));
}

#[expect(clippy::expect_used, reason = "names and labels are constants, each used once; a test reads all of them")]
pub(super) fn built<T>(made: Result<T, prometheus::Error>) -> T {
    made.expect("a metric with a valid name that is used once")
}
