//! The read API: its answers, and its server under readers that do not read.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use jiff::{SignedDuration, Timestamp};
use sekuire_policy::admission::read_api::answer;
use sekuire_policy::admission::server::{self, Limits};
use sekuire_policy::admission::{PolicyIndex, ReadApi};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::client::{Connection, trusting};
use super::server::{NAME, certificates};
use super::world;

const PATH: &str = "/api/v1/workspaces/ws_0/policy/active";

/// The answer to a request with these headers.
fn ask(index: &PolicyIndex, method: Method, path: &str, headers: &[(&str, &str)], now: Timestamp) -> Response<Bytes> {
    let request =
        headers.iter().fold(Request::builder().method(method).uri(path), |r, (name, value)| r.header(*name, *value));
    answer(index, &request.body(()).unwrap().into_parts().0, now)
}

fn get(index: &PolicyIndex, path: &str) -> Response<Bytes> {
    ask(index, Method::GET, path, &[], Timestamp::now())
}

fn message(answer: &Response<Bytes>) -> String {
    assert_eq!(answer.headers()["content-type"], "application/json");
    let body: Value = serde_json::from_slice(answer.body()).unwrap();
    body["message"].as_str().unwrap().to_owned()
}

#[test]
fn the_policy_in_force_is_served_with_its_members_in_order_and_its_key() {
    let answer = get(&world::index(1), PATH);
    assert_eq!(
        (answer.status(), &answer.headers()["content-type"]),
        (StatusCode::OK, &"application/json".parse().unwrap())
    );
    let document: serde_json::Map<String, Value> = serde_json::from_slice(answer.body()).unwrap();
    let names: Vec<&str> = document.keys().map(String::as_str).collect();
    assert_eq!(names[..6], ["policy_id", "workspace_id", "version", "status", "created_at", "content"]);
    assert_eq!(names.last(), Some(&"signing_public_key"));
    assert_eq!(document["signing_public_key"], world::key().public().to_hex());
}

#[test]
fn a_key_that_the_document_names_gives_way_to_the_trusted_one() {
    let index = world::filling(0);
    let mut document = world::signed(world::skeleton("ws_0"));
    document["signing_public_key"] = "00".repeat(32).into();
    world::enforce(&index, document, Timestamp::now());
    world::complete(&index);
    let document: Value = serde_json::from_slice(get(&index, PATH).body()).unwrap();
    assert_eq!(document["signing_public_key"], world::key().public().to_hex());
}

#[test]
fn the_id_may_be_percent_encoded_and_has_to_be_one() {
    let index = world::index(1);
    assert_eq!(get(&index, "/api/v1/workspaces/%77s%5F0/policy/active").status(), StatusCode::OK);
    for id in ["", "a%2Fb", "%00", "%ff", "_", &"w".repeat(64), "ws%200"] {
        let answer = get(&index, &format!("/api/v1/workspaces/{id}/policy/active"));
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{id}");
        assert!(message(&answer).starts_with("not the id of a workspace: expected "), "{id}");
    }
}

#[test]
fn a_workspace_without_policy_has_none_and_is_not_told_why() {
    let answer = get(&world::index(1), "/api/v1/workspaces/ws_1/policy/active");
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    assert_eq!(
        message(&answer),
        "the workspace ws_1 has no policy in force; the status of its WorkspacePolicy says why"
    );
}

#[test]
fn a_policy_is_served_until_it_expires() {
    let (index, now) = (world::filling(0), Timestamp::now());
    let expiry = now + SignedDuration::from_hours(1);
    let mut document = world::skeleton("ws_0");
    document["expires_at"] = expiry.to_string().into();
    world::enforce(&index, world::signed(document), now);
    world::complete(&index);
    let status = |now| ask(&index, Method::GET, PATH, &[], now).status();
    let last_moment = expiry - SignedDuration::from_nanos(1);
    assert_eq!((status(last_moment), status(expiry)), (StatusCode::OK, StatusCode::NOT_FOUND));
}

#[test]
fn a_replica_that_is_not_ready_says_when_to_come_again() {
    let answer = get(&world::filling(1), PATH);
    assert_eq!(
        (answer.status(), &answer.headers()["retry-after"]),
        (StatusCode::SERVICE_UNAVAILABLE, &"1".parse().unwrap())
    );
    assert_eq!(message(&answer), "this replica is not ready; try again");
}

#[test]
fn whoever_has_the_document_is_told_so() {
    let (index, now) = (world::index(2), Timestamp::now());
    let whole = get(&index, PATH);
    let tag = whole.headers()["etag"].to_str().unwrap();
    for known in [tag, "*", &format!("\"x\", W/{tag}")] {
        let answer = ask(&index, Method::GET, PATH, &[("if-none-match", known)], now);
        assert_eq!((answer.status(), answer.body().len()), (StatusCode::NOT_MODIFIED, 0), "{known}");
        assert_eq!(answer.headers()["etag"], tag);
    }
    let other = "/api/v1/workspaces/ws_1/policy/active";
    assert_eq!(ask(&index, Method::GET, other, &[("if-none-match", tag)], now).status(), StatusCode::OK);
    let none = "/api/v1/workspaces/ws_2/policy/active";
    assert_eq!(ask(&index, Method::GET, none, &[("if-none-match", "*")], now).status(), StatusCode::NOT_FOUND);
}

