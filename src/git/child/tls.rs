//! TLS to Git servers, as Git and curl have it where `ureq`'s own is narrower.
//!
//! By hand, since `ureq` takes no verifier: a server may show the very certificate that is believed, also where that is one of
//! an authority, as `openssl req -x509` makes them (RFC 5280 does not forbid it; `webpki` does); and certificates on P-521, and
//! with SHA-512 on the smaller curves, which `ring` does not know, are verified by the crates that verify such SSH keys.

use std::fmt;
use std::io::{Read as _, Write as _};
use std::sync::{Arc, LazyLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::{
    AlgorithmIdentifier, CertificateDer, InvalidSignature, PrivateKeyDer, ServerName, SignatureVerificationAlgorithm,
    UnixTime, alg_id,
};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme, StreamOwned};
use ureq::Error;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport, TransportAdapter,
};

use crate::git::GitError;

/// What a client shows: its chain, and the key of it.
pub(super) type Shown = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// Puts TLS on a connection, where the URL wants it.
#[derive(Debug)]
pub(super) struct Tls(Arc<ClientConfig>);

impl Tls {
    /// Believes these authorities.
    ///
    /// # Errors
    /// [`GitError::Credentials`] if what the client shows cannot be used, or none of the authorities can.
    pub(super) fn new(authorities: &[CertificateDer<'static>], shown: Option<Shown>) -> Result<Tls, GitError> {
        let unusable =
            |what: &str, why: &dyn fmt::Display| GitError::Credentials(format!("{what} cannot be used: {why}"));
        let provider = Arc::new(provider());
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(authorities.iter().cloned());
        // a machine may have none, and plain http needs none
        let verifier = match roots.is_empty() {
            true => None,
            false => Some(
                WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                    .build()
                    .map_err(|error| unusable("the certificate authorities", &error))?,
            ),
        };
        let algorithms = provider.signature_verification_algorithms;
        let verifier = Arc::new(Verifier { verifier, believed: authorities.to_vec(), algorithms });
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable("TLS", &error))?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let config = match shown {
            None => config.with_no_client_auth(),
            Some((chain, key)) => config
                .with_client_auth_cert(chain, key)
                .map_err(|error| unusable("tls.crt and tls.key of the Secret", &error))?,
        };
        Ok(Tls(Arc::new(config)))
    }
}

impl<In: Transport> Connector<In> for Tls {
    type Out = Either<In, Encrypted>;

    fn connect(&self, details: &ConnectionDetails<'_>, chained: Option<In>) -> Result<Option<Self::Out>, Error> {
        let Some(transport) = chained else { return Err(Error::Tls("there is no connection to encrypt")) };
        if !details.needs_tls() || transport.is_tls() {
            return Ok(Some(Either::A(transport)));
        }
        let host = details.uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(host).map_err(|_| Error::Tls("the name of the host is none that TLS knows"))?;
        let mut conn = ClientConnection::new(Arc::clone(&self.0), name)?;
        let mut sock = TransportAdapter::new(transport.boxed(), details.current_time.clone());
        sock.set_timeout(details.timeout);
        conn.complete_io(&mut sock)?;
        let buffers = LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        Ok(Some(Either::B(Encrypted { buffers, stream: StreamOwned::new(conn, sock) })))
    }
}

/// A connection with TLS on it.
pub(super) struct Encrypted {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter>,
}

impl fmt::Debug for Encrypted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Encrypted")
    }
}

