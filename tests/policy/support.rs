//! What several tests need.

use jiff::Timestamp;
use sekuire_policy::policy::agent::AgentSpec;
use sekuire_policy::policy::{
    Document, Format, KeyRing, Pattern, PrivateKey, Revocation, TrustedKey, VerifiedPolicy, sign, verify,
};
use serde_json::{Value, json};

pub const KEY_ID: &str = "key_test";
pub const WORKSPACE: &str = "ws_test";

pub fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub fn now() -> Timestamp {
    time("2026-06-01T00:00:00Z")
}

pub fn private_key() -> PrivateKey {
    PrivateKey::from_seed(&[7; 32])
}

pub fn trusted_key() -> TrustedKey {
    TrustedKey {
        key_id: KEY_ID.to_owned(),
        public_key: private_key().public(),
        workspaces: vec![Pattern::new(WORKSPACE)],
        not_before: None,
        not_after: None,
        revoked: None,
    }
}

pub fn ring() -> KeyRing {
    KeyRing::new([trusted_key()])
}

/// A document without signatures.
pub fn skeleton(content: Value) -> Value {
    json!({
        "policy_id": "policy_test",
        "workspace_id": WORKSPACE,
        "version": "1",
        "status": "active",
        "created_at": "2026-01-02T03:04:05Z",
        "content": content,
    })
}

pub fn signed(content: Value) -> Value {
    sign(skeleton(content), &private_key(), KEY_ID, now()).unwrap()
}

/// The policy of a signed document with this content.
pub fn policy(content: Value) -> VerifiedPolicy {
    verify(Document::from_value(signed(content)).unwrap(), &ring(), now()).unwrap()
}

pub fn agent(spec: Value) -> AgentSpec {
    serde_json::from_value(spec).unwrap()
}

pub fn ring_of_vectors(vectors: &Value) -> KeyRing {
    KeyRing::new(vectors["trusted_keys"].as_array().unwrap().iter().map(|key| {
        let time_of = |name: &str| key.get(name).map(|t| time(t.as_str().unwrap()));
        TrustedKey {
            key_id: key["key_id"].as_str().unwrap().to_owned(),
            public_key: key["public_key"].as_str().unwrap().parse_key(),
            workspaces: key["workspaces"]
                .as_array()
                .unwrap()
                .iter()
                .map(|w| Pattern::new(w.as_str().unwrap()))
                .collect(),
            not_before: time_of("not_before"),
            not_after: time_of("not_after"),
            revoked: key.get("revoked").map(|_| Revocation::default()),
        }
    }))
}

trait ParseKey {
    fn parse_key(&self) -> sekuire_policy::policy::PublicKey;
}

impl ParseKey for str {
    fn parse_key(&self) -> sekuire_policy::policy::PublicKey {
        sekuire_policy::policy::PublicKey::parse(self).unwrap()
    }
}

/// The bytes of a case of the vectors, and how they are written.
pub fn bytes_of(case: &Value) -> (Vec<u8>, Format) {
    match case.get("raw") {
        Some(raw) => {
            let format = if case.get("format").is_some() { Format::Yaml } else { Format::Json };
            (raw.as_str().unwrap().as_bytes().to_vec(), format)
        }
        None => (serde_json::to_vec(&case["document"]).unwrap(), Format::Json),
    }
}
