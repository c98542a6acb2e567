//! `sekuire key`: keys that sign policies.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};

use super::trust::{API_VERSION, KIND, Manifest, Metadata};
use super::{Outcome, emit, files};
use crate::api::{SigningKeySpec, object_name};
use crate::policy::PrivateKey;

/// Keys that sign policies.
#[derive(Subcommand, Debug)]
pub(super) enum Key {
    Generate(Generate),
}

impl Key {
    pub(super) fn run(self) -> anyhow::Result<Outcome> {
        match self {
            Key::Generate(command) => command.run(),
        }
    }
}

/// Make an Ed25519 key pair: the private key as PEM, and the SigningKey manifest that makes the cluster trust it.
///
/// Nothing is ever overwritten. The private key is readable by its owner alone.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  sekuire key generate --out ~/.sekuire --workspace ws_payments
  sekuire key generate --workspace 'ws_*'        in the current folder, for every workspace that begins with ws_")]
pub(super) struct Generate {
    /// Folder to write <KEY ID>.pem and <KEY ID>.yaml into; it is made if it is not there.
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
    /// Workspace that the key may sign for; * stands for any run of characters. Can be given several times. None: the
    /// manifest is written without, and has to be completed before the cluster takes it.
    #[arg(long = "workspace", value_name = "PATTERN")]
    workspaces: Vec<String>,
}

impl Generate {
    fn run(self) -> anyhow::Result<Outcome> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).context("the system gives no randomness")?;
        let key = PrivateKey::from_seed(&seed);
        let key_id = key.public().key_id();
        std::fs::create_dir_all(&self.out).with_context(|| format!("cannot create {}", self.out.display()))?;
        let (pem, yaml) = (self.out.join(format!("{key_id}.pem")), self.out.join(format!("{key_id}.yaml")));
        if let Some(present) = [&pem, &yaml].into_iter().find(|path| path.exists()) {
            bail!("{} exists already, and is not overwritten", present.display());
        }
        let (no_workspace, manifest) = (self.workspaces.is_empty(), manifest(&key, &key_id, self.workspaces)?);
        files::create(&pem, &key.to_pkcs8_pem(), 0o600)?;
        files::create(&yaml, &manifest, 0o644)?;
        let (pem, yaml) = (pem.display(), yaml.display());
        let first = if no_workspace {
            format!("  name the workspaces that it may sign for in {yaml}, under spec.workspaces\n")
        } else {
            String::new()
        };
        emit(&format!(
            "{key_id}\n  private key  {pem}  (keep it secret, and out of Git)\n  SigningKey   {yaml}\nNext:\n{first}  \
             kubectl apply -f {yaml}\n  sekuire policy sign policy.json --key {pem}\n"
        ))?;
        Ok(Outcome::Fine)
    }
}

fn manifest(key: &PrivateKey, key_id: &str, workspaces: Vec<String>) -> anyhow::Result<String> {
    let manifest = Manifest {
        api_version: API_VERSION.to_owned(),
        kind: KIND.to_owned(),
        metadata: Metadata { name: object_name(key_id) },
        spec: SigningKeySpec {
            key_id: key_id.to_owned(),
            public_key: key.public().to_pem(),
            workspaces,
            not_before: None,
            not_after: None,
            revoked: None,
        },
    };
    Ok(serde_yaml::to_string(&manifest)?)
}
