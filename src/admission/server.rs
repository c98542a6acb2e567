//! The HTTPS server, whatever is served by it: HTTP/1.1 and HTTP/2 by ALPN, everything bounded, and what is bounded shared out
//! by address where `Limits::fair` says so: a caller can use up what there is for its own address. Who has dozens of addresses
//! can keep others waiting, and anybody can cost processor time.

use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use http::header::{CONNECTION, HeaderValue};
use http::{Request, Response, StatusCode, Version};
use hyper::body::{Body, Incoming};
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::connection;
use super::review::Answer;
use super::tls::Serving;
use crate::telemetry::metrics;

/// What is served.
pub trait Service: Send + Sync + 'static {
    /// What it is called in the log.
    const NAME: &'static str;
    /// The bodies of its answers.
    type Body: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + From<Bytes> + Send + 'static;
    /// Answers a request of `peer`. `draining`: from the signal to stop on.
    fn answer(
        &self,
        request: Request<Incoming>,
        peer: IpAddr,
        draining: bool,
    ) -> impl Future<Output = Response<Self::Body>> + Send;
}

/// Connections that the kernel queues until they are accepted; as many as tokio's own listeners have.
const BACKLOG: i32 = 1024;

/// The bounds of a server.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections served at a time; more wait in the kernel's queue.
    pub connections: usize,
    /// Whether they are shared out by address, and those of an address that has its share closed at once. Not where all may
    /// come from the address of a proxy.
    pub fair: bool,
    /// From a connection to its first request, TLS handshake included.
    pub first_request: Duration,
    /// For which nothing may be asked on a connection. Longer than the 90 s after which an API server drops its own idle connections,
    /// so that it never writes into one that is just being closed here.
    pub idle: Duration,
    /// For which a connection may live: then it is cut, whatever it does. With a bound HTTP/1.1 alone is spoken, whose
    /// clients can be told beforehand to open another.
    pub lifetime: Option<Duration>,
    /// From the signal on, for which requests are still taken while nobody has heard yet that this replica goes.
    pub shutdown_delay: Duration,
    /// After that, for requests in flight to end; also for those of a connection that is closed because it was idle.
    pub shutdown_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 512,
            fair: true,
            first_request: Duration::from_secs(10),
            idle: Duration::from_secs(120),
            lifetime: None,
            shutdown_delay: Duration::from_secs(10),
            shutdown_timeout: Duration::from_secs(15),
        }
    }
}

impl Limits {
    /// For callers who come rarely, and for one short request: whoever takes longer is cut.
    #[must_use]
    pub fn brief(shutdown_delay: Duration) -> Limits {
        Limits {
            connections: 256,
            fair: false,
            first_request: Duration::from_secs(5),
            idle: Duration::from_secs(10),
            lifetime: Some(Duration::from_secs(30)),
            shutdown_delay,
            ..Limits::default()
        }
    }
}

/// Why a server could not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}; give a free address with {flag}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The flag that names it.
        flag: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// TLS cannot be set up.
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// Binds the address that is given by `flag`.
///
/// `[::]` is every address of either family, whatever the machine says of sockets that say nothing of it
/// (`net.ipv6.bindv6only`); where there is no IPv6 it is every address of IPv4, and the log says so.
///
/// # Errors
/// When it is taken, or not ours.
pub async fn listen(address: SocketAddr, flag: &'static str) -> Result<TcpListener, ServeError> {
    let failed = |source| ServeError::Listen { address, flag, source };
    if address.ip() != Ipv6Addr::UNSPECIFIED {
        return TcpListener::bind(address).await.map_err(failed);
    }
    match bind_both_families(address) {
        Err(error) if lacks_ipv6(&error) => {
            tracing::info!(%address, %error, "no IPv6 here: IPv4 alone is listened on");
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await.map_err(failed)
        }
        bound => bound.map_err(failed),
    }
}

/// As [`TcpListener::bind`] does it, but for the one option that has to be set before.
fn bind_both_families(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::IPV6, socket2::Type::STREAM, Some(socket2::Protocol::TCP))?;
    socket.set_only_v6(false)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// A kernel without IPv6 knows no such sockets, or has no such addresses.
fn lacks_ipv6(error: &std::io::Error) -> bool {
    let missing = [rustix::io::Errno::AFNOSUPPORT, rustix::io::Errno::ADDRNOTAVAIL];
    missing.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Everything that the connections of one server share.
pub(super) struct Shared<S> {
    service: S,
    pub(super) limits: Limits,
    pub(super) draining: AtomicBool,
}

/// Serves until `shutdown` is cancelled, then drains: first unready while requests are still taken, then no new
/// connections, then the end of those in flight, each within its bound.
///
/// # Errors
/// When TLS cannot be set up. Faults of single connections are theirs alone.
pub async fn serve<S: Service>(
    listener: TcpListener,
    serving: Arc<Serving>,
    service: S,
    limits: Limits,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let config = super::tls::server_config(serving, limits.lifetime.is_none())?;
    let shared = Arc::new(Shared { service, draining: AtomicBool::new(false), limits });
    connection::accept(listener, Some(config), shared, shutdown).await;
    Ok(())
}

/// The same without TLS, and HTTP/1.1 alone: for what is no secret, and asked for within the cluster.
pub async fn serve_plain<S: Service>(listener: TcpListener, service: S, limits: Limits, shutdown: CancellationToken) {
    let shared = Arc::new(Shared { service, draining: AtomicBool::new(false), limits });
    connection::accept(listener, None, shared, shutdown).await;
}

/// Answers one request of `peer`, on a connection that was opened at `opened`. Whatever happens in it ends in an answer: a panic
/// is a 500, which the API server takes for a no.
pub(super) async fn respond<S: Service>(
    shared: Arc<Shared<S>>,
    peer: IpAddr,
    opened: Instant,
    request: Request<Incoming>,
) -> Result<Response<S::Body>, Infallible> {
    let version = request.version();
    let answer = shared.service.answer(request, peer, shared.draining.load(Ordering::Relaxed));
    let mut response = AssertUnwindSafe(answer).catch_unwind().await.unwrap_or_else(|_| {
        metrics().panicked(S::NAME);
        tracing::error!(server = S::NAME, "panic while a request was answered");
        Answer::plain(StatusCode::INTERNAL_SERVER_ERROR, "internal error; the request is refused").into()
    });
    // An HTTP/1 client learns here to go elsewhere, before its connection is closed under it. HTTP/2 has GOAWAY.
    let ageing = shared.limits.lifetime.is_some_and(|lifetime| opened.elapsed() > lifetime / 2);
    if version < Version::HTTP_2 && (ageing || shared.draining.load(Ordering::Relaxed)) {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}
