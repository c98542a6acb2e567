//! What the leader counts of the repositories.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use prometheus::core::Collector as _;
use prometheus::proto::MetricFamily;
use prometheus::{GaugeVec, HistogramVec, IntCounterVec, Opts};

use super::metrics::{built, histograms, seconds};

/// Seconds. From a look that finds nothing new to the longest `spec.timeout` that anybody sets.
const SYNCS: [f64; 10] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0];

/// What the leader counts, by repository. Held by the leader: what an older one still does changes nothing that is shown.
pub struct RepositoryMetrics {
    syncs: IntCounterVec,
    duration: HistogramVec,
    last_success: GaugeVec,
    skipped: IntCounterVec,
    /// The reasons that each repository has a series for, so that they can be deleted.
    reasons: Mutex<BTreeMap<String, Vec<&'static str>>>,
}

impl Default for RepositoryMetrics {
    fn default() -> Self {
        let counters = |name, help, labels: &[&str]| built(IntCounterVec::new(Opts::new(name, help), labels));
        RepositoryMetrics {
            syncs: counters(
                "sekuire_repository_syncs_total",
                "Looks at a repository, by result: Succeeded or the reason of its Ready condition.",
                &["repository", "reason"],
            ),
            duration: histograms(
                "sekuire_repository_sync_duration_seconds",
                "From the beginning of a look at a repository to the end of what follows from it.",
                &["repository"],
                &SYNCS,
            ),
            last_success: built(GaugeVec::new(
                Opts::new(
                    "sekuire_repository_last_success_timestamp_seconds",
                    "When a repository was last fetched and applied.",
                ),
                &["repository"],
            )),
            skipped: counters(
                "sekuire_repository_skipped_commits_total",
                "Commits that were not read, because there were too many at once or one was malformed.",
                &["repository"],
            ),
            reasons: Mutex::default(),
        }
    }
}

impl RepositoryMetrics {
    /// A repository was looked at. `reason`: why it did not succeed; `fetched`: whether the network was asked.
    pub fn looked(&self, repository: &str, reason: Option<&'static str>, fetched: bool, elapsed: Duration) {
        let result = reason.unwrap_or("Succeeded");
        let mut reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        let known = reasons.entry(repository.to_owned()).or_default();
        if !known.contains(&result) {
            known.push(result);
        }
        self.syncs.with_label_values(&[repository, result]).inc();
        self.skipped.with_label_values(&[repository]);
        self.duration.with_label_values(&[repository]).observe(elapsed.as_secs_f64());
        if reason.is_none() && fetched {
            self.last_success.with_label_values(&[repository]).set(seconds(Timestamp::now()));
        }
    }

    /// Commits of a repository were passed over.
    pub fn skipped(&self, repository: &str, commits: usize) {
        self.skipped.with_label_values(&[repository]).inc_by(u64::try_from(commits).unwrap_or(u64::MAX));
    }

    /// A repository is gone, and so are its series.
    pub fn forget(&self, repository: &str) {
        let reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner).remove(repository);
        for reason in reasons.unwrap_or_default() {
            // it is absent only if it was never counted
            let _ = self.syncs.remove_label_values(&[repository, reason]);
        }
        let _ = self.duration.remove_label_values(&[repository]);
        let _ = self.last_success.remove_label_values(&[repository]);
        let _ = self.skipped.remove_label_values(&[repository]);
    }

    pub(super) fn families(&self) -> Vec<MetricFamily> {
        let all: [Vec<MetricFamily>; 4] =
            [self.syncs.collect(), self.duration.collect(), self.last_success.collect(), self.skipped.collect()];
        all.into_iter().flatten().filter(|family| !family.get_metric().is_empty()).collect()
    }
}
