//! What signs: a private key in a file, or a program that has the key.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use jiff::Timestamp;
use serde_json::Value;

use super::{Usage, files, warn};
use crate::policy::sign::{SignFault, cosign_with, sign_with};
use crate::policy::{Document, PrivateKey, PrivateKeyFault, PublicKey};

/// A private key takes a few hundred bytes.
const MAX_KEY_BYTES: usize = 64 * 1024;
/// How long a program that signs may take: somebody may have to touch a device.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long its output may stay open when it has ended.
const GRACE: Duration = Duration::from_secs(2);
/// A passphrase in the environment.
const PASSPHRASE: &str = "SEKUIRE_KEY_PASSPHRASE";

/// Where the passphrase of a private key comes from.
#[derive(Args, Clone, Debug)]
pub(super) struct PassphraseArgs {
    /// File with the passphrase of the private key. Default: the environment variable SEKUIRE_KEY_PASSPHRASE, else the
    /// terminal is asked.
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

impl PassphraseArgs {
    /// The passphrase of the file or the environment, if there is one.
    pub(super) fn given(&self) -> anyhow::Result<Option<String>> {
        if let Some(path) = &self.passphrase_file {
            let text = files::read_text(path, MAX_KEY_BYTES)?;
            if files::readable_by_others(path) {
                let shown = files::name(path);
                warn(&format!("others may read the passphrase in {shown}; `chmod 600 {shown}` forbids it"));
            }
            return Ok(Some(text.trim_end_matches(['\n', '\r']).to_owned()));
        }
        Ok(std::env::var(PASSPHRASE).ok().filter(|text| !text.is_empty()))
    }

    /// The passphrase of a key that is encrypted, from wherever it is to be had.
    pub(super) fn ask(&self, key: &Path) -> anyhow::Result<String> {
        if let Some(passphrase) = self.given()? {
            return Ok(passphrase);
        }
        prompt(&format!("Passphrase of {}: ", key.display()))
            .with_context(|| format!("{} is encrypted, and no passphrase was given", key.display()))
    }
}

/// Asks on the terminal, without showing what is typed.
pub(super) fn prompt(question: &str) -> anyhow::Result<String> {
    rpassword::prompt_password(question)
        .with_context(|| format!("there is no terminal to ask on; give --passphrase-file, or set {PASSPHRASE}"))
}

/// Reads a private key, and warns where others may.
pub(super) fn private_key(path: &Path, passphrase: &PassphraseArgs) -> anyhow::Result<PrivateKey> {
    let shown = path.display();
    let text = files::read_text(path, MAX_KEY_BYTES)?;
    let key = match PrivateKey::parse(&text, None) {
        Err(PrivateKeyFault::Encrypted) => PrivateKey::parse(&text, Some(&passphrase.ask(path)?)),
        other => other,
    };
    let key = key.map_err(|fault| anyhow!("{shown}: {fault}"))?;
    if files::readable_by_others(path) {
        warn(&format!("others may read the private key {shown}; `chmod 600 {shown}` forbids it"));
    }
    Ok(key)
}

/// Reads a public key: of a file that holds one, or of a private key.
pub(super) fn public_key(path: &Path) -> anyhow::Result<PublicKey> {
    let text = files::read_text(path, MAX_KEY_BYTES)?;
    PublicKey::parse(&text).map_err(|fault| anyhow!("{}: {fault}", path.display()))
}

/// Where help lists them, see [`super::cluster::ClusterArgs`].
const HEADING: &str = "Signing";

/// What signs.
#[derive(Args, Clone, Debug)]
pub(super) struct SigningArgs {
    /// Private key: PKCS#8 PEM (`openssl genpkey -algorithm ed25519`), OpenSSH (`ssh-keygen -t ed25519`), or 32 or 64 bytes
    /// in hex.
    #[arg(long, value_name = "FILE", required_unless_present = "signer", conflicts_with = "signer", help_heading = HEADING)]
    key: Option<PathBuf>,
    /// Program that signs instead, for keys in a KMS or in hardware: it is run by the shell, gets the bytes on standard
    /// input, and writes the Ed25519 signature, 64 bytes, to standard output.
    #[arg(long, value_name = "COMMAND", requires = "public_key", help_heading = HEADING)]
    signer: Option<String>,
    /// Public key of --signer: PEM, OpenSSH or hex.
    #[arg(long, value_name = "FILE", requires = "signer", help_heading = HEADING)]
    public_key: Option<PathBuf>,
    /// Id of the key: the keyId of its SigningKey. Default: the one that `sekuire key show` prints.
    #[arg(long, value_name = "ID", help_heading = HEADING)]
    key_id: Option<String>,
    #[command(flatten)]
    passphrase: PassphraseArgs,
}

enum Hand {
    Key(PrivateKey),
    Program(String),
}

/// A key that is ready to sign.
pub(super) struct Signer {
    hand: Hand,
    public: PublicKey,
    key_id: String,
}

impl SigningArgs {
    /// The file that has the key, or its public half.
    pub(super) fn file(&self) -> Option<&Path> {
        self.key.as_deref().or(self.public_key.as_deref())
    }

