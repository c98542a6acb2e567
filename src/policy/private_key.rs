//! Private keys: reading, writing, signing.

use std::fmt;

use ed25519_dalek::pkcs8::KeypairBytes;
use ed25519_dalek::{Signer, SigningKey};
use pkcs8::der::pem::LineEnding;
use pkcs8::pkcs5::{self, pbes2};
use pkcs8::{DecodePrivateKey, EncodePrivateKey, EncryptedPrivateKeyInfoRef, PrivateKeyInfoRef, SecretDocument};

use super::keys::PublicKey;
use super::pem;

/// An Ed25519 key that can sign. Its memory is wiped when it is dropped.
pub struct PrivateKey(SigningKey);

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(…)")
    }
}

/// Why a private key cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrivateKeyFault {
    /// It is none, or not one of Ed25519.
    #[error("{0}")]
    Malformed(String),
    /// It is encrypted, and there is no passphrase.
    #[error("the key is encrypted, and no passphrase was given")]
    Encrypted,
    /// The passphrase does not decrypt it.
    #[error("the passphrase is wrong")]
    WrongPassphrase,
}

const ACCEPTED: &str = "expected an Ed25519 private key as PKCS#8 PEM (-----BEGIN PRIVATE KEY-----), as an OpenSSH \
                        private key, or as 32 or 64 bytes in hex";

impl PrivateKey {
    /// The key of 32 random bytes.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> PrivateKey {
        PrivateKey(SigningKey::from_bytes(seed))
    }

    /// Reads a key: PKCS#8 PEM (RFC 8410, as openssl makes it), an OpenSSH private key, 32 bytes of seed in hex, or 64
    /// bytes of seed and public key in hex. `passphrase`: what the PEM or the OpenSSH key is encrypted with; of a key that
    /// is not encrypted it is ignored.
    ///
    /// # Errors
    /// [`PrivateKeyFault::Malformed`] when it is none of these, [`PrivateKeyFault::Encrypted`] when it is encrypted and
    /// there is no passphrase, [`PrivateKeyFault::WrongPassphrase`]. No message shows anything of the text.
    pub fn parse(text: &str, passphrase: Option<&str>) -> Result<PrivateKey, PrivateKeyFault> {
        let (mut blocks, text) = (pem::blocks(text).0, text.trim());
        if text.contains("-----BEGIN ") {
            let whole = blocks.len();
            // certificates beside it, and what openssl writes around it, are of no interest
            blocks.retain(|block| block.label.ends_with("PRIVATE KEY"));
            return match blocks.as_slice() {
                [block] => of_block(block, passphrase),
                [] if whole == 0 => Err(malformed("PEM that breaks off")),
                [] => Err(malformed("PEM of something else")),
                _ => Err(malformed("several private keys; expected one")),
            };
        }
        let mut pair = [0; 64];
        if hex::decode_to_slice(text, &mut pair[..32]).is_ok() {
            let mut seed = [0; 32];
            seed.copy_from_slice(&pair[..32]);
            return Ok(PrivateKey::from_seed(&seed));
        }
        hex::decode_to_slice(text, &mut pair).map_err(|_| malformed("not a private key"))?;
        SigningKey::from_keypair_bytes(&pair)
            .map(PrivateKey)
            .map_err(|_| malformed("64 bytes, but the second half is not the public key of the first"))
    }

    /// Without the public half: openssl 3.0 reads no PKCS#8 that has it (version 2, RFC 5958).
    fn pair(&self) -> KeypairBytes {
        KeypairBytes { secret_key: self.0.to_bytes(), public_key: None }
    }

    /// PKCS#8 PEM.
    #[must_use]
    #[allow(clippy::expect_used, reason = "32 bytes always have this form")]
    pub fn to_pkcs8_pem(&self) -> String {
        self.pair().to_pkcs8_pem(LineEnding::LF).expect("a private key can be encoded").as_str().to_owned()
    }

    /// PKCS#8 PEM, encrypted by a passphrase (PBES2 of RFC 8018 with scrypt and AES-256-CBC, which openssl reads).
    /// `salt` and `iv`: random bytes, used once.
    ///
    /// # Errors
    /// [`PrivateKeyFault::Malformed`] when the passphrase cannot be used.
    pub fn to_encrypted_pem(&self, passphrase: &str, salt: [u8; 16], iv: [u8; 16]) -> Result<String, PrivateKeyFault> {
        let unusable = |what: &dyn fmt::Display| PrivateKeyFault::Malformed(format!("cannot be encrypted: {what}"));
        let der = self.pair().to_pkcs8_der().map_err(|e| unusable(&e))?;
        // The cost that openssl takes itself: twice of it is more memory than openssl allows when it reads.
        let cost = pkcs5::scrypt::Params::new(14, 8, 1).map_err(|e| unusable(&e))?;
        let parameters = pbes2::Parameters::generate_scrypt_aes256cbc(cost, &salt, iv).map_err(|e| unusable(&e))?;
        let info = PrivateKeyInfoRef::try_from(der.as_bytes()).map_err(|e| unusable(&e))?;
        let encrypted = info.encrypt_with_params(parameters, passphrase).map_err(|e| unusable(&e))?;
        let pem = encrypted.to_pem("ENCRYPTED PRIVATE KEY", LineEnding::LF).map_err(|e| unusable(&e))?;
        Ok(pem.as_str().to_owned())
    }

    /// The public half.
    #[must_use]
    #[allow(clippy::expect_used, reason = "the clamped multiple of the base point is never of small order")]
    pub fn public(&self) -> PublicKey {
        PublicKey::new(&self.0.verifying_key().to_bytes()).expect("a public key that was computed is not weak")
    }

    /// The signature over these bytes.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

