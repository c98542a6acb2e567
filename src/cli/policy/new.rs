//! `sekuire policy new`: a first document.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::edit::now;
use crate::cli::{Outcome, Usage, emit, files, note};
use crate::policy::document::parse_unsigned;
use crate::policy::{Format, Version};

/// Write a new policy document: a skeleton with every rule, to be edited and signed.
///
/// As YAML it explains each rule in a comment. Nothing is overwritten.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  sekuire policy new --workspace ws_payments --out policies/payments.yaml
  sekuire policy new --workspace ws_payments --policy-id policy_pay --format json > policies/payments.json")]
pub(in crate::cli) struct New {
    /// Id of the workspace that the policy is for.
    #[arg(long, value_name = "ID")]
    workspace: String,
    /// Id of the policy; it stays the same from version to version. Default: policy_ and the workspace, without its ws_.
    #[arg(long, value_name = "ID")]
    policy_id: Option<String>,
    /// Its first version.
    #[arg(long, value_name = "VERSION", default_value = "1", value_parser = super::edit::version)]
    version: Version,
    /// Write a draft, which is verified and never enforced, until `sekuire policy activate`.
    #[arg(long)]
    draft: bool,
    /// Form of the document. Default: by the name of --out, else yaml.
    #[arg(long, value_enum)]
    format: Option<Form>,
    /// File to write. Default: standard output.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    Json,
    Yaml,
}

/// The skeleton, in the order in which people read it. What starts with `#?` is a comment in YAML only.
const SKELETON: &str = include_str!("skeleton.yaml");

impl New {
    pub(in crate::cli) fn run(self) -> anyhow::Result<Outcome> {
        let by_name = self.out.as_deref().map(files::format).transpose()?;
        let format = match (self.format, by_name) {
            (Some(form), Some(named)) if (form == Form::Json) != (named == Format::Json) => {
                return Err(Usage("--format is not the form that the name of --out says".to_owned()).into());
            }
            (Some(Form::Json), _) | (None, Some(Format::Json)) => Format::Json,
            _ => Format::Yaml,
        };
        let text = self.text(format)?;
        let Some(out) = &self.out else {
            emit(&text)?;
            return Ok(Outcome::Fine);
        };
        files::create(out, &text, 0o644)?;
        let shown = out.display();
        note(&format!("wrote {shown}\nNext:\n  edit its rules\n  sekuire policy sign {shown} --key KEY"));
        Ok(Outcome::Fine)
    }

    fn text(&self, format: Format) -> anyhow::Result<String> {
        let policy_id = match &self.policy_id {
            Some(id) => id.clone(),
            None => format!("policy_{}", self.workspace.strip_prefix("ws_").unwrap_or(&self.workspace)),
        };
        let status = if self.draft { "draft" } else { "active" };
        let yaml = SKELETON
            .replace("{policy_id}", &policy_id)
            .replace("{workspace}", &self.workspace)
            .replace("{version}", &self.version.to_string())
            .replace("{status}", status)
            .replace("{now}", &now());
        let value = parse_unsigned(yaml.as_bytes(), Format::Yaml)
            .map_err(|fault| Usage(format!("{}: {}", fault.path, fault.message)))?;
        if value["workspace_id"] != *self.workspace || value["policy_id"] != *policy_id {
            return Err(
                Usage("--workspace and --policy-id take ids: letters, digits, '.', '_' and '-'".to_owned()).into()
            );
        }
        Ok(match format {
            Format::Yaml => yaml,
            Format::Json => format!("{value:#}\n"),
        })
    }
}
