//! Which repository URLs are accepted.

use url::Url;

use super::GitError;

/// Checks a URL and returns it in the normal form that is given to the Git library, so that only one parser decides
/// what it means.
///
/// `https://host/path` and `ssh://[user@]host/path` are accepted; `http://` and `file:///path` only with
/// `allow_insecure`. No form may carry a password, a query or a fragment, and the HTTP forms no user name either
/// (access tokens are written there).
///
/// # Errors
/// [`GitError::Url`], with what would be accepted. The URL itself is repeated only where it cannot hold a secret.
pub(super) fn check(text: &str, allow_insecure: bool) -> Result<String, GitError> {
    let accepted = if allow_insecure {
        "https://host/path, ssh://git@host/path, http://host/path or file:///path"
    } else {
        "https://host/path or ssh://git@host/path"
    };
    let refuse = |what: &str| Err(GitError::Url(format!("the URL {what}; accepted: {accepted}")));

    if text.chars().any(|c| c.is_whitespace() || c.is_control() || c == '\\') {
        return refuse("contains white space, a control character or a backslash");
    }
    let Some((scheme, _)) = text.split_once("://") else {
        return refuse(if text.contains('@') && text.contains(':') {
            "is in the short form user@host:path (write it as ssh://user@host/path)"
        } else {
            "has no scheme"
        });
    };
    let Ok(url) = Url::parse(text) else { return refuse("cannot be parsed") };
    match url.scheme() {
        "https" | "ssh" => {}
        "http" | "file" if allow_insecure => {}
        "http" => return refuse("is plain http, which anybody on the way can change"),
        "file" => return refuse("names a local file"),
        _ => return refuse(&format!("has the scheme {:?}", shorten(scheme))),
    }
    if url.password().is_some() {
        return refuse("contains a password (everybody who may read the object would see it)");
    }
    if url.scheme() != "ssh" && !url.username().is_empty() {
        return refuse("contains a user name or token (everybody who may read the object would see it)");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return refuse("contains a query (`?`) or a fragment (`#`)");
    }
    let has_host = url.host_str().is_some_and(|host| !host.is_empty());
    if has_host == (url.scheme() == "file") {
        return refuse(if has_host { "names a host before a local path" } else { "names no host" });
    }
    if url.path().trim_matches('/').is_empty() {
        return refuse("names no repository on the host");
    }
    Ok(url.into())
}

/// A scheme as an error may repeat it.
fn shorten(text: &str) -> String {
    text.chars().take(20).collect()
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn https_and_ssh_are_accepted() {
        for url in ["https://example.com/a/b.git", "ssh://git@example.com:2222/a/b", "https://[::1]:8443/a"] {
            assert_eq!(check(url, false).as_deref(), Ok(url));
        }
    }

    #[test]
    fn http_and_file_are_accepted_only_when_insecure_urls_are_allowed() {
        for url in ["http://127.0.0.1:8080/a", "file:///srv/a.git"] {
            assert_eq!(check(url, true).as_deref(), Ok(url));
            let error = check(url, false).unwrap_err();
            assert_eq!((error.reason(), error.permanent()), ("URLInvalid", true));
        }
    }

    #[test]
    fn other_forms_are_refused_with_what_is_accepted_and_without_the_secret() {
        for url in [
            "git@example.com:a/b.git",
            "git://example.com/a",
            "ext::sh -c id",
            "ext::sh%20-c://x",
            "/srv/a.git",
            "",
            "https://",
            "https://example.com",
            "https://user:s3cret@example.com/a",
            "https://s3cret@example.com/a",
            "ssh://git:s3cret@example.com/a",
            "https://example.com/a?private_token=s3cret",
            "https://example.com/a#s3cret",
            "https://example.com/a\nb",
            "https://example.com\\@evil.example/a",
            "file://host/a",
            "ftp://example.com/a",
            "javascript://s3cret",
        ] {
            let error = check(url, true).expect_err(url).to_string();
            assert!(error.contains("https://host/path"), "{url}: {error}");
            assert!(!error.contains("s3cret"), "{url}: {error}");
        }
    }
}
