//! Git's HTTP transport over `ureq` and rustls, in the place of libgit2's own.
//!
//! That one has neither client certificates nor authorities for one repository, and follows a redirect to another port
//! of the same host with the credentials. cargo's `git2-curl` has the former, but holds a whole pack in memory, drops the
//! port from the `Host` header and always follows redirects.

use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use git2::Remote;
use git2::transport::{Service, SmartSubtransport, SmartSubtransportStream, Transport};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use ureq::http::{Response, StatusCode, header};
use ureq::{Agent, Body, BodyReader, Timeout};
use url::Url;

use super::settings::{CONNECT, silence};
use super::tls::Tls;
use super::{connector, github};
use crate::git::access::{Access, Login, Proxy};
use crate::git::{GitError, one_line};

/// Redirects that are followed, all of one server: forges make them when a repository is renamed.
const REDIRECTS: usize = 3;

const AGENT: &str = concat!("git/2.0 (sekuire ", env!("CARGO_PKG_VERSION"), ")");

/// The certificate authorities of the machine.
static MACHINE: OnceLock<Vec<CertificateDer<'static>>> = OnceLock::new();

/// Reads the certificate authorities of the machine, where they count. Before this process is locked in.
pub(super) fn load_authorities(access: &Access) {
    if access.authorities.is_none() {
        MACHINE.get_or_init(|| rustls_native_certs::load_native_certs().certs);
    }
}

/// What the last request failed of. libgit2 passes on nothing but a text, and this process does one job.
static FAILURE: Mutex<Option<GitError>> = Mutex::new(None);

/// Says why the last request failed.
pub(super) fn failed(error: GitError) {
    *FAILURE.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
}

/// Why the last request failed, if one did since this was asked.
pub(super) fn take_failure() -> Option<GitError> {
    FAILURE.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// The connection to the one server of a job.
#[derive(Clone)]
pub(super) struct Http {
    agent: Agent,
    authorization: Option<String>,
    /// The URL of the repository, after redirects.
    base: Arc<Mutex<Option<Url>>>,
}

impl Http {
    /// Also returns the login that counts: that of a GitHub App is exchanged for one with a token.
    ///
    /// # Errors
    /// [`GitError::Credentials`] if certificates or the proxy's address cannot be used; any, if GitHub gives no token.
    pub(super) fn new(access: &Access, timeout: Duration) -> Result<(Self, Access), GitError> {
        let proxy = access.proxy.as_ref().map(proxy).transpose()?;
        let config = Agent::config_builder()
            .proxy(proxy)
            .user_agent(AGENT)
            .accept_encoding("")
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .timeout_connect(Some(silence(timeout).min(CONNECT)))
            .timeout_per_read(Some(silence(timeout)))
            .timeout_per_write(Some(silence(timeout)))
            .build();
        let agent = Agent::with_parts(config, connector::connector(tls(access)?), connector::Unresolved);
        let mut access = access.clone();
        if let Login::GitHubApp(app) = &access.login {
            access.login = github::login(&agent, app)?;
        }
        Ok((Self { agent, authorization: access.authorization(), base: Arc::default() }, access))
    }

    /// For libgit2.
    pub(super) fn transport(&self, remote: &Remote<'_>) -> Result<Transport, git2::Error> {
        Transport::smart(remote, true, self.clone())
    }

    /// Asks what there is, and follows redirects as long as they stay on the same server.
    fn references(&self, mut at: Url) -> Result<Response<Body>, GitError> {
        for _ in 0..=REDIRECTS {
            let mut request = self.agent.get(format!("{}/info/refs?service=git-upload-pack", base(&at)));
            if let Some(authorization) = &self.authorization {
                request = request.header(header::AUTHORIZATION, authorization);
            }
            let response = request.call().map_err(|error| explain(&error))?;
            match redirect(&response, &at)? {
                Some(next) => at = next,
                None => {
                    *self.base.lock().unwrap_or_else(PoisonError::into_inner) = Some(at);
                    return self.good(response, "application/x-git-upload-pack-advertisement");
                }
            }
        }
        Err(redirected("too often"))
    }

    /// Asks for a pack.
    fn pack(&self, at: Url, asked: &[u8]) -> Result<Response<Body>, GitError> {
        let at = self.base.lock().unwrap_or_else(PoisonError::into_inner).clone().unwrap_or(at);
        let mut request = self
            .agent
            .post(format!("{}/git-upload-pack", base(&at)))
            .header(header::CONTENT_TYPE, "application/x-git-upload-pack-request")
            .header(header::ACCEPT, "application/x-git-upload-pack-result");
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let response = request.send(asked).map_err(|error| explain(&error))?;
        match redirect(&response, &at)? {
            Some(_) => Err(redirected("in the middle of a fetch")),
            None => self.good(response, "application/x-git-upload-pack-result"),
        }
    }

    fn good(&self, response: Response<Body>, kind: &str) -> Result<Response<Body>, GitError> {
        let status = response.status();
        match status {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let advice = match self.authorization {
                    Some(_) => "it does not accept the credentials of the Secret (spec.secretRef)",
                    None => "it wants credentials, and none are configured: name a Secret in spec.secretRef",
                };
                return Err(GitError::Authentication(format!("{REACH}: the server answers {status}: {advice}")));
            }
            StatusCode::NOT_FOUND => {
                return Err(GitError::Failed(format!(
                    "{REACH}: {status} (there is no repository there, or it is private)"
                )));
            }
            StatusCode::PROXY_AUTHENTICATION_REQUIRED => return Err(proxy_refuses()),
            _ => return Err(GitError::Failed(format!("{REACH}: the server answers {status}"))),
        }
        let found = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        // as Git does: without case, and whatever parameters a gateway on the way has added
        let media_type = found.and_then(|found| found.split(';').next()).map(str::trim);
        if media_type.is_some_and(|found| found.eq_ignore_ascii_case(kind)) {
            return Ok(response);
        }
        let found = one_line(found.unwrap_or("nothing")).into_owned();
        Err(GitError::Failed(format!("{REACH}: this is not a Git server: it sends {found:?}, not {kind:?}")))
    }
}

