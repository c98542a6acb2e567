//! The CRDs: what a single object can be refused for, what `kubectl` shows and explains, and what survives a round trip.

use sekuire_policy::api::object_name;
use serde_json::{Value, json};

use super::tenant::Tenant;

async fn refused(team: &Tenant, object: Value, part: &str) {
    let error = team.try_apply(&object).await.expect_err("accepted");
    assert!(error.to_string().contains(part), "{part} is not in: {error}");
}

#[tokio::test]
async fn a_repository_that_makes_no_sense_is_refused_with_what_is_accepted() {
    let team = Tenant::new().await;
    let repository = |spec: Value| {
        json!({"apiVersion": "sekuire.ai/v1alpha1", "kind": "PolicyRepository",
            "metadata": {"name": format!("{}-bad", team.name)}, "spec": spec})
    };
    let url = "https://git.example.com/policies.git";
    let cases = [
        (json!({"url": "git://git.example.com/x"}), "url"),
        (json!({"url": "https://user:secret@git.example.com/x"}), "password"),
        (json!({"url": url, "ref": {}}), "exactly one member"),
        (json!({"url": url, "ref": {"branch": "main", "tag": "v1"}}), "exactly one member"),
        (json!({"url": url, "path": "/etc"}), "relative"),
        (json!({"url": url, "path": "a/../b"}), "relative"),
        (json!({"url": url, "interval": "soon"}), "interval"),
        (json!({"url": url, "workspaces": []}), "workspaces"),
    ];
    for (spec, part) in cases {
        refused(&team, repository(spec), part).await;
    }
}

#[tokio::test]
async fn a_key_without_workspaces_or_with_reversed_validity_is_refused() {
    let team = Tenant::new().await;
    let key = |spec: Value| {
        let mut all = json!({"keyId": "key_x", "publicKey": "00", "workspaces": ["*"]});
        for (member, value) in spec.as_object().unwrap() {
            all[member] = value.clone();
        }
        json!({"apiVersion": "sekuire.ai/v1alpha1", "kind": "SigningKey",
            "metadata": {"name": format!("{}-bad", team.name)}, "spec": all})
    };
    refused(&team, key(json!({"workspaces": []})), "workspaces").await;
    refused(&team, key(json!({"keyId": "a/b"})), "keyId").await;
    let reversed = json!({"notBefore": "2027-01-01T00:00:00Z", "notAfter": "2026-01-01T00:00:00Z"});
    refused(&team, key(reversed), "notBefore must lie before notAfter").await;
}

#[tokio::test]
async fn a_threshold_that_asks_for_nothing_or_names_nothing_is_refused() {
    let team = Tenant::new().await;
    for (spec, part) in [
        (json!({"workspaces": [], "signatures": 2}), "workspaces"),
        (json!({"workspaces": ["x"], "signatures": 0}), "signatures"),
        (json!({"workspaces": ["x"], "signatures": 17}), "signatures"),
        (json!({"workspaces": ["x"]}), "signatures"),
    ] {
        let threshold = json!({"apiVersion": "sekuire.ai/v1alpha1", "kind": "SigningThreshold",
            "metadata": {"name": format!("{}-bad", team.name)}, "spec": spec});
        refused(&team, threshold, part).await;
    }
}

#[tokio::test]
async fn an_agent_that_contradicts_itself_is_refused_with_what_is_accepted() {
    let team = Tenant::with_files(async |team: &Tenant| {
        team.commit(&[("a.json", &team.active("a", "1", "x"))]).await;
    })
    .await;
    let namespace = team.namespace("a").await;
    team.admits(&namespace, "calculator").await;
    let model = json!({"provider": "openai", "name": "gpt-4"});
    let agent = |spec: Value| {
        let mut all = json!({"model": model});
        for (member, value) in spec.as_object().unwrap() {
            all[member] = value.clone();
        }
        json!({"apiVersion": "sekuire.ai/v1alpha1", "kind": "Agent",
            "metadata": {"name": "agent", "namespace": namespace}, "spec": all})
    };
    let many: Vec<Value> = (0..9).map(|i| json!({"provider": "openai", "name": format!("m{i}")})).collect();
    let hash = "0".repeat(64);
    let cases = [
        (json!({"fallbackModels": [model]}), "fallback"),
        (json!({"fallbackModels": many}), "fallbackModels"),
        (json!({"tools": [{"name": "a"}], "approval": {"mode": "Listed", "tools": ["b"]}}), "approval"),
        (json!({"model": {"provider": "openai", "name": "gpt-4", "endpoint": "ftp://x"}}), "endpoint"),
        (json!({"identity": {"sekuireId": hash}, "image": "registry/agent:latest"}), "image"),
        (json!({"identity": {"sekuireId": "short"}}), "sekuireId"),
        (json!({"tools": [{"name": "a"}, {"name": "a"}]}), "tools"),
    ];
    for (spec, part) in cases {
        refused(&team, agent(spec), part).await;
    }
    team.apply(&agent(json!({"workspace": team.workspace("a")}))).await;
    refused(&team, agent(json!({"workspace": team.workspace("b")})), "workspace").await;
}

#[tokio::test]
async fn kubectl_explains_the_rules_and_lists_every_kind_by_its_short_name() {
    let team = Tenant::with_files(async |team: &Tenant| {
        team.commit(&[("a.json", &team.active("a", "1", "x"))]).await;
    })
    .await;
    team.ready("a", "True", "Succeeded").await;
    let explained = team.cluster.kubectl(["explain", "workspacepolicy.spec.document.content.agent.models"]).await.ok();
    for part in ["allowed_providers", "denied_models", "model.blocked"] {
        assert!(explained.contains(part), "{part} is not in:\n{explained}");
    }
    for kind in ["prepo", "skey", "wsp", "pled", "skagent"] {
        team.cluster.kubectl(["explain", kind]).await.ok();
    }
    let listed = team.cluster.kubectl(["get", "sekuire", "-A"]).await.ok();
    let name = object_name(&team.workspace("a"));
    for part in [format!("workspacepolicy.sekuire.ai/{name}"), format!("policyrepository.sekuire.ai/{}", team.name)] {
        assert!(listed.contains(&part), "{part} is not in:\n{listed}");
    }
    let shown = team.cluster.kubectl(["get", "wsp", &name, "-o", "wide"]).await.ok();
    for part in ["True", "Succeeded", team.signer.key_id(), "main@sha1:"] {
        assert!(shown.contains(part), "{part} is not in:\n{shown}");
    }
}

#[tokio::test]
async fn a_document_survives_the_api_server_whatever_its_members_are() {
    let team = Tenant::new().await;
    let content = json!({
        "agent": {"models": {"blocked_models": ["gpt-3*"], "allowed_providers": []}, "capabilities": {}},
        "compliance": {"frameworks": [], "retention_days": 9_007_199_254_740_991_i64, "require_encryption": false},
        "tools": {"allowed_tools": [{"name": "naïve \"tool\" \u{1F600}", "description": ""}]},
        "permissions": {"network": {"enabled": false}, "api": {"allowed_services": []}},
        "rate_limits": {"per_agent": {"tokens_per_hour": 0}},
    });
    let document = team.signer.active(&team.workspace("a"), "1.2.3", content);
    let yaml = serde_yaml::to_string(&serde_json::from_str::<Value>(&document).unwrap()).unwrap();
    team.commit(&[("a.yaml", &yaml)]).await;
    team.watch_repository(json!({})).await;
    let object = team.ready("a", "True", "Succeeded").await;
    assert_eq!(object.spec.document, serde_json::from_str::<Value>(&document).unwrap());
}
