//! What is enforced, in memory: kept true by watches, asked by every admission request.
//!
//! Every document is verified again here, by each replica for itself, before anything is decided by it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt as _;
use tokio::sync::{Notify, watch};

pub use super::bindings::Binding;
use super::bindings::Bindings;
use super::break_glass::BreakGlass;
use super::hold::{self, Held, Mark};
use super::label_policy::LabelPolicy;
use super::liveness::Liveness;
pub use super::liveness::{SILENCE, Watched};
pub use super::views::{LedgerView, ObjectView, WorkspaceView, fingerprint};
use super::views::{
    candidate, conclusion, is_to_be_warned_of, judge, judge_text, lacks_signatures, refused_in_the_future, retry_at,
    withdrawn, workspace_of,
};
use crate::api::workspace_policy::Source;
use crate::api::{ACCEPT_VERSION, PolicyLedger, Unreadable, WorkspacePolicy, is_older, object_name};
use crate::policy::verify::NOTICE;
use crate::policy::{self, KeyRing, VerifiedPolicy};

/// What a workspace's agents are held to.
#[derive(Clone, Debug)]
pub enum Enforced {
    /// This policy. Whether its time has come or gone is for `decide` to see.
    Policy {
        /// The policy.
        policy: Arc<VerifiedPolicy>,
        /// Where it was found.
        source: Option<Arc<Source>>,
    },
    /// Nothing: no agent is admitted.
    None {
        /// Why, in a sentence.
        why: Arc<str>,
    },
}

impl Enforced {
    /// Where the policy was found, if there is one and it is known.
    pub fn source(&self) -> Option<&Source> {
        match self {
            Enforced::Policy { source, .. } => source.as_deref(),
            Enforced::None { .. } => None,
        }
    }

    /// The same, for [`crate::policy::decide`].
    pub fn borrowed(&self) -> policy::Enforced<'_> {
        match self {
            Enforced::Policy { policy, source } => {
                policy::Enforced::Policy { policy, commit: source.as_ref().map(|source| source.commit.as_str()) }
            }
            Enforced::None { why } => policy::Enforced::None { why },
        }
    }
}

#[derive(Default)]
struct State {
    keys: KeyRing,
    entries: HashMap<String, WorkspaceView>,
    deletions: u64,
}

/// The index. Shared by the watches that fill it, the webhook that asks it, and the leader that puts objects back.
#[derive(Default)]
pub struct PolicyIndex {
    state: Mutex<State>,
    enforced: RwLock<HashMap<Arc<str>, Enforced>>,
    /// Labels of the namespaces.
    pub bindings: Bindings,
    /// Whether the watches are alive and their caches complete.
    pub liveness: Liveness,
    /// Whether the labels of namespaces are protected.
    pub label_policy: LabelPolicy,
    /// Whether enforcement is stopped.
    pub break_glass: BreakGlass,
    dirty: Mutex<HashSet<String>>,
    changed: Notify,
    ring: watch::Sender<u64>,
}

impl std::fmt::Debug for PolicyIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PolicyIndex").field("objects", &self.lock().entries.len()).finish_non_exhaustive()
    }
}

impl PolicyIndex {
    /// An empty one, filled by watches that are dead after so long a silence: [`SILENCE`] unless something is tried.
    #[must_use]
    pub fn of_watches(silence: Duration) -> Self {
        PolicyIndex {
            liveness: Liveness::new(silence),
            label_policy: LabelPolicy::new(silence),
            break_glass: BreakGlass::new(silence),
            ..PolicyIndex::default()
        }
    }
}

/// What the API server answers about an object that is there.
pub type Answer<K> = Result<Box<K>, Box<Unreadable>>;

impl State {
    /// Whether an answer is to be taken over that was asked for when there had been so many `deletions`. Not if it is an earlier
    /// state of what is `known` (uid and resourceVersion), nor if what it tells of may have been deleted since.
    fn takes<K: kube::Resource>(
        &self,
        answer: &Answer<K>,
        deletions: u64,
        known: impl Fn(&WorkspaceView) -> Option<(&str, &str)>,
    ) -> bool {
        let sent = answer.as_ref().map_or_else(|unreadable| &unreadable.metadata, |object| object.meta());
        let known = sent.name.as_ref().and_then(|name| known(self.entries.get(name)?));
        let same = known.filter(|(uid, _)| sent.uid.as_deref() == Some(uid));
        let overtaken =
            same.zip(sent.resource_version.as_deref()).is_some_and(|((_, known), sent)| is_older(sent, Some(known)));
        !overtaken && self.deletions == deletions
    }
}

