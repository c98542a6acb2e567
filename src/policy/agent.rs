//! What an agent says of itself: the facts that a policy judges. One type for the cluster's objects, the command line
//! and the tests. Doc comments are read by users, through `explain`.
//!
//! What a schema cannot say by itself stands beside it as CEL (`x-validations`) and as the kind of a list
//! (`x-list-type`, `x-list-map-keys`); whoever makes a cluster's schema of it gives these the names used there.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod bounds;

use bounds::{Each, List, Maybe, Text};

/// Characters of the longest text that an agent may have anywhere.
pub const LONGEST_TEXT: usize = 1024;

/// What an agent is, and what it asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-validations" = [
    {
        "rule": "has(self.workspace) == has(oldSelf.workspace) && (!has(self.workspace) || self.workspace == oldSelf.workspace)",
        "message": "workspace cannot be changed; delete the agent and create it again",
        "fieldPath": ".workspace",
    },
    {
        "rule": "!has(self.fallbackModels) || !self.fallbackModels.exists(m, m.provider == self.model.provider && m.name == self.model.name && (has(m.region) ? m.region : '') == (has(self.model.region) ? self.model.region : '') && (has(m.endpoint) ? m.endpoint : '') == (has(self.model.endpoint) ? self.model.endpoint : ''))",
        "message": "a fallback model must differ from the model it stands in for",
        "fieldPath": ".fallbackModels",
    },
    {
        "rule": "!has(self.approval) || !has(self.approval.tools) || self.approval.tools.all(t, has(self.tools) && self.tools.exists(x, x.name == t))",
        "message": "a tool that is put up for approval must be one of spec.tools",
        "fieldPath": ".approval.tools",
    },
    {
        "rule": "!has(self.identity) || !has(self.image) || self.image.matches('@sha256:[0-9a-f]{64}$')",
        "message": "an agent with an identity names its image by digest: name@sha256:<64 hex>",
        "fieldPath": ".image",
    },
]))]
pub struct AgentSpec {
    /// The workspace that the agent believes to be in. Optional; must equal the label sekuire.ai/workspace of its
    /// namespace, which alone decides. Cannot be changed.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "Maybe::<Text<1, 63>>")]
    pub workspace: Option<String>,
    /// The language model that the agent uses.
    pub model: Model,
    /// The models that the agent falls back to, in this order. They are held to the same rules as the model.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "List::<Each<Model>, 8>")]
    pub fallback_models: Vec<Model>,
    /// The tools that the agent can call.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "List::<Each<Tool>, 256>")]
    #[schemars(extend("x-list-type" = "map", "x-list-map-keys" = ["name"]))]
    pub tools: Vec<Tool>,
    /// What a human approves while the agent runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Approval>,
    /// What the agent's owner declares. What is not declared never counts as true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compliance: Option<Compliance>,
    /// What the agent asks for: network hosts, paths, services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permissions: Option<Permissions>,
    /// The limits that the agent holds itself to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limits: Option<RateLimits>,
    /// The Sekuire identity of the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<Identity>,
    /// The container image that the agent runs. Named by digest (name@sha256:…) when there is an identity. Held against the
    /// images that the policy allows.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "Maybe::<Text<1, 512>>")]
    pub image: Option<String>,
}

/// A language model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Model {
    /// Who serves the model, e.g. openai or anthropic.
    #[serde(with = "Text::<1, 128>")]
    pub provider: String,
    /// The model's name as the provider writes it, e.g. gpt-4.
    #[serde(with = "Text::<1, 256>")]
    pub name: String,
    /// Where the model runs, e.g. us-east-1. Held against the policy's data residency.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "Maybe::<Text<1, 64>>")]
    pub region: Option<String>,
    /// The URL that the agent sends its requests to, http or https, without user name or password. Where the policy says
    /// which provider answers where, that provider is judged.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "Maybe::<Text<8, LONGEST_TEXT>>")]
    #[schemars(extend("x-validations" = [{
        "rule": r"self.matches('^[hH][tT][tT][pP][sS]?://[^/?#@\\\\\\s]+(/[^\\\\\\s]*)?$')",
        "message": "an endpoint is a URL http(s)://host[:port][/path] without user info, backslash or space",
    }]))]
    pub endpoint: Option<String>,
}

/// A tool that the agent can call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tool {
    /// The tool's name, e.g. web_search.
    #[serde(with = "Text::<1, 256>")]
    pub name: String,
    /// The server that offers the tool, e.g. the name of an MCP server. Held against the servers that the policy allows.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "Maybe::<Text<1, 256>>")]
    pub server: Option<String>,
}

