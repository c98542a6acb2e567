//! The schema of a policy document inside a `WorkspacePolicy`, for `kubectl explain`.
//!
//! These types are never deserialised into: the core verifies the JSON value as it was read (`policy::document`). They
//! say what each member means. The schema sets no default and prunes nothing, since the document must verify again
//! after a round trip through the API server.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Value, json};

/// A signed policy document, member for member as it was committed.
#[derive(JsonSchema)]
pub struct PolicyDocument {
    /// Id of the policy. It stays the same from version to version.
    pub policy_id: String,
    /// Id of the workspace that the policy is for.
    pub workspace_id: String,
    /// One to three numbers joined by dots. A workspace's version only ever rises.
    pub version: String,
    /// `draft` (never enforced), `active` (enforced) or `archived` (the signed way to retire a policy).
    pub status: String,
    /// The rules. What an absent member would restrict is unrestricted.
    pub content: PolicyContent,
    /// BLAKE3 of the canonical form (RFC 8785) of `content`, 64 hex digits.
    pub hash: String,
    /// Ed25519 signature over `policy_id:version:hash`, 128 hex digits: what clients of the published SDK check.
    pub signature: String,
    /// Ed25519 signature over every other member, 128 hex digits: what makes workspace, status and expiry tamper-proof.
    pub document_signature: String,
    /// The SigningKey (`spec.keyId`) that signed.
    pub signing_key_id: String,
    /// Further signatures over the same bytes, 16 at most.
    pub co_signatures: Option<Vec<CoSignature>>,
    /// When the policy was written (RFC 3339). For information.
    pub created_at: Option<String>,
    /// When this version was signed (RFC 3339). For information.
    pub updated_at: Option<String>,
    /// When the policy was made active (RFC 3339). For information.
    pub activated_at: Option<String>,
    /// From this moment on the policy is not enforced, and its workspace admits no agent (RFC 3339).
    pub expires_at: Option<String>,
    /// Filled in by servers for their clients. Never a reason to trust anything.
    pub signing_public_key: Option<String>,
}

/// A further signature.
#[derive(JsonSchema)]
pub struct CoSignature {
    /// The SigningKey that made it.
    pub signing_key_id: String,
    /// Ed25519 signature over the same bytes as the document's own, 128 hex digits.
    pub document_signature: String,
}

/// The rules. What an absent member would restrict is unrestricted.
#[derive(JsonSchema)]
pub struct PolicyContent {
    /// What agents may be made of.
    pub agent: Option<AgentRules>,
    /// What agents must declare.
    pub compliance: Option<ComplianceRules>,
    /// Further lists of tools, in the form of the published SDK.
    pub tools: Option<ToolRules>,
    /// What agents may reach at run time.
    pub permissions: Option<PermissionRules>,
    /// How much agents may use.
    pub rate_limits: Option<RateLimitRules>,
}

/// What agents may be made of.
#[derive(JsonSchema)]
pub struct AgentRules {
    /// Models and their providers.
    pub models: Option<ModelRules>,
    /// Tools, and the servers that offer them.
    pub capabilities: Option<CapabilityRules>,
    /// Container images.
    pub images: Option<ImageRules>,
    /// Other agents that an agent calls. Read, and judged for agents of other resources only.
    pub delegates: Option<DelegateRules>,
    /// Parts of agents in which anything may stand. Read, and judged for agents of other resources only.
    pub opaque: Option<OpaqueRules>,
}

/// Models and their providers. `*` in an entry stands for any run of characters. A list that is absent restricts
/// nothing; an allow list that is present and empty allows nothing. Denials beat allowances.
#[derive(JsonSchema)]
pub struct ModelRules {
    /// Providers that agents may use, such as `openai`; upper and lower case are the same. Refusal:
    /// provider.not_allowed.
    pub allowed_providers: Option<Vec<String>>,
    /// Models that agents may use, such as `gpt-4*`. Refusal: model.not_allowed.
    pub allowed_models: Option<Vec<String>>,
    /// Models that agents must not use, whatever else allows them; upper and lower case are the same, and `gpt-4*` also
    /// denies `openai/gpt-4o`. Refusal: model.blocked.
    pub denied_models: Option<Vec<String>>,
    /// The published SDK's name of denied_models. Only one of the two may be given.
    pub blocked_models: Option<Vec<String>>,
    /// Which provider answers at which endpoint, whatever the agent says. Where this list is present, a model's endpoint
    /// must be one of these. Refusal: endpoint.unknown.
    pub endpoints: Option<Vec<EndpointRule>>,
}

