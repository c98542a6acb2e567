//! An HTTP server on 127.0.0.1: the real `git http-backend`, or one of the ways in which servers misbehave.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt as _};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// How the server treats a request.
#[derive(Clone)]
pub enum Manner {
    Honest,
    /// Answers with this status and these headers, and no body.
    Status(u16, Vec<(&'static str, String)>),
    /// Answers every request with headers, and then nothing.
    Hangs,
    /// Is honest but for the content type, in which `@` stands for `advertisement` or `result`.
    Says(&'static str),
    /// Sends a byte at a time.
    Trickles,
    /// Is honest but for the pack, which breaks off in the middle.
    ResetsHalfWay,
    /// Says that it is a Git server, and talks rubbish.
    Garbage,
    /// Is honest but for the pack, which is rubbish.
    GarbagePack,
    /// Is honest but for the pack, which never ends.
    EndlessPack,
    /// Is honest, and has `main` of this repository moved to this commit before it sends a pack.
    MovesMain(PathBuf, String),
    /// Names branches for ever.
    EndlessBranches,
    /// Is honest, but begins with the last bytes of its branches only when it is told to go on.
    HoldsBranches(watch::Receiver<bool>),
    /// The same with the second half of its packs.
    HoldsPacks(watch::Receiver<bool>),
}

/// A running server; it stops when it is dropped.
pub struct Server {
    address: SocketAddr,
    /// Method and path of every request.
    pub requests: Arc<Mutex<Vec<String>>>,
    manner: Arc<Mutex<Manner>>,
    task: tokio::task::JoinHandle<()>,
}

type Body = StreamBody<BoxStream<'static, Result<Frame<Bytes>, std::io::Error>>>;

impl Server {
    pub async fn start(root: &Path) -> Self {
        Self::with(root, Manner::Honest).await
    }

    pub async fn with(root: &Path, manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let manner = Arc::new(Mutex::new(manner));
        let (root, log, current) = (root.to_owned(), Arc::clone(&requests), Arc::clone(&manner));
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (root, log, current) = (root.clone(), Arc::clone(&log), Arc::clone(&current));
                connections.spawn(async move {
                    let service = service_fn(move |request| {
                        let (root, manner) = (root.clone(), current.lock().unwrap().clone());
                        log.lock().unwrap().push(format!("{} {}", request.method(), request.uri()));
                        async move { Ok::<_, Infallible>(answer(root, manner, request).await) }
                    });
                    // A client that goes away is what some of the tests are about.
                    drop(
                        hyper::server::conn::http1::Builder::new()
                            .serve_connection(TokioIo::new(stream), service)
                            .await,
                    );
                });
            }
        });
        Self { address, requests, manner, task }
    }

    /// Changes how requests are treated from now on.
    pub fn behave(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
    }

