//! `content.agent.capabilities` and `content.tools`: tools.

use super::{Report, Rule, Section, accepted};
use crate::policy::agent::AgentSpec;
use crate::policy::pattern::Pattern;
use crate::policy::words::quoted;

const CAPABILITIES_ALLOWED: &str = "content.agent.capabilities.allowed_tools";
const TOOLS_ALLOWED: &str = "content.tools.allowed_tools";

#[derive(Debug)]
pub(super) struct Rules {
    /// Both allow lists as one, since either will do; absent when both are.
    allowed: Option<Box<[Pattern]>>,
    allowed_path: &'static str,
    capabilities_denied: Box<[Pattern]>,
    tools_blocked: Box<[Pattern]>,
    require_approval: bool,
}

impl Rules {
    pub(super) fn compile(capabilities: Section<'_>, tools: Section<'_>) -> Rules {
        let first = capabilities.patterns("allowed_tools");
        let second = tools.list("allowed_tools", |entry| entry.get("name")?.as_str().map(Pattern::new));
        let allowed_path = if first.is_some() { CAPABILITIES_ALLOWED } else { TOOLS_ALLOWED };
        let allowed = match (first, second) {
            (Some(first), Some(second)) => Some(first.into_iter().chain(second).collect()),
            (first, second) => first.or(second),
        };
        Rules {
            allowed,
            allowed_path,
            capabilities_denied: capabilities.patterns("denied_tools").unwrap_or_default(),
            tools_blocked: tools.patterns("blocked_tools").unwrap_or_default(),
            require_approval: capabilities.flag("require_tool_approval"),
        }
    }

    pub(super) fn judge(&self, agent: &AgentSpec, report: &mut Report) {
        for (i, tool) in agent.tools.iter().enumerate() {
            self.tool(i, &tool.name, report);
        }
    }

    fn tool(&self, i: usize, name: &str, report: &mut Report) {
        let field = format_args!("spec.tools[{i}].name");
        if let Some((path, at, by)) = self.block(name) {
            let message =
                format!("the tool {} is blocked by {}; remove it from the agent", quoted(name), quoted(by.as_str()));
            report.add(Rule::ToolBlocked, field, name, format_args!("{path}[{at}]"), message);
            return;
        }
        if self.allowed.as_ref().is_some_and(|allowed| allowed.iter().any(|p| p.matches(name))) {
            return;
        }
        if self.require_approval {
            let accepted = self.allowed.as_deref().map(|a| format!("; {}", accepted(a))).unwrap_or_default();
            let message =
                format!("the tool {} is not approved: no list of allowed tools names it{accepted}", quoted(name));
            let path = "content.agent.capabilities.require_tool_approval";
            report.add(Rule::ToolNotApproved, field, name, path, message);
        } else if let Some(allowed) = &self.allowed {
            let message = format!("the tool {} is not allowed; {}", quoted(name), accepted(allowed));
            report.add(Rule::ToolNotAllowed, field, name, self.allowed_path, message);
        }
    }

    fn block(&self, name: &str) -> Option<(&'static str, usize, &Pattern)> {
        let lists = [
            ("content.agent.capabilities.denied_tools", &self.capabilities_denied),
            ("content.tools.blocked_tools", &self.tools_blocked),
        ];
        lists.into_iter().find_map(|(path, list)| {
            let at = list.iter().position(|p| p.matches_ignore_case(name))?;
            Some((path, at, &list[at]))
        })
    }
}