/// Which provider answers at an endpoint. Of several entries the one with the longest path_prefix counts, then one for a
/// single host, then the first.
#[derive(JsonSchema)]
pub struct EndpointRule {
    /// Host: `api.example.com`, or `*.example.com` for it and everything below it, or `*`; without port.
    pub host: String,
    /// The provider that answers there. It is held against allowed_providers. Refusal: provider.not_allowed.
    pub provider: String,
    /// Only paths that begin with these parts, such as `/anthropic`; absent: any path.
    pub path_prefix: Option<String>,
    /// Models that agents may use there, beside what allowed_models and denied_models say. Refusal: model.not_allowed.
    pub models: Option<Vec<String>>,
}

/// Tools that agents may register, and the servers that offer them.
#[derive(JsonSchema)]
pub struct CapabilityRules {
    /// Tools that agents may register; `*` stands for any run of characters. Refusal: tool.not_allowed.
    pub allowed_tools: Option<Vec<String>>,
    /// Tools that agents must not register, whatever else allows them; `exec` also denies `mcp__shell__exec` and
    /// `shell/exec`. Refusal: tool.blocked.
    pub denied_tools: Option<Vec<String>>,
    /// True: a tool that no allow list names needs an approval. Refusal: tool.not_approved.
    pub require_tool_approval: Option<bool>,
    /// Servers whose tools agents may use; a tool that names no server is not judged by it. Refusal: server.not_allowed.
    pub allowed_servers: Option<Vec<String>>,
    /// Servers whose tools agents must not use, whatever else allows them; `search` also denies `tools/search`. Refusal:
    /// server.blocked.
    pub denied_servers: Option<Vec<String>>,
    /// Tools that reach other tools, such as `call_tool`: refused unless every tool is allowed. Refusal: tool.unbounded.
    pub broker_tools: Option<Vec<String>>,
}

/// Container images that agents may run. An agent without image has none to judge.
#[derive(JsonSchema)]
pub struct ImageRules {
    /// Images by name with domain, without tag and digest, such as `ghcr.io/acme/*` or `docker.io/library/python`.
    /// Refusal: image.not_allowed.
    pub allowed_images: Option<Vec<String>>,
    /// True: only images named by digest, `name@sha256:…`. Refusal: image.not_pinned.
    pub require_digest: Option<bool>,
}

/// Other agents that an agent calls.
#[derive(JsonSchema)]
pub struct DelegateRules {
    /// Workspaces, beside the agent's own, whose agents may be called.
    pub allowed_workspaces: Option<Vec<String>>,
}

/// Parts of agents in which anything may stand, such as containers of their own.
#[derive(JsonSchema)]
pub struct OpaqueRules {
    /// True: such parts are allowed.
    pub allowed: Option<bool>,
    /// True: such parts are allowed where the agent declares its models.
    pub accept_declarations: Option<bool>,
}

/// Further lists of tools.
#[derive(JsonSchema)]
pub struct ToolRules {
    /// Tools that agents may register, beside agent.capabilities.allowed_tools.
    pub allowed_tools: Option<Vec<AllowedTool>>,
    /// Tools that agents must not register, beside agent.capabilities.denied_tools.
    pub blocked_tools: Option<Vec<String>>,
}

/// A tool that agents may register.
#[derive(JsonSchema)]
pub struct AllowedTool {
    /// Its name; `*` stands for any run of characters.
    pub name: String,
    /// What it does, for people.
    pub description: Option<String>,
}

/// What agents must declare in spec.compliance.
#[derive(JsonSchema)]
pub struct ComplianceRules {
    /// Frameworks that every agent must declare, such as `soc2`. Refusal: compliance.framework_missing.
    pub frameworks: Option<Vec<String>>,
    /// True: agents must declare auditLogging. Refusal: compliance.audit_logging_required.
    pub require_audit_logging: Option<bool>,
    /// True: agents must declare encryption at rest and in transit. Refusal: compliance.encryption_required.
    pub require_encryption: Option<bool>,
    /// Region that data must stay in: `us` also covers `us-east-1`. Refusal: compliance.residency_violation.
    pub data_residency: Option<String>,
    /// Days that records must be kept, at least. Refusal: compliance.retention_too_short.
    pub retention_days: Option<i64>,
}

