//! `sekuire policy validate`: what the controller would say.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;

use crate::admission::index::Enforced;
use crate::cli::agent::{self, decide_on, tell_faults};
use crate::cli::agents::{self, Agents};
use crate::cli::cluster::LazyCluster;
use crate::cli::documents::{DocumentArgs, Judged, find, judge, warn_of_ends};
use crate::cli::output::Output;
use crate::cli::terminal::Style;
use crate::cli::trust::JudgeArgs;
use crate::cli::{Outcome, complain, warn};
use crate::git::one_line;
use crate::policy::{Advice, Check, Reason, Refusal, Status, VerifiedPolicy, advise};

/// Verify policy documents as the controller does: form, key, hash, both signatures, expiry. With --agent, decide on
/// agents by each policy that is active and verified.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  sekuire policy validate --file policies/payments.json --trust keys/
  sekuire policy validate policies/*.yaml --trust keys/platform.yaml --output json
  sekuire policy validate main:policies/payments.json cluster:ws_payments
  sekuire policy validate policies/payments.json --trust keys/ --agent agents/payments/
  sekuire policy validate next.json --trust keys/ --now 2027-01-01T00:00:00Z

Exit code 1: a document or an agent is refused, or a file holds no valid Agent.
JSON: a list, one object a document, with file, result (Verified or the reason), message and checks [{check, result}], the
result being passed, failed or not_reached; where something deserves a second look, advice [{kind, path, text}]; with --agent also decisions, as `sekuire agent check` prints them, or null
where the document is not active and verified.")]
pub(in crate::cli) struct Validate {
    #[command(flatten)]
    documents: DocumentArgs,
    /// Agents to decide on: manifests, folders of such, a vendor's sekuire.yml, or - for standard input. Can be given
    /// several times.
    #[arg(long = "agent", value_name = "FILE")]
    agents: Vec<PathBuf>,
    #[command(flatten)]
    by: JudgeArgs,
    #[command(flatten)]
    output: Output,
}

/// The verdict on one document.
#[derive(Serialize)]
struct Verdict {
    file: String,
    result: Reason,
    message: String,
    checks: Vec<Checked>,
    /// What deserves a second look, and is no fault.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    advice: Vec<Advice>,
    /// None: there were no agents to decide on. None within: the document does not decide.
    #[serde(skip_serializing_if = "Option::is_none")]
    decisions: Option<Option<Vec<agent::Verdict>>>,
}

#[derive(Serialize)]
struct Checked {
    check: Check,
    result: CheckResult,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum CheckResult {
    Passed,
    Failed,
    NotReached,
}

impl Validate {
    pub(in crate::cli) fn run(self) -> anyhow::Result<Outcome> {
        let sources = self.documents.sources()?;
        let cluster = LazyCluster::new(&self.by.cluster);
        let keys = self.by.trust.ring(|| cluster.get())?;
        let now = self.by.now();
        let agents = if self.agents.is_empty() { None } else { Some(agents::load(&self.agents)?) };
        let mut outcome = agents.as_ref().map_or(Outcome::Fine, tell_faults);
        let found = find(&sources, &cluster, now, |e| {
            complain(&format!("{e:#}"));
            outcome = Outcome::Unknown;
        })?;
        let judged = judge(&found, Some(&keys), now);
        warn_of_ends(judged.iter().filter_map(Judged::policy), now);
        let verdicts: Vec<Verdict> =
            judged.into_iter().filter_map(|judged| Verdict::of(judged, agents.as_ref(), now)).collect();
        if !verdicts.iter().all(Verdict::is_good) {
            outcome = outcome.max(Outcome::Refused);
        }
        for (verdict, advice) in
            verdicts.iter().flat_map(|verdict| verdict.advice.iter().map(move |one| (verdict, one)))
        {
            warn(&format!("{}: {}: {}", one_line(&verdict.file), advice.path, advice.text));
        }
        self.output.print(&verdicts, |style| {
            let one = sources.len() == 1;
            verdicts.iter().map(|verdict| verdict.text(one, style)).collect()
        })?;
        Ok(outcome)
    }
}

/// What became of each check.
fn checks(verdict: Result<&VerifiedPolicy, &Refusal>) -> Vec<Checked> {
    let failed = verdict.err().map(|refusal| Check::of(refusal.reason).unwrap_or(Check::Form));
    let result = |check: Check| match failed {
        Some(failed) if check == failed => CheckResult::Failed,
        Some(failed) if check > failed => CheckResult::NotReached,
        _ => CheckResult::Passed,
    };
    Check::ALL.into_iter().map(|check| Checked { check, result: result(check) }).collect()
}

impl Verdict {
    fn of(judged: Judged, agents: Option<&Agents>, now: Timestamp) -> Option<Verdict> {
        let advice = judged.value.as_ref().map(|value| advise(&value["content"])).unwrap_or_default();
        let verdict = judged.verdict?;
        let checks = checks(verdict.as_ref());
        let (result, message) = match &verdict {
            Ok(policy) => {
                let (id, version, status) = (policy.policy_id(), policy.version(), policy.status());
                let (workspace, key) = (policy.workspace_id(), policy.signing_key_id());
                (Reason::Verified, format!("{id} version {version} of {workspace}, {status}, signed by {key}"))
            }
            Err(refusal) => (refusal.reason, refusal.message.clone()),
        };
        let active = verdict.ok().filter(|policy| policy.status() == Status::Active);
        let decisions = agents.map(|agents| active.map(|policy| decide(policy, agents, now)));
        Some(Verdict { file: judged.name, result, message, checks, advice, decisions })
    }

    /// Whether the document is verified, and no agent refused by it.
    fn is_good(&self) -> bool {
        let decisions = self.decisions.iter().flatten().flatten();
        self.result == Reason::Verified && decisions.into_iter().all(|verdict| verdict.decision.allowed)
    }

    /// The result in a line; below it the checks, unless the document is one of several and all of them passed.
    fn text(&self, one: bool, style: Style) -> String {
        let verified = self.result == Reason::Verified;
        let result = if verified { style.good(self.result.as_str()) } else { style.bad(self.result.as_str()) };
        let (file, message) = (one_line(&self.file), one_line(&self.message));
        let mut text = format!("{} {}  {result}: {message}\n", style.mark(verified), style.strong(&file));
        for Checked { check, result } in self.checks.iter().filter(|_| one || !verified) {
            let mark = match result {
                CheckResult::NotReached => style.faint("–"),
                result => style.mark(*result == CheckResult::Passed),
            };
            // Writing to a string cannot fail.
            let _ = writeln!(text, "    {mark} {}", check.as_str());
        }
        match &self.decisions {
            None => {}
            Some(Some(decisions)) => {
                text += &format!("  agents held against {file}:\n");
                for line in agent::table(decisions, style).lines() {
                    text += &format!("  {line}\n");
                }
            }
            Some(None) => {
                let why = if verified { "not active" } else { "refused" };
                text += &format!("  {}\n", style.doubtful(&format!("no agent was decided on: the policy is {why}")));
            }
        }
        text
    }
}

/// Decides on agents as if this policy were enforced.
fn decide(policy: VerifiedPolicy, agents: &Agents, now: Timestamp) -> Vec<agent::Verdict> {
    let workspace = policy.workspace_id().to_owned();
    let enforced = Enforced::Policy { policy: Arc::new(policy), source: None };
    let of = |agent: &agents::NamedAgent| {
        let namespace = agent.namespace.as_deref().unwrap_or("default");
        decide_on(agent, namespace, Some(&workspace), &enforced, now)
    };
    agents.agents.iter().map(of).collect()
}