impl PolicyIndex {
    /// The workspace of a namespace.
    pub fn workspace_of(&self, namespace: &str) -> Binding {
        self.bindings.get(namespace)
    }

    /// The workspace of a namespace; waits for the watch for up to `at_most` if there is none yet.
    pub async fn workspace_of_waiting(&self, namespace: &str, at_most: Duration) -> Binding {
        self.bindings.wait(namespace, at_most).await
    }

    /// What agents of a workspace are held to.
    pub fn enforced(&self, workspace: &str) -> Enforced {
        let enforced = self.enforced.read().unwrap_or_else(PoisonError::into_inner);
        enforced.get(workspace).cloned().unwrap_or_else(|| Enforced::None { why: hold::why_not(None, None).into() })
    }

    /// Whether requests may be answered from here.
    ///
    /// # Errors
    /// What is being waited for.
    pub fn ready(&self) -> Result<(), String> {
        self.liveness.ready(|| self.gap())
    }

    /// A workspace that has a mark, or a namespace, but nothing that is held: its object or its mark is damaged or
    /// missing, and the leader is about to put it back.
    fn gap(&self) -> Option<String> {
        let bound = self.bindings.workspaces();
        let state = self.lock();
        let gap = |view: &WorkspaceView| view.held.is_none() && !view.object.as_ref().is_some_and(withdrawn);
        let marked = state.entries.iter().find(|(_, view)| view.ledger.is_some() && gap(view));
        let marked = marked.map(|(name, _)| name.clone());
        let unknown = |name: &String| state.entries.get(name).is_none_or(gap);
        marked.or_else(|| bound.iter().map(|workspace| object_name(workspace)).find(unknown))
    }

    /// A `WorkspacePolicy` was created or changed.
    pub fn object_seen(&self, object: WorkspacePolicy, now: Timestamp) {
        self.take_object(&mut self.lock(), object, now);
    }

    /// What came back from the API server for a `WorkspacePolicy` that was written, or asked for, when there had been so many
    /// `deletions` ([`WorkspaceView::deletions`]): of no weight where a watch has brought more since.
    pub fn object_answered(&self, object: Answer<WorkspacePolicy>, deletions: u64, now: Timestamp) {
        let mut state = self.lock();
        if !state.takes(&object, deletions, |view| {
            view.object.as_ref().map(|known| (known.uid.as_str(), known.resource_version.as_str()))
        }) {
            return;
        }
        match object {
            Ok(object) => self.take_object(&mut state, *object, now),
            Err(unreadable) => self.take_unreadable_object(&mut state, &unreadable, now),
        }
    }

    fn take_object(&self, state: &mut State, object: WorkspacePolicy, now: Timestamp) {
        let name = object.name_any();
        let previous = state.entries.get(&name).and_then(|view| view.object.as_ref());
        let fingerprint = fingerprint(&object.spec.document);
        let unchanged = previous.filter(|old| old.fingerprint == fingerprint && old.workspace == object.spec.workspace);
        let (verdict, text) = match unchanged {
            // a new status or source: the document was judged already
            Some(old) => (old.verdict.clone(), old.text.clone()),
            None => judge(&name, object.spec.document.to_string().into(), &state.keys, now),
        };
        let judged_now = unchanged.is_none();
        let view = ObjectView {
            uid: object.metadata.uid.unwrap_or_default(),
            resource_version: object.metadata.resource_version.unwrap_or_default(),
            generation: object.metadata.generation,
            workspace: object.spec.workspace,
            source: object.spec.source,
            fingerprint,
            status: object.status.unwrap_or_default(),
            verdict,
            text,
        };
        let entry = state.entries.entry(name.clone()).or_default();
        entry.object = Some(view);
        entry.judged_at = entry.judged_at.max(judged_now.then_some(now));
        self.settle(state, &name, now);
    }

    /// A `WorkspacePolicy` was created or changed, and cannot be read. What is held stays held.
    pub fn object_unreadable(&self, object: &Unreadable, now: Timestamp) {
        self.take_unreadable_object(&mut self.lock(), object, now);
    }

    fn take_unreadable_object(&self, state: &mut State, object: &Unreadable, now: Timestamp) {
        state.entries.entry(object.name().to_owned()).or_default().object = Some(ObjectView::unreadable(object));
        self.settle(state, object.name(), now);
    }

    /// A `WorkspacePolicy` is gone. What is held stays held.
    pub fn object_gone(&self, name: &str, now: Timestamp) {
        let mut state = self.lock();
        state.deletions += 1;
        if let Some(view) = state.entries.get_mut(name) {
            view.object = None;
        }
        self.settle(&mut state, name, now);
    }

