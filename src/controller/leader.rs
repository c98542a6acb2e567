//! What the one leading replica does for a workspace: it plans, and writes the object, then its mark, then its status.
//!
//! What was absent is created by POST; every other write carries the resourceVersion that it was decided on. So a
//! leader that was deposed, or a second controller, writes nothing that somebody else has not seen.

mod write;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use jiff::Timestamp;
use kube::{Api, Client};
use tracing::Instrument as _;

use super::candidate::{self, Candidate};
use super::documents::Documents;
use super::events::Events;
use super::lease::Leading;
use super::plan::{self, Outcome, Place, Plan};
use super::status::Observed;
use crate::admission::by_itself::by_itself;
use crate::admission::hold;
use crate::admission::index::{PolicyIndex, WorkspaceView};
use crate::api::{PolicyLedger, Sent, WorkspacePolicy, object_name};
use crate::git::{Git, shown};
use crate::policy::{Document, Format, VerifiedPolicy};
use crate::telemetry::{RepositoryMetrics, metrics, trace};

/// Conflicts that are met by looking again at once, before the caller waits.
const ATTEMPTS: usize = 5;

/// How long one workspace may take: an answer that never comes must not hold up the others.
const LONGEST: Duration = Duration::from_secs(60);

/// What a repository offers, by object name.
#[derive(Debug, Default)]
pub struct Observation {
    /// Its documents.
    pub candidates: HashMap<String, Vec<Candidate>>,
    /// Whether the tip was read. If it was not accepted (not signed, history rewritten), only what was accepted before is
    /// here.
    pub whole: bool,
}

/// Why a workspace could not be brought to where it should be. It is tried again.
#[derive(Debug, thiserror::Error)]
pub enum WorkspaceError {
    /// The API server refused or could not be reached.
    #[error("{what} {name}: {source}")]
    Api {
        /// What was done.
        what: &'static str,
        /// To which object.
        name: String,
        /// Its answer.
        source: kube::Error,
    },
    /// A document could not be read again.
    #[error("document of {name}: {message}")]
    Document {
        /// Object name.
        name: String,
        /// What went wrong.
        message: String,
    },
    /// Another replica leads.
    #[error("{0} is left to another replica: this one no longer leads")]
    Deposed(String),
    /// Somebody else kept writing.
    #[error("{0} changes faster than it can be reconciled")]
    Contended(String),
    /// An answer did not come.
    #[error("{0}: no answer of the API server or the clone in time")]
    TimedOut(String),
}

impl WorkspaceError {
    fn api(what: &'static str, name: &str) -> impl FnOnce(kube::Error) -> WorkspaceError {
        let name = name.to_owned();
        move |source| WorkspaceError::Api { what, name, source }
    }

    /// Whether the view that the write was decided on is no longer true.
    fn stale(&self) -> bool {
        matches!(self, WorkspaceError::Api { source: kube::Error::Api(status), .. } if matches!(status.code, 404 | 409))
    }
}

/// The leader's knowledge and tools.
pub struct Leader {
    client: Client,
    git: Git,
    /// What this replica holds.
    pub index: Arc<PolicyIndex>,
    /// Events.
    pub events: Events,
    observations: RwLock<BTreeMap<String, Option<Arc<Observation>>>>,
    /// Folder of each repository's clone.
    clones: RwLock<HashMap<String, String>>,
    /// Repositories whose first look was applied.
    applied: Mutex<HashSet<String>>,
    locks: Vec<tokio::sync::Mutex<()>>,
    leading: Leading,
    /// What is counted of the repositories.
    pub metrics: Arc<RepositoryMetrics>,
}

impl Drop for Leader {
    fn drop(&mut self) {
        metrics().leads_no_more(&self.metrics);
    }
}

impl Leader {
    /// A leader that has observed nothing yet.
    pub fn new(client: Client, git: Git, index: Arc<PolicyIndex>, events: Events, leading: Leading) -> Self {
        let locks = (0..64).map(|_| tokio::sync::Mutex::new(())).collect();
        let (observations, clones, applied) = (RwLock::default(), RwLock::default(), Mutex::default());
        let counted = Arc::new(RepositoryMetrics::default());
        metrics().leads(counted.clone());
        Leader { client, git, index, events, observations, clones, applied, locks, leading, metrics: counted }
    }

