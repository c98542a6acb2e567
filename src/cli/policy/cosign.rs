//! `sekuire policy cosign`.

use std::path::PathBuf;

use clap::Args;

use super::edit::EditArgs;
use crate::cli::Outcome;
use crate::policy::Document;

/// Add a signature of another key to signed policy documents, in place (two-person rule).
///
/// It is made over the same bytes as document_signature and stands in co_signatures; nothing else changes. A cluster asks for
/// several signatures where a SigningThreshold names the workspace. Whoever signs the document anew drops it.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  sekuire policy cosign policies/payments.json --key key_0123456789abcdef.pem
  sekuire policy cosign policies/*.yaml --public-key kms.pub --signer 'aws-kms-sign alias/policies'

Exit code 1: a document is not signed, its hash is not that of its content, or this public key has signed it already. All
files are looked at.")]
pub(in crate::cli) struct Cosign {
    /// Signed documents: *.json, *.yaml, *.yml.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    edit: EditArgs,
}

impl Cosign {
    pub(in crate::cli) fn run(self) -> anyhow::Result<Outcome> {
        let signer = self.edit.signer(&self.files)?;
        self.edit.each_with(&self.files, "co-signed", &signer, |draft, format| {
            let document = Document::parse(&draft.text, format)?;
            Ok(signer.cosign(&document)?)
        })
    }
}