    /// A `PolicyLedger` was created or changed.
    pub fn ledger_seen(&self, ledger: PolicyLedger, now: Timestamp) {
        self.take_ledger(&mut self.lock(), ledger, now);
    }

    /// As [`PolicyIndex::object_answered`], for a `PolicyLedger`.
    pub fn ledger_answered(&self, ledger: Answer<PolicyLedger>, deletions: u64, now: Timestamp) {
        let mut state = self.lock();
        if !state.takes(&ledger, deletions, |view| {
            view.ledger.as_ref().map(|known| (known.uid.as_str(), known.resource_version.as_str()))
        }) {
            return;
        }
        match ledger {
            Ok(ledger) => self.take_ledger(&mut state, *ledger, now),
            Err(unreadable) => self.take_unreadable_ledger(&mut state, &unreadable, now),
        }
    }

    fn take_ledger(&self, state: &mut State, ledger: PolicyLedger, now: Timestamp) {
        let name = ledger.name_any();
        let accept = ledger.annotations().get(ACCEPT_VERSION).map(|text| text.parse());
        let view = LedgerView {
            accept,
            uid: ledger.metadata.uid.unwrap_or_default(),
            resource_version: ledger.metadata.resource_version.unwrap_or_default(),
            mark: Mark::from(&ledger.spec),
            spec: ledger.spec,
        };
        let entry = state.entries.entry(name.clone()).or_default();
        // what an administrator had lowered is not to be put back
        let lowered = view.spec.lowered.as_ref().map(|lowered| lowered.from_version);
        let marked = entry.marked.filter(|marked| Some(*marked) != lowered);
        entry.marked = marked.max(Some(view.mark.version));
        entry.ledger = Some(view);
        entry.unreadable_ledger = None;
        self.settle(state, &name, now);
    }

    /// A `PolicyLedger` was created or changed, and cannot be read. What is held stays held.
    pub fn ledger_unreadable(&self, ledger: &Unreadable, now: Timestamp) {
        self.take_unreadable_ledger(&mut self.lock(), ledger, now);
    }

    fn take_unreadable_ledger(&self, state: &mut State, ledger: &Unreadable, now: Timestamp) {
        let entry = state.entries.entry(ledger.name().to_owned()).or_default();
        entry.ledger = None;
        entry.unreadable_ledger = ledger.metadata.resource_version.clone();
        self.settle(state, ledger.name(), now);
    }

    /// A `PolicyLedger` is gone.
    pub fn ledger_gone(&self, name: &str, now: Timestamp) {
        let mut state = self.lock();
        state.deletions += 1;
        if let Some(view) = state.entries.get_mut(name) {
            view.ledger = None;
            view.unreadable_ledger = None;
        }
        self.settle(&mut state, name, now);
    }

