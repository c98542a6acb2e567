//! The controller: observe, plan, execute.
//!
//! Every replica runs [`caches`], which keep the index true, and answers admission. One, by Lease, also leads
//! ([`lead`]): it looks at repositories, writes policies and marks, puts back what somebody else changed, and reports.

pub mod caches;
pub mod candidate;
pub mod documents;
pub mod events;
pub mod keys;
pub mod lead;
pub mod leader;
pub mod lease;
pub mod observe;
pub mod plan;
pub mod report;
pub mod repository;
pub mod status;
pub mod watch;

/// A revision as Flux writes it: `main@sha1:` and the commit.
pub fn revision(branch: &str, commit: &str) -> String {
    format!("{branch}@sha1:{commit}")
}
