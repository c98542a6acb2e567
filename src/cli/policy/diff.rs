//! `sekuire policy diff`: two versions' rules, in words.

use std::fmt::Write as _;

use anyhow::anyhow;
use clap::Args;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::cli::cluster::{ClusterArgs, LazyCluster};
use crate::cli::output::Output;
use crate::cli::source::Source;
use crate::cli::terminal::Style;
use crate::cli::{Outcome, note};
use crate::git::one_line;
use crate::policy::document::parse_unsigned;
use crate::policy::summary::{Changes, Statement, changes};

/// Say what a version of a policy newly forbids and newly allows.
///
/// Neither has to be signed. To see whether a document verifies, use `sekuire policy show` or `validate`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  sekuire policy diff main:policies/payments.json policies/payments.json
  sekuire policy diff cluster:ws_payments policies/payments.json
  sekuire policy diff HEAD~1:policies/a.yaml HEAD:policies/a.yaml --output json

JSON: {from, to, document: [{member, from, to}], newly_forbidden, newly_allowed, changed}, the last three lists of
{group, path, text}.")]
pub(in crate::cli) struct Diff {
    /// The old version: a file, REV:PATH, or cluster:WORKSPACE.
    #[arg(value_name = "OLD")]
    from: Source,
    /// The new version.
    #[arg(value_name = "NEW")]
    to: Source,
    /// End with exit code 1 when they differ.
    #[arg(long)]
    exit_code: bool,
    #[command(flatten)]
    cluster: ClusterArgs,
    #[command(flatten)]
    output: Output,
}

#[derive(Serialize)]
struct Difference {
    from: String,
    to: String,
    document: Vec<Member>,
    #[serde(flatten)]
    rules: Changes,
}

/// A member beside the content that differs.
#[derive(Serialize)]
struct Member {
    member: &'static str,
    from: Option<String>,
    to: Option<String>,
}

const MEMBERS: [&str; 6] = ["policy_id", "workspace_id", "version", "status", "signing_key_id", "expires_at"];

impl Diff {
    pub(in crate::cli) fn run(self) -> anyhow::Result<Outcome> {
        let cluster = LazyCluster::new(&self.cluster);
        let now = Timestamp::now();
        let load = |source: &Source| {
            let found = source.find(|| cluster.get(), now)?;
            parse_unsigned(&found.bytes, found.format).map_err(|fault| anyhow!("{source} is no policy: {fault}"))
        };
        let (old, new) = (load(&self.from)?, load(&self.to)?);
        for (source, value) in [(&self.from, &old), (&self.to, &new)] {
            if let Some(status) = value["status"].as_str().filter(|status| *status != "active") {
                note(&format!("{source} is {status}: its rules are not enforced"));
            }
        }
        let difference = Difference {
            from: self.from.to_string(),
            to: self.to.to_string(),
            document: MEMBERS.into_iter().filter_map(|name| Member::of(name, &old, &new)).collect(),
            rules: changes(&old["content"], &new["content"]),
        };
        self.output.print(&difference, |style| difference.text(style))?;
        let differ = !difference.document.is_empty() || !difference.rules.is_empty();
        Ok(if differ && self.exit_code { Outcome::Refused } else { Outcome::Fine })
    }
}

impl Member {
    fn of(member: &'static str, old: &Value, new: &Value) -> Option<Member> {
        let text = |value: &Value| value.get(member).and_then(Value::as_str).map(str::to_owned);
        let (from, to) = (text(old), text(new));
        (from != to).then_some(Member { member, from, to })
    }
}

impl Difference {
    fn text(&self, style: Style) -> String {
        let mut text = format!("{} → {}\n", one_line(&self.from), one_line(&self.to));
        for Member { member, from, to } in &self.document {
            let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
            // Writing to a string cannot fail.
            let _ = writeln!(text, "  {member}: {} → {}", shown(from), shown(to));
        }
        let rules = &self.rules;
        section(&mut text, &style.bad("newly forbidden"), "-", &rules.newly_forbidden);
        section(&mut text, &style.good("newly allowed"), "+", &rules.newly_allowed);
        section(&mut text, &style.doubtful("otherwise changed"), "~", &rules.changed);
        if rules.is_empty() {
            text.push_str("The rules are the same.\n");
        }
        text
    }
}

fn section(text: &mut String, title: &str, sign: &str, statements: &[Statement]) {
    if statements.is_empty() {
        return;
    }
    let _ = writeln!(text, "{title}:");
    for Statement { group, text: words, path } in statements {
        let _ = writeln!(text, "  {sign} {group}: {words}  ({path})");
    }
}
