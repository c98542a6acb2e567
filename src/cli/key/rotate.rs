//! `sekuire key rotate`.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;
use jiff::Timestamp;
use serde_json::Value;

use crate::api::object_name;
use crate::cli::cluster::{ClusterArgs, LazyCluster};
use crate::cli::output::counted;
use crate::cli::policy::edit::{Draft, EditArgs, Failure};
use crate::cli::signing::Signer;
use crate::cli::trust::TrustArgs;
use crate::cli::{Outcome, Usage, emit, files, note};
use crate::policy::document::{parse_unsigned, peek};
use crate::policy::sign::is_signed_by;
use crate::policy::{Document, Format, MAX_DOCUMENT_BYTES, PublicKey};

/// Replace a key: sign again what the old one signed, and print the steps around that.
///
/// Version and rules stay as they are, so a document that was signed again counts as the same one. Where the old key only
/// co-signed, its co-signature is replaced, and the others stay. What other keys signed is left alone and listed; what says
/// that it is signed with the old key, and is not, is refused.
#[derive(Args, Debug)]
#[command(mut_arg("dry_run", |arg| arg.help("Print the documents, signed again, and the steps; write nothing")))]
#[command(after_help = "Examples:
  sekuire key rotate --from key_0123456789abcdef --key new/key_fedcba9876543210.pem policies/
  sekuire key rotate --from key_release_2026 --trust keys/ --key release-2027.pem policies/*.yaml --dry-run

Each file is signed whole or left as it was. Exit code 1: one was left as it was, because it is no valid document, or not
as the old key had signed it.")]
pub(in crate::cli) struct Rotate {
    /// Id of the old key: what documents name as signing_key_id.
    #[arg(long, value_name = "KEY ID")]
    from: String,
    /// Documents, or folders with documents at any depth.
    #[arg(required = true, value_name = "PATH")]
    documents: Vec<PathBuf>,
    #[command(flatten)]
    edit: EditArgs,
    #[command(flatten)]
    trust: TrustArgs,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// What is below the paths.
#[derive(Default)]
struct Found {
    /// Signed or co-signed with the old key.
    by_old: Vec<PathBuf>,
    /// Other documents: the file, and the key that signed it.
    by_others: Vec<(PathBuf, String)>,
    /// Workspaces of those signed with the old key.
    workspaces: BTreeSet<String>,
}

impl Rotate {
    pub(in crate::cli) fn run(self) -> anyhow::Result<Outcome> {
        let mut found = Found::default();
        for path in &self.documents {
            for file in files::list(path, &["json", "yaml", "yml"], true)? {
                self.look(file, &mut found)?;
            }
        }
        let old = self.old_key()?;
        let signer = self.edit.signer(&found.by_old)?;
        if signer.key_id() == self.from {
            bail!(Usage(format!("--key is the key {} itself; expected another one", self.from)));
        }
        let outcome = self.edit.each_with(&found.by_old, "signed again", &signer, |draft, format| {
            self.again(draft, format, &old, &signer)
        })?;
        for (file, key_id) in &found.by_others {
            note(&format!("{} was left alone: signed with {key_id}", file.display()));
        }
        if found.by_old.is_empty() {
            note(&format!("no document below is signed with {}", self.from));
        }
        emit(&self.steps(&found, signer.key_id()))?;
        Ok(outcome)
    }

    /// The old key, which documents are held against: else whatever somebody has changed would be signed along.
    fn old_key(&self) -> anyhow::Result<PublicKey> {
        let cluster = LazyCluster::new(&self.cluster);
        let keys = self.trust.ring(|| cluster.get())?;
        let old = keys.get(&self.from).map(|key| key.public_key.clone());
        old.with_context(|| format!("{} is none of the trusted keys: nobody can tell what it signed", self.from))
    }

    /// Sorts a file: is it signed with the old key?
    fn look(&self, path: PathBuf, found: &mut Found) -> anyhow::Result<()> {
        let format = files::format(&path)?;
        let bytes = files::read(&path, MAX_DOCUMENT_BYTES)?;
        let seen = peek(&bytes, format);
        let by_old = seen.signing_key_id.as_ref() == Some(&self.from)
            || parse_unsigned(&bytes, format).is_ok_and(|value| co_signed(&value, &self.from));
        if by_old {
            found.by_old.push(path);
            found.workspaces.extend(seen.workspace_id);
        } else if let Some(key_id) = seen.signing_key_id {
            found.by_others.push((path, key_id));
        }
        // else a manifest, or whatever else is no signed document
        Ok(())
    }

    /// The document with the new key in the place of the old one.
    fn again(&self, draft: &mut Draft, format: Format, old: &PublicKey, new: &Signer) -> Result<Value, Failure> {
        let document = Document::parse(&draft.text, format)?;
        if !is_signed_by(&document, old) {
            let why =
                format!("it is not as {} signed it: somebody changed it since, or this key never signed it", self.from);
            return Err(Failure::Refused(why));
        }
        let mut value = std::mem::take(&mut draft.value);
        if is_by(&value, &self.from) {
            return Ok(new.sign(value, Timestamp::now())?);
        }
        if let Some(list) = value.get_mut("co_signatures").and_then(Value::as_array_mut) {
            list.retain(|entry| !is_by(entry, &self.from));
        }
        Ok(new.cosign(&Document::from_value(value)?)?)
    }

    fn steps(&self, found: &Found, new: &str) -> String {
        let workspaces: String = found.workspaces.iter().map(|id| format!(" --workspace {id}")).collect();
        let (old, manifest) = (&self.from, object_name(&self.from));
        let file = self.edit.key_file().map(|file| file.display().to_string()).unwrap_or_default();
        let id = "signing_key_id";
        let columns = format!("NAME:.metadata.name,KEY:.spec.document.{id},CO:.spec.document.co_signatures[*].{id}");
        format!(
            "The rotation from {old} to {new}, in this order ({} of the old key here):
  1. Trust the new key beside the old one:
       sekuire key manifest {file} --key-id {new}{workspaces} | kubectl apply -f -
  2. Commit the documents that were signed again, and merge.
  3. Wait until no policy names the old key any more:
       kubectl get wsp -o 'custom-columns={columns}'
  4. Only then retire the old key:
       kubectl patch skey {manifest} --type merge -p '{{\"spec\":{{\"revoked\":{{\"reason\":\"rotated\"}}}}}}'
",
            counted(found.by_old.len(), "document"),
        )
    }
}

fn is_by(signature: &Value, key_id: &str) -> bool {
    signature.get("signing_key_id").and_then(Value::as_str) == Some(key_id)
}

fn co_signed(document: &Value, key_id: &str) -> bool {
    let list = document.get("co_signatures").and_then(Value::as_array);
    list.is_some_and(|list| list.iter().any(|entry| is_by(entry, key_id)))
}
