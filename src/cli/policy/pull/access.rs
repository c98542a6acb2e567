//! How a repository of the command line is reached: by its options, the environment, and what the user has told Git.

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use http::Uri;
use url::Url;

use crate::cli::signing::PassphraseArgs;
use crate::cli::{Usage, files, proxy, warn};
use crate::git::{Access, Login, Proxy};

const MAX_FILE_BYTES: usize = 1024 * 1024;
/// How long Git's credential helpers may take, which may ask a person.
const PATIENCE: Duration = Duration::from_secs(120);
/// What ssh looks for at home, in its order.
const IDENTITIES: [&str; 3] = ["id_ed25519", "id_ecdsa", "id_rsa"];

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Repository")]
pub(super) struct AccessArgs {
    /// User name that goes with --token-file for --repo. Default: git, which forges take with any token.
    #[arg(long, value_name = "NAME", requires = "repo")]
    username: Option<String>,
    /// Private key for an ssh:// repository. Default: ~/.ssh/id_ed25519, id_ecdsa or id_rsa. Keys of an ssh-agent and
    /// ~/.ssh/config are not used.
    #[arg(long, value_name = "FILE", requires = "repo")]
    ssh_key: Option<PathBuf>,
    /// Host keys that are believed. Default: ~/.ssh/known_hosts and /etc/ssh/ssh_known_hosts.
    #[arg(long, value_name = "FILE", requires = "repo")]
    known_hosts: Option<PathBuf>,
    /// Proxy on the way to an https:// repository, http://[user:password@]host:port. Default: HTTPS_PROXY and NO_PROXY, then
    /// Git's http.proxy.
    #[arg(long, value_name = "URL", requires = "repo")]
    proxy: Option<String>,
    #[command(flatten)]
    passphrase: PassphraseArgs,
}

impl AccessArgs {
    /// As whom and by which way a URL is asked. `ca_file`, `token_file`: of the options.
    pub(super) fn access(
        &self,
        url: &Url,
        ca_file: Option<&Path>,
        token_file: Option<&Path>,
    ) -> anyhow::Result<Access> {
        match url.scheme() {
            "ssh" => {
                if ca_file.or(token_file).is_some() || self.proxy.is_some() {
                    let usage = "an ssh:// repository takes --ssh-key and --known-hosts, and none of --ca-file, --token-file, --proxy";
                    bail!(Usage(usage.to_owned()));
                }
                Ok(Access { login: self.ssh()?, ..Access::default() })
            }
            "https" => Ok(Access {
                login: token_file.map_or(Ok(Login::None), |file| self.token(file))?,
                authorities: authorities(ca_file, url)?,
                client_certificate: None,
                proxy: self.proxy(url)?,
            }),
            _ => Ok(Access::default()),
        }
    }

    fn token(&self, file: &Path) -> anyhow::Result<Login> {
        let token = files::read_text(file, MAX_FILE_BYTES)?;
        if files::readable_by_others(file) {
            warn(&format!("{} can be read by others; chmod 600 it", files::name(file)));
        }
        let token = token.trim();
        if token.is_empty() || token.lines().count() > 1 {
            bail!("{} holds no token; expected one line", files::name(file));
        }
        Ok(basic(self.username.as_deref().unwrap_or("git"), token))
    }

    fn ssh(&self) -> anyhow::Result<Login> {
        let home = std::env::home_dir().map(|home| home.join(".ssh")).unwrap_or_default();
        let usual = || IDENTITIES.iter().map(|name| home.join(name)).find(|file| file.is_file());
        let file = self.ssh_key.clone().or_else(usual).ok_or_else(|| {
            anyhow!(
                "an ssh:// repository needs a private key: give --ssh-key (none of ~/.ssh/{} is there)",
                IDENTITIES.join(", ")
            )
        })?;
        let identity = files::read_text(&file, MAX_FILE_BYTES)?;
        let encrypted = identity.contains("ENCRYPTED")
            || ssh_key::PrivateKey::from_openssh(&identity).is_ok_and(|key| key.is_encrypted());
        let passphrase = if encrypted { Some(self.passphrase.ask(&file)?.into()) } else { None };
        let known_hosts = match &self.known_hosts {
            Some(file) => files::read_text(file, MAX_FILE_BYTES)?,
            None => {
                let usual = [home.join("known_hosts"), PathBuf::from("/etc/ssh/ssh_known_hosts")];
                let texts =
                    usual.iter().filter(|file| file.is_file()).map(|file| files::read_text(file, MAX_FILE_BYTES));
                texts.collect::<anyhow::Result<Vec<_>>>()?.join("\n")
            }
        };
        if known_hosts.trim().is_empty() {
            bail!(
                "no host key is known: give --known-hosts with what `ssh-keyscan` prints, compared with what the host's owner says"
            );
        }
        Ok(Login::Ssh { identity: identity.into(), passphrase, known_hosts })
    }

    fn proxy(&self, url: &Url) -> anyhow::Result<Option<Proxy>> {
        let server: Uri = url.as_str().parse().context("--repo is no URL that can be asked")?;
        let found = match &self.proxy {
            Some(proxy) => Some(proxy.clone()),
            None => match proxy::of_environment(&server)? {
                Some(proxy) => Some(proxy.to_string()),
                None if proxy::is_spared(&server) => None,
                None => git_says("http.proxy", url),
            },
        };
        found.map(|proxy| proxy_of(&proxy)).transpose()
    }
}

fn basic(username: &str, password: &str) -> Login {
    Login::Basic { username: username.to_owned(), password: password.to_owned().into() }
}