/// What a human approves while the agent runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Approval {
    /// None: nothing is approved. Listed: the listed tools. All: every call of a tool.
    #[serde(default)]
    pub mode: ApprovalMode,
    /// The tools whose calls a human approves, in mode Listed. Each is one of spec.tools.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "List::<Text<1, 256>, 256>")]
    pub tools: Vec<String>,
}

/// Which calls of tools a human approves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum ApprovalMode {
    /// No call is held back.
    #[default]
    None,
    /// Calls of the listed tools are.
    Listed,
    /// Every call is.
    All,
}

/// What the agent's owner declares.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Compliance {
    /// The frameworks that the agent is run under, e.g. soc2 or hipaa.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "List::<Text<1, 128>, 64>")]
    pub frameworks: Vec<String>,
    /// Whether what the agent does is recorded in an audit log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit_logging: Option<bool>,
    /// How data is encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<Encryption>,
    /// The regions where data is kept, e.g. us or eu-west-1.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "List::<Text<1, 64>, 64>")]
    pub data_residency: Vec<String>,
    /// For how many days records are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 9_007_199_254_740_991_u64), extend("format" = "int64"))]
    pub retention_days: Option<u64>,
}

/// How data is encrypted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Encryption {
    /// Whether stored data is encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_rest: Option<bool>,
    /// Whether data is encrypted on its way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_transit: Option<bool>,
}

/// What the agent asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Permissions {
    /// The network that the agent asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// The files that the agent asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filesystem: Option<Filesystem>,
    /// The services that the agent asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api: Option<Api>,
}

/// The network that the agent asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Network {
    /// The hosts that the agent asks for: host, host:port or *.host (the host and everything below it), without
    /// scheme or path.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "List::<Text<1, 262>, 256>")]
    #[schemars(extend("x-validations" = [{
        "rule": r"self.all(h, h.matches('^([*][.])?[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?([.][A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*[.]?(:[0-9]{1,5})?$'))",
        "message": "a host is host, host:port or *.host, e.g. api.example.com:443, without scheme or path",
    }]))]
    pub allowed_hosts: Vec<String>,
    /// Whether the agent promises to talk to these hosts by TLS only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub require_tls: Option<bool>,
}

/// The files that the agent asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Filesystem {
    /// The paths that the agent asks for. Each stands for itself and everything below it: no wildcards, no ~, $ or backslash.
    /// Absolute ones, since a relative one could be anywhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "List::<Text<1, LONGEST_TEXT>, 256>")]
    #[schemars(extend("x-validations" = [{
        "rule": "self.all(p, !p.contains('*'))",
        "message": "a path has no wildcard; it stands for itself and everything below it",
    }]))]
    pub allowed_paths: Vec<String>,
    /// The file name extensions that the agent works with, e.g. .txt. None declared means every extension.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "List::<Text<1, 64>, 256>")]
    pub allowed_extensions: Vec<String>,
}

/// The services that the agent asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Api {
    /// The services that the agent asks for.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "List::<Each<Service>, 128>")]
    pub services: Vec<Service>,
}

/// A service that the agent asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Service {
    /// The service's name, e.g. stripe.
    #[serde(with = "Text::<1, 256>")]
    pub name: String,
    /// The endpoints of the service that the agent asks for. None named means all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "List::<Text<1, 256>, 128>")]
    pub endpoints: Vec<String>,
}

/// The limits that the agent holds itself to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RateLimits {
    /// The most requests in a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 9_007_199_254_740_991_u64), extend("format" = "int64"))]
    pub requests_per_minute: Option<u64>,
    /// The most tokens in an hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 9_007_199_254_740_991_u64), extend("format" = "int64"))]
    pub tokens_per_hour: Option<u64>,
}

/// The Sekuire identity of the agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Identity {
    /// The agent's id: 64 lower-case hex, computed from the model's name, the prompt and the tools.
    #[serde(with = "Text::<64, 64>")]
    #[schemars(regex(pattern = "^[0-9a-f]{64}$"))]
    pub sekuire_id: String,
    /// The BLAKE3 hash of the trimmed prompt, 64 lower-case hex.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "Maybe::<Text<64, 64>>")]
    #[schemars(regex(pattern = "^[0-9a-f]{64}$"))]
    pub prompt_hash: Option<String>,
    /// The BLAKE3 hash of the tools' canonical JSON, 64 lower-case hex.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "Maybe::<Text<64, 64>>")]
    #[schemars(regex(pattern = "^[0-9a-f]{64}$"))]
    pub tools_hash: Option<String>,
}
