//! Where the webhook's certificate comes from, and when it is changed.
//!
//! Two sources. A Secret that the replicas keep themselves ([`keep_secret`]), or files that somebody else keeps
//! ([`follow_files`]). One rule for both, so that a change drops no request: a certificate is served as soon as what the
//! webhook configuration carries as `caBundle` has vouched for it for a while, and at once when that does not vouch for what is
//! served now either.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;

use super::bundle;
pub(crate) use super::bundle::Life;
pub use super::files::{Files, follow as follow_files};
use super::pair::{self, Names, Pair};
pub use super::pair::{Made, PairFault, make};
pub use super::secret::{SecretSource, keep as keep_secret};
use super::tls::Serving;

/// For which API servers are given time to hear of a new `caBundle` before they meet a certificate that needs it.
pub const SETTLE: Duration = Duration::from_secs(30);

/// The certificate of this replica: what is served, what ought to be published as `caBundle`, and what is.
#[derive(Debug)]
pub struct Certificates {
    names: Names,
    settle: Duration,
    serving: Arc<Serving>,
    /// What is served now. Read and written by one task; a lock for the compiler's sake, never held across a wait.
    current: Mutex<Option<Arc<Pair>>>,
    bundle: watch::Sender<Option<Arc<str>>>,
    published: watch::Sender<Option<Published>>,
}

/// What the webhook configuration carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Published {
    pub(super) bundle: Arc<str>,
    /// When this replica first saw it.
    pub(super) since: Instant,
}

impl Certificates {
    /// None yet, for a webhook that goes by `names`. `settle`: [`SETTLE`], shorter in tests.
    ///
    /// # Errors
    /// When not even a certificate for the time until then can be made.
    pub fn new(names: Names, settle: Duration, now: Timestamp) -> Result<Certificates, PairFault> {
        let made = pair::make(&names, now)?;
        let stopgap = Pair::read(made.certificate.as_bytes(), made.key.as_bytes())?;
        Ok(Certificates {
            names,
            settle,
            serving: Arc::new(Serving::new(stopgap.key)),
            current: Mutex::new(None),
            bundle: watch::Sender::new(None),
            published: watch::Sender::new(None),
        })
    }

    /// For the server.
    #[must_use]
    pub fn serving(&self) -> Arc<Serving> {
        Arc::clone(&self.serving)
    }

    /// What ought to be published as `caBundle` (PEM). `None`: not known yet, or somebody else sees to it.
    #[must_use]
    pub fn bundle(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.bundle.subscribe()
    }

    /// When what is served begins and ends, and the last of the authorities that are to be published.
    pub(crate) fn lives(&self, now: Timestamp) -> (Option<Life>, Option<Life>) {
        let leaf = self.current().as_ref().map(|pair| pair.life());
        let authorities = self.bundle.borrow().clone();
        (leaf, authorities.and_then(|authorities| bundle::last(&authorities, now)))
    }

    /// Says what the webhook configuration carries as `caBundle`. Same bundle, same time: only a change counts.
    pub fn saw_published(&self, bundle: Option<&str>) {
        self.published.send_if_modified(|published| {
            let same = published.as_ref().map(|published| &*published.bundle) == bundle;
            if !same {
                *published = bundle.map(|bundle| Published { bundle: Arc::from(bundle), since: Instant::now() });
            }
            !same
        });
    }

    /// When what is served now ends.
    #[must_use]
    pub fn not_after(&self) -> Option<Timestamp> {
        self.current().as_ref().map(|pair| pair.not_after())
    }

    pub(super) fn names(&self) -> &Names {
        &self.names
    }

    pub(super) fn published(&self) -> watch::Receiver<Option<Published>> {
        self.published.subscribe()
    }

    pub(super) fn publish(&self, bundle: &str) {
        self.bundle.send_if_modified(|known| {
            let same = known.as_deref() == Some(bundle);
            if !same {
                *known = Some(Arc::from(bundle));
            }
            !same
        });
    }

    /// Whether every API server can be taken to trust `pair`.
    pub(super) fn settled(&self, pair: &Pair, now: Timestamp) -> bool {
        let published = self.published.borrow();
        published.as_ref().is_some_and(|published| {
            published.since.elapsed() >= self.settle && pair.trusted_by(&published.bundle, &self.names, now).is_ok()
        })
    }

    /// Serves `pair` if that makes nothing worse; else it is to be offered again.
    pub(super) fn offer(&self, pair: &Arc<Pair>, now: Timestamp) {
        let mut current = self.current();
        let better = match current.as_deref() {
            None => true,
            Some(current) if current.key.cert == pair.key.cert => false,
            Some(current) => self.settled(pair, now) || !self.trusted_now(current, now),
        };
        if better {
            self.serving.swap(Arc::clone(&pair.key));
            *current = Some(Arc::clone(pair));
            tracing::info!(expires_at = %pair.not_after(), "webhook certificate in use");
        }
    }

    /// Whether what is published vouches for `pair`; `None`: nothing is, as far as is known here.
    pub(super) fn vouched_for(&self, pair: &Pair, now: Timestamp) -> Option<bool> {
        let published = self.published.borrow();
        published.as_ref().map(|published| pair.trusted_by(&published.bundle, &self.names, now).is_ok())
    }

    /// Whether API servers trust `pair`, as far as is known here: what nobody has published is trusted by nobody.
    fn trusted_now(&self, pair: &Pair, now: Timestamp) -> bool {
        self.vouched_for(pair, now) == Some(true)
    }

    fn current(&self) -> std::sync::MutexGuard<'_, Option<Arc<Pair>>> {
        // Nothing under the lock can leave it half-written.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
