//! `content.agent.capabilities` and `content.tools`: tools, and the servers that offer them.

use super::{Denials, Report, Rule, Section, accepted};
use crate::policy::agent::AgentSpec;
use crate::policy::name::behind_prefixes;
use crate::policy::pattern::Pattern;
use crate::policy::words::quoted;

const CAPABILITIES_ALLOWED: &str = "content.agent.capabilities.allowed_tools";
const TOOLS_ALLOWED: &str = "content.tools.allowed_tools";

#[derive(Debug)]
pub(super) struct Rules {
    /// Both allow lists as one, since either will do; absent when both are.
    allowed: Option<Box<[Pattern]>>,
    allowed_path: &'static str,
    denied: [Denials; 2],
    brokers: Box<[Pattern]>,
    require_approval: bool,
    allowed_servers: Option<Box<[Pattern]>>,
    denied_servers: Denials,
}

impl Rules {
    pub(super) fn compile(capabilities: Section<'_>, tools: Section<'_>) -> Rules {
        let first = capabilities.patterns("allowed_tools");
        let second = tools.list("allowed_tools", |entry| entry.get("name")?.as_str().map(Pattern::new));
        let allowed_path = if first.is_some() { CAPABILITIES_ALLOWED } else { TOOLS_ALLOWED };
        let allowed: Option<Box<[Pattern]>> = match (first, second) {
            (Some(first), Some(second)) => Some(first.into_iter().chain(second).collect()),
            (first, second) => first.or(second),
        };
        let denied = [
            Denials::new("content.agent.capabilities.denied_tools", capabilities.patterns("denied_tools")),
            Denials::new("content.tools.blocked_tools", tools.patterns("blocked_tools")),
        ];
        let require_approval = capabilities.flag("require_tool_approval");
        let any = match &allowed {
            Some(allowed) => allowed.iter().any(|pattern| pattern.as_str() == "*"),
            None => !require_approval,
        };
        // where everything is allowed, what a broker reaches is too
        let bounded = !any || !denied.iter().all(Denials::is_empty);
        let brokers = capabilities.patterns("broker_tools").filter(|_| bounded).unwrap_or_default();
        Rules {
            allowed,
            allowed_path,
            denied,
            brokers,
            require_approval,
            allowed_servers: capabilities.patterns("allowed_servers"),
            denied_servers: Denials::new(
                "content.agent.capabilities.denied_servers",
                capabilities.patterns("denied_servers"),
            ),
        }
    }

    pub(super) fn judge(&self, agent: &AgentSpec, report: &mut Report) {
        for (i, tool) in agent.tools.iter().enumerate() {
            if report.name(format_args!("spec.tools[{i}].name"), "tool", &tool.name) {
                self.tool(i, &tool.name, report);
            }
            if let Some(server) = &tool.server
                && report.name(format_args!("spec.tools[{i}].server"), "server", server)
            {
                self.server(i, server, report);
            }
        }
    }

    fn tool(&self, i: usize, name: &str, report: &mut Report) {
        let field = format_args!("spec.tools[{i}].name");
        if let Some((path, at, by)) = self.block(name) {
            let message =
                || format!("the tool {} is blocked by {}; remove it from the agent", quoted(name), quoted(by.as_str()));
            report.add(Rule::ToolBlocked, field, name, format_args!("{path}[{at}]"), message);
            return;
        }
        if let Some(at) = self.brokers.iter().position(|broker| broker.matches_ignore_case(name)) {
            let by = &self.brokers[at];
            let message = || {
                let (name, by) = (quoted(name), quoted(by.as_str()));
                format!(
                    "the tool {name} reaches other tools (broker {by}), which no rule on names bounds; expected the tools \
                     themselves"
                )
            };
            let path = format_args!("content.agent.capabilities.broker_tools[{at}]");
            report.add(Rule::ToolUnbounded, field, name, path, message);
            return;
        }
        if self.allowed.as_ref().is_some_and(|allowed| allowed.iter().any(|p| p.matches(name))) {
            return;
        }
        if self.require_approval {
            let message = || {
                let accepted = self.allowed.as_deref().map(|a| format!("; {}", accepted(a))).unwrap_or_default();
                format!("the tool {} is not approved: no list of allowed tools names it{accepted}", quoted(name))
            };
            let path = "content.agent.capabilities.require_tool_approval";
            report.add(Rule::ToolNotApproved, field, name, path, message);
        } else if let Some(allowed) = &self.allowed {
            let message = || format!("the tool {} is not allowed; {}", quoted(name), accepted(allowed));
            report.add(Rule::ToolNotAllowed, field, name, self.allowed_path, message);
        }
    }

    fn block(&self, name: &str) -> Option<(&'static str, usize, &Pattern)> {
        if self.denied.iter().all(Denials::is_empty) {
            return None;
        }
        let starts = behind_prefixes(name, true);
        self.denied.iter().find_map(|denials| {
            let (at, by) = denials.meets(name, &starts)?;
            Some((denials.path, at, by))
        })
    }

    fn server(&self, i: usize, server: &str, report: &mut Report) {
        let field = format_args!("spec.tools[{i}].server");
        if !self.denied_servers.is_empty()
            && let Some((at, by)) = self.denied_servers.meets(server, &behind_prefixes(server, false))
        {
            let message = || {
                let (server, by) = (quoted(server), quoted(by.as_str()));
                format!("the server {server} is blocked by {by}; remove its tools from the agent")
            };
            report.add(Rule::ServerBlocked, field, server, format_args!("{}[{at}]", self.denied_servers.path), message);
            return;
        }
        let Some(allowed) = &self.allowed_servers else { return };
        if !allowed.iter().any(|p| p.matches(server)) {
            let message = || format!("the server {} is not allowed; {}", quoted(server), accepted(allowed));
            report.add(Rule::ServerNotAllowed, field, server, "content.agent.capabilities.allowed_servers", message);
        }
    }
}
