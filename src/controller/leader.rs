//! What the one leading replica does for a workspace: it plans, and writes the object, then its mark, then its status.
//!
//! What was absent is created by POST; every other write carries the resourceVersion that it was decided on. So a
//! leader that was deposed, or a second controller, writes nothing that somebody else has not seen.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client};
use serde_json::json;

use super::candidate::{self, Candidate};
use super::documents::Documents;
use super::events::Events;
use super::lease::Leading;
use super::plan::{self, Outcome, Place, Plan};
use super::status::{self, Observed};
use crate::admission::hold;
use crate::admission::index::{ObjectView, PolicyIndex, WorkspaceView};
use crate::api::{FIELD_MANAGER, PolicyLedger, PolicyLedgerSpec, WorkspacePolicy, WorkspacePolicySpec, conditions};
use crate::api::{conditions::find, object_name};
use crate::git::Git;
use crate::policy::{Document, Format, VerifiedPolicy};

/// Conflicts that are met by looking again at once, before the caller waits.
const ATTEMPTS: usize = 5;

/// What a repository offers, by object name.
#[derive(Debug, Default)]
pub struct Observation {
    /// Its documents.
    pub candidates: HashMap<String, Vec<Candidate>>,
    /// Whether the tip was looked at. If its history was rewritten, only what was accepted before is here.
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
}

