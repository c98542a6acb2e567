//! Connections: accepted, shaken hands with, bounded in time and number, and ended in order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::Either;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::server::{Service, Shared, respond};
use super::tls::HTTP_2;

/// Accepts connections until the end of the drain that `shutdown` begins.
pub(super) async fn accept<S: Service>(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    shared: Arc<Shared<S>>,
    shutdown: CancellationToken,
) {
    let acceptor = tls.map(TlsAcceptor::from);
    let graceful = GracefulShutdown::new();
    let tasks = TaskTracker::new();
    let places = Arc::new(Semaphore::new(shared.limits.connections));
    let ended = end_of_drain(&shared, &shutdown);
    tokio::pin!(ended);
    // No new connections from here on: those that the kernel has queued are reset, and their clients go elsewhere.
    let kill = CancellationToken::new();
    loop {
        let (stream, place) = tokio::select! {
            biased;
            () = &mut ended => break,
            accepted = next(&listener, &places) => accepted,
        };
        let connection = Connection {
            acceptor: acceptor.clone(),
            shared: Arc::clone(&shared),
            watcher: graceful.watcher(),
            kill: kill.clone(),
        };
        tasks.spawn(connection.run(stream, place));
    }
    drop(listener);
    tasks.close();
    let orderly = async {
        graceful.shutdown().await;
        tasks.wait().await;
    };
    if tokio::time::timeout(shared.limits.shutdown_timeout, orderly).await.is_err() {
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

async fn next(listener: &TcpListener, places: &Arc<Semaphore>) -> (TcpStream, OwnedSemaphorePermit) {
    #[expect(clippy::expect_used, reason = "the semaphore is never closed")]
    let place = Arc::clone(places).acquire_owned().await.expect("open");
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, place),
            Err(error) => {
                // Out of file handles, or a connection that is gone again: neither ends the server, nor spins.
                tracing::warn!(%error, "connection not accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

struct Connection<S> {
    /// `None`: plain HTTP.
    acceptor: Option<TlsAcceptor>,
    shared: Arc<Shared<S>>,
    watcher: Watcher,
    kill: CancellationToken,
}

impl<S: Service> Connection<S> {
    async fn run(self, stream: TcpStream, place: OwnedSemaphorePermit) {
        let _place = place;
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
        let opened = Instant::now();
        let first_request = opened + self.shared.limits.first_request;
        let asked = Arc::new(AtomicBool::new(false));
        let Some(acceptor) = self.acceptor.clone() else {
            let http = self.speak(stream, false, opened, Arc::clone(&asked));
            return in_time(http, first_request, &asked).await;
        };
        let stream = tokio::time::timeout_at(first_request, acceptor.accept(stream))
            .await
            .map_err(|_| "no TLS handshake in time".to_owned())?
            .map_err(|error| error.to_string())?;
        let http_2 = stream.get_ref().1.alpn_protocol() == Some(HTTP_2);
        let http = self.speak(stream, http_2, opened, Arc::clone(&asked));
        in_time(http, first_request, &asked).await
    }

    fn speak<T: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        self,
        stream: T,
        http_2: bool,
        opened: Instant,
        asked: Arc<AtomicBool>,
    ) -> impl Future<Output = Result<(), String>> + Send {
        let limits = self.shared.limits.clone();
        let shared = self.shared;
        let service = service_fn(move |request| {
            asked.store(true, Ordering::Relaxed);
            respond(Arc::clone(&shared), opened, request)
        });
        let io = TokioIo::new(stream);
        if http_2 {
            let connection = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .max_concurrent_streams(250)
                .max_header_list_size(16 * 1024)
                .keep_alive_interval(Duration::from_secs(30))
                .keep_alive_timeout(Duration::from_secs(20))
                .serve_connection(io, service);
            Either::Left(watched(self.watcher, connection))
        } else {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                // It runs from the end of one request to the head of the next, so it is the time for which a connection may idle.
                .header_read_timeout(limits.idle)
                .max_header_size(16 * 1024)
                .max_buf_size(64 * 1024)
                .serve_connection(io, service);
            Either::Right(watched(self.watcher, connection))
        }
    }
}

/// Whoever connects must ask; a connection that has asked once may then lie idle.
async fn in_time(
    http: impl Future<Output = Result<(), String>>,
    first_request: Instant,
    asked: &AtomicBool,
) -> Result<(), String> {
    tokio::pin!(http);
    match tokio::time::timeout_at(first_request, &mut http).await {
        Ok(ended) => ended,
        Err(_) if !asked.load(Ordering::Relaxed) => Err("no request in time".to_owned()),
        Err(_) => http.await,
    }
}

async fn watched<C>(watcher: Watcher, connection: C) -> Result<(), String>
where
    C: hyper_util::server::graceful::GracefulConnection<Error = hyper::Error>,
{
    watcher.watch(connection).await.map(drop).map_err(|error| error.to_string())
}