    /// Gets the key ready: reads it, and asks for its passphrase where it has one.
    pub(super) fn signer(&self) -> anyhow::Result<Signer> {
        let (hand, public) = match (&self.key, &self.signer, &self.public_key) {
            (Some(path), None, _) => {
                let key = private_key(path, &self.passphrase)?;
                let public = key.public();
                (Hand::Key(key), public)
            }
            (None, Some(command), Some(path)) => (Hand::Program(command.clone()), public_key(path)?),
            // clap has seen to it
            _ => bail!(Usage("expected --key, or --signer with --public-key".to_owned())),
        };
        let key_id = self.key_id.clone().unwrap_or_else(|| public.key_id());
        Ok(Signer { hand, public, key_id })
    }
}

impl Signer {
    /// The id under which the key signs.
    pub(super) fn key_id(&self) -> &str {
        &self.key_id
    }

    /// Signs a document, see [`crate::policy::sign()`].
    pub(super) fn sign(&self, value: Value, now: Timestamp) -> Result<Value, SignFault> {
        sign_with(value, &self.public, &self.key_id, now, |message| self.signature(message))
    }

    /// Adds a co-signature, see [`cosign_with`].
    pub(super) fn cosign(&self, document: &Document) -> Result<Value, SignFault> {
        cosign_with(document, &self.public, &self.key_id, |message| self.signature(message))
    }

    fn signature(&self, message: &[u8]) -> Result<[u8; 64], String> {
        match &self.hand {
            Hand::Key(key) => Ok(key.sign(message)),
            Hand::Program(command) => run(command, message).map_err(|e| format!("the program of --signer {e:#}")),
        }
    }
}

/// Has a program sign these bytes.
fn run(command: &str, message: &[u8]) -> anyhow::Result<[u8; 64]> {
    let mut child = Command::new("sh").args(["-c", command]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let message = message.to_vec();
    // In threads, since a program may do either first, or neither.
    let write = std::thread::spawn(move || stdin.map(|mut stdin| stdin.write_all(&message)));
    let (done, reading) = mpsc::channel();
    std::thread::spawn(move || {
        let mut signature = Vec::new();
        let read = stdout.map(|stdout| stdout.take(4096).read_to_end(&mut signature)).transpose();
        // Where nobody waits for it any more, there is nobody to tell.
        let _ = done.send(read.map(|_| signature));
    });
    let status = wait(&mut child)?;
    // A program that does not read its input to the end has no signature to show for it either.
    drop(write);
    if !status.success() {
        bail!("ended with {status}");
    }
    // What it has left running may hold its output open.
    let signature = reading.recv_timeout(GRACE).map_err(|_| anyhow!("ended, and its output stayed open"))??;
    let length = signature.len();
    signature
        .try_into()
        .map_err(|_| anyhow!("wrote {length} bytes; expected the 64 of an Ed25519 signature, in binary"))
}

fn wait(child: &mut Child) -> anyhow::Result<std::process::ExitStatus> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if start.elapsed() > PATIENCE {
            child.kill()?;
            child.wait()?;
            bail!("did not end within {} s", PATIENCE.as_secs());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
