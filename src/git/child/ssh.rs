//! SSH: a transport for libgit2 over a connection that the parent has made, which believes the host keys of the Secret alone.
//!
//! Not libgit2's own, which resolves and connects by itself, and takes host keys from a file in the home folder.

use std::io::{self, Read, Write};
use std::time::Duration;

use git2::Remote;
use git2::transport::{Service, SmartSubtransport, SmartSubtransportStream, Transport};
use percent_encoding::percent_decode_str;
use ssh2::{Channel, DisconnectCode, ErrorCode, MethodType, Session};
use url::Url;

use super::known_hosts::{HostKey, keys_of};
use super::settings::silence;
use super::{http, parent};
use crate::git::access::Secret;
use crate::git::{GitError, Login, Request, one_line};

/// Whom forges log in.
const USER: &str = "git";

/// What is repeated of what a server says.
const SAID: u64 = 1024;

/// libssh2's numbers of what is wrong with a private key, and of what a server says to one.
const KEY_UNREADABLE: [i32; 2] = [-16, -48];
const KEY_REFUSED: [i32; 2] = [-18, -19];
const TIMED_OUT: [i32; 2] = [-9, -30];

/// How one server is reached.
#[derive(Clone)]
pub(super) struct Ssh {
    host: String,
    port: u16,
    user: String,
    identity: Secret,
    passphrase: Option<Secret>,
    believed: Vec<HostKey>,
    silence: Duration,
}

impl Ssh {
    /// # Errors
    /// [`GitError::Credentials`] if no host key is believed.
    pub(super) fn new(request: &Request) -> Result<Self, GitError> {
        let Login::Ssh { identity, passphrase, known_hosts } = &request.access.login else {
            return Err(GitError::Credentials("an ssh:// repository needs a key and known_hosts".into()));
        };
        let url = Url::parse(&request.url).map_err(|error| GitError::Url(error.to_string()))?;
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let port = url.port().unwrap_or(22);
        let user = percent_decode_str(url.username()).decode_utf8_lossy().into_owned();
        Ok(Self {
            believed: keys_of(known_hosts, &host, port)?,
            host,
            port,
            user: if user.is_empty() { USER.to_owned() } else { user },
            identity: identity.clone(),
            passphrase: passphrase.clone(),
            silence: silence(request.timeout),
        })
    }

    /// For libgit2.
    pub(super) fn transport(&self, remote: &Remote<'_>) -> Result<Transport, git2::Error> {
        Transport::smart(remote, false, self.clone())
    }

    /// Logs in, and starts Git's program at the server.
    fn open(&self, url: &str) -> Result<Channel, GitError> {
        let stream = parent::connect(&self.host, self.port)?;
        let mut session = Session::new().map_err(|error| explain(&error))?;
        session.set_timeout(u32::try_from(self.silence.as_millis()).unwrap_or(u32::MAX));
        let supported = session.supported_algs(MethodType::HostKey).map_err(|error| explain(&error))?;
        let wanted = self.algorithms(&supported)?;
        session.method_pref(MethodType::HostKey, &wanted).map_err(|error| explain(&error))?;
        session.set_tcp_stream(stream);
        session.handshake().map_err(|error| explain(&error))?;
        let known = session.host_key().is_some_and(|(key, _)| self.believed.iter().any(|known| known.blob == key));
        if !known {
            drop(session.disconnect(Some(DisconnectCode::HostKeyNotVerifiable), "host key is not known", None));
            return Err(stranger());
        }
        let passphrase = self.passphrase.as_ref().map(Secret::reveal);
        session
            .userauth_pubkey_memory(&self.user, None, self.identity.reveal(), passphrase)
            .map_err(|error| refused(&error))?;
        let mut channel = session.channel_session().map_err(|error| explain(&error))?;
        channel.exec(&command(url)?).map_err(|error| explain(&error))?;
        Ok(channel)
    }

