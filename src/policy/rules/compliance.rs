//! `content.compliance`: what an agent's owner has to declare. What is absent is never true.

use super::models::models;
use super::{Report, Rule, Section};
use crate::policy::agent::{AgentSpec, Compliance, Encryption};
use crate::policy::words::quoted;

#[derive(Debug)]
pub(super) struct Rules {
    frameworks: Box<[Box<str>]>,
    audit_logging: bool,
    encryption: bool,
    residency: Option<Box<str>>,
    retention_days: Option<u64>,
}

impl Rules {
    pub(super) fn compile(section: Section<'_>) -> Rules {
        Rules {
            frameworks: section.texts("frameworks").unwrap_or_default(),
            audit_logging: section.flag("require_audit_logging"),
            encryption: section.flag("require_encryption"),
            residency: section.get("data_residency").and_then(|v| v.as_str()).map(Into::into),
            retention_days: section.count("retention_days"),
        }
    }

    pub(super) fn judge(&self, agent: &AgentSpec, report: &mut Report) {
        let declared = agent.compliance.as_ref();
        self.frameworks(declared.map_or(&[], |d| &d.frameworks), report);
        self.audit_logging(declared, report);
        self.encryption(declared.and_then(|d| d.encryption.as_ref()), report);
        self.residency(agent, report);
        self.retention(declared.and_then(|d| d.retention_days), report);
    }

    fn frameworks(&self, declared: &[String], report: &mut Report) {
        for (i, required) in self.frameworks.iter().enumerate() {
            if declared.iter().any(|d| d.eq_ignore_ascii_case(required)) {
                continue;
            }
            let message = || format!("the framework {} is required, but not declared", quoted(required));
            let value = declared.join(", ");
            let path = format_args!("content.compliance.frameworks[{i}]");
            report.add(Rule::FrameworkMissing, "spec.compliance.frameworks", value, path, message);
        }
    }

    fn audit_logging(&self, declared: Option<&Compliance>, report: &mut Report) {
        let declared = declared.and_then(|d| d.audit_logging);
        if !self.audit_logging || declared == Some(true) {
            return;
        }
        report.add(
            Rule::AuditLoggingRequired,
            "spec.compliance.auditLogging",
            shown(declared),
            "content.compliance.require_audit_logging",
            || "audit logging is required; declare auditLogging: true if it is so".to_owned(),
        );
    }

    fn encryption(&self, declared: Option<&Encryption>, report: &mut Report) {
        if !self.encryption {
            return;
        }
        let halves = [
            ("atRest", "stored data", declared.and_then(|d| d.at_rest)),
            ("inTransit", "data on its way", declared.and_then(|d| d.in_transit)),
        ];
        for (name, what, declared) in halves {
            if declared == Some(true) {
                continue;
            }
            report.add(
                Rule::EncryptionRequired,
                format_args!("spec.compliance.encryption.{name}"),
                shown(declared),
                "content.compliance.require_encryption",
                || format!("encryption of {what} is required; declare {name}: true if it is so"),
            );
        }
    }

    fn residency(&self, agent: &AgentSpec, report: &mut Report) {
        let Some(required) = self.residency.as_deref() else { return };
        let path = "content.compliance.data_residency";
        let declared = agent.compliance.as_ref().map_or(&[][..], |d| &d.data_residency);
        if declared.is_empty() {
            let message = || {
                format!(
                    "data has to stay in {0}, but no region is declared; declare {0} or one of its regions",
                    quoted(required)
                )
            };
            report.add(Rule::ResidencyViolation, "spec.compliance.dataResidency", "", path, message);
        }
        let elsewhere = |region: &str| {
            format!("the region {} is outside {}; expected it or a region of it", quoted(region), quoted(required))
        };
        for (i, region) in declared.iter().enumerate().filter(|(_, region)| !is_within(region, required)) {
            let field = format_args!("spec.compliance.dataResidency[{i}]");
            report.add(Rule::ResidencyViolation, field, region, path, || elsewhere(region));
        }
        for (place, model) in models(agent) {
            if let Some(region) = model.region.as_deref().filter(|region| !is_within(region, required)) {
                let field = format_args!("{place}.region");
                report.add(Rule::ResidencyViolation, field, region, path, || elsewhere(region));
            }
        }
    }

    fn retention(&self, declared: Option<u64>, report: &mut Report) {
        let Some(required) = self.retention_days else { return };
        if declared.is_some_and(|days| days >= required) {
            return;
        }
        let message = || match declared {
            Some(days) => format!("records are kept for {days} days; expected {required} or more"),
            None => format!("it is not declared for how long records are kept; expected {required} days or more"),
        };
        let value = declared.map(|days| days.to_string()).unwrap_or_default();
        let path = "content.compliance.retention_days";
        report.add(Rule::RetentionTooShort, "spec.compliance.retentionDays", value, path, message);
    }
}

fn shown(declared: Option<bool>) -> &'static str {
    match declared {
        Some(true) => "true",
        Some(false) => "false",
        None => "",
    }
}

/// Whether a region is the required one, or begins with it and a hyphen.
fn is_within(region: &str, required: &str) -> bool {
    let (region, required) = (region.as_bytes(), required.as_bytes());
    region
        .split_at_checked(required.len())
        .is_some_and(|(head, rest)| head.eq_ignore_ascii_case(required) && (rest.is_empty() || rest.starts_with(b"-")))
}
