//! `sekuire key show`.

use std::path::{Path, PathBuf};

use anyhow::{anyhow, bail};
use clap::Args;
use serde::Serialize;

use crate::cli::output::{Output, columns};
use crate::cli::signing::{PassphraseArgs, private_key};
use crate::cli::{Outcome, complain, files, trust};
use crate::policy::{PrivateKey, PrivateKeyFault, PublicKey};

/// Show what a key file holds: its id and its public key. Of a private key nothing else is shown.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  sekuire key show key.pem
  sekuire key show keys/*.yaml ~/.ssh/id_ed25519.pub --output json

JSON: a list, one object a key, with file, kind (private, public or SigningKey), encrypted, keyId and publicKey (hex).")]
pub(in crate::cli) struct Show {
    /// Private or public keys, or SigningKey manifests.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    passphrase: PassphraseArgs,
    #[command(flatten)]
    output: Output,
}

/// A key in a file.
pub(super) struct Key {
    kind: &'static str,
    encrypted: bool,
    /// Of a manifest: the id that it gives the key.
    key_id: Option<String>,
    pub(super) public: PublicKey,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    file: String,
    kind: &'static str,
    encrypted: bool,
    key_id: String,
    public_key: String,
}

impl Show {
    pub(in crate::cli) fn run(self) -> anyhow::Result<Outcome> {
        let (mut shown, mut outcome) = (Vec::new(), Outcome::Fine);
        for file in &self.files {
            match keys(file, &self.passphrase) {
                Ok(keys) => shown.extend(keys.into_iter().map(|key| Shown {
                    file: file.display().to_string(),
                    kind: key.kind,
                    encrypted: key.encrypted,
                    key_id: key.key_id.unwrap_or_else(|| key.public.key_id()),
                    public_key: key.public.to_hex(),
                })),
                Err(e) => {
                    complain(&format!("{e:#}"));
                    outcome = Outcome::Unknown;
                }
            }
        }
        self.output.print(&shown, |_| {
            if shown.is_empty() {
                return String::new();
            }
            let rows = shown.iter().map(|key| {
                let kind = if key.encrypted { "private, encrypted" } else { key.kind };
                [key.key_id.clone(), kind.to_owned(), key.public_key.clone(), key.file.clone()]
            });
            let head = ["KEY ID", "KIND", "PUBLIC KEY", "FILE"].map(str::to_owned);
            columns(&std::iter::once(head).chain(rows).collect::<Vec<_>>())
        })?;
        Ok(outcome)
    }
}

/// The keys of a file, or those of a stream of manifests.
fn keys(path: &Path, passphrase: &PassphraseArgs) -> anyhow::Result<Vec<Key>> {
    let manifest = path.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json");
    if !manifest {
        return any_keys(path, passphrase);
    }
    let specs = trust::specs(path)?;
    let key = |spec: crate::api::SigningKeySpec| {
        let public = PublicKey::parse(&spec.public_key).map_err(|fault| anyhow!("{}: {fault}", path.display()))?;
        Ok(Key { kind: "SigningKey", encrypted: false, key_id: Some(spec.key_id), public })
    };
    specs.into_iter().map(key).collect()
}

/// The keys of a file, whatever form it has: several public ones, or a private one.
pub(super) fn any_keys(path: &Path, passphrase: &PassphraseArgs) -> anyhow::Result<Vec<Key>> {
    const MAX_KEY_BYTES: usize = 64 * 1024;
    let text = files::read_text(path, MAX_KEY_BYTES)?;
    // 32 bytes in hex can be either. To guess wrong would be to trust a key whose private half is a public key that
    // everybody knows.
    let bare_hex = text.trim().len() == 64 && text.trim().bytes().all(|byte| byte.is_ascii_hexdigit());
    if bare_hex && path.extension().is_none_or(|e| e != "pub" && e != "key") {
        bail!(
            "{0} holds 32 bytes in hex, which may be a public or a private key; call it {0}.pub if it is public, {0}.key if \
             it is private",
            path.display()
        );
    }
    let private = bare_hex && path.extension().is_some_and(|e| e == "key");
    if !private
        && !text.contains("PRIVATE KEY-----")
        && let Some(keys) = trust::public_keys(&text)
    {
        let keys = keys.map_err(|why| anyhow!("{}: {why}", path.display()))?;
        let key = |public| Key { kind: "public", encrypted: false, key_id: None, public };
        return Ok(keys.into_iter().map(key).collect());
    }
    let encrypted = PrivateKey::parse(&text, None).is_err_and(|fault| fault == PrivateKeyFault::Encrypted);
    let public = private_key(path, passphrase)?.public();
    Ok(vec![Key { kind: "private", encrypted, key_id: None, public }])
}
