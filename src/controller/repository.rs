//! One `PolicyRepository`: looks at its new commits, verifies their documents, has every workspace reconciled, and moves
//! the cursor last.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use jiff::{SignedDuration, Timestamp};
use kube::{Api, Client, ResourceExt as _};
use tokio::time::Instant;
use tracing::Instrument as _;

use super::accept::{Accepted, accept};
use super::answer::in_time;
use super::candidate::Candidate;
use super::credentials::Credentials;
use super::documents::Documents;
use super::events::Events;
use super::leader::{Leader, Observation, WorkspaceError};
use super::observe::{self, Seen};
use super::plan::Outcome;
use super::report::{self, Fault, Look};
use super::retry::{jittered, pause};
use super::secrets::Secrets;
use crate::api::policy_repository::Cursor;
use crate::api::{ACCEPT_REWIND, PolicyRepository, PolicyRepositoryStatus, REQUESTED_AT, Sent, conditions};
use crate::git::{Git, GitError, Reference, Request, Snapshot};
use crate::policy::Reason;
use crate::telemetry::trace;

/// Workspaces that are written at the same time.
const CONCURRENCY: usize = 16;
/// Marked documents that are asked for at once.
const MOST_MARKED_DOCUMENTS: usize = 500;
/// A clock that differs by more from one that nobody sets was set.
const SET: Duration = Duration::from_secs(5);
/// How long a repository rests of which one look did not judge all: as long as that took, within these bounds.
const SHORTEST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(60);
/// Longest path that a repository has, in bytes.
const LONGEST_PATH: usize = 4096;

/// The worker of one repository.
pub struct Worker {
    client: Client,
    git: Git,
    leader: Arc<Leader>,
    documents: Documents,
    /// What its Secrets say.
    pub credentials: Credentials,
    /// What was refused for good: only another request may be answered otherwise.
    refused: Option<(Request, GitError)>,
    /// What the last look found, so that only what differs is planned again.
    seen: Option<Seen>,
    outcomes: BTreeMap<String, Vec<(Candidate, Outcome)>>,
    failures: u32,
    /// Whether the last look judged documents.
    judged: bool,
    /// When the last look began, by the clock, and by one that nobody sets.
    looked: (Timestamp, Instant),
    /// When this worker fetched successfully, or, before that, when it began.
    fetched: Timestamp,
    has_fetched: bool,
    /// The tokens that asked for a look, as they were at the last one.
    requests: Option<[Option<String>; 2]>,
}

/// Why a repository is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Its interval, its spec, or an annotation: fetch.
    Look,
    /// The keys or the time have changed: the clone will do.
    Judge,
}

impl Cause {
    const fn as_str(self) -> &'static str {
        match self {
            Cause::Look => "look",
            Cause::Judge => "judge",
        }
    }
}

impl Worker {
    /// A worker that has not looked yet.
    pub fn new(client: Client, git: Git, leader: Arc<Leader>, secrets: Secrets) -> Self {
        Worker {
            client,
            git,
            leader,
            documents: Documents::default(),
            credentials: Credentials::new(secrets),
            refused: None,
            seen: None,
            outcomes: BTreeMap::new(),
            failures: 0,
            judged: false,
            looked: (Timestamp::now(), Instant::now()),
            fetched: Timestamp::now(),
            has_fetched: false,
            requests: None,
        }
    }

    /// Looks once, and writes what was found into the status. Returns how long to wait until the next look.
    pub async fn look(&mut self, repository: &PolicyRepository, cause: Cause) -> Duration {
        let span = trace::look(&repository.name_any(), cause.as_str());
        self.look_traced(repository, cause).instrument(span).await
    }

