//! Which replica leads: the one that holds the Lease.
//!
//! Hand-written beside the crate `kube-lease-manager`, for three reasons: there, who waits sleeps out the Lease that it saw
//! last, also when that was released long ago; a Lease that somebody deleted is never made again; and nobody can ask until
//! when the last renewal counts, which is what keeps a leader that was paused from writing when it wakes.
//!
//! Every write carries the resourceVersion that it was decided on. Whether the Lease of another is over is told by when
//! it last changed, by this replica's own clock, so that clocks need not agree. Whoever may write the Lease may write any time
//! into it: each field is read by itself, and what cannot be read is absent.

use std::time::Duration;

use futures::{Stream, StreamExt as _};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client, ResourceExt as _};
use tokio::sync::watch::{self, Receiver, Sender};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::watch::watch_object;
use crate::api::{FIELD_MANAGER, Moment, Sent};

/// Name of the Lease.
pub(super) const NAME: &str = "sekuire-policy-controller";
/// A Lease that has not changed for so long is over.
pub(super) const DURATION: Duration = Duration::from_secs(15);
/// What a Lease may ask for at most. Ours ask for [`DURATION`]: with more, one write would keep everybody from leading for years.
const LONGEST: Duration = Duration::from_secs(60);
/// The holder counts on its last renewal for so long only: it stops before another may begin.
pub(super) const COUNTS_FOR: Duration = Duration::from_secs(10);
/// The holder renews so often.
const RENEW: Duration = Duration::from_secs(5);
/// A write that takes longer is given up: it must not be on its way when the Lease is over.
const WRITE_TIMEOUT: Duration = Duration::from_secs(3);
/// Before a write that failed is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// Whether this replica leads.
#[derive(Clone, Debug)]
pub struct Leading(Receiver<Option<Instant>>);

impl Leading {
    /// Whether it leads now. Asked before every write: a process that was paused for longer than its Lease finds
    /// out here, before anything else has told it.
    pub fn now(&self) -> bool {
        self.0.borrow().is_some_and(|until| Instant::now() < until)
    }

    /// Until when it leads, if it does.
    pub(super) fn until(&self) -> Option<Instant> {
        *self.0.borrow()
    }

    /// Waits for news: it was elected, renewed, or deposed. False: there will be none any more.
    pub async fn changed(&mut self) -> bool {
        self.0.changed().await.is_ok()
    }

