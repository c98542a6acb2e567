//! AdmissionReview in, AdmissionReview out. Pure: no clock, no index, no I/O.
//!
//! The format is `admission.k8s.io/v1` (<https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/>).
//! It is read into types of its own instead of `kube::core::admission`: those own every string, read the user's groups, and
//! know an object only as a whole; here an agent that complies is read once, and only what is judged of it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::denial::{self, Cause};
use super::mode::{Spared, Verdict};
use super::warnings;
use crate::api::{GROUP, VERSION};
use crate::policy::{AgentSpec, Decision};

const API_VERSION: &str = "admission.k8s.io/v1";
const KIND: &str = "AdmissionReview";
const RESOURCE: &str = "agents";
const AGENT: &str = "Agent";
/// Bytes of one annotation of the audit event.
const MAX_AUDIT_BYTES: usize = 2048;

/// What goes back to the API server.
#[derive(Clone, Debug)]
pub struct Answer {
    /// 200 whenever the request could be read far enough to be answered with an AdmissionReview.
    pub status: StatusCode,
    /// `application/json`, or `text/plain` when it is not an AdmissionReview.
    pub content_type: &'static str,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// An answer in plain words to what is no AdmissionReview at all. The API server refuses the user's request then.
    #[must_use]
    pub fn plain(status: StatusCode, message: impl Into<String>) -> Answer {
        Answer { status, content_type: "text/plain; charset=utf-8", body: Bytes::from(message.into()) }
    }
}

impl<B: From<Bytes>> From<Answer> for Response<B> {
    fn from(answer: Answer) -> Response<B> {
        let mut response = Response::new(B::from(answer.body));
        *response.status_mut() = answer.status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
        response
    }
}

/// Who asks for what: everything of a request but the agent. Only names; `user` is logged and never believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head<'a> {
    /// The request's own id, echoed in the answer.
    pub uid: Cow<'a, str>,
    /// `CREATE` or `UPDATE` (or `DELETE`).
    pub operation: Cow<'a, str>,
    /// The namespace.
    pub namespace: Cow<'a, str>,
    /// The agent's name; `prefix*` when the API server is yet to make one up.
    pub name: Cow<'a, str>,
    /// Who asks.
    pub user: Cow<'a, str>,
}

/// A request as far as it could be understood.
#[derive(Debug)]
pub enum Request<'a> {
    /// An agent is to be judged.
    Judge(Head<'a>, Box<AgentSpec>),
    /// Nothing is to be judged; the reason is for the log.
    Settled(Option<Head<'a>>, Settled, Answer),
}

/// What was decided without judging an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    /// Let through: an agent can always be deleted.
    Allowed,
    /// Refused: the request is not one that this webhook is registered for, or not well-formed.
    Refused(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", bound(deserialize = "'de: 'a, O: Deserialize<'de>"))]
struct Review<'a, O> {
    #[serde(borrow, default)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    api_version: Cow<'a, str>,
    request: Option<ReviewRequest<'a, O>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", bound(deserialize = "'de: 'a, O: Deserialize<'de>"))]
struct ReviewRequest<'a, O> {
    #[serde(borrow, default)]
    uid: Cow<'a, str>,
    #[serde(borrow, default)]
    kind: Kind<'a>,
    #[serde(borrow, default)]
    resource: Resource<'a>,
    #[serde(borrow, default)]
    sub_resource: Cow<'a, str>,
    #[serde(borrow, default)]
    name: Cow<'a, str>,
    #[serde(borrow, default)]
    namespace: Cow<'a, str>,
    #[serde(borrow, default)]
    operation: Cow<'a, str>,
    #[serde(borrow, default)]
    user_info: UserInfo<'a>,
    object: Option<O>,
}

#[derive(Default, Deserialize)]
struct Kind<'a> {
    #[serde(borrow, default)]
    group: Cow<'a, str>,
    #[serde(borrow, default)]
    version: Cow<'a, str>,
    #[serde(borrow, default)]
    kind: Cow<'a, str>,
}

#[derive(Default, Deserialize)]
struct Resource<'a> {
    #[serde(borrow, default)]
    group: Cow<'a, str>,
    #[serde(borrow, default)]
    version: Cow<'a, str>,
    #[serde(borrow, default)]
    resource: Cow<'a, str>,
}

#[derive(Default, Deserialize)]
struct UserInfo<'a> {
    #[serde(borrow, default)]
    username: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Object<'a> {
    #[serde(borrow, default)]
    metadata: Metadata<'a>,
    spec: Option<Box<AgentSpec>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata<'a> {
    #[serde(borrow, default)]
    generate_name: Cow<'a, str>,
}

/// Reads the body of a request. What is not an AdmissionReview of v1 about an `Agent` of a version that is known here, or
/// an `Agent` with fields that the schema does not know, is refused in words that say what is accepted.
#[must_use]
pub fn read(body: &[u8]) -> Request<'_> {
    // In one go when all is well. What went wrong is found out in a second look.
    match serde_json::from_slice::<Review<'_, Object<'_>>>(body) {
        Ok(review) => match envelope(review) {
            Ok((head, object)) => agent(head, object),
            Err(settled) => settled,
        },
        Err(_) => read_again(body),
    }
}

fn read_again(body: &[u8]) -> Request<'_> {
    let review = match serde_json::from_slice::<Review<'_, &RawValue>>(body) {
        Ok(review) => review,
        Err(error) => {
            return unreadable(format!("the body is not an {KIND} of {API_VERSION} in JSON: {error}"));
        }
    };
    let (head, object) = match envelope(review) {
        Ok(read) => read,
        Err(settled) => return settled,
    };
    let Some(object) = object else { return agent(head, None) };
    match serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_str(object.get())) {
        Ok(object) => agent(head, Some(object)),
        Err(error) => {
            let field = error.path().to_string();
            let message = words(error.inner());
            invalid(head, &field, &message)
        }
    }
}

