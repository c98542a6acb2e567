//! `Agent`: what an agent is.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use schemars::transform::RecursiveTransform;
use serde::{Deserialize, Serialize};

use crate::policy;

/// An AI agent: its models, its tools, and what it asks for. It is admitted only where it complies with the policy of
/// the workspace that its namespace belongs to (label `sekuire.ai/workspace`).
#[derive(CustomResource, Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[kube(
    group = "sekuire.ai",
    version = "v1alpha1",
    kind = "Agent",
    plural = "agents",
    namespaced,
    shortname = "skagent",
    category = "sekuire",
    status = "AgentStatus",
    printcolumn(name = "Provider", type_ = "string", json_path = ".spec.model.provider"),
    printcolumn(name = "Model", type_ = "string", json_path = ".spec.model.name"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(transparent)]
#[schemars(transparent, transform = RecursiveTransform(name_extensions))]
pub struct AgentResourceSpec(pub policy::AgentSpec);

/// The core writes down what a schema cannot say by itself, but not under the names of this API server.
fn name_extensions(schema: &mut schemars::Schema) {
    for name in ["validations", "list-type", "list-map-keys"] {
        if let Some(value) = schema.remove(&format!("x-{name}")) {
            schema.insert(format!("x-kubernetes-{name}"), value);
        }
    }
}

/// Room for what is found when the agent is held against its policy. Nothing writes it yet: an agent is judged when it is
/// created or changed, and the answer to that request says what was found.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AgentStatus {
    /// The generation that the status speaks of. Not written yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The policy that the agent was held against. Not written yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<AgentPolicyRef>,
    /// What the policy forbids of it. Not written yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub violations: Vec<AgentViolation>,
    /// Room for the condition `Compliant`. Not written yet.
    #[serde(default)]
    #[schemars(schema_with = "super::crds::conditions")]
    pub conditions: Vec<Condition>,
}

/// The policy that an agent was held against.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct AgentPolicyRef {
    /// Its `policy_id`.
    pub id: String,
    /// Its version.
    pub version: String,
    /// BLAKE3 hash of its content.
    pub hash: String,
}

/// One thing that a policy forbids.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct AgentViolation {
    /// Id of the rule, such as `tool.blocked`.
    pub rule: String,
    /// Field of the agent.
    pub field: String,
    /// What is wrong, and what would be accepted.
    pub message: String,
}
