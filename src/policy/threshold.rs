//! Thresholds: how many keys have to sign the documents of a workspace (the two-person rule).

use jiff::Timestamp;
use serde_json::Value;

use super::canonical::Members;
use super::document::{Document, signature_of};
use super::keys::{KeyRing, TrustedKey};
use super::pattern::Pattern;
use super::reason::Reason;
use super::standing::Validity;
use super::verify::{Refusal, authorized, trusted, usable};
use super::words::{list, quoted};

/// That documents of some workspaces need the signatures of several keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Threshold {
    /// What it is called, for messages.
    pub name: String,
    /// For which workspaces.
    pub workspaces: Vec<Pattern>,
    /// How many distinct public keys have to sign; or why that cannot be told. Then no number is enough.
    pub signatures: Result<u32, String>,
}

impl Threshold {
    /// Whether it speaks of a workspace.
    pub(super) fn concerns(&self, workspace: &str) -> bool {
        self.workspaces.iter().any(|pattern| pattern.matches(workspace))
    }

    /// What to order by: of several, the highest counts.
    pub(super) fn height(&self) -> u32 {
        self.signatures.as_ref().map_or(u32::MAX, |signatures| *signatures)
    }

    /// All that a verdict or its message depends on.
    pub(super) fn facts(&self) -> Value {
        let mut workspaces: Vec<&str> = self.workspaces.iter().map(Pattern::as_str).collect();
        workspaces.sort_unstable();
        let signatures = match &self.signatures {
            Ok(signatures) => Value::from(*signatures),
            Err(why) => Value::from(why.as_str()),
        };
        Value::from(vec![Value::from(self.name.as_str()), Value::from(workspaces), signatures])
    }
}

/// During which time as many keys as required count. Nothing is set where one is enough.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Enough {
    pub(super) from: Option<Timestamp>,
    pub(super) until: Option<Timestamp>,
}

impl Enough {
    pub(super) fn holds(&self, now: Timestamp) -> Result<(), Reason> {
        let holds = self.from.is_none_or(|from| from <= now) && self.until.is_none_or(|until| now < until);
        if holds { Ok(()) } else { Err(Reason::ThresholdNotMet) }
    }
}

/// Who has signed a document beside its own key, whether or not a threshold asks for it.
#[derive(Default)]
pub(super) struct CoSigned {
    /// During which time that is enough.
    pub(super) enough: Enough,
    /// When each of these keys counts. Their signatures are right, and no two are by one key.
    pub(super) validity: Vec<Validity>,
    /// Where their signatures stand in `co_signatures`.
    pub(super) places: Vec<usize>,
}

impl CoSigned {
    /// The document without what anybody can write into it and no signature covers: co-signatures but for those of these keys,
    /// and `signing_public_key`. None if there is nothing of that.
    pub(super) fn without_unsigned(&self, mut document: Value) -> Option<Box<str>> {
        let members = document.as_object_mut()?;
        let mut changed = members.shift_remove("signing_public_key").is_some();
        if let Some(Value::Array(entries)) = members.get_mut("co_signatures") {
            let before = entries.len();
            let mut place = 0..;
            entries.retain(|_| place.next().is_some_and(|place| self.places.contains(&place)));
            changed |= entries.len() != before;
            if entries.is_empty() {
                members.shift_remove("co_signatures");
                changed = true;
            }
        }
        changed.then(|| document.to_string().into())
    }
}

/// Who signed beside the document's own key.
struct CoSigners<'k> {
    workspace: &'k str,
    /// The key of `document_signature`.
    own: &'k TrustedKey,
    ring: &'k KeyRing,
    /// Other trusted keys, each of which made its signature. Whether it counts now is a question of the time alone.
    keys: Vec<&'k TrustedKey>,
    /// Where the signatures of these keys stand.
    places: Vec<usize>,
    /// The signatures that do not count now, each with the reason.
    left_out: Vec<String>,
}

/// Finds out who has co-signed, and asks whether as many keys have signed as the workspace's threshold wants. `own` has: it is
/// the key of `document_signature`, which was verified.
///
/// # Errors
/// [`Reason::ThresholdNotMet`].
pub(super) fn met(
    document: &Document,
    members: &Members<'_>,
    own: &TrustedKey,
    ring: &KeyRing,
    now: Timestamp,
) -> Result<CoSigned, Refusal> {
    let workspace = document.workspace_id();
    let mut signers = CoSigners { workspace, own, ring, keys: Vec::new(), places: Vec::new(), left_out: Vec::new() };
    if document.value().get("co_signatures").is_some() {
        signers.judge(document, &members.document_signature_input(), now);
    }
    let enough = signers.enough(now)?;
    let validity = signers.keys.iter().map(|key| (key.not_before, key.not_after)).collect();
    Ok(CoSigned { enough, validity, places: signers.places })
}