    async fn look_traced(&mut self, repository: &PolicyRepository, cause: Cause) -> Duration {
        let start = Instant::now();
        if self.clock_was_set() {
            self.refused = None;
        }
        self.looked = (Timestamp::now(), start);
        // by a clock that was ahead: since then it is as long as anybody can tell
        self.fetched = self.fetched.min(self.looked.0);
        let mut look = if repository.spec.suspended() {
            self.leader.applied(Some(&repository.name_any()));
            Look { fault: Some(Fault::suspended()), ..Look::default() }
        } else {
            self.observe_and_reconcile(repository, cause).await
        };
        self.judged = look.findings.is_some();
        if look.fault.is_none() && cause == Cause::Look {
            (self.fetched, self.has_fetched) = (Timestamp::now(), true);
        }
        self.count(&repository.name_any(), &look, cause, start.elapsed());
        look.stale_since = self.stale_since(repository, Timestamp::now());
        let requested = self.requested(repository);
        self.write_status(repository, &look, requested.as_deref()).await;
        let interval = repository.spec.interval();
        match &look.fault {
            // it goes on, and leaves as much time to others
            Some(fault) if fault.goes_on() => {
                self.failures = 0;
                jittered(start.elapsed().clamp(SHORTEST_REST, LONGEST_REST))
            }
            Some(fault) if fault.transient() => {
                self.failures = self.failures.saturating_add(1);
                jittered(pause(self.failures, interval))
            }
            _ => {
                self.failures = 0;
                jittered(interval)
            }
        }
    }

    fn count(&self, name: &str, look: &Look, cause: Cause, elapsed: Duration) {
        let reason = look.fault.as_ref().map(|fault| fault.reason);
        trace::looked(look.revision.as_deref(), reason.unwrap_or("Succeeded"));
        let counted = &self.leader.metrics;
        counted.looked(name, reason, cause == Cause::Look, elapsed);
        if look.applied {
            counted.skipped(name, look.skipped);
        }
    }

    /// The repository is gone: so are its clone and what it offered.
    pub async fn forget(self, repository: &PolicyRepository) {
        let name = repository.name_any();
        self.leader.metrics.forget(&name);
        self.leader.forget(&name, &key(repository));
        if let Err(error) = self.git.forget(&key(repository)).await {
            tracing::warn!(%error, repository = %name, "clone not deleted; it is a cache, and may be deleted by hand");
        }
        self.leader.index.mark_dirty(self.leader.index.names());
    }

    /// Whether the clock was set since the last look, ahead or back: whatever was refused then, for good or not, may have been
    /// refused for the time alone, such as that of a certificate, of a token, or of a key that has signed a commit.
    pub fn clock_was_set(&self) -> bool {
        let (at, then) = self.looked;
        let by_clock = Timestamp::now().duration_since(at);
        let passed = SignedDuration::try_from(then.elapsed()).unwrap_or(SignedDuration::MAX);
        by_clock.is_negative() || by_clock.saturating_sub(passed).unsigned_abs() > SET
    }

    /// Whether a verdict has changed by the clock alone since the last look, if that judged anything.
    pub fn verdicts_changed(&self) -> bool {
        self.judged && self.documents.changed(Timestamp::now())
    }

    /// How long until a verdict changes by the clock alone. None: never, or the last look judged nothing.
    pub fn verdicts_change_in(&self) -> Option<Duration> {
        let at = self.documents.next_change(Timestamp::now()).filter(|_| self.judged)?;
        let until = Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or_default();
        Some(until.max(Duration::from_millis(10)))
    }

