//! The only way to a [`VerifiedPolicy`].

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::canonical::{Members, signature_input};
use super::document::{Document, Fault, Header, Status, parse_time, signature_of};
use super::keys::{KeyRing, PublicKey, TrustedKey};
use super::pattern::Pattern;
use super::reason::Reason;
use super::rules::Rules;
use super::standing::{Standing, Validity};
use super::threshold::{self, Enough};
use super::version::Version;
use super::words::{list, quoted};

/// Why a document is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// The reason out of the closed set.
    pub reason: Reason,
    /// What is wrong and what would be accepted, in one sentence.
    pub message: String,
    /// When the clock alone changes the verdict: set for [`Reason::KeyNotYetValid`], and for
    /// [`Reason::ThresholdNotMet`] where a key that has signed begins to count.
    pub retry_at: Option<Timestamp>,
}

impl Refusal {
    pub(super) fn new(reason: Reason, message: String) -> Refusal {
        Refusal { reason, message, retry_at: None }
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Refusal {
        Refusal::new(Reason::Malformed, fault.to_string())
    }
}

/// What is looked at, in this order; where one fails, those after it are not reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// The bytes are a policy document.
    Form,
    /// A trusted key has the document's `signing_key_id`, and may sign for its workspace.
    Key,
    /// That key is neither revoked nor out of time.
    KeyValidity,
    /// `hash` is that of the content.
    Hash,
    /// `signature` is by the key.
    Signature,
    /// `document_signature` is by the key.
    DocumentSignature,
    /// As many keys have signed as the workspace asks for.
    Threshold,
    /// `expires_at` has not been reached.
    Expiry,
}

impl Check {
    /// All, in their order.
    pub const ALL: [Check; 8] = [
        Check::Form,
        Check::Key,
        Check::KeyValidity,
        Check::Hash,
        Check::Signature,
        Check::DocumentSignature,
        Check::Threshold,
        Check::Expiry,
    ];

    /// What people call it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Check::Form => "form",
            Check::Key => "signing key",
            Check::KeyValidity => "key validity",
            Check::Hash => "hash",
            Check::Signature => "signature",
            Check::DocumentSignature => "document signature",
            Check::Threshold => "threshold",
            Check::Expiry => "expiry",
        }
    }

    /// The check that a refusal of [`verify`] comes from; none for reasons that it does not give.
    #[must_use]
    pub const fn of(reason: Reason) -> Option<Check> {
        Some(match reason {
            Reason::Malformed => Check::Form,
            Reason::UnknownSigningKey | Reason::KeyNotAuthorized => Check::Key,
            Reason::KeyRevoked | Reason::KeyNotYetValid | Reason::KeyExpired => Check::KeyValidity,
            Reason::HashMismatch => Check::Hash,
            Reason::SignatureMissing | Reason::SignatureInvalid => Check::Signature,
            Reason::DocumentSignatureMissing | Reason::DocumentSignatureInvalid => Check::DocumentSignature,
            Reason::ThresholdNotMet => Check::Threshold,
            Reason::PolicyExpired => Check::Expiry,
            _ => return None,
        })
    }
}

/// A policy that a trusted key signed, with its rules ready to be applied. Made by [`verify`] alone.
#[derive(Debug)]
pub struct VerifiedPolicy {
    header: Header,
    document_json: Box<str>,
    /// The same without what no trusted key signed, where that is something else.
    stored: Option<Box<str>>,
    digest: Box<str>,
    public_key: PublicKey,
    window: Window,
    /// The keys that have co-signed.
    co_signers: Box<[Validity]>,
    signed_at: Option<Timestamp>,
    key_since: Option<Timestamp>,
    rules: Rules,
}

/// When keys and policy hold.
#[derive(Clone, Copy, Debug)]
struct Window {
    not_before: Option<Timestamp>,
    not_after: Option<Timestamp>,
    enough: Enough,
    expires_at: Option<Timestamp>,
}

/// How long before its end a key or a policy is warned of.
pub const NOTICE: SignedDuration = SignedDuration::from_hours(30 * 24);

/// The end of a key or a policy, if that is near.
#[must_use]
pub fn ends_soon(until: Option<Timestamp>, now: Timestamp) -> Option<Timestamp> {
    until.filter(|until| now < *until && until.duration_since(now) <= NOTICE)
}

impl Window {
    fn policy_holds(&self, now: Timestamp) -> Result<(), Reason> {
        if self.expires_at.is_some_and(|until| now >= until) { Err(Reason::PolicyExpired) } else { Ok(()) }
    }
}

/// Whether now is within the validity of a key.
fn within(not_before: Option<Timestamp>, not_after: Option<Timestamp>, now: Timestamp) -> Result<(), Reason> {
    if not_before.is_some_and(|from| now < from) {
        return Err(Reason::KeyNotYetValid);
    }
    if not_after.is_some_and(|until| now >= until) {
        return Err(Reason::KeyExpired);
    }
    Ok(())
}

