//! From a request to its answer: reads it, asks the index, decides, logs.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::Semaphore;

use super::index::{Binding, Enforced, PolicyIndex};
use super::mode::{Label, Spared, Verdict};
use super::review::{self, Answer, Head, Request, Settled};
use super::routes::Handler;
use crate::policy::{self, AgentSpec, Decision, Subject};

/// How long a request waits for a namespace, or its label, that this replica's watch has not brought yet: one
/// `kubectl apply` makes namespace and agent within milliseconds of each other.
const NAMESPACE_WAIT: Duration = Duration::from_secs(1);
/// Requests that wait so at a time. Whoever floods a namespace without label is refused at once, and keeps nobody else waiting.
const MOST_WAITING: usize = 64;

/// Answers admission requests out of the index.
pub struct Webhook {
    index: Arc<PolicyIndex>,
    waiting: Semaphore,
}

impl Webhook {
    /// A webhook that decides by `index`.
    #[must_use]
    pub fn new(index: Arc<PolicyIndex>) -> Webhook {
        Webhook { index, waiting: Semaphore::new(MOST_WAITING) }
    }

    async fn judge(&self, head: &Head<'_>, agent: &AgentSpec) -> Answer {
        if let Err(waiting_for) = self.index.ready() {
            return self.unjudged(Some(head), &waiting_for, || review::not_ready(head, &waiting_for));
        }
        let (binding, note) = self.binding(&head.namespace).await;
        let (workspace, label) = match binding {
            Binding::Workspace(workspace, label) => (Some(workspace), label),
            Binding::Unknown | Binding::Unlabelled => (None, Label::Absent),
        };
        let enforced = workspace.as_deref().map(|workspace| self.index.enforced(workspace));
        let subject = Subject { namespace: &head.namespace, workspace: workspace.as_deref() };
        // Without a workspace nothing is looked up, and `decide` refuses for that alone.
        let unbound = policy::Enforced::None { why: "the namespace belongs to no workspace" };
        let enforced = enforced.as_ref().map_or(unbound, Enforced::borrowed);
        let now = Timestamp::now();
        let decision = policy::decide(&subject, enforced, agent, now);
        let (labels, glass) = (&self.index.label_policy, &self.index.break_glass);
        let verdict = Verdict::of(&decision, &label, || labels.in_force(), || glass.open(now));
        judged(head, workspace.as_deref(), &decision, &verdict);
        review::answer(head, &decision, &verdict, note)
    }

    /// Refuses what cannot be judged, unless enforcement is stopped.
    fn unjudged(&self, head: Option<&Head<'_>>, why: &str, refusal: impl FnOnce() -> Answer) -> Answer {
        let glass = self.index.break_glass.open(Timestamp::now()).map(Spared::BreakGlass);
        refused(head, why, glass.as_ref());
        match head.zip(glass) {
            Some((head, glass)) => review::spare_unjudged(head, why, &glass),
            None => refusal(),
        }
    }

    /// What is known of a namespace, and what to tell the caller if it belongs to no workspace.
    async fn binding(&self, namespace: &str) -> (Binding, Option<&'static str>) {
        let known = match self.index.workspace_of(namespace) {
            bound @ Binding::Workspace(..) => return (bound, None),
            known @ (Binding::Unknown | Binding::Unlabelled) => known,
        };
        let Ok(_place) = self.waiting.try_acquire() else {
            tracing::warn!(namespace, ?known, "too many requests wait for namespaces: not waited for");
            return (
                known,
                Some("The controller did not wait for the namespace's label, as too many others do; try again."),
            );
        };
        let binding = self.index.workspace_of_waiting(namespace, NAMESPACE_WAIT).await;
        let note = match binding {
            Binding::Workspace(..) => None,
            Binding::Unlabelled => {
                Some("The controller waited a second for the namespace's label; if it was only just set, try again.")
            }
            Binding::Unknown => Some(
                "The controller waited a second and has not seen the namespace yet; if it was only just made, try again.",
            ),
        };
        (binding, note)
    }
}

impl Handler for Webhook {
    async fn validate(&self, body: Bytes) -> Answer {
        match review::read(&body) {
            Request::Judge(head, agent) => self.judge(&head, &agent).await,
            Request::Settled(_, Settled::Allowed, answer) => answer,
            Request::Settled(head, Settled::Refused(why), answer) => self.unjudged(head.as_ref(), &why, || answer),
        }
    }

    fn ready(&self) -> Result<(), String> {
        self.index.ready()
    }
}

/// One line a violation of what is enforced, whatever follows from it, with what it takes to answer a question about it and
/// nothing else of the object.
fn judged(head: &Head<'_>, workspace: Option<&str>, decision: &Decision, verdict: &Verdict) {
    let (mode, message) = match verdict {
        Verdict::Admitted => return,
        Verdict::Refused(_) => ("enforce", "agent refused"),
        Verdict::Spared(spared) => (spared.as_str(), "agent admitted although it breaks rules"),
    };
    let mut rules: Vec<&str> = decision.violations.iter().map(|violation| violation.rule).collect();
    rules.sort_unstable();
    rules.dedup();
    let policy = decision.policy.as_ref();
    let (notes, why) = match verdict {
        Verdict::Refused(notes) if !notes.is_empty() => (Some(notes.join(" ")), None),
        Verdict::Spared(Spared::BreakGlass(open)) => (None, Some(open.to_string())),
        _ => (None, None),
    };
    tracing::info!(
        namespace = &*head.namespace,
        name = &*head.name,
        operation = &*head.operation,
        user = &*head.user,
        uid = &*head.uid,
        workspace,
        policy = policy.map(|policy| policy.policy_id.as_str()),
        version = policy.map(|policy| policy.version.as_str()),
        rules = rules.join(","),
        decision = "deny",
        mode,
        notes,
        break_glass = why,
        "{message}"
    );
}

/// One line for what was refused without being judged, or would have been.
fn refused(head: Option<&Head<'_>>, why: &str, spared: Option<&Spared>) {
    tracing::warn!(
        namespace = head.map(|head| &*head.namespace),
        name = head.map(|head| &*head.name),
        operation = head.map(|head| &*head.operation),
        user = head.map(|head| &*head.user),
        uid = head.map(|head| &*head.uid),
        why,
        decision = "deny",
        mode = spared.map_or("enforce", Spared::as_str),
        "admission request refused unjudged"
    );
}
