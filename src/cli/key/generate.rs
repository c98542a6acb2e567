//! `sekuire key generate`.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;

use super::Trusted;
use crate::cli::signing::{PassphraseArgs, prompt};
use crate::cli::{Outcome, Usage, emit, files};
use crate::policy::PrivateKey;

/// Make an Ed25519 key pair: the private key as PEM, and the SigningKey manifest that makes the cluster trust it.
///
/// Nothing is ever overwritten. The private key is readable by its owner alone.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  sekuire key generate --out ~/.sekuire --workspace ws_payments
  sekuire key generate --passphrase --workspace 'ws_*'     encrypted, for every workspace that begins with ws_
  sekuire key generate --passphrase-file secret.txt")]
pub(in crate::cli) struct Generate {
    /// Folder to write <KEY ID>.pem and <KEY ID>.yaml into; it is made if it is not there.
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
    /// Workspace that the key may sign for; * stands for any run of characters. Can be given several times. None: the
    /// manifest is written without, and has to be completed before the cluster takes it.
    #[arg(long = "workspace", value_name = "PATTERN")]
    workspaces: Vec<String>,
    /// Encrypt the private key. The passphrase is asked for, unless it is in --passphrase-file or in the environment
    /// variable SEKUIRE_KEY_PASSPHRASE.
    #[arg(long)]
    passphrase: bool,
    #[command(flatten)]
    given: PassphraseArgs,
}

impl Generate {
    pub(in crate::cli) fn run(self) -> anyhow::Result<Outcome> {
        let passphrase = self.wanted_passphrase()?;
        let key = PrivateKey::from_seed(&random()?);
        let key_id = key.public().key_id();
        let text = match &passphrase {
            Some(passphrase) => key.to_encrypted_pem(passphrase, random()?, random()?)?,
            None => key.to_pkcs8_pem(),
        };
        std::fs::create_dir_all(&self.out).with_context(|| format!("cannot create {}", self.out.display()))?;
        let (pem, yaml) = (self.out.join(format!("{key_id}.pem")), self.out.join(format!("{key_id}.yaml")));
        if let Some(present) = [&pem, &yaml].into_iter().find(|path| path.exists()) {
            bail!("{} exists already, and is not overwritten", present.display());
        }
        let no_workspace = self.workspaces.is_empty();
        let named = self.workspaces.iter().find(|pattern| !pattern.contains('*'));
        let workspace = named.cloned().unwrap_or_else(|| "WORKSPACE".to_owned());
        let trusted =
            Trusted { key_id: key_id.clone(), workspaces: self.workspaces, not_before: None, not_after: None };
        let manifest = trusted.manifest(&key.public())?;
        files::create(&pem, &text, 0o600)?;
        files::create(&yaml, &manifest, 0o644)?;
        let (pem, yaml) = (pem.display(), yaml.display());
        let first = if no_workspace {
            format!("  name the workspaces that it may sign for in {yaml}, under spec.workspaces\n")
        } else {
            String::new()
        };
        let care = if passphrase.is_some() { "encrypted; keep it" } else { "keep it secret, and" };
        emit(&format!(
            "{key_id}\n  private key  {pem}  ({care} out of Git)\n  SigningKey   {yaml}\nNext:\n{first}  \
             kubectl apply -f {yaml}\n  \
             sekuire policy new --workspace {workspace} --out policy.yaml\n  \
             sekuire policy sign policy.yaml --key {pem}\n"
        ))?;
        Ok(Outcome::Fine)
    }

    fn wanted_passphrase(&self) -> anyhow::Result<Option<String>> {
        let passphrase = match self.given.given()? {
            Some(given) => given,
            None if self.passphrase => {
                let first = prompt("Passphrase of the new key: ")?;
                if first != prompt("The same again: ")? {
                    bail!(Usage("the two passphrases differ; nothing was written".to_owned()));
                }
                first
            }
            None => return Ok(None),
        };
        if passphrase.is_empty() {
            bail!(Usage("the passphrase is empty; nothing was written".to_owned()));
        }
        Ok(Some(passphrase))
    }
}

fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).context("the system gives no randomness")?;
    Ok(bytes)
}