/// Judges a document by the trusted keys at the time `now`.
///
/// # Errors
/// The first reason, in the order of the specification, for which it is not believed.
pub fn verify(document: Document, keys: &KeyRing, now: Timestamp) -> Result<VerifiedPolicy, Refusal> {
    let key = trusted(document.signing_key_id(), document.workspace_id(), keys)?;
    usable(key, now)?;
    let members = Members::of(document.value());
    signed(&document, &members, key)?;
    let co_signed = threshold::met(&document, &members, key, keys, now)?;
    let enough = co_signed.enough;
    let (not_before, not_after) = (key.not_before, key.not_after);
    let window = Window { not_before, not_after, enough, expires_at: document.expires_at() };
    if window.policy_holds(now).is_err() {
        let ended = window.expires_at.map(|t| t.to_string()).unwrap_or_default();
        let message = format!("the policy expired at {ended}; publish a new version with a later expires_at");
        return Err(Refusal::new(Reason::PolicyExpired, message));
    }
    let digest = members.digest().into();
    let public_key = key.public_key.clone();
    let signed_at = document.text("updated_at").and_then(parse_time);
    let key_since = keys.since(&key.key_id);
    let (value, header) = document.into_parts();
    let rules = Rules::compile(&value["content"]);
    let document_json = value.to_string().into();
    let stored = co_signed.without_unsigned(value);
    let co_signers = co_signed.validity.into();
    Ok(VerifiedPolicy {
        header,
        document_json,
        stored,
        digest,
        public_key,
        window,
        co_signers,
        signed_at,
        key_since,
        rules,
    })
}

/// Whether a key may sign for a workspace.
pub(super) fn authorized(key: &TrustedKey, workspace: &str) -> bool {
    key.workspaces.iter().any(|pattern| pattern.matches(workspace))
}

/// The key of an id, if it may sign for the workspace.
pub(super) fn trusted<'k>(key_id: &str, workspace: &str, keys: &'k KeyRing) -> Result<&'k TrustedKey, Refusal> {
    let may_sign = |key: &TrustedKey| authorized(key, workspace);
    let Some(key) = keys.get(key_id) else {
        let message = match keys.unusable(key_id) {
            Some(why) => format!("the signing key {key_id} is configured, but cannot be used: {why}"),
            None => {
                let mut known: Vec<&str> = keys.iter().filter(|k| may_sign(k)).map(|k| k.key_id.as_str()).collect();
                known.sort_unstable();
                let known = if known.is_empty() { "no key".to_owned() } else { list(known.iter()) };
                format!("the signing key {key_id} is not among the trusted keys; for {workspace}, {known} may sign")
            }
        };
        return Err(Refusal::new(Reason::UnknownSigningKey, message));
    };
    if may_sign(key) {
        return Ok(key);
    }
    let allowed = match &*key.workspaces {
        [] => "none".to_owned(),
        patterns => list(patterns.iter().map(Pattern::as_str)),
    };
    let message =
        format!("the key {key_id} may not sign for the workspace {workspace}; its SigningKey allows: {allowed}");
    Err(Refusal::new(Reason::KeyNotAuthorized, message))
}

/// Whether a key is neither revoked nor out of time.
pub(super) fn usable(key: &TrustedKey, now: Timestamp) -> Result<(), Refusal> {
    let key_id = &key.key_id;
    if let Some(revocation) = &key.revoked {
        let why = revocation.reason.as_deref().map(|why| format!(" ({})", quoted(why))).unwrap_or_default();
        let message = format!("the key {key_id} was revoked{why}; sign again with a key that is trusted");
        return Err(Refusal::new(Reason::KeyRevoked, message));
    }
    let time = |t: Option<Timestamp>| t.map(|t| t.to_string()).unwrap_or_default();
    match within(key.not_before, key.not_after, now) {
        Ok(()) => Ok(()),
        Err(reason @ Reason::KeyNotYetValid) => {
            let message = format!("the key {key_id} is not valid before {}; now it is {now}", time(key.not_before));
            Err(Refusal { retry_at: key.not_before, ..Refusal::new(reason, message) })
        }
        Err(reason) => {
            let ended = time(key.not_after);
            let message = format!("the key {key_id} is not valid since {ended}; sign again with a key that is valid");
            Err(Refusal::new(reason, message))
        }
    }
}

