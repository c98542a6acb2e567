//! Which workspace a namespace belongs to: its label, and nothing that an agent says.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// What is known of a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Binding {
    /// The watch has not brought this namespace yet.
    Unknown,
    /// It has no label `sekuire.ai/workspace`.
    Unlabelled,
    /// It belongs to this workspace.
    Workspace(Arc<str>),
}

/// The labels of all namespaces.
#[derive(Default)]
pub struct Bindings {
    labels: RwLock<HashMap<Box<str>, Option<Arc<str>>>>,
    changed: Notify,
}

impl Bindings {
    /// What is known of a namespace now.
    pub fn get(&self, namespace: &str) -> Binding {
        let labels = self.labels.read().unwrap_or_else(PoisonError::into_inner);
        match labels.get(namespace) {
            None => Binding::Unknown,
            Some(None) => Binding::Unlabelled,
            Some(Some(workspace)) => Binding::Workspace(workspace.clone()),
        }
    }

    /// Waits for a label for up to `at_most`: namespace and agent may come in one `kubectl apply`, and the watch a moment
    /// later than the request.
    pub async fn wait(&self, namespace: &str, at_most: Duration) -> Binding {
        let deadline = Instant::now() + at_most;
        loop {
            let changed = self.changed.notified();
            let binding = self.get(namespace);
            if matches!(binding, Binding::Workspace(_)) || tokio::time::timeout_at(deadline, changed).await.is_err() {
                return binding;
            }
        }
    }

    /// All workspaces that have a namespace.
    pub fn workspaces(&self) -> HashSet<Arc<str>> {
        let labels = self.labels.read().unwrap_or_else(PoisonError::into_inner);
        labels.values().flatten().cloned().collect()
    }

    /// A namespace was seen, with this label.
    pub fn set(&self, namespace: &str, workspace: Option<&str>) {
        let label = workspace.map(Arc::from);
        self.labels.write().unwrap_or_else(PoisonError::into_inner).insert(namespace.into(), label);
        self.changed.notify_waiters();
    }

    /// A namespace is gone.
    pub fn remove(&self, namespace: &str) {
        self.labels.write().unwrap_or_else(PoisonError::into_inner).remove(namespace);
    }

    /// A full list was read: whatever is not in it is gone.
    pub fn retain(&self, seen: &HashSet<String>) {
        self.labels.write().unwrap_or_else(PoisonError::into_inner).retain(|name, _| seen.contains(&**name));
    }
}
