//! Trusted keys, and how many of them have to sign: out of files (`SigningKey` and `SigningThreshold` manifests, public
//! keys), or out of the cluster. Trust never comes out of a document.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::cluster::{Cluster, ClusterArgs};
use super::{files, time};
use crate::api::{SigningKeySpec, SigningThresholdSpec};
use crate::controller::keys;
use crate::policy::{KeyRing, PublicKey, Threshold};

/// More than a cluster's keys take.
const MAX_FILE_BYTES: usize = 4 * 1024 * 1024;

pub(super) const API_VERSION: &str = "sekuire.ai/v1alpha1";
pub(super) const KIND: &str = "SigningKey";
const THRESHOLD: &str = "SigningThreshold";

/// An object as it stands in a file; what the cluster adds to it is of no interest.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Manifest<S> {
    pub(super) api_version: String,
    pub(super) kind: String,
    pub(super) metadata: Metadata,
    pub(super) spec: S,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Metadata {
    pub(super) name: String,
}

/// By which keys documents are judged, and as of when.
#[derive(Args, Clone, Debug)]
pub(super) struct JudgeArgs {
    #[command(flatten)]
    pub(super) trust: TrustArgs,
    #[command(flatten)]
    pub(super) cluster: ClusterArgs,
    /// The time to verify at, as in RFC 3339. Default: now.
    #[arg(long, value_name = "TIME", value_parser = time)]
    now: Option<Timestamp>,
}

impl JudgeArgs {
    /// The time to verify at.
    pub(super) fn now(&self) -> Timestamp {
        self.now.unwrap_or_else(Timestamp::now)
    }
}

/// Which keys are trusted.
#[derive(Args, Clone, Debug)]
pub(super) struct TrustArgs {
    /// Trusted keys: files or folders of SigningKey and SigningThreshold manifests, or public keys (PEM, OpenSSH or hex;
    /// trusted for every workspace, under the id that `sekuire key show` prints). Can be given several times. Default: what
    /// the cluster trusts.
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
    let mut trust = Trust::default();
    for path in paths {
        trust.add(path)?;
    }
    for spec in &trust.keys {
        if let Err(fault) = spec.trusted_key() {
            super::warn(&format!("the key {} cannot be used: {fault}", spec.key_id));
        }
    }
    Ok(keys::ring(&trust.keys).with_thresholds(trust.thresholds))
}

/// The keys of a file, or of all files in a folder.
pub(super) fn specs(path: &Path) -> anyhow::Result<Vec<SigningKeySpec>> {
    let mut trust = Trust::default();
    trust.add(path)?;
    Ok(trust.keys)
}

/// What files say of trust.
#[derive(Default)]
struct Trust {
    keys: Vec<SigningKeySpec>,
    thresholds: Vec<Threshold>,
}

impl Trust {
    /// Takes what a file holds, or all files in a folder.
    fn add(&mut self, path: &Path) -> anyhow::Result<()> {
        let files = files::list(path, &["yaml", "yml", "json", "pub"], false)?;
        if files.is_empty() {
            bail!("there are no keys in {}: expected files named *.yaml, *.yml, *.json or *.pub", files::name(path));
        }
        files.iter().try_for_each(|file| self.read(file))
    }

    fn read(&mut self, path: &Path) -> anyhow::Result<()> {
        let (text, shown) = (files::read_text(path, MAX_FILE_BYTES)?, files::name(path));
        if text.contains("PRIVATE KEY-----") {
            bail!("{shown} is a private key; trust is given to public ones (`sekuire key manifest` makes them)");
        }
        if let Ok(key) = PublicKey::parse(&text) {
            self.keys.push(trusted_everywhere(&key));
            return Ok(());
        }
        let before = self.keys.len() + self.thresholds.len();
        for document in serde_yaml::Deserializer::from_str(&text) {
            let manifest = Option::<Manifest<serde_yaml::Value>>::deserialize(document).with_context(|| {
                format!("{shown} is no public key, and holds something else than {KIND} and {THRESHOLD} manifests")
            })?;
            // Between two separators there may be nothing.
            let Some(manifest) = manifest else { continue };
            self.take(manifest).with_context(|| format!("{shown} is no manifest of trust"))?;
        }
        if self.keys.len() + self.thresholds.len() == before {
            bail!("{shown} holds no {KIND}; expected manifests as `sekuire key generate` writes them");
        }
        Ok(())
    }

    fn take(&mut self, manifest: Manifest<serde_yaml::Value>) -> anyhow::Result<()> {
        let Manifest { api_version, kind, metadata: Metadata { name }, spec } = manifest;
        match (&*api_version, &*kind) {
            (API_VERSION, KIND) => self.keys.push(of(&kind, &name, spec)?),
            (API_VERSION, THRESHOLD) => {
                let spec: SigningThresholdSpec = of(&kind, &name, spec)?;
                // as the cluster, which would not take it
                if spec.workspaces.is_empty() || !(1..=16).contains(&spec.signatures) {
                    bail!("{THRESHOLD} {name}: expected at least one of workspaces, and signatures from 1 to 16");
                }
                self.thresholds.push(spec.threshold(&name));
            }
            _ => bail!("it holds a {kind} of {api_version}; expected only {KIND} and {THRESHOLD} of {API_VERSION}"),
        }
        Ok(())
    }
}

fn of<S: DeserializeOwned>(kind: &str, name: &str, spec: serde_yaml::Value) -> anyhow::Result<S> {
    serde_yaml::from_value(spec).with_context(|| format!("the spec of {kind} {name} cannot be read"))
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