impl<'k> CoSigners<'k> {
    /// During which time there are as many as the workspace's threshold wants.
    fn enough(&self, now: Timestamp) -> Result<Enough, Refusal> {
        let workspace = self.workspace;
        let Some(threshold) = self.ring.threshold(workspace) else { return Ok(Enough::default()) };
        let needed = match &threshold.signatures {
            Ok(signatures) => *signatures as usize,
            Err(why) => {
                let name = quoted(&threshold.name);
                let message =
                    format!("nobody can say how many signatures {workspace} needs: the SigningThreshold {name}: {why}");
                return Err(Refusal::new(Reason::ThresholdNotMet, message));
            }
        };
        if needed <= 1 {
            return Ok(Enough::default());
        }
        if self.count(now) < needed {
            let begins = self.keys.iter().filter_map(|key| key.not_before);
            let retry_at = begins.filter(|begin| *begin > now && self.count(*begin) >= needed).min();
            let message = self.too_few(threshold, now);
            return Err(Refusal { retry_at, ..Refusal::new(Reason::ThresholdNotMet, message) });
        }
        let ends = self.keys.iter().filter_map(|key| key.not_after);
        let mut begins: Vec<_> = self.keys.iter().filter(|key| key.counts_at(now)).map(|key| key.not_before).collect();
        begins.sort_unstable();
        Ok(Enough {
            // the own key is one of those that are needed
            from: begins.get(needed - 2).copied().flatten(),
            until: ends.filter(|end| *end > now && self.count(*end) < needed).min(),
        })
    }

    /// Takes the co-signatures one by one; they were made over `message`.
    fn judge(&mut self, document: &Document, message: &[u8], now: Timestamp) {
        let entries = document.value().get("co_signatures").and_then(Value::as_array);
        for (place, entry) in entries.into_iter().flatten().enumerate() {
            // parsing has seen to it that it is there
            let key_id = entry.get("signing_key_id").and_then(Value::as_str).unwrap_or_default();
            let judged = self.signer(key_id, signature_of(entry, "document_signature"), message);
            let counts = judged.and_then(|key| {
                self.keys.push(key);
                self.places.push(place);
                usable(key, now).map_err(|refusal| refusal.reason.as_str())
            });
            if let Err(why_not) = counts {
                self.left_out.push(format!("{key_id}: {why_not}"));
            }
        }
    }

    /// The key that made a signature, if it is another one than those before, and trusted.
    fn signer(
        &self,
        key_id: &str,
        signature: Option<[u8; 64]>,
        message: &[u8],
    ) -> Result<&'k TrustedKey, &'static str> {
        let key = trusted(key_id, self.workspace, self.ring).map_err(|refusal| refusal.reason.as_str())?;
        if self.has_signed(key) {
            return Err("its public key has signed already");
        }
        if key.revoked.is_some() {
            return Err(Reason::KeyRevoked.as_str());
        }
        let right = signature.is_some_and(|signature| key.public_key.verifies(message, &signature));
        if right { Ok(key) } else { Err(Reason::DocumentSignatureInvalid.as_str()) }
    }

    fn has_signed(&self, key: &TrustedKey) -> bool {
        self.keys.iter().chain([&self.own]).any(|signer| signer.public_key == key.public_key)
    }

    /// How many keys count at a moment.
    fn count(&self, at: Timestamp) -> usize {
        1 + self.keys.iter().filter(|key| key.counts_at(at)).count()
    }

    /// What is said where they are too few.
    fn too_few(&self, threshold: &Threshold, now: Timestamp) -> String {
        let mut message = format!(
            "{} of the {} signatures that documents of {} need (SigningThreshold {})",
            self.count(now),
            threshold.height(),
            self.workspace,
            quoted(&threshold.name)
        );
        if !self.left_out.is_empty() {
            message += &format!("; these co-signatures do not count: {}", list(self.left_out.iter()));
        }
        let may =
            |key: &&TrustedKey| authorized(key, self.workspace) && usable(key, now).is_ok() && !self.has_signed(key);
        let mut others: Vec<&str> = self.ring.iter().filter(may).map(|key| key.key_id.as_str()).collect();
        others.sort_unstable();
        if others.is_empty() {
            return message + "; no other trusted key may sign for it: have the platform team trust one";
        }
        message + &format!("; `sekuire policy cosign` adds one by {}", list(others.iter()))
    }
}
