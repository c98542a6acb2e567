//! The rules of a policy's content, compiled once, and what they say of an agent. One file a group of rules.

use std::fmt::Display;

use serde_json::Value;

use super::agent::AgentSpec;
use super::decision::Violation;
use super::name::{self, ACCEPTED_NAME};
use super::pattern::Pattern;
use super::words::{quoted, shortened};

mod api;
mod compliance;
mod endpoints;
mod filesystem;
mod images;
mod limits;
mod models;
mod network;
mod tools;

/// The rules' ids. A closed set: used unchanged in messages, metric labels and reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the ids below say what they are; the specification's table says when they refuse")]
pub enum Rule {
    NameInvalid,
    ProviderNotAllowed,
    EndpointUnknown,
    ModelBlocked,
    ModelNotAllowed,
    ServerBlocked,
    ServerNotAllowed,
    ToolBlocked,
    ToolUnbounded,
    ToolNotAllowed,
    ToolNotApproved,
    ImageNotAllowed,
    ImageNotPinned,
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
    /// Every rule, in the order of the policy reference.
    pub const ALL: [Rule; 36] = [
        Rule::NameInvalid,
        Rule::ProviderNotAllowed,
        Rule::EndpointUnknown,
        Rule::ModelBlocked,
        Rule::ModelNotAllowed,
        Rule::ServerBlocked,
        Rule::ServerNotAllowed,
        Rule::ToolBlocked,
        Rule::ToolUnbounded,
        Rule::ToolNotAllowed,
        Rule::ToolNotApproved,
        Rule::ImageNotAllowed,
        Rule::ImageNotPinned,
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
            Rule::NameInvalid => "name.invalid",
            Rule::ProviderNotAllowed => "provider.not_allowed",
            Rule::EndpointUnknown => "endpoint.unknown",
            Rule::ModelBlocked => "model.blocked",
            Rule::ModelNotAllowed => "model.not_allowed",
            Rule::ServerBlocked => "server.blocked",
            Rule::ServerNotAllowed => "server.not_allowed",
            Rule::ToolBlocked => "tool.blocked",
            Rule::ToolUnbounded => "tool.unbounded",
            Rule::ToolNotAllowed => "tool.not_allowed",
            Rule::ToolNotApproved => "tool.not_approved",
            Rule::ImageNotAllowed => "image.not_allowed",
            Rule::ImageNotPinned => "image.not_pinned",
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
    images: images::Rules,
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
            images: images::Rules::compile(content.section("agent").section("images")),
            compliance: compliance::Rules::compile(content.section("compliance")),
            network: permissions.if_present("network").map(network::Rules::compile),
            filesystem: permissions.if_present("filesystem").map(filesystem::Rules::compile),
            api: permissions.if_present("api").map(api::Rules::compile),
            limits: limits::Rules::compile(content.section("rate_limits").section("per_agent")),
        }
    }

    /// Reports every violation, in the order of the groups, and within a group in the order of the agent's fields.
    pub(super) fn judge(&self, agent: &AgentSpec, report: &mut Report) {
        self.models.judge(agent, report);
        self.tools.judge(agent, report);
        self.images.judge(agent, report);
        self.compliance.judge(agent, report);
        if let Some(network) = &self.network {
            network.judge(agent, report);
        }
        if let Some(filesystem) = &self.filesystem {
            filesystem.judge(agent, report);
        }
        if let Some(api) = &self.api {
            api.judge(agent, report);
        }
        self.limits.judge(agent, report);
        limits::judge_identity(agent, report);
    }
}

/// So many violations are collected; those beyond are counted. Nobody reads them, and an agent could ask for many.
pub const MAX_VIOLATIONS: usize = 256;

/// Collects violations. What is formatted is formatted only when a rule is broken.
#[derive(Default)]
pub(super) struct Report {
    pub(super) violations: Vec<Violation>,
    /// How many more there are.
    pub(super) omitted: usize,
}

impl Report {
    /// `value`: what the agent has there, empty when nothing. `message`: what is wrong; what would be accepted.
    pub(super) fn add(
        &mut self,
        rule: Rule,
        field: impl Display,
        value: impl Display,
        policy_path: impl Display,
        message: impl FnOnce() -> String,
    ) {
        if self.violations.len() >= MAX_VIOLATIONS {
            self.omitted += 1;
            return;
        }
        self.violations.push(Violation {
            rule: rule.as_str(),
            field: field.to_string(),
            value: shortened(&value.to_string()),
            policy_path: policy_path.to_string(),
            message: message(),
        });
    }

    /// Whether a name is one that cannot pass for another; if not, that is reported, and takes the place of what other
    /// rules would say of it. No policy has to ask for this.
    fn name(&mut self, field: impl Display, what: &str, name: &str) -> bool {
        let Some(fault) = name::fault(name) else { return true };
        let message = || format!("the {what} {} {fault}; {ACCEPTED_NAME}", quoted(name));
        self.add(Rule::NameInvalid, field, name, "", message);
        false
    }
}

/// A list of what is denied, and the member that has it.
#[derive(Debug)]
struct Denials {
    path: &'static str,
    patterns: Box<[Pattern]>,
}

impl Denials {
    fn new(path: &'static str, patterns: Option<Box<[Pattern]>>) -> Denials {
        Denials { path, patterns: patterns.unwrap_or_default() }
    }

    fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// The first entry that denies a name, or what stands in it from one of `starts` on; with its place in the list.
    fn meets(&self, name: &str, starts: &[usize]) -> Option<(usize, &Pattern)> {
        self.patterns.iter().enumerate().find(|(_, pattern)| pattern.matches_from_ignore_case(name, starts))
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
