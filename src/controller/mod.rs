//! The controller: observe, plan, execute.
//!
//! Every replica runs [`caches`], which keep the index true, and answers admission. One, by Lease, also leads
//! ([`lead`]): it looks at repositories, writes policies and marks, puts back what somebody else changed, and reports.

use std::time::Duration;

use jiff::Timestamp;
use kube::Resource;
use kube::api::{Patch, PatchParams};
use serde::Serialize;
use serde_json::{Value, json};

use crate::api::FIELD_MANAGER;

pub mod accept;
pub mod access;
pub mod answer;
pub mod caches;
pub mod candidate;
pub mod credentials;
pub mod documents;
pub mod events;
pub mod hosts;
pub mod installation;
pub mod keys;
pub mod lead;
pub mod leader;
pub mod lease;
pub mod observe;
pub mod plan;
pub mod report;
pub mod repository;
pub mod retry;
pub mod rollout;
pub mod secrets;
pub mod status;
pub mod watch;

/// A revision as Flux writes it: the branch or the tag, as `main@sha1:` and the commit; or the commit alone.
pub fn revision(reference: &str, commit: &str) -> String {
    if reference.is_empty() { format!("sha1:{commit}") } else { format!("{reference}@sha1:{commit}") }
}

/// Longest sleep of a task that waits for a moment: it also bounds what a jump of the clock can delay.
const LONGEST_SLEEP: Duration = Duration::from_secs(10);

/// Sleeps until the clock shows `moment`, if there is one; never so long that a jump of the clock would go unseen.
async fn sleep_until(moment: Option<Timestamp>) {
    let until = moment.and_then(|at| Duration::try_from(at.duration_since(Timestamp::now())).ok());
    tokio::time::sleep(until.unwrap_or(LONGEST_SLEEP).clamp(Duration::from_millis(10), LONGEST_SLEEP)).await;
}

/// A server-side apply of one part (`spec` or `status`) of an object, which the API server takes only if the object is
/// still the one that this was decided on.
fn apply<K: Resource<DynamicType = ()>>(
    name: &str,
    resource_version: Option<&str>,
    part: &str,
    value: &impl Serialize,
) -> (PatchParams, Patch<Value>) {
    let object = json!({
        "apiVersion": K::api_version(&()), "kind": K::kind(&()),
        "metadata": {"name": name, "resourceVersion": resource_version},
        part: value,
    });
    (PatchParams::apply(FIELD_MANAGER).force(), Patch::Apply(object))
}
