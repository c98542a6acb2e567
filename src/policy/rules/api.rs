//! `content.permissions.api`: services and their endpoints.

use super::{Report, Rule, Section, accepted};
use crate::policy::agent::{AgentSpec, Service};
use crate::policy::words::quoted;

const SECTION: &str = "content.permissions.api";
const SERVICES: &str = "content.permissions.api.allowed_services";

#[derive(Debug)]
pub(super) struct Rules {
    enabled: bool,
    switch: &'static str,
    allowed: Option<Box<[Allowed]>>,
}

#[derive(Debug)]
struct Allowed {
    name: Box<str>,
    /// Absent: every endpoint.
    endpoints: Option<Box<[Box<str>]>>,
}

impl Rules {
    pub(super) fn compile(section: Section<'_>) -> Rules {
        Rules {
            enabled: section.flag("enabled"),
            switch: section.switch(SECTION, "content.permissions.api.enabled"),
            allowed: section.list("allowed_services", |entry| {
                let entry = Section(Some(entry));
                Some(Allowed { name: entry.get("service_name")?.as_str()?.into(), endpoints: entry.texts("endpoints") })
            }),
        }
    }

    pub(super) fn judge(&self, agent: &AgentSpec, report: &mut Report) {
        let api = agent.permissions.as_ref().and_then(|p| p.api.as_ref());
        for (i, service) in api.map_or(&[][..], |a| &a.services).iter().enumerate() {
            self.service(i, service, report);
        }
    }

    fn service(&self, i: usize, service: &Service, report: &mut Report) {
        let name = &service.name;
        let field = format_args!("spec.permissions.api.services[{i}].name");
        if !self.enabled {
            let message = || format!("no services are allowed, so {} cannot be asked for", quoted(name));
            report.add(Rule::ApiDisabled, field, name, self.switch, message);
            return;
        }
        let Some(allowed) = &self.allowed else { return };
        let Some(first) = allowed.iter().position(|a| *a.name == **name) else {
            let names: Vec<&str> = allowed.iter().map(|a| &*a.name).collect();
            let message = || format!("the service {} is not allowed; {}", quoted(name), accepted(&names));
            report.add(Rule::ApiNotAllowed, field, name, SERVICES, message);
            return;
        };
        endpoints(i, service, allowed, first, report);
    }
}

/// Several entries of one name add up; one that names no endpoints allows them all.
fn endpoints(i: usize, service: &Service, allowed: &[Allowed], first: usize, report: &mut Report) {
    let entries = || allowed.iter().filter(|a| *a.name == *service.name);
    if entries().any(|a| a.endpoints.is_none()) {
        return;
    }
    let known = || entries().filter_map(|a| a.endpoints.as_deref()).flatten();
    let accepted = || accepted(&known().collect::<Vec<_>>());
    let name = quoted(&service.name);
    let path = format_args!("{SERVICES}[{first}].endpoints");
    if service.endpoints.is_empty() {
        let message = || format!("no endpoint of {name} is named, which means all of them; {}", accepted());
        let field = format_args!("spec.permissions.api.services[{i}].endpoints");
        report.add(Rule::ApiNotAllowed, field, "", path, message);
    }
    for (j, endpoint) in service.endpoints.iter().enumerate() {
        if known().any(|known| **known == **endpoint) {
            continue;
        }
        let message = || format!("the endpoint {} of {name} is not allowed; {}", quoted(endpoint), accepted());
        let field = format_args!("spec.permissions.api.services[{i}].endpoints[{j}]");
        report.add(Rule::ApiNotAllowed, field, endpoint, path, message);
    }
}
