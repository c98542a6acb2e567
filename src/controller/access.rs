//! How a repository is reached, out of the Secrets that it names. Their keys are those of Flux.

use std::sync::Arc;

use crate::git::{Access, ClientCertificate, GitError, GitHubApp, Login, Proxy};

use url::Url;

use super::hosts::{self, HOSTS};
use super::secrets::Content;

/// GitHub's API, unless `githubAppBaseURL` names another.
const GITHUB: &str = "https://api.github.com";

/// A Secret, and where it was named.
pub struct Named {
    /// `spec.secretRef` or `spec.proxySecretRef`.
    pub field: &'static str,
    /// Namespace and name.
    pub name: String,
    /// What it holds, and for whom.
    pub content: Arc<Content>,
}

/// The access that the Secrets of a repository give to its URL.
///
/// # Errors
/// [`GitError::Credentials`]: what is missing or wrong in which Secret, and what is accepted; or that the Secret is not for the
/// server of this URL.
pub fn access(url: &str, secret: Option<&Named>, proxy: Option<&Named>) -> Result<Access, GitError> {
    // what is no URL is refused, in words, before anything is sent
    let Ok(url) = Url::parse(url) else { return Ok(Access::default()) };
    let mut access = match secret {
        None => Access::default(),
        Some(secret) if url.scheme() == "ssh" => Access { login: ssh(secret)?, ..Access::default() },
        Some(secret) => https(secret)?,
    };
    if let Some(secret) = secret {
        secret.is_for(&url, &access)?;
    }
    // what it holds is sent to the address that it holds itself, wherever the repository is
    access.proxy = proxy.map(self::proxy).transpose()?;
    Ok(access)
}

fn ssh(secret: &Named) -> Result<Login, GitError> {
    let accepted = "an ssh:// repository takes identity (a private key), known_hosts (the server's host keys) and, for an \
                    encrypted key, password";
    Ok(Login::Ssh {
        identity: secret.text("identity")?.ok_or_else(|| secret.lacks("identity", accepted))?.into(),
        known_hosts: secret.text("known_hosts")?.ok_or_else(|| secret.lacks("known_hosts", accepted))?,
        passphrase: secret.word("password")?.map(Into::into),
    })
}

fn https(secret: &Named) -> Result<Access, GitError> {
    let accepted = "an https:// repository takes username and password, or bearerToken, or githubAppID, \
                    githubAppInstallationID and githubAppPrivateKey; and, with or without them, ca.crt, and tls.crt with \
                    tls.key";
    let app = github_app(secret, accepted)?;
    let login = match (secret.word("username")?, secret.word("password")?, secret.word("bearerToken")?) {
        (None, None, None) => app.map_or(Login::None, Login::GitHubApp),
        _ if app.is_some() => {
            return Err(secret.refused("holds githubAppID besides another login: it is to be one or the other"));
        }
        (Some(username), Some(password), None) => Login::Basic { username, password: password.into() },
        (None, None, Some(token)) => Login::Bearer(token.into()),
        (Some(_), Some(_), Some(_)) | (Some(_), None, Some(_)) | (None, Some(_), Some(_)) => {
            return Err(secret.refused("holds bearerToken besides username or password: it is to be one or the other"));
        }
        (Some(_), None, None) => return Err(secret.lacks("password", accepted)),
        (None, Some(_), None) => return Err(secret.lacks("username", accepted)),
    };
    let client_certificate = match (secret.text("tls.crt")?, secret.text("tls.key")?) {
        (None, None) => None,
        (Some(chain), Some(key)) => Some(ClientCertificate { chain, key: key.into() }),
        (Some(_), None) => return Err(secret.lacks("tls.key", accepted)),
        (None, Some(_)) => return Err(secret.lacks("tls.crt", accepted)),
    };
    let authorities = secret.text("ca.crt")?;
    if login == Login::None && client_certificate.is_none() && authorities.is_none() {
        return Err(secret.refused(&format!("holds none of the keys that count; {accepted}")));
    }
    Ok(Access { login, authorities, client_certificate, proxy: None })
}

fn github_app(secret: &Named, accepted: &str) -> Result<Option<GitHubApp>, GitError> {
    let Some(id) = secret.word("githubAppID")? else { return Ok(None) };
    let installation_id =
        secret.word("githubAppInstallationID")?.ok_or_else(|| secret.lacks("githubAppInstallationID", accepted))?;
    for (key, id) in [("githubAppID", &id), ("githubAppInstallationID", &installation_id)] {
        // it becomes a part of a URL
        if !id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.') {
            return Err(secret.refused(&format!("has a {key} that is none: it is a number, as GitHub shows it")));
        }
    }
    let private_key =
        secret.text("githubAppPrivateKey")?.ok_or_else(|| secret.lacks("githubAppPrivateKey", accepted))?.into();
    let base_url = secret.word("githubAppBaseURL")?.unwrap_or_else(|| GITHUB.to_owned());
    if !base_url.starts_with("https://") || base_url.contains(['@', '?', '#']) {
        return Err(secret.refused("has a githubAppBaseURL that is none, such as https://github.example.com/api/v3"));
    }
    Ok(Some(GitHubApp { id, installation_id, private_key, base_url }))
}

