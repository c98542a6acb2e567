//! The proxy on the way to a server, as the environment says: as curl, Git and kubectl read it.

use anyhow::anyhow;
use http::Uri;
use hyper_util::client::proxy::matcher::Matcher;

/// What names a proxy, by the scheme of the server.
const HTTPS: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
const HTTP: [&str; 3] = ["http_proxy", "ALL_PROXY", "all_proxy"];

/// The proxy for a server, with user name and password where it has such. None where NO_PROXY names the server, or where it
/// is this machine.
///
/// # Errors
/// When what the variable has is no URL. It is not repeated: it may have a password in it.
pub(super) fn of_environment(server: &Uri) -> anyhow::Result<Option<Uri>> {
    let here = matches!(server.host(), Some("localhost" | "[::1]"))
        || server.host().and_then(|host| host.parse::<std::net::IpAddr>().ok()).is_some_and(|ip| ip.is_loopback());
    // the matcher knows NO_PROXY, and keeps user name and password to itself
    if here || Matcher::from_env().intercept(server).is_none() {
        return Ok(None);
    }
    let names: &[&str] = if server.scheme_str() == Some("http") { &HTTP } else { &HTTPS };
    let set = names.iter().find_map(|name| Some((name, std::env::var(name).ok().filter(|it| !it.is_empty())?)));
    let Some((name, proxy)) = set else { return Ok(None) };
    let proxy = if proxy.contains("://") { proxy } else { format!("http://{proxy}") };
    proxy.parse().map(Some).map_err(|_| anyhow!("the proxy that {name} names is no URL; unset it, or mend it"))
}
