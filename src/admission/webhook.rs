//! From a request to its answer: reads it, asks the index, decides, logs.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::Semaphore;

use super::index::{Binding, Enforced, PolicyIndex};
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
            refused(Some(head), &waiting_for);
            return review::not_ready(head, &waiting_for);
        }
        let (workspace, note) = self.workspace(&head.namespace).await;
        let enforced = workspace.as_deref().map(|workspace| self.index.enforced(workspace));
        let subject = Subject { namespace: &head.namespace, workspace: workspace.as_deref() };
        // Without a workspace nothing is looked up, and `decide` refuses for that alone.
        let unbound = policy::Enforced::None { why: "the namespace belongs to no workspace" };
        let enforced = enforced.as_ref().map_or(unbound, Enforced::borrowed);
        let decision = policy::decide(&subject, enforced, agent, Timestamp::now());
        if !decision.allowed {
            denied(head, workspace.as_deref(), &decision);
        }
        review::answer(head, &decision, note)
    }

    /// The workspace of a namespace, and what to tell the caller if there is none.
    async fn workspace(&self, namespace: &str) -> (Option<Arc<str>>, Option<&'static str>) {
        let known = match self.index.workspace_of(namespace) {
            Binding::Workspace(workspace) => return (Some(workspace), None),
            known @ (Binding::Unknown | Binding::Unlabelled) => known,
        };
        let Ok(_place) = self.waiting.try_acquire() else {
            tracing::warn!(namespace, ?known, "too many requests wait for namespaces: not waited for");
            return (
                None,
                Some("The controller did not wait for the namespace's label, as too many others do; try again."),
            );
        };
        let binding = self.index.workspace_of_waiting(namespace, NAMESPACE_WAIT).await;
        match binding {
            Binding::Workspace(workspace) => (Some(workspace), None),
            Binding::Unlabelled => (
                None,
                Some("The controller waited a second for the namespace's label; if it was only just set, try again."),
            ),
            Binding::Unknown => (
                None,
                Some(
                    "The controller waited a second and has not seen the namespace yet; if it was only just made, try again.",
                ),
            ),
        }
    }
}

impl Handler for Webhook {
    async fn validate(&self, body: Bytes) -> Answer {
        match review::read(&body) {
            Request::Judge(head, agent) => self.judge(&head, &agent).await,
            Request::Settled(head, settled, answer) => {
                if let Settled::Refused(why) = settled {
                    refused(head.as_ref(), &why);
                }
                answer
            }
        }
    }

    fn ready(&self) -> Result<(), String> {
        self.index.ready()
    }
}

/// One line a denial, with what it takes to answer a question about it and nothing else of the object.
fn denied(head: &Head<'_>, workspace: Option<&str>, decision: &Decision) {
    let mut rules: Vec<&str> = decision.violations.iter().map(|violation| violation.rule).collect();
    rules.sort_unstable();
    rules.dedup();
    let policy = decision.policy.as_ref();
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
        "agent refused"
    );
}

/// One line for what was refused without being judged.
fn refused(head: Option<&Head<'_>>, why: &str) {
    tracing::warn!(
        namespace = head.map(|head| &*head.namespace),
        name = head.map(|head| &*head.name),
        operation = head.map(|head| &*head.operation),
        user = head.map(|head| &*head.user),
        uid = head.map(|head| &*head.uid),
        why,
        decision = "deny",
        "admission request refused unjudged"
    );
}
