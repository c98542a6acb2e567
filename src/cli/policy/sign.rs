//! `sekuire policy sign`.

use std::path::PathBuf;

use clap::Args;

use super::edit::{EditArgs, raise};
use crate::cli::Outcome;

/// Sign policy documents, in place.
///
/// Fills in hash, signature, document_signature, signing_key_id and updated_at. Members keep their order, and YAML its
/// comments. A file is replaced whole or not at all.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  sekuire policy sign policies/payments.json --key key_0123456789abcdef.pem
  sekuire policy sign policies/*.yaml --key release.pem --key-id key_release_2026 --bump
  sekuire policy sign policies/a.json --public-key kms.pub --signer 'aws-kms-sign alias/policies'

What is no valid document is not signed (exit code 1). All files are looked at.")]
pub(in crate::cli) struct Sign {
    /// Documents to sign: *.json, *.yaml, *.yml.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Raise the version: its last number, by one.
    #[arg(long)]
    bump: bool,
    #[command(flatten)]
    edit: EditArgs,
}

impl Sign {
    pub(in crate::cli) fn run(self) -> anyhow::Result<Outcome> {
        self.edit.each(&self.files, "signed", |draft, _| if self.bump { raise(&mut draft.value, None) } else { Ok(()) })
    }
}