    /// Waits until it leads, or no longer does. For ever, if there will be no news.
    pub async fn wait_for(&mut self, leads: bool) {
        if self.0.wait_for(|until| until.is_some() == leads).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl From<Receiver<Option<Instant>>> for Leading {
    /// Told by somebody else: until when it leads, if it does.
    fn from(receiver: Receiver<Option<Instant>>) -> Leading {
        Leading(receiver)
    }
}

/// The candidacy of this replica. Run it.
pub struct Election {
    api: Api<Sent<Lease>>,
    client: Client,
    namespace: String,
    identity: String,
    sender: Sender<Option<Instant>>,
    /// The Lease as it was seen last, and when it last changed by our clock. `None`: the watch has said nothing yet.
    seen: Option<(Option<Lease>, Instant)>,
    /// Somebody was seen to write it: what the wall clock says of it counts no more, only how long it does not change.
    kept: bool,
    renew_at: Instant,
    retry_at: Option<Instant>,
}

impl Election {
    /// A candidacy for the Lease in a namespace, and what tells whether it succeeds.
    pub fn new(client: Client, namespace: &str, identity: &str) -> (Election, Leading) {
        let (sender, receiver) = watch::channel(None);
        let api = Api::namespaced(client.clone(), namespace);
        let (namespace, identity, renew_at) = (namespace.to_owned(), identity.to_owned(), Instant::now());
        let election =
            Election { api, client, namespace, identity, sender, seen: None, kept: false, renew_at, retry_at: None };
        (election, receiver.into())
    }

    /// Takes the Lease as soon as it is free and keeps it, until `shutdown`; then gives it back.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let watch = watch_object(self.client.clone(), Some(&self.namespace), NAME);
        shutdown.run_until_cancelled(self.keep(std::pin::pin!(watch))).await;
        let led = self.sender.send_replace(None).is_some();
        if led && let Err(error) = self.release().await {
            tracing::warn!(%error, "Lease not released; it ends by itself");
        }
        // receivers are to see that this replica does not lead, not that nobody knows
        self.sender.closed().await;
    }

    async fn keep<W>(&mut self, mut watch: std::pin::Pin<&mut W>)
    where
        W: Stream<Item = Result<Option<Sent<Lease>>, kube::Error>>,
    {
        loop {
            let wake = self.wake();
            tokio::select! {
                event = watch.next() => match event {
                    Some(Ok(lease)) => self.saw(lease.map(read)),
                    // what was seen last is over by itself
                    Some(Err(_said)) => {}
                    None => return,
                },
                () = tokio::time::sleep_until(wake) => {}
            }
            self.step().await;
        }
    }

    /// When to look again if nothing is seen until then.
    fn wake(&self) -> Instant {
        let until = *self.sender.borrow();
        let lapses = self.seen.as_ref().map(|(lease, since)| *since + duration(lease.as_ref()));
        let due = match (self.retry_at, until) {
            (Some(retry), _) => Some(retry),
            (None, Some(_)) => Some(self.renew_at),
            (None, None) => lapses,
        };
        [due, until].into_iter().flatten().min().unwrap_or_else(|| Instant::now() + DURATION)
    }

    fn saw(&mut self, lease: Option<Lease>) {
        let known = self.seen.as_ref().and_then(|(known, _)| known.as_ref());
        let (old, new) = (known.map(version), lease.as_ref().map(version));
        // an echo of what was written meanwhile is no news
        if self.seen.is_some() && matches!((old, new), (Some(old), Some(new)) if new < old) {
            return;
        }
        self.found(lease);
    }

    /// The Lease is so now, by the watch or since it was asked for; whoever comes first says that it is not as it was written.
    fn found(&mut self, lease: Option<Lease>) {
        let known = self.seen.as_ref().and_then(|(known, _)| known.as_ref()).map(version);
        let (changed, leads) = (known != lease.as_ref().map(version), self.sender.borrow().is_some());
        self.is_now(lease);
        if changed && leads {
            // put back soon, and not in a spin
            self.renew_at = self.renew_at.min(Instant::now() + RETRY);
            tracing::warn!(
                kind = "Lease",
                name = NAME,
                "somebody else changed or deleted the Lease that this replica holds"
            );
        }
    }

    /// The Lease is so now. An older one than was seen last is no echo here: the cluster was restored from a backup, and
    /// what is written must carry the resourceVersion that it has there.
    fn is_now(&mut self, lease: Option<Lease>) {
        let known = self.seen.as_ref().and_then(|(known, _)| known.as_ref());
        if self.seen.is_some() && known.map(version) == lease.as_ref().map(version) {
            return;
        }
        self.kept |= self.seen.is_some();
        self.seen = Some((lease, Instant::now()));
    }

    async fn step(&mut self) {
        let now = Instant::now();
        let Some((lease, since)) = self.seen.clone() else { return };
        let holder = lease.as_ref().and_then(holder);
        let mine = holder == Some(self.identity.as_str());
        let leads = self.sender.borrow().is_some_and(|until| now < until);
        if !leads || !mine {
            self.lost(holder);
        }
        if self.retry_at.is_some_and(|at| now < at) {
            return;
        }
        self.retry_at = None;
        let dead = !self.kept && long_dead(lease.as_ref());
        let free = holder.is_none() || since + duration(lease.as_ref()) <= now || dead;
        let due = if mine { !leads || self.renew_at <= now } else { free };
        if due {
            self.write(lease, mine).await;
        }
    }

    fn lost(&self, holder: Option<&str>) {
        let changed = self.sender.send_if_modified(|until| until.take().is_some());
        if changed {
            tracing::warn!(holder, "no longer leading: the Lease was not renewed in time, or is somebody else's");
        }
    }

    /// Takes or renews the Lease.
    async fn write(&mut self, lease: Option<Lease>, mine: bool) {
        let start = Instant::now();
        let lease = Sent::from(self.filled(lease, mine));
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        let written = async {
            match lease.metadata.resource_version {
                None => self.api.create(&params, &lease).await,
                Some(_) => self.api.replace(NAME, &params, &lease).await,
            }
        };
        match tokio::time::timeout(WRITE_TIMEOUT, written).await {
            Ok(Ok(written)) => {
                self.seen = Some((Some(read(written)), Instant::now()));
                self.renew_at = start + RENEW;
                self.sender.send_replace(Some(start + COUNTS_FOR));
            }
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => self.look_again().await,
            failed => {
                let why = failed.map_or_else(|_| "no answer".to_owned(), |result| format!("{:?}", result.err()));
                tracing::warn!(error = %why, "Lease not written");
                self.retry_at = Some(Instant::now() + RETRY);
            }
        }
    }

    /// Somebody else wrote or deleted the Lease, and the watch is behind.
    async fn look_again(&mut self) {
        self.retry_at = Some(Instant::now() + RETRY);
        match tokio::time::timeout(WRITE_TIMEOUT, self.api.get_opt(NAME)).await {
            Ok(Ok(lease)) => self.found(lease.map(read)),
            failed => {
                let why = failed.map_or_else(|_| "no answer".to_owned(), |result| format!("{:?}", result.err()));
                tracing::warn!(error = %why, "Lease not read");
            }
        }
    }

    /// The Lease with a spec of ours alone.
    fn filled(&self, lease: Option<Lease>, mine: bool) -> Lease {
        let now = Some(MicroTime(Timestamp::now()));
        let fresh = || ObjectMeta { name: Some(NAME.to_owned()), ..ObjectMeta::default() };
        let (metadata, before) = lease.map_or_else(|| (fresh(), None), |lease| (lease.metadata, lease.spec));
        let before = before.unwrap_or_default();
        let transitions = before.lease_transitions.unwrap_or(0);
        let spec = LeaseSpec {
            acquire_time: before.acquire_time.filter(|_| mine).or_else(|| now.clone()),
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            lease_transitions: Some(if mine { transitions } else { transitions.saturating_add(1) }),
            renew_time: now,
            ..LeaseSpec::default()
        };
        Lease { metadata, spec: Some(spec) }
    }

    /// Gives the Lease back, so that nobody waits for its end.
    async fn release(&mut self) -> Result<(), kube::Error> {
        let Some(mut lease) = self.seen.take().and_then(|(lease, _)| lease) else { return Ok(()) };
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = None;
        }
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        self.api.replace(NAME, &params, &lease.into()).await.map(drop)
    }
}