    async fn observe_and_reconcile(&mut self, repository: &PolicyRepository, cause: Cause) -> Look {
        let cursor = repository.status.as_ref().and_then(|status| status.cursor.clone());
        let cursor = cursor
            .filter(|cursor| Some(&cursor.branch) == branch(repository).as_ref() && cursor.url == repository.spec.url);
        let keys = match self.credentials.signature_keys(&repository.spec).await {
            Ok(keys) => keys,
            Err(why) => return Look { fault: Some(Fault::signature(&why, true)), ..Look::default() },
        };
        let mut snapshot = match self.snapshot(repository, cursor.as_ref(), cause).await {
            Ok(snapshot) => snapshot,
            Err(error) => return Look { fault: Some(Fault::git(&error)), ..Look::default() },
        };
        let mut look = Look {
            revision: Some(super::revision(&snapshot.reference, &snapshot.tip)),
            path_exists: snapshot.path_exists,
            skipped: snapshot.skipped,
            ..Look::default()
        };
        let accepted = accept(repository, cursor.as_ref(), &snapshot, keys, &mut look).await;
        if accepted == Accepted::No {
            observe::only_marked(&mut snapshot);
        }
        let ring = self.leader.index.keys();
        let name = repository.name_any();
        let files = observe::files(&snapshot, &name, &self.leader.index);
        let total = files.len();
        let span = trace::verify(files.len());
        let clone = key(repository);
        let judged = self.documents.judge(&self.git, &clone, &files, &ring, Timestamp::now());
        let left = match judged.instrument(span).await {
            Ok(left) => left,
            Err(error) => return Look { revision: look.revision, fault: Some(Fault::git(&error)), ..Look::default() },
        };
        if accepted == Accepted::No && self.seen.is_some() {
            // what was seen before still stands
            return look;
        }
        let owned = observe::Ownership::of(&repository.spec, self.leader.repositories());
        let seen = Seen::new(&name, &snapshot, &self.documents, &owned, self.seen.as_ref(), &self.leader.index);
        let failure = self.reconcile_all(&name, seen, accepted != Accepted::No && left == 0).await;
        // until all is judged, what was judged of the commits in between is wanted again
        let between = snapshot.commits.iter().flat_map(|commit| &commit.files).filter(|_| left > 0);
        self.documents.end_pass(snapshot.tip_files.iter().chain(between));
        if accepted == Accepted::No {
            self.seen = None;
            return look;
        }
        look.findings = Some(self.findings());
        match failure {
            Some(error) => look.fault = Some(Fault::workspace(&error)),
            // what was judged is applied; the cursor waits for the rest
            None if left > 0 => look.fault = Some(Fault::too_much(left, total)),
            None => {
                look.applied = true;
                look.rewound_from = cursor.filter(|_| accepted == Accepted::Rewound).map(|cursor| cursor.commit);
                let url = repository.spec.url.clone();
                look.cursor = branch(repository).map(|branch| Cursor { url, branch, commit: snapshot.tip });
            }
        }
        look
    }

    /// Since when there was no successful fetch, if that is longer than `spec.staleAfter`. What was before this process is
    /// known from the status: it failed since then.
    fn stale_since(&self, repository: &PolicyRepository, now: Timestamp) -> Option<Timestamp> {
        let ready = repository.status.as_ref().and_then(|status| conditions::find(&status.conditions, "Ready"));
        let failed_since = ready.filter(|ready| ready.status == "False").map(|ready| ready.last_transition_time.0);
        let before = failed_since.filter(|_| !self.has_fetched);
        let since = before.map_or(self.fetched, |before| before.min(self.fetched));
        let silent = Duration::try_from(now.duration_since(since)).unwrap_or_default();
        (silent > repository.spec.stale_after()).then_some(since)
    }

    async fn snapshot(
        &mut self,
        repository: &PolicyRepository,
        cursor: Option<&Cursor>,
        cause: Cause,
    ) -> Result<Snapshot, GitError> {
        let mut request = Request::new(key(repository), repository.spec.url.clone());
        request.reference = repository.spec.reference();
        repository.spec.path().clone_into(&mut request.path);
        request.timeout = repository.spec.timeout();
        request.since = cursor.map(|cursor| cursor.commit.clone());
        request.signed = repository.spec.signed();
        request.also = self.marked_documents(&repository.name_any());
        request.offline = cause == Cause::Judge && self.seen.is_some();
        if !request.offline {
            request.access = self.credentials.access(&repository.spec).await?;
        }
        if let Some((_, error)) = self.refused.as_ref().filter(|(refused, _)| *refused == request) {
            return Err(error.clone());
        }
        let span = trace::fetch(&repository.name_any(), request.offline);
        let outcome = self.git.snapshot(&request).instrument(span).await;
        self.refused = match &outcome {
            Err(error) if error.permanent() => Some((request, error.clone())),
            _ => None,
        };
        outcome
    }

