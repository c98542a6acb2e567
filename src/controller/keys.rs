//! The trusted keys: `SigningKey` and `SigningThreshold` objects become one key ring, and each key's status says whether it
//! is used.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;

use crate::api::conditions::{self, NewCondition};
use crate::api::{Moment, SigningKey, SigningKeySpec, SigningThreshold, Unreadable};
use crate::policy::verify::{NOTICE, ends_soon};
use crate::policy::{KeyFault, KeyRing, PublicKey, Reason, Revocation, Threshold, TrustedKey};

/// The key ring of some specs. A key that cannot be used never makes another unusable.
pub fn ring<'a>(specs: impl IntoIterator<Item = &'a SigningKeySpec>) -> KeyRing {
    ring_of(specs.into_iter().map(|spec| spec.trusted_key().map_err(|fault| (spec.key_id.clone(), fault))))
}

fn ring_of(keys: impl Iterator<Item = Result<TrustedKey, (String, KeyFault)>>) -> KeyRing {
    let (mut usable, mut unusable) = (Vec::new(), Vec::new());
    for key in keys {
        match key {
            Ok(key) => usable.push(key),
            Err(fault) => unusable.push(fault),
        }
    }
    unusable.into_iter().fold(KeyRing::new(usable), |ring, (key_id, fault)| ring.with_unusable(key_id, fault))
}

/// All `SigningKey` and `SigningThreshold` objects, as the watches brought them.
#[derive(Default)]
pub struct Keys {
    objects: BTreeMap<String, SigningKey>,
    unreadable: BTreeMap<String, UnreadableKey>,
    /// One that cannot be read too: no number of signatures is enough for it.
    thresholds: BTreeMap<String, Threshold>,
}

/// What is known of a `SigningKey` that cannot be read.
struct UnreadableKey {
    key_id: Option<String>,
    /// Its public key, if the object says that it is revoked.
    revoked: Option<PublicKey>,
    why: String,
}

impl UnreadableKey {
    fn new(object: &Unreadable) -> Self {
        // what is no key revokes none
        let public_key = || PublicKey::parse(&object.text("publicKey")?).ok();
        UnreadableKey {
            key_id: object.text("keyId"),
            revoked: object.has("revoked").then(public_key).flatten(),
            why: object.to_string(),
        }
    }

    /// It is trusted for nothing, and makes its id unusable; a revocation counts wherever that public key is.
    fn entry(&self) -> Result<TrustedKey, (String, KeyFault)> {
        let key_id = self.key_id.clone().unwrap_or_default();
        let Some(public_key) = self.revoked.clone() else {
            return Err((key_id, KeyFault::Malformed(self.why.clone())));
        };
        let revoked = Some(Revocation { reason: Some(self.why.clone()), at: None });
        Ok(TrustedKey { key_id, public_key, workspaces: Vec::new(), not_before: None, not_after: None, revoked })
    }
}

impl Keys {
    /// An object was created or changed.
    pub fn seen(&mut self, key: SigningKey) {
        let name = key.metadata.name.clone().unwrap_or_default();
        self.unreadable.remove(&name);
        self.objects.insert(name, key);
    }

    /// An object was created or changed, and cannot be read: its key id is not used any more.
    pub fn unreadable(&mut self, key: &Unreadable) {
        self.objects.remove(key.name());
        self.unreadable.insert(key.name().to_owned(), UnreadableKey::new(key));
    }

    /// An object is gone.
    pub fn gone(&mut self, name: &str) {
        self.objects.remove(name);
        self.unreadable.remove(name);
    }

    /// A full list of keys was read.
    pub fn retain(&mut self, names: &std::collections::HashSet<String>) {
        self.objects.retain(|name, _| names.contains(name));
        self.unreadable.retain(|name, _| names.contains(name));
    }

    /// A threshold was created or changed.
    pub fn threshold_seen(&mut self, object: &SigningThreshold) {
        let name = object.metadata.name.clone().unwrap_or_default();
        let threshold = object.spec.threshold(&name);
        self.thresholds.insert(name, threshold);
    }

