//! `content.rate_limits.per_agent`, and the agent's identity, which no policy has to ask for.

use super::{Report, Rule, Section};
use crate::policy::agent::AgentSpec;
use crate::policy::identity;

#[derive(Debug)]
pub(super) struct Rules {
    requests_per_minute: Option<u64>,
    tokens_per_hour: Option<u64>,
}

impl Rules {
    pub(super) fn compile(section: Section<'_>) -> Rules {
        Rules {
            requests_per_minute: section.count("requests_per_minute"),
            tokens_per_hour: section.count("tokens_per_hour"),
        }
    }

    pub(super) fn judge(&self, agent: &AgentSpec, report: &mut Report) {
        let declared = agent.rate_limits.as_ref();
        let limits = [
            (
                "requestsPerMinute",
                "requests_per_minute",
                declared.and_then(|d| d.requests_per_minute),
                self.requests_per_minute,
            ),
            ("tokensPerHour", "tokens_per_hour", declared.and_then(|d| d.tokens_per_hour), self.tokens_per_hour),
        ];
        for (field, member, declared, limit) in limits {
            let Some(limit) = limit else { continue };
            if declared.is_some_and(|n| n <= limit) {
                continue;
            }
            let message = || match declared {
                Some(n) => format!("{field} is {n}; expected {limit} or less"),
                None => format!("{field} is not declared; expected {limit} or less"),
            };
            report.add(
                Rule::RateExceeded,
                format_args!("spec.rateLimits.{field}"),
                declared.map(|n| n.to_string()).unwrap_or_default(),
                format_args!("content.rate_limits.per_agent.{member}"),
                message,
            );
        }
    }
}

/// The identity must be the one that model, prompt and tools give.
pub(super) fn judge_identity(agent: &AgentSpec, report: &mut Report) {
    let Some(identity) = &agent.identity else { return };
    let (Some(prompt), Some(tools)) = (&identity.prompt_hash, &identity.tools_hash) else { return };
    let computed = identity::sekuire_id(&agent.model.name, prompt, tools);
    if identity.sekuire_id != computed {
        let message = || format!("the model, promptHash and toolsHash give another identity; expected {computed}");
        report.add(Rule::IdentityMismatch, "spec.identity.sekuireId", &identity.sekuire_id, "", message);
    }
}
