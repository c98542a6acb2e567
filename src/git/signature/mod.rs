//! Who signed a commit or a tag. No libgit2 and no network: the objects come from a fetch child, the keys from a Secret.
//!
//! What is signed comes from whoever may push: it is bounded in size, and whatever is wrong with it is a refusal.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

mod allowed_signers;
mod object;
mod openpgp;
mod ssh;

use super::one_line;

/// Longest signature that is looked at, in bytes. Those of the largest keys in use are a few kilobytes long.
const LONGEST_SIGNATURE: usize = 64 << 10;

/// What the names of the members end in that hold keys, for people.
const ACCEPTED: &str = "accepted are members named …allowed_signers (as OpenSSH writes such a file), ….pub (SSH public keys, \
                        one a line) and ….asc (OpenPGP public keys, armoured)";

/// Which object of a tip has to be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Signed {
    /// The commit.
    Commit,
    /// The annotated tag that names the commit.
    Tag,
}

/// The object whose signature counts, as Git stores it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedObject {
    /// Which one it is.
    pub kind: Signed,
    /// Its id, 40 hex.
    pub id: String,
    /// Its bytes, with the signature, if there is one.
    pub content: Vec<u8>,
}

/// The keys that may sign.
#[derive(Debug, Default)]
pub struct SignatureKeys {
    ssh: Vec<ssh::Key>,
    openpgp: Vec<openpgp::Key>,
}

impl SignatureKeys {
    /// The keys among the members of a Secret. Members of other names are not looked at.
    ///
    /// # Errors
    /// What cannot be used, in which member and line. Nothing is left out silently: a key that its owner takes for
    /// restricted must not count without the restriction.
    pub fn read<'a>(members: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Result<Self, String> {
        let mut keys = Self::default();
        for (name, bytes) in members {
            let named = |fault: String| format!("{name}: {fault}");
            let text = || std::str::from_utf8(bytes).map_err(|_| named("is no text (UTF-8)".to_owned()));
            if name.ends_with("allowed_signers") {
                keys.ssh.extend(allowed_signers::read(text()?).map_err(named)?);
            } else if name.ends_with(".pub") {
                keys.ssh.extend(ssh::read(text()?).map_err(named)?);
            } else if name.ends_with(".asc") {
                keys.openpgp.extend(openpgp::read(text()?).map_err(named)?);
            }
        }
        if keys.ssh.is_empty() && keys.openpgp.is_empty() {
            return Err(format!("holds no key that could have signed; {ACCEPTED}"));
        }
        Ok(keys)
    }

    /// Who signed an object, if one of the keys did. `reference` is what was asked for: a signed tag of another name
    /// says nothing about it.
    ///
    /// # Errors
    /// Why nobody did who counts.
    pub fn signer(&self, object: &SignedObject, reference: &str, now: Timestamp) -> Result<String, String> {
        let parts = match object.kind {
            Signed::Commit => object::commit(&object.content),
            Signed::Tag => object::tag(&object.content, reference),
        }?;
        if parts.signature.len() > LONGEST_SIGNATURE {
            return Err(format!("has a signature of more than {LONGEST_SIGNATURE} bytes"));
        }
        let signer = match parts.signature.lines().next().unwrap_or_default().trim_end() {
            "-----BEGIN SSH SIGNATURE-----" => ssh::signer(&self.ssh, &parts, now),
            "-----BEGIN PGP SIGNATURE-----" => openpgp::signer(&self.openpgp, &parts, now),
            _ => Err("has a signature that is neither one of SSH nor of OpenPGP; no other is accepted".to_owned()),
        };
        signer.map(|signer| one_line(&signer).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_without_keys_is_refused_and_says_what_is_accepted() {
        let members: [(&str, &[u8]); 2] = [("identity", b"x"), ("team.allowed_signers", b"# nobody yet\n")];
        let fault = SignatureKeys::read(members).unwrap_err();
        assert!(fault.contains("holds no key") && fault.contains("….asc"), "{fault}");
    }

    #[test]
    fn what_is_no_key_is_named_with_member_and_line() {
        for (name, content, says) in [
            ("a.pub", &b"\nssh-ed25519 AAAA\n"[..], "a.pub: line 2"),
            ("a.pub", &b"\xff"[..], "a.pub: is no text"),
            ("a.asc", &b"hello"[..], "a.asc: holds no OpenPGP public key"),
            ("a.asc", &b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nAAAA\n"[..], "a.asc: "),
        ] {
            let fault = SignatureKeys::read([(name, content)]).unwrap_err();
            assert!(fault.starts_with(says), "{fault}");
        }
    }
}
