//! The HTTPS server, whatever answers in it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use jiff::Timestamp;
use rustls::ClientConfig;
use sekuire_policy::admission::certificates::{Certificates, Files, follow_files};
use sekuire_policy::admission::review::Answer;
use sekuire_policy::admission::routes::{Bodies, Handler, MAX_BODY_BYTES, VALIDATE_PATH};
use sekuire_policy::admission::server::{self, Limits};
use sekuire_policy::admission::{Names, Routes};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::client::{Connection, handshake, trusting};

/// Says what it was sent; waits or panics when told to.
#[derive(Default)]
struct Echo {
    unready: AtomicBool,
    waiting: AtomicUsize,
    go_on: Notify,
}

impl Handler for Echo {
    async fn validate(&self, body: Bytes) -> Answer {
        match &*body {
            b"panic" => panic!("as it was told to"),
            b"wait" => {
                self.waiting.fetch_add(1, Ordering::SeqCst);
                self.go_on.notified().await;
            }
            _ => {}
        }
        Answer { status: StatusCode::OK, content_type: "text/plain", body }
    }

    fn ready(&self) -> Result<(), String> {
        if self.unready.load(Ordering::SeqCst) { Err("waiting for the tide".to_owned()) } else { Ok(()) }
    }
}

pub(super) const NAME: &str = "webhook.sekuire.svc";

/// A certificate for [`NAME`] in files of a folder, and its authority.
pub(super) fn write_certificate(folder: &std::path::Path) -> String {
    let names = Names::of_service("webhook", "sekuire");
    let made = sekuire_policy::admission::certificates::make(&names, Timestamp::now()).unwrap();
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join("tls.crt"), &made.certificate).unwrap();
    std::fs::write(folder.join("tls.key"), &made.key).unwrap();
    std::fs::write(folder.join("ca.crt"), &made.authority).unwrap();
    made.authority
}

pub(super) fn files(folder: &std::path::Path) -> Files {
    Files { certificate: folder.join("tls.crt"), key: folder.join("tls.key"), authority: Some(folder.join("ca.crt")) }
}

/// The same, as a server takes it.
pub(super) async fn certificates(folder: &std::path::Path, stop: &CancellationToken) -> (Arc<Certificates>, String) {
    let authority = write_certificate(folder);
    let names = Names::of_service("webhook", "sekuire");
    let certificates = Arc::new(Certificates::new(names, Duration::ZERO, Timestamp::now()).unwrap());
    tokio::spawn(follow_files(files(folder), certificates.clone(), stop.clone()));
    // the bundle is published a moment before the certificate is served
    while certificates.not_after().is_none() {
        tokio::task::yield_now().await;
    }
    (certificates, authority)
}

pub(super) struct Server {
    pub(super) address: SocketAddr,
    authority: String,
    echo: Arc<Echo>,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
    _folder: TempDir,
}

impl Server {
    pub(super) async fn start(limits: Limits) -> Server {
        Server::with(limits, &Bodies::default()).await
    }

    pub(super) async fn with(limits: Limits, bodies: &Bodies) -> Server {
        let folder = tempfile::tempdir().unwrap();
        let shutdown = CancellationToken::new();
        let (certificates, authority) = certificates(folder.path(), &shutdown).await;
        let listener = server::listen("127.0.0.1:0".parse().unwrap(), "--webhook-listen").await.unwrap();
        let address = listener.local_addr().unwrap();
        let echo = Arc::new(Echo::default());
        let (serving, stop) = (certificates.serving(), shutdown.clone());
        let routes = Routes::new(echo.clone(), serving.clone(), bodies);
        let task = tokio::spawn(async move {
            server::serve(listener, serving, routes, limits, stop).await.unwrap();
        });
        let server = Server { address, authority, echo, shutdown, task, _folder: folder };
        server.certified().await;
        server
    }

    /// The bundle is published a moment before the certificate is served.
    async fn certified(&self) {
        while self.open("http/1.1").await.is_err() {
            tokio::task::yield_now().await;
        }
    }

