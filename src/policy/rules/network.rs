//! `content.permissions.network`: hosts and endpoints.

use std::fmt::Display;

use super::models::models;
use super::{Report, Rule, Section, accepted};
use crate::policy::agent::AgentSpec;
use crate::policy::host::{Asked, HostPattern, is_https};
use crate::policy::words::quoted;

const SECTION: &str = "content.permissions.network";

#[derive(Debug)]
pub(super) struct Rules {
    enabled: bool,
    switch: &'static str,
    require_tls: bool,
    allowed: Option<Box<[HostPattern]>>,
    blocked: Box<[HostPattern]>,
}

impl Rules {
    pub(super) fn compile(section: Section<'_>) -> Rules {
        let hosts = |name| section.list(name, |entry| HostPattern::parse(entry.as_str()?));
        Rules {
            enabled: section.flag("enabled"),
            switch: section.switch(SECTION, "content.permissions.network.enabled"),
            require_tls: section.flag("require_tls"),
            allowed: hosts("allowed_domains"),
            blocked: hosts("blocked_domains").unwrap_or_default(),
        }
    }

    pub(super) fn judge(&self, agent: &AgentSpec, report: &mut Report) {
        for (place, model) in models(agent) {
            if let Some(endpoint) = &model.endpoint {
                self.endpoint(format_args!("{place}.endpoint"), endpoint, report);
            }
        }
        let network = agent.permissions.as_ref().and_then(|p| p.network.as_ref());
        let hosts = network.map_or(&[][..], |n| &n.allowed_hosts);
        for (i, host) in hosts.iter().enumerate() {
            let field = format_args!("spec.permissions.network.allowedHosts[{i}]");
            let accepted = "expected host, host:port or *.host, without scheme and path";
            self.host(field, host, Asked::host(host), accepted, report);
        }
        let promised = network.and_then(|n| n.require_tls);
        if self.enabled && self.require_tls && !hosts.is_empty() && promised != Some(true) {
            report.add(
                Rule::NetworkTlsRequired,
                "spec.permissions.network.requireTls",
                promised.map(|p| p.to_string()).unwrap_or_default(),
                "content.permissions.network.require_tls",
                || "hosts are asked for without the promise of TLS; expected requireTls: true".to_owned(),
            );
        }
    }

    fn endpoint(&self, field: impl Display + Copy, endpoint: &str, report: &mut Report) {
        let accepted = "expected http(s)://host[:port][/path], without user info, backslash and space";
        self.host(field, endpoint, Asked::endpoint(endpoint), accepted, report);
        if self.enabled && self.require_tls && !is_https(endpoint) {
            let message = || format!("the endpoint {} is not https; expected https://…", quoted(endpoint));
            let path = "content.permissions.network.require_tls";
            report.add(Rule::NetworkTlsRequired, field, endpoint, path, message);
        }
    }

    fn host(&self, field: impl Display, text: &str, asked: Option<Asked<'_>>, form: &str, report: &mut Report) {
        if !self.enabled {
            let message = || format!("no network is allowed, so {} cannot be asked for", quoted(text));
            report.add(Rule::NetworkDisabled, field, text, self.switch, message);
            return;
        }
        let Some(asked) = asked else {
            let message = || format!("{} is not understood; {form}", quoted(text));
            report.add(Rule::NetworkInvalid, field, text, SECTION, message);
            return;
        };
        if let Some(i) = self.blocked.iter().position(|block| block.overlaps(asked)) {
            let by = quoted(&self.blocked[i].to_string());
            let message = || format!("{} is blocked by {by}; ask only for hosts that it does not cover", quoted(text));
            let path = format_args!("content.permissions.network.blocked_domains[{i}]");
            report.add(Rule::NetworkBlocked, field, text, path, message);
            return;
        }
        let Some(allowed) = &self.allowed else { return };
        if !allowed.iter().any(|pattern| pattern.covers(asked)) {
            let message = || format!("{} is not allowed; {}", quoted(text), accepted(allowed));
            let path = "content.permissions.network.allowed_domains";
            report.add(Rule::NetworkNotAllowed, field, text, path, message);
        }
    }
}
