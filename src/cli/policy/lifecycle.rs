//! `sekuire policy activate`, `archive` and `revert`: each publishes a new version.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value;

use super::edit::{EditArgs, Failure, ended, now, raise, set, text, version};
use crate::cli::Outcome;
use crate::cli::checkout::Checkout;
use crate::policy::document::parse_unsigned;
use crate::policy::{Format, MAX_DOCUMENT_BYTES, Version};

/// What publishes documents in their next state.
#[derive(Args, Debug)]
struct Step {
    /// Documents: *.json, *.yaml, *.yml.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// The new version. Default: the last number of the present one, raised by one.
    #[arg(long, value_name = "VERSION", value_parser = version)]
    version: Option<Version>,
    #[command(flatten)]
    edit: EditArgs,
}

/// Make drafts active: status active under a new version, signed, in place.
///
/// Once it is merged, agents of the workspace are held to it.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  sekuire policy activate policies/payments.json --key key_0123456789abcdef.pem
  sekuire policy activate policies/payments.json --key release.pem --version 2.0")]
pub(in crate::cli) struct Activate {
    #[command(flatten)]
    step: Step,
}

impl Activate {
    pub(in crate::cli) fn run(self) -> anyhow::Result<Outcome> {
        let Step { files, version, edit } = &self.step;
        edit.each(files, "activated", |draft, _| {
            if text(&draft.value, "status") == "active" {
                let why =
                    "it is active already; to publish a change, raise the version with `sekuire policy sign --bump`";
                return Err(Failure::Refused(why.to_owned()));
            }
            raise(&mut draft.value, version.as_ref())?;
            set(&mut draft.value, "status", "active");
            set(&mut draft.value, "activated_at", &now());
            Ok(())
        })
    }
}

/// Retire policies: status archived under a new version, signed, in place.
///
/// Once it is merged, the workspace has no policy and admits no agent. Deleting the file instead retires nothing.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  sekuire policy archive policies/payments.json --key key_0123456789abcdef.pem")]
pub(in crate::cli) struct Archive {
    #[command(flatten)]
    step: Step,
}

impl Archive {
    pub(in crate::cli) fn run(self) -> anyhow::Result<Outcome> {
        let Step { files, version, edit } = &self.step;
        edit.each(files, "archived", |draft, _| {
            if text(&draft.value, "status") == "archived" {
                return Err(Failure::Refused("it is archived already".to_owned()));
            }
            raise(&mut draft.value, version.as_ref())?;
            set(&mut draft.value, "status", "archived");
            // what has expired is retired all the same, and is to verify
            if let (Some(_), Value::Object(members)) = (ended(&draft.value), &mut draft.value) {
                members.shift_remove("expires_at");
            }
            Ok(())
        })
    }
}

/// Go back to older rules: the content that the file had in a commit, under a new version, signed, in place.
///
/// Versions only rise, so that nobody can bring back old rules by bringing back an old file: this is how it is done. Ids,
/// status and dates stay as they are now.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  sekuire policy revert policies/payments.json --to HEAD~1 --key key_0123456789abcdef.pem
  sekuire policy revert policies/payments.yaml --to v2026.05 --key release.pem --dry-run")]
pub(in crate::cli) struct Revert {
    /// The document: *.json, *.yaml, *.yml, in a Git repository.
    file: PathBuf,
    /// The commit whose rules are wanted (gitrevisions(7)).
    #[arg(long, value_name = "REV")]
    to: String,
    /// The new version. Default: the last number of the present one, raised by one.
    #[arg(long, value_name = "VERSION", value_parser = version)]
    version: Option<Version>,
    #[command(flatten)]
    edit: EditArgs,
}

impl Revert {
    pub(in crate::cli) fn run(self) -> anyhow::Result<Outcome> {
        let file = self.file.clone();
        self.edit.each(std::slice::from_ref(&file), "reverted", |draft, format| {
            let (old_text, old) = self.old(&file, format)?;
            let content = old.get("content").cloned().unwrap_or_default();
            if draft.value.get("content") == Some(&content) {
                return Err(Failure::Refused(format!("its rules are those of {} already", self.to)));
            }
            raise(&mut draft.value, self.version.as_ref())?;
            draft.value["content"] = content;
            // what is said of the old rules in its comments comes back with them
            draft.text = old_text;
            Ok(())
        })
    }

    /// The document as it was in the commit.
    fn old(&self, file: &Path, format: Format) -> Result<(Vec<u8>, Value), Failure> {
        let name = format!("{} in {}", file.display(), self.to);
        let absolute = std::path::absolute(file).map_err(anyhow::Error::from)?;
        let checkout = Checkout::of(absolute.parent().unwrap_or(Path::new("/")))?;
        let path = checkout.path_of(file)?;
        let text = checkout.file(&self.to, &path, MAX_DOCUMENT_BYTES)?;
        let value = parse_unsigned(&text, format).map_err(|fault| Failure::Refused(format!("{name}: {fault}")))?;
        Ok((text, value))
    }
}
