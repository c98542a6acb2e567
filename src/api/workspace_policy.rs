//! `WorkspacePolicy`: the enforced document of a workspace.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The policy of one workspace, as the controller took it from Git. Every replica verifies its document again before it
/// believes it: editing this object enforces nothing, and the controller puts it back. To change a policy, commit a new
/// signed version.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "sekuire.ai",
    version = "v1alpha1",
    kind = "WorkspacePolicy",
    plural = "workspacepolicies",
    shortname = "wsp",
    category = "sekuire",
    status = "WorkspacePolicyStatus",
    printcolumn(name = "Workspace", type_ = "string", json_path = ".spec.workspace"),
    printcolumn(name = "Policy", type_ = "string", json_path = ".spec.document.policy_id"),
    printcolumn(name = "Version", type_ = "string", json_path = ".spec.document.version"),
    printcolumn(name = "Enforced", type_ = "string", json_path = ".status.conditions[?(@.type==\"Enforced\")].status"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Key", type_ = "string", priority = 1, json_path = ".spec.document.signing_key_id"),
    printcolumn(name = "Revision", type_ = "string", priority = 1, json_path = ".status.revision"),
    printcolumn(
        name = "Message",
        type_ = "string",
        priority = 1,
        json_path = ".status.conditions[?(@.type==\"Ready\")].message"
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.workspace == oldSelf.workspace").message("the workspace of a policy cannot change"))]
pub struct WorkspacePolicySpec {
    /// Id of the workspace that the policy is for. The object's name is made from it.
    #[schemars(length(min = 1, max = 63))]
    pub workspace: String,
    /// The signed document, member for member as it was committed.
    #[serde(deserialize_with = "super::plain::value")]
    #[schemars(schema_with = "super::document_schema::document")]
    pub document: serde_json::Value,
    /// Where the document was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
}

/// Where a document was found.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Source {
    /// Name of the PolicyRepository.
    pub repository: String,
    /// Path of the file in the repository.
    pub path: String,
    /// Commit in which this document was accepted (40 hex digits).
    pub commit: String,
}

/// What the controller found.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct WorkspacePolicyStatus {
    /// The generation that the status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`: Git and the cluster agree; else the reason says what was refused. `Verified`: hash, signatures, key and
    /// validity of the document in this object hold. `Enforced`: agents of the workspace are held to it. `Stalled` is there
    /// while `Ready` is False until somebody acts. `Expiring` is
    /// there while the enforced document, or a key that it needs, ends in less than 30 days.
    #[serde(default, deserialize_with = "super::sent::readable")]
    #[schemars(schema_with = "super::crds::conditions")]
    pub conditions: Vec<Condition>,
    /// Revision that the document was accepted in, as `branch@sha1:commit`, `tag@sha1:commit` or
    /// `sha1:commit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Version and policy of what is enforced, for people: `3 (policy_abc123)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enforced_version: Option<String>,
}