    /// A threshold was created or changed, and cannot be read.
    pub fn threshold_unreadable(&mut self, object: &Unreadable) {
        self.thresholds.insert(object.name().to_owned(), object.threshold());
    }

    /// A threshold is gone.
    pub fn threshold_gone(&mut self, name: &str) {
        self.thresholds.remove(name);
    }

    /// A full list of thresholds was read.
    pub fn retain_thresholds(&mut self, names: &std::collections::HashSet<String>) {
        self.thresholds.retain(|name, _| names.contains(name));
    }

    /// The key ring of all objects.
    pub fn ring(&self) -> KeyRing {
        let objects = self.objects.values().map(|key| key.spec.trusted_key().map_err(|e| (key.spec.key_id.clone(), e)));
        let ring = ring_of(objects.chain(self.unreadable.values().map(UnreadableKey::entry)));
        let since = |key: &SigningKey| {
            Some((key.spec.key_id.clone(), key.metadata.creation_timestamp.as_ref().map(|created| created.0)?))
        };
        ring.with_thresholds(self.thresholds.values().cloned()).with_since(self.objects.values().filter_map(since))
    }

    /// All keys.
    pub fn objects(&self) -> impl Iterator<Item = &SigningKey> {
        self.objects.values()
    }

    /// How many objects claim each key id.
    pub fn claims(&self) -> HashMap<String, usize> {
        let mut claims = HashMap::new();
        let unreadable = self.unreadable.values().filter_map(|key| key.key_id.as_ref());
        for key_id in self.objects.values().map(|key| &key.spec.key_id).chain(unreadable) {
            *claims.entry(key_id.clone()).or_insert(0) += 1;
        }
        claims
    }

    /// The next moment at which a key begins or ceases to count, or is warned of.
    pub fn next_boundary(&self, now: Timestamp) -> Option<Timestamp> {
        let boundaries = self.objects.values().flat_map(|key| key.spec.boundaries());
        boundaries.flat_map(|at| [at.checked_sub(NOTICE).unwrap_or(at), at]).filter(|at| *at > now).min()
    }
}

/// The `Ready` condition of a key.
pub fn condition(
    spec: &SigningKeySpec,
    ring: &KeyRing,
    claims: &HashMap<String, usize>,
    now: Timestamp,
) -> NewCondition {
    let not = |reason: &str, message: String| NewCondition::new("Ready", false, reason, message);
    if claims.get(&spec.key_id).copied().unwrap_or(0) > 1 {
        return not(
            "DuplicateKeyId",
            format!("keyId {} is claimed by another SigningKey too: neither is used", spec.key_id),
        );
    }
    let key = match spec.trusted_key() {
        Ok(key) => key,
        Err(fault) => return not(fault.reason(), fault.to_string()),
    };
    // asked of the ring, since a public key that is revoked in one object is revoked in all
    if let Some(revoked) = ring.get(&spec.key_id).unwrap_or(&key).revoked.as_ref() {
        let why = revoked.reason.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
        return not(Reason::KeyRevoked.as_str(), format!("revoked{why}; what it signed is not enforced"));
    }
    match (key.not_before, key.not_after) {
        (Some(from), _) if now < from => not(Reason::KeyNotYetValid.as_str(), format!("counts from {from} on")),
        (_, Some(until)) if until <= now => {
            not(Reason::KeyExpired.as_str(), format!("ended at {until}; what it signed is not enforced"))
        }
        (_, Some(until)) => NewCondition::new("Ready", true, "Succeeded", format!("may sign until {until}")),
        _ => NewCondition::new("Ready", true, "Succeeded", "may sign"),
    }
}

/// The `Expiring` condition of a key that may sign, and soon may no more.
pub fn expiring(spec: &SigningKeySpec, ready: &NewCondition, now: Timestamp) -> Option<NewCondition> {
    let not_after = spec.not_after.as_ref().and_then(Moment::at);
    let until = ends_soon(not_after, now).filter(|_| ready.status)?;
    let message = format!(
        "the key ends at {until}, and what it signed is not enforced from then on: sign again with another key before \
         that (`sekuire key rotate`)"
    );
    Some(conditions::expiring(message))
}