fn proxy(secret: &Named) -> Result<Proxy, GitError> {
    let accepted = "a proxy takes address (http://host:port), and, if it wants them, username and password";
    let login = match (secret.word("username")?, secret.word("password")?) {
        (None, None) => None,
        (Some(username), Some(password)) => Some((username, password.into())),
        (Some(_), None) => return Err(secret.lacks("password", accepted)),
        (None, Some(_)) => return Err(secret.lacks("username", accepted)),
    };
    let address = secret.word("address")?.ok_or_else(|| secret.lacks("address", accepted))?;
    Ok(Proxy { address, login })
}

impl Named {
    /// Whether its credentials may be used at a server. A Secret says so itself: by its annotation, or, for SSH, by its
    /// `known_hosts`, without which no server is talked to. One that holds nothing but authorities need not: they are no
    /// secret.
    fn is_for(&self, url: &Url, access: &Access) -> Result<(), GitError> {
        let (server, entry) = (url.host_str().unwrap_or_default(), hosts::entry(url));
        let how = || {
            let (namespace, name) = self.name.split_once('/').unwrap_or_default();
            format!(
                "whoever keeps it says so by its annotation, a list: kubectl annotate --overwrite secret -n {namespace} {name} \
                 {HOSTS}={entry}"
            )
        };
        match &self.content.hosts {
            Some(list) if hosts::names(list, url).map_err(|why| self.refused(&why))? => Ok(()),
            Some(_) => {
                Err(self
                    .refused(&format!("is not for {entry}, by its annotation {HOSTS}, and was not used; {}", how())))
            }
            None if matches!(access.login, Login::Ssh { .. }) => Ok(()),
            None if access.login == Login::None && access.client_certificate.is_none() => Ok(()),
            None => Err(self.refused(&format!("does not say that it is for {server}, and was not used; {}", how()))),
        }
    }

    fn text(&self, key: &str) -> Result<Option<String>, GitError> {
        let Some(value) = self.content.data.get(key) else { return Ok(None) };
        match String::from_utf8(value.0.clone()) {
            Ok(text) if !text.trim().is_empty() => Ok(Some(text)),
            Ok(_) => Err(self.refused(&format!("has an empty {key}"))),
            Err(_) => Err(self.refused(&format!("has a {key} that is no text (UTF-8)"))),
        }
    }

    /// Text of one line. The line break that editors and `echo` leave at the end would be sent as part of it.
    fn word(&self, key: &str) -> Result<Option<String>, GitError> {
        match self.text(key)? {
            Some(text) if text.contains(char::is_control) => Err(self.refused(&format!(
                "has a line break or another control character in {key}; `kubectl create secret generic --from-literal` \
                 puts none there"
            ))),
            text => Ok(text),
        }
    }

    fn lacks(&self, key: &str, accepted: &str) -> GitError {
        self.refused(&format!("has no key {key}; {accepted}"))
    }

