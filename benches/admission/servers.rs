//! What is measured, and its floors.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use sekuire_policy::admission::certificates::{Certificates, Files, Made, follow_files, make};
use sekuire_policy::admission::review::Answer;
use sekuire_policy::admission::routes::{Bodies, Handler};
use sekuire_policy::admission::server::{self, Limits};
use sekuire_policy::admission::{Names, PolicyIndex, Routes, Webhook};
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// A certificate that all of them show.
pub(crate) struct Certified {
    made: Made,
    folder: tempfile::TempDir,
}

/// The length of an answer that allows, without its uid.
fn allowed(uid: &str) -> String {
    format!(
        r#"{{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{{"uid":"{uid}","allowed":true}}}}"#
    )
}

impl Certified {
    pub(crate) fn new() -> Certified {
        let made = make(&Names::of_url(&"https://127.0.0.1".parse().unwrap()).unwrap(), Timestamp::now()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [("tls.crt", &made.certificate), ("tls.key", &made.key), ("ca.crt", &made.authority)] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        Certified { made, folder }
    }

    pub(crate) fn trusting(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.made.authority.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Arc::new(config)
    }

    /// hyper and rustls with nothing around them.
    pub(crate) async fn bare(&self) -> SocketAddr {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let chain = vec![CertificateDer::from_pem_slice(self.made.certificate.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(self.made.key.as_bytes()).unwrap();
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answer = Bytes::from(allowed("705ab4f5-6393-11e8-b7cc-42010a800002"));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                let (acceptor, answer) = (acceptor.clone(), answer.clone());
                tokio::spawn(async move {
                    let io = TokioIo::new(acceptor.accept(stream).await.unwrap());
                    let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                        let answer = answer.clone();
                        async move {
                            request.into_body().collect().await.unwrap();
                            Ok::<_, Infallible>(Response::new(Full::new(answer)))
                        }
                    });
                    hyper::server::conn::http1::Builder::new().serve_connection(io, service).await
                });
            }
        });
        address
    }

    /// The server of the webhook with a handler that allows everything.
    pub(crate) async fn allowing(&self) -> SocketAddr {
        self.serve(Allowing).await
    }

    /// The webhook.
    pub(crate) async fn webhook(&self, index: Arc<PolicyIndex>) -> SocketAddr {
        self.serve(Webhook::new(index)).await
    }

    async fn serve<H: Handler>(&self, handler: H) -> SocketAddr {
        let names = Names::of_url(&"https://127.0.0.1".parse().unwrap()).unwrap();
        let certificates = Arc::new(Certificates::new(names, std::time::Duration::ZERO, Timestamp::now()).unwrap());
        let path = |name: &str| self.folder.path().join(name);
        let files = Files { certificate: path("tls.crt"), key: path("tls.key"), authority: Some(path("ca.crt")) };
        tokio::spawn(follow_files(files, certificates.clone(), CancellationToken::new()));
        while certificates.not_after().is_none() {
            tokio::task::yield_now().await;
        }
        let listener = server::listen("127.0.0.1:0".parse().unwrap(), "--webhook-listen").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = certificates.serving();
        let routes = Routes::new(Arc::new(handler), serving.clone(), &Bodies::default());
        tokio::spawn(async move {
            server::serve(listener, serving, routes, Limits::default(), CancellationToken::new()).await
        });
        address
    }
}

struct Allowing;

impl Handler for Allowing {
    async fn validate(&self, body: Bytes) -> Answer {
        #[derive(Deserialize)]
        struct Review<'a> {
            #[serde(borrow)]
            request: Request<'a>,
        }
        #[derive(Deserialize)]
        struct Request<'a> {
            uid: &'a str,
        }
        let review: Review<'_> = serde_json::from_slice(&body).unwrap();
        let body = Bytes::from(allowed(review.request.uid));
        Answer { status: StatusCode::OK, content_type: "application/json", body }
    }

    fn ready(&self) -> std::result::Result<(), String> {
        Ok(())
    }
}
