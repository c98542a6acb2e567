//! The read API of the controller or of the vendor, as a client.
//!
//! The HTTP client is the one that asks clusters. Nothing that a backend sends is believed, and it is sent nothing but
//! the id of a workspace and the token that was meant for it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use clap::Args;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, LOCATION, USER_AGENT};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use kube::client::Body;
use kube::{Client, Config};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use url::{Host, Url};

use super::Failure;
use crate::cli::source::Found;
use crate::cli::terminal::Progress;
use crate::cli::{Usage, files, proxy, warn};
use crate::git::one_line;
use crate::policy::{Format, MAX_DOCUMENT_BYTES};

/// How long it may take to accept a connection, and, unless the user says otherwise, to answer in full.
const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(20);
/// A document, and a little for what servers add to it.
const MAX_ANSWER_BYTES: usize = MAX_DOCUMENT_BYTES + 4096;
/// What of another answer is shown.
const EXCERPT: usize = 200;
const MAX_FILE_BYTES: usize = 1024 * 1024;

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Backend")]
pub(super) struct BackendArgs {
    /// Ask a read API: that of a controller (`sekuire controller --api-listen`) or of the vendor. An https:// URL; http://
    /// only on this machine. A proxy is taken from HTTPS_PROXY and NO_PROXY.
    #[arg(long, value_name = "URL")]
    backend: Option<String>,
    /// Certificate authorities of the backend or of an https:// repository, as PEM. Default: those of the system; for --repo
    /// also what SSL_CERT_FILE, GIT_SSL_CAINFO, or Git's http.sslCAInfo says.
    #[arg(long, value_name = "FILE")]
    pub(super) ca_file: Option<PathBuf>,
    /// File with the token that the backend wants (Authorization: Bearer), or an https:// repository (as a password). Default
    /// for --repo: what Git's credential helpers say, where the server asks.
    #[arg(long, value_name = "FILE")]
    pub(super) token_file: Option<PathBuf>,
}

/// A read API.
pub(super) struct Backend {
    url: Uri,
    authorities: Option<Vec<Vec<u8>>>,
    authorization: Option<HeaderValue>,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.url.to_string().trim_end_matches('/'))
    }
}

impl BackendArgs {
    /// The backend, if one is named.
    pub(super) fn backend(&self) -> anyhow::Result<Option<Backend>> {
        let Some(text) = &self.backend else { return Ok(None) };
        let url = checked(text)?;
        let authorities = self.ca_file.as_deref().map(authorities).transpose()?;
        let authorization = self.token_file.as_deref().map(authorization).transpose()?;
        Ok(Some(Backend { url, authorities, authorization }))
    }
}

/// The URL, if it is of a kind that is asked. It is not repeated: it may have a secret in it.
fn checked(text: &str) -> Result<Uri, Usage> {
    let refuse = |what: &str| Err(Usage(format!("--backend {what}; expected https://host[:port][/path]")));
    let Ok(url) = Url::parse(text) else { return refuse("is no URL") };
    let loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => return refuse("names no host"),
    };
    match url.scheme() {
        "https" => {}
        "http" if loopback => {}
        "http" => return refuse("is plain http, which anybody on the way can change"),
        _ => return refuse("has another scheme than https"),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return refuse("has a user name or password in it; a token is given with --token-file");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return refuse("has a query or a fragment");
    }
    url.as_str().parse().or_else(|_| refuse("is no URL"))
}

fn authorities(path: &Path) -> anyhow::Result<Vec<Vec<u8>>> {
    let text = files::read_text(path, MAX_FILE_BYTES)?;
    let authorities: Result<Vec<_>, _> =
        CertificateDer::pem_slice_iter(text.as_bytes()).map(|found| found.map(|der| der.to_vec())).collect();
    match authorities {
        Ok(authorities) if !authorities.is_empty() => Ok(authorities),
        _ => bail!("{} holds no certificates as PEM (-----BEGIN CERTIFICATE-----)", path.display()),
    }
}

fn authorization(path: &Path) -> anyhow::Result<HeaderValue> {
    let token = files::read_text(path, MAX_FILE_BYTES)?;
    if files::readable_by_others(path) {
        warn(&format!("{} can be read by others; chmod 600 it", path.display()));
    }
    let token = token.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        bail!("{} holds no token; expected one line without white space", path.display());
    }
    let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
        .map_err(|_| anyhow!("{} holds no token that can be sent", path.display()))?;
    value.set_sensitive(true);
    Ok(value)
}