    fn refused(&self, what: &str) -> GitError {
        GitError::Credentials(format!("Secret {} ({}) {what}", self.name, self.field))
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::super::secrets::Data;
    use super::*;

    fn data(keys: &[(&str, &str)]) -> Data {
        keys.iter().map(|(key, value)| ((*key).to_owned(), ByteString(value.as_bytes().to_vec()))).collect()
    }

    fn of(url: &str, keys: &[(&str, &str)]) -> Result<Access, String> {
        for_hosts(Some("example.com"), url, keys)
    }

    fn for_hosts(hosts: Option<&str>, url: &str, keys: &[(&str, &str)]) -> Result<Access, String> {
        let content = Content { data: data(keys), hosts: hosts.map(str::to_owned) };
        let secret = Named { field: "spec.secretRef", name: "system/s".into(), content: Arc::new(content) };
        access(url, Some(&secret), None).map_err(|error| {
            assert!(error.permanent() && error.reason() == "AuthenticationFailed", "{error}");
            error.to_string()
        })
    }

    #[test]
    fn a_secret_is_read_as_flux_reads_it() {
        let https = "https://example.com/a";
        let basic = of(https, &[("username", "u"), ("password", "p"), ("other", "x")]).unwrap();
        assert_eq!(basic.login, Login::Basic { username: "u".into(), password: "p".to_owned().into() });
        assert_eq!(of(https, &[("bearerToken", "t")]).unwrap().login, Login::Bearer("t".to_owned().into()));
        let app = [("githubAppID", "1"), ("githubAppInstallationID", "2"), ("githubAppPrivateKey", "k")];
        let Login::GitHubApp(app) = of(https, &app).unwrap().login else { panic!("no App") };
        assert_eq!((app.id.as_str(), app.base_url.as_str()), ("1", GITHUB));
        let tls = of(https, &[("ca.crt", "ca"), ("tls.crt", "c"), ("tls.key", "k")]).unwrap();
        assert_eq!((tls.login, tls.authorities.as_deref()), (Login::None, Some("ca")));
        assert_eq!(tls.client_certificate.unwrap().chain, "c");
        let ssh = of("ssh://git@example.com/a", &[("identity", "i\n"), ("known_hosts", "h\n"), ("password", "p")]);
        let Login::Ssh { passphrase, known_hosts, .. } = ssh.unwrap().login else { panic!("no ssh") };
        assert_eq!((passphrase.unwrap().reveal(), known_hosts.as_str()), ("p", "h\n"));
    }

    #[test]
    fn what_is_missing_or_wrong_is_named_with_what_is_accepted_and_no_value_is_repeated() {
        let (https, ssh) = ("https://example.com/a", "ssh://git@example.com/a");
        for (url, keys, says) in [
            (https, &[("username", "s3cret")][..], "has no key password; an https:// repository takes"),
            (https, &[("password", "s3cret")], "has no key username"),
            (https, &[("tls.crt", "s3cret")], "has no key tls.key"),
            (https, &[("tls.key", "s3cret")], "has no key tls.crt"),
            (https, &[("githubAppID", "1")], "has no key githubAppInstallationID"),
            (
                https,
                &[("githubAppID", "1"), ("githubAppInstallationID", "2/../3")],
                "githubAppInstallationID that is none",
            ),
            (https, &[("githubAppID", "1"), ("githubAppInstallationID", "2")], "has no key githubAppPrivateKey"),
            (https, &[("identity", "s3cret")], "none of the keys that count; an https:// repository takes"),
            (
                https,
                &[("username", "s3cret"), ("password", "s3cret\n")],
                "line break or another control character in password",
            ),
            (https, &[("username", "s3cret"), ("password", " ")], "empty password"),
            (https, &[("username", "s3cret"), ("password", "x"), ("bearerToken", "x")], "one or the other"),
            (ssh, &[("identity", "s3cret")], "has no key known_hosts; an ssh:// repository takes"),
            (ssh, &[("known_hosts", "s3cret")], "has no key identity"),
        ] {
            let error = of(url, keys).unwrap_err();
            assert!(error.contains(says) && error.contains("Secret system/s (spec.secretRef)"), "{error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
    }

    /// Each way to log in, over HTTPS.
    const LOGINS: [&[(&str, &str)]; 4] = [
        &[("username", "s3cret"), ("password", "s3cret")],
        &[("bearerToken", "s3cret")],
        &[("githubAppID", "1"), ("githubAppInstallationID", "2"), ("githubAppPrivateKey", "s3cret")],
        &[("tls.crt", "s3cret"), ("tls.key", "s3cret")],
    ];

    #[test]
    fn credentials_are_for_the_hosts_that_their_secret_names_and_a_refusal_says_what_to_write() {
        for keys in LOGINS {
            for (hosts, url, says) in [
                (None, "https://example.com/a", "does not say that it is for example.com"),
                (Some(""), "https://example.com/a", "is not for example.com"),
                (Some("example.com"), "https://example.com:8443/a", "is not for example.com:8443"),
                (Some("example.com"), "HTTPS://evil.example/a", "is not for evil.example"),
                (Some("https://example.com"), "https://example.com/a", "accepted are hosts, such as git.example.com"),
            ] {
                let error = for_hosts(hosts, url, keys).unwrap_err();
                assert!(error.contains(says) && error.contains("Secret system/s (spec.secretRef)"), "{error}");
                assert!(!error.contains("s3cret"), "{error}");
                if let Some((_, told)) =
                    error.split_once("kubectl annotate --overwrite secret -n system s sekuire.ai/hosts=")
                {
                    for_hosts(Some(told), url, keys).unwrap();
                }
            }
            for_hosts(Some("example.com"), "https://example.com/a", keys).unwrap();
            for_hosts(Some("a.example, *.example.com"), "https://git.example.com/a", keys).unwrap();
        }
    }

    #[test]
    fn known_hosts_say_for_whom_an_ssh_key_is_and_authorities_are_for_everybody_unless_the_annotation_says_less() {
        let ssh = [("identity", "i"), ("known_hosts", "h")];
        let authorities = [("ca.crt", "ca")];
        for (url, keys) in [("ssh://git@example.com/a", &ssh[..]), ("https://example.com/a", &authorities)] {
            for_hosts(None, url, keys).unwrap();
            for_hosts(Some("example.com"), url, keys).unwrap();
            assert!(for_hosts(Some("other.example"), url, keys).unwrap_err().contains("is not for example.com"));
        }
    }
}
