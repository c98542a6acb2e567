//! The HTTPS server: HTTP/1.1 and HTTP/2 by ALPN, everything bounded, nothing in it that a caller could make wait for another.
//!
//! | route | what it is |
//! | --- | --- |
//! | `POST /validate` | an AdmissionReview |
//! | `GET /healthz` | 200 while the process serves |
//! | `GET /readyz` | 200 once it can answer what it is asked, 503 and why before, and from the signal to stop on |

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use http::header::{ALLOW, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::connection;
use super::review::Answer;
use super::tls::Serving;

/// Where the API server sends its reviews.
pub const VALIDATE_PATH: &str = "/validate";
/// The largest body that is read. An AdmissionReview carries the object twice at most; etcd takes 1.5 MiB of it.
pub const MAX_BODY_BYTES: usize = 3 * 1024 * 1024;
/// Bodies up to here, as good as all, wait for no larger one.
const SMALL_BODY_BYTES: usize = 64 * 1024;

/// What a server answers reviews with.
pub trait Handler: Send + Sync + 'static {
    /// Answers the body of a review.
    fn validate(&self, body: Bytes) -> impl Future<Output = Answer> + Send;
    /// Whether it can.
    ///
    /// # Errors
    /// What is being waited for, for `/readyz`.
    fn ready(&self) -> Result<(), String>;
}

/// The bounds of a server.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections served at a time; more wait in the kernel's queue.
    pub connections: usize,
    /// From a connection to its first request, TLS handshake included.
    pub first_request: Duration,
    /// For which a connection may lie idle. Longer than the 90 s after which an API server drops its own idle connections,
    /// so that it never writes into one that is just being closed here.
    pub idle: Duration,
    /// For the body of a request to arrive.
    pub body: Duration,
    /// Small requests (64 KiB) in memory at a time, and large ones.
    pub small_requests: usize,
    /// See `small_requests`.
    pub large_requests: usize,
    /// From the signal on, for which requests are still taken while nobody has heard yet that this replica goes.
    pub shutdown_delay: Duration,
    /// After that, for requests in flight to end.
    pub shutdown_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 1024,
            first_request: Duration::from_secs(10),
            idle: Duration::from_secs(120),
            body: Duration::from_secs(5),
            small_requests: 512,
            large_requests: 8,
            shutdown_delay: Duration::from_secs(10),
            shutdown_timeout: Duration::from_secs(15),
        }
    }
}

/// Why a server could not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}; give a free address with --webhook-listen")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// TLS cannot be set up.
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// Binds the address that the webhook is served on.
///
/// # Errors
/// When it is taken, or not ours.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address).await.map_err(|source| ServeError::Listen { address, source })
}

/// Everything that the connections of one server share.
pub(super) struct Shared<H> {
    pub(super) handler: Arc<H>,
    pub(super) serving: Arc<Serving>,
    pub(super) limits: Limits,
    pub(super) draining: AtomicBool,
    small: Semaphore,
    large: Semaphore,
}

/// Serves until `shutdown` is cancelled, then drains: first unready while requests are still taken, then no new
/// connections, then the end of those in flight, each within its bound.
///
/// # Errors
/// When TLS cannot be set up. Faults of single connections are theirs alone.
pub async fn serve<H: Handler>(
    listener: TcpListener,
    serving: Arc<Serving>,
    handler: Arc<H>,
    limits: Limits,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let config = super::tls::server_config(Arc::clone(&serving))?;
    let shared = Arc::new(Shared {
        handler,
        serving,
        draining: AtomicBool::new(false),
        small: Semaphore::new(limits.small_requests),
        large: Semaphore::new(limits.large_requests),
        limits,
    });
    connection::accept(listener, config, shared, shutdown).await;
    Ok(())
}

/// Answers one request. Whatever happens in it ends in an answer: a panic is a 500, which the API server takes for a no.
pub(super) async fn respond<H: Handler>(
    shared: Arc<Shared<H>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let version = request.version();
    let answer = AssertUnwindSafe(route(&shared, request)).catch_unwind().await.unwrap_or_else(|_| {
        tracing::error!("panic while a request was answered");
        Answer::plain(StatusCode::INTERNAL_SERVER_ERROR, "internal error; the request is refused")
    });
    let mut response = Response::new(Full::new(answer.body));
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    if answer.status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, HeaderValue::from_static("GET, POST"));
    }
    // An HTTP/1 client learns here to go elsewhere, before its connection is closed under it. HTTP/2 has GOAWAY.
    if version < Version::HTTP_2 && shared.draining.load(Ordering::Relaxed) {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

async fn route<H: Handler>(shared: &Shared<H>, request: Request<Incoming>) -> Answer {
    match (request.method(), request.uri().path()) {
        (&Method::POST, VALIDATE_PATH) => validate(shared, request).await,
        (&Method::GET | &Method::HEAD, "/healthz") => Answer::plain(StatusCode::OK, "ok\n"),
        (&Method::GET | &Method::HEAD, "/readyz") => readiness(shared),
        (_, VALIDATE_PATH | "/healthz" | "/readyz") => Answer::plain(
            StatusCode::METHOD_NOT_ALLOWED,
            format!("POST is accepted by {VALIDATE_PATH}, GET by /healthz and /readyz\n"),
        ),
        _ => Answer::plain(
            StatusCode::NOT_FOUND,
            format!("there is POST {VALIDATE_PATH}, GET /healthz and GET /readyz\n"),
        ),
    }
}

fn readiness<H: Handler>(shared: &Shared<H>) -> Answer {
    let ready = if shared.draining.load(Ordering::Relaxed) {
        Err("shutting down".to_owned())
    } else if !shared.serving.has_certificate() {
        Err("waiting for a certificate".to_owned())
    } else {
        shared.handler.ready()
    };
    match ready {
        Ok(()) => Answer::plain(StatusCode::OK, "ok\n"),
        Err(why) => Answer::plain(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

async fn validate<H: Handler>(shared: &Shared<H>, request: Request<Incoming>) -> Answer {
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
    let places = if small { &shared.small } else { &shared.large };
    let arriving = async {
        let place = places.acquire().await;
        (place, Limited::new(body, MAX_BODY_BYTES).collect().await)
    };
    let Ok((_place, body)) = tokio::time::timeout(shared.limits.body, arriving).await else {
        return Answer::plain(
            StatusCode::REQUEST_TIMEOUT,
            format!("the body did not arrive within {:?}\n", shared.limits.body),
        );
    };
    match body {
        Ok(body) => shared.handler.validate(body.to_bytes()).await,
        Err(error) if error.is::<LengthLimitError>() => too_large(),
        Err(error) => Answer::plain(StatusCode::BAD_REQUEST, format!("the body cannot be read: {error}\n")),
    }
}

fn too_large() -> Answer {
    Answer::plain(
        StatusCode::PAYLOAD_TOO_LARGE,
        format!("the body is larger than {MAX_BODY_BYTES} bytes, the most that is read\n"),
    )
}