    /// A repository exists; until it was observed, nobody can say that a source is missing.
    pub fn expect(&self, repository: &str, clone: String) {
        self.clones.write().unwrap_or_else(PoisonError::into_inner).insert(repository.to_owned(), clone);
        self.write_observations().entry(repository.to_owned()).or_default();
    }

    /// How many repositories there are.
    pub fn repositories(&self) -> usize {
        self.observations.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// What a repository offers now.
    pub fn observed(&self, repository: &str, observation: Arc<Observation>) {
        self.write_observations().insert(repository.to_owned(), Some(observation));
    }

    /// What a repository offers was applied, if it offers anything. Once that is true of all, this replica knows what is
    /// to be enforced.
    pub fn applied(&self, repository: Option<&str>) {
        let mut applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        applied.extend(repository.map(str::to_owned));
        let expected = self.observations.read().unwrap_or_else(PoisonError::into_inner);
        if expected.keys().all(|name| applied.contains(name)) {
            self.index.liveness.confirmed();
        }
    }

    /// A repository is gone. One of the same name that has come since, with another clone, is not.
    pub fn forget(&self, repository: &str, clone: &str) {
        let mut clones = self.clones.write().unwrap_or_else(PoisonError::into_inner);
        if clones.get(repository).is_some_and(|present| present == clone) {
            clones.remove(repository);
            self.write_observations().remove(repository);
        }
    }

    fn write_observations(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<String, Option<Arc<Observation>>>> {
        self.observations.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The documents that all repositories offer for an object name.
    fn candidates(&self, name: &str) -> Vec<Candidate> {
        let observations = self.observations.read().unwrap_or_else(PoisonError::into_inner);
        let seen = observations.values().flatten();
        let mut candidates: Vec<Candidate> = seen.filter_map(|o| o.candidates.get(name)).flatten().cloned().collect();
        candidates.sort_by_key(|candidate| candidate.order);
        candidates
    }

    /// Whether the repository that the accepted document came from was looked at, or is gone. What goes on in
    /// another one says nothing of this workspace.
    fn source_was_looked_at(&self, view: &WorkspaceView) -> bool {
        let marked = view.ledger.as_ref().map(|ledger| ledger.spec.repository.as_str());
        let observations = self.observations.read().unwrap_or_else(PoisonError::into_inner);
        let observation = marked.and_then(|repository| observations.get(repository));
        observation.is_none_or(|seen| seen.as_ref().is_some_and(|seen| seen.whole))
    }

    /// Brings one workspace to where it should be. Returns what became of each document that names it.
    ///
    /// # Errors
    /// When the API server or the clone fails; nothing is applied by half: a policy whose mark could not be
    /// written is taken up by the next attempt, whoever makes it.
    pub async fn reconcile(
        &self,
        name: &str,
        fresh: Option<&Documents>,
    ) -> Result<Vec<(Candidate, Outcome)>, WorkspaceError> {
        let digest = blake3::hash(name.as_bytes());
        let _one_at_a_time = self.locks[usize::from(digest.as_bytes()[0]) % self.locks.len()].lock().await;
        let attempts = async {
            for _ in 0..ATTEMPTS {
                self.still_leading(name)?;
                match self.attempt(name, fresh).await {
                    Err(error) if error.stale() => self.look_again(name).await?,
                    other => return other,
                }
            }
            Err(WorkspaceError::Contended(name.to_owned()))
        };
        let late = |_| Err(WorkspaceError::TimedOut(name.to_owned()));
        let attempts = tokio::time::timeout(LONGEST, attempts).instrument(trace::workspace(name));
        attempts.await.unwrap_or_else(late)
    }

    async fn attempt(
        &self,
        name: &str,
        fresh: Option<&Documents>,
    ) -> Result<Vec<(Candidate, Outcome)>, WorkspaceError> {
        let view = self.index.view(name);
        if let Some(object) = view.object.as_ref().filter(|object| object_name(&object.workspace) != name) {
            self.delete_misnamed(name, object).await?;
            return Ok(Vec::new());
        }
        let candidates = self.candidates(name);
        let view = WorkspaceView { source_unseen: !self.source_was_looked_at(&view), ..view };
        let plan = trace::plan().in_scope(|| plan::plan(&view, &candidates, Timestamp::now()));
        self.say_not_lowered(name, &view, &plan).await;
        self.write_object(name, &view, &plan, &candidates, fresh).await?;
        self.still_leading(name)?;
        if let Some(object) = view.object.as_ref().filter(|object| plan.base.is_none() && object.of_another()) {
            self.delete_misnamed(name, object).await?;
            return Ok(Vec::new());
        }
        let view = self.index.view(name);
        self.write_mark(name, &view, &plan).await?;
        self.still_leading(name)?;
        let view = self.index.view(name);
        self.write_status(
            name,
            &Observed {
                view: &view,
                plan: &plan,
                candidates: &candidates,
                looked_at: self.source_was_looked_at(&view),
                now: Timestamp::now(),
            },
        )
        .await?;
        Ok(candidates.into_iter().zip(plan.outcomes).collect())
    }

    /// What carries a resourceVersion is refused to a leader that was deposed; what it would write after it has looked
    /// again is not. So it asks before each write whether its Lease still counts.
    fn still_leading(&self, name: &str) -> Result<(), WorkspaceError> {
        if self.leading.now() { Ok(()) } else { Err(WorkspaceError::Deposed(name.to_owned())) }
    }

    /// The watch is behind: asks for the present objects.
    async fn look_again(&self, name: &str) -> Result<(), WorkspaceError> {
        let deletions = || self.index.view(name).deletions;
        let before = deletions();
        match self.sent_policies().get_opt(name).await.map_err(WorkspaceError::api("read WorkspacePolicy", name))? {
            Some(sent) => self.index.object_answered(sent.object, before, Timestamp::now()),
            None => self.index.object_gone(name, Timestamp::now()),
        }
        let before = deletions();
        match self.sent_ledgers().get_opt(name).await.map_err(WorkspaceError::api("read PolicyLedger", name))? {
            Some(sent) => self.index.ledger_answered(sent.object, before, Timestamp::now()),
            None => self.index.ledger_gone(name, Timestamp::now()),
        }
        Ok(())
    }

    /// For what is there already: whoever wrote into it may have made it unreadable.
    fn sent_policies(&self) -> Api<Sent<WorkspacePolicy>> {
        Api::all(self.client.clone())
    }

    fn sent_ledgers(&self) -> Api<Sent<PolicyLedger>> {
        Api::all(self.client.clone())
    }

    /// The document to write, if there is anything to write.
    async fn document(
        &self,
        name: &str,
        view: &WorkspaceView,
        plan: &Plan,
        candidates: &[Candidate],
        fresh: Option<&Documents>,
    ) -> Result<Option<Arc<VerifiedPolicy>>, WorkspaceError> {
        let held = view.held.as_ref().map(|held| held.policy.clone());
        let place = match (plan.write, &plan.source) {
            (None, None) => return Ok(None),
            (Some(place), _) => place,
            // only the source is wrong: the document stays as it is
            (None, Some(_)) => return Ok(held),
        };
        let Place::Candidate(index) = place else { return Ok(held) };
        let candidate = &candidates[index];
        let wanted = candidate.verdict.as_ref().ok().map(|summary| summary.fingerprint);
        if held.as_ref().is_some_and(|held| Some(candidate::fingerprint(held)) == wanted) {
            return Ok(held);
        }
        if let Some(policy) = fresh.and_then(|documents| documents.fresh(&candidate.blob, &candidate.path)) {
            return Ok(Some(policy));
        }
        let read = self.read(candidate).await;
        read.map(Some).map_err(|message| WorkspaceError::Document { name: name.to_owned(), message })
    }

    /// Reads a candidate's document from the clone, and verifies it again.
    async fn read(&self, candidate: &Candidate) -> Result<Arc<VerifiedPolicy>, String> {
        let key = self.clones.read().unwrap_or_else(PoisonError::into_inner).get(&*candidate.repository).cloned();
        let key = key.ok_or_else(|| format!("repository {} is gone", candidate.repository))?;
        let blob = candidate.blob.to_string();
        let mut read = self.git.read_blobs(&key, std::slice::from_ref(&blob)).await.map_err(|e| e.to_string())?;
        let bytes = read.remove(&blob).ok_or_else(|| format!("{} is not in the clone", candidate.path))?;
        let format = Format::of_path(&candidate.path).ok_or("not a document by its name")?;
        let policy = by_itself(&shown(&candidate.path), || {
            let document = Document::parse(&bytes, format).map_err(|fault| hold::malformed(&fault))?;
            hold::authenticate(document, &self.index.keys(), Timestamp::now())
        });
        policy.map(|policy| Arc::new(policy.without_unsigned())).map_err(|refusal| refusal.to_string())
    }
}
