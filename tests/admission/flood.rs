//! Who takes all that there is, and what is left for others.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use sekuire_policy::admission::routes::{Bodies, VALIDATE_PATH};
use sekuire_policy::admission::server::Limits;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpSocket;
use tokio::task::{JoinHandle, JoinSet};

use super::client::{Connection, handshake_from};
use super::server::{NAME, Server};

/// Longer than any of these tests takes where it succeeds.
const LONG: Duration = Duration::from_secs(60);

/// A body that is declared and never sent.
struct Unsent(u64);

impl Body for Unsent {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.0 == 0 { Poll::Ready(None) } else { Poll::Pending }
    }

    fn is_end_stream(&self) -> bool {
        self.0 == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0)
    }
}

/// An HTTP/2 connection from an address, and what drives it until it ends.
struct Peer {
    sender: SendRequest<Unsent>,
    driven: JoinHandle<()>,
}

impl Peer {
    /// `window`: how much of each answer it takes before it reads any.
    async fn new(server: &Server, source: IpAddr, window: u32) -> Peer {
        let stream = handshake_from(source, server.address, NAME, server.config("h2")).await.unwrap();
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(window)
            .keep_alive_interval(Duration::from_millis(100))
            .keep_alive_while_idle(true)
            .handshake(TokioIo::new(stream))
            .await
            .unwrap();
        Peer { sender, driven: tokio::spawn(async move { drop(connection.await) }) }
    }

    async fn healthz(&self) -> Option<StatusCode> {
        ask(self.sender.clone(), Method::GET, "/healthz", 0).await.map(|response| response.status())
    }

    /// Begins requests whose bodies never arrive; their answers come as they are given.
    fn flood(&self, requests: usize, answers: &mut JoinSet<Option<StatusCode>>) {
        for _ in 0..requests {
            let answer = ask(self.sender.clone(), Method::POST, VALIDATE_PATH, 60_000);
            answers.spawn(async move { answer.await.map(|response| response.status()) });
        }
    }
}

/// The answer to a request whose body is of this length, and does not come if it has any.
async fn ask(
    mut sender: SendRequest<Unsent>,
    method: Method,
    path: &'static str,
    length: u64,
) -> Option<Response<Incoming>> {
    sender.ready().await.ok()?;
    let request = Request::builder().method(method).uri(format!("https://webhook{path}"));
    sender.send_request(request.body(Unsent(length)).unwrap()).await.ok()
}

fn address(last: u8) -> IpAddr {
    IpAddr::from([127, 0, 0, last])
}

/// How long an address waits for the answer to a review, on a connection that it opens for it.
async fn answered(server: &Server) -> Duration {
    answered_from(server, address(1)).await
}

async fn answered_from(server: &Server, source: IpAddr) -> Duration {
    let start = Instant::now();
    let mut connection = Connection::from(source, server.address, NAME, server.config("h2")).await.unwrap();
    let reply = connection.post(VALIDATE_PATH, vec![b'x'; 8000]).await.unwrap();
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    start.elapsed()
}

#[tokio::test]
async fn bodies_that_an_address_does_not_send_hold_up_no_other_address() {
    let server = Server::with(Limits::default(), &Bodies { arrive: LONG, ..Bodies::default() }).await;
    let (mut peers, mut answers) = (Vec::new(), JoinSet::new());
    for _ in 0..8 {
        let peer = Peer::new(&server, address(2), 65_535).await;
        peer.flood(100, &mut answers);
        peers.push(peer);
    }
    // 256 have a place, as many wait for one, and the rest is told to come again
    for _ in 0..800 - 2 * 256 {
        let answer = tokio::time::timeout(LONG, answers.join_next()).await.unwrap();
        assert_eq!(answer.unwrap().unwrap(), Some(StatusCode::SERVICE_UNAVAILABLE));
    }
    let took = answered(&server).await;
    assert!(took < LONG / 4, "{took:?}");
    assert!(answers.try_join_next().is_none(), "the others still wait");
}

#[tokio::test]
async fn nor_do_those_of_a_dozen_addresses() {
    let server = Server::with(Limits::default(), &Bodies { arrive: LONG, ..Bodies::default() }).await;
    let (mut peers, mut answers) = (Vec::new(), JoinSet::new());
    for last in (2..14).flat_map(|last| [last; 3]) {
        let peer = Peer::new(&server, address(last), 65_535).await;
        // one stream is left for who asks whether all have come
        peer.flood(99, &mut answers);
        assert_eq!(peer.healthz().await, Some(StatusCode::OK));
        peers.push(peer);
    }
    let took = answered(&server).await;
    assert!(took < LONG / 4, "{took:?}");
}

#[tokio::test]
async fn large_ones_of_a_dozen_addresses_have_another_wait_for_no_longer_than_they_may_take() {
    let arrive = Duration::from_secs(2);
    let server = Server::with(Limits::default(), &Bodies { arrive, ..Bodies::default() }).await;
    let (mut peers, mut answers) = (Vec::new(), JoinSet::new());
    for last in 2..14 {
        let peer = Peer::new(&server, address(last), 65_535).await;
        for _ in 0..16 {
            let answer = ask(peer.sender.clone(), Method::POST, VALIDATE_PATH, 1_000_000);
            answers.spawn(async move { answer.await.map(|response| response.status()) });
        }
        assert_eq!(peer.healthz().await, Some(StatusCode::OK));
        peers.push(peer);
    }
    // eight addresses hold all the places of large ones; those that wait for one come in turn
    let start = Instant::now();
    let mut connection = server.http2().await;
    let reply = connection.post(VALIDATE_PATH, vec![b'x'; 200_000]).await.unwrap();
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    assert!(start.elapsed() < 2 * arrive, "{:?}", start.elapsed());
    // and what is not large does not wait for them at all
    let took = answered(&server).await;
    assert!(took < arrive, "{took:?}");
}

