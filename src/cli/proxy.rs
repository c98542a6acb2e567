//! The proxy on the way to a server, as the environment says: as curl, Git and kubectl read it.

use anyhow::anyhow;
use http::Uri;
use hyper_util::client::proxy::matcher::Matcher;

/// What names a proxy.
const HTTPS: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

/// The proxy for an https server, with user name and password where it has such. None where NO_PROXY names the server.
///
/// # Errors
/// When what the variable has is no URL. It is not repeated: it may have a password in it.
pub(super) fn of_environment(server: &Uri) -> anyhow::Result<Option<Uri>> {
    // the matcher knows NO_PROXY, and keeps user name and password to itself
    if server.scheme_str() != Some("https") || Matcher::from_env().intercept(server).is_none() {
        return Ok(None);
    }
    let set = HTTPS.iter().find_map(|name| Some((name, std::env::var(name).ok().filter(|it| !it.is_empty())?)));
    let Some((name, proxy)) = set else { return Ok(None) };
    let proxy = if proxy.contains("://") { proxy } else { format!("http://{proxy}") };
    proxy.parse().map(Some).map_err(|_| anyhow!("the proxy that {name} names is no URL; unset it, or mend it"))
}

/// Whether a server is on this machine.
pub(super) fn is_here(server: &Uri) -> bool {
    let host = server.host().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Whether NO_PROXY names a server, so that no proxy counts that is set elsewhere either.
pub(super) fn is_spared(server: &Uri) -> bool {
    let set = |name: &str| std::env::var(name).ok().filter(|it| !it.is_empty());
    let Some(none) = set("NO_PROXY").or_else(|| set("no_proxy")) else { return false };
    Matcher::builder().all("http://proxy.invalid").no(none).build().intercept(server).is_none()
}
