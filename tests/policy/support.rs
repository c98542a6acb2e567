//! What several tests need.

use jiff::Timestamp;
use sekuire_policy::policy::agent::{
    AgentSpec, Api, Compliance, Filesystem, Model, Network, Permissions, Service, Tool,
};
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

/// An agent as it is, however long its texts and lists are: the rules have to hold also where nobody has looked at it.
pub fn agent(spec: Value) -> AgentSpec {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let maybe = |value: &Value| value.as_str().map(str::to_owned);
    let texts = |value: &Value| value.as_array().into_iter().flatten().map(text).collect::<Vec<_>>();
    let each = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let there = |value: &Value| (!value.is_null()).then(|| value.clone());
    let model = |value: &Value| Model {
        provider: text(&value["provider"]),
        name: text(&value["name"]),
        region: maybe(&value["region"]),
        endpoint: maybe(&value["endpoint"]),
    };
    let compliance = |value: Value| Compliance {
        frameworks: texts(&value["frameworks"]),
        audit_logging: value["auditLogging"].as_bool(),
        encryption: there(&value["encryption"]).map(|e| serde_json::from_value(e).unwrap()),
        data_residency: texts(&value["dataResidency"]),
        retention_days: value["retentionDays"].as_u64(),
    };
    let service = |value: &Value| Service { name: text(&value["name"]), endpoints: texts(&value["endpoints"]) };
    let permissions = |value: Value| Permissions {
        network: there(&value["network"]).map(|network| Network {
            allowed_hosts: texts(&network["allowedHosts"]),
            require_tls: network["requireTls"].as_bool(),
        }),
        filesystem: there(&value["filesystem"]).map(|files| Filesystem {
            allowed_paths: texts(&files["allowedPaths"]),
            allowed_extensions: texts(&files["allowedExtensions"]),
        }),
        api: there(&value["api"]).map(|api| Api { services: each(&api["services"]).iter().map(service).collect() }),
    };
    let tool = |value: &Value| Tool { name: text(&value["name"]), server: maybe(&value["server"]) };
    let agent = AgentSpec {
        workspace: maybe(&spec["workspace"]),
        model: model(&spec["model"]),
        fallback_models: each(&spec["fallbackModels"]).iter().map(model).collect(),
        tools: each(&spec["tools"]).iter().map(tool).collect(),
        approval: there(&spec["approval"]).map(|approval| serde_json::from_value(approval).unwrap()),
        compliance: there(&spec["compliance"]).map(compliance),
        permissions: there(&spec["permissions"]).map(permissions),
        rate_limits: there(&spec["rateLimits"]).map(|limits| serde_json::from_value(limits).unwrap()),
        identity: there(&spec["identity"]).map(|identity| serde_json::from_value(identity).unwrap()),
        image: maybe(&spec["image"]),
    };
    assert_eq!(filled(serde_json::to_value(&agent).unwrap()), filled(spec), "something of the agent was not read");
    agent
}

/// Without empty lists, which are written as if they were absent.
fn filled(mut value: Value) -> Value {
    if let Value::Object(members) = &mut value {
        members.retain(|_, member| *member != json!([]));
        members.values_mut().for_each(|member| *member = filled(member.take()));
    } else if let Value::Array(items) = &mut value {
        items.iter_mut().for_each(|item| *item = filled(item.take()));
    }
    value
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