/// The error without its place: line and column are of a text that the caller never wrote.
fn words(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rfind(" at line ").map_or(text.as_str(), |end| &text[..end]).to_owned()
}

/// Everything but the object. Errors are settled requests, so that the caller has one way out.
#[expect(clippy::result_large_err, reason = "both sides are moved once and never stored")]
fn envelope<'a, O>(review: Review<'a, O>) -> Result<(Head<'a>, Option<O>), Request<'a>> {
    if review.kind != KIND || review.api_version != API_VERSION {
        let message = format!(
            "this is {:?} of {:?}; {KIND:?} of {API_VERSION:?} is accepted",
            &*review.kind, &*review.api_version
        );
        return Err(unreadable(message));
    }
    let Some(request) = review.request else {
        return Err(unreadable(format!("the {KIND} has no request")));
    };
    if request.uid.is_empty() {
        return Err(unreadable(format!("the request of the {KIND} has no uid")));
    }
    let head = Head {
        uid: request.uid,
        operation: request.operation,
        namespace: request.namespace,
        name: request.name,
        user: request.user_info.username,
    };
    match refusal(&head, &request.kind, &request.resource, &request.sub_resource) {
        Some(message) => Err(refused(head, message)),
        // Not matched by the registration; if it comes all the same, an agent must stay deletable whatever is enforced.
        None if head.operation == "DELETE" => {
            let answer = allow(&head.uid, &[]);
            Err(Request::Settled(Some(head), Settled::Allowed, answer))
        }
        None => Ok((head, request.object)),
    }
}

fn refusal(head: &Head<'_>, kind: &Kind<'_>, resource: &Resource<'_>, sub_resource: &str) -> Option<String> {
    if kind.group != GROUP || kind.kind != AGENT || resource.group != GROUP || resource.resource != RESOURCE {
        return Some(format!(
            "this webhook judges {AGENT} ({RESOURCE}.{GROUP}); the request is about {} ({}.{})",
            kind.kind, resource.resource, resource.group
        ));
    }
    if !sub_resource.is_empty() {
        return Some(format!("this webhook judges {RESOURCE}.{GROUP}, not their subresource {sub_resource:?}"));
    }
    if head.operation == "DELETE" {
        return None;
    }
    if kind.version != VERSION || resource.version != VERSION {
        return Some(format!(
            "this version of the policy controller judges {AGENT} of {GROUP}/{VERSION}; the request is about {}/{}",
            resource.group, resource.version
        ));
    }
    if head.operation != "CREATE" && head.operation != "UPDATE" {
        return Some(format!("this webhook judges CREATE and UPDATE; the operation is {:?}", &*head.operation));
    }
    head.namespace.is_empty().then(|| "the request names no namespace; an agent lives in one".to_owned())
}

fn agent<'a>(mut head: Head<'a>, object: Option<Object<'a>>) -> Request<'a> {
    let Some(object) = object else {
        return refused(head, "the request has no object".to_owned());
    };
    if head.name.is_empty() && !object.metadata.generate_name.is_empty() {
        head.name = Cow::Owned(format!("{}*", object.metadata.generate_name));
    }
    match object.spec {
        Some(spec) => Request::Judge(head, spec),
        None => invalid(head, "spec", "missing; an agent has a spec with at least a model"),
    }
}

fn unreadable<'a>(message: String) -> Request<'a> {
    let answer = Answer::plain(StatusCode::BAD_REQUEST, message.clone());
    Request::Settled(None, Settled::Refused(message), answer)
}

fn refused(head: Head<'_>, message: String) -> Request<'_> {
    let answer = refuse(&head, &Refuse { code: 400, reason: "BadRequest", message: &message, causes: &[] });
    Request::Settled(Some(head), Settled::Refused(message), answer)
}

fn invalid<'a>(head: Head<'a>, field: &str, message: &str) -> Request<'a> {
    let text = format!("{AGENT} {}/{} is not understood: {field}: {message}", head.namespace, head.name);
    let causes = [Cause { field, reason: "FieldValueInvalid", message }];
    let answer = refuse(&head, &Refuse { code: 422, reason: "Invalid", message: &text, causes: &causes });
    Request::Settled(Some(head), Settled::Refused(text), answer)
}

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
    json(&ResponseOut {
        uid: &head.uid,
        allowed: true,
        status: None,
        warnings: &warnings,
        audit_annotations: annotations,
    })
}

/// Lets in what would have been refused for `why` without being judged, since enforcement is stopped.
#[must_use]
pub fn spare_unjudged(head: &Head<'_>, why: &str, spared: &Spared) -> Answer {
    let warnings = warnings::unjudged(why, spared);
    let mut annotations = audit(spared);
    annotations.insert("unjudged", why[..why.floor_char_boundary(MAX_AUDIT_BYTES)].to_owned());
    json(&ResponseOut {
        uid: &head.uid,
        allowed: true,
        status: None,
        warnings: &warnings,
        audit_annotations: annotations,
    })
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

struct Refuse<'a> {
    code: u16,
    reason: &'static str,
    message: &'a str,
    causes: &'a [Cause<'a>],
}

fn allow(uid: &str, warnings: &[String]) -> Answer {
    json(&ResponseOut { uid, allowed: true, status: None, warnings, audit_annotations: BTreeMap::new() })
}

fn refuse(head: &Head<'_>, refuse: &Refuse<'_>) -> Answer {
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

#[cfg(test)]
#[path = "review_tests.rs"]
mod tests;
