//! What goes back to the API server.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::StatusCode;
use serde::Serialize;

use super::{API_VERSION, Answer, Head, KIND, RESOURCE};
use crate::admission::denial::{self, Cause};
use crate::admission::mode::{Spared, Verdict};
use crate::admission::warnings;
use crate::api::GROUP;
use crate::policy::Decision;

/// Bytes of one annotation of the audit event.
const MAX_AUDIT_BYTES: usize = 2048;

/// The answer to a decision, and what follows from it. `note` is one more sentence for a denial: what the caller should know
/// of how it came about.
#[must_use]
pub fn answer(head: &Head<'_>, decision: &Decision, verdict: &Verdict, note: Option<&str>) -> Answer {
    let notes = match verdict {
        Verdict::Admitted if decision.allowed => return allow(&head.uid, &decision.warnings),
        Verdict::Spared(spared) => return spare(head, decision, spared),
        // nothing else admits what the decision refuses
        Verdict::Admitted => &Vec::new(),
        Verdict::Refused(notes) => notes,
    };
    let notes: Vec<&str> = notes.iter().map(String::as_str).chain(note).collect();
    let notes = notes.join("\n");
    let note = Some(notes.as_str()).filter(|notes| !notes.is_empty());
    let denial = denial::describe(&head.namespace, &head.name, decision, note);
    refuse(head, &Refuse { code: 403, reason: "Forbidden", message: &denial.message, causes: &denial.causes })
}

/// Lets in what the decision refuses: with warnings for whoever asked, and with annotations of the audit event.
fn spare(head: &Head<'_>, decision: &Decision, spared: &Spared) -> Answer {
    let warnings = warnings::of(&head.namespace, &head.name, decision, spared);
    let mut annotations = audit(spared);
    if let Some(policy) = &decision.policy {
        annotations.insert("policy", format!("{} version {}", policy.policy_id, policy.version));
    }
    let violations = decision.violations.iter().map(|violation| format!("{} [{}]", violation.field, violation.rule));
    let mut violations = violations.collect::<Vec<_>>().join(", ");
    violations.truncate(violations.floor_char_boundary(MAX_AUDIT_BYTES));
    annotations.insert("violations", violations);
    admit(&head.uid, &warnings, annotations)
}

/// Lets in what would have been refused for `why` without being judged, since enforcement is stopped.
#[must_use]
pub fn spare_unjudged(head: &Head<'_>, why: &str, spared: &Spared) -> Answer {
    let warnings = warnings::unjudged(why, spared);
    let mut annotations = audit(spared);
    annotations.insert("unjudged", why[..why.floor_char_boundary(MAX_AUDIT_BYTES)].to_owned());
    admit(&head.uid, &warnings, annotations)
}

/// Annotations of the audit event, whose names the API server prefixes with that of the webhook.
fn audit(spared: &Spared) -> BTreeMap<&'static str, String> {
    let mut annotations = BTreeMap::from([("decision", "deny".to_owned()), ("mode", spared.as_str().to_owned())]);
    if let Spared::BreakGlass(open) = spared {
        annotations.insert("break-glass", open.to_string());
    }
    annotations
}

/// The answer while it is not known what is enforced: nobody is let in, and told why.
#[must_use]
pub fn not_ready(head: &Head<'_>, waiting_for: &str) -> Answer {
    let message = format!(
        "this replica of the policy controller is not ready and admits no agent until it is: {waiting_for}; try again shortly"
    );
    refuse(head, &Refuse { code: 503, reason: "ServiceUnavailable", message: &message, causes: &[] })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResponseOut<'a> {
    uid: &'a str,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<StatusOut<'a>>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    warnings: &'a [String],
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    audit_annotations: BTreeMap<&'static str, String>,
}

#[derive(Serialize)]
struct StatusOut<'a> {
    status: &'static str,
    code: u16,
    reason: &'static str,
    message: &'a str,
    details: DetailsOut<'a>,
}

#[derive(Serialize)]
struct DetailsOut<'a> {
    name: &'a str,
    group: &'static str,
    kind: &'static str,
    #[serde(skip_serializing_if = "<[Cause<'_>]>::is_empty")]
    causes: &'a [Cause<'a>],
}

pub(super) struct Refuse<'a> {
    pub(super) code: u16,
    pub(super) reason: &'static str,
    pub(super) message: &'a str,
    pub(super) causes: &'a [Cause<'a>],
}

pub(super) fn allow(uid: &str, warnings: &[String]) -> Answer {
    admit(uid, warnings, BTreeMap::new())
}

fn admit(uid: &str, warnings: &[String], audit_annotations: BTreeMap<&'static str, String>) -> Answer {
    json(&ResponseOut { uid, allowed: true, status: None, warnings, audit_annotations })
}

pub(super) fn refuse(head: &Head<'_>, refuse: &Refuse<'_>) -> Answer {
    let details = DetailsOut { name: &head.name, group: GROUP, kind: RESOURCE, causes: refuse.causes };
    let status =
        StatusOut { status: "Failure", code: refuse.code, reason: refuse.reason, message: refuse.message, details };
    let audit_annotations = BTreeMap::new();
    json(&ResponseOut { uid: &head.uid, allowed: false, status: Some(status), warnings: &[], audit_annotations })
}

fn json(response: &ResponseOut<'_>) -> Answer {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Out<'a> {
        api_version: &'static str,
        kind: &'static str,
        response: &'a ResponseOut<'a>,
    }
    match serde_json::to_vec(&Out { api_version: API_VERSION, kind: KIND, response }) {
        Ok(body) => Answer { status: StatusCode::OK, content_type: "application/json", body: Bytes::from(body) },
        // Strings, numbers and lists always serialise; should that ever change, the API server refuses on a 500.
        Err(error) => Answer::plain(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}