pub(super) const REACH: &str = "cannot reach the repository";

/// A URL without the `/` at its end.
fn base(url: &Url) -> &str {
    url.as_str().trim_end_matches('/')
}

/// Where a response says the repository is; `None`: here.
fn redirect(response: &Response<Body>, from: &Url) -> Result<Option<Url>, GitError> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
    let here = Url::parse(&format!("{}/info/refs", base(from))).ok();
    let to = location.zip(here).and_then(|(location, here)| here.join(location).ok());
    let Some(mut to) = to.filter(|to| to.origin() == from.origin()) else {
        return Err(redirected("to another server, or nowhere"));
    };
    let Some(path) = to.path().strip_suffix("/info/refs").map(str::to_owned) else {
        return Err(redirected("to what is no repository"));
    };
    to.set_path(&path);
    to.set_query(None);
    to.set_fragment(None);
    Ok(Some(to))
}

/// Where to is not said: the address may hold a token, for the server or for somebody else.
fn redirected(what: &str) -> GitError {
    GitError::Failed(format!(
        "{REACH}: the server redirects {what}, which is not followed: give the final address as the URL"
    ))
}

fn proxy_refuses() -> GitError {
    GitError::Authentication(format!(
        "{REACH}: the proxy does not accept the username and password of the Secret in spec.proxySecretRef, or wants some"
    ))
}

const ACCEPTED: &str = "accepted are TLS 1.2 and 1.3, and RSA of 2048 bits and more with SHA-2, ECDSA on P-256, P-384 and \
                        P-521 with SHA-2, and Ed25519";

/// What a failed request is due to, and what to look at.
pub(super) fn explain(error: &ureq::Error) -> GitError {
    if let ureq::Error::Other(inner) = error
        && let Some(error) = inner.downcast_ref::<GitError>()
    {
        return error.clone(); // no connection, and the parent has said why
    }
    let text = one_line(&error.to_string()).into_owned();
    GitError::Failed(match error {
        ureq::Error::ConnectProxyFailed(said) if ["401", "403", "407"].iter().any(|code| said.contains(code)) => {
            return proxy_refuses();
        }
        ureq::Error::ConnectProxyFailed(said) => format!("{REACH}: {} (look at spec.proxySecretRef)", one_line(said)),
        ureq::Error::Timeout(Timeout::Connect | Timeout::Resolve) => format!("{REACH}: no connection in time"),
        ureq::Error::Timeout(_) => {
            format!("{REACH}: timed out (the server is too slow, or something on the way drops the connection)")
        }
        _ if text.contains("CaUsedAsEndEntity") => format!(
            "{REACH}: TLS failed: the server shows the certificate of an authority (CA:TRUE), which is none of those that are \
             believed: put this very certificate into ca.crt in the Secret of spec.secretRef, or make the server one with \
             basicConstraints=critical,CA:FALSE"
        ),
        _ if text.contains("UnsupportedSignatureAlgorithm") => format!(
            "{REACH}: TLS failed: the server's certificate, or one of those that vouch for it, is signed in a way that is not \
             accepted; {ACCEPTED}"
        ),
        _ if text.contains("HandshakeFailure") => format!(
            "{REACH}: TLS failed: the server ends the handshake: it has no certificate or cipher of a kind that is accepted, or \
             wants one of the client; {ACCEPTED}"
        ),
        _ if text.contains("ertificate") => {
            format!(
                "{REACH}: TLS failed: {text} (ca.crt in the Secret of spec.secretRef says which authorities to believe)"
            )
        }
        _ => format!("{REACH}: {text}"),
    })
}

