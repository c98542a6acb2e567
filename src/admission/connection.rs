//! Connections: accepted, shaken hands with, bounded in time and in number, shared out by address, and ended in order.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::Either;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::places::{Place, Places, Taken};
use super::server::{Limits, Service, Shared, respond};
use super::tls::HTTP_2;
use crate::telemetry::Rationed;

/// What of a body is taken before it is read: by then it may wait for its place, and there is room for as many that wait as
/// an address can have, so that they keep nothing from those of their connection that have one.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;
/// Requests at a time on a connection of HTTP/2: each costs some kilobytes, whatever it carries. An API server that has more
/// opens another connection.
const STREAMS: u32 = 100;

/// Accepts connections until the end of the drain that `shutdown` begins.
pub(super) async fn accept<S: Service>(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    shared: Arc<Shared<S>>,
    shutdown: CancellationToken,
) {
    let acceptor = tls.map(TlsAcceptor::from);
    let ending = CancellationToken::new();
    let tasks = TaskTracker::new();
    let doors = Doors::new::<S>(&shared.limits);
    let ended = end_of_drain(&shared, &shutdown);
    tokio::pin!(ended);
    // No new connections from here on: those that the kernel has queued are reset, and their clients go elsewhere.
    let kill = CancellationToken::new();
    loop {
        let (stream, peer, place) = tokio::select! {
            biased;
            () = &mut ended => break,
            accepted = doors.next(&listener) => accepted,
        };
        let connection = Connection {
            acceptor: acceptor.clone(),
            shared: Arc::clone(&shared),
            peer,
            ending: ending.child_token(),
            kill: kill.clone(),
        };
        tasks.spawn(async move {
            connection.run(stream).await;
            drop(place);
        });
    }
    drop(listener);
    tasks.close();
    ending.cancel();
    if tokio::time::timeout(shared.limits.shutdown_timeout, tasks.wait()).await.is_err() {
        tracing::warn!(server = S::NAME, count = tasks.len(), "connections cut that did not end in time");
        kill.cancel();
        tasks.wait().await;
    }
}

/// Waits for the signal, says so to whoever asks for readiness, and then for the delay.
async fn end_of_drain<S: Service>(shared: &Shared<S>, shutdown: &CancellationToken) {
    shutdown.cancelled().await;
    shared.draining.store(true, Ordering::Relaxed);
    tracing::info!(server = S::NAME, delay_seconds = shared.limits.shutdown_delay.as_secs(), "server draining");
    tokio::time::sleep(shared.limits.shutdown_delay).await;
}

/// Who may come in.
struct Doors {
    server: &'static str,
    places: Arc<Semaphore>,
    /// The same by address.
    shares: Option<Arc<Places>>,
    refused: Rationed,
}

/// The place of a connection, and that of its address.
type Held = (OwnedSemaphorePermit, Option<Place>);

impl Doors {
    fn new<S: Service>(limits: &Limits) -> Doors {
        let places = Arc::new(Semaphore::new(limits.connections));
        let shares = limits.fair.then(|| Places::new(limits.connections, 0));
        Doors { server: S::NAME, places, shares, refused: Rationed::default() }
    }

