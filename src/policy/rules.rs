//! The rules of a policy's content, compiled once, and what they say of an agent. One file a group of rules.

use std::fmt::Display;

use serde_json::Value;

use super::agent::AgentSpec;
use super::decision::Violation;
use super::pattern::Pattern;
use super::words::shortened;

mod api;
mod compliance;
mod filesystem;
mod limits;
mod models;
mod network;
mod tools;

/// The rules' ids. A closed set: used unchanged in messages, metric labels and reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the ids below say what they are; the specification's table says when they refuse")]
pub enum Rule {
    ProviderNotAllowed,
    ModelBlocked,
    ModelNotAllowed,
    ToolBlocked,
    ToolNotAllowed,
    ToolNotApproved,
    FrameworkMissing,
    AuditLoggingRequired,
    EncryptionRequired,
    ResidencyViolation,
    RetentionTooShort,
    NetworkDisabled,
    NetworkInvalid,
    NetworkBlocked,
    NetworkNotAllowed,
    NetworkTlsRequired,
    FilesystemDisabled,
    FilesystemInvalid,
    FilesystemBlocked,
    FilesystemNotAllowed,
    FilesystemExtNotAllowed,
    ApiDisabled,
    ApiNotAllowed,
    RateExceeded,
    IdentityMismatch,
    WorkspaceUnbound,
    WorkspaceMismatch,
    PolicyMissing,
    PolicyExpired,
}

impl Rule {
    /// Every rule, in the order of the specification's table.
    pub const ALL: [Rule; 29] = [
        Rule::ProviderNotAllowed,
        Rule::ModelBlocked,
        Rule::ModelNotAllowed,
        Rule::ToolBlocked,
        Rule::ToolNotAllowed,
        Rule::ToolNotApproved,
        Rule::FrameworkMissing,
        Rule::AuditLoggingRequired,
        Rule::EncryptionRequired,
        Rule::ResidencyViolation,
        Rule::RetentionTooShort,
        Rule::NetworkDisabled,
        Rule::NetworkInvalid,
        Rule::NetworkBlocked,
        Rule::NetworkNotAllowed,
        Rule::NetworkTlsRequired,
        Rule::FilesystemDisabled,
        Rule::FilesystemInvalid,
        Rule::FilesystemBlocked,
        Rule::FilesystemNotAllowed,
        Rule::FilesystemExtNotAllowed,
        Rule::ApiDisabled,
        Rule::ApiNotAllowed,
        Rule::RateExceeded,
        Rule::IdentityMismatch,
        Rule::WorkspaceUnbound,
        Rule::WorkspaceMismatch,
        Rule::PolicyMissing,
        Rule::PolicyExpired,
    ];

    /// The id, e.g. `model.blocked`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Rule::ProviderNotAllowed => "provider.not_allowed",
            Rule::ModelBlocked => "model.blocked",
            Rule::ModelNotAllowed => "model.not_allowed",
            Rule::ToolBlocked => "tool.blocked",
            Rule::ToolNotAllowed => "tool.not_allowed",
            Rule::ToolNotApproved => "tool.not_approved",
            Rule::FrameworkMissing => "compliance.framework_missing",
            Rule::AuditLoggingRequired => "compliance.audit_logging_required",
            Rule::EncryptionRequired => "compliance.encryption_required",
            Rule::ResidencyViolation => "compliance.residency_violation",
            Rule::RetentionTooShort => "compliance.retention_too_short",
            Rule::NetworkDisabled => "network.disabled",
            Rule::NetworkInvalid => "network.invalid",
            Rule::NetworkBlocked => "network.blocked",
            Rule::NetworkNotAllowed => "network.not_allowed",
            Rule::NetworkTlsRequired => "network.tls_required",
            Rule::FilesystemDisabled => "filesystem.disabled",
            Rule::FilesystemInvalid => "filesystem.invalid",
            Rule::FilesystemBlocked => "filesystem.blocked",
            Rule::FilesystemNotAllowed => "filesystem.not_allowed",
            Rule::FilesystemExtNotAllowed => "filesystem.ext_not_allowed",
            Rule::ApiDisabled => "api.disabled",
            Rule::ApiNotAllowed => "api.not_allowed",
            Rule::RateExceeded => "rate.exceeded",
            Rule::IdentityMismatch => "identity.mismatch",
            Rule::WorkspaceUnbound => "workspace.unbound",
            Rule::WorkspaceMismatch => "workspace.mismatch",
            Rule::PolicyMissing => "policy.missing",
            Rule::PolicyExpired => "policy.expired",
        }
    }
}

