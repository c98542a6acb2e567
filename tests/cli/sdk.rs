//! What `sekuire policy sign` makes, in the hands of the published SDK: what it believes, and what it believes that we
//! do not.

use std::fs;

use serde_json::{Value, json};

use super::support::Desk;
use crate::cluster::sdk::Sdk;
use crate::cluster::skip::skip;

impl Desk {
    /// The public key, 64 hex.
    fn public_key(&self) -> String {
        let ended = self.run(&["key", "show", &self.private_key(), "--output", "json"]);
        let shown: Value = serde_json::from_str(&ended.out).unwrap();
        shown[0]["publicKey"].as_str().unwrap().to_owned()
    }

    /// What the SDK says of a document, which it takes as JSON alone.
    async fn sdk_verifies(&self, sdk: &Sdk, document: &Value) -> Result<(), String> {
        let file = self.path("for-the-sdk.json");
        fs::write(&file, document.to_string()).unwrap();
        let answer = sdk.verify(&file, &self.public_key()).await;
        if answer["accepted"] == true { Ok(()) } else { Err(answer["error"].as_str().unwrap().to_owned()) }
    }

    /// Signs a document as JSON with our command line; returns it as signed.
    fn signed(&self, document: &Value) -> Value {
        self.write("signed.json", &format!("{document:#}"));
        let ended = self.sign(&["signed.json"]);
        assert_eq!(ended.code, 0, "{}", ended.err);
        serde_json::from_str(&self.read("signed.json")).unwrap()
    }

    /// The reason that our own verification gives for a document.
    fn reason(&self, document: &Value) -> String {
        self.write("judged.json", &document.to_string());
        self.results(&["judged.json"]).remove(0)
    }
}

fn document(status: &str, content: &Value) -> Value {
    json!({"policy_id": "policy_a", "workspace_id": "ws_a", "version": "1.9", "status": status, "content": content})
}

/// Rules of every kind and shape, their members in no order.
fn contents() -> Vec<Value> {
    let texts = ["größe", "工具 🔧", "\u{1}\t\u{7f}\u{2028}\u{fffd}", "a\"b\\c/d", "e\u{301}", "é", "-0"];
    vec![
        json!({}),
        json!({"tools": {}, "agent": {"models": {}, "capabilities": {"denied_tools": []}}}),
        json!({"agent": {"models": {"denied_models": texts, "allowed_providers": ["z", "a"]}}}),
        json!({"tools": {"blocked_tools": texts, "allowed_tools": [{"name": "x", "description": ""}, {"description": "ü", "name": "y"}]}}),
        json!({"rate_limits": {"per_agent": {"tokens_per_hour": 9_007_199_254_740_991_u64, "requests_per_minute": 0}}}),
        json!({"compliance": {"retention_days": 90, "data_residency": "eu", "require_encryption": false, "frameworks": ["soc2"]}}),
        // of the second part, which the SDK does not know
        json!({"agent": {
            "models": {"endpoints": [
                {"provider": "größe", "host": "*.example.com", "path_prefix": "/ä \"b\"", "models": ["工具*"]},
                {"host": "*", "provider": "p"},
            ]},
            "capabilities": {"denied_servers": ["*/shell"], "broker_tools": ["call_tool"], "allowed_servers": ["tools/*", "é"]},
            "images": {"require_digest": true, "allowed_images": ["ghcr.io/acme/*"]},
            "delegates": {"allowed_workspaces": ["ws_*"]},
            "opaque": {"accept_declarations": true, "allowed": false},
        }}),
        json!({"permissions": {
            "network": {"require_tls": true, "enabled": true, "blocked_domains": ["*.example.com"], "allowed_domains": ["*"]},
            "filesystem": {"enabled": true, "blocked_paths": ["/etc/*"], "allowed_extensions": [".md"]},
            "api": {"allowed_services": [{"service_name": "s", "endpoints": ["/v1/ä"]}], "enabled": true},
        }}),
    ]
}

