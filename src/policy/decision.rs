//! The one decision function.

use jiff::Timestamp;
use serde::Serialize;

use super::agent::AgentSpec;
use super::verify::VerifiedPolicy;

/// Whose agent it is, as far as the cluster says so.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The agent's namespace.
    pub namespace: &'a str,
    /// The namespace's label `sekuire.ai/workspace`.
    pub workspace: Option<&'a str>,
}

/// Which policy decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PolicyRef {
    /// `policy_id`
    pub policy_id: String,
    /// `workspace_id`
    pub workspace_id: String,
    /// `version`, as it was written
    pub version: String,
    /// `hash`
    pub hash: String,
    /// `signing_key_id`
    pub signing_key_id: String,
    /// The commit that it was read from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
}

/// One rule that the agent breaks, at one place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Violation {
    /// The rule's id, e.g. `model.blocked`.
    pub rule: &'static str,
    /// The agent's field, e.g. `spec.model.name`.
    pub field: String,
    /// The field's value, shortened when it is long; empty when the agent declares none.
    pub value: String,
    /// The place in the policy, e.g. `content.agent.models.denied_models[0]`; empty where no policy is involved.
    pub policy_path: String,
    /// What is wrong and what would be accepted, in one sentence.
    pub message: String,
}

/// What the policy says of an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// Whether the agent may be.
    pub allowed: bool,
    /// The policy that decided, if one did.
    pub policy: Option<PolicyRef>,
    /// Every rule that is broken, in a fixed order.
    pub violations: Vec<Violation>,
    /// What deserves notice, but forbids nothing.
    pub warnings: Vec<String>,
}

/// What is enforced in the workspace.
#[derive(Clone, Copy, Debug)]
pub enum Enforced<'a> {
    /// This policy.
    Policy {
        /// The policy.
        policy: &'a VerifiedPolicy,
        /// The commit that it was read from.
        commit: Option<&'a str>,
    },
    /// None.
    None {
        /// Why, in one sentence.
        why: &'a str,
    },
}

/// Decides on an agent.
#[must_use]
pub fn decide(subject: &Subject<'_>, enforced: Enforced<'_>, agent: &AgentSpec, now: Timestamp) -> Decision {
    todo!()
}

/// Holds an agent against the rules of a policy's content alone.
#[must_use]
pub fn judge(policy: &VerifiedPolicy, agent: &AgentSpec) -> Vec<Violation> {
    todo!()
}