    /// Marked documents that are held by nobody, as commit and path: their objects were damaged while no replica ran.
    ///
    /// One that is refused for its key is not lost: what is marked is that same document, and reading it again would
    /// not make it valid. If there are too many, chance decides, so that each has its turn.
    fn marked_documents(&self, repository: &str) -> Vec<(String, String)> {
        let index = &self.leader.index;
        let mut lost = BTreeSet::new();
        for name in index.names() {
            let view = index.view(&name);
            let (None, Some(ledger)) = (view.held, view.ledger) else { continue };
            let spec = ledger.spec;
            let hex = spec.commit.len() == 40 && spec.commit.bytes().all(|byte| byte.is_ascii_hexdigit());
            let named = hex && (1..=LONGEST_PATH).contains(&spec.path.len());
            if named && spec.repository == repository {
                lost.insert((spec.commit, spec.path));
            }
        }
        let mut lost: Vec<(String, String)> = lost.into_iter().collect();
        if lost.len() > MOST_MARKED_DOCUMENTS {
            let start = getrandom::u32().unwrap_or(0) as usize % lost.len();
            lost.rotate_left(start);
            lost.truncate(MOST_MARKED_DOCUMENTS);
        }
        lost
    }

    /// Has every workspace reconciled whose documents differ from what was seen last. Returns the first failure.
    async fn reconcile_all(&mut self, name: &str, seen: Seen, whole: bool) -> Option<WorkspaceError> {
        let mut changed = seen.changed(self.seen.as_ref());
        // a conflict may have ended in another repository
        let conflict = |(_, outcome): &(Candidate, Outcome)| outcome.reason == Reason::ConflictingPolicies;
        let conflicts = self.outcomes.iter().filter(|(_, outcomes)| outcomes.iter().any(conflict));
        changed.extend(conflicts.map(|(object, _)| object.clone()));
        let observation = Observation { candidates: seen.candidates.clone(), whole };
        self.leader.observed(name, Arc::new(observation));
        let (leader, documents) = (&*self.leader, &self.documents);
        let results: Vec<(String, Result<_, WorkspaceError>)> = futures::stream::iter(changed)
            .map(|object| async move {
                let result = leader.reconcile(&object, Some(documents)).await;
                (object, result)
            })
            .buffer_unordered(CONCURRENCY)
            .collect()
            .await;
        let mut failure = None;
        for (object, result) in results {
            match result {
                Ok(outcomes) => {
                    let own = outcomes.into_iter().filter(|(candidate, _)| *candidate.repository == *name);
                    self.outcomes.insert(object, own.collect());
                }
                Err(error) => {
                    tracing::warn!(%error, kind = "WorkspacePolicy", name = %object, repository = %name, "workspace not reconciled");
                    failure.get_or_insert(error);
                }
            }
        }
        self.outcomes.retain(|object, _| seen.candidates.contains_key(object));
        // after a failure everything is planned again: what differed must not count as seen
        self.seen = if failure.is_none() { Some(seen) } else { None };
        if failure.is_none() {
            self.leader.applied(Some(name));
        }
        failure
    }

    /// Every document at the tip with its result, by path.
    fn findings(&self) -> Vec<report::Finding> {
        let planned = self.outcomes.values().flatten().filter(|(candidate, _)| candidate.at_tip);
        let planned = planned.map(|(candidate, outcome)| report::Finding {
            path: candidate.path.to_string(),
            workspace: candidate.workspace.as_ref().map(ToString::to_string),
            reason: outcome.reason,
            message: outcome.message.clone(),
        });
        let mut findings: Vec<report::Finding> = planned.collect();
        findings.extend(self.seen.iter().flat_map(|seen| seen.unplanned.iter().cloned()));
        findings.sort_by(|a, b| a.path.cmp(&b.path));
        findings
    }

