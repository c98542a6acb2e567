//! The canonical form of JSON (RFC 8785), and what is hashed and signed.

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
