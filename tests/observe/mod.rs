//! What operators watch: metrics in a real Prometheus, alerts and dashboard, the log, traces in a collector.

mod log;
mod metrics;
mod prometheus;
mod rules;
mod source;
pub(crate) mod support;
mod traces;
