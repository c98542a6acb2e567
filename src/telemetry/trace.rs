//! Spans, for a collector of traces: from the request to the decision, and from the fetch to what was applied.
//!
//! Without an endpoint nobody listens to this target, and no span is made.

use std::sync::atomic::{AtomicBool, Ordering};

use http::HeaderMap;
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::TraceContextExt as _;
use opentelemetry_http::HeaderExtractor;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing::field::Empty;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use super::labels::{Decided, Mode};
use crate::git::shown;

/// The target of all spans. The log leaves it out.
pub const TARGET: &str = "sekuire_trace";

/// Whether anybody listens.
static ACTIVE: AtomicBool = AtomicBool::new(false);

/// From now on there is a collector.
pub(super) fn activate() {
    ACTIVE.store(true, Ordering::Relaxed);
}

/// An admission request. Its parent is what its header `traceparent` names: an API server that traces says there what the
/// user's request was.
pub fn admission(headers: &HeaderMap) -> Span {
    let span = tracing::info_span!(
        target: TARGET, "admission.review", otel.kind = "server", namespace = Empty, name = Empty, operation = Empty,
        request_uid = Empty, workspace = Empty, decision = Empty, mode = Empty, policy_id = Empty, version = Empty,
    );
    if !span.is_disabled() && headers.contains_key("traceparent") {
        let parent = TraceContextPropagator::new().extract(&HeaderExtractor(headers));
        // it fails where nobody listens, and then nobody misses it
        let _ = span.set_parent(parent);
    }
    span
}

/// The look-up and the decision within an admission request.
pub fn decide() -> Span {
    tracing::info_span!(target: TARGET, "policy.decide")
}

/// Who asks, on the span of the request. Spans wait in memory for the collector: nothing of them may be long.
pub fn asked(namespace: &str, name: &str, operation: &str, uid: &str) {
    on_current(|span| {
        span.record("namespace", shown(namespace));
        span.record("name", shown(name));
        span.record("operation", shown(operation));
        span.record("request_uid", shown(uid));
    });
}

/// What was decided, on the span of the request.
pub fn decided(verdict: Decided, mode: Mode, workspace: Option<&str>, policy: Option<(&str, &str)>) {
    on_current(|span| {
        span.record("decision", verdict.as_str());
        span.record("mode", mode.as_str());
        if let Some(workspace) = workspace {
            span.record("workspace", workspace);
        }
        if let Some((policy_id, version)) = policy {
            span.record("policy_id", policy_id);
            span.record("version", version);
        }
    });
}

/// The id of the present trace, for a line of the log, if there is one.
pub fn id() -> Option<String> {
    let mut id = None;
    on_current(|span| {
        let context = span.context();
        let of_span = context.span().span_context().clone();
        id = of_span.is_valid().then(|| of_span.trace_id().to_string());
    });
    id
}

/// A look at a repository.
pub fn look(repository: &str, cause: &'static str) -> Span {
    tracing::info_span!(target: TARGET, "repository.look", repository, cause, commit = Empty, reason = Empty)
}

/// What a look found, on its span.
pub fn looked(revision: Option<&str>, reason: &'static str) {
    on_current(|span| {
        if let Some(revision) = revision {
            span.record("commit", revision);
        }
        span.record("reason", reason);
    });
}

/// The Git process that fetches.
pub fn fetch(repository: &str, offline: bool) -> Span {
    tracing::info_span!(target: TARGET, "git.fetch", otel.kind = "client", repository, offline)
}

/// The verification of the documents that a look found.
pub fn verify(documents: usize) -> Span {
    tracing::info_span!(target: TARGET, "documents.verify", documents)
}

/// One workspace, from the plan to what was written.
pub fn workspace(object: &str) -> Span {
    tracing::info_span!(target: TARGET, "workspace.reconcile", name = object)
}

/// What is to be done for a workspace.
pub fn plan() -> Span {
    tracing::info_span!(target: TARGET, "workspace.plan")
}

/// A write of one object of a workspace.
pub fn write(kind: &'static str) -> Span {
    tracing::info_span!(target: TARGET, "workspace.apply", otel.kind = "client", kind)
}

fn on_current(record: impl FnOnce(&Span)) {
    if !ACTIVE.load(Ordering::Relaxed) {
        return;
    }
    let span = Span::current();
    if !span.is_disabled() && span.metadata().is_some_and(|metadata| metadata.target() == TARGET) {
        record(&span);
    }
}
