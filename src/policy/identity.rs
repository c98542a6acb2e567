//! The identity of an agent, as the published SDK and OAGS compute it: a digest of model, prompt and tools.

use serde_json::Value;

use super::canonical::{blake3_hex, jcs};

/// Hash of a prompt: BLAKE3 of its text without white space at its ends, 64 hex.
#[must_use]
pub fn prompt_hash(prompt: &str) -> String {
    blake3_hex(prompt.trim().as_bytes())
}

/// Hash of a tools file: BLAKE3 of its canonical form (RFC 8785), 64 hex.
///
/// # Errors
/// When the value has no canonical form.
pub fn tools_hash(tools: &Value) -> Result<String, serde_json::Error> {
    Ok(blake3_hex(&jcs(tools)?))
}

/// The identity, 64 hex.
#[must_use]
pub fn sekuire_id(model: &str, prompt_hash: &str, tools_hash: &str) -> String {
    blake3_hex(format!("model:{model}|prompt:{prompt_hash}|tools:{tools_hash}").as_bytes())
}