impl Leader {
    /// A leader that has observed nothing yet.
    pub fn new(client: Client, git: Git, index: Arc<PolicyIndex>, events: Events, leading: Leading) -> Self {
        let locks = (0..64).map(|_| tokio::sync::Mutex::new(())).collect();
        let (observations, clones, applied) = (RwLock::default(), RwLock::default(), Mutex::default());
        Leader { client, git, index, events, observations, clones, applied, locks, leading }
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

    /// A repository is gone.
    pub fn forget(&self, repository: &str) {
        self.write_observations().remove(repository);
        self.clones.write().unwrap_or_else(PoisonError::into_inner).remove(repository);
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
        for _ in 0..ATTEMPTS {
            self.still_leading(name)?;
            match self.attempt(name, fresh).await {
                Err(error) if error.stale() => self.look_again(name).await?,
                other => return other,
            }
        }
        Err(WorkspaceError::Contended(name.to_owned()))
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
        let plan = plan::plan(&view, &candidates);
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
        let now = Timestamp::now();
        match self.policies().get_opt(name).await.map_err(WorkspaceError::api("read WorkspacePolicy", name))? {
            Some(object) => self.index.object_seen(object, now),
            None => self.index.object_gone(name, now),
        }
        match self.ledgers().get_opt(name).await.map_err(WorkspaceError::api("read PolicyLedger", name))? {
            Some(ledger) => self.index.ledger_seen(ledger, now),
            None => self.index.ledger_gone(name, now),
        }
        Ok(())
    }

    fn policies(&self) -> Api<WorkspacePolicy> {
        Api::all(self.client.clone())
    }

    fn ledgers(&self) -> Api<PolicyLedger> {
        Api::all(self.client.clone())
    }

    /// A second object of a workspace, which no replica looks at.
    async fn delete_misnamed(&self, name: &str, object: &ObjectView) -> Result<(), WorkspaceError> {
        let workspace = object.verdict.as_ref().map_or(object.workspace.as_str(), |policy| policy.workspace_id());
        let proper = object_name(workspace);
        let params = DeleteParams::default().preconditions(Preconditions {
            uid: Some(object.uid.clone()),
            resource_version: Some(object.resource_version.clone()),
        });
        self.policies().delete(name, &params).await.map_err(WorkspaceError::api("delete WorkspacePolicy", name))?;
        tracing::warn!(policy = %name, workspace, "deleted a second object of a workspace");
        let note = format!("WorkspacePolicy {name} was deleted: workspace {workspace} has the object {proper}");
        self.events.warning(Events::policy(&proper, None), "Restored", note).await;
        Ok(())
    }

    async fn write_object(
        &self,
        name: &str,
        view: &WorkspaceView,
        plan: &Plan,
        candidates: &[Candidate],
        fresh: Option<&Documents>,
    ) -> Result<(), WorkspaceError> {
        let Some(policy) = self.document(name, view, plan, candidates, fresh).await? else { return Ok(()) };
        let document = serde_json::from_str(policy.document_json())
            .map_err(|error| WorkspaceError::Document { name: name.to_owned(), message: error.to_string() })?;
        let spec =
            WorkspacePolicySpec { workspace: policy.workspace_id().to_owned(), document, source: plan.source.clone() };
        let written = match &view.object {
            None => {
                let object = WorkspacePolicy::new(name, spec);
                let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
                self.policies().create(&params, &object).await
            }
            Some(object) => {
                let apply = json!({
                    "apiVersion": "sekuire.ai/v1alpha1", "kind": "WorkspacePolicy",
                    "metadata": {"name": name, "resourceVersion": object.resource_version},
                    "spec": spec,
                });
                self.policies().patch(name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(&apply)).await
            }
        };
        let written = written.map_err(WorkspaceError::api("write WorkspacePolicy", name))?;
        self.say_written(name, view, plan, &policy, &written).await;
        self.index.object_seen(written, Timestamp::now());
        Ok(())
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
        let document = Document::parse(&bytes, format).map_err(|fault| fault.to_string())?;
        let policy = hold::authenticate(document, &self.index.keys(), Timestamp::now());
        policy.map(Arc::new).map_err(|refusal| refusal.to_string())
    }

    async fn say_written(
        &self,
        name: &str,
        view: &WorkspaceView,
        plan: &Plan,
        policy: &VerifiedPolicy,
        written: &WorkspacePolicy,
    ) {
        let source = plan.source.clone().unwrap_or_default();
        let version = policy.version();
        let is_new = view.ledger.as_ref().is_none_or(|ledger| !ledger.mark.is(policy));
        let about = Events::policy(name, written.metadata.uid.clone());
        if is_new {
            tracing::info!(policy = %policy.policy_id(), workspace = %policy.workspace_id(), %version, commit = %source.commit,
                key_id = %policy.signing_key_id(), "policy accepted");
            let note = format!(
                "version {version} of {} ({}) was accepted: {} in commit {}, signed by {}",
                policy.policy_id(),
                policy.status(),
                source.path,
                source.commit,
                policy.signing_key_id()
            );
            self.events.normal(about, "Verified", note).await;
        } else {
            tracing::warn!(policy = %policy.policy_id(), workspace = %policy.workspace_id(), %version, "policy object put back");
            let note = format!("the object was changed or deleted by somebody else; version {version} was put back");
            self.events.warning(about, "Restored", note).await;
        }
    }

    async fn write_mark(&self, name: &str, view: &WorkspaceView, plan: &Plan) -> Result<(), WorkspaceError> {
        let (Some(base), true) = (&plan.base, plan.raise_mark) else { return Ok(()) };
        let object = view.object.as_ref();
        let workspace = object.map(|object| object.workspace.clone()).unwrap_or_default();
        let source = object.and_then(|object| object.source.clone()).unwrap_or_default();
        let same = view.ledger.as_ref().filter(|ledger| ledger.mark == base.mark);
        let spec = PolicyLedgerSpec {
            workspace,
            version: base.mark.version,
            digest: base.mark.digest.clone(),
            policy_id: base.mark.policy_id.clone(),
            lifecycle: base.mark.lifecycle,
            repository: source.repository,
            path: source.path,
            commit: source.commit,
            accepted_at: same.map_or_else(|| Some(now()), |ledger| ledger.spec.accepted_at.clone()),
        };
        let written = match &view.ledger {
            None => {
                let ledger = PolicyLedger::new(name, spec);
                let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
                self.ledgers().create(&params, &ledger).await
            }
            Some(ledger) => {
                let apply = json!({
                    "apiVersion": "sekuire.ai/v1alpha1", "kind": "PolicyLedger",
                    "metadata": {"name": name, "resourceVersion": ledger.resource_version},
                    "spec": spec,
                });
                self.ledgers().patch(name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(&apply)).await
            }
        };
        let written = written.map_err(WorkspaceError::api("write PolicyLedger", name))?;
        if view.marked.is_some_and(|marked| marked >= base.mark.version) {
            tracing::warn!(policy = %base.mark.policy_id, version = %base.mark.version, "mark put back");
            let note = format!(
                "the PolicyLedger was changed or deleted by somebody else; its mark {} was put back",
                base.mark.version
            );
            self.events.warning(Events::policy(name, object.map(|object| object.uid.clone())), "Restored", note).await;
        }
        self.index.ledger_seen(written, Timestamp::now());
        Ok(())
    }

    async fn write_status(&self, name: &str, observed: &Observed<'_>) -> Result<(), WorkspaceError> {
        let Some(object) = &observed.view.object else { return Ok(()) };
        let status = status::workspace_status(observed);
        if status == object.status {
            return Ok(());
        }
        let apply = json!({
            "apiVersion": "sekuire.ai/v1alpha1", "kind": "WorkspacePolicy",
            "metadata": {"name": name, "resourceVersion": object.resource_version},
            "status": status,
        });
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let written = self.policies().patch_status(name, &params, &Patch::Apply(&apply)).await;
        let written = written.map_err(WorkspaceError::api("write status of WorkspacePolicy", name))?;
        self.say_status(name, object, &status).await;
        self.index.object_seen(written, Timestamp::now());
        Ok(())
    }

    /// One Event for each new reason of `Ready`, not for each write.
    async fn say_status(&self, name: &str, object: &ObjectView, status: &crate::api::WorkspacePolicyStatus) {
        let before = find(&object.status.conditions, "Ready");
        let Some(after) = conditions::find(&status.conditions, "Ready") else { return };
        if after.status == "False"
            && before.is_none_or(|before| before.reason != after.reason || before.message != after.message)
        {
            let about = Events::policy(name, Some(object.uid.clone()));
            self.events.warning(about, &after.reason, after.message.clone()).await;
        }
    }
}

/// The present time as the API server stores it.
fn now() -> Time {
    let now = Timestamp::now();
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}
