//! A certificate out of files that somebody else keeps, such as a mounted Secret of cert-manager.
//!
//! Their content is read every few seconds. Nothing is told by an inode or a modification time: the kubelet swaps a
//! symlink to a directory, and the files' own paths never change.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::bundle;
use super::certificates::Certificates;
use super::pair::{Pair, PairFault};

/// How often the files are read.
pub(super) const POLL: Duration = Duration::from_secs(2);
/// For which a former authority stays published: other replicas may be given the new files later than this one.
const FORMER: Duration = Duration::from_secs(600);
/// For which the first certificate is held back that no published authority vouches for: the replica that publishes may be
/// given the new files a minute or two after this one.
const HOLD: Duration = Duration::from_secs(180);
const MAX_BYTES: u64 = 1024 * 1024;

/// The files.
#[derive(Clone, Debug)]
pub struct Files {
    /// Certificate chain, PEM, the served certificate first.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// The authorities to publish as `caBundle`, PEM. `None` when somebody else publishes them, or the API server trusts
    /// the certificate as it is.
    pub authority: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("{path}: {fault}")]
    Read { path: PathBuf, fault: std::io::Error },
    #[error("{certificate} and {key}: {fault}")]
    Pair { certificate: PathBuf, key: PathBuf, fault: PairFault },
}

#[derive(PartialEq, Eq)]
struct Content {
    certificate: Vec<u8>,
    key: Vec<u8>,
    authority: Option<Vec<u8>>,
}

/// Serves what is in the files, and publishes their authority, until `shutdown`.
pub async fn follow(files: Files, certificates: Arc<Certificates>, shutdown: CancellationToken) {
    let follower = Follower {
        files,
        certificates,
        content: None,
        pair: None,
        former: None,
        found: None,
        started: Instant::now(),
        waits: false,
        fault: None,
    };
    shutdown.run_until_cancelled(follower.run()).await;
}

struct Follower {
    files: Files,
    certificates: Arc<Certificates>,
    content: Option<Content>,
    pair: Option<Arc<Pair>>,
    former: Option<(String, Instant)>,
    /// What was published when this replica began: by a leader whose files, or whose Secret, vouch for what the others serve.
    found: Option<String>,
    started: Instant,
    waits: bool,
    /// What was logged last, so that it is not again every two seconds.
    fault: Option<String>,
}

impl Follower {
    async fn run(mut self) {
        let mut published = self.certificates.published();
        let mut poll = tokio::time::interval(POLL);
        poll.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = poll.tick() => {
                    let read = self.read().await;
                    self.report(read);
                }
                // The sender lives in `certificates`, which is held here.
                _ = published.changed() => {}
            }
            self.serve(Timestamp::now());
        }
    }

    /// Reads the files, and keeps what they hold when it is whole: a certificate next to the key of another is a swap that is
    /// under way, or a mistake; in both cases what is served stays.
    async fn read(&mut self) -> Result<(), Fault> {
        let content = Content {
            certificate: contents(&self.files.certificate).await?,
            key: contents(&self.files.key).await?,
            authority: match &self.files.authority {
                Some(path) => Some(contents(path).await?),
                None => None,
            },
        };
        if self.content.as_ref() == Some(&content) {
            return Ok(());
        }
        let pair = Pair::read(&content.certificate, &content.key).map_err(|fault| Fault::Pair {
            certificate: self.files.certificate.clone(),
            key: self.files.key.clone(),
            fault,
        })?;
        if let Some(authority) = self.content.take().and_then(|content| content.authority) {
            self.former = Some((String::from_utf8_lossy(&authority).into_owned(), Instant::now()));
        }
        self.pair = Some(Arc::new(pair));
        self.content = Some(content);
        Ok(())
    }

    fn report(&mut self, read: Result<(), Fault>) {
        let fault = read.err().map(|fault| fault.to_string());
        if fault != self.fault {
            match &fault {
                Some(error) => tracing::warn!(error, "webhook certificate files not usable"),
                None => tracing::info!("webhook certificate files usable again"),
            }
            self.fault = fault;
        }
    }

    fn serve(&mut self, now: Timestamp) {
        if self.former.as_ref().is_some_and(|(_, since)| since.elapsed() >= FORMER) {
            self.former = None;
        }
        if self.found.is_none() {
            self.found = self.certificates.published().borrow().as_ref().map(|published| published.bundle.to_string());
        }
        if let Some(authority) = self.content.as_ref().and_then(|content| content.authority.as_deref()) {
            let former = self.former.as_ref().map_or("", |(former, _)| former);
            let found = self.found.as_deref().filter(|_| self.started.elapsed() < FORMER).unwrap_or_default();
            self.certificates.publish(&bundle::merge([&*String::from_utf8_lossy(authority), former, found], now));
        }
        if let Some(pair) = self.pair.clone()
            && !self.is_held_back(&pair, now)
        {
            self.certificates.offer(&pair, now);
        }
    }

    /// Whether this replica is better not ready yet: it has served nothing so far, and what is published does not vouch for
    /// what it could serve. It goes on after a while, since nobody may be there to publish anything else.
    fn is_held_back(&mut self, pair: &Pair, now: Timestamp) -> bool {
        let first = self.certificates.not_after().is_none();
        let waits = first
            && self.files.authority.is_some()
            && self.certificates.vouched_for(pair, now) == Some(false)
            && self.started.elapsed() < HOLD;
        if waits && !self.waits {
            tracing::info!("webhook certificate not served yet: what is published does not vouch for it");
        }
        self.waits = waits;
        waits
    }
}

async fn contents(path: &PathBuf) -> Result<Vec<u8>, Fault> {
    let fault = |fault| Fault::Read { path: path.clone(), fault };
    if tokio::fs::metadata(path).await.map_err(fault)?.len() > MAX_BYTES {
        return Err(fault(std::io::Error::other(format!("larger than {MAX_BYTES} bytes"))));
    }
    tokio::fs::read(path).await.map_err(fault)
}
