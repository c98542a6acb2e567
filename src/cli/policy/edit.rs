//! Changing documents and signing them, file by file: what the commands that sign have in common.

use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::Args;
use jiff::Timestamp;
use serde_json::Value;

use super::{json_text, yaml_text};
use crate::cli::output::counted;
use crate::cli::signing::{Signer, SigningArgs};
use crate::cli::{Outcome, Usage, complain, emit, files, note, warn};
use crate::policy::document::{parse_time, parse_unsigned};
use crate::policy::sign::SignFault;
use crate::policy::{Document, Fault, Format, MAX_DOCUMENT_BYTES, Version};

/// Why a document was not signed, or not taken.
pub(in crate::cli) enum Failure {
    /// It is not one that may be.
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
        match fault {
            SignFault::Document(fault) => fault.into(),
            SignFault::NotSigned(_) | SignFault::SignedAlready(_) => Failure::Refused(fault.to_string()),
            // the key, or the program that has it
            SignFault::Signer(_) | SignFault::WrongSignature(_) => Failure::Other(fault.into()),
        }
    }
}

/// How documents are signed and written.
#[derive(Args, Clone, Debug)]
pub(in crate::cli) struct EditArgs {
    #[command(flatten)]
    signing: SigningArgs,
    /// Write YAML anew, without its comments, where they cannot be kept.
    #[arg(long)]
    drop_comments: bool,
    /// Print the signed documents instead of writing them.
    #[arg(long)]
    dry_run: bool,
}

/// A document that is to be written: what its text was, and what it is to be.
pub(in crate::cli) struct Draft {
    /// The text whose form and comments are kept.
    pub(in crate::cli) text: Vec<u8>,
    /// The data, before it is signed.
    pub(in crate::cli) value: Value,
}

impl EditArgs {
    /// Reads each file, has `change` change it, signs and writes it. `done`: what that is called. All are looked at,
    /// whatever becomes of the others.
    pub(super) fn each(
        &self,
        files: &[PathBuf],
        done: &str,
        change: impl Fn(&mut Draft, Format) -> Result<(), Failure>,
    ) -> anyhow::Result<Outcome> {
        let signer = self.signer(files)?;
        self.each_with(files, done, &signer, |draft, format| {
            change(draft, format)?;
            Ok(signer.sign(std::mem::take(&mut draft.value), Timestamp::now())?)
        })
    }

    /// Gets the key ready, for files that are documents by their names.
    pub(in crate::cli) fn signer(&self, files: &[PathBuf]) -> anyhow::Result<Signer> {
        for file in files {
            files::format(file)?;
        }
        self.signing.signer()
    }

    /// The file that has the key, or its public half.
    pub(in crate::cli) fn key_file(&self) -> Option<&Path> {
        self.signing.file()
    }

    /// As `each`, where `make` also signs, in its way.
    pub(in crate::cli) fn each_with(
        &self,
        files: &[PathBuf],
        done: &str,
        signer: &Signer,
        make: impl Fn(&mut Draft, Format) -> Result<Value, Failure>,
    ) -> anyhow::Result<Outcome> {
        let mut outcome = Outcome::Fine;
        for file in files {
            let shown = files::name(file);
            match self.one(file, signer, done, &make) {
                Ok(said) => emit(&said)?,
                Err(Failure::Refused(why)) => {
                    complain(&format!("{shown} was not {done}: {why}"));
                    outcome = outcome.max(Outcome::Refused);
                }
                Err(Failure::Other(e)) if e.is::<Usage>() => return Err(e),
                Err(Failure::Other(e)) => {
                    complain(&format!("{shown} was not {done}: {e:#}"));
                    outcome = Outcome::Unknown;
                }
            }
        }
        Ok(outcome)
    }