/// What can be read of a Lease.
pub(super) fn read(sent: Sent<Lease>) -> Lease {
    let unreadable = match sent.object {
        Ok(lease) => return *lease,
        Err(unreadable) => unreadable,
    };
    let time = |field: &str| unreadable.field::<Moment>(field).and_then(|moment| moment.at()).map(MicroTime);
    let spec = LeaseSpec {
        acquire_time: time("acquireTime"),
        holder_identity: unreadable.text("holderIdentity"),
        lease_duration_seconds: unreadable.field("leaseDurationSeconds"),
        lease_transitions: unreadable.field("leaseTransitions"),
        renew_time: time("renewTime"),
        ..LeaseSpec::default()
    };
    Lease { metadata: sent.metadata, spec: Some(spec) }
}

fn holder(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref().filter(|holder| !holder.is_empty())
}

/// How long the holder said that it counts, [`LONGEST`] at most.
fn duration(lease: Option<&Lease>) -> Duration {
    let seconds = lease.and_then(|lease| lease.spec.as_ref()?.lease_duration_seconds);
    seconds.and_then(|seconds| u64::try_from(seconds).ok()).map_or(DURATION, Duration::from_secs).min(LONGEST)
}

/// Over for so long, by the wall clock, that no two clocks differ as much: who starts after the holder has died does not
/// wait once more.
fn long_dead(lease: Option<&Lease>) -> bool {
    let twice = SignedDuration::try_from(duration(lease) * 2).unwrap_or(SignedDuration::MAX);
    since_renewal(lease).is_none_or(|since| since > twice)
}

/// For how long it was not renewed, by the wall clock; negative where that is to come. `None`: it does not say.
pub(super) fn since_renewal(lease: Option<&Lease>) -> Option<SignedDuration> {
    let renewed = lease.and_then(|lease| lease.spec.as_ref()?.renew_time.as_ref());
    renewed.map(|renewed| Timestamp::now().duration_since(renewed.0))
}

/// Versions of one object are numbers that grow; one that is none is older than all.
fn version(lease: &Lease) -> u64 {
    lease.resource_version().and_then(|version| version.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_lease_that_cannot_be_read_whole_each_field_counts_that_can_be() {
        for (renewed, counts) in [
            ("9999-12-31T23:59:59.000000Z", Some(Timestamp::MAX)),
            ("10000-01-01T22:59:59.000000Z", None),
            ("-001-12-31T01:00:00.000000Z", None),
        ] {
            let lease = serde_json::json!({"metadata": {"name": NAME, "resourceVersion": "7"}, "spec": {
                "holderIdentity": "a", "leaseDurationSeconds": 20, "leaseTransitions": 3, "renewTime": renewed,
                "acquireTime": "2026-06-01T12:00:00.000000Z"}});
            let lease = read(serde_json::from_str(&lease.to_string()).unwrap());
            assert_eq!((holder(&lease), duration(Some(&lease)).as_secs(), version(&lease)), (Some("a"), 20, 7));
            let spec = lease.spec.unwrap();
            assert_eq!(spec.renew_time.map(|time| time.0), counts, "{renewed}");
            assert_eq!(spec.acquire_time.unwrap().0, "2026-06-01T12:00:00Z".parse().unwrap());
        }
    }

    #[test]
    fn a_lease_counts_for_as_long_as_it_says_but_never_for_more_than_a_minute() {
        let says = |seconds| Lease {
            spec: Some(LeaseSpec { lease_duration_seconds: seconds, ..LeaseSpec::default() }),
            ..Lease::default()
        };
        for (seconds, counts) in [(Some(20), 20), (Some(i32::MAX), 60), (Some(-1), 15), (None, 15)] {
            assert_eq!(duration(Some(&says(seconds))), Duration::from_secs(counts), "{seconds:?}");
        }
        // and so it is over, although its holder said that it is for life
        let hour_ago = MicroTime(Timestamp::now() - SignedDuration::from_hours(1));
        let mut stale = says(Some(i32::MAX));
        stale.spec.get_or_insert_default().renew_time = Some(hour_ago);
        assert!(long_dead(Some(&stale)));
    }
}
