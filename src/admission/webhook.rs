//! From a request to its answer: reads it, asks the index, decides, logs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::Semaphore;

use super::account;
use super::index::{Binding, Enforced, PolicyIndex};
use super::review::{self, Answer, Head, Request, Settled};
use super::routes::Handler;
use crate::policy::{self, AgentSpec, Subject};
use crate::telemetry::{Decided, Mode, metrics, trace};

/// What a decision does.
const MODE: Mode = Mode::Enforce;

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

    async fn judge(&self, head: &Head<'_>, agent: &AgentSpec) -> (Answer, Decided) {
        if let Err(waiting_for) = self.index.ready() {
            account::refused(Some(head), &waiting_for);
            return (review::not_ready(head, &waiting_for), Decided::Error);
        }
        let (workspace, note) = self.workspace(&head.namespace).await;
        let enforced = workspace.as_deref().map(|workspace| self.index.enforced(workspace));
        let subject = Subject { namespace: &head.namespace, workspace: workspace.as_deref() };
        // Without a workspace nothing is looked up, and `decide` refuses for that alone.
        let unbound = policy::Enforced::None { why: "the namespace belongs to no workspace" };
        let enforced = enforced.as_ref().map_or(unbound, Enforced::borrowed);
        let decision = trace::decide().in_scope(|| policy::decide(&subject, enforced, agent, Timestamp::now()));
        let verdict = account::judged(head, workspace.as_deref(), &decision, MODE);
        (review::answer(head, &decision, note), verdict)
    }

    /// The workspace of a namespace, and what to tell the caller if there is none.
    async fn workspace(&self, namespace: &str) -> (Option<Arc<str>>, Option<&'static str>) {
        match self.index.workspace_of(namespace) {
            Binding::Workspace(workspace) => return (Some(workspace), None),
            Binding::Unknown | Binding::Unlabelled => {}
        }
        let Ok(_place) = self.waiting.try_acquire() else {
            tracing::warn!(namespace, "namespace not waited for: too many requests wait for one");
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
        let start = Instant::now();
        let (answer, verdict) = match review::read(&body) {
            Request::Judge(head, agent) => self.judge(&head, &agent).await,
            Request::Settled(_, Settled::Allowed, answer) => (answer, Decided::Allowed),
            Request::Settled(head, Settled::Refused(why), answer) => {
                account::refused(head.as_ref(), &why);
                (answer, Decided::Error)
            }
        };
        metrics().admission(verdict, MODE, start.elapsed());
        answer
    }

    fn ready(&self) -> Result<(), String> {
        self.index.ready()
    }
}
