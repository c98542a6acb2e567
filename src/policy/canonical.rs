//! The canonical form of JSON (RFC 8785), and what is hashed and signed.

use serde::Serialize;
use serde_json::Value;

/// The payload type of `document_signature`.
pub const PAYLOAD_TYPE: &str = "application/vnd.sekuire.policy.v1+json";

/// The canonical form of a JSON value (RFC 8785, JCS).
///
/// # Errors
/// When the value holds a number that JSON has no canonical form for.
pub fn jcs(value: &Value) -> Result<Vec<u8>, serde_json::Error> {
    serde_json_canonicalizer::to_vec(value)
}

/// BLAKE3 as 64 lower-case hex digits.
#[must_use]
pub fn blake3_hex(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

/// The pre-authentication encoding of DSSE v1: `DSSEv1 SP len(type) SP type SP len(body) SP body`.
#[must_use]
pub fn pae(payload_type: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), body.len());
    [head.as_bytes(), body].concat()
}

/// What `signature` is made over: the text `policy_id:version:hash`.
#[must_use]
pub fn signature_input(policy_id: &str, version: &str, hash: &str) -> Vec<u8> {
    format!("{policy_id}:{version}:{hash}").into_bytes()
}

/// The members of a document, each in its canonical form, so that hash, sealed document and digest, which share most
/// of them, cost one canonicalisation.
pub(super) struct Members<'a>(Vec<(&'a str, Vec<u8>)>);

impl<'a> Members<'a> {
    /// Takes a document that was checked: its member names are plain ASCII words (so that their order by bytes is their
    /// order by UTF-16 units, and nothing in them is escaped), its numbers integers.
    pub(super) fn of(document: &'a Value) -> Members<'a> {
        let Value::Object(object) = document else { return Members(Vec::new()) };
        let canonical = |value: &Value| {
            let mut out = Vec::new();
            write_checked(value, &mut out);
            out
        };
        let mut members: Vec<(&str, Vec<u8>)> =
            object.iter().map(|(name, value)| (name.as_str(), canonical(value))).collect();
        members.sort_unstable_by_key(|(name, _)| *name);
        Members(members)
    }

    /// `hash`: BLAKE3 of the canonical `content`, 64 hex.
    pub(super) fn content_hash(&self) -> String {
        let content = self.0.iter().find(|(name, _)| *name == "content");
        blake3_hex(content.map_or(&[], |(_, value)| value))
    }

    /// What `document_signature` is made over.
    pub(super) fn document_signature_input(&self) -> Vec<u8> {
        pae(PAYLOAD_TYPE, &self.without(&["document_signature", "co_signatures", "signing_public_key"]))
    }

    /// The document digest, 64 hex: the sealed document without what changes when it is signed again.
    pub(super) fn digest(&self) -> String {
        blake3_hex(&self.without(&[
            "document_signature",
            "co_signatures",
            "signing_public_key",
            "signature",
            "signing_key_id",
            "updated_at",
            "activated_at",
        ]))
    }

    fn without(&self, left_out: &[&str]) -> Vec<u8> {
        let mut body = Vec::with_capacity(self.0.iter().map(|(name, value)| name.len() + value.len() + 4).sum());
        body.push(b'{');
        for (name, value) in self.0.iter().filter(|(name, _)| !left_out.contains(name)) {
            if body.len() > 1 {
                body.push(b',');
            }
            body.push(b'"');
            body.extend_from_slice(name.as_bytes());
            body.extend_from_slice(b"\":");
            body.extend_from_slice(value);
        }
        body.push(b'}');
        body
    }
}

/// As [`jcs`], for a value that was checked, whose canonical form is serde_json's own with members in order. Done by hand
/// because the general form, which has to decode and re-encode every name and number, takes as long as a signature.
fn write_checked(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Object(object) => {
            let mut members: Vec<(&String, &Value)> = object.iter().collect();
            members.sort_unstable_by_key(|(name, _)| *name);
            out.push(b'{');
            for (i, (name, value)) in members.into_iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                out.push(b'"');
                out.extend_from_slice(name.as_bytes());
                out.extend_from_slice(b"\":");
                write_checked(value, out);
            }
            out.push(b'}');
        }
        Value::Array(items) => {
            out.push(b'[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write_checked(item, out);
            }
            out.push(b']');
        }
        Value::String(text) => write_scalar(text, out),
        other => write_scalar(other, out),
    }
}

#[allow(clippy::expect_used, reason = "writing to memory cannot fail, nor can a text, a flag or a number")]
fn write_scalar(scalar: &(impl Serialize + ?Sized), out: &mut Vec<u8>) {
    serde_json::to_writer(out, scalar).expect("a scalar can be written");
}
