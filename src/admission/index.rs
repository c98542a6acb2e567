//! Placeholder of the index.
use std::sync::Arc;
use std::time::Duration;

use crate::policy::VerifiedPolicy;

/// What is enforced.
#[derive(Debug, Default)]
pub struct PolicyIndex;

/// To which workspace a namespace belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Binding {
    /// The namespace has not been seen yet.
    Unknown,
    /// It has no label.
    Unlabelled,
    /// Its workspace.
    Workspace(Arc<str>),
}

/// What is enforced in a workspace.
#[derive(Clone, Debug)]
pub enum Enforced {
    /// This policy.
    Policy {
        /// The policy.
        policy: Arc<VerifiedPolicy>,
        /// The commit.
        commit: Option<Arc<str>>,
    },
    /// None.
    None {
        /// Why.
        why: String,
    },
}

impl PolicyIndex {
    /// The workspace of a namespace.
    pub fn workspace_of(&self, _namespace: &str) -> Binding {
        Binding::Unknown
    }
    /// The same, waiting.
    pub async fn workspace_of_waiting(&self, _namespace: &str, _at_most: Duration) -> Binding {
        Binding::Unknown
    }
    /// What is enforced.
    pub fn enforced(&self, _workspace: &str) -> Enforced {
        Enforced::None { why: String::new() }
    }
    /// Whether it can be asked.
    ///
    /// # Errors
    /// What is being waited for.
    pub fn ready(&self) -> Result<(), String> {
        Err("nothing".to_owned())
    }
}
