//! `content.agent.images`: what agents run.

use super::{Report, Rule, Section, accepted};
use crate::policy::agent::AgentSpec;
use crate::policy::image;
use crate::policy::pattern::Pattern;
use crate::policy::words::quoted;

const FIELD: &str = "spec.image";

#[derive(Debug)]
pub(super) struct Rules {
    allowed: Option<Box<[Pattern]>>,
    require_digest: bool,
}

impl Rules {
    pub(super) fn compile(section: Section<'_>) -> Rules {
        Rules { allowed: section.patterns("allowed_images"), require_digest: section.flag("require_digest") }
    }

    pub(super) fn judge(&self, agent: &AgentSpec, report: &mut Report) {
        let Some(image) = &agent.image else { return };
        if let Some(allowed) = &self.allowed {
            let name = image::name(image);
            if !allowed.iter().any(|pattern| pattern.matches(&name)) {
                let message = || format!("the image {} is not allowed; {}", quoted(&name), accepted(allowed));
                report.add(Rule::ImageNotAllowed, FIELD, image, "content.agent.images.allowed_images", message);
            }
        }
        if self.require_digest && !image::is_pinned(image) {
            let message =
                || format!("the image {} is not named by its digest; expected name@sha256:<64 hex>", quoted(image));
            report.add(Rule::ImageNotPinned, FIELD, image, "content.agent.images.require_digest", message);
        }
    }
}