fn malformed(what: &str) -> PrivateKeyFault {
    PrivateKeyFault::Malformed(format!("{what}; {ACCEPTED}"))
}

fn of_block(block: &pem::Block, passphrase: Option<&str>) -> Result<PrivateKey, PrivateKeyFault> {
    match &*block.label {
        "OPENSSH PRIVATE KEY" => of_openssh(&block.text, passphrase),
        "ENCRYPTED PRIVATE KEY" => of_encrypted_pem(&block.text, passphrase),
        _ => SigningKey::from_pkcs8_pem(&block.text)
            .map(PrivateKey)
            .map_err(|_| malformed("not the PKCS#8 PEM of an Ed25519 key")),
    }
}

fn of_openssh(text: &str, passphrase: Option<&str>) -> Result<PrivateKey, PrivateKeyFault> {
    let mut key =
        ssh_key::PrivateKey::from_openssh(text).map_err(|_| malformed("not an OpenSSH private key of type ed25519"))?;
    if !key.algorithm().is_ed25519() {
        return Err(malformed("an OpenSSH key, but not of type ed25519"));
    }
    if key.is_encrypted() {
        let passphrase = passphrase.ok_or(PrivateKeyFault::Encrypted)?;
        key = key.decrypt(passphrase).map_err(|_| PrivateKeyFault::WrongPassphrase)?;
    }
    let pair = key.key_data().ed25519().ok_or_else(|| malformed("an OpenSSH key, but not of type ed25519"))?;
    Ok(PrivateKey(SigningKey::from_bytes(&pair.private.to_bytes())))
}

fn of_encrypted_pem(text: &str, passphrase: Option<&str>) -> Result<PrivateKey, PrivateKeyFault> {
    let (label, der) = SecretDocument::from_pem(text).map_err(|_| malformed("not the PEM of an encrypted key"))?;
    let info = (label == "ENCRYPTED PRIVATE KEY").then(|| EncryptedPrivateKeyInfoRef::try_from(der.as_bytes()));
    let Some(Ok(info)) = info else { return Err(malformed("not the PKCS#8 PEM of an encrypted key")) };
    let passphrase = passphrase.ok_or(PrivateKeyFault::Encrypted)?;
    // Whether a passphrase is wrong shows only by what comes out: no key at all.
    let decrypted = info.decrypt(passphrase).map_err(|e| match e {
        pkcs8::Error::EncryptedPrivateKey(e) if e != pkcs5::Error::DecryptFailed => {
            malformed(&format!("encrypted in a way that is not supported ({e})"))
        }
        _ => PrivateKeyFault::WrongPassphrase,
    })?;
    SigningKey::from_pkcs8_der(decrypted.as_bytes())
        .map(PrivateKey)
        .map_err(|_| malformed("an encrypted key, but not an Ed25519 one"))
}
