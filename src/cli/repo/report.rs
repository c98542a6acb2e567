//! What the gate has found.

use serde::Serialize;

use crate::cli::agent::Verdict;
use crate::git::shown;
use crate::policy::{Advice, Reason, VerifiedPolicy};

/// Everything that was found.
#[derive(Serialize)]
pub(super) struct Report {
    /// Every document that there is after the change.
    pub(super) documents: Vec<DocumentResult>,
    /// What is wrong.
    pub(super) findings: Vec<Finding>,
    /// What deserves a second look, and is no fault.
    pub(super) advice: Vec<Remark>,
    /// Agents that comply with what the base has, and not with this.
    pub(super) newly_refused: Vec<Verdict>,
}

/// A document that there is after the change.
#[derive(Serialize)]
pub(super) struct DocumentResult {
    /// Path from the root of the repository.
    pub(super) file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) workspace_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) policy_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) status: Option<&'static str>,
    /// The version that is accepted for the workspace before the change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) follows: Option<String>,
    pub(super) result: Reason,
    pub(super) message: String,
}

impl DocumentResult {
    pub(super) fn new(file: &str, policy: Option<&VerifiedPolicy>, result: Reason, message: &str) -> DocumentResult {
        DocumentResult {
            file: file.to_owned(),
            workspace_id: policy.map(|policy| policy.workspace_id().to_owned()),
            policy_id: policy.map(|policy| policy.policy_id().to_owned()),
            version: policy.map(|policy| policy.version().to_string()),
            status: policy.map(|policy| policy.status().as_str()),
            follows: None,
            result,
            message: message.to_owned(),
        }
    }
}

/// What deserves a second look, and where.
#[derive(Serialize)]
pub(super) struct Remark {
    /// Path from the root of the repository; none for what is not in it.
    pub(super) file: Option<String>,
    pub(super) line: Option<u32>,
    pub(super) column: Option<u32>,
    /// The object of a cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) object: Option<String>,
    #[serde(flatten)]
    pub(super) advice: Advice,
}

impl Remark {
    /// In one line.
    pub(super) fn text(&self) -> String {
        let place = self.file.as_deref().or(self.object.as_deref()).map(shown).unwrap_or_default();
        let line = self.line.map(|line| format!(":{line}")).unwrap_or_default();
        format!("{place}{line}: {}: {} [{}]", self.advice.path, self.advice.text, self.advice.kind.as_str())
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    /// The controller would refuse it.
    Error,
    /// Worth a look before it is merged.
    Warning,
}

impl Level {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Warning => "warning",
        }
    }
}

/// The reason of a finding that speaks of an agent.
pub(super) const AGENT_NEWLY_REFUSED: &str = "AgentNewlyRefused";

/// The reason of a finding for what is no valid agent.
pub(super) const AGENT_MALFORMED: &str = "AgentMalformed";

/// Something that is wrong, and where.
#[derive(Serialize)]
pub(super) struct Finding {
    pub(super) level: Level,
    /// One of the closed set of reasons of documents, `AgentNewlyRefused` or `AgentMalformed`.
    pub(super) reason: &'static str,
    /// Path from the root of the repository; none for the repository as a whole.
    pub(super) file: Option<String>,
    pub(super) line: Option<u32>,
    pub(super) column: Option<u32>,
    pub(super) message: String,
}

impl Finding {
    pub(super) fn new(level: Level, reason: Reason, file: Option<String>, message: String) -> Finding {
        Finding { level, reason: reason.as_str(), file, line: None, column: None, message }
    }
}

impl Finding {
    /// For what is no valid agent.
    pub(super) fn of_agent(file: String, line: u32, message: String) -> Finding {
        let (line, column) = (Some(line), None);
        Finding { level: Level::Error, reason: AGENT_MALFORMED, file: Some(file), line, column, message }
    }
}

impl Report {
    pub(super) fn count(&self, level: Level) -> usize {
        self.findings.iter().filter(|finding| finding.level == level).count()
    }
}