    /// The kinds of host keys that are asked for: those of which one is believed.
    fn algorithms(&self, supported: &[&str]) -> Result<String, GitError> {
        let believed = |algorithm: &&&str| {
            let kind = if algorithm.starts_with("rsa-sha2-") { "ssh-rsa" } else { **algorithm };
            self.believed.iter().any(|key| key.kind == kind)
        };
        let wanted: Vec<&str> = supported.iter().filter(believed).copied().collect();
        if wanted.is_empty() {
            let kinds: Vec<&str> = self.believed.iter().map(|key| key.kind.as_str()).collect();
            return Err(GitError::Credentials(format!(
                "known_hosts of the Secret has only keys of {} that cannot be used ({}); accepted are: {}",
                self.host,
                one_line(&kinds.join(", ")),
                supported.join(", ")
            )));
        }
        Ok(wanted.join(","))
    }
}

/// What is run at the server, quoted for its shell as Git does it.
fn command(url: &str) -> Result<String, GitError> {
    let url = Url::parse(url).map_err(|error| GitError::Url(error.to_string()))?;
    let path = percent_decode_str(url.path()).decode_utf8_lossy().into_owned();
    // /~user/… means a folder of that user
    let path = if path.starts_with("/~") { &path[1..] } else { &path };
    Ok(format!("git-upload-pack '{}'", path.replace('\'', "'\\''").replace('!', "'\\!'")))
}

fn stranger() -> GitError {
    GitError::Failed(format!(
        "{}: the server's host key is none of those in known_hosts of the Secret: ask its owner whether it was changed, \
         and add the new one",
        http::REACH
    ))
}

fn refused(error: &ssh2::Error) -> GitError {
    match error.code() {
        ErrorCode::Session(code) if KEY_UNREADABLE.contains(&code) || error.message().contains("private key") => {
            GitError::Credentials(format!(
                "identity of the Secret cannot be used: {} (accepted are private keys as PEM or as ssh-keygen writes them; \
             password is the passphrase of an encrypted one)",
                one_line(error.message())
            ))
        }
        ErrorCode::Session(code) if KEY_REFUSED.contains(&code) => {
            GitError::Authentication("the server does not accept the key of the Secret (identity)".into())
        }
        _ => explain(error),
    }
}

fn explain(error: &ssh2::Error) -> GitError {
    let said = one_line(error.message());
    let advice = match error.code() {
        ErrorCode::Session(code) if TIMED_OUT.contains(&code) => {
            "timed out (the server is too slow, or something on the way drops the connection)".into()
        }
        _ => said,
    };
    GitError::Failed(format!("{}: SSH: {advice}", http::REACH))
}

impl SmartSubtransport for Ssh {
    fn action(&self, url: &str, action: Service) -> Result<Box<dyn SmartSubtransportStream>, git2::Error> {
        let opened = match action {
            Service::UploadPackLs | Service::UploadPack => self.open(url),
            Service::ReceivePackLs | Service::ReceivePack => Err(GitError::Request("nothing is ever pushed".into())),
        };
        match opened {
            Ok(channel) => Ok(Box::new(Conversation { channel, heard: false })),
            Err(error) => {
                http::failed(error);
                Err(git2::Error::from_str("SSH"))
            }
        }
    }

    fn close(&self) -> Result<(), git2::Error> {
        Ok(())
    }
}

/// What is said to Git's program at the server.
struct Conversation {
    channel: Channel,
    heard: bool,
}

impl Read for Conversation {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.channel.read(buffer).map_err(|error| self.broken(&error))?;
        if count == 0 && !self.heard {
            return Err(self.said_nothing());
        }
        self.heard = true;
        Ok(count)
    }
}

impl Conversation {
    fn broken(&self, error: &io::Error) -> io::Error {
        let slow = matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock);
        let what = if slow { "timed out".into() } else { one_line(&error.to_string()).into_owned() };
        http::failed(GitError::Failed(format!("{}: the connection broke off: {what}", http::REACH)));
        io::Error::other("SSH")
    }

    /// A program that ends at once has said why on its standard error.
    fn said_nothing(&mut self) -> io::Error {
        let mut said = Vec::new();
        drop(self.channel.stderr().take(SAID).read_to_end(&mut said));
        let said = String::from_utf8_lossy(&said);
        let said = match said.trim() {
            "" => "nothing at all".into(),
            said => format!("{:?}", one_line(said)),
        };
        http::failed(GitError::Failed(format!(
            "{}: instead of a repository the server sends {said} (look at the path of the URL, and at what the key may read)",
            http::REACH
        )));
        io::Error::other("SSH")
    }
}

impl Write for Conversation {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.channel.write(data).map_err(|error| self.broken(&error))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.channel.flush()
    }
}
