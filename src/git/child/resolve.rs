//! Names are resolved as usual, except to link-local addresses: there, clouds hand out the machine's own credentials.

use std::net::{IpAddr, ToSocketAddrs as _};

use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;
use url::{Host, Url};

use crate::git::GitError;

const LINK_LOCAL: &str = "the host has a link-local address, where no repository is looked for";

#[derive(Debug, Default)]
pub(super) struct NotLinkLocal(DefaultResolver);

impl Resolver for NotLinkLocal {
    fn resolve(&self, uri: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let found = self.0.resolve(uri, config, timeout)?;
        if found.iter().any(|address| link_local(address.ip().to_canonical())) {
            return Err(Error::Other(LINK_LOCAL.into()));
        }
        Ok(found)
    }
}

/// The same for a URL that libgit2 connects to by itself, which resolves the name once more. Whoever answers differently in
/// between gets to see the greeting of an SSH client, and nothing that a cloud would answer with credentials.
///
/// # Errors
/// [`GitError::Failed`], if the host has a link-local address or none.
pub(super) fn not_link_local(url: &Url) -> Result<(), GitError> {
    let refuse = |why: &dyn std::fmt::Display| Err(GitError::Failed(format!("cannot reach the repository: {why}")));
    let found: Vec<IpAddr> = match url.host() {
        Some(Host::Ipv4(address)) => vec![address.into()],
        Some(Host::Ipv6(address)) => vec![address.into()],
        Some(Host::Domain(name)) => match (name, url.port().unwrap_or(22)).to_socket_addrs() {
            Ok(found) => found.map(|address| address.ip()).collect(),
            Err(_) => return refuse(&"the name of the host cannot be resolved (look at it, and at DNS)"),
        },
        None => Vec::new(),
    };
    if found.iter().any(|address| link_local(address.to_canonical())) {
        return refuse(&LINK_LOCAL);
    }
    Ok(())
}

fn link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}
