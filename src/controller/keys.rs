//! The trusted keys: `SigningKey` objects become one key ring, and each object's status says whether it is used.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;

use crate::api::conditions::NewCondition;
use crate::api::{SigningKey, SigningKeySpec};
use crate::policy::{KeyRing, Reason, TrustedKey};

/// The key ring of some specs. A key that cannot be used never makes another unusable.
pub fn ring<'a>(specs: impl IntoIterator<Item = &'a SigningKeySpec>) -> KeyRing {
    let mut usable: Vec<TrustedKey> = Vec::new();
    let mut unusable = Vec::new();
    for spec in specs {
        match spec.trusted_key() {
            Ok(key) => usable.push(key),
            Err(fault) => unusable.push((spec.key_id.clone(), fault)),
        }
    }
    unusable.into_iter().fold(KeyRing::new(usable), |ring, (key_id, fault)| ring.with_unusable(key_id, fault))
}

/// All `SigningKey` objects, as the watch brought them.
#[derive(Default)]
pub struct Keys {
    objects: BTreeMap<String, SigningKey>,
}

impl Keys {
    /// An object was created or changed.
    pub fn seen(&mut self, key: SigningKey) {
        self.objects.insert(key.metadata.name.clone().unwrap_or_default(), key);
    }

    /// An object is gone.
    pub fn gone(&mut self, name: &str) {
        self.objects.remove(name);
    }

    /// A full list was read.
    pub fn retain(&mut self, names: &std::collections::HashSet<String>) {
        self.objects.retain(|name, _| names.contains(name));
    }

    /// The key ring of all objects.
    pub fn ring(&self) -> KeyRing {
        ring(self.objects.values().map(|key| &key.spec))
    }

    /// All objects.
    pub fn objects(&self) -> impl Iterator<Item = &SigningKey> {
        self.objects.values()
    }

    /// How many objects claim each key id.
    pub fn claims(&self) -> HashMap<String, usize> {
        let mut claims = HashMap::new();
        for key in self.objects.values() {
            *claims.entry(key.spec.key_id.clone()).or_insert(0) += 1;
        }
        claims
    }

    /// The next moment at which a key begins or ceases to count.
    pub fn next_boundary(&self, now: Timestamp) -> Option<Timestamp> {
        self.objects.values().flat_map(|key| key.spec.boundaries()).filter(|at| *at > now).min()
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
