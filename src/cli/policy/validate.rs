//! `sekuire policy validate`: what the controller would say.

use std::path::{Path, PathBuf};

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;

use crate::cli::cluster::{ClusterArgs, LazyCluster};
use crate::cli::output::{Output, columns};
use crate::cli::terminal::Style;
use crate::cli::trust::TrustArgs;
use crate::cli::{Outcome, Usage, complain, files, time};
use crate::policy::{Document, KeyRing, MAX_DOCUMENT_BYTES, Reason, Refusal, verify};

/// Verify policy documents as the controller does: form, key, hash, both signatures, expiry.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  sekuire policy validate --file policies/payments.json --trust keys/
  sekuire policy validate --file policies/*.yaml --trust keys/platform.yaml --output json
  sekuire policy validate --file next.json --trust keys/ --now 2027-01-01T00:00:00Z

JSON: a list, one object a file, with file, result (Verified or the reason) and message.")]
pub(in crate::cli) struct Validate {
    /// Documents to verify: *.json, *.yaml, *.yml. Can be given several times.
    #[arg(long = "file", value_name = "FILE", num_args = 1.., required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    trust: TrustArgs,
    #[command(flatten)]
    cluster: ClusterArgs,
    /// The time to verify at, as in RFC 3339. Default: now.
    #[arg(long, value_name = "TIME", value_parser = time)]
    now: Option<Timestamp>,
    #[command(flatten)]
    output: Output,
}

/// The verdict on one file.
#[derive(Serialize)]
struct Verdict {
    file: String,
    result: Reason,
    message: String,
}

impl Validate {
    pub(in crate::cli) fn run(self) -> anyhow::Result<Outcome> {
        let cluster = LazyCluster::new(&self.cluster);
        let keys = self.trust.ring(|| cluster.get())?;
        let now = self.now.unwrap_or_else(Timestamp::now);
        let mut outcome = Outcome::Fine;
        let mut verdicts = Vec::new();
        for file in &self.files {
            match judge(file, &keys, now) {
                Ok(verdict) => {
                    if verdict.result != Reason::Verified {
                        outcome = outcome.max(Outcome::Refused);
                    }
                    verdicts.push(verdict);
                }
                Err(e) if e.is::<Usage>() => return Err(e),
                Err(e) => {
                    complain(&format!("{e:#}"));
                    outcome = Outcome::Unknown;
                }
            }
        }
        self.output.print(&verdicts, |style| table(&verdicts, style))?;
        Ok(outcome)
    }
}

fn judge(file: &Path, keys: &KeyRing, now: Timestamp) -> anyhow::Result<Verdict> {
    let format = files::format(file)?;
    let bytes = files::read(file, MAX_DOCUMENT_BYTES)?;
    let verified =
        Document::parse(&bytes, format).map_err(Refusal::from).and_then(|document| verify(document, keys, now));
    let (result, message) = match verified {
        Ok(policy) => {
            let (id, version, status) = (policy.policy_id(), policy.version(), policy.status());
            let (workspace, key) = (policy.workspace_id(), policy.signing_key_id());
            (Reason::Verified, format!("{id} version {version} of {workspace}, {status}, signed by {key}"))
        }
        Err(refusal) => (refusal.reason, refusal.message),
    };
    Ok(Verdict { file: file.display().to_string(), result, message })
}

fn table(verdicts: &[Verdict], style: Style) -> String {
    let rows = verdicts.iter().map(|v| [v.file.clone(), v.result.as_str().to_owned(), v.message.clone()]);
    let rows: Vec<[String; 3]> = rows.collect();
    let marks = verdicts.iter().map(|verdict| style.mark(verdict.result == Reason::Verified));
    columns(&rows).lines().zip(marks).fold(String::new(), |text, (line, mark)| text + &format!("{mark} {line}\n"))
}
