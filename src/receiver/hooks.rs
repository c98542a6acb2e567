//! The routes of the receiver.
//!
//! | request | answer |
//! | --- | --- |
//! | genuine | 202 once the look is asked for in the cluster; 503 if that fails; 429 if there are too many, of which none is lost |
//! | genuine, a ping | 200 |
//! | anything else to `POST /hook/NAME` | 401, or 429 if there are too many: the same whether there is such a repository or not |
//!
//! Genuine and other requests are counted apart, so that nobody's junk keeps a forge waiting.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ALLOW, HeaderValue, RETRY_AFTER};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};

use super::PATH;
use super::bucket::Bucket;
use super::endpoints::{Endpoint, Endpoints};
use super::proof::{self, Check};
use crate::admission::review::Answer;
use crate::admission::server::Service;
use crate::api::policy_repository::ReceiverType;
use crate::git::shown;
use crate::telemetry::labels::Hook;
use crate::telemetry::{Rationed, metrics};

/// The largest body that is read. Nothing of it is kept.
const MAX_BODY_BYTES: usize = 1024 * 1024;
/// For a body to arrive.
const ARRIVE: Duration = Duration::from_secs(5);
/// Refused requests that are told so at once, and then one for each [`BETWEEN_REFUSALS`].
const REFUSALS_AT_ONCE: u32 = 100;
const BETWEEN_REFUSALS: Duration = Duration::from_millis(20);

/// Takes the requests of forges.
pub struct Hooks {
    endpoints: Arc<Endpoints>,
    /// Stands where a repository has no token: nobody knows it.
    nobodys: [u8; 32],
    refusals: Mutex<Bucket>,
    warnings: Rationed,
}

impl Hooks {
    /// A receiver of these endpoints.
    ///
    /// # Errors
    /// When the random generator of the system fails.
    pub fn new(endpoints: Arc<Endpoints>) -> Result<Hooks, getrandom::Error> {
        let mut nobodys = [0; 32];
        getrandom::fill(&mut nobodys)?;
        let refusals = Mutex::new(Bucket::new(REFUSALS_AT_ONCE, BETWEEN_REFUSALS, Instant::now()));
        Ok(Hooks { endpoints, nobodys, refusals, warnings: Rationed::default() })
    }

    async fn receive(&self, name: &str, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (parts, body) = request.into_parts();
        let endpoint = self.endpoints.get(name);
        // why there is none stands in the condition of the repository
        let token = endpoint.as_ref().and_then(|endpoint| endpoint.token().ok().flatten());
        let type_ = endpoint.as_ref().map_or(ReceiverType::Generic, |endpoint| endpoint.spec.type_);
        let mut check = Check::new(type_, token.as_deref().unwrap_or(&self.nobodys));
        match tokio::time::timeout(ARRIVE, feed(&mut check, body)).await {
            Ok(Ok(())) => {}
            Ok(Err(answer)) => {
                metrics().hook(Hook::Unreadable);
                return answer.into();
            }
            Err(_) => {
                metrics().hook(Hook::Unreadable);
                let message = format!("the body did not arrive within {ARRIVE:?}\n");
                return Answer::plain(StatusCode::REQUEST_TIMEOUT, message).into();
            }
        }
        let passes = check.passes(&parts.headers);
        match endpoint.filter(|_| passes && token.is_some()) {
            Some(endpoint) => accepted(&endpoint, proof::event(&parts.headers)).await,
            None => self.refused(name),
        }
    }

    /// Whatever was wrong: who asks learns nothing, and the log no more than its reader can use.
    fn refused(&self, name: &str) -> Response<Full<Bytes>> {
        metrics().hook(Hook::Refused);
        let name = shown(name);
        tracing::debug!(repository = name, "hook refused");
        let now = Instant::now();
        if let Some(count) = self.warnings.happened(now) {
            tracing::warn!(
                count,
                repository = name,
                "hooks refused: signature or token missing or wrong, or no receiver of that name"
            );
        }
        match self.refusals.lock().unwrap_or_else(PoisonError::into_inner).take(now) {
            Ok(()) => {
                let message = "refused: prove with the token of the repository's receiver that it is you\n";
                Answer::plain(StatusCode::UNAUTHORIZED, message).into()
            }
            Err(wait) => too_many(wait, "too many refused requests\n"),
        }
    }
}

impl Service for Hooks {
    const NAME: &'static str = "receiver";
    type Body = Full<Bytes>;

    async fn answer(&self, request: Request<Incoming>, _peer: IpAddr, _draining: bool) -> Response<Full<Bytes>> {
        let Some(name) = request.uri().path().strip_prefix(PATH).map(str::to_owned) else {
            return Answer::plain(StatusCode::NOT_FOUND, format!("there is POST {PATH}NAME\n")).into();
        };
        if request.method() != Method::POST {
            let mut response: Response<_> =
                Answer::plain(StatusCode::METHOD_NOT_ALLOWED, "only POST is accepted\n").into();
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
            return response;
        }
        self.receive(&name, request).await
    }
}

/// Feeds a body into the check as it arrives.
async fn feed(check: &mut Check, body: Incoming) -> Result<(), Answer> {
    let too_large = || {
        let message = format!("the body is larger than {MAX_BODY_BYTES} bytes, the most that is read\n");
        Answer::plain(StatusCode::PAYLOAD_TOO_LARGE, message)
    };
    if body.size_hint().lower() > MAX_BODY_BYTES as u64 {
        return Err(too_large());
    }
    let mut body = Limited::new(body, MAX_BODY_BYTES);
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => frame.data_ref().into_iter().for_each(|part| check.update(part)),
            Err(error) if error.is::<LengthLimitError>() => return Err(too_large()),
            Err(error) => {
                let message = format!("the body cannot be read: {error}\n");
                return Err(Answer::plain(StatusCode::BAD_REQUEST, message));
            }
        }
    }
    Ok(())
}

async fn accepted(endpoint: &Endpoint, event: &str) -> Response<Full<Bytes>> {
    let ping = proof::is_ping(event);
    if let Err(wait) = endpoint.admit() {
        if !ping {
            // one too many is still not to be lost: it may be the last one
            endpoint.look_soon();
        }
        metrics().hook(Hook::RateLimited);
        return too_many(wait, "too many requests for this repository; a look at it is asked for already\n");
    }
    let (repository, type_) = (&*endpoint.name, endpoint.spec.type_.as_str());
    tracing::info!(repository, receiver = type_, event = shown(event), "hook accepted");
    if ping {
        metrics().hook(Hook::Ping);
        return Answer::plain(StatusCode::OK, "it works; a push will have the repository looked at\n").into();
    }
    if endpoint.look().await {
        metrics().hook(Hook::Accepted);
        return Answer::plain(StatusCode::ACCEPTED, "the repository will be looked at\n").into();
    }
    metrics().hook(Hook::Unavailable);
    tracing::warn!(repository, "hook answered with 503: look not asked for in time");
    let message = "the look could not be asked for in time; it is still tried\n";
    Answer::plain(StatusCode::SERVICE_UNAVAILABLE, message).into()
}

fn too_many(wait: Duration, message: &str) -> Response<Full<Bytes>> {
    let mut response: Response<_> = Answer::plain(StatusCode::TOO_MANY_REQUESTS, message).into();
    let seconds = wait.as_secs() + 1;
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    response
}