    pub(super) fn config(&self, protocol: &str) -> Arc<ClientConfig> {
        trusting(&self.authority, protocol)
    }

    async fn open(&self, protocol: &str) -> std::io::Result<Connection> {
        Connection::open(self.address, NAME, self.config(protocol)).await
    }

    pub(super) async fn http1(&self) -> Connection {
        self.open("http/1.1").await.unwrap()
    }

    pub(super) async fn http2(&self) -> Connection {
        self.open("h2").await.unwrap()
    }

    async fn until_waiting(&self, requests: usize) {
        while self.echo.waiting.load(Ordering::SeqCst) < requests {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn both_versions_of_http_reach_the_handler_and_keep_their_connection() {
    let server = Server::start(Limits::default()).await;
    for mut connection in [server.http1().await, server.http2().await] {
        for body in ["one", "two"] {
            let reply = connection.post(VALIDATE_PATH, body).await.unwrap();
            assert_eq!((reply.status, reply.text()), (StatusCode::OK, body.to_owned()));
        }
    }
}

#[tokio::test]
async fn what_is_not_served_is_refused_with_what_is() {
    let server = Server::start(Limits::default()).await;
    let mut connection = server.http1().await;
    let reply = connection.get("/nothing").await.unwrap();
    assert_eq!(reply.status, StatusCode::NOT_FOUND);
    assert_eq!(reply.text(), "there is POST /validate, GET /healthz and GET /readyz\n");
    let reply = connection.get(VALIDATE_PATH).await.unwrap();
    assert_eq!(reply.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(reply.headers["allow"], "GET, POST");
    let reply = connection.post("/healthz", "").await.unwrap();
    assert_eq!(reply.status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn readiness_says_what_is_awaited_and_health_does_not_depend_on_it() {
    let server = Server::start(Limits::default()).await;
    let mut connection = server.http1().await;
    assert_eq!(connection.get("/readyz").await.unwrap().status, StatusCode::OK);
    server.echo.unready.store(true, Ordering::SeqCst);
    let reply = connection.get("/readyz").await.unwrap();
    assert_eq!((reply.status, reply.text()), (StatusCode::SERVICE_UNAVAILABLE, "waiting for the tide\n".to_owned()));
    assert_eq!(connection.get("/healthz").await.unwrap().status, StatusCode::OK);
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_before_and_while_it_is_read() {
    let server = Server::start(Limits::default()).await;
    for mut connection in [server.http1().await, server.http2().await] {
        let reply = connection.post(VALIDATE_PATH, vec![b'x'; MAX_BODY_BYTES]).await.unwrap();
        assert_eq!((reply.status, reply.body.len()), (StatusCode::OK, MAX_BODY_BYTES));
    }
    // it says how long it is: refused unread
    let refused = raw(&server, "content-length: 3145729", "").await;
    assert!(refused.starts_with("HTTP/1.1 413"), "{refused}");
    assert!(refused.contains("larger than 3145728 bytes"), "{refused}");
    // it does not say
    let chunk = format!("300001\r\n{}\r\n0\r\n\r\n", "x".repeat(0x0030_0001));
    let refused = raw(&server, "transfer-encoding: chunked", &chunk).await;
    assert!(refused.starts_with("HTTP/1.1 413"), "{refused}");
}

/// Sends a POST by hand, and returns what comes back until the server closes the connection or says no more.
async fn raw(server: &Server, header: &str, body: &str) -> String {
    let mut stream = handshake(server.address, NAME, server.config("http/1.1")).await.unwrap();
    let head = format!("POST {VALIDATE_PATH} HTTP/1.1\r\nhost: webhook\r\n{header}\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    // the server may answer and close before it has read all
    let (mut reading, mut writing) = tokio::io::split(stream);
    let body = body.to_owned();
    let sent = tokio::spawn(async move { writing.write_all(body.as_bytes()).await.is_ok() });
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = reading.read(&mut buffer).await {
        answer.extend_from_slice(&buffer[..read]);
    }
    sent.abort();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn a_panic_is_an_error_of_its_request_alone() {
    let server = Server::start(Limits::default()).await;
    for mut connection in [server.http1().await, server.http2().await] {
        let reply = connection.post(VALIDATE_PATH, "panic").await.unwrap();
        assert_eq!(reply.status, StatusCode::INTERNAL_SERVER_ERROR);
        let reply = connection.post(VALIDATE_PATH, "again").await.unwrap();
        assert_eq!((reply.status, reply.text()), (StatusCode::OK, "again".to_owned()));
    }
}

#[tokio::test]
async fn a_request_that_waits_holds_up_no_other_of_its_connection() {
    let server = Server::start(Limits::default()).await;
    let mut connection = server.http2().await;
    let mut waiting = connection.another();
    let waiting = tokio::spawn(async move { waiting.post(VALIDATE_PATH, "wait").await.unwrap().status });
    server.until_waiting(1).await;
    assert_eq!(connection.post(VALIDATE_PATH, "quick").await.unwrap().text(), "quick");
    assert!(!waiting.is_finished());
    server.echo.go_on.notify_one();
    assert_eq!(waiting.await.unwrap(), StatusCode::OK);
}

#[tokio::test]
async fn whoever_connects_and_does_not_ask_is_dropped() {
    // long enough for a handshake on a busy machine
    let limits = Limits { first_request: Duration::from_secs(3), ..Limits::default() };
    let server = Server::start(limits).await;
    let mut asking = server.http1().await;
    asking.get("/healthz").await.unwrap();
    // no TLS
    let mut stranger = TcpStream::connect(server.address).await.unwrap();
    // TLS, and no request
    let mut silent = handshake(server.address, NAME, server.config("http/1.1")).await.unwrap();
    // a head that never ends
    let mut slow = handshake(server.address, NAME, server.config("http/1.1")).await.unwrap();
    slow.write_all(b"POST /validate HTTP/1.1\r\nhost: w").await.unwrap();
    assert_eq!(stranger.read(&mut [0; 16]).await.unwrap_or(0), 0);
    assert_eq!(silent.read(&mut [0; 16]).await.unwrap_or(0), 0);
    assert_eq!(slow.read(&mut [0; 16]).await.unwrap_or(0), 0);
    // one that has asked is kept
    asking.get("/healthz").await.unwrap();
}

#[tokio::test]
async fn a_body_that_does_not_arrive_is_given_up() {
    let bodies = Bodies { arrive: Duration::from_millis(200), ..Bodies::default() };
    let server = Server::with(Limits::default(), &bodies).await;
    let answer = raw(&server, "content-length: 10", "half").await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
}

#[tokio::test]
async fn large_bodies_that_do_not_arrive_hold_up_no_small_one() {
    let bodies = Bodies { arrive: Duration::from_secs(60), large: 1, ..Bodies::default() };
    let server = Server::with(Limits::default(), &bodies).await;
    let mut slow = handshake(server.address, NAME, server.config("http/1.1")).await.unwrap();
    slow.write_all(b"POST /validate HTTP/1.1\r\nhost: w\r\ncontent-length: 3000000\r\n\r\nx").await.unwrap();
    slow.flush().await.unwrap();
    let mut connection = server.http1().await;
    assert_eq!(connection.post(VALIDATE_PATH, "small").await.unwrap().text(), "small");
}

#[tokio::test]
async fn connections_over_the_limit_wait_until_one_ends() {
    let server = Server::start(Limits { connections: 1, ..Limits::default() }).await;
    let mut first = server.http1().await;
    first.get("/healthz").await.unwrap();
    let (address, config) = (server.address, server.config("http/1.1"));
    let second =
        tokio::spawn(async move { Connection::open(address, NAME, config).await.unwrap().get("/healthz").await });
    first.get("/healthz").await.unwrap();
    assert!(!second.is_finished());
    drop(first);
    assert_eq!(second.await.unwrap().unwrap().status, StatusCode::OK);
}

#[tokio::test]
async fn on_the_signal_it_is_unready_and_still_answers_and_then_ends_what_is_in_flight() {
    // long enough for three requests on a busy machine
    let limits = Limits { shutdown_delay: Duration::from_secs(4), ..Limits::default() };
    let server = Server::start(limits).await;
    let (mut idle, mut one, mut two) = (server.http1().await, server.http1().await, server.http2().await);
    idle.get("/healthz").await.unwrap();
    one.get("/healthz").await.unwrap();
    let mut in_flight = two.another();
    let in_flight = tokio::spawn(async move { in_flight.post(VALIDATE_PATH, "wait").await.unwrap().text() });
    server.until_waiting(1).await;
    server.shutdown.cancel();
    while two.get("/readyz").await.unwrap().status == StatusCode::OK {
        tokio::task::yield_now().await;
    }
    // HTTP/1 is told to go elsewhere, HTTP/2 learns it in its own way; both are answered, as is who is new
    let reply = one.post(VALIDATE_PATH, "still").await.unwrap();
    assert_eq!((reply.text(), &reply.headers["connection"]), ("still".to_owned(), &"close".parse().unwrap()));
    assert_eq!(two.post(VALIDATE_PATH, "still").await.unwrap().text(), "still");
    assert_eq!(server.http1().await.post(VALIDATE_PATH, "new").await.unwrap().text(), "new");
    // past the delay nobody is new, and the request in flight is waited for
    while TcpStream::connect(server.address).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(idle.get("/healthz").await.is_err(), "an idle connection is closed");
    assert!(!server.task.is_finished());
    server.echo.go_on.notify_one();
    assert_eq!(in_flight.await.unwrap(), "wait");
    server.task.await.unwrap();
}

#[tokio::test]
async fn what_does_not_end_in_time_is_cut() {
    let limits =
        Limits { shutdown_delay: Duration::ZERO, shutdown_timeout: Duration::from_millis(200), ..Limits::default() };
    let server = Server::start(limits).await;
    let mut stuck = server.http1().await;
    let stuck = tokio::spawn(async move { stuck.post(VALIDATE_PATH, "wait").await.is_err() });
    server.until_waiting(1).await;
    server.shutdown.cancel();
    server.task.await.unwrap();
    assert!(stuck.await.unwrap());
}

#[tokio::test]
async fn without_a_certificate_probes_are_answered_and_nobody_trusts_it() {
    let names = Names::of_service("webhook", "sekuire");
    let certificates = Certificates::new(names, Duration::ZERO, Timestamp::now()).unwrap();
    let listener = server::listen("127.0.0.1:0".parse().unwrap(), "--webhook-listen").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let routes = Routes::new(Arc::new(Echo::default()), certificates.serving(), &Bodies::default());
    tokio::spawn(server::serve(listener, certificates.serving(), routes, Limits::default(), stop));
    let folder = tempfile::tempdir().unwrap();
    let authority = write_certificate(folder.path());
    assert!(Connection::open(address, NAME, trusting(&authority, "h2")).await.is_err());
    // a probe takes any certificate
    let mut probe = Connection::open(address, NAME, super::client::blind()).await.unwrap();
    assert_eq!(probe.get("/healthz").await.unwrap().status, StatusCode::OK);
    let reply = probe.get("/readyz").await.unwrap();
    assert_eq!(
        (reply.status, reply.text()),
        (StatusCode::SERVICE_UNAVAILABLE, "waiting for a certificate\n".to_owned())
    );
}

#[tokio::test]
async fn an_address_that_is_taken_is_refused_with_the_flag_to_change() {
    let listener = server::listen("127.0.0.1:0".parse().unwrap(), "--webhook-listen").await.unwrap();
    let fault = server::listen(listener.local_addr().unwrap(), "--webhook-listen").await.unwrap_err().to_string();
    assert!(fault.starts_with("cannot listen on 127.0.0.1:") && fault.contains("--webhook-listen"), "{fault}");
}
