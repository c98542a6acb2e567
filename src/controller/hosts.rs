//! For which hosts a Secret is: whoever names it in a `PolicyRepository` needs no right on Secrets, and would otherwise decide to
//! whom its credentials are sent.

use http::uri::Authority;
use url::Url;

/// The annotation of a Secret that lists them.
pub const HOSTS: &str = "sekuire.ai/hosts";

/// What an entry may be, for whoever wrote another one.
const ACCEPTED: &str =
    "accepted are hosts, such as git.example.com, git.example.com:8443 or *.example.com, with commas between them";

/// How much of an entry that is none is repeated.
const SHOWN: usize = 60;

/// Whether a list (commas or white space between its entries) names the server of a URL. An entry without port is for the port
/// that the scheme has by default; `*.` stands for one label, as in certificates.
///
/// # Errors
/// A clause about the list, if an entry is none.
pub fn names(list: &str, url: &Url) -> Result<bool, String> {
    let Some(host) = url.host_str() else { return Ok(false) };
    let port = port(url);
    let mut named = false;
    for entry in list.split(|c: char| c == ',' || c.is_whitespace()).filter(|entry| !entry.is_empty()) {
        // every one is looked at, so that a bad one is found when it is written and not when it is needed
        let (pattern, own) = parse(entry).ok_or_else(|| {
            let shown: String = entry.chars().filter(|c| !c.is_control()).take(SHOWN).collect();
            format!("has {shown:?} in its annotation {HOSTS}; {ACCEPTED}")
        })?;
        named |= own.or_else(|| default_port(url)) == port && matches(&pattern, host);
    }
    Ok(named)
}

/// The server of a URL as one writes it into the list.
pub fn entry(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default().to_ascii_lowercase();
    match port(url) {
        Some(port) if Some(port) != default_port(url) => format!("{host}:{port}"),
        _ => host,
    }
}

/// Host, in lower case, and port. An `Authority` is what a URL has between `//` and its path.
fn parse(entry: &str) -> Option<(String, Option<u16>)> {
    let authority: Authority = entry.parse().ok()?;
    let host = authority.host().to_ascii_lowercase();
    let plain = host.strip_prefix("*.").unwrap_or(&host);
    // an address in brackets was looked at by the parser, which takes more of a name than hosts have
    let name = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    let good = !plain.is_empty() && (plain.starts_with('[') || name(plain)) && !entry.contains('@');
    let port = authority.port();
    // `host:` and `host:99999` are no hosts either
    (good && port.is_some() == (entry.len() > authority.host().len()))
        .then(|| (host, authority.port_u16()))
        .filter(|(_, own)| own.is_some() == port.is_some())
}

fn matches(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix("*.") {
        Some(rest) => {
            host.split_once('.').is_some_and(|(label, parent)| !label.is_empty() && rest.eq_ignore_ascii_case(parent))
        }
        None => pattern.eq_ignore_ascii_case(host),
    }
}

fn port(url: &Url) -> Option<u16> {
    url.port().or_else(|| default_port(url))
}

fn default_port(url: &Url) -> Option<u16> {
    match url.scheme() {
        "https" => Some(443),
        "http" => Some(80),
        "ssh" => Some(22),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(list: &str, url: &str) -> Result<bool, String> {
        names(list, &Url::parse(url).unwrap())
    }

    #[test]
    fn the_server_of_a_url_is_named_by_host_and_port_and_by_nothing_that_only_looks_like_it() {
        let long = "a.example,".repeat(1000);
        for (list, url, expected) in [
            ("git.example.com", "https://git.example.com/a", true),
            ("Git.Example.COM", "https://gIT.example.com/a", true),
            ("git.example.com", "ssh://git@GIT.example.com/a", true),
            ("git.example.com:443", "https://git.example.com/a", true),
            ("git.example.com", "https://git.example.com:443/a", true),
            ("a.example, git.example.com\nb.example", "https://git.example.com/a", true),
            ("git.example.com:8443", "https://git.example.com:8443/a", true),
            ("ssh.example.com:443", "ssh://git@ssh.example.com:443/a", true),
            ("[::1]:8443", "https://[::1]:8443/a", true),
            ("[::1]", "https://[::1]/a", true),
            ("*.example.com", "https://git.example.com/a", true),
            ("*.example.com:8443", "https://git.example.com:8443/a", true),
            ("xn--bcher-kva.example", "https://b\u{fc}cher.example/a", true),
            ("", "https://git.example.com/a", false),
            (" ,\n", "https://git.example.com/a", false),
            (&long, "https://git.example.com/a", false),
            ("git.example.com", "https://git.example.com:8443/a", false),
            ("git.example.com:8443", "https://git.example.com/a", false),
            ("git.example.com:443", "ssh://git@git.example.com/a", false),
            ("git.example.com:22", "https://git.example.com/a", false),
            ("git.example.com", "https://git.example.com.evil.example/a", false),
            ("git.example.com", "https://evil.example/git.example.com", false),
            ("git.example.com", "https://git.example.com@evil.example/a", false),
            ("git.example.com", "https://notgit.example.com/a", false),
            ("git.example.com", "https://git.example.com./a", false),
            ("example.com", "https://git.example.com/a", false),
            ("*.example.com", "https://example.com/a", false),
            ("*.example.com", "https://a.b.example.com/a", false),
            ("*.example.com", "https://evilexample.com/a", false),
            ("git.example.com", "file:///git.example.com", false),
        ] {
            assert_eq!(named(list, url), Ok(expected), "{list:?} {url}");
        }
    }

    #[test]
    fn what_is_no_host_is_an_error_that_says_what_would_be_one() {
        for entry in [
            "*",
            "*.",
            "git.*.com",
            "*git.example.com",
            "https://git.example.com",
            "git.example.com/a",
            "user@git.example.com",
            "git.example.com:",
            "git.example.com:0x1",
            "git.example.com:70000",
            "b\u{fc}cher.example",
            "::1",
            "a%2e.example",
            "\u{7}",
            &"x!".repeat(5000),
        ] {
            for list in [entry.to_owned(), format!("git.example.com,{entry}")] {
                let why = named(&list, "https://git.example.com/a").expect_err(entry);
                assert!(why.contains("accepted are hosts, such as git.example.com") && why.len() < 400, "{why}");
            }
        }
    }

    #[test]
    fn what_one_is_told_to_write_is_taken() {
        for url in
            ["https://Git.example.com/a", "https://[::1]:8443/a", "ssh://git@EXAMPLE.com:2222/a", "ssh://git@h:443/a"]
        {
            let url = Url::parse(url).unwrap();
            assert_eq!(names(&entry(&url), &url), Ok(true), "{url}");
        }
    }
}