    async fn next(&self, listener: &TcpListener) -> (TcpStream, IpAddr, Held) {
        #[expect(clippy::expect_used, reason = "the semaphore is never closed")]
        let place = Arc::clone(&self.places).acquire_owned().await.expect("open");
        loop {
            match listener.accept().await {
                Ok((stream, from)) => {
                    let peer = from.ip().to_canonical();
                    match self.shares.as_ref().map(|shares| shares.take(peer)) {
                        None => return (stream, peer, (place, None)),
                        Some(Taken::Now(share)) => return (stream, peer, (place, Some(share))),
                        Some(Taken::Later(_) | Taken::Full) => self.refuse(peer),
                    }
                }
                Err(error) => {
                    // Out of file handles, or a connection that is gone again: neither ends the server, nor spins.
                    tracing::warn!(%error, "connection not accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    /// Before anything was done for it. Its stream is closed.
    fn refuse(&self, peer: IpAddr) {
        if let Some(count) = self.refused.happened(std::time::Instant::now()) {
            tracing::warn!(server = self.server, count, %peer, "connections refused: their address has its share");
        }
    }
}

struct Connection<S> {
    /// `None`: plain HTTP.
    acceptor: Option<TlsAcceptor>,
    shared: Arc<Shared<S>>,
    peer: IpAddr,
    /// Told to end in order.
    ending: CancellationToken,
    kill: CancellationToken,
}

impl<S: Service> Connection<S> {
    async fn run(self, stream: TcpStream) {
        let (kill, lifetime) = (self.kill.clone(), self.shared.limits.lifetime.unwrap_or(Duration::MAX));
        let ended = kill.run_until_cancelled(tokio::time::timeout(lifetime, self.serve(stream))).await;
        let ended = ended.map(|ended| ended.unwrap_or_else(|_| Err("it has lived its time".to_owned())));
        if let Some(Err(error)) = ended {
            // Scanners, probes and clients that go away: of interest only to who looks for it.
            tracing::debug!(error, "connection ended");
        }
    }

    async fn serve(self, stream: TcpStream) -> Result<(), String> {
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let asked = Arc::new(Asked { opened: Instant::now(), last: AtomicU64::new(Asked::NEVER) });
        let Some(acceptor) = self.acceptor.clone() else {
            return self.speak(stream, false, asked).await;
        };
        let first_request = asked.opened + self.shared.limits.first_request;
        let stream = tokio::time::timeout_at(first_request, acceptor.accept(stream))
            .await
            .map_err(|_| "no TLS handshake in time".to_owned())?
            .map_err(|error| error.to_string())?;
        let http_2 = stream.get_ref().1.alpn_protocol() == Some(HTTP_2);
        self.speak(stream, http_2, asked).await
    }

    fn speak<T: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        self,
        stream: T,
        http_2: bool,
        asked: Arc<Asked>,
    ) -> impl Future<Output = Result<(), String>> + Send {
        let (limits, peer) = (self.shared.limits.clone(), self.peer);
        let (shared, noted) = (self.shared, Arc::clone(&asked));
        let service = service_fn(move |request| {
            noted.again();
            respond(Arc::clone(&shared), peer, noted.opened, request)
        });
        let io = TokioIo::new(stream);
        if http_2 {
            let connection = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .max_concurrent_streams(STREAMS)
                .max_header_list_size(16 * 1024)
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .keep_alive_interval(Duration::from_secs(30))
                .keep_alive_timeout(Duration::from_secs(20))
                .serve_connection(io, service);
            Either::Left(kept(connection, self.ending, asked, limits))
        } else {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                // It runs from the end of one request to the head of the next, which may be sent slowly.
                .header_read_timeout(limits.idle)
                .max_header_size(16 * 1024)
                .max_buf_size(64 * 1024)
                .serve_connection(io, service);
            Either::Right(kept(connection, self.ending, asked, limits))
        }
    }
}

/// When a connection was opened, and when a request last came.
struct Asked {
    opened: Instant,
    /// In milliseconds after that.
    last: AtomicU64,
}

impl Asked {
    const NEVER: u64 = u64::MAX;

    fn again(&self) {
        let after = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(Asked::NEVER - 1);
        self.last.store(after, Ordering::Relaxed);
    }

    fn ever(&self) -> bool {
        self.last.load(Ordering::Relaxed) != Asked::NEVER
    }

    /// Waits until no request has come for too long. What may not live for long is not waited for once it has asked.
    async fn no_more(&self, limits: &Limits) {
        loop {
            let until = match self.last.load(Ordering::Relaxed) {
                Asked::NEVER => self.opened + limits.first_request,
                _ if limits.lifetime.is_some() => return std::future::pending().await,
                after => self.opened + Duration::from_millis(after) + limits.idle,
            };
            if until <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }
}

/// Keeps a connection until it ends, is told to, or is no longer asked anything. Pings do not count: whoever only answers them
/// would hold it for ever. One that never asked is cut; one that did is told to end, so that no request is lost that is just
/// being sent, and is cut if it does not.
async fn kept<C>(connection: C, ending: CancellationToken, asked: Arc<Asked>, limits: Limits) -> Result<(), String>
where
    C: GracefulConnection<Error = hyper::Error>,
{
    tokio::pin!(connection);
    let told = tokio::select! {
        biased;
        ended = &mut connection => return ended.map_err(|error| error.to_string()),
        () = ending.cancelled() => true,
        () = asked.no_more(&limits) => false,
    };
    if !told && !asked.ever() {
        return Err("no request in time".to_owned());
    }
    connection.as_mut().graceful_shutdown();
    // who tells all to end cuts them as well
    let within = if told { Duration::MAX } else { limits.shutdown_timeout };
    match tokio::time::timeout(within, connection).await {
        Ok(ended) => ended.map_err(|error| error.to_string()),
        Err(_) => Err("idle, and not ended in time".to_owned()),
    }
}