fn tls(access: &Access) -> Result<Tls, GitError> {
    let authorities = match &access.authorities {
        Some(pem) => certificates(pem, "ca.crt")?,
        // Those of the machine are looked at one by one: whoever put them there may have put in what is none.
        None => MACHINE.get().cloned().unwrap_or_default(),
    };
    let shown = access.client_certificate.as_ref().map(|client| {
        let chain = certificates(&client.chain, "tls.crt")?;
        let key = PrivateKeyDer::from_pem_slice(client.key.reveal().as_bytes()).map_err(|_| {
            let why = "tls.key holds no private key (PEM: PKCS #8, PKCS #1 or SEC 1, not encrypted)";
            GitError::Credentials(format!("tls.crt and tls.key of the Secret cannot be used: {why}"))
        })?;
        Ok((chain, key))
    });
    Tls::new(&authorities, shown.transpose()?)
}

fn certificates(pem: &str, key: &str) -> Result<Vec<CertificateDer<'static>>, GitError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let found = found.unwrap_or_default();
    let mut store = rustls::RootCertStore::empty();
    if found.is_empty() || store.add_parsable_certificates(found.iter().cloned()).1 > 0 {
        return Err(GitError::Credentials(format!(
            "{key} of the Secret cannot be used: it must hold certificates as PEM (-----BEGIN CERTIFICATE-----), and nothing else"
        )));
    }
    Ok(found)
}

fn proxy(proxy: &Proxy) -> Result<ureq::Proxy, GitError> {
    let unusable = || {
        GitError::Credentials(
            "address of the Secret in spec.proxySecretRef cannot be used; accepted: http://host:port or https://host:port, \
             and username and password as keys of their own"
                .into(),
        )
    };
    let url = Url::parse(&proxy.address).map_err(|_| unusable())?;
    let plain = url.username().is_empty() && url.password().is_none() && url.path() == "/" && url.query().is_none();
    let protocol = match url.scheme() {
        "http" if plain => ureq::ProxyProtocol::Http,
        "https" if plain => ureq::ProxyProtocol::Https,
        _ => return Err(unusable()),
    };
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else { return Err(unusable()) };
    let mut builder = ureq::Proxy::builder(protocol).host(host).port(port);
    if let Some((username, password)) = &proxy.login {
        builder = builder.username(username).password(password.reveal());
    }
    builder.build().map_err(|_| unusable())
}

impl SmartSubtransport for Http {
    fn action(&self, url: &str, action: Service) -> Result<Box<dyn SmartSubtransportStream>, git2::Error> {
        let url = Url::parse(url).map_err(|error| git2::Error::from_str(&error.to_string()))?;
        Ok(Box::new(Exchange { http: self.clone(), url, action, asked: Vec::new(), answer: None }))
    }

    fn close(&self) -> Result<(), git2::Error> {
        Ok(())
    }
}

/// One request, which is sent when its answer is read.
struct Exchange {
    http: Http,
    url: Url,
    action: Service,
    asked: Vec<u8>,
    answer: Option<BodyReader<'static>>,
}

impl Exchange {
    fn ask(&self) -> Result<BodyReader<'static>, GitError> {
        let response = match self.action {
            Service::UploadPackLs => self.http.references(self.url.clone()),
            Service::UploadPack => self.http.pack(self.url.clone(), &self.asked),
            Service::ReceivePackLs | Service::ReceivePack => Err(GitError::Request("nothing is ever pushed".into())),
        };
        response.map(|response| response.into_body().into_reader())
    }
}

impl Read for Exchange {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let outcome = match &mut self.answer {
            Some(answer) => answer.read(buffer).map_err(|error| broken(&error)),
            None => {
                self.ask().and_then(|answer| self.answer.insert(answer).read(buffer).map_err(|error| broken(&error)))
            }
        };
        outcome.map_err(|error| {
            let text = error.to_string();
            failed(error);
            io::Error::other(text)
        })
    }
}

fn broken(error: &io::Error) -> GitError {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<ureq::Error>()) {
        Some(error) => explain(error),
        None if error.kind() == io::ErrorKind::TimedOut => explain(&ureq::Error::Timeout(Timeout::RecvBody)),
        None => GitError::Failed(format!("{REACH}: the connection broke off: {}", one_line(&error.to_string()))),
    }
}

impl Write for Exchange {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.asked.extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
