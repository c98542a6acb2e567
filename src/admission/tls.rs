//! TLS of the servers: one configuration for the life of the process, the certificate swapped underneath it.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// ALPN id of HTTP/2.
pub(super) const HTTP_2: &[u8] = b"h2";
const HTTP_1_1: &[u8] = b"http/1.1";

/// The cryptography, named at each use: no default of the process is set or relied on.
pub(super) fn provider() -> CryptoProvider {
    rustls::crypto::ring::default_provider()
}

/// The certificate that is served now.
#[derive(Debug)]
pub struct Serving {
    current: ArcSwapOption<CertifiedKey>,
    /// Until there is one that the API server trusts, probes (they verify none) are answered under this one, which nobody
    /// trusts: a liveness probe must not depend on a certificate.
    stopgap: Arc<CertifiedKey>,
}

impl Serving {
    pub(super) fn new(stopgap: Arc<CertifiedKey>) -> Serving {
        Serving { current: ArcSwapOption::empty(), stopgap }
    }

    /// From the next handshake on.
    pub(super) fn swap(&self, certificate: Arc<CertifiedKey>) {
        self.current.store(Some(certificate));
    }

    /// Whether there is one that was made to be trusted.
    pub(super) fn has_certificate(&self) -> bool {
        self.current.load().is_some()
    }
}

impl ResolvesServerCert for Serving {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full().unwrap_or_else(|| Arc::clone(&self.stopgap)))
    }
}

/// TLS 1.2 and 1.3, HTTP/1.1 and, where `http_2` says so, HTTP/2; sessions resumed by tickets whose keys rotate by themselves.
///
/// # Errors
/// When the random generator of the system fails.
pub fn server_config(serving: Arc<Serving>, http_2: bool) -> Result<Arc<ServerConfig>, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(rustls::DEFAULT_VERSIONS)?
        .with_no_client_auth()
        .with_cert_resolver(serving);
    config.alpn_protocols = vec![HTTP_1_1.to_vec()];
    if http_2 {
        config.alpn_protocols.insert(0, HTTP_2.to_vec());
    }
    config.ticketer = rustls::crypto::ring::Ticketer::new()?;
    Ok(Arc::new(config))
}