    /// The token to echo: the one of two annotations that changed.
    fn requested(&mut self, repository: &PolicyRepository) -> Option<String> {
        let now = requests(repository);
        let handled = repository.status.as_ref().and_then(|status| status.last_handled_reconcile_at.clone());
        let before = self.requests.replace(now.clone());
        let changed = match before {
            Some(before) => now
                .iter()
                .zip(before)
                .find(|(now, before)| now.is_some() && **now != *before)
                .map(|(now, _)| now.clone()),
            // a new process: the one that was echoed last was handled
            None if handled.is_some() && now.contains(&handled) => None,
            None => now.iter().find(|token| token.is_some()).cloned(),
        };
        changed.flatten().or(handled)
    }

    async fn write_status(&self, repository: &PolicyRepository, look: &Look, requested: Option<&str>) {
        let (name, api) = (repository.name_any(), Api::<Sent<PolicyRepository>>::all(self.client.clone()));
        let mut latest = repository.clone();
        for _ in 0..3 {
            let mut previous = latest.status.clone().unwrap_or_default();
            previous.conditions = conditions::ours(&previous.conditions);
            let status = report::status(&latest, look, requested, Timestamp::now());
            if status == previous {
                return;
            }
            let version = latest.resource_version();
            let (params, patch) = super::apply::<PolicyRepository>(&name, version.as_deref(), "status", &status);
            match in_time(api.patch_status(&name, &params, &patch)).await {
                Ok(_) => return self.tell(&name, repository, &previous, &status).await,
                Err(kube::Error::Api(refused)) if refused.code == 409 => {
                    match in_time(api.get(&name)).await.and_then(Sent::readable) {
                        // what was looked at is still what is asked for: only something else of the object changed
                        Ok(now)
                            if now.uid() == repository.uid()
                                && now.metadata.generation == repository.metadata.generation =>
                        {
                            latest = now;
                        }
                        // the watch brings the new spec, and with it the next look
                        _ => return,
                    }
                }
                Err(error) => return tracing::warn!(%error, kind = "PolicyRepository", name, "status not written"),
            }
        }
        tracing::warn!(kind = "PolicyRepository", name, "status not written: the object changes too fast");
    }

    async fn tell(
        &self,
        name: &str,
        repository: &PolicyRepository,
        before: &PolicyRepositoryStatus,
        after: &PolicyRepositoryStatus,
    ) {
        for event in report::events(before, after) {
            let about = Events::repository(name, repository.uid());
            match event.warning {
                true => self.leader.events.warning(about, &event.reason, event.note).await,
                false => self.leader.events.normal(about, &event.reason, event.note).await,
            }
        }
    }
}

/// Folder of the clone: the object's uid, so that a new object of the same name starts anew.
pub fn key(repository: &PolicyRepository) -> String {
    repository.uid().unwrap_or_else(|| repository.name_any())
}

/// The branch that the spec names, as a cursor has it: empty for the default one. `None`: a tag or a commit, which has no
/// history that it would have to keep.
fn branch(repository: &PolicyRepository) -> Option<String> {
    match repository.spec.reference() {
        Reference::Branch(branch) => Some(branch),
        Reference::Default => Some(String::new()),
        Reference::Tag(_) | Reference::Semver(_) | Reference::Commit(_) => None,
    }
}

/// The commit that an administrator accepts although history was rewritten.
pub fn accepted_rewind(repository: &PolicyRepository) -> Option<String> {
    repository.metadata.annotations.as_ref()?.get(ACCEPT_REWIND).cloned()
}

/// The tokens of the annotations that ask for a look at once.
pub fn requests(repository: &PolicyRepository) -> [Option<String>; 2] {
    REQUESTED_AT.map(|name| repository.metadata.annotations.as_ref()?.get(name).cloned())
}
