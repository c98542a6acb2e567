//! SSH keys and their signatures.

use jiff::Timestamp;
use ssh_key::{Algorithm, HashAlg, PublicKey, SshSig};

use super::object::Parts;

/// What Git signs for.
pub(super) const NAMESPACE: &str = "git";

/// Shorter RSA keys are refused.
const SHORTEST_RSA: usize = 2048;

/// A key that may sign.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) key: PublicKey,
    /// Whose it is: principals, or a comment; may be empty.
    pub(super) owner: String,
    /// Whether it may sign for Git.
    pub(super) for_git: bool,
    pub(super) not_before: Option<Timestamp>,
    pub(super) not_after: Option<Timestamp>,
}

/// Public keys, one a line.
pub(super) fn read(text: &str) -> Result<Vec<Key>, String> {
    lines(text)
        .map(|(number, line)| {
            let key = public_key(line).map_err(|fault| format!("line {number}: {fault}"))?;
            let owner = key.comment().to_owned();
            Ok(Key { key, owner, for_git: true, not_before: None, not_after: None })
        })
        .collect()
}

/// The lines that say something, with their numbers.
pub(super) fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
    lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

/// A key that signatures can be verified with.
pub(super) fn public_key(text: &str) -> Result<PublicKey, String> {
    let key = PublicKey::from_openssh(text).map_err(|error| format!("is no SSH public key: {error}"))?;
    let bits = key.key_data().rsa().and_then(|rsa| rsa.n.as_positive_bytes()).map(|modulus| modulus.len() * 8);
    match key.algorithm() {
        Algorithm::Rsa { .. } if bits.is_none_or(|bits| bits < SHORTEST_RSA) => {
            Err(format!("is an RSA key of fewer than {SHORTEST_RSA} bits, which is not accepted"))
        }
        Algorithm::Rsa { .. }
        | Algorithm::Ed25519
        | Algorithm::SkEd25519
        | Algorithm::Ecdsa { .. }
        | Algorithm::SkEcdsaSha2NistP256 => Ok(key),
        other => Err(format!("is a key of the kind {other}, which is not accepted")),
    }
}

/// Who signed, with which key.
pub(super) fn signer(keys: &[Key], parts: &Parts, now: Timestamp) -> Result<String, String> {
    let signature = SshSig::from_pem(&parts.signature)
        .map_err(|error| format!("has an SSH signature that cannot be read: {error}"))?;
    let fingerprint = PublicKey::from(signature.public_key().clone()).fingerprint(HashAlg::Sha256);
    let mut why = format!("is signed with the SSH key {fingerprint}, which is none of the keys");
    for key in keys.iter().filter(|key| key.key.key_data() == signature.public_key()) {
        match key.usable(now) {
            Ok(()) => {
                return match key.key.verify(NAMESPACE, &parts.payload, &signature) {
                    Ok(()) if key.owner.is_empty() => Ok(fingerprint.to_string()),
                    Ok(()) => Ok(format!("{} ({fingerprint})", key.owner)),
                    Err(_) => Err(format!("has a signature that the SSH key {fingerprint} did not make of it for Git")),
                };
            }
            Err(fault) => why = format!("is signed with the SSH key {fingerprint} of {}, which {fault}", key.owner),
        }
    }
    Err(why)
}

impl Key {
    /// Whether it may sign for Git now. It is the present that counts: what a commit says of its time, its author chose.
    fn usable(&self, now: Timestamp) -> Result<(), String> {
        match (self.not_before, self.not_after) {
            _ if !self.for_git => Err(format!("is not for the namespace {NAMESPACE}")),
            (Some(from), _) if now < from => Err(format!("is not valid before {from}")),
            (_, Some(until)) if now > until => Err(format!("was valid until {until}")),
            _ => Ok(()),
        }
    }
}
