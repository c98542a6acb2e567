//! OpenPGP keys and their signatures. What a key may do, and whether it has expired, rpgpie decides; what it would let pass
//! because a signature says that it is old is refused here: the signer chose that date.

use jiff::Timestamp;
use pgp::composed::{Deserializable as _, DetachedSignature, SignedPublicKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{Signature, SignatureType};
use pgp::types::{EcdsaPublicParams, Fingerprint, KeyDetails, KeyId, PublicParams};
use rpgpie::certificate::{Certificate, Checked};

use super::object::Parts;

const BEGINNING: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----";
const END: &str = "-----END PGP PUBLIC KEY BLOCK-----";

/// A key that may sign, with its subkeys.
#[derive(Debug)]
pub(super) struct Key {
    public: SignedPublicKey,
    checked: Checked,
}

/// Armoured public keys: one block after another, each with one key or several, and whatever is written around them.
pub(super) fn read(text: &str) -> Result<Vec<Key>, String> {
    if text.contains("-----BEGIN PGP PRIVATE KEY BLOCK-----") {
        return Err("holds a private key: it does not belong here; export the public one (gpg --armor --export)".into());
    }
    let mut blocks = text.match_indices(BEGINNING).map(|(start, _)| start).peekable();
    let mut keys = Vec::new();
    while let Some(start) = blocks.next() {
        let block = &text[start..blocks.peek().copied().unwrap_or(text.len())];
        let block = block.find(END).map_or(block, |end| &block[..end + END.len()]);
        let fault = |error: pgp::errors::Error| format!("an OpenPGP public key cannot be read: {error}");
        let (found, _) = SignedPublicKey::from_string_many(block).map_err(fault)?;
        for public in found {
            let public = public.map_err(fault)?;
            keys.push(Key { checked: Checked::new(Certificate::from(public.clone())), public });
        }
    }
    if keys.is_empty() {
        return Err(format!("holds no OpenPGP public key; it begins with {BEGINNING}"));
    }
    Ok(keys)
}

/// Who signed, with which key.
pub(super) fn signer(keys: &[Key], parts: &Parts, now: Timestamp) -> Result<String, String> {
    let (detached, _) = DetachedSignature::from_string(&parts.signature)
        .map_err(|error| format!("has an OpenPGP signature that cannot be read: {error}"))?;
    let signature = &detached.signature;
    acceptable(signature, now)?;
    let mut why = format!("is signed with {}, which is none of the keys", issuer(signature));
    for key in keys.iter().filter(|key| key.may_have_made(signature)) {
        match key.made(signature, &parts.payload, now) {
            Ok(()) => return Ok(key.shown()),
            Err(fault) => why = fault,
        }
    }
    Err(why)
}

/// Whether it is of a kind that counts at all.
fn acceptable(signature: &Signature, now: Timestamp) -> Result<(), String> {
    if signature.typ() != Some(SignatureType::Binary) {
        return Err("has an OpenPGP signature that is none of a file".to_owned());
    }
    match signature.hash_alg() {
        Some(
            HashAlgorithm::Sha256
            | HashAlgorithm::Sha384
            | HashAlgorithm::Sha512
            | HashAlgorithm::Sha3_256
            | HashAlgorithm::Sha3_512,
        ) => {}
        other => {
            let hash = other.map_or_else(|| "an unknown hash".to_owned(), |hash| hash.to_string());
            return Err(format!("has an OpenPGP signature over {hash}; accepted are SHA-256 and stronger ones"));
        }
    }
    let created = signature.created().map(|time| i64::from(time.as_secs()));
    let lasts = signature.signature_expiration_time().map(|time| i64::from(time.as_secs())).filter(|secs| *secs > 0);
    match (created, lasts) {
        (None, _) => Err("has an OpenPGP signature that does not say when it was made".to_owned()),
        (Some(created), Some(lasts)) if created + lasts <= now.as_second() => {
            Err("has an OpenPGP signature that has expired".to_owned())
        }
        _ => Ok(()),
    }
}

/// What a signature says of who made it.
fn issuer(signature: &Signature) -> String {
    let fingerprint = signature.issuer_fingerprint().first().map(|fingerprint| format!("{fingerprint:X}"));
    let id = || signature.issuer_key_id().first().map(ToString::to_string);
    fingerprint.or_else(id).map_or_else(|| "an unnamed OpenPGP key".into(), |id| format!("the OpenPGP key {id}"))
}

impl Key {
    /// Primary key and subkeys.
    fn parts(&self) -> impl Iterator<Item = (Fingerprint, KeyId)> {
        let subkeys = self.public.public_subkeys.iter().map(|subkey| (subkey.fingerprint(), subkey.legacy_key_id()));
        std::iter::once((self.public.fingerprint(), self.public.legacy_key_id())).chain(subkeys)
    }

    /// Whether it is the key that a signature names.
    fn may_have_made(&self, signature: &Signature) -> bool {
        let (fingerprints, ids) = (signature.issuer_fingerprint(), signature.issuer_key_id());
        self.parts().any(|(fingerprint, id)| fingerprints.contains(&&fingerprint) || ids.contains(&&id))
    }

    /// Whether it made a signature, and counts now.
    fn made(&self, signature: &Signature, payload: &[u8], now: Timestamp) -> Result<(), String> {
        let shown = self.shown();
        // Whatever the reason and the date of a revocation: it is in the Secret, so somebody meant it.
        if !self.public.details.revocation_signatures.is_empty() {
            return Err(format!("is signed with the OpenPGP key {shown}, which is revoked"));
        }
        let seconds = u32::try_from(now.as_second()).map_err(|_| "cannot be verified at this time".to_owned())?;
        let valid = self.checked.valid_signing_capable_component_keys_at(pgp::types::Timestamp::from_secs(seconds));
        let mut valid = valid.iter().filter(|part| !self.revokes(&part.as_componentkey().fingerprint())).peekable();
        if let Some(kind) = self.unknown_kind(signature) {
            return Err(format!(
                "is signed with the OpenPGP key {shown}, which is {kind}; accepted are Ed25519, ECDSA on P-256, P-384 and P-521, and \
                 RSA of 2048 bits and more"
            ));
        }
        if valid.peek().is_none() {
            let fault = "which has expired, is revoked, or may not sign";
            return Err(format!("is signed with the OpenPGP key {shown}, {fault}"));
        }
        if valid.any(|part| part.verify(signature, payload).is_ok()) {
            return Ok(());
        }
        Err(format!("has a signature that no valid part of the OpenPGP key {shown} made of it"))
    }

    /// Whether a subkey is revoked.
    fn revokes(&self, fingerprint: &Fingerprint) -> bool {
        let mut subkeys = self.public.public_subkeys.iter().filter(|subkey| subkey.fingerprint() == *fingerprint);
        subkeys.any(|subkey| subkey.signatures.iter().any(|s| s.typ() == Some(SignatureType::SubkeyRevocation)))
    }

    /// What kind of key made a signature, if it is one that is not verified here: of gpg's kinds these have no verifier.
    fn unknown_kind(&self, signature: &Signature) -> Option<String> {
        let (fingerprints, ids) = (signature.issuer_fingerprint(), signature.issuer_key_id());
        let subkeys = self.public.public_subkeys.iter().map(|subkey| {
            let key = &subkey.key;
            (key.fingerprint(), key.legacy_key_id(), key.public_params(), key.algorithm())
        });
        let primary = &self.public.primary_key;
        let primary = (primary.fingerprint(), primary.legacy_key_id(), primary.public_params(), primary.algorithm());
        let mut parts = std::iter::once(primary).chain(subkeys);
        let (_, _, params, algorithm) =
            parts.find(|(fingerprint, id, ..)| fingerprints.contains(&fingerprint) || ids.contains(&id))?;
        match params {
            PublicParams::ECDSA(EcdsaPublicParams::Unsupported { curve, .. }) => {
                Some(format!("one on the curve {}", curve.name()))
            }
            PublicParams::DSA(_) => Some("one of DSA".to_owned()),
            PublicParams::Elgamal(_) | PublicParams::Unknown { .. } => Some(format!("one of {algorithm:?}")),
            _ => None,
        }
    }

    /// User and fingerprint.
    fn shown(&self) -> String {
        let fingerprint = self.public.fingerprint();
        let user = self.checked.primary_user_id().and_then(|user| user.id.as_str());
        user.map_or_else(|| format!("{fingerprint:X}"), |user| format!("{user} ({fingerprint:X})"))
    }
}
