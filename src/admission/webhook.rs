//! From a request to its answer: reads it, asks the index, decides, logs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::Semaphore;

use super::account::{self, Outcome};
use super::index::{Binding, Enforced, PolicyIndex};
use super::mode::{Label, Spared, Verdict};
use super::review::{self, Answer, Head, Request, Settled};
use super::routes::Handler;
use crate::git::shown;
use crate::policy::{self, AgentSpec, Subject};
use crate::telemetry::{Decided, Mode, metrics, trace};

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

    fn judge(&self, head: &Head<'_>, agent: &AgentSpec, binding: Binding, note: Option<&str>) -> (Answer, Outcome) {
        let (workspace, label) = match binding {
            Binding::Workspace(workspace, label) => (Some(workspace), label),
            Binding::Unknown | Binding::Unlabelled => (None, Label::Absent),
        };
        let enforced = workspace.as_deref().map(|workspace| self.index.enforced(workspace));
        let subject = Subject { namespace: &head.namespace, workspace: workspace.as_deref() };
        // Without a workspace nothing is looked up, and `decide` refuses for that alone.
        let unbound = policy::Enforced::None { why: "the namespace belongs to no workspace" };
        let source = enforced.as_ref().and_then(Enforced::source);
        let enforced = enforced.as_ref().map_or(unbound, Enforced::borrowed);
        let now = Timestamp::now();
        let decision = trace::decide().in_scope(|| policy::decide(&subject, enforced, agent, now));
        let (labels, glass) = (&self.index.label_policy, &self.index.break_glass);
        let verdict = Verdict::of(&decision, &label, || labels.in_force(), || glass.open(now));
        let outcome = account::judged(head, workspace.as_deref(), source, &decision, &verdict);
        (review::answer(head, &decision, &verdict, note), outcome)
    }

    /// Refuses what cannot be judged, unless enforcement is stopped.
    fn unjudged(&self, head: Option<&Head<'_>>, why: &str, refusal: impl FnOnce() -> Answer) -> (Answer, Outcome) {
        let glass = self.index.break_glass.open(Timestamp::now()).map(Spared::BreakGlass);
        let outcome = account::refused(head, why, glass.as_ref());
        let answer = match head.zip(glass) {
            Some((head, glass)) => review::spare_unjudged(head, why, &glass),
            None => refusal(),
        };
        (answer, outcome)
    }

    /// What becomes known of a namespace of which nothing is, or no label, and what to tell the caller if it belongs to no workspace.
    async fn awaited(&self, namespace: &str, known: Binding) -> (Binding, Option<&'static str>) {
        let Ok(_place) = self.waiting.try_acquire() else {
            let namespace = shown(namespace);
            tracing::warn!(namespace, "namespace not waited for: too many requests wait for one");
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
        let start = Instant::now();
        let (answer, outcome) = match review::read(&body) {
            Request::Judge(head, agent) => match self.index.ready() {
                Err(why) => self.unjudged(Some(&head), &why, || review::not_ready(&head, &why)),
                Ok(()) => match self.index.workspace_of(&head.namespace) {
                    bound @ Binding::Workspace(..) => self.judge(&head, &agent, bound, None),
                    known @ (Binding::Unknown | Binding::Unlabelled) => {
                        // who waits keeps no body
                        let head = head.into_owned();
                        drop(body);
                        let (binding, note) = self.awaited(&head.namespace, known).await;
                        self.judge(&head, &agent, binding, note)
                    }
                },
            },
            Request::Settled(_, Settled::Allowed, answer) => (answer, (Decided::Allowed, Mode::Enforce)),
            Request::Settled(head, Settled::Refused(why), answer) => self.unjudged(head.as_ref(), &why, || answer),
        };
        metrics().admission(outcome.0, outcome.1, start.elapsed());
        answer
    }

    fn ready(&self) -> Result<(), String> {
        self.index.ready()
    }
}
