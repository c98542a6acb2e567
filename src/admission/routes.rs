//! The routes of the webhook's server.
//!
//! | route | what it is |
//! | --- | --- |
//! | `POST /validate` | an AdmissionReview |
//! | `GET /healthz` | 200 while the process serves |
//! | `GET /readyz` | 200 once it can answer what it is asked, 503 and why before, and from the signal to stop on |

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_LENGTH, HeaderValue, RETRY_AFTER};
use http::{Method, Request, Response, StatusCode};
use hyper::body::{Body as _, Incoming};
use tracing::Instrument as _;

use super::body::{self, Answered, Broken};
use super::places::{Place, Places, Taken};
use super::review::Answer;
use super::server::Service;
use super::tls::Serving;
use super::unread::{Awaited, Unread};
use crate::telemetry::{Rationed, trace};

/// Where the API server sends its reviews.
pub const VALIDATE_PATH: &str = "/validate";
/// The largest body that is read. An AdmissionReview carries the object twice at most; etcd takes 1.5 MiB of it.
pub const MAX_BODY_BYTES: usize = 3 * 1024 * 1024;
/// Bodies up to here, as good as all, wait for no larger one.
const SMALL_BODY_BYTES: usize = 64 * 1024;
/// Small requests that wait for a place, and large ones. What waits holds its head and 64 KiB of its body in memory, so it is
/// bounded as well, and shared out: whoever comes then is told to come again.
const SMALL_WAITING: usize = 1024;
const LARGE_WAITING: usize = 256;

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
    /// For a request to wait for a place, then for its body to arrive, and then for its answer to be taken.
    pub arrive: Duration,
    /// Small requests (64 KiB) in memory at a time, and large ones. An address alone gets a quarter of them: 256 small ones
    /// are more than an API server sends over two connections at a time.
    pub small: usize,
    /// See `small`.
    pub large: usize,
}

impl Default for Bodies {
    fn default() -> Bodies {
        Bodies { arrive: Duration::from_secs(5), small: 1024, large: 16 }
    }
}

/// The routes, and what answers behind them.
pub struct Routes<H> {
    handler: Arc<H>,
    serving: Arc<Serving>,
    arrive: Duration,
    small: Arc<Places>,
    large: Arc<Places>,
    unread: Rationed,
}

impl<H: Handler> Routes<H> {
    /// Routes to `handler`, under the certificate of `serving`.
    pub fn new(handler: Arc<H>, serving: Arc<Serving>, bodies: &Bodies) -> Routes<H> {
        let (small, large) = (Places::new(bodies.small, SMALL_WAITING), Places::new(bodies.large, LARGE_WAITING));
        Routes { handler, serving, arrive: bodies.arrive, small, large, unread: Rationed::default() }
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

    async fn validate(&self, request: Request<Incoming>, peer: IpAddr) -> Response<Answered> {
        let (parts, body) = request.into_parts();
        let awaited = Awaited::new(&self.unread, peer);
        let declares_length = parts.headers.contains_key(CONTENT_LENGTH);
        match self.arrived(body, declares_length, peer).await {
            Ok((place, body)) => {
                awaited.arrived();
                let span = trace::admission(&parts.headers);
                let answer = self.handler.validate(body).instrument(span).await;
                Response::<Bytes>::from(answer).map(|answer| Answered::holding(answer, place, self.arrive))
            }
            Err(unread) => awaited.refused(unread).into(),
        }
    }

    /// The body once it is here, and the place that it has.
    async fn arrived(&self, body: Incoming, declares_length: bool, peer: IpAddr) -> Result<(Place, Bytes), Unread> {
        // hyper has held what is declared against the body already, so that it is a number.
        let declared = if declares_length { body.size_hint().exact() } else { None };
        if declared.is_some_and(|length| length > MAX_BODY_BYTES as u64) {
            return Err(too_large());
        }
        // Large ones, and those that do not say, share few places: they can fill neither the memory nor the way of the small.
        let small = declared.is_some_and(|length| length <= SMALL_BODY_BYTES as u64);
        let places = if small { &self.small } else { &self.large };
        let place = match places.take(peer) {
            Taken::Now(place) => place,
            Taken::Later(place) => match tokio::time::timeout(self.arrive, place).await {
                Ok(Ok(place)) => place,
                Ok(Err(_)) | Err(_) => return Err(busy()),
            },
            Taken::Full => return Err(busy()),
        };
        match tokio::time::timeout(self.arrive, body::read(body, declared, MAX_BODY_BYTES)).await {
            Ok(Ok(body)) => Ok((place, body)),
            Ok(Err(Broken::TooLarge)) => Err(too_large()),
            Ok(Err(Broken::Lost(error))) => {
                let why = format!("the body cannot be read: {error}").into();
                Err(Unread { status: StatusCode::BAD_REQUEST, why })
            }
            Err(_) => {
                let why = format!("the body did not arrive within {:?}", self.arrive).into();
                Err(Unread { status: StatusCode::REQUEST_TIMEOUT, why })
            }
        }
    }
}

impl<H: Handler> Service for Routes<H> {
    const NAME: &'static str = "webhook";
    type Body = Answered;

    async fn answer(&self, request: Request<Incoming>, peer: IpAddr, draining: bool) -> Response<Answered> {
        match (request.method(), request.uri().path()) {
            (&Method::POST, VALIDATE_PATH) => {
                let mut response = self.validate(request, peer).await;
                // An API server that is told when to come again does so by itself, within the time that it has.
                if response.status() == StatusCode::SERVICE_UNAVAILABLE {
                    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
                }
                response
            }
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

fn not_allowed() -> Response<Answered> {
    let message = format!("POST is accepted by {VALIDATE_PATH}, GET by /healthz and /readyz\n");
    let mut response: Response<_> = Answer::plain(StatusCode::METHOD_NOT_ALLOWED, message).into();
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, POST"));
    response
}

fn too_large() -> Unread {
    let why = format!("the body is larger than {MAX_BODY_BYTES} bytes, the most that is read").into();
    Unread { status: StatusCode::PAYLOAD_TOO_LARGE, why }
}

fn busy() -> Unread {
    let why = "too many requests are being read; try again".into();
    Unread { status: StatusCode::SERVICE_UNAVAILABLE, why }
}
