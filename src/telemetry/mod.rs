//! What operators watch: metrics, the log and traces.
//!
//! ```text
//! webhook, controller, receiver ──▶ metrics (counted as it happens) ─┐
//! PolicyIndex, watches, Lease, certificates ──▶ state (at a scrape) ─┴▶ exposition ──HTTP──▶ Prometheus
//! tracing::{info!, …}  ──▶ log  ──▶ stderr
//! trace::… spans       ──▶ otlp ──▶ collector
//! ```
//!
//! What *is* (policies, keys, certificates, who leads) is read at each scrape from where it is true anyway, so that a series
//! of something that is gone cannot stay. Only what *happens* is counted. Nothing of this is known to the pure core.

pub mod exposition;
pub mod labels;
pub mod log;
pub mod metrics;
mod otlp;
mod process;
mod rationed;
mod repositories;
mod state;
pub mod trace;
mod watches;

pub use exposition::Exposition;
pub use labels::{Decided, Mode};
pub use metrics::metrics;
pub use rationed::Rationed;
pub use repositories::RepositoryMetrics;
pub use state::Sources;
pub use watches::WatchUp;

/// The commit that this program was built from, as its image says.
pub fn revision() -> String {
    std::env::var("SEKUIRE_REVISION").ok().filter(|revision| !revision.is_empty()).unwrap_or_else(|| "unknown".into())
}
