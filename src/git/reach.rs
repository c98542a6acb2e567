//! Where a job may connect to, and connecting there: done here and not in the child, which makes no sockets.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};
use url::Url;

use super::child::{CONNECT, silence};
use super::{GitError, Login, Request};

/// Names that are resolved at once. Each takes a thread that others need too, for as long as DNS does not answer.
static RESOLVING: Semaphore = Semaphore::const_new(32);

const REACH: &str = "cannot reach the repository";

/// What one job was told of.
#[derive(Debug, Default)]
pub(super) struct Reach {
    /// Hosts, without brackets, and ports.
    told: Vec<(String, u16)>,
    within: Duration,
}

impl Reach {
    /// The server of the repository, and the API that an App's key is exchanged at; or the proxy on the way to both.
    pub(super) fn of(request: &Request) -> Self {
        let mut urls = vec![request.url.as_str()];
        if let Login::GitHubApp(app) = &request.access.login {
            urls.push(&app.base_url);
        }
        if let Some(proxy) = &request.access.proxy {
            urls = vec![&proxy.address];
        }
        let told = if request.offline { Vec::new() } else { urls.into_iter().filter_map(place).collect() };
        Self { told, within: silence(request.timeout).min(CONNECT) }
    }

    /// Connects, if this job may. The outer error is that of a child that is not itself any more.
    pub(super) async fn connect(&self, host: &str, port: u16) -> Result<Result<TcpStream, GitError>, GitError> {
        let host = host.trim_matches(['[', ']']);
        if !self.told.iter().any(|(told, at)| told.eq_ignore_ascii_case(host) && *at == port) {
            return Err(GitError::Forbidden(format!(
                "the Git process asked for a connection to {:?}, port {port}, of which it was told nothing, and was stopped: \
                 a server or a repository may have taken it over",
                super::shown(host)
            )));
        }
        Ok(connect(host, port, self.within).await)
    }
}

fn place(url: &str) -> Option<(String, u16)> {
    let url = Url::parse(url).ok()?;
    let port = if url.scheme() == "ssh" { Some(url.port().unwrap_or(22)) } else { url.port_or_known_default() };
    Some((url.host_str()?.trim_matches(['[', ']']).to_owned(), port?))
}

/// Link-local addresses are not connected to: there, clouds hand out the machine's own credentials.
async fn connect(host: &str, port: u16, within: Duration) -> Result<TcpStream, GitError> {
    let failed = |why: &dyn std::fmt::Display| GitError::Failed(format!("{REACH}: {why}"));
    let late = || failed(&"no connection in time");
    let unknown = || failed(&"the name of the host cannot be resolved (look at it, and at DNS)");
    let deadline = Instant::now() + within;
    let resolve = async {
        let _turn = RESOLVING.acquire().await.ok();
        tokio::net::lookup_host((host, port)).await
    };
    let addresses = timeout_at(deadline, resolve).await.map_err(|_| late())?.map_err(|_| unknown())?;
    let addresses: Vec<SocketAddr> = addresses.collect();
    if addresses.iter().any(|address| link_local(address.ip().to_canonical())) {
        return Err(failed(&"the host has a link-local address, where no repository is looked for"));
    }
    let mut last = unknown();
    for (index, address) in addresses.iter().enumerate() {
        // half of what is left, so that one that does not answer leaves time for the others
        let left = deadline.saturating_duration_since(Instant::now());
        let time = if index + 1 == addresses.len() { left } else { left / 2 };
        match timeout(time, tokio::net::TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return blocking(stream).map_err(|error| failed(&error)),
            Ok(Err(error)) => last = failed(&error),
            Err(_) => last = late(),
        }
    }
    Err(last)
}

/// As the child uses it.
fn blocking(stream: tokio::net::TcpStream) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    let stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    Ok(stream)
}

fn link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}
