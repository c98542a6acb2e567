//! `PolicyLedger`: the mark of a workspace.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::policy::{Status, Version};

/// The highest version of a workspace's policy that was ever accepted. Written by the controller alone; it never goes
/// down by itself, and a WorkspacePolicy below it is not enforced. Deleting or lowering it does not switch anything
/// off: the controller puts it back. Should a stolen key have published a version that nothing can exceed: revoke the
/// key, commit a version signed by another one, and annotate this object with
/// `sekuire.ai/accept-version: <version>@<document digest>`.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "sekuire.ai",
    version = "v1alpha1",
    kind = "PolicyLedger",
    plural = "policyledgers",
    shortname = "pled",
    category = "sekuire",
    printcolumn(name = "Workspace", type_ = "string", json_path = ".spec.workspace"),
    printcolumn(name = "Policy", type_ = "string", json_path = ".spec.policyId"),
    printcolumn(name = "Version", type_ = "string", json_path = ".spec.version"),
    printcolumn(name = "Lifecycle", type_ = "string", json_path = ".spec.lifecycle"),
    printcolumn(name = "Accepted", type_ = "date", json_path = ".spec.acceptedAt"),
    printcolumn(name = "Commit", type_ = "string", priority = 1, json_path = ".spec.commit")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.workspace == oldSelf.workspace").message("the workspace of a ledger cannot change"))]
pub struct PolicyLedgerSpec {
    /// Id of the workspace.
    #[schemars(length(min = 1, max = 63))]
    pub workspace: String,
    /// The mark: the highest version ever accepted.
    #[schemars(schema_with = "super::crds::version")]
    pub version: Version,
    /// Document digest at the mark: a second document with this version and another digest is refused
    /// (`VersionReused`).
    #[schemars(regex(pattern = "^[0-9a-f]{64}$"))]
    pub digest: String,
    /// Policy that the workspace belongs to until it is archived.
    #[schemars(length(min = 1, max = 63))]
    pub policy_id: String,
    /// `active` or `archived`.
    #[schemars(schema_with = "super::crds::lifecycle")]
    pub lifecycle: Status,
    /// Repository (name of the PolicyRepository) that the accepted document came from.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub repository: String,
    /// Path of the file in the repository.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// Commit that the accepted document was seen in.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub commit: String,
    /// The last time that an administrator had the mark lowered (annotation `sekuire.ai/accept-version`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lowered: Option<Lowered>,
    /// When it was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted_at: Option<Time>,
}

/// A mark that an administrator had lowered, after its key was revoked.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Lowered {
    /// The mark before. What has this version and digest is given up by whoever holds it, unless its key counts again.
    #[schemars(schema_with = "super::crds::version")]
    pub from_version: Version,
    /// Its document digest.
    pub from_digest: String,
    /// The mark after.
    #[schemars(schema_with = "super::crds::version")]
    pub version: Version,
    /// Its document digest.
    pub digest: String,
    /// When that was.
    pub at: Time,
}
