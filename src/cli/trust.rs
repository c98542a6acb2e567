//! Trusted keys: out of files, `SigningKey` manifests or public keys, or out of the cluster. Trust never comes out of a document.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use serde::{Deserialize, Serialize};

use super::cluster::Cluster;
use super::files;
use crate::api::SigningKeySpec;
use crate::controller::keys;
use crate::policy::{KeyRing, PublicKey};

/// More than a cluster's keys take.
const MAX_FILE_BYTES: usize = 4 * 1024 * 1024;

pub(super) const API_VERSION: &str = "sekuire.ai/v1alpha1";
pub(super) const KIND: &str = "SigningKey";

/// A `SigningKey` as it stands in a file; what the cluster adds to it is of no interest.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Manifest {
    pub(super) api_version: String,
    pub(super) kind: String,
    pub(super) metadata: Metadata,
    pub(super) spec: SigningKeySpec,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Metadata {
    pub(super) name: String,
}

/// Which keys are trusted.
#[derive(Args, Clone, Debug)]
pub(super) struct TrustArgs {
    /// Trusted keys: files or folders of SigningKey manifests, or public keys (PEM, OpenSSH or hex; trusted for every
    /// workspace, under the id that `sekuire key show` prints). Can be given several times. Default: what the cluster
    /// trusts.
    #[arg(long = "trust", value_name = "KEYS")]
    paths: Vec<PathBuf>,
}

impl TrustArgs {
    /// The keys of the files; or, where none are named, of the cluster.
    pub(super) fn ring<'c>(&self, cluster: impl FnOnce() -> anyhow::Result<&'c Cluster>) -> anyhow::Result<KeyRing> {
        if self.paths.is_empty() {
            return cluster()
                .and_then(Cluster::keys)
                .context("there are no trusted keys to verify with: name them with --trust");
        }
        ring(&self.paths)
    }

    /// Whether keys were named.
    pub(super) fn is_given(&self) -> bool {
        !self.paths.is_empty()
    }
}

/// The keys of all these files, and of all `*.yaml`, `*.yml`, `*.json` and `*.pub` in these folders.
pub(super) fn ring(paths: &[PathBuf]) -> anyhow::Result<KeyRing> {
    let mut specs = Vec::new();
    for path in paths {
        specs.extend(self::specs(path)?);
    }
    for spec in &specs {
        if let Err(fault) = spec.trusted_key() {
            super::warn(&format!("the key {} cannot be used: {fault}", spec.key_id));
        }
    }
    Ok(keys::ring(&specs))
}

/// The keys of a file, or of all files in a folder.
pub(super) fn specs(path: &Path) -> anyhow::Result<Vec<SigningKeySpec>> {
    let mut specs = Vec::new();
    for file in files::list(path, &["yaml", "yml", "json", "pub"], false)? {
        specs.extend(read(&file)?);
    }
    Ok(specs)
}

fn read(path: &Path) -> anyhow::Result<Vec<SigningKeySpec>> {
    let text = files::read_text(path, MAX_FILE_BYTES)?;
    if text.contains("PRIVATE KEY-----") {
        bail!("{} is a private key; trust is given to public ones (`sekuire key manifest` makes them)", path.display());
    }
    if let Ok(key) = PublicKey::parse(&text) {
        return Ok(vec![trusted_everywhere(&key)]);
    }
    let mut specs = Vec::new();
    for document in serde_yaml::Deserializer::from_str(&text) {
        let manifest = Option::<Manifest>::deserialize(document).with_context(|| {
            format!("{} is no public key, and holds something else than {KIND} manifests", path.display())
        })?;
        // Between two separators there may be nothing.
        let Some(manifest) = manifest else { continue };
        if manifest.api_version != API_VERSION || manifest.kind != KIND {
            bail!(
                "{} holds a {} of {}; expected only {KIND} of {API_VERSION}",
                path.display(),
                manifest.kind,
                manifest.api_version
            );
        }
        specs.push(manifest.spec);
    }
    if specs.is_empty() {
        bail!("{} holds no {KIND}; expected manifests as `sekuire key generate` writes them", path.display());
    }
    Ok(specs)
}

/// A key that nothing restricts: whoever names it on the command line means it.
fn trusted_everywhere(key: &PublicKey) -> SigningKeySpec {
    SigningKeySpec {
        key_id: key.key_id(),
        public_key: key.to_pem(),
        workspaces: vec!["*".to_owned()],
        not_before: None,
        not_after: None,
        revoked: None,
    }
}
