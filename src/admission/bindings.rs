//! Which workspace a namespace belongs to, and how it asks to be enforced: its labels, and nothing that an agent says.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::mode::Label;

/// What is known of a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Binding {
    /// The watch has not brought this namespace yet.
    Unknown,
    /// It has no label `sekuire.ai/workspace`.
    Unlabelled,
    /// It belongs to this workspace, and asks for this.
    Workspace(Arc<str>, Label),
}

/// The labels of a namespace that count here, of one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Labels {
    workspace: Option<Arc<str>>,
    enforcement: Label,
}

/// The labels of all namespaces.
#[derive(Default)]
pub struct Bindings {
    labels: RwLock<HashMap<Box<str>, Labels>>,
    changed: Notify,
}

impl Bindings {
    /// What is known of a namespace now.
    pub fn get(&self, namespace: &str) -> Binding {
        let labels = self.labels.read().unwrap_or_else(PoisonError::into_inner);
        match labels.get(namespace) {
            None => Binding::Unknown,
            Some(Labels { workspace: None, .. }) => Binding::Unlabelled,
            Some(Labels { workspace: Some(workspace), enforcement }) => {
                Binding::Workspace(workspace.clone(), enforcement.clone())
            }
        }
    }

    /// Waits for a label for up to `at_most`: namespace and agent may come in one `kubectl apply`, and the watch a moment
    /// later than the request.
    pub async fn wait(&self, namespace: &str, at_most: Duration) -> Binding {
        let deadline = Instant::now() + at_most;
        loop {
            let changed = self.changed.notified();
            let binding = self.get(namespace);
            if matches!(binding, Binding::Workspace(..)) || tokio::time::timeout_at(deadline, changed).await.is_err() {
                return binding;
            }
        }
    }

    /// All workspaces that have a namespace.
    pub fn workspaces(&self) -> HashSet<Arc<str>> {
        let labels = self.labels.read().unwrap_or_else(PoisonError::into_inner);
        labels.values().filter_map(|labels| labels.workspace.clone()).collect()
    }

    /// A namespace was seen, with this label `sekuire.ai/workspace` and no other of ours.
    pub fn set(&self, namespace: &str, workspace: Option<&str>) {
        self.set_labels(namespace, workspace, Label::Absent);
    }

    /// A namespace was seen, with these labels. True if the second is another than before.
    pub fn set_labels(&self, namespace: &str, workspace: Option<&str>, enforcement: Label) -> bool {
        let labels = Labels { workspace: workspace.map(Arc::from), enforcement };
        let asked = labels.enforcement.clone();
        let before = self.labels.write().unwrap_or_else(PoisonError::into_inner).insert(namespace.into(), labels);
        self.changed.notify_waiters();
        before.map(|labels| labels.enforcement).unwrap_or_default() != asked
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
