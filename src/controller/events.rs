//! Events: one for each revision and reason, for people who look with `kubectl describe` and `kubectl events`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};

use super::answer::within;
use crate::telemetry::metrics;

/// Publishes Events. One that cannot be published is logged: it never stops the work that it tells of.
#[derive(Clone)]
pub struct Events {
    client: Client,
    reporter: Reporter,
    /// The last note of each object and reason, and what published it. A recorder folds all Events of one object and
    /// reason into the first and keeps that one's note; so one that says the same again is left to the same recorder,
    /// and one that says something new gets a new one.
    last: Arc<Mutex<HashMap<String, (String, Recorder)>>>,
}

/// The API server refuses longer notes.
const LONGEST_NOTE: usize = 1000;
/// How long the API server may take: it waits whoever tells of its work.
const PATIENCE: Duration = Duration::from_secs(10);
/// Objects and reasons that are remembered at most.
const MOST: usize = 20_000;

impl Events {
    /// `identity` names this replica.
    pub fn new(client: Client, identity: &str) -> Self {
        let reporter = Reporter { controller: crate::api::FIELD_MANAGER.into(), instance: Some(identity.into()) };
        Events { client, reporter, last: Arc::default() }
    }

    fn recorder(&self, about: &ObjectReference, reason: &str, note: &str) -> Recorder {
        let key = key(about, reason);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, recorder)) = last.get(&key).filter(|(said, _)| said == note) {
            return recorder.clone();
        }
        if last.len() >= MOST {
            last.clear();
        }
        let recorder = Recorder::new(self.client.clone(), self.reporter.clone());
        last.insert(key, (note.to_owned(), recorder.clone()));
        recorder
    }

    fn forget(&self, about: &ObjectReference, reason: &str) {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).remove(&key(about, reason));
    }

    /// Reference to a `WorkspacePolicy`.
    pub fn policy(name: &str, uid: Option<String>) -> ObjectReference {
        reference("WorkspacePolicy", name, uid)
    }

    /// Reference to a `PolicyRepository`.
    pub fn repository(name: &str, uid: Option<String>) -> ObjectReference {
        reference("PolicyRepository", name, uid)
    }

    /// Reference to a `SigningKey`.
    pub fn key(name: &str, uid: Option<String>) -> ObjectReference {
        reference("SigningKey", name, uid)
    }

    /// Something went as it should.
    pub async fn normal(&self, about: ObjectReference, reason: &str, note: String) {
        self.publish(about, EventType::Normal, reason, note).await;
    }

    /// Something needs a look.
    pub async fn warning(&self, about: ObjectReference, reason: &str, note: String) {
        self.publish(about, EventType::Warning, reason, note).await;
    }

    async fn publish(&self, about: ObjectReference, type_: EventType, reason: &str, note: String) {
        let mut note = crate::git::one_line(&note).into_owned();
        if note.len() > LONGEST_NOTE {
            note.truncate(note.floor_char_boundary(LONGEST_NOTE));
            note.push('…');
        }
        let recorder = self.recorder(&about, reason, &note);
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(note),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        let mut published = within(PATIENCE, recorder.publish(&event, &about)).await;
        // what it was to be folded into is gone, or somebody wrote into it what cannot be read: it gets one of its own
        let fold = |error: &kube::Error| match error {
            kube::Error::Api(status) => status.code == 404,
            other => matches!(other, kube::Error::SerdeError(_)),
        };
        if published.as_ref().is_err_and(fold) {
            self.forget(&about, reason);
            let recorder = self.recorder(&about, reason, event.note.as_deref().unwrap_or_default());
            published = within(PATIENCE, recorder.publish(&event, &about)).await;
        }
        if let Err(error) = published {
            metrics().event_dropped();
            tracing::warn!(%error, %reason, "event not published");
        }
    }
}

fn key(about: &ObjectReference, reason: &str) -> String {
    format!("{:?}/{:?}/{reason}", about.kind, about.name)
}

fn reference(kind: &str, name: &str, uid: Option<String>) -> ObjectReference {
    ObjectReference {
        api_version: Some("sekuire.ai/v1alpha1".to_owned()),
        kind: Some(kind.to_owned()),
        name: Some(name.to_owned()),
        uid,
        ..ObjectReference::default()
    }
}
