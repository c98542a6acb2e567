//! The read API: the policy that is in force in a workspace, as the published SDK asks for it.
//!
//! `GET /api/v1/workspaces/{workspace_id}/policy/active`, and nothing else. It reads the index that admission decides
//! by, and asks nobody who they are: a policy is no secret, and its reader verifies it. Why a workspace has none is not
//! told here, since that can name what is secret: it is in the status of the `WorkspacePolicy`.

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH, RETRY_AFTER};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use jiff::Timestamp;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::index::{Enforced, PolicyIndex};
use super::review::Answer;
use super::server::Service;
use crate::api::Plain;
use crate::policy::{self, VerifiedPolicy};

/// Documents that are being sent at a time, each of 256 KiB at most. Whoever comes then is told to come again.
const MOST_SENT: usize = 32;
/// A document is handed to its connection in pieces of this size, each when the reader has taken what came before.
const PIECE: usize = 16 * 1024;

/// Answers readers out of the index.
pub struct ReadApi {
    index: Arc<PolicyIndex>,
    sending: Arc<Semaphore>,
}

impl ReadApi {
    /// A read API of what `index` says is enforced.
    #[must_use]
    pub fn new(index: Arc<PolicyIndex>) -> ReadApi {
        ReadApi { index, sending: Arc::new(Semaphore::new(MOST_SENT)) }
    }
}

impl Service for ReadApi {
    const NAME: &'static str = "read API";
    type Body = Pieces;

    async fn answer(&self, request: Request<Incoming>, _peer: IpAddr, _draining: bool) -> Response<Pieces> {
        let Ok(place) = Arc::clone(&self.sending).try_acquire_owned() else {
            return later("too many documents are being sent").map(Pieces::from);
        };
        let answer = answer(&self.index, &request.into_parts().0, Timestamp::now());
        answer.map(|rest| Pieces { rest, _place: Some(place) })
    }
}

/// The answer to the head of a request, at the time `now`.
#[must_use]
pub fn answer(index: &PolicyIndex, head: &Parts, now: Timestamp) -> Response<Bytes> {
    let Some(workspace) = workspace(head.uri.path()) else {
        return fault(StatusCode::NOT_FOUND, "there is GET /api/v1/workspaces/{workspace_id}/policy/active");
    };
    if head.method != Method::GET && head.method != Method::HEAD {
        let mut answer = fault(StatusCode::METHOD_NOT_ALLOWED, "policies are only read here, by GET or HEAD");
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return answer;
    }
    let mut answer = match percent_decode_str(workspace).decode_utf8() {
        Ok(workspace) if policy::is_id(&workspace) => active(index, &workspace, now),
        _ => fault(
            StatusCode::BAD_REQUEST,
            "not the id of a workspace: expected 1 to 63 letters, digits, '.', '_' or '-', with a letter or digit at \
             both ends",
        ),
    };
    if answer.headers().get(ETAG).is_some_and(|tag| is_known(head, tag)) {
        answer.headers_mut().remove(CONTENT_TYPE);
        *answer.status_mut() = StatusCode::NOT_MODIFIED;
        *answer.body_mut() = Bytes::new();
    } else if head.method == Method::HEAD {
        let length = answer.body().len();
        answer.headers_mut().insert(CONTENT_LENGTH, length.into());
        *answer.body_mut() = Bytes::new();
    }
    answer
}

/// The workspace of a path, still encoded.
fn workspace(path: &str) -> Option<&str> {
    let workspace = path.strip_prefix("/api/v1/workspaces/")?.strip_suffix("/policy/active")?;
    (!workspace.contains('/')).then_some(workspace)
}

/// Whether the reader says that it has what is tagged so.
fn is_known(head: &Parts, tag: &HeaderValue) -> bool {
    let lists = head.headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut known = lists.flat_map(|list| list.split(',')).map(str::trim);
    known.any(|known| known == "*" || known.trim_start_matches("W/") == tag)
}

fn active(index: &PolicyIndex, workspace: &str, now: Timestamp) -> Response<Bytes> {
    if let Err(waiting_for) = index.ready() {
        tracing::debug!(workspace, waiting_for, "reader told to come again");
        return later("this replica is not ready");
    }
    match index.enforced(workspace) {
        Enforced::Policy { policy, .. } if policy::unfit(&policy, workspace, now).is_none() => sent(&policy),
        _ => fault(
            StatusCode::NOT_FOUND,
            &format!("the workspace {workspace} has no policy in force; the status of its WorkspacePolicy says why"),
        ),
    }
}

/// The document, no member of it changed, with the key that verified it.
fn sent(policy: &VerifiedPolicy) -> Response<Bytes> {
    let Ok(Plain(Value::Object(mut document))) = serde_json::from_str(policy.document_json()) else {
        // it was written from such a map
        tracing::error!(policy_id = policy.policy_id(), "document of an enforced policy is no JSON object");
        return fault(StatusCode::INTERNAL_SERVER_ERROR, "internal error");
    };
    document.insert("signing_public_key".to_owned(), policy.public_key().to_hex().into());
    let body = Value::Object(document).to_string();
    let tag = format!("\"{}\"", blake3::hash(body.as_bytes()).to_hex());
    let mut answer = json(StatusCode::OK, body);
    #[expect(clippy::expect_used, reason = "hexadecimal digits in quotes")]
    answer.headers_mut().insert(ETAG, tag.try_into().expect("the value of a header"));
    // Key or policy may end at any moment: what a reader keeps is to be asked for again before each use.
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    answer
}

fn later(why: &str) -> Response<Bytes> {
    let mut answer = fault(StatusCode::SERVICE_UNAVAILABLE, &format!("{why}; try again"));
    answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    answer
}

fn fault(status: StatusCode, message: &str) -> Response<Bytes> {
    json(status, json!({"message": message}).to_string())
}

fn json(status: StatusCode, body: String) -> Response<Bytes> {
    let body = Bytes::from(body);
    Answer { status, content_type: "application/json", body }.into()
}

/// A body that is copied out piece by piece, and keeps its place among those that are being sent until its connection
/// has taken the last one: so no more documents than places are in memory, however slowly they are read.
pub struct Pieces {
    rest: Bytes,
    _place: Option<OwnedSemaphorePermit>,
}

impl From<Bytes> for Pieces {
    fn from(rest: Bytes) -> Pieces {
        Pieces { rest, _place: None }
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let length = self.rest.len().min(PIECE);
        let piece = self.rest.split_to(length);
        Poll::Ready((length > 0).then(|| Ok(Frame::data(Bytes::copy_from_slice(&piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}