    fn one(
        &self,
        file: &Path,
        signer: &Signer,
        done: &str,
        make: impl Fn(&mut Draft, Format) -> Result<Value, Failure>,
    ) -> Result<String, Failure> {
        let format = files::format(file).map_err(anyhow::Error::from)?;
        let text = files::read(file, MAX_DOCUMENT_BYTES)?;
        let mut draft = Draft { value: parse_unsigned(&text, format)?, text };
        let before = co_signatures(&draft.value);
        let signed = make(&mut draft, format)?;
        if let Some(ended) = ended(&signed) {
            return Err(Failure::Refused(format!(
                "it expired at {ended}, and the controller would refuse it (PolicyExpired): put expires_at off, or leave it out"
            )));
        }
        let text = match format {
            Format::Json => {
                let kept = std::str::from_utf8(&draft.text).ok().and_then(|text| json_text::updated(text, &signed));
                kept.unwrap_or_else(|| format!("{signed:#}\n"))
            }
            Format::Yaml => self.yaml(&draft.text, &signed)?,
        };
        let written = Document::parse(text.as_bytes(), format)?;
        if !self.dry_run {
            files::replace(file, text.as_bytes())?;
        }
        let now = co_signatures(&signed);
        let (shown, gone) = (files::name(file), before.saturating_sub(now));
        if gone > 0 {
            let gone = counted(gone, "co-signature");
            let new = "`sekuire policy cosign` adds new ones";
            warn(&format!("{shown}: {gone} dropped, which held only for the former signature; {new}"));
        }
        if let Some(hint) = same_version(&draft.text, format, &written) {
            note(&format!("{shown}: {hint}"));
        }
        if self.dry_run {
            return Ok(text);
        }
        let (id, version, workspace) = (written.policy_id(), written.version(), written.workspace_id());
        let count = if now > 0 { format!(", {} now", counted(now + 1, "signature")) } else { String::new() };
        Ok(format!("{done} {shown}: {id} version {version} of {workspace}, with {}{count}\n", signer.key_id()))
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
        yaml_text::anew(signed)
    }
}

/// What to say where the rules of a signed document were changed and its version was not.
fn same_version(before: &[u8], format: Format, signed: &Document) -> Option<String> {
    let before = parse_unsigned(before, format).ok()?;
    let changed = !text(&before, "hash").is_empty() && text(&before, "hash") != signed.hash();
    let version = signed.version();
    (changed && text(&before, "version") == version.to_string()).then(|| {
        format!(
            "its rules changed and its version {version} did not: if that was published, --bump gives it the next one"
        )
    })
}

/// How many co-signatures a document has.
fn co_signatures(value: &Value) -> usize {
    value.get("co_signatures").and_then(Value::as_array).map_or(0, Vec::len)
}

/// When the document expired, if it has.
pub(super) fn ended(value: &Value) -> Option<Timestamp> {
    parse_time(text(value, "expires_at")).filter(|until| *until <= Timestamp::now())
}

/// A text of the document's root; empty if there is none, which signing then refuses.
pub(super) fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// Sets a member of the root.
pub(super) fn set(value: &mut Value, name: &str, to: &str) {
    if let Value::Object(members) = value {
        members.insert(name.to_owned(), to.into());
    }
}

/// Raises the version: to `to`, or its last number by one.
pub(super) fn raise(value: &mut Value, to: Option<&Version>) -> Result<(), Failure> {
    let present = text(value, "version");
    let refuse =
        |fault: &dyn std::fmt::Display| Failure::Refused(format!("the version {present:?} cannot be raised: {fault}"));
    let version: Version = present.parse().map_err(|fault| refuse(&fault))?;
    let next = match to {
        None => version.bump().map_err(|fault| refuse(&fault))?,
        Some(to) if *to > version => *to,
        Some(to) => return Err(Failure::Refused(format!("--version {to} is not above the present version {version}"))),
    };
    set(value, "version", &next.to_string());
    Ok(())
}

/// The present time, to the second.
pub(super) fn now() -> String {
    let now = Timestamp::now();
    Timestamp::from_second(now.as_second()).unwrap_or(now).to_string()
}

/// For clap.
pub(super) fn version(text: &str) -> Result<Version, String> {
    text.parse().map_err(|fault: crate::policy::version::VersionFault| fault.to_string())
}