    /// The trusted keys or thresholds have changed: everything is judged again.
    pub fn keys_changed(&self, keys: KeyRing, now: Timestamp) {
        let names: Vec<String> = {
            let mut state = self.lock();
            if state.keys.fingerprint() == keys.fingerprint() {
                return;
            }
            state.keys = keys;
            state.entries.keys().cloned().collect()
        };
        // Each under a lock of its own: thousands take a second or more, and others are not to wait for all of them. What is
        // seen meanwhile is judged by the new keys already.
        for name in names {
            self.judge_again(&mut self.lock(), &name, now);
        }
        self.ring.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Tells when the trusted keys are others than before.
    pub fn ring_changed(&self) -> watch::Receiver<u64> {
        self.ring.subscribe()
    }

    /// The clock has passed a moment at which a key begins to count, or one of several signatures ceases to, or was set back: the
    /// documents that this concerns are judged again. Returns the next moment at which the clock changes anything.
    pub fn clock_passed(&self, now: Timestamp) -> Option<Timestamp> {
        let due = |view: &WorkspaceView| {
            let passed = retry_at(view).is_some_and(|at| at <= now);
            passed || lacks_signatures(view, now) || refused_in_the_future(view, now)
        };
        let names: Vec<String> =
            self.lock().entries.iter().filter(|(_, view)| due(view)).map(|(name, _)| name.clone()).collect();
        for name in names {
            self.judge_again(&mut self.lock(), &name, now);
        }
        let state = self.lock();
        let ends = state.entries.values().filter_map(|view| view.held.as_ref()?.policy.holds_until());
        let ends = ends.flat_map(|end| [end.checked_sub(NOTICE).unwrap_or(end), end]);
        let begins = state.entries.values().filter_map(retry_at);
        begins.chain(ends).filter(|at| *at > now).min()
    }

    /// Names whose held policy is out of time now, or soon will be: their status is to say so.
    pub fn out_of_time(&self, now: Timestamp) -> Vec<String> {
        let state = self.lock();
        let late = |view: &WorkspaceView| {
            view.held.as_ref().is_some_and(|held| held.policy.holds(now).is_err()) || is_to_be_warned_of(view, now)
        };
        state.entries.iter().filter(|(_, view)| late(view)).map(|(name, _)| name.clone()).collect()
    }

    /// The present keys.
    pub fn keys(&self) -> KeyRing {
        self.lock().keys.clone()
    }

    /// All that is known of an object name.
    pub fn view(&self, name: &str) -> WorkspaceView {
        let state = self.lock();
        WorkspaceView { deletions: state.deletions, ..state.entries.get(name).cloned().unwrap_or_default() }
    }

    /// All object names with an object, a ledger or a held policy.
    pub fn names(&self) -> Vec<String> {
        self.lock().entries.keys().cloned().collect()
    }

    /// Names that changed since the last call; waits until there is one. For the one task that puts objects back.
    pub async fn dirty(&self) -> Vec<String> {
        loop {
            let changed = self.changed.notified();
            let names: Vec<String> = self.dirty.lock().unwrap_or_else(PoisonError::into_inner).drain().collect();
            if !names.is_empty() {
                return names;
            }
            changed.await;
        }
    }

    /// Has names looked at again by whoever waits in [`PolicyIndex::dirty`].
    pub fn mark_dirty(&self, names: impl IntoIterator<Item = String>) {
        self.dirty.lock().unwrap_or_else(PoisonError::into_inner).extend(names);
        self.changed.notify_one();
    }

    /// A full list of objects was read: whatever is not in it is gone.
    pub fn retain_objects(&self, seen: &HashSet<String>, now: Timestamp) {
        let gone = self.missing(seen, |view| view.object.is_some());
        gone.iter().for_each(|name| self.object_gone(name, now));
    }

    /// A full list of ledgers was read: whatever is not in it is gone.
    pub fn retain_ledgers(&self, seen: &HashSet<String>, now: Timestamp) {
        let gone = self.missing(seen, |view| view.ledger.is_some() || view.unreadable_ledger.is_some());
        gone.iter().for_each(|name| self.ledger_gone(name, now));
    }

    fn missing(&self, seen: &HashSet<String>, has: impl Fn(&WorkspaceView) -> bool) -> Vec<String> {
        let state = self.lock();
        state.entries.iter().filter(|(name, view)| has(view) && !seen.contains(*name)).map(|(n, _)| n.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // a panic while the lock was held cannot leave a half-made policy: entries are replaced whole
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn judge_again(&self, state: &mut State, name: &str, now: Timestamp) {
        let keys = state.keys.clone();
        if let Some(view) = state.entries.get_mut(name) {
            if let Some(object) = &mut view.object
                && let Some(text) = object.text()
            {
                (object.verdict, object.text) = judge(name, text, &keys, now);
            }
            view.judged_at = Some(now);
            if let Some(held) = &mut view.held {
                // with all that was signed when it was taken over: a key may come back
                match judge_text(name, held.policy.document_json(), &keys, now) {
                    Ok(policy) => *held = Held { policy: Arc::new(policy), source: held.source.take(), refused: None },
                    Err(refusal) => held.refused = Some(refusal),
                }
            }
        }
        self.settle(state, name, now);
    }

    /// Draws the conclusions for one name, and publishes them.
    fn settle(&self, state: &mut State, name: &str, now: Timestamp) {
        let Some(view) = state.entries.get_mut(name) else { return };
        let candidate = view.object.as_ref().and_then(|object| candidate(name, object));
        let mark = view.ledger.as_ref().map(|ledger| &ledger.mark);
        let ledger = view.ledger.as_ref().map(|ledger| &ledger.spec);
        let held = view.held.take().filter(|held| !ledger.is_some_and(|ledger| held.is_given_up(ledger)));
        view.held = hold::follow(held, candidate, mark, now);
        let workspace = workspace_of(view);
        if let Some(workspace) = workspace.filter(|workspace| object_name(workspace) == name) {
            self.publish(workspace, conclusion(view));
        }
        let ledger = view.ledger.is_some() || view.unreadable_ledger.is_some();
        if view.object.is_none() && !ledger && view.held.is_none() {
            state.entries.remove(name);
            let mut enforced = self.enforced.write().unwrap_or_else(PoisonError::into_inner);
            enforced.retain(|workspace, _| object_name(workspace) != name);
        }
        self.mark_dirty([name.to_owned()]);
    }

    fn publish(&self, workspace: Arc<str>, conclusion: Enforced) {
        self.enforced.write().unwrap_or_else(PoisonError::into_inner).insert(workspace, conclusion);
    }
}
