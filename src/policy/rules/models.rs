//! `content.agent.models`: providers, models, and where they answer.

use std::fmt;

use super::endpoints::{Entry, Table};
use super::{Denials, Report, Rule, Section, accepted};
use crate::policy::agent::{AgentSpec, Model};
use crate::policy::name::behind_prefixes;
use crate::policy::pattern::Pattern;
use crate::policy::words::quoted;

const ENDPOINTS: &str = "content.agent.models.endpoints";

#[derive(Debug)]
pub(super) struct Rules {
    providers: Option<Box<[Pattern]>>,
    allowed: Option<Box<[Pattern]>>,
    /// Under the name that the document has for them.
    denied: Denials,
    endpoints: Option<Table>,
}

impl Rules {
    pub(super) fn compile(section: Section<'_>) -> Rules {
        let (denied, path) = match section.patterns("blocked_models") {
            None => (section.patterns("denied_models"), "content.agent.models.denied_models"),
            sdk => (sdk, "content.agent.models.blocked_models"),
        };
        Rules {
            providers: section.patterns("allowed_providers"),
            allowed: section.patterns("allowed_models"),
            denied: Denials::new(path, denied),
            endpoints: Table::compile(section),
        }
    }

    pub(super) fn judge(&self, agent: &AgentSpec, report: &mut Report) {
        for (place, model) in models(agent) {
            let found = self.look_up(place, model, report);
            self.provider(place, model, found, report);
            if report.name(format_args!("{place}.name"), "model", &model.name) {
                self.model(place, &model.name, found, report);
            }
        }
    }

    /// What the table says of the model's endpoint.
    fn look_up(&self, place: Place, model: &Model, report: &mut Report) -> Found<'_> {
        let (Some(table), Some(endpoint)) = (&self.endpoints, &model.endpoint) else { return Found::NotAsked };
        if let Some((i, entry)) = table.entry(endpoint) {
            return Found::Entry(i, entry);
        }
        let message = || {
            let known = accepted(table.entries());
            format!("the policy does not say which provider answers at {}; {known}", quoted(endpoint))
        };
        report.add(Rule::EndpointUnknown, format_args!("{place}.endpoint"), endpoint, ENDPOINTS, message);
        Found::Nothing
    }

    /// The provider of the table outranks what the agent says.
    fn provider(&self, place: Place, model: &Model, found: Found<'_>, report: &mut Report) {
        let named = report.name(format_args!("{place}.provider"), "provider", &model.provider);
        let Some(allowed) = &self.providers else { return };
        let is_allowed = |provider: &str| allowed.iter().any(|p| p.matches_ignore_case(provider));
        let path = "content.agent.models.allowed_providers";
        match found {
            Found::NotAsked if named && !is_allowed(&model.provider) => {
                let message =
                    || format!("the provider {} is not allowed; {}", quoted(&model.provider), accepted(allowed));
                report.add(Rule::ProviderNotAllowed, format_args!("{place}.provider"), &model.provider, path, message);
            }
            Found::Entry(i, entry) if !is_allowed(&entry.provider) => {
                let endpoint = model.endpoint.as_deref().unwrap_or_default();
                let message = || {
                    let (provider, accepted) = (quoted(&entry.provider), accepted(allowed));
                    let endpoint = quoted(endpoint);
                    format!(
                        "at {endpoint} answers the provider {provider} ({ENDPOINTS}[{i}]), which is not allowed; {accepted}"
                    )
                };
                report.add(Rule::ProviderNotAllowed, format_args!("{place}.endpoint"), endpoint, path, message);
            }
            _ => {}
        }
    }

    fn model(&self, place: Place, name: &str, found: Found<'_>, report: &mut Report) {
        let field = format_args!("{place}.name");
        if !self.denied.is_empty()
            && let Some((i, by)) = self.denied.meets(name, &behind_prefixes(name, false))
        {
            let message = || {
                let other = match &self.allowed {
                    Some(allowed) => accepted(allowed),
                    None => "any model is allowed that no block matches".to_owned(),
                };
                format!("the model {} is blocked by {}; {other}", quoted(name), quoted(by.as_str()))
            };
            report.add(Rule::ModelBlocked, field, name, format_args!("{}[{i}]", self.denied.path), message);
            return;
        }
        let lists = |pattern: &[Pattern]| pattern.iter().any(|p| p.matches(name));
        if let Some(allowed) = self.allowed.as_deref().filter(|allowed| !lists(allowed)) {
            let message = || format!("the model {} is not allowed; {}", quoted(name), accepted(allowed));
            report.add(Rule::ModelNotAllowed, field, name, "content.agent.models.allowed_models", message);
            return;
        }
        if let Found::Entry(i, entry) = found
            && let Some(allowed) = entry.models.as_deref().filter(|allowed| !lists(allowed))
        {
            let message =
                || format!("the model {} is not allowed at this endpoint; {}", quoted(name), accepted(allowed));
            report.add(Rule::ModelNotAllowed, field, name, format_args!("{ENDPOINTS}[{i}].models"), message);
        }
    }
}

/// What the table of endpoints says of a model.
#[derive(Clone, Copy)]
enum Found<'a> {
    /// There is no table, or the model has no endpoint: the agent says who its provider is.
    NotAsked,
    /// Nobody knows who answers there.
    Nothing,
    /// An entry, with its place in the table.
    Entry(usize, &'a Entry),
}

/// Which of an agent's models.
#[derive(Clone, Copy)]
pub(super) enum Place {
    Primary,
    Fallback(usize),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Primary => f.write_str("spec.model"),
            Place::Fallback(i) => write!(f, "spec.fallbackModels[{i}]"),
        }
    }
}

/// The model and its fallbacks: they are held to the same rules.
pub(super) fn models(agent: &AgentSpec) -> impl Iterator<Item = (Place, &Model)> {
    let fallbacks = agent.fallback_models.iter().enumerate().map(|(i, model)| (Place::Fallback(i), model));
    std::iter::once((Place::Primary, &agent.model)).chain(fallbacks)
}
