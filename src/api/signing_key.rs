//! `SigningKey`: a public key that is trusted to sign policies.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::Moment;
use crate::policy::{KeyFault, Pattern, PublicKey, Revocation, TrustedKey};

/// One Ed25519 public key that may sign policies. Only keys in these objects are trusted; a key that stands in a policy
/// document never is. To revoke a key, set `spec.revoked`: everything that it signed stops being enforced at once.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "sekuire.ai",
    version = "v1alpha1",
    kind = "SigningKey",
    plural = "signingkeys",
    shortname = "skey",
    category = "sekuire",
    status = "SigningKeyStatus",
    printcolumn(name = "KeyID", type_ = "string", json_path = ".spec.keyId"),
    printcolumn(name = "Workspaces", type_ = "string", json_path = ".spec.workspaces"),
    printcolumn(name = "NotAfter", type_ = "string", json_path = ".spec.notAfter"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].message"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("!has(self.notBefore) || !has(self.notAfter) || self.notBefore < self.notAfter")
    .message("notBefore must lie before notAfter"))]
pub struct SigningKeySpec {
    /// What documents name as `signing_key_id`: 1 to 63 letters, digits, `.`, `_` or `-`, beginning and ending with a
    /// letter or digit. `sekuire key generate` makes `key_` and 16 hex digits of the BLAKE3 hash of the raw public key.
    /// Two objects must not have the same keyId: then neither is used.
    #[schemars(regex(pattern = r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$"))]
    pub key_id: String,
    /// The public key: PEM (`-----BEGIN PUBLIC KEY-----`), an OpenSSH line (`ssh-ed25519 AAAA…`) or 64 hex digits.
    #[schemars(length(min = 1, max = 4096))]
    pub public_key: String,
    /// Ids of the workspaces that the key may sign for; `*` stands for any run of characters. At least one.
    #[schemars(length(min = 1, max = 256), inner(length(min = 1, max = 253)))]
    pub workspaces: Vec<String>,
    /// The key counts from this moment on (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Moment>,
    /// From this moment on the key counts no more, and what it signed stops being enforced (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Moment>,
    /// Its presence revokes the key, whatever it says: set `revoked: {}` or give a reason. A public key that is
    /// revoked in one SigningKey is revoked in all of them.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub revoked: Option<RevokedSpec>,
}

/// `revoked:` with nothing behind it is YAML's null. Who writes that means to revoke.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<RevokedSpec>, D::Error> {
    Ok(Some(Option::deserialize(deserializer)?.unwrap_or_default()))
}

/// Why and when a key was revoked. Both inform people; the revocation counts at once.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RevokedSpec {
    /// Why, in words: `laptop stolen`, `rotated`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub reason: Option<String>,
    /// Since when the key is thought to be compromised. For information: the revocation does not wait for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Moment>,
}

/// What the controller found.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SigningKeyStatus {
    /// The generation that the status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready` is True while the key can verify documents; its reason says why not (`WeakKey`, `DuplicateKeyId`,
    /// `MalformedKey`, `KeyRevoked`, `KeyExpired`, `KeyNotYetValid`). `Stalled` is there with it while somebody has to act. `Expiring` is there while `notAfter` is less than 30
    /// days away.
    #[serde(default, deserialize_with = "super::sent::readable")]
    #[schemars(schema_with = "super::crds::conditions")]
    pub conditions: Vec<Condition>,
    /// `key_` and 16 hex digits of the BLAKE3 hash of the public key: the same key has the same fingerprint, however it is
    /// written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
}

impl SigningKeySpec {
    /// The key as the core wants it.
    ///
    /// # Errors
    /// `WeakKey` or `MalformedKey`, with what was read and what would be accepted.
    pub fn trusted_key(&self) -> Result<TrustedKey, KeyFault> {
        Ok(TrustedKey {
            key_id: self.key_id.clone(),
            public_key: PublicKey::parse(&self.public_key)?,
            workspaces: self.workspaces.iter().map(|pattern| Pattern::new(pattern)).collect(),
            not_before: self.bound("notBefore", self.not_before.as_ref())?,
            not_after: self.bound("notAfter", self.not_after.as_ref())?,
            revoked: self.revoked.as_ref().map(|r| Revocation {
                reason: r.reason.clone(),
                at: r.at.as_ref().and_then(Moment::at), // for people: an odd one revokes no less
            }),
        })
    }

    /// A key without a time that can be told is not used. A revoked one stays in the ring, which has to know of it.
    fn bound(&self, field: &str, moment: Option<&Moment>) -> Result<Option<Timestamp>, KeyFault> {
        match moment {
            Some(moment) if moment.at().is_none() && self.revoked.is_none() => Err(KeyFault::Malformed(format!(
                "spec.{field} is {:?}: expected a time as RFC 3339 has it, such as 2030-01-31T00:00:00Z",
                moment.0
            ))),
            other => Ok(other.and_then(Moment::at)),
        }
    }

    /// The moments at which the key begins and ceases to count.
    pub fn boundaries(&self) -> impl Iterator<Item = Timestamp> + '_ {
        [&self.not_before, &self.not_after].into_iter().flatten().filter_map(Moment::at)
    }
}