/// What agents may reach at run time.
#[derive(JsonSchema)]
pub struct PermissionRules {
    /// Hosts.
    pub network: Option<NetworkRules>,
    /// Paths.
    pub filesystem: Option<FilesystemRules>,
    /// Services.
    pub api: Option<ApiRules>,
}

/// Hosts that agents may reach. Where this section is present, `enabled` must be true for any host to be allowed.
#[derive(JsonSchema)]
pub struct NetworkRules {
    /// True: agents may ask for hosts. Refusal: network.disabled.
    pub enabled: Option<bool>,
    /// True: only over TLS. Refusal: network.tls_required.
    pub require_tls: Option<bool>,
    /// Hosts: `api.example.com`, or `*.example.com` for it and everything below it, or `*`. Refusal:
    /// network.not_allowed.
    pub allowed_domains: Option<Vec<String>>,
    /// Hosts that must not be reached, whatever else allows them. Refusal: network.blocked.
    pub blocked_domains: Option<Vec<String>>,
}

/// Paths that agents may use. Where this section is present, `enabled` must be true for any path to be allowed.
#[derive(JsonSchema)]
pub struct FilesystemRules {
    /// True: agents may ask for paths. Refusal: filesystem.disabled.
    pub enabled: Option<bool>,
    /// Paths: `/data/*` for it and everything below it. Refusal: filesystem.not_allowed.
    pub allowed_paths: Option<Vec<String>>,
    /// Paths that must not be used, whatever else allows them; a relative path meets every absolute one of these. Refusal:
    /// filesystem.blocked.
    pub blocked_paths: Option<Vec<String>>,
    /// File name extensions that may be used. Refusal: filesystem.ext_not_allowed.
    pub allowed_extensions: Option<Vec<String>>,
}

/// Services that agents may call. Where this section is present, `enabled` must be true for any to be allowed.
#[derive(JsonSchema)]
pub struct ApiRules {
    /// True: agents may ask for services. Refusal: api.disabled.
    pub enabled: Option<bool>,
    /// The services. Refusal: api.not_allowed.
    pub allowed_services: Option<Vec<AllowedService>>,
}

/// A service that agents may call.
#[derive(JsonSchema)]
pub struct AllowedService {
    /// Its name.
    pub service_name: String,
    /// Its endpoints; absent: all.
    pub endpoints: Option<Vec<String>>,
}

/// How much agents may use.
#[derive(JsonSchema)]
pub struct RateLimitRules {
    /// Limits of each agent.
    pub per_agent: Option<PerAgentLimits>,
}

/// Limits of each agent, against what it declares in spec.rateLimits. Refusal: rate.exceeded.
#[derive(JsonSchema)]
pub struct PerAgentLimits {
    /// Requests a minute, at most.
    pub requests_per_minute: Option<i64>,
    /// Tokens an hour, at most.
    pub tokens_per_hour: Option<i64>,
}

/// Schema of `spec.document`.
pub fn document(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = PolicyDocument::json_schema(generator);
    if let Some(object) = schema.as_object_mut() {
        keep_everything(object);
        object.insert("x-kubernetes-map-type".to_owned(), json!("atomic"));
    }
    schema
}

/// Nothing in the document is pruned, demanded or defaulted by the API server: a document that is wrong is judged and
/// reported, not lost.
fn keep_everything(schema: &mut serde_json::Map<String, Value>) {
    schema.remove("required");
    schema.remove("title");
    schema.remove("additionalProperties");
    if schema.contains_key("properties") {
        schema.insert("x-kubernetes-preserve-unknown-fields".to_owned(), json!(true));
    }
    for child in schema.values_mut() {
        visit(child);
    }
}

fn visit(value: &mut Value) {
    match value {
        Value::Object(map) => keep_everything(map),
        Value::Array(list) => list.iter_mut().for_each(visit),
        _ => {}
    }
}