#[tokio::test]
async fn an_answer_that_is_not_taken_keeps_its_place_and_is_dropped_in_time() {
    let arrive = Duration::from_secs(2);
    // nor one of which a single byte is
    for taken in [0, 1] {
        // an address gets one place
        let server = Server::with(Limits::default(), &Bodies { arrive, small: 4, ..Bodies::default() }).await;
        let start = Instant::now();
        let config = server.config("h2");
        let mut untaking = Connection::taking(taken, address(1), server.address, NAME, config).await.unwrap();
        let request = Request::post(VALIDATE_PATH);
        let _untaken = untaking.begin(request, vec![b'x'; 8000].into()).await.unwrap();
        let elsewhere = answered_from(&server, address(9)).await;
        assert!(elsewhere < arrive, "{elsewhere:?}");
        let mut connection = server.http2().await;
        let reply = connection.post(VALIDATE_PATH, vec![b'x'; 8000]).await.unwrap();
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
        assert!(start.elapsed() >= arrive, "the place was free before the answer was dropped: {:?}", start.elapsed());
    }
}

#[tokio::test]
async fn what_waits_for_a_place_gets_it_when_its_turn_comes() {
    let server = Server::with(Limits::default(), &Bodies { arrive: LONG, large: 1, ..Bodies::default() }).await;
    let connection = server.http2().await;
    let mut answers = JoinSet::new();
    // more than the window of a connection once was, and than there are places
    for _ in 0..60 {
        let mut connection = connection.another();
        answers.spawn(async move { connection.post(VALIDATE_PATH, vec![b'x'; 200_000]).await.unwrap().status });
    }
    while let Some(status) = answers.join_next().await {
        assert_eq!(status.unwrap(), StatusCode::OK);
    }
}

#[tokio::test]
async fn an_address_gets_a_share_of_the_connections_and_leaves_some_for_others() {
    let limits = Limits { connections: 16, first_request: 2 * LONG, ..Limits::default() };
    let server = Server::start(limits).await;
    let config = server.config("h2");
    let mut held = Vec::new();
    let connect = || {
        let connecting = handshake_from(address(2), server.address, NAME, config.clone());
        async { tokio::time::timeout(LONG, connecting).await.expect("refused, or not") }
    };
    while let Ok(stream) = connect().await {
        held.push(stream);
    }
    assert_eq!(held.len(), 4);
    let reply = server.http1().await.get("/healthz").await.unwrap();
    assert_eq!(reply.status, StatusCode::OK);
    // what it gives back it may have again
    drop(held);
    let start = Instant::now();
    while connect().await.is_err() {
        assert!(start.elapsed() < LONG, "no connection any more");
    }
}

#[tokio::test]
async fn a_connection_on_which_nothing_is_asked_is_closed_whatever_it_answers_pings() {
    // long enough to ask in between on a busy machine
    let limits = Limits { idle: Duration::from_secs(3), ..Limits::default() };
    let server = Server::start(limits).await;
    let (idle, asking) = (Peer::new(&server, address(1), 65_535).await, Peer::new(&server, address(1), 65_535).await);
    assert_eq!(idle.healthz().await, Some(StatusCode::OK));
    let start = Instant::now();
    while !idle.driven.is_finished() {
        assert!(start.elapsed() < LONG, "it is still open");
        assert_eq!(asking.healthz().await, Some(StatusCode::OK));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(asking.healthz().await, Some(StatusCode::OK));
    assert!(idle.healthz().await.is_none());
}

#[tokio::test]
async fn an_idle_connection_that_does_not_end_is_cut() {
    let within = Duration::from_millis(500);
    let limits = Limits { idle: within, shutdown_timeout: within, ..Limits::default() };
    let server = Server::start(limits).await;
    // it never takes the answer
    let peer = Peer::new(&server, address(1), 0).await;
    let untaken = ask(peer.sender.clone(), Method::GET, "/healthz", 0).await.unwrap();
    tokio::time::timeout(LONG, peer.driven).await.expect("it is cut").unwrap();
    drop(untaken);
}

#[tokio::test]
async fn one_that_never_asks_over_http_2_is_dropped() {
    let limits = Limits { first_request: Duration::from_secs(3), ..Limits::default() };
    let server = Server::start(limits).await;
    let peer = Peer::new(&server, address(1), 65_535).await;
    tokio::time::timeout(LONG, peer.driven).await.expect("it is dropped").unwrap();
}

#[tokio::test]
async fn a_connection_over_the_share_is_closed_before_anything_is_done_for_it() {
    let limits = Limits { connections: 4, first_request: 2 * LONG, ..Limits::default() };
    let server = Server::start(limits).await;
    let connect = async || {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(address(2), 0)).unwrap();
        socket.connect(server.address).await.unwrap()
    };
    let _held = connect().await;
    let mut refused = connect().await;
    let read = tokio::time::timeout(LONG, refused.read(&mut [0; 16])).await.expect("it is closed");
    assert_eq!(read.unwrap_or(0), 0);
}