impl Backend {
    /// What it says is in force in the workspace.
    pub(super) fn active(&self, workspace: &str, timeout: Option<Duration>) -> Result<Found, Failure> {
        let timeout = timeout.unwrap_or(ANSWER);
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(anyhow::Error::from)?;
        let _progress = Progress::new(format!("waiting for {self}"));
        let asked = runtime.block_on(async { tokio::time::timeout(timeout, self.ask(workspace)).await });
        // a name may still be looked up, and its resolver cannot be stopped: nobody waits for it
        runtime.shutdown_background();
        asked.unwrap_or_else(|_| Err(anyhow!("no whole answer from {self} within {} s", timeout.as_secs()).into()))
    }

    fn client(&self) -> anyhow::Result<Client> {
        let mut config = Config::new(self.url.clone());
        config.connect_timeout = Some(CONNECT);
        config.default_retry = false;
        config.root_cert.clone_from(&self.authorities);
        config.proxy_url = proxy::of_environment(&self.url)?;
        Ok(Client::try_from(config)?)
    }

    async fn ask(&self, workspace: &str) -> Result<Found, Failure> {
        let mut request = Request::get(format!("/api/v1/workspaces/{workspace}/policy/active"))
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, concat!("sekuire/", env!("CARGO_PKG_VERSION")));
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = request.body(Body::empty()).map_err(anyhow::Error::from)?;
        let answer = self.client()?.send(request).await.with_context(|| {
            format!("no answer from {self}; see that it can be reached, and that its certificate is one of --ca-file")
        })?;
        self.read(answer, workspace).await
    }

    async fn read(&self, answer: Response<Body>, workspace: &str) -> Result<Found, Failure> {
        let (head, body) = answer.into_parts();
        let json = head.headers.get(CONTENT_TYPE).is_some_and(is_json);
        let header =
            |name| head.headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).unwrap_or("nothing");
        let status = head.status;
        if status.is_redirection() {
            let to = excerpt(header(LOCATION).as_bytes());
            return Err(anyhow!(
                "{self} answers {status}, to {to}; that is not followed: give --backend the address itself"
            )
            .into());
        }
        let body = body_of(body).await.with_context(|| format!("the answer from {self} broke off"))?;
        let said = body.as_deref().map(excerpt).unwrap_or_default();
        match (status, body) {
            (StatusCode::OK, Some(bytes)) if json => {
                Ok(Found { bytes: bytes.to_vec(), format: Format::Json, commit: None })
            }
            (StatusCode::OK, None) if json => {
                Err(anyhow!("{self} answers with more than {MAX_ANSWER_BYTES} bytes; that is no policy document")
                    .into())
            }
            (StatusCode::NOT_FOUND, _) if json => {
                Err(Failure::Refused(format!("{self} has no policy in force for {workspace}: {said}")))
            }
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _) => {
                let advice =
                    if self.authorization.is_some() { "renew the token" } else { "it may want one: --token-file" };
                Err(anyhow!("{self} does not let you read: {status}; {advice}: {said}").into())
            }
            (status, _) if status == StatusCode::OK || status == StatusCode::NOT_FOUND => {
                let kind = excerpt(header(CONTENT_TYPE).as_bytes());
                Err(anyhow!("{self} answers {status} with {kind}, not application/json; is that the address of a read API? {said}").into())
            }
            (status, _) => Err(anyhow!("{self} answers {status}: {said}").into()),
        }
    }
}

/// `application/json` or `application/…+json`, with or without parameters.
fn is_json(kind: &HeaderValue) -> bool {
    let kind = kind.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind.strip_prefix("application/").is_some_and(|kind| kind == "json" || kind.ends_with("+json"))
}

/// The whole body; none if it is longer than any that is expected.
async fn body_of(body: Body) -> anyhow::Result<Option<Bytes>> {
    match Limited::new(body, MAX_ANSWER_BYTES).collect().await {
        Ok(whole) => Ok(Some(whole.to_bytes())),
        Err(e) if e.is::<LengthLimitError>() => Ok(None),
        Err(e) => Err(anyhow!(e)),
    }
}

/// The beginning of an answer, in one line.
fn excerpt(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(4 * EXCERPT)]);
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut excerpt: String = words.chars().take(EXCERPT).collect();
    if excerpt.len() < words.len() {
        excerpt.push('…');
    }
    one_line(&excerpt).into_owned()
}
