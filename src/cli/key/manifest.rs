//! `sekuire key manifest`.

use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;

use super::Trusted;
use super::show::any_key;
use crate::cli::signing::PassphraseArgs;
use crate::cli::{Outcome, emit, time, warn};

/// Print the SigningKey manifest of a key, to be applied to the cluster.
#[derive(Args, Debug)]
#[command(name = "manifest")]
#[command(after_help = "Examples:
  sekuire key manifest ~/.ssh/id_ed25519.pub --workspace ws_payments | kubectl apply -f -
  sekuire key manifest release.pem --workspace 'ws_*' --not-after 2027-06-01T00:00:00Z > keys/release.yaml")]
pub(in crate::cli) struct PrintManifest {
    /// The key: a public one (PEM, OpenSSH, hex), or a private one, of which only the public half is printed.
    file: PathBuf,
    /// Workspace that the key may sign for; * stands for any run of characters. Can be given several times.
    #[arg(long = "workspace", value_name = "PATTERN")]
    workspaces: Vec<String>,
    /// Id of the key, which documents name as signing_key_id. Default: the one that `sekuire key show` prints.
    #[arg(long, value_name = "ID")]
    key_id: Option<String>,
    /// From when on the key counts.
    #[arg(long, value_name = "TIME", value_parser = time)]
    not_before: Option<Timestamp>,
    /// From when on it counts no more; what it signed is not enforced from then on.
    #[arg(long, value_name = "TIME", value_parser = time)]
    not_after: Option<Timestamp>,
    #[command(flatten)]
    passphrase: PassphraseArgs,
}

impl PrintManifest {
    pub(in crate::cli) fn run(self) -> anyhow::Result<Outcome> {
        let key = any_key(&self.file, &self.passphrase)?.public;
        if self.workspaces.is_empty() {
            warn("no --workspace: the cluster refuses the manifest until spec.workspaces names at least one");
        }
        let key_id = self.key_id.unwrap_or_else(|| key.key_id());
        let (not_before, not_after) = (self.not_before, self.not_after);
        let trusted = Trusted { key_id, workspaces: self.workspaces, not_before, not_after };
        emit(&trusted.manifest(&key)?)?;
        Ok(Outcome::Fine)
    }
}
