//! Trusted keys, and how many of them have to sign: out of files (`SigningKey` and `SigningThreshold` manifests, public
//! keys), or out of the cluster. Trust never comes out of a document.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use jiff::Timestamp;
use kube::CustomResourceExt;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::cluster::{Cluster, ClusterArgs};
use super::manifest::{self, Served};
use super::{files, time};
use crate::api::{SigningKey, SigningKeySpec, SigningThreshold, SigningThresholdSpec};
use crate::controller::keys;
use crate::policy::{KeyRing, PublicKey, Threshold, pem};

/// More than a cluster's keys take.
const MAX_FILE_BYTES: usize = 4 * 1024 * 1024;

pub(super) const API_VERSION: &str = "sekuire.ai/v1alpha1";
pub(super) const KIND: &str = "SigningKey";
const THRESHOLD: &str = "SigningThreshold";

/// An object as it is written into a file.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Manifest<S> {
    pub(super) api_version: String,
    pub(super) kind: String,
    pub(super) metadata: Metadata,
    pub(super) spec: S,
}

#[derive(Serialize)]
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
    /// Trusted keys: files or folders of SigningKey and SigningThreshold manifests, or public keys (PEM, OpenSSH or hex,
    /// one or several; trusted for every workspace, under the id that `sekuire key show` prints). Can be given several times. Default: what
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
        let (text, shown) = (files::read_manifest(path, MAX_FILE_BYTES)?, files::name(path));
        if text.contains("PRIVATE KEY-----") {
            bail!("{shown} is a private key; trust is given to public ones (`sekuire key manifest` makes them)");
        }
        if let Some(keys) = public_keys(&text) {
            let keys = keys.map_err(|why| anyhow!("{shown}: {why}"))?;
            self.keys.extend(keys.iter().map(trusted_everywhere));
            return Ok(());
        }
        let before = self.keys.len() + self.thresholds.len();
        for manifest in manifest::read(&text, &shown) {
            match manifest {
                Ok(manifest) => self.take(manifest)?,
                Err(fault) => bail!("{}; expected public keys, or {KIND} and {THRESHOLD} manifests", fault.message),
            }
        }
        if self.keys.len() + self.thresholds.len() == before {
            bail!("{shown} holds no {KIND}; expected manifests as `sekuire key generate` writes them");
        }
        Ok(())
    }

    fn take(&mut self, manifest: manifest::Manifest) -> anyhow::Result<()> {
        let place = manifest.place.clone();
        match (&*manifest.api_version, &*manifest.kind) {
            (API_VERSION, KIND) => self.keys.push(of::<SigningKey, _>(manifest)?.1),
            (API_VERSION, THRESHOLD) => {
                let (name, spec): (_, SigningThresholdSpec) = of::<SigningThreshold, _>(manifest)?;
                // as the cluster, which would not take it
                if spec.workspaces.is_empty() || !(1..=16).contains(&spec.signatures) {
                    bail!(
                        "{place}: {THRESHOLD} {name}: expected at least one of workspaces, and signatures from 1 to 16"
                    );
                }
                self.thresholds.push(spec.threshold(&name));
            }
            (api_version, kind) => {
                bail!("{place} is a {kind} of {api_version}; expected only {KIND} and {THRESHOLD} of {API_VERSION}")
            }
        }
        Ok(())
    }
}

/// The name and the spec of an object, which is held against the schema of its kind.
pub(super) fn of<K: CustomResourceExt, S: DeserializeOwned>(
    manifest: manifest::Manifest,
) -> anyhow::Result<(String, S)> {
    let manifest::Manifest { place, kind, mut value, .. } = manifest;
    let name = value.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned();
    Served::of::<K>().check(&mut value).map_err(|faults| anyhow!("{place}: {kind} {name}: {}", faults.join("; ")))?;
    if name.is_empty() {
        bail!("{place}: a {kind} without metadata.name");
    }
    let spec = value.get_mut("spec").map(Value::take).unwrap_or_default();
    let spec = serde_path_to_error::deserialize(spec).map_err(|e| {
        let path = e.path().to_string();
        anyhow!("{place}: {kind} {name}: spec.{path}: {}", e.into_inner())
    })?;
    Ok((name, spec))
}

/// The public keys of a text, if it is one of such: PEM blocks, with whatever is written around them, or one key a line.
/// None where it is something else, such as manifests.
///
/// # Errors
/// Which line is no key that can be used: none is left out.
pub(super) fn public_keys(text: &str) -> Option<Result<Vec<PublicKey>, String>> {
    // which has a key in it, and says more of it
    if text.contains("apiVersion") {
        return None;
    }
    let (blocks, _) = pem::blocks(text);
    let is_line = |line: &str| {
        let first = line.split_whitespace().next().unwrap_or_default();
        let typed = first.starts_with("ssh-") || first.starts_with("ecdsa-") || first.starts_with("sk-");
        typed || (first.len() == 64 && first.bytes().all(|byte| byte.is_ascii_hexdigit()) && first == line)
    };
    let mut lines =
        text.lines().map(str::trim).enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    if blocks.is_empty() && !lines.clone().next().is_some_and(|(_, line)| is_line(line)) {
        return None;
    }
    let mut keys = Vec::new();
    for block in &blocks {
        match PublicKey::parse(&block.text) {
            Ok(key) => keys.push(key),
            Err(fault) => return Some(Err(format!("a block {}: {fault}", block.label))),
        }
    }
    // beside blocks there may be prose
    let prose = !blocks.is_empty();
    let fault = lines.find_map(|(number, line)| {
        if prose && !is_line(line) {
            return None;
        }
        PublicKey::parse(line).map(|key| keys.push(key)).err().map(|fault| format!("line {}: {fault}", number + 1))
    });
    Some(fault.map_or(Ok(keys), Err))
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
