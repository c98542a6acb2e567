//! The resources of `sekuire.ai/v1alpha1`, as Rust types. `crds/` is generated from them by `sekuire crds`.
//!
//! Field comments are what `kubectl explain` prints: they are written for people who look at a cluster.

pub mod agent;
pub mod conditions;
pub mod crds;
pub mod document_schema;
pub mod moment;
pub mod names;
pub mod plain;
pub mod policy_ledger;
pub mod policy_repository;
pub mod sent;
pub mod signing_key;
pub mod signing_threshold;
pub mod workspace_policy;

pub use agent::{Agent, AgentStatus};
pub use moment::Moment;
pub use names::object_name;
pub use plain::Plain;
pub use policy_ledger::{PolicyLedger, PolicyLedgerSpec};
pub use policy_repository::{PolicyRepository, PolicyRepositorySpec, PolicyRepositoryStatus};
pub use sent::{Sent, Unreadable, is_older};
pub use signing_key::{SigningKey, SigningKeySpec, SigningKeyStatus};
pub use signing_threshold::{SigningThreshold, SigningThresholdSpec};
pub use workspace_policy::{WorkspacePolicy, WorkspacePolicySpec, WorkspacePolicyStatus};

/// API group of all resources.
pub const GROUP: &str = "sekuire.ai";
/// Served and stored version.
pub const VERSION: &str = "v1alpha1";
/// Field manager of every server-side apply, and the reporting controller of Events.
pub const FIELD_MANAGER: &str = "sekuire-policy-controller";
/// Label on a `Namespace` that says to which workspace it belongs.
pub const WORKSPACE_LABEL: &str = "sekuire.ai/workspace";
/// Label on a `Namespace` that says what becomes of an agent there that breaks rules: `enforce`, `warn` or `audit`.
pub const ENFORCEMENT_LABEL: &str = "sekuire.ai/enforcement";
/// Annotation of the `ValidatingWebhookConfiguration` that stops enforcement for a while: `<until, RFC 3339> <reason>`.
pub const BREAK_GLASS: &str = "sekuire.ai/break-glass";
/// Annotation of a `PolicyRepository` by which an administrator accepts, once, a commit (40 hex) that does not descend
/// from the last one.
pub const ACCEPT_REWIND: &str = "sekuire.ai/accept-rewind";
/// Annotation of a `PolicyLedger` by which an administrator accepts, once, a version below the mark, whose key was
/// revoked: `<version>@<document digest>`.
pub const ACCEPT_VERSION: &str = "sekuire.ai/accept-version";
/// Annotations that ask for a reconcile at once; any new value does. Flux's own is understood too.
pub const REQUESTED_AT: [&str; 2] = ["sekuire.ai/requestedAt", "reconcile.fluxcd.io/requestedAt"];
