//! Load over kept connections, each sending its next request when the last is answered.
//!
//! The client is hand-written: it shares the machine with what it measures, and a whole HTTP client would cost as much as the
//! server. It checks every verdict.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// What is sent where, and what must come back.
pub(crate) struct Target {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    pub(crate) bodies: Vec<Vec<u8>>,
    pub(crate) allowed: bool,
}

struct Connection {
    stream: TlsStream<TcpStream>,
    requests: Arc<Vec<Vec<u8>>>,
    next: usize,
    allowed: bool,
    buffer: Vec<u8>,
}

/// Connections to one target.
pub(crate) struct Load {
    connections: Vec<Connection>,
}

impl Load {
    pub(crate) async fn open(target: &Target, connections: usize, config: Arc<ClientConfig>) -> Load {
        let requests = target.bodies.iter().map(|body| request(body)).collect();
        let requests: Arc<Vec<Vec<u8>>> = Arc::new(requests);
        let mut opened = Vec::new();
        for number in 0..connections {
            let stream = TcpStream::connect(target.address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let name = ServerName::IpAddress(target.address.ip().into());
            let stream = TlsConnector::from(config.clone()).connect(name, stream).await.unwrap();
            let (requests, allowed) = (requests.clone(), target.allowed);
            opened.push(Connection { stream, requests, next: number, allowed, buffer: vec![0; 64 * 1024] });
        }
        Load { connections: opened }
    }

    /// Keeps all connections busy for `time`: the median time of an answer, and answers a second.
    pub(crate) async fn turn(&mut self, time: Duration) -> (Duration, f64) {
        let start = Instant::now();
        let turns = self.connections.drain(..).map(|mut connection| {
            tokio::spawn(async move {
                let mut times = Vec::new();
                while start.elapsed() < time {
                    let asked = Instant::now();
                    connection.ask().await;
                    times.push(asked.elapsed());
                }
                (connection, times)
            })
        });
        let turns: Vec<_> = turns.collect();
        let mut times = Vec::new();
        for turn in turns {
            let (connection, more) = turn.await.unwrap();
            self.connections.push(connection);
            times.extend(more);
        }
        let elapsed = start.elapsed();
        times.sort_unstable();
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let per_second = times.len() as f64 / elapsed.as_secs_f64();
        (times[times.len() / 2], per_second)
    }
}

fn request(body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST /validate?timeout=10s HTTP/1.1\r\nHost: webhook\r\nUser-Agent: kube-apiserver-admission\r\nAccept: \
         application/json, */*\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

impl Connection {
    async fn ask(&mut self) {
        let request = &self.requests[self.next % self.requests.len()];
        self.next += 1;
        self.stream.write_all(request).await.unwrap();
        self.stream.flush().await.unwrap();
        let mut read = 0;
        loop {
            read += match self.stream.read(&mut self.buffer[read..]).await.unwrap() {
                0 => panic!("the server hung up"),
                some => some,
            };
            if let Some(body) = whole(&self.buffer[..read]) {
                let verdict: &[u8] = if self.allowed { br#""allowed":true"# } else { br#""allowed":false"# };
                assert!(body.windows(verdict.len()).any(|window| window == verdict), "{}", body.escape_ascii());
                return;
            }
        }
    }
}

/// The body of an answer that has arrived whole.
fn whole(answer: &[u8]) -> Option<&[u8]> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&answer[..end]).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse::<usize>().unwrap();
    answer.get(end..end + length)
}
