//! How a repository is reached: as whom, whom to believe, and through which proxy.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};

use super::GitError;

/// Shorter texts are not looked for where secrets must not show: they would be found everywhere.
const SHORTEST: usize = 4;

/// Text that nobody gets to see: it only goes to the fetch child, over its standard input.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The text.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// How a repository is reached. The default is as nobody, believing the authorities of the machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// As whom.
    pub login: Login,
    /// The certificate authorities that are believed, PEM; `None`: those of the machine.
    pub authorities: Option<String>,
    /// What the client shows in TLS.
    pub client_certificate: Option<ClientCertificate>,
    /// The way to `https://` servers.
    pub proxy: Option<Proxy>,
}

/// As whom a server is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Login {
    /// Nobody.
    #[default]
    None,
    /// HTTP basic authentication.
    Basic {
        /// User; anything, where the password is a token.
        username: String,
        /// Password or token.
        password: Secret,
    },
    /// HTTP bearer authentication.
    Bearer(Secret),
    /// A GitHub App, whose key the fetch child exchanges for a token.
    GitHubApp(GitHubApp),
    /// An SSH key.
    Ssh {
        /// Private key, PEM or OpenSSH.
        identity: Secret,
        /// What the key is encrypted with.
        passphrase: Option<Secret>,
        /// The host keys that are believed, as OpenSSH writes them.
        known_hosts: String,
    },
}

/// A GitHub App.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitHubApp {
    /// Its id.
    pub id: String,
    /// The id of its installation in an organisation.
    pub installation_id: String,
    /// Its RSA key, PEM.
    pub private_key: Secret,
    /// Where GitHub's API is.
    pub base_url: String,
}

/// A client's certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientCertificate {
    /// Chain, PEM.
    pub chain: String,
    /// Private key, PEM.
    pub key: Secret,
}

/// An HTTP proxy that is asked to CONNECT.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proxy {
    /// `http://host:port` or `https://host:port`.
    pub address: String,
    /// User and password, if it wants them.
    pub login: Option<(String, Secret)>,
}

impl Access {
    /// Whether anything secret is in it, which no insecure connection may carry.
    fn is_secret(&self) -> bool {
        self.login != Login::None || self.client_certificate.is_some()
    }

    /// Whether it fits a URL that was found fit itself.
    pub(super) fn check(&self, url: &str) -> Result<(), GitError> {
        let refuse = |what: &str| Err(GitError::Credentials(what.to_owned()));
        match url.split_once("://").map_or("", |(scheme, _)| scheme) {
            "ssh" => match self.login {
                Login::Ssh { .. } if self.proxy.is_none() => Ok(()),
                Login::Ssh { .. } => refuse(
                    "an ssh:// repository is not reached through a proxy: remove proxySecretRef, or use https://",
                ),
                _ => refuse(
                    "an ssh:// repository needs a Secret (spec.secretRef) with the keys identity and known_hosts; without \
                     known_hosts nobody could tell whose server answers",
                ),
            },
            _ if matches!(self.login, Login::Ssh { .. }) => refuse(
                "the Secret holds an SSH key (identity), which only an ssh:// URL can use; https:// takes username and \
                 password, bearerToken, or tls.crt and tls.key",
            ),
            "https" => Ok(()),
            _ if self.is_secret() => {
                refuse("credentials are sent over https:// and ssh:// only; use such a URL, or remove spec.secretRef")
            }
            _ => Ok(()),
        }
    }

    /// The value of the header `Authorization`.
    pub(super) fn authorization(&self) -> Option<String> {
        match &self.login {
            Login::Basic { username, password } => Some(basic(username, password)),
            Login::Bearer(token) => Some(format!("Bearer {}", token.reveal())),
            Login::None | Login::GitHubApp(_) | Login::Ssh { .. } => None,
        }
    }

    /// The same text without any secret of this access in it. Servers have been seen to repeat what they were sent.
    pub(super) fn hide(&self, text: &str) -> String {
        let mut shown = text.to_owned();
        for secret in self.secrets().iter().filter(|secret| secret.len() >= SHORTEST) {
            if shown.contains(&**secret) {
                shown = shown.replace(&**secret, "…");
            }
        }
        shown
    }

    fn secrets(&self) -> Vec<Cow<'_, str>> {
        let mut secrets: Vec<Cow<'_, str>> = Vec::new();
        let pair =
            |username: &str, password: &Secret| BASE64_STANDARD.encode(format!("{username}:{}", password.reveal()));
        let lines = |key: &Secret| {
            key.reveal().lines().filter(|line| !line.starts_with("--")).map(str::to_owned).collect::<Vec<_>>()
        };
        match &self.login {
            Login::None => {}
            Login::Basic { username, password } => {
                secrets.extend([pair(username, password).into(), password.reveal().into()]);
            }
            Login::Bearer(token) => secrets.push(token.reveal().into()),
            Login::GitHubApp(app) => secrets.extend(lines(&app.private_key).into_iter().map(Cow::from)),
            Login::Ssh { identity, passphrase, .. } => {
                secrets.extend(passphrase.iter().map(|passphrase| passphrase.reveal().into()));
                secrets.extend(lines(identity).into_iter().map(Cow::from));
            }
        }
        if let Some(certificate) = &self.client_certificate {
            secrets.extend(lines(&certificate.key).into_iter().map(Cow::from));
        }
        if let Some((username, password)) = self.proxy.as_ref().and_then(|proxy| proxy.login.as_ref()) {
            secrets.extend([pair(username, password).into(), password.reveal().into()]);
        }
        secrets
    }
}

fn basic(username: &str, password: &Secret) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{username}:{}", password.reveal())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic_access() -> Access {
        let login = Login::Basic { username: "robot".into(), password: "s3cret-word".to_owned().into() };
        Access { login, ..Access::default() }
    }

    #[test]
    fn a_secret_is_in_no_debug_output_and_is_taken_out_of_what_a_server_says() {
        let access = basic_access();
        assert!(!format!("{access:?}").contains("s3cret"), "{access:?}");
        let header = access.authorization().unwrap();
        let said = access.hide(&format!("wrong: s3cret-word, {header}"));
        assert_eq!(said, "wrong: …, Basic …");
    }

    #[test]
    fn credentials_go_over_encrypted_connections_alone() {
        assert_eq!(basic_access().check("https://example.com/a"), Ok(()));
        for url in ["http://example.com/a", "file:///srv/a", "ssh://git@example.com/a"] {
            let error = basic_access().check(url).unwrap_err();
            assert_eq!((error.reason(), error.permanent()), ("AuthenticationFailed", true), "{error}");
        }
        assert!(Access::default().check("ssh://git@example.com/a").is_err());
        assert_eq!(Access::default().check("http://example.com/a"), Ok(()));
    }
}
