//! `sekuire policy show`: a document for people.

use std::fmt::Write as _;

use clap::Args;
use serde::Serialize;

use crate::cli::cluster::LazyCluster;
use crate::cli::documents::{DocumentArgs, Judged, find, judge, warn_of_ends};
use crate::cli::output::Output;
use crate::cli::source::Source;
use crate::cli::terminal::Style;
use crate::cli::trust::JudgeArgs;
use crate::cli::{Outcome, complain};
use crate::git::one_line;
use crate::policy::Reason;
use crate::policy::summary::{Statement, describe};

/// Show policy documents: whose they are, who signed them, whether that verifies, and each rule in words.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  sekuire policy show policies/payments.json --trust keys/
  sekuire policy show --file policies/payments.json
  sekuire policy show main:policies/payments.json cluster:ws_payments
  sekuire policy show policies/*.yaml --output json

Here --trust has no default: without it, and without --kubeconfig or --context, nothing is verified, and the output says
so. Exit code 1: a document was refused.
JSON: a list, one object a document, with file, the document's own members (policy_id, workspace_id, version, status,
signing_key_id, hash and its times), digest, verification {result, message} and rules [{group, path, text}].")]
pub(in crate::cli) struct Show {
    #[command(flatten)]
    documents: DocumentArgs,
    #[command(flatten)]
    by: JudgeArgs,
    #[command(flatten)]
    output: Output,
}

/// One document, as it is printed.
#[derive(Serialize)]
struct Shown {
    file: String,
    #[serde(flatten)]
    members: serde_json::Map<String, serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    verification: Verification,
    rules: Vec<Statement>,
}

#[derive(Serialize)]
struct Verification {
    result: Option<Reason>,
    message: String,
}

/// The members of a document that are shown as they are.
const MEMBERS: [&str; 10] = [
    "policy_id",
    "workspace_id",
    "version",
    "status",
    "signing_key_id",
    "hash",
    "created_at",
    "updated_at",
    "activated_at",
    "expires_at",
];

impl Show {
    pub(in crate::cli) fn run(self) -> anyhow::Result<Outcome> {
        let sources = self.documents.sources()?;
        let now = self.by.now();
        let cluster = LazyCluster::new(&self.by.cluster);
        let of_cluster = sources.iter().any(|source| matches!(source, Source::Cluster { .. }));
        let verifies = self.by.trust.is_given() || self.by.cluster.is_given() || of_cluster;
        let keys = verifies.then(|| self.by.trust.ring(|| cluster.get())).transpose()?;
        let mut outcome = Outcome::Fine;
        let found = find(&sources, &cluster, now, |e| {
            complain(&format!("{e:#}"));
            outcome = Outcome::Unknown;
        })?;
        let judged = judge(&found, keys.as_ref(), now);
        warn_of_ends(judged.iter().filter_map(Judged::policy), now);
        let shown: Vec<Shown> = judged.iter().map(Shown::of).collect();
        let refused = judged
            .iter()
            .any(|judged| judged.value.is_err() || judged.result().is_some_and(|result| result != Reason::Verified));
        if refused {
            outcome = outcome.max(Outcome::Refused);
        }
        self.output
            .print(&shown, |style| shown.iter().map(|shown| shown.text(style)).collect::<Vec<_>>().join("\n"))?;
        Ok(outcome)
    }
}

impl Shown {
    fn of(judged: &Judged) -> Shown {
        let message = match (&judged.verdict, &judged.value) {
            (Some(Ok(_)), _) => "hash, both signatures, key and validity hold".to_owned(),
            (Some(Err(refusal)), _) => refusal.message.clone(),
            (None, Err(fault)) => fault.to_string(),
            (None, Ok(_)) => "not verified: no trusted keys were named (--trust, or a cluster's: --context)".to_owned(),
        };
        let malformed = judged.value.is_err().then_some(Reason::Malformed);
        let value = judged.value.as_ref().ok();
        let member = |name: &&str| Some(((*name).to_owned(), value?.get(*name)?.clone()));
        Shown {
            file: judged.name.clone(),
            members: MEMBERS.iter().filter_map(member).collect(),
            digest: judged.digest.clone(),
            verification: Verification { result: judged.result().or(malformed), message },
            rules: value.map(|value| describe(&value["content"])).unwrap_or_default(),
        }
    }

    fn text(&self, style: Style) -> String {
        let mut text = format!("{}\n", style.strong(&one_line(&self.file)));
        let member = |name: &str| self.members.get(name).and_then(serde_json::Value::as_str);
        let mut line = |name: &str, value: &str| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "  {name:<11} {value}");
        };
        let verification = &self.verification;
        let verdict = match verification.result {
            Some(Reason::Verified) => format!("{} {}", style.mark(true), Reason::Verified),
            Some(reason) => {
                format!("{} {}: {}", style.mark(false), style.bad(reason.as_str()), one_line(&verification.message))
            }
            None => style.doubtful(&verification.message),
        };
        if let (Some(id), Some(version), Some(status)) = (member("policy_id"), member("version"), member("status")) {
            line("policy", &format!("{id} version {version}, {status}"));
        }
        for (name, of) in [("workspace", "workspace_id"), ("key", "signing_key_id")] {
            if let Some(value) = member(of) {
                line(name, value);
            }
        }
        line("verified", &verdict);
        for name in ["created_at", "updated_at", "activated_at", "expires_at"] {
            if let Some(value) = member(name) {
                line(name.trim_end_matches("_at"), value);
            }
        }
        for (name, value) in [("hash", member("hash")), ("digest", self.digest.as_deref())] {
            if let Some(value) = value {
                line(name, &style.faint(value));
            }
        }
        if member("policy_id").is_some() {
            line("rules", if self.rules.is_empty() { "none: everything is allowed" } else { "" });
        }
        let mut group = "";
        for rule in &self.rules {
            let name = if rule.group == group { "" } else { rule.group };
            group = rule.group;
            let _ = writeln!(text, "    {name:<11} {}", rule.text);
        }
        text.lines().map(|line| format!("{}\n", line.trim_end())).collect()
    }
}
