//! How a namespace asks to be enforced, and what becomes of an agent after the decision on it. Pure.
//!
//! There is one decision, whatever the mode: a mode only says what follows from a refusal. It is the label
//! `sekuire.ai/enforcement` of the namespace, and counts where others than the platform team cannot set it
//! ([`super::label_policy`]). Anything unknown enforces.

use std::sync::Arc;

use super::break_glass::Open;
use crate::api::ENFORCEMENT_LABEL;
use crate::policy::Decision;

/// What follows from the decision that an agent breaks rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// It is refused.
    #[default]
    Enforce,
    /// It is admitted, and whoever sent it is warned.
    Warn,
    /// It is admitted, counted, logged and noted in the audit log; whoever sent it hears nothing.
    Audit,
}

impl Mode {
    /// All modes.
    pub const ALL: [Mode; 3] = [Mode::Enforce, Mode::Warn, Mode::Audit];

    /// The value of the label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Enforce => "enforce",
            Mode::Warn => "warn",
            Mode::Audit => "audit",
        }
    }
}

/// The label `sekuire.ai/enforcement` of a namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Label {
    /// There is none: enforced.
    #[default]
    Absent,
    /// It names a mode.
    Known(Mode),
    /// It names none: enforced.
    Unknown(Arc<str>),
}

impl Label {
    /// Reads the value of the label.
    #[must_use]
    pub fn read(value: Option<&str>) -> Label {
        let known = |value: &str| Mode::ALL.into_iter().find(|mode| mode.as_str() == value);
        match value {
            None => Label::Absent,
            Some(value) => known(value).map_or_else(|| Label::Unknown(value.into()), Label::Known),
        }
    }

    /// The mode that is asked for.
    #[must_use]
    pub fn mode(&self) -> Mode {
        match self {
            Label::Known(mode) => *mode,
            Label::Absent | Label::Unknown(_) => Mode::Enforce,
        }
    }
}

/// What becomes of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It complies.
    Admitted,
    /// It does not, and is refused. What else the caller should know of how that came about.
    Refused(Vec<String>),
    /// It does not, and is admitted all the same.
    Spared(Spared),
}

/// Why an agent is admitted that does not comply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spared {
    /// Its namespace is labelled `warn`.
    Warn,
    /// Its namespace is labelled `audit`.
    Audit,
    /// Enforcement is stopped.
    BreakGlass(Open),
}

impl Spared {
    /// The name of it in logs, metrics and the audit log.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Spared::Warn => Mode::Warn.as_str(),
            Spared::Audit => Mode::Audit.as_str(),
            Spared::BreakGlass(_) => "break-glass",
        }
    }
}

impl Verdict {
    /// What follows from a decision in a namespace of this label. `protected`: whether the label is, or why not; asked only
    /// where it matters. `glass`: how enforcement is stopped, if it is.
    #[must_use]
    pub fn of(
        decision: &Decision,
        label: &Label,
        protected: impl FnOnce() -> Result<(), String>,
        glass: impl FnOnce() -> Option<Open>,
    ) -> Verdict {
        if decision.allowed {
            return Verdict::Admitted;
        }
        if let Some(open) = glass() {
            return Verdict::Spared(Spared::BreakGlass(open));
        }
        let (spared, mode) = match label {
            Label::Absent | Label::Known(Mode::Enforce) => return Verdict::Refused(Vec::new()),
            Label::Unknown(value) => {
                let accepted = Mode::ALL.map(Mode::as_str).join(", ");
                return Verdict::Refused(vec![format!(
                    "The namespace's label {ENFORCEMENT_LABEL} is {value:?}, which is none of {accepted}: rules are enforced."
                )]);
            }
            Label::Known(Mode::Warn) => (Spared::Warn, Mode::Warn.as_str()),
            Label::Known(Mode::Audit) => (Spared::Audit, Mode::Audit.as_str()),
        };
        let labelled = format!("The namespace is labelled {ENFORCEMENT_LABEL}: {mode}");
        if always_enforced(decision) {
            return Verdict::Refused(vec![format!("{labelled}; workspace.* and policy.* are enforced all the same.")]);
        }
        match protected() {
            Ok(()) => Verdict::Spared(spared),
            Err(why) => Verdict::Refused(vec![format!("{labelled}, but such labels are not obeyed: {why}.")]),
        }
    }
}

/// Whether a decision has a violation that no mode spares: nobody knows whose agent it is, or there is no policy that it
/// could be held to.
#[must_use]
pub fn always_enforced(decision: &Decision) -> bool {
    let always = |rule: &str| rule.starts_with("workspace.") || rule.starts_with("policy.");
    decision.violations.iter().any(|violation| always(violation.rule))
}

#[cfg(test)]
#[path = "mode_tests.rs"]
mod tests;