impl Transport for Encrypted {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.stream.get_mut().set_timeout(timeout);
        let output = self.buffers.output().get(..amount).unwrap_or_default();
        Ok(self.stream.write_all(output)?)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.stream.get_mut().set_timeout(timeout);
        let count = self.stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(count);
        Ok(count > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.get_mut().get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}

/// As `webpki`, and a certificate that is believed itself is believed where the server shows it.
#[derive(Debug)]
struct Verifier {
    verifier: Option<Arc<WebPkiServerVerifier>>,
    believed: Vec<CertificateDer<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(verifier) = &self.verifier else { return Err(rustls::CertificateError::UnknownIssuer.into()) };
        match verifier.verify_server_cert(shown, others, name, ocsp, now) {
            Err(error) if is_authority(&error) && self.believed.iter().any(|believed| believed == shown) => {
                in_its_time(shown, now)?;
                rustls::client::verify_server_name(&ParsedCertificate::try_from(shown)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, shown, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, shown, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Whether a certificate was refused for being one of an authority. rustls has no kind of error for it.
fn is_authority(error: &rustls::Error) -> bool {
    let rustls::Error::InvalidCertificate(rustls::CertificateError::Other(other)) = error else { return false };
    other.to_string().contains("CaUsedAsEndEntity") || format!("{other:?}").contains("CaUsedAsEndEntity")
}

fn in_its_time(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), rustls::Error> {
    use rustls::CertificateError::{BadEncoding, Expired, NotValidYet};
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).map_err(|_| BadEncoding)?;
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let validity = parsed.validity();
    match () {
        () if now < validity.not_before.timestamp() => Err(NotValidYet.into()),
        () if now > validity.not_after.timestamp() => Err(Expired.into()),
        () => Ok(()),
    }
}

/// What `ring` offers, and more signatures that are verified.
fn provider() -> CryptoProvider {
    static MORE: LazyLock<WebPkiSupportedAlgorithms> = LazyLock::new(|| {
        let ring = rustls::crypto::ring::default_provider().signature_verification_algorithms;
        let all: Vec<_> = ring.all.iter().copied().chain(EC).collect();
        // in TLS 1.2 the scheme says nothing of the curve
        let scheme = (SignatureScheme::ECDSA_NISTP521_SHA512, &SHA512[..]);
        let mapping: Vec<_> = ring.mapping.iter().copied().chain([scheme]).collect();
        // once in a process
        WebPkiSupportedAlgorithms { all: Box::leak(all.into()), mapping: Box::leak(mapping.into()) }
    });
    CryptoProvider { signature_verification_algorithms: *MORE, ..rustls::crypto::ring::default_provider() }
}

const P521_SHA512: &dyn SignatureVerificationAlgorithm =
    &Ec { curve: Curve::P521, key: alg_id::ECDSA_P521, signature: alg_id::ECDSA_SHA512 };
const P384_SHA512: &dyn SignatureVerificationAlgorithm =
    &Ec { curve: Curve::P384, key: alg_id::ECDSA_P384, signature: alg_id::ECDSA_SHA512 };
const P256_SHA512: &dyn SignatureVerificationAlgorithm =
    &Ec { curve: Curve::P256, key: alg_id::ECDSA_P256, signature: alg_id::ECDSA_SHA512 };
const P521_SHA384: &dyn SignatureVerificationAlgorithm =
    &Ec { curve: Curve::P521, key: alg_id::ECDSA_P521, signature: alg_id::ECDSA_SHA384 };
/// The first one is that of TLS 1.3.
static SHA512: [&dyn SignatureVerificationAlgorithm; 3] = [P521_SHA512, P384_SHA512, P256_SHA512];
const EC: [&dyn SignatureVerificationAlgorithm; 4] = [P521_SHA512, P384_SHA512, P256_SHA512, P521_SHA384];

#[derive(Clone, Copy, Debug)]
enum Curve {
    P256,
    P384,
    P521,
}

/// ECDSA on a curve, over a hash.
#[derive(Debug)]
struct Ec {
    curve: Curve,
    key: AlgorithmIdentifier,
    signature: AlgorithmIdentifier,
}

impl SignatureVerificationAlgorithm for Ec {
    fn verify_signature(&self, key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
        use p256::ecdsa::signature::hazmat::PrehashVerifier as _;
        let hash = if self.signature == alg_id::ECDSA_SHA384 { &ring::digest::SHA384 } else { &ring::digest::SHA512 };
        let hash = ring::digest::digest(hash, message);
        let verified = match self.curve {
            Curve::P256 => p256::ecdsa::VerifyingKey::from_sec1_bytes(key)
                .and_then(|key| key.verify_prehash(hash.as_ref(), &p256::ecdsa::Signature::from_der(signature)?)),
            Curve::P384 => p384::ecdsa::VerifyingKey::from_sec1_bytes(key)
                .and_then(|key| key.verify_prehash(hash.as_ref(), &p384::ecdsa::Signature::from_der(signature)?)),
            Curve::P521 => p521::ecdsa::VerifyingKey::from_sec1_bytes(key)
                .and_then(|key| key.verify_prehash(hash.as_ref(), &p521::ecdsa::Signature::from_der(signature)?)),
        };
        verified.map_err(|_| InvalidSignature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        self.key
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.signature
    }
}
