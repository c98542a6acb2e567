//! `sekuire key manifest`.

use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;

use super::Trusted;
use super::show::any_keys;
use crate::cli::signing::PassphraseArgs;
use crate::cli::{Outcome, Usage, emit, time, warn};

/// Print the SigningKey manifest of a key, to be applied to the cluster.
#[derive(Args, Debug)]
#[command(name = "manifest")]
#[command(after_help = "Examples:
  sekuire key manifest ~/.ssh/id_ed25519.pub --workspace ws_payments | kubectl apply -f -
  sekuire key manifest release.pem --workspace 'ws_*' --not-after 2027-06-01T00:00:00Z > keys/release.yaml")]
pub(in crate::cli) struct PrintManifest {
    /// The key: public ones (PEM, OpenSSH, hex), or a private one, of which only the public half is printed.
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
        let keys = any_keys(&self.file, &self.passphrase)?;
        if self.workspaces.is_empty() {
            warn("no --workspace: the cluster refuses the manifest until spec.workspaces names at least one");
        }
        if self.key_id.is_some() && keys.len() > 1 {
            let (file, many) = (self.file.display(), keys.len());
            return Err(Usage(format!("{file} holds {many} keys; --key-id is the id of one")).into());
        }
        let mut manifests = Vec::new();
        for key in keys.iter().map(|key| &key.public) {
            let key_id = self.key_id.clone().unwrap_or_else(|| key.key_id());
            let (workspaces, not_before, not_after) = (self.workspaces.clone(), self.not_before, self.not_after);
            manifests.push(Trusted { key_id, workspaces, not_before, not_after }.manifest(key)?);
        }
        emit(&manifests.join("---\n"))?;
        Ok(Outcome::Fine)
    }
}
