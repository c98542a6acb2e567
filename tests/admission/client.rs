//! A client as the API server is one: HTTP over TLS, connections kept.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what cannot be set up ends the test")]

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Reply {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.to_vec()).unwrap()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// One connection.
pub(crate) struct Connection {
    sender: Sender,
    certificate: CertificateDer<'static>,
}

/// A configuration that trusts `authorities` (PEM) and speaks `protocol` (an ALPN id).
pub(crate) fn trusting(authorities: &str, protocol: &str) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authorities.as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

/// Takes any certificate, as the kubelet's probes do.
pub(crate) fn blind() -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Blind(provider)))
        .with_no_client_auth();
    Arc::new(config)
}

/// The same, speaking `protocol` (an ALPN id).
pub(crate) fn blind_over(protocol: &str) -> Arc<ClientConfig> {
    let mut config = (*blind()).clone();
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    Arc::new(config)
}

#[derive(Debug)]
struct Blind(Arc<CryptoProvider>);

impl ServerCertVerifier for Blind {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A TLS connection to `address`, which is to be `name`.
pub(crate) async fn handshake(
    address: SocketAddr,
    name: &str,
    config: Arc<ClientConfig>,
) -> std::io::Result<TlsStream<TcpStream>> {
    secured(TcpStream::connect(address).await?, name, config).await
}

/// The same from an address of one's own: on Linux all of 127.0.0.0/8 are.
pub(crate) async fn handshake_from(
    source: IpAddr,
    address: SocketAddr,
    name: &str,
    config: Arc<ClientConfig>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(source, 0))?;
    secured(socket.connect(address).await?, name, config).await
}

async fn secured(stream: TcpStream, name: &str, config: Arc<ClientConfig>) -> std::io::Result<TlsStream<TcpStream>> {
    stream.set_nodelay(true)?;
    TlsConnector::from(config).connect(ServerName::try_from(name.to_owned()).unwrap(), stream).await
}

impl Connection {
    /// Opens one, by HTTP/2 if the server takes up what `config` offers.
    pub(crate) async fn open(
        address: SocketAddr,
        name: &str,
        config: Arc<ClientConfig>,
    ) -> std::io::Result<Connection> {
        Connection::over(handshake(address, name, config).await?).await
    }

    /// The same from an address of one's own.
    pub(crate) async fn from(
        source: IpAddr,
        address: SocketAddr,
        name: &str,
        config: Arc<ClientConfig>,
    ) -> std::io::Result<Connection> {
        Connection::over(handshake_from(source, address, name, config).await?).await
    }

    /// One over HTTP/2 that takes so many bytes of an answer's body, and no more.
    pub(crate) async fn taking(
        bytes: u32,
        source: IpAddr,
        address: SocketAddr,
        name: &str,
        config: Arc<ClientConfig>,
    ) -> std::io::Result<Connection> {
        let stream = handshake_from(source, address, name, config).await?;
        let certificate = stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned();
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.initial_stream_window_size(bytes);
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(std::io::Error::other)?;
        tokio::spawn(connection);
        Ok(Connection { sender: Sender::Http2(sender), certificate })
    }

    async fn over(stream: TlsStream<TcpStream>) -> std::io::Result<Connection> {
        let session = stream.get_ref().1;
        let certificate = session.peer_certificates().unwrap()[0].clone().into_owned();
        let http_2 = session.alpn_protocol() == Some(b"h2");
        let io = TokioIo::new(stream);
        let sender = if http_2 {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
            tokio::spawn(connection);
            Sender::Http2(sender)
        } else {
            let (sender, connection) = http1::handshake(io).await.unwrap();
            tokio::spawn(connection);
            Sender::Http1(sender)
        };
        Ok(Connection { sender, certificate })
    }

    /// The certificate that the server showed.
    pub(crate) fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// For another request at the same time. HTTP/2 only.
    pub(crate) fn another(&self) -> Connection {
        match &self.sender {
            Sender::Http2(sender) => {
                Connection { sender: Sender::Http2(sender.clone()), certificate: self.certificate.clone() }
            }
            Sender::Http1(_) => panic!("HTTP/1 takes one request at a time"),
        }
    }

    pub(crate) async fn get(&mut self, path: &str) -> Result<Reply, hyper::Error> {
        self.send(Request::get(path), Bytes::new()).await
    }

    pub(crate) async fn post(&mut self, path: &str, body: impl Into<Bytes>) -> Result<Reply, hyper::Error> {
        self.send(Request::post(path).header("content-type", "application/json"), body.into()).await
    }

    pub(crate) async fn send(&mut self, request: http::request::Builder, body: Bytes) -> Result<Reply, hyper::Error> {
        let (parts, body) = self.begin(request, body).await?.into_parts();
        Ok(Reply { status: parts.status, headers: parts.headers, body: body.collect().await?.to_bytes() })
    }

    /// The same, up to the head of the answer: nothing of its body is taken before it is read.
    pub(crate) async fn begin(
        &mut self,
        request: http::request::Builder,
        body: Bytes,
    ) -> Result<Response<Incoming>, hyper::Error> {
        let body = Full::new(body);
        match &mut self.sender {
            Sender::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request.header("host", "webhook").body(body).unwrap()).await
            }
            Sender::Http2(sender) => {
                sender.ready().await?;
                let mut request = request.body(body).unwrap();
                let path = request.uri().path().to_owned();
                *request.uri_mut() = format!("https://webhook{path}").parse().unwrap();
                sender.send_request(request).await
            }
        }
    }
}