/// The content of a policy, ready to be held against agents.
#[derive(Debug)]
pub(super) struct Rules {
    models: models::Rules,
    tools: tools::Rules,
    compliance: compliance::Rules,
    network: Option<network::Rules>,
    filesystem: Option<filesystem::Rules>,
    api: Option<api::Rules>,
    limits: limits::Rules,
}

impl Rules {
    /// Compiles the content of a document that was checked.
    pub(super) fn compile(content: &Value) -> Rules {
        let content = Section(Some(content));
        let permissions = content.section("permissions");
        Rules {
            models: models::Rules::compile(content.section("agent").section("models")),
            tools: tools::Rules::compile(content.section("agent").section("capabilities"), content.section("tools")),
            compliance: compliance::Rules::compile(content.section("compliance")),
            network: permissions.if_present("network").map(network::Rules::compile),
            filesystem: permissions.if_present("filesystem").map(filesystem::Rules::compile),
            api: permissions.if_present("api").map(api::Rules::compile),
            limits: limits::Rules::compile(content.section("rate_limits").section("per_agent")),
        }
    }

    /// Every violation, in the order of the groups, and within a group in the order of the agent's fields.
    pub(super) fn judge(&self, agent: &AgentSpec) -> Vec<Violation> {
        let mut report = Report(Vec::new());
        self.models.judge(agent, &mut report);
        self.tools.judge(agent, &mut report);
        self.compliance.judge(agent, &mut report);
        if let Some(network) = &self.network {
            network.judge(agent, &mut report);
        }
        if let Some(filesystem) = &self.filesystem {
            filesystem.judge(agent, &mut report);
        }
        if let Some(api) = &self.api {
            api.judge(agent, &mut report);
        }
        self.limits.judge(agent, &mut report);
        limits::judge_identity(agent, &mut report);
        report.0
    }
}

/// Collects violations. What is formatted is formatted only when a rule is broken.
pub(super) struct Report(pub(super) Vec<Violation>);

impl Report {
    /// `value`: what the agent has there, empty when nothing. `message`: what is wrong; what would be accepted.
    pub(super) fn add(
        &mut self,
        rule: Rule,
        field: impl Display,
        value: impl Display,
        policy_path: impl Display,
        message: String,
    ) {
        self.0.push(Violation {
            rule: rule.as_str(),
            field: field.to_string(),
            value: shortened(&value.to_string()),
            policy_path: policy_path.to_string(),
            message,
        });
    }
}

/// A part of the content that may be absent.
#[derive(Clone, Copy)]
struct Section<'a>(Option<&'a Value>);

impl<'a> Section<'a> {
    fn get(self, name: &str) -> Option<&'a Value> {
        self.0?.get(name)
    }

    fn section(self, name: &str) -> Section<'a> {
        Section(self.get(name))
    }

    fn if_present(self, name: &str) -> Option<Section<'a>> {
        self.get(name).map(|section| Section(Some(section)))
    }

    fn flag(self, name: &str) -> bool {
        self.get(name).and_then(Value::as_bool).unwrap_or(false)
    }

    fn count(self, name: &str) -> Option<u64> {
        self.get(name).and_then(Value::as_u64)
    }

    /// A list, which is something else when present and empty than when absent. That no entry is lost is known: parsing
    /// refused the document unless each reads, by these same functions.
    fn list<T>(self, name: &str, entry: impl Fn(&'a Value) -> Option<T>) -> Option<Box<[T]>> {
        Some(self.get(name)?.as_array()?.iter().filter_map(entry).collect())
    }

    fn patterns(self, name: &str) -> Option<Box<[Pattern]>> {
        self.list(name, |entry| entry.as_str().map(Pattern::new))
    }

    fn texts(self, name: &str) -> Option<Box<[Box<str>]>> {
        self.list(name, |entry| entry.as_str().map(Into::into))
    }

    /// Where a section says whether it is enabled: the member, or the section that lacks it.
    fn switch(self, path: &'static str, member: &'static str) -> &'static str {
        if self.get("enabled").is_some() { member } else { path }
    }
}

/// The end of a message about an allow list: what it accepts.
fn accepted(allowed: &[impl Display]) -> String {
    match allowed {
        [] => "nothing is allowed here".to_owned(),
        _ => format!("allowed: {}", super::words::list(allowed.iter())),
    }
}