#[tokio::test]
async fn the_sdk_verifies_every_document_that_we_sign() {
    let sdk = match Sdk::find() {
        Ok(sdk) => sdk,
        Err(why) => skip!(why),
    };
    let desk = Desk::new();
    for content in contents() {
        let mut full = document("active", &content);
        full["expires_at"] = "2099-01-01T00:00:00+02:00".into();
        full["activated_at"] = "2026-01-01T00:00:00Z".into();
        for document in [document("active", &content), document("draft", &content), full] {
            let signed = desk.signed(&document);
            assert_eq!(desk.sdk_verifies(&sdk, &signed).await, Ok(()), "{signed}");
            assert_eq!(desk.reason(&signed), "Verified");

            desk.write("signed.yaml", &serde_yaml::to_string(&document).unwrap());
            let ended = desk.sign(&["signed.yaml"]);
            assert_eq!(ended.code, 0, "{}", ended.err);
            let signed: Value = serde_yaml::from_str(&desk.read("signed.yaml")).unwrap();
            assert_eq!(desk.sdk_verifies(&sdk, &signed).await, Ok(()), "{signed}");
            assert_eq!(desk.results(&["signed.yaml"]), ["Verified"]);
        }
    }
}

#[tokio::test]
async fn forgeries_that_the_sdk_accepts_are_refused_by_us_for_their_reason() {
    let sdk = match Sdk::find() {
        Ok(sdk) => sdk,
        Err(why) => skip!(why),
    };
    let desk = Desk::new();
    let rules = json!({"tools": {"blocked_tools": ["shell_exec"]}});
    let (active, draft) = (desk.signed(&document("active", &rules)), desk.signed(&document("draft", &rules)));
    let mut expiring = document("active", &rules);
    expiring["expires_at"] = "2099-01-01T00:00:00Z".into();
    let expiring = desk.signed(&expiring);
    let forged = |of: &Value, member: &str, value: &str| {
        let mut document = of.clone();
        document[member] = value.into();
        document
    };
    let without = |members: &[&str]| {
        let mut document = active.clone();
        document.as_object_mut().unwrap().retain(|name, _| !members.contains(&name.as_str()));
        document
    };
    for (what, document, reason) in [
        ("moved to another workspace", forged(&active, "workspace_id", "ws_b"), "DocumentSignatureInvalid"),
        ("a draft activated by hand", forged(&draft, "status", "active"), "DocumentSignatureInvalid"),
        ("an expiry put off", forged(&expiring, "expires_at", "2199-01-01T00:00:00Z"), "DocumentSignatureInvalid"),
        ("signed by the vendor's tools", without(&["document_signature"]), "DocumentSignatureMissing"),
        ("not signed at all", without(&["signature", "document_signature"]), "SignatureMissing"),
    ] {
        assert_eq!(desk.sdk_verifies(&sdk, &document).await, Ok(()), "{what}");
        assert_eq!(desk.reason(&document), reason, "{what}");
    }
}

#[tokio::test]
async fn what_the_sdk_refuses_we_refuse_too() {
    let sdk = match Sdk::find() {
        Ok(sdk) => sdk,
        Err(why) => skip!(why),
    };
    let desk = Desk::new();
    let signed = desk.signed(&document("active", &json!({"tools": {"blocked_tools": ["shell_exec"]}})));
    let other = desk.signed(&document("active", &json!({})));
    let forged = |member: &str, value: &Value| {
        let mut document = signed.clone();
        document[member] = value.clone();
        document
    };
    let signature = "signature verification failed";
    for (document, sdk_says, reason) in [
        (forged("content", &json!({})), "hash mismatch: expected ", "HashMismatch"),
        (forged("hash", &"0".repeat(64).into()), "hash mismatch: expected ", "HashMismatch"),
        (forged("version", &"2.0".into()), signature, "SignatureInvalid"),
        (forged("policy_id", &"policy_b".into()), signature, "SignatureInvalid"),
        (forged("signature", &other["signature"]), signature, "SignatureInvalid"),
    ] {
        let said = desk.sdk_verifies(&sdk, &document).await.unwrap_err();
        assert!(said.starts_with(sdk_says), "{said}");
        assert_eq!(desk.reason(&document), reason);
    }
}
