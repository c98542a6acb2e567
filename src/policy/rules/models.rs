//! `content.agent.models`: providers and models.

use std::fmt;

use super::{Report, Rule, Section, accepted};
use crate::policy::agent::{AgentSpec, Model};
use crate::policy::pattern::Pattern;
use crate::policy::words::quoted;

#[derive(Debug)]
pub(super) struct Rules {
    providers: Option<Box<[Pattern]>>,
    allowed: Option<Box<[Pattern]>>,
    denied: Box<[Pattern]>,
    /// The name under which the document has the denials.
    denied_path: &'static str,
}

impl Rules {
    pub(super) fn compile(section: Section<'_>) -> Rules {
        let sdk = section.patterns("blocked_models");
        Rules {
            providers: section.patterns("allowed_providers"),
            allowed: section.patterns("allowed_models"),
            denied_path: if sdk.is_some() {
                "content.agent.models.blocked_models"
            } else {
                "content.agent.models.denied_models"
            },
            denied: section.patterns("denied_models").or(sdk).unwrap_or_default(),
        }
    }

    pub(super) fn judge(&self, agent: &AgentSpec, report: &mut Report) {
        for (place, model) in models(agent) {
            self.provider(place, model, report);
            self.model(place, model, report);
        }
    }

    fn provider(&self, place: Place, model: &Model, report: &mut Report) {
        let Some(allowed) = &self.providers else { return };
        if allowed.iter().any(|p| p.matches_ignore_case(&model.provider)) {
            return;
        }
        report.add(
            Rule::ProviderNotAllowed,
            format_args!("{place}.provider"),
            &model.provider,
            "content.agent.models.allowed_providers",
            format!("the provider {} is not allowed; {}", quoted(&model.provider), accepted(allowed)),
        );
    }

    fn model(&self, place: Place, model: &Model, report: &mut Report) {
        let name = &model.name;
        if let Some(i) = self.denied.iter().position(|p| p.matches_ignore_case(name)) {
            let by = quoted(self.denied[i].as_str());
            let other = match &self.allowed {
                Some(allowed) => accepted(allowed),
                None => "any model is allowed that no block matches".to_owned(),
            };
            report.add(
                Rule::ModelBlocked,
                format_args!("{place}.name"),
                name,
                format_args!("{}[{i}]", self.denied_path),
                format!("the model {} is blocked by {by}; {other}", quoted(name)),
            );
            return;
        }
        let Some(allowed) = &self.allowed else { return };
        if !allowed.iter().any(|p| p.matches(name)) {
            report.add(
                Rule::ModelNotAllowed,
                format_args!("{place}.name"),
                name,
                "content.agent.models.allowed_models",
                format!("the model {} is not allowed; {}", quoted(name), accepted(allowed)),
            );
        }
    }
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
