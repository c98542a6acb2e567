//! `sekuire policy sign`.

use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::Args;
use jiff::Timestamp;
use serde_json::Value;

use super::yaml_text;
use crate::cli::{Outcome, Usage, complain, emit, files, warn};
use crate::policy::document::parse_unsigned;
use crate::policy::sign::SignFault;
use crate::policy::{Document, Fault, Format, MAX_DOCUMENT_BYTES, PrivateKey, Version, sign};

/// Sign policy documents: fill in hash, both signatures, key id and updated_at.
///
/// What would not validate is not signed. Members keep their order. A file is replaced whole or not at all.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  sekuire policy sign policies/payments.json --key key_0123456789abcdef.pem
  sekuire policy sign policies/*.yaml --key ~/private/key_0123456789abcdef.pem --key-id platform-2026 --bump")]
pub(in crate::cli) struct Sign {
    /// Documents to sign: *.json, *.yaml, *.yml.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Private key: PKCS#8 PEM, an OpenSSH private key, or 32 or 64 bytes in hex.
    #[arg(long, value_name = "KEY")]
    key: PathBuf,
    /// Id of the key: the keyId of its SigningKey. Default: the one that `sekuire key generate` gives it.
    #[arg(long, value_name = "ID")]
    key_id: Option<String>,
    /// Raise the version: its last number, by one.
    #[arg(long)]
    bump: bool,
    /// Write YAML anew, without its comments, where they cannot be kept.
    #[arg(long)]
    drop_comments: bool,
}

/// A private key takes a few hundred bytes.
const MAX_KEY_BYTES: usize = 64 * 1024;

/// Why a file was not signed.
enum Failure {
    /// The document is not one that may be signed.
    Refused(String),
    /// It could not be read or written, or the command cannot do it.
    Other(anyhow::Error),
}

impl From<anyhow::Error> for Failure {
    fn from(e: anyhow::Error) -> Failure {
        Failure::Other(e)
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Failure {
        Failure::Refused(fault.to_string())
    }
}

impl From<SignFault> for Failure {
    fn from(fault: SignFault) -> Failure {
        Failure::Refused(fault.to_string())
    }
}

impl Sign {
    pub(in crate::cli) fn run(self) -> anyhow::Result<Outcome> {
        let shown = self.key.display();
        let key = PrivateKey::parse(&files::read_text(&self.key, MAX_KEY_BYTES)?)
            .map_err(|fault| anyhow::anyhow!("{shown}: {fault}"))?;
        if files::readable_by_others(&self.key) {
            warn(&format!("others may read the private key {shown}; `chmod 600 {shown}` forbids it"));
        }
        let key_id = self.key_id.clone().unwrap_or_else(|| key.public().key_id());
        let mut outcome = Outcome::Fine;
        for file in &self.files {
            let shown = file.display();
            match self.sign(file, &key, &key_id) {
                Ok(done) => emit(&done)?,
                Err(Failure::Refused(why)) => {
                    complain(&format!("{shown} was not signed: {why}"));
                    outcome = outcome.max(Outcome::Refused);
                }
                Err(Failure::Other(e)) if e.is::<Usage>() => return Err(e),
                Err(Failure::Other(e)) => {
                    complain(&format!("{shown} was not signed: {e:#}"));
                    outcome = Outcome::Unknown;
                }
            }
        }
        Ok(outcome)
    }

    fn sign(&self, file: &Path, key: &PrivateKey, key_id: &str) -> Result<String, Failure> {
        let format = files::format(file).map_err(anyhow::Error::from)?;
        let bytes = files::read(file, MAX_DOCUMENT_BYTES)?;
        let mut value = parse_unsigned(&bytes, format)?;
        if self.bump {
            bump(&mut value)?;
        }
        let signed = sign(value, key, key_id, Timestamp::now())?;
        let text = match format {
            Format::Json => format!("{signed:#}\n"),
            Format::Yaml => self.yaml(&bytes, &signed)?,
        };
        let written = Document::parse(text.as_bytes(), format)?;
        files::replace(file, text.as_bytes())?;
        let (id, version, workspace) = (written.policy_id(), written.version(), written.workspace_id());
        Ok(format!("signed {}: {id} version {version} of {workspace}, with {key_id}\n", file.display()))
    }

    /// The text with the signed members put in, so that comments and form stay; or, where that cannot be, written anew.
    fn yaml(&self, before: &[u8], signed: &Value) -> anyhow::Result<String> {
        let before = String::from_utf8_lossy(before);
        if let Some(text) = yaml_text::updated(&before, signed) {
            return Ok(text);
        }
        let comments = yaml_text::comments(&before);
        if comments > 0 && !self.drop_comments {
            let (noun, them) = if comments == 1 { ("comment", "it") } else { ("comments", "them") };
            bail!(
                "its {comments} {noun} cannot be kept in this form of YAML; --drop-comments writes it without {them}"
            );
        }
        let text = serde_yaml::to_string(signed)?;
        let read = Document::parse(text.as_bytes(), Format::Yaml)?;
        if read.value() != signed {
            bail!("it cannot be written as YAML without changing it; write it as JSON");
        }
        Ok(text)
    }
}

fn bump(value: &mut Value) -> Result<(), Failure> {
    let version = value.get("version").and_then(Value::as_str).unwrap_or_default();
    let next = version
        .parse::<Version>()
        .and_then(|version| version.bump())
        .map_err(|fault| Failure::Refused(format!("the version {version:?} cannot be raised: {fault}")))?;
    value["version"] = next.to_string().into();
    Ok(())
}
