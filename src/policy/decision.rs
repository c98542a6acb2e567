//! The one decision function.

use jiff::Timestamp;
use serde::Serialize;

use super::agent::AgentSpec;
use super::document::Status;
use super::reason::Reason;
use super::rules::{Report, Rule};
use super::verify::VerifiedPolicy;
use super::words::quoted;

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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// Whether the agent may be.
    pub allowed: bool,
    /// The policy that decided, if one did.
    pub policy: Option<PolicyRef>,
    /// Every rule that is broken, in a fixed order; [`MAX_VIOLATIONS`](super::MAX_VIOLATIONS) at most.
    pub violations: Vec<Violation>,
    /// How many more violations there are than those.
    #[serde(skip_serializing_if = "is_zero")]
    pub omitted: usize,
    /// What deserves notice, but forbids nothing.
    pub warnings: Vec<String>,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

impl Decision {
    fn of(report: Report, policy: Option<PolicyRef>) -> Decision {
        let Report { violations, omitted } = report;
        Decision { allowed: violations.is_empty(), policy, violations, omitted, warnings: Vec::new() }
    }

    /// How many violations there are, listed or not.
    #[must_use]
    pub fn count(&self) -> usize {
        self.violations.len() + self.omitted
    }
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
///
/// Without a workspace nothing else can be judged, without a policy that holds at `now` no rule can; what the agent
/// says of its workspace is reported beside the rest.
#[must_use]
pub fn decide(subject: &Subject<'_>, enforced: Enforced<'_>, agent: &AgentSpec, now: Timestamp) -> Decision {
    let Some(workspace) = subject.workspace else {
        return Decision::of(unbound(subject), None);
    };
    let mut report = Report::default();
    if let Some(claimed) = agent.workspace.as_deref().filter(|claimed| *claimed != workspace) {
        let message = || {
            format!(
                "the agent says {}, but its namespace {} belongs to {}; leave it out or say the latter",
                quoted(claimed),
                quoted(subject.namespace),
                quoted(workspace)
            )
        };
        report.add(Rule::WorkspaceMismatch, "spec.workspace", claimed, "", message);
    }
    let policy = match enforced {
        Enforced::Policy { policy, commit } => {
            match unfit(policy, workspace, now) {
                None => policy.rules().judge(agent, &mut report),
                Some((rule, why)) => report.absent(rule, subject, workspace, &why),
            }
            Some(PolicyRef::new(policy, commit))
        }
        Enforced::None { why } => {
            report.absent(Rule::PolicyMissing, subject, workspace, why);
            None
        }
    };
    Decision::of(report, policy)
}

/// Holds an agent against the rules of a policy's content alone: the first [`MAX_VIOLATIONS`](super::MAX_VIOLATIONS) violations.
#[must_use]
pub fn judge(policy: &VerifiedPolicy, agent: &AgentSpec) -> Vec<Violation> {
    rehearse(policy, agent).violations
}

/// What a policy would decide if it were in force in the agent's workspace: what a draft is tried by.
#[must_use]
pub fn rehearse(policy: &VerifiedPolicy, agent: &AgentSpec) -> Decision {
    let mut report = Report::default();
    policy.rules().judge(agent, &mut report);
    Decision::of(report, Some(PolicyRef::new(policy, None)))
}

/// Why a policy cannot decide for a workspace at `now`; none if it can. Whoever calls [`decide`] has looked at all of
/// this; should a mistake be made there, the agent is refused.
#[must_use]
pub fn unfit(policy: &VerifiedPolicy, workspace: &str, now: Timestamp) -> Option<(Rule, String)> {
    let id = policy.policy_id();
    let time = |t: Option<Timestamp>| t.map(|t| t.to_string()).unwrap_or_default();
    let missing = |why: String| Some((Rule::PolicyMissing, why));
    if policy.workspace_id() != workspace {
        return missing(format!("{id} is a policy of {}", quoted(policy.workspace_id())));
    }
    match policy.status() {
        Status::Active => {}
        Status::Draft => return missing(format!("version {} of {id} is a draft", policy.version())),
        Status::Archived => return missing(format!("{id} was archived in version {}", policy.version())),
    }
    let key = policy.signing_key_id();
    match policy.holds(now) {
        Ok(()) => None,
        Err(Reason::PolicyExpired) => {
            Some((Rule::PolicyExpired, format!("{id} expired at {}", time(policy.expires_at()))))
        }
        Err(Reason::KeyNotYetValid) => {
            missing(format!("the key {key} of {id} is not valid before {}", time(policy.holds_from())))
        }
        Err(Reason::ThresholdNotMet) => {
            missing(format!("fewer keys count that have signed {id} than the workspace asks for"))
        }
        Err(_) => missing(format!("the key {key} of {id} is past its validity")),
    }
}

fn unbound(subject: &Subject<'_>) -> Report {
    let mut report = Report::default();
    let message = || {
        format!(
            "the namespace {} belongs to no workspace; expected the label sekuire.ai/workspace on it",
            quoted(subject.namespace)
        )
    };
    report.add(Rule::WorkspaceUnbound, NAMESPACE, subject.namespace, "", message);
    report
}

const NAMESPACE: &str = "metadata.namespace";

impl Report {
    fn absent(&mut self, rule: Rule, subject: &Subject<'_>, workspace: &str, why: &str) {
        let message = || {
            format!(
                "the workspace {} has no policy in force, so no agent is admitted: {why}; publish an active version",
                quoted(workspace)
            )
        };
        self.add(rule, NAMESPACE, subject.namespace, "", message);
    }
}

impl PolicyRef {
    /// Names a policy.
    #[must_use]
    pub fn new(policy: &VerifiedPolicy, commit: Option<&str>) -> PolicyRef {
        PolicyRef {
            policy_id: policy.policy_id().to_owned(),
            workspace_id: policy.workspace_id().to_owned(),
            version: policy.version().to_string(),
            hash: policy.hash().to_owned(),
            signing_key_id: policy.signing_key_id().to_owned(),
            commit: commit.map(str::to_owned),
        }
    }
}
