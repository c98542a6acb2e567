//! The published SDK as a client of the read API.

use serde_json::{Value, json};

use super::read_api::authorities;
use super::tenant::Tenant;
use crate::cluster::sdk::Sdk;
use crate::cluster::skip::skip;

#[tokio::test]
async fn the_published_sdk_accepts_what_is_served_and_is_told_where_there_is_none() {
    let sdk = match Sdk::find() {
        Ok(sdk) => sdk,
        Err(why) => skip!(why),
    };
    let team = Tenant::with_files(async |team: &Tenant| {
        let rules =
            json!({"tools": {"blocked_tools": ["größe", "工具 🔧", "a\"b\\c\u{1}\u{7f}\u{2028}"]}, "agent": {}});
        let second = json!({"agent": {
            "models": {"endpoints": [{"host": "a.example.com", "provider": "openai", "models": ["*"]}]},
            "images": {"require_digest": true, "allowed_images": ["ghcr.io/*"]},
            "delegates": {"allowed_workspaces": ["ws_b"]}, "opaque": {"allowed": false},
        }});
        let second = team.signer.active(&team.workspace("c"), "2", second);
        let document: Value = serde_json::from_str(&team.signer.active(&team.workspace("b"), "1.0", rules)).unwrap();
        let yaml = serde_yaml::to_string(&document).unwrap();
        team.commit(&[("a.json", &team.active("a", "1", "shell_exec")), ("b.yaml", &yaml), ("c.json", &second)]).await;
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.crt");
    std::fs::write(&file, authorities(&team).await).unwrap();
    let url = team.controller.api_url();
    for (suffix, version) in [("a", "1"), ("b", "1.0"), ("c", "2")] {
        let workspace = team.workspace(suffix);
        let enforced = team.enforced(suffix, version).await.spec.document;
        let answer = sdk.fetch(&url, &workspace, &file).await;
        assert_eq!(answer["accepted"], true, "{answer}");
        for member in ["policy_id", "workspace_id", "version", "status", "hash", "signature", "content"] {
            assert_eq!(answer["policy"][member], enforced[member], "{member}");
        }
        assert_eq!(answer["policy"]["signing_public_key"], team.signer.public_hex());
    }
    let answer = sdk.fetch(&url, &team.workspace("none"), &file).await;
    assert!(answer["error"].as_str().unwrap().contains("404 Not Found"), "{answer}");
    // it believes nobody else
    let other = team.cluster.folder().join("ca.crt");
    let answer = sdk.fetch(&url, &team.workspace("a"), &other).await;
    assert!(answer["error"].as_str().unwrap().contains("certificate verify failed"), "{answer}");
}