/// Hash and both signatures, in this order.
fn signed(document: &Document, members: &Members<'_>, key: &TrustedKey) -> Result<(), Refusal> {
    let hash = members.content_hash();
    if document.hash() != hash {
        let message = format!("hash is {}, but the content's hash is {hash}; sign again", document.hash());
        return Err(Refusal::new(Reason::HashMismatch, message));
    }
    let key_id = &key.key_id;
    let Some(signature) = signature_of(document.value(), "signature") else {
        let message = format!("signature is missing; sign the document with the key {key_id}");
        return Err(Refusal::new(Reason::SignatureMissing, message));
    };
    let version = document.text("version").unwrap_or_default();
    if !key.public_key.verifies(&signature_input(document.policy_id(), version, document.hash()), &signature) {
        let message = format!("signature was not made by the key {key_id} over this policy_id, version and hash");
        return Err(Refusal::new(Reason::SignatureInvalid, message));
    }
    let Some(signature) = signature_of(document.value(), "document_signature") else {
        let message = "document_signature is missing, so that nothing protects workspace, status and expiry; \
                       `sekuire policy sign` adds it";
        return Err(Refusal::new(Reason::DocumentSignatureMissing, message.to_owned()));
    };
    if !key.public_key.verifies(&members.document_signature_input(), &signature) {
        let message = format!(
            "document_signature was not made by the key {key_id} over this document: a member beside the content \
             was changed, or the key is another one"
        );
        return Err(Refusal::new(Reason::DocumentSignatureInvalid, message));
    }
    Ok(())
}

impl VerifiedPolicy {
    /// `policy_id`
    #[must_use]
    pub fn policy_id(&self) -> &str {
        &self.header.policy_id
    }

    /// `workspace_id`
    #[must_use]
    pub fn workspace_id(&self) -> &str {
        &self.header.workspace_id
    }

    /// `version`
    #[must_use]
    pub fn version(&self) -> &Version {
        &self.header.version
    }

    /// `status`
    #[must_use]
    pub fn status(&self) -> Status {
        self.header.status
    }

    /// `hash`
    #[must_use]
    pub fn hash(&self) -> &str {
        &self.header.hash
    }

    /// `signing_key_id`
    #[must_use]
    pub fn signing_key_id(&self) -> &str {
        &self.header.signing_key_id
    }

    /// The document digest, 64 hex.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The trusted key that signed.
    #[must_use]
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// The document as compact JSON, its members in their order.
    #[must_use]
    pub fn document_json(&self) -> &str {
        &self.document_json
    }

    /// Whether something is in the document that no trusted key signed.
    #[must_use]
    pub fn has_unsigned(&self) -> bool {
        self.stored.is_some()
    }

    /// The policy without what no trusted key signed, as it is to be stored: co-signatures count that a trusted key made which
    /// is not revoked, whether or not its time has come, or is over.
    #[must_use]
    pub fn without_unsigned(mut self) -> VerifiedPolicy {
        if let Some(stored) = self.stored.take() {
            self.document_json = stored;
        }
        self
    }

    /// The document that [`VerifiedPolicy::without_unsigned`] leaves, as compact JSON.
    #[must_use]
    pub fn stored_json(&self) -> &str {
        self.stored.as_ref().unwrap_or(&self.document_json)
    }

    /// What speaks for this copy against another one of the same version and digest.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let own = (self.window.not_before, self.window.not_after);
        Standing {
            holds: (self.holds_from(), self.holds_until()),
            signers: std::iter::once(own).chain(self.co_signers.iter().copied()).collect(),
            signed_at: self.signed_at,
            key_since: self.key_since,
        }
    }

    /// `expires_at`
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.header.expires_at
    }

    /// From when on policy and keys hold.
    #[must_use]
    pub fn holds_from(&self) -> Option<Timestamp> {
        [self.window.not_before, self.window.enough.from].into_iter().flatten().max()
    }

    /// Until when (excluded) policy and keys hold.
    #[must_use]
    pub fn holds_until(&self) -> Option<Timestamp> {
        [self.window.not_after, self.window.enough.until, self.window.expires_at].into_iter().flatten().min()
    }

    /// Whether policy and keys hold at `now`.
    ///
    /// # Errors
    /// [`Reason::KeyNotYetValid`], [`Reason::KeyExpired`], [`Reason::ThresholdNotMet`] or [`Reason::PolicyExpired`].
    pub fn holds(&self, now: Timestamp) -> Result<(), Reason> {
        within(self.window.not_before, self.window.not_after, now)?;
        self.window.enough.holds(now)?;
        self.window.policy_holds(now)
    }

    /// What is to be done soon, if policy or key are near their end.
    #[must_use]
    pub fn ending(&self, now: Timestamp) -> Option<String> {
        let until = ends_soon(self.holds_until(), now)?;
        let what = if Some(until) == self.window.expires_at {
            format!("the policy expires at {until}: publish a new version with a later expires_at before that")
        } else if Some(until) == self.window.not_after {
            format!("the key {} ends at {until}: sign again with another key before that", self.signing_key_id())
        } else {
            format!("a key that co-signed ends at {until}, and too few are left: add a co-signature before that")
        };
        Some(format!("{what}; then it is not enforced any more"))
    }

    pub(super) fn rules(&self) -> &Rules {
        &self.rules
    }
}