#[test]
fn other_methods_and_paths_are_refused() {
    let (index, now) = (world::index(1), Timestamp::now());
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS] {
        let answer = ask(&index, method, PATH, &[], now);
        assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(answer.headers()["allow"], "GET, HEAD");
    }
    for path in [
        "/",
        "/validate",
        "/readyz",
        "/api/v1/workspaces",
        "/api/v1/workspaces/ws_0/policy/active/",
        "/api/v1/workspaces/a/b/policy/active",
    ] {
        assert_eq!(get(&index, path).status(), StatusCode::NOT_FOUND, "{path}");
    }
}

struct Api {
    address: SocketAddr,
    authority: String,
    _stop: DropGuard,
}

impl Api {
    /// A server whose system buffers little, so that a reader that does not read is noticed after a few kilobytes.
    async fn start(index: Arc<PolicyIndex>, limits: Limits) -> Api {
        let folder = tempfile::tempdir().unwrap();
        let stop = CancellationToken::new();
        let (certificates, authority) = certificates(folder.path(), &stop).await;
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_send_buffer_size(8192).unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(128).unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(server::serve(listener, certificates.serving(), ReadApi::new(index), limits, stop.clone()));
        Api { address, authority, _stop: stop.drop_guard() }
    }

    async fn open(&self, protocol: &str) -> Connection {
        Connection::open(self.address, NAME, trusting(&self.authority, protocol)).await.unwrap()
    }

    /// Asks for the policy of `ws_0` and reads the status of the answer alone.
    async fn ask_and_do_not_read(&self) -> Stuck {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let stream = socket.connect(self.address).await.unwrap();
        let connector = TlsConnector::from(trusting(&self.authority, "http/1.1"));
        let mut stream = connector.connect(NAME.try_into().unwrap(), stream).await.unwrap();
        stream.write_all(format!("GET {PATH} HTTP/1.1\r\nhost: api\r\n\r\n").as_bytes()).await.unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).await.unwrap();
        Stuck { stream, status: String::from_utf8(status.to_vec()).unwrap() }
    }
}

/// A reader that does not read.
struct Stuck {
    stream: TlsStream<TcpStream>,
    status: String,
}

/// An index with a policy of nearly the largest size.
fn large() -> Arc<PolicyIndex> {
    let index = world::filling(0);
    let mut document = world::skeleton("ws_0");
    let tools: Vec<String> = (0..2000).map(|n| format!("tool_{n}_{}", "x".repeat(100))).collect();
    document["content"] = json!({"agent": {"capabilities": {"denied_tools": tools}}});
    world::enforce(&index, world::signed(document), Timestamp::now());
    world::complete(&index);
    index
}

#[tokio::test]
async fn a_large_document_arrives_whole_and_its_head_alone_when_asked_so() {
    let api = Api::start(large(), Limits::brief(Duration::ZERO)).await;
    let mut connection = api.open("http/1.1").await;
    let whole = connection.get(PATH).await.unwrap();
    assert_eq!(whole.json()["content"]["agent"]["capabilities"]["denied_tools"].as_array().unwrap().len(), 2000);
    let head = connection.send(Request::head(PATH), Bytes::new()).await.unwrap();
    assert_eq!((head.status, head.body.len()), (StatusCode::OK, 0));
    for name in ["content-length", "content-type", "etag"] {
        assert_eq!(head.headers[name], whole.headers[name], "{name}");
    }
    assert_eq!(whole.headers["content-length"], whole.body.len().to_string());
}

#[tokio::test]
async fn readers_that_do_not_read_have_others_come_again_at_once_and_are_cut() {
    // long enough for all of them to ask on a busy machine
    let lifetime = Duration::from_secs(12);
    let limits = Limits { lifetime: Some(lifetime), ..Limits::brief(Duration::ZERO) };
    let api = Api::start(large(), limits).await;
    let mut stuck = Vec::new();
    while stuck.len() < 64 {
        let reader = api.ask_and_do_not_read().await;
        if reader.status == "HTTP/1.1 503" {
            break;
        }
        assert_eq!(reader.status, "HTTP/1.1 200");
        stuck.push(reader);
    }
    assert_eq!(stuck.len(), 32);
    let start = Instant::now();
    let answer = api.open("http/1.1").await.get(PATH).await.unwrap();
    assert_eq!(
        (answer.status, &answer.headers["retry-after"]),
        (StatusCode::SERVICE_UNAVAILABLE, &"1".parse().unwrap())
    );
    assert_eq!(answer.json()["message"], "too many documents are being sent; try again");
    assert!(start.elapsed() < lifetime / 2, "{:?}", start.elapsed());
    // they hold on, and are cut
    let deadline = start + Duration::from_secs(60);
    while api.open("http/1.1").await.get(PATH).await.unwrap().status != StatusCode::OK {
        assert!(Instant::now() < deadline, "still too many");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut rest = Vec::new();
    let cut = stuck[0].stream.read_to_end(&mut rest).await;
    assert!(cut.is_err() && rest.len() < 200_000, "{cut:?} after {} bytes", rest.len());
}

#[tokio::test]
async fn a_connection_that_grows_old_is_told_to_open_another() {
    let limits = Limits { lifetime: Some(Duration::from_secs(4)), ..Limits::brief(Duration::ZERO) };
    let api = Api::start(world::index(1), limits).await;
    let mut connection = api.open("http/1.1").await;
    let mut asked = 0;
    let told = loop {
        let answer = connection.get(PATH).await.unwrap();
        assert_eq!(answer.status, StatusCode::OK);
        asked += 1;
        if let Some(told) = answer.headers.get("connection") {
            break told.clone();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(told, "close");
    assert!(asked > 3, "{asked}");
}
