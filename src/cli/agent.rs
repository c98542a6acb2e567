//! `sekuire agent`: agents, held against policies.

use std::path::PathBuf;

use anyhow::bail;
use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde::Serialize;

use super::agents::{self, Agents, NamedAgent};
use super::cluster::{ClusterArgs, LazyCluster};
use super::output::counted;
use super::source::Source;
use super::terminal::Style;
use super::trust::TrustArgs;
use super::{Outcome, Usage, complain};
use crate::admission::index::Enforced;
use crate::admission::mode::{Label, Mode, always_enforced};
use crate::api::ENFORCEMENT_LABEL;
use crate::git::one_line;
use crate::policy::{Decision, Document, KeyRing, Status, Subject, VerifiedPolicy, decide, rehearse, verify};

mod check;
mod expect;
mod push;

/// Agents: see whether they comply, and bring them into the cluster.
#[derive(Subcommand, Debug)]
pub(super) enum Agent {
    Check(check::Check),
    Push(push::Push),
}

impl Agent {
    pub(super) fn run(self) -> anyhow::Result<Outcome> {
        match self {
            Agent::Check(command) => command.run(),
            Agent::Push(command) => command.run(),
        }
    }
}

/// A decision on one agent, as it is printed.
#[derive(Serialize)]
pub(super) struct Verdict {
    pub(super) name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) namespace: Option<String>,
    pub(super) file: String,
    /// What its namespace asks for in the place of a refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) enforcement: Option<&'static str>,
    #[serde(flatten)]
    pub(super) decision: Decision,
}

/// Decides on an agent as at admission, in a namespace of this workspace.
pub(super) fn decide_on(
    agent: &NamedAgent,
    namespace: &str,
    workspace: Option<&str>,
    enforced: &Enforced,
    now: Timestamp,
) -> Verdict {
    let subject = Subject { namespace, workspace };
    Verdict::new(agent, decide(&subject, enforced.borrowed(), &agent.spec, now))
}

impl Verdict {
    fn new(agent: &NamedAgent, decision: Decision) -> Verdict {
        let (name, namespace, file) = (agent.name.clone(), agent.namespace.clone(), agent.file.clone());
        Verdict { name, namespace, file, enforcement: None, decision }
    }

    /// The same in a namespace of this label, which may spare the agent. Whether it does is for the cluster to say: there
    /// alone it is known whether such labels are obeyed.
    pub(super) fn labelled(mut self, label: &Label) -> Verdict {
        self.enforcement = match label.mode() {
            Mode::Enforce => None,
            mode => Some(mode.as_str()),
        };
        self
    }

    /// Whether its namespace may spare it.
    pub(super) fn may_be_spared(&self) -> bool {
        self.enforcement.is_some() && !self.decision.allowed && !always_enforced(&self.decision)
    }
}

/// Says what cannot be read as an agent; that is not compliant either.
pub(super) fn tell_faults(found: &Agents) -> Outcome {
    found.faults.iter().for_each(|fault| complain(&one_line(&fault.message)));
    if found.faults.is_empty() { Outcome::Fine } else { Outcome::Refused }
}

/// The verdicts for people, with their number.
pub(super) fn table(verdicts: &[Verdict], style: Style) -> String {
    let refused = verdicts.iter().filter(|verdict| !verdict.decision.allowed).count();
    rows(verdicts, style) + &format!("{}, {refused} refused\n", counted(verdicts.len(), "agent"))
}

/// The verdicts for people.
pub(super) fn rows(verdicts: &[Verdict], style: Style) -> String {
    let mut text = String::new();
    for verdict in verdicts {
        let Verdict { name, namespace, file, enforcement, decision } = verdict;
        let place = namespace.as_ref().map(|namespace| format!("{namespace}/")).unwrap_or_default();
        let mark = style.mark(decision.allowed);
        let (name, file) = (one_line(name), one_line(file));
        text += &format!("{mark} {}{}  {}\n", one_line(&place), style.strong(&name), style.faint(&file));
        for violation in &decision.violations {
            let value = match violation.value.as_str() {
                "" => String::new(),
                value if violation.message.contains(value) => String::new(),
                value => format!(" is {value:?}"),
            };
            let message = one_line(&violation.message);
            text += &format!("    {}{value}: {message} [{}]\n", one_line(&violation.field), style.bad(violation.rule));
        }
        if decision.omitted > 0 {
            text += &format!("    and {} more\n", decision.omitted);
        }
        if let Some(mode) = enforcement.filter(|_| verdict.may_be_spared()) {
            let label = format!("{ENFORCEMENT_LABEL}: {mode}");
            text += &format!("    its namespace is labelled {label}; where such labels are obeyed, it is admitted\n");
        }
    }
    text
}
