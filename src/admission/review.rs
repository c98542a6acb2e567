//! AdmissionReview in, AdmissionReview out. Pure: no clock, no index, no I/O.
//!
//! The format is `admission.k8s.io/v1` (<https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/>).
//! It is read into types of its own instead of `kube::core::admission`: those own every string, read the user's groups, and
//! know an object only as a whole; here an agent that complies is read once, and only what is judged of it.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use serde::Deserialize;

use super::denial::Cause;
use crate::api::{GROUP, VERSION};
use crate::git::shown;
use crate::policy::AgentSpec;

mod parts;
mod response;

use response::{Refuse, allow, refuse};
pub use response::{answer, not_ready, spare_unjudged};

const API_VERSION: &str = "admission.k8s.io/v1";
const KIND: &str = "AdmissionReview";
const RESOURCE: &str = "agents";
const AGENT: &str = "Agent";

/// Bodies up to here, as good as all, are read in one go. Larger ones are taken apart first.
const ONE_GO: usize = 64 * 1024;
/// The longest uid, in bytes. It is echoed; those of API servers have 36.
const LONGEST_UID: usize = 256;
/// The longest name, in bytes, that anything in Kubernetes has.
const LONGEST_NAME: usize = 253;
/// Bytes of a user's name that are kept. It is logged.
const LONGEST_USER: usize = 1024;

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

impl Head<'_> {
    /// The same without the body that it was read from.
    #[must_use]
    pub fn into_owned(self) -> Head<'static> {
        let own = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        Head {
            uid: own(self.uid),
            operation: own(self.operation),
            namespace: own(self.namespace),
            name: own(self.name),
            user: own(self.user),
        }
    }
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
/// an `Agent` with fields that the schema does not know, or longer ones than it admits, is refused in words that say what is
/// accepted. What that costs in memory is bounded by the body, whatever stands in it.
#[must_use]
pub fn read(body: &[u8]) -> Request<'_> {
    // In one go when all is well. What went wrong is found out in a second look.
    if body.len() <= ONE_GO
        && let Ok(review) = serde_json::from_slice::<Review<'_, Object<'_>>>(body)
    {
        return match envelope(review) {
            Ok((head, object)) => agent(head, object),
            Err(settled) => settled,
        };
    }
    let review = match parts::review(body) {
        Ok(review) => review,
        Err(error) => return unreadable(format!("the body is not an {KIND} of {API_VERSION} in JSON: {error}")),
    };
    let (head, object) = match envelope(review) {
        Ok(read) => read,
        Err(settled) => return settled,
    };
    let Some(object) = object else { return agent(head, None) };
    match parts::agent(object) {
        Ok(object) => agent(head, Some(object)),
        Err(fault) => invalid(head, &fault.place, &fault.words),
    }
}

/// Everything but the object. Errors are settled requests, so that the caller has one way out.
#[expect(clippy::result_large_err, reason = "both sides are moved once and never stored")]
fn envelope<'a, O>(review: Review<'a, O>) -> Result<(Head<'a>, Option<O>), Request<'a>> {
    if review.kind != KIND || review.api_version != API_VERSION {
        let (kind, version) = (shown(&review.kind), shown(&review.api_version));
        return Err(unreadable(format!("this is {kind:?} of {version:?}; {KIND:?} of {API_VERSION:?} is accepted")));
    }
    let Some(request) = review.request else {
        return Err(unreadable(format!("the {KIND} has no request")));
    };
    if request.uid.is_empty() {
        return Err(unreadable(format!("the request of the {KIND} has no uid")));
    }
    if let Some(message) = too_long(&request) {
        return Err(unreadable(message));
    }
    let head = Head {
        uid: request.uid,
        operation: request.operation,
        namespace: request.namespace,
        name: request.name,
        user: shortened(request.user_info.username, LONGEST_USER),
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

/// What is echoed has the length that it has in Kubernetes, or is not: an answer is no longer because its request was.
fn too_long<O>(request: &ReviewRequest<'_, O>) -> Option<String> {
    let members = [
        ("uid", &request.uid, LONGEST_UID),
        ("name", &request.name, LONGEST_NAME),
        ("namespace", &request.namespace, LONGEST_NAME),
        ("operation", &request.operation, LONGEST_NAME),
    ];
    let (what, _, longest) = members.into_iter().find(|(_, text, longest)| text.len() > *longest)?;
    Some(format!("the {what} in the {KIND} is longer than {longest} bytes, the most that are accepted"))
}

/// The start of a text.
fn shortened(text: Cow<'_, str>, bytes: usize) -> Cow<'_, str> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(parts::cut(text, bytes)),
        Cow::Owned(mut text) => {
            text.truncate(text.floor_char_boundary(bytes));
            Cow::Owned(text)
        }
    }
}

fn refusal(head: &Head<'_>, kind: &Kind<'_>, resource: &Resource<'_>, sub_resource: &str) -> Option<String> {
    if kind.group != GROUP || kind.kind != AGENT || resource.group != GROUP || resource.resource != RESOURCE {
        return Some(format!(
            "this webhook judges {AGENT} ({RESOURCE}.{GROUP}); the request is about {} ({}.{})",
            shown(&kind.kind),
            shown(&resource.resource),
            shown(&resource.group)
        ));
    }
    if !sub_resource.is_empty() {
        return Some(format!(
            "this webhook judges {RESOURCE}.{GROUP}, not their subresource {:?}",
            shown(sub_resource)
        ));
    }
    if head.operation == "DELETE" {
        return None;
    }
    if kind.version != VERSION || resource.version != VERSION {
        return Some(format!(
            "this version of the policy controller judges {AGENT} of {GROUP}/{VERSION}; the request is about {}/{}",
            resource.group,
            shown(&resource.version)
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
        head.name = Cow::Owned(format!("{}*", parts::cut(&object.metadata.generate_name, LONGEST_NAME)));
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

#[cfg(test)]
#[path = "review_tests.rs"]
mod tests;