    pub fn url(&self, repository: &str) -> String {
        format!("http://{}/{repository}", self.address)
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// How often a pack was asked for.
    pub fn packs(&self) -> usize {
        self.requests.lock().unwrap().iter().filter(|line| line.starts_with("POST")).count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[expect(clippy::too_many_lines, reason = "an arm a manner")]
async fn answer(root: PathBuf, manner: Manner, request: Request<Incoming>) -> Response<Body> {
    let pack = request.method() == "POST";
    match manner {
        Manner::Honest => backend(&root, request).await,
        Manner::Status(status, headers) => {
            let mut response = Response::builder().status(status);
            for (name, value) in headers {
                response = response.header(name, value);
            }
            response.body(body(stream::empty())).unwrap()
        }
        Manner::Hangs => git(pack, stream::pending()),
        Manner::Trickles => {
            let drip = stream::unfold((), |()| async {
                tokio::time::sleep(Duration::from_millis(50)).await;
                Some((Bytes::from_static(b"x"), ()))
            });
            git(pack, stream::iter([Bytes::from_static(b"fff0#")]).chain(drip))
        }
        Manner::Garbage => git(pack, stream::iter([Bytes::from(vec![0xa5; 100_000])])),
        Manner::EndlessBranches => {
            let first = pkt(&format!("{} refs/heads/main\0side-band-64k\n", "1".repeat(40)));
            let start = ["001e# service=git-upload-pack\n0000", &first].concat();
            git(
                pack,
                stream::iter([Bytes::from(start)]).chain(stream::iter((0..).map(|block| {
                    let lines = (0..100).map(|n| pkt(&format!("{} refs/heads/branch-{block}-{n}\n", "1".repeat(40))));
                    Bytes::from(lines.collect::<String>())
                }))),
            )
        }
        Manner::Says(content_type) => {
            let mut response = backend(&root, request).await;
            let text = content_type.replace('@', if pack { "result" } else { "advertisement" });
            response.headers_mut().insert("content-type", text.parse().unwrap());
            response
        }
        Manner::HoldsBranches(go) if !pack => held(backend(&root, request).await, |length| length - 4, go).await,
        _ if !pack => backend(&root, request).await,
        Manner::HoldsBranches(_) => backend(&root, request).await,
        Manner::HoldsPacks(go) => held(backend(&root, request).await, |length| length / 2, go).await,
        Manner::MovesMain(repository, commit) => {
            let mut command: tokio::process::Command = super::support::command(&repository).into();
            assert!(command.args(["update-ref", "refs/heads/main", &commit]).status().await.unwrap().success());
            backend(&root, request).await
        }
        Manner::ResetsHalfWay => {
            let honest = BodyExt::collect(backend(&root, request).await.into_body()).await.unwrap().to_bytes();
            let half = Frame::data(honest.slice(..honest.len() / 2));
            let broken = stream::iter([Ok(half)]).chain(stream::once(async {
                tokio::time::sleep(Duration::from_millis(50)).await;
                Err(std::io::Error::other("reset"))
            }));
            headers(pack).body(StreamBody::new(broken.boxed())).unwrap()
        }
        Manner::GarbagePack => git(pack, stream::iter([Bytes::from_static(b"0008NAK\n"), band(&[0xa5; 5000])])),
        Manner::EndlessPack => {
            // One blob of 2 GB, deflated into stored blocks.
            let head =
                [b"PACK\0\0\0\x02\0\0\0\x01".as_slice(), &[0xbf, 0xff, 0xff, 0xff, 0x3f], &[0x78, 0x01]].concat();
            let block = [[0, 0x00, 0x80, 0xff, 0x7f].as_slice(), &[0x55; 0x8000]].concat();
            let start = [Bytes::from_static(b"0008NAK\n"), band(&head)];
            git(pack, stream::iter(start).chain(stream::repeat(band(&block))))
        }
    }
}

/// A response that stops at a byte until it is told to go on.
async fn held(response: Response<Body>, at: fn(usize) -> usize, mut go: watch::Receiver<bool>) -> Response<Body> {
    let (head, content) = response.into_parts();
    let mut start = BodyExt::collect(content).await.unwrap().to_bytes();
    let end = start.split_off(at(start.len()));
    let wait = async move {
        // Whoever could tell may be gone: then this is the end, too.
        drop(go.wait_for(|go| *go).await);
        end
    };
    Response::from_parts(head, body(stream::iter([start]).chain(stream::once(wait))))
}

fn pkt(text: &str) -> String {
    format!("{:04x}{text}", text.len() + 4)
}

/// A packet of pack data.
fn band(data: &[u8]) -> Bytes {
    [format!("{:04x}\x01", data.len() + 5).as_bytes(), data].concat().into()
}

fn headers(pack: bool) -> hyper::http::response::Builder {
    let kind =
        if pack { "application/x-git-upload-pack-result" } else { "application/x-git-upload-pack-advertisement" };
    Response::builder().header("content-type", kind)
}

fn git(pack: bool, chunks: impl futures::Stream<Item = Bytes> + Send + 'static) -> Response<Body> {
    headers(pack).body(body(chunks)).unwrap()
}

fn body(chunks: impl futures::Stream<Item = Bytes> + Send + 'static) -> Body {
    StreamBody::new(chunks.map(|chunk| Ok(Frame::data(chunk))).boxed())
}

/// Runs `git http-backend`, a CGI program.
async fn backend(root: &Path, request: Request<Incoming>) -> Response<Body> {
    let (head, incoming) = request.into_parts();
    let input = incoming.collect().await.unwrap().to_bytes();
    let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("").to_owned();
    let mut command: tokio::process::Command = super::support::command(root).into();
    let mut child = command
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REQUEST_METHOD", head.method.as_str())
        .env("PATH_INFO", head.uri.path())
        .env("QUERY_STRING", head.uri.query().unwrap_or(""))
        .env("CONTENT_TYPE", header("content-type"))
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("CONTENT_LENGTH", input.len().to_string())
        .stdin(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let write = async move { stdin.write_all(&input).await };
    let (_, output) = tokio::join!(write, child.wait_with_output());
    let output = output.unwrap().stdout;
    let end = output.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
    let mut response = Response::builder();
    for line in std::str::from_utf8(&output[..end]).unwrap().lines() {
        let (name, value) = line.split_once(": ").unwrap();
        response = match name {
            "Status" => response.status(StatusCode::from_bytes(&value.as_bytes()[..3]).unwrap()),
            _ => response.header(name, value),
        };
    }
    response.body(body(stream::iter([Bytes::from(output[end + 4..].to_vec())]))).unwrap()
}

/// A TLS server for `localhost` that passes everything on to a port. Returns its own port and its certificate as PEM.
pub async fn tls(to: u16) -> (u16, String) {
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let certificate = key.cert.pem();
    let private = rustls::pki_types::PrivateKeyDer::try_from(key.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![key.cert.der().clone()], private)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    // It ends with the runtime of the test.
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut inner = tokio::net::TcpStream::connect(("127.0.0.1", to)).await.unwrap();
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    drop(tokio::io::copy_bidirectional(&mut stream, &mut inner).await);
                }
            });
        }
    });
    (port, certificate)
}
