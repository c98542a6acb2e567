//! The routes of the webhook's server.
//!
//! | route | what it is |
//! | --- | --- |
//! | `POST /validate` | an AdmissionReview |
//! | `GET /healthz` | 200 while the process serves |
//! | `GET /readyz` | 200 once it can answer what it is asked, 503 and why before, and from the signal to stop on |

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_LENGTH, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use tokio::sync::Semaphore;
use tracing::Instrument as _;

use super::review::Answer;
use super::server::Service;
use super::tls::Serving;
use crate::telemetry::trace;

/// Where the API server sends its reviews.
pub const VALIDATE_PATH: &str = "/validate";
/// The largest body that is read. An AdmissionReview carries the object twice at most; etcd takes 1.5 MiB of it.
pub const MAX_BODY_BYTES: usize = 3 * 1024 * 1024;
/// Bodies up to here, as good as all, wait for no larger one.
const SMALL_BODY_BYTES: usize = 64 * 1024;

/// What answers reviews.
pub trait Handler: Send + Sync + 'static {
    /// Answers the body of a review.
    fn validate(&self, body: Bytes) -> impl Future<Output = Answer> + Send;
    /// Whether it can.
    ///
    /// # Errors
    /// What is being waited for, for `/readyz`.
    fn ready(&self) -> Result<(), String>;
}

/// The bounds of requests with a body.
#[derive(Clone, Debug)]
pub struct Bodies {
    /// For the body of a request to arrive.
    pub arrive: Duration,
    /// Small requests (64 KiB) in memory at a time, and large ones.
    pub small: usize,
    /// See `small`.
    pub large: usize,
}

impl Default for Bodies {
    fn default() -> Bodies {
        Bodies { arrive: Duration::from_secs(5), small: 512, large: 8 }
    }
}

/// The routes, and what answers behind them.
pub struct Routes<H> {
    handler: Arc<H>,
    serving: Arc<Serving>,
    arrive: Duration,
    small: Semaphore,
    large: Semaphore,
}

impl<H: Handler> Routes<H> {
    /// Routes to `handler`, under the certificate of `serving`.
    pub fn new(handler: Arc<H>, serving: Arc<Serving>, bodies: &Bodies) -> Routes<H> {
        let (small, large) = (Semaphore::new(bodies.small), Semaphore::new(bodies.large));
        Routes { handler, serving, arrive: bodies.arrive, small, large }
    }

    fn readiness(&self, draining: bool) -> Answer {
        let ready = if draining {
            Err("shutting down".to_owned())
        } else if !self.serving.has_certificate() {
            Err("waiting for a certificate".to_owned())
        } else {
            self.handler.ready()
        };
        match ready {
            Ok(()) => Answer::plain(StatusCode::OK, "ok\n"),
            Err(why) => Answer::plain(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
        }
    }

    async fn validate(&self, request: Request<Incoming>) -> Answer {
        let (parts, body) = request.into_parts();
        let declared = match parts.headers.get(CONTENT_LENGTH) {
            // hyper has held it against the body already, so that it is a number.
            Some(_) => body.size_hint().exact(),
            None => None,
        };
        if declared.is_some_and(|length| length > MAX_BODY_BYTES as u64) {
            return too_large();
        }
        // Large ones, and those that do not say, share few places: they can fill neither the memory nor the way of the small.
        let small = declared.is_some_and(|length| length <= SMALL_BODY_BYTES as u64);
        let places = if small { &self.small } else { &self.large };
        let arriving = async {
            let place = places.acquire().await;
            (place, Limited::new(body, MAX_BODY_BYTES).collect().await)
        };
        let Ok((_place, body)) = tokio::time::timeout(self.arrive, arriving).await else {
            return Answer::plain(
                StatusCode::REQUEST_TIMEOUT,
                format!("the body did not arrive within {:?}\n", self.arrive),
            );
        };
        match body {
            Ok(body) => {
                let span = trace::admission(&parts.headers);
                self.handler.validate(body.to_bytes()).instrument(span).await
            }
            Err(error) if error.is::<LengthLimitError>() => too_large(),
            Err(error) => Answer::plain(StatusCode::BAD_REQUEST, format!("the body cannot be read: {error}\n")),
        }
    }
}

impl<H: Handler> Service for Routes<H> {
    const NAME: &'static str = "webhook";
    type Body = Full<Bytes>;

    async fn answer(&self, request: Request<Incoming>, draining: bool) -> Response<Full<Bytes>> {
        match (request.method(), request.uri().path()) {
            (&Method::POST, VALIDATE_PATH) => self.validate(request).await.into(),
            (&Method::GET | &Method::HEAD, "/healthz") => Answer::plain(StatusCode::OK, "ok\n").into(),
            (&Method::GET | &Method::HEAD, "/readyz") => self.readiness(draining).into(),
            (_, VALIDATE_PATH | "/healthz" | "/readyz") => not_allowed(),
            _ => Answer::plain(
                StatusCode::NOT_FOUND,
                format!("there is POST {VALIDATE_PATH}, GET /healthz and GET /readyz\n"),
            )
            .into(),
        }
    }
}

fn not_allowed() -> Response<Full<Bytes>> {
    let message = format!("POST is accepted by {VALIDATE_PATH}, GET by /healthz and /readyz\n");
    let mut response: Response<_> = Answer::plain(StatusCode::METHOD_NOT_ALLOWED, message).into();
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, POST"));
    response
}

fn too_large() -> Answer {
    Answer::plain(
        StatusCode::PAYLOAD_TOO_LARGE,
        format!("the body is larger than {MAX_BODY_BYTES} bytes, the most that is read\n"),
    )
}