/// The address of a proxy, and its login apart. It is not repeated in an error: there may be a password in it.
fn proxy_of(text: &str) -> anyhow::Result<Proxy> {
    let text = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let unusable = || {
        anyhow!("the proxy cannot be used; expected http://[user:password@]host:port, by --proxy, HTTPS_PROXY or Git")
    };
    let mut url = Url::parse(&text).map_err(|_| unusable())?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(unusable());
    }
    let decoded = |part: &str| percent_encoding::percent_decode_str(part).decode_utf8_lossy().into_owned();
    let login = (!url.username().is_empty())
        .then(|| (decoded(url.username()), decoded(url.password().unwrap_or_default()).into()));
    let cleared = url.set_username("").and_then(|()| url.set_password(None));
    cleared.map_err(|()| unusable())?;
    Ok(Proxy { address: url.as_str().trim_end_matches('/').to_owned(), login })
}

/// The authorities to believe: of --ca-file, or as the environment or Git was told. None: those of the machine, which the
/// fetch child reads.
fn authorities(ca_file: Option<&Path>, url: &Url) -> anyhow::Result<Option<String>> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let file = match (ca_file, variable("SSL_CERT_FILE"), variable("GIT_SSL_CAINFO")) {
        (Some(file), ..) => Some(file.to_owned()),
        // the child works in another folder
        (None, Some(file), _) => Some(file).filter(|file| file.is_relative()),
        (None, None, Some(file)) => Some(file),
        (None, None, None) => git_says("http.sslCAInfo", url).map(PathBuf::from),
    };
    file.map(|file| files::read_text(&file, MAX_FILE_BYTES)).transpose()
}

/// What Git's configuration says for a URL. Nothing where there is no Git.
fn git_says(name: &str, url: &Url) -> Option<String> {
    let mut git = Command::new("git");
    git.args(["config", "--type=path", "--get-urlmatch", name, url.as_str()])
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    let output = git.output().ok().filter(|output| output.status.success())?;
    let value = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (!value.is_empty()).then_some(value)
}

/// A login that Git's credential helpers gave.
pub(super) struct Credential(String);

impl Credential {
    /// Asks Git's credential helpers for the login of a URL. None where they know none, or there is no Git.
    pub(super) fn of(url: &Url) -> Option<(Credential, Login)> {
        let mut asked = format!("protocol={}\nhost={}", url.scheme(), url.host_str()?);
        if let Some(port) = url.port() {
            asked += &format!(":{port}");
        }
        asked += &format!("\npath={}\n\n", url.path().trim_start_matches('/'));
        let answer = credential("fill", &asked)?;
        let value = |name: &str| answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        let login = basic(value("username")?, value("password")?);
        Some((Credential(answer), login))
    }

    /// Tells the helpers whether the login was taken, as Git does.
    pub(super) fn was(self, good: bool) {
        // what they do with it is theirs
        let _ = credential(if good { "approve" } else { "reject" }, &self.0);
    }
}

fn credential(what: &str, input: &str) -> Option<String> {
    let mut git = Command::new("git");
    git.args(["credential", what]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    if !std::io::stdin().is_terminal() {
        git.env("GIT_TERMINAL_PROMPT", "0").stderr(Stdio::null());
    }
    let mut child = git.spawn().ok()?;
    let (mut stdin, stdout) = (child.stdin.take()?, child.stdout.take()?);
    let reading = std::thread::spawn(move || {
        let mut text = String::new();
        stdout.take(MAX_FILE_BYTES as u64).read_to_string(&mut text).ok().map(|_| text)
    });
    let written = stdin.write_all(input.as_bytes());
    drop(stdin);
    let start = Instant::now();
    let status = loop {
        match child.try_wait().ok()? {
            Some(status) => break status,
            None if start.elapsed() > PATIENCE => {
                child.kill().and_then(|()| child.wait()).ok()?;
                return None;
            }
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    written.ok()?;
    // what a helper has left running may hold the pipe open: it is read only where it has ended well
    status.success().then(|| reading.join().ok().flatten()).flatten()
}

/// An error of the fetch in the words of the command line: the controller has a Secret where this has options.
pub(super) fn in_options(message: &str) -> String {
    const WORDS: [(&str, &str); 22] = [
        ("ca.crt in the Secret of spec.secretRef", "--ca-file"),
        ("look at spec.proxySecretRef", "look at --proxy, HTTPS_PROXY, and Git's http.proxy"),
        ("username and password of the Secret in spec.proxySecretRef", "user name and password that were given"),
        ("address of the Secret in spec.proxySecretRef", "the address of the proxy"),
        ("remove proxySecretRef, or", "remove --proxy, or"),
        ("it does not accept the credentials of the Secret (spec.secretRef)", "it does not accept the login"),
        (
            "and none are configured: name a Secret in spec.secretRef",
            "and Git's credential helpers know none: give --token-file, and --username where it matters",
        ),
        (", and none are configured", ""),
        ("needs a Secret (spec.secretRef) with the keys identity and known_hosts", "needs --ssh-key and --known-hosts"),
        ("the key of the Secret (identity)", "the key (--ssh-key)"),
        ("identity of the Secret", "the key (--ssh-key)"),
        ("; password is the passphrase of an encrypted one", ""),
        ("known_hosts in line", "--known-hosts in line"),
        ("known_hosts of the Secret", "--known-hosts"),
        ("those in known_hosts", "those in --known-hosts"),
        ("ca.crt of the Secret", "the file of certificate authorities"),
        ("ca.crt", "--ca-file"),
        ("spec.timeout", "--timeout"),
        ("remove spec.secretRef", "leave the login out"),
        ("spec.secretRef", "the options"),
        ("spec.proxySecretRef", "--proxy"),
        (" of the Secret", ""),
    ];
    WORDS.iter().fold(message.to_owned(), |text, (from, to)| text.replace(from, to))
}
