//! What an older version enforced, and this one does not read: it is named before the upgrade, and told after it.

use kube::Api;
use kube::api::PostParams;
use sekuire_policy::api::{Agent, conditions};
use sekuire_policy::policy::Document;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::cluster::command::{Ran, run};
use crate::cluster::controller::sekuire;
use crate::cluster::{Cluster, ControllerOptions, User};
use crate::resilience::support::{Site, until};

/// `sekuire repo check --cluster` in the checkout, by the keys of the cluster.
async fn check(site: &Site) -> Ran {
    let kubeconfig = site.cluster.kubeconfig(User::ADMIN);
    let mut command = Command::new(sekuire());
    command.env_remove("KUBECONFIG").env("HOME", "/nonexistent").current_dir(site.repo.work());
    command.args(["repo", "check", "--cluster", "--kubeconfig", kubeconfig.to_str().unwrap()]);
    run(command, &[]).await
}

/// Object and ledger of a workspace, as a version before this one left them.
async fn left_by_an_older_version(site: &Site, name: &str, document: &Value) {
    let mut readable = document.clone();
    // it is not a part of what the digest is of
    readable.as_object_mut().unwrap().remove("co_signatures");
    let digest = Document::from_value(readable).unwrap().digest();
    let workspace = &document["workspace_id"];
    let policy = json!({
        "apiVersion": "sekuire.ai/v1alpha1", "kind": "WorkspacePolicy", "metadata": {"name": name},
        "spec": {"workspace": workspace, "document": document},
    });
    let ledger = json!({
        "apiVersion": "sekuire.ai/v1alpha1", "kind": "PolicyLedger", "metadata": {"name": name},
        "spec": {
            "workspace": workspace, "version": document["version"], "digest": digest,
            "policyId": document["policy_id"], "lifecycle": "active",
        },
    });
    for object in [policy, ledger] {
        site.cluster.apply(&object.to_string()).await.ok();
    }
}

async fn try_agent(site: &Site, namespace: &str) -> Result<(), String> {
    let agent: Agent = serde_json::from_value(json!({
        "apiVersion": "sekuire.ai/v1alpha1", "kind": "Agent", "metadata": {"generateName": "probe-"},
        "spec": {"model": {"provider": "openai", "name": "gpt-4"}},
    }))
    .unwrap();
    let api: Api<Agent> = site.agents(namespace);
    match api.create(&PostParams { dry_run: true, ..PostParams::default() }, &agent).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) => Err(status.message.clone()),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_enforced_document_that_a_new_version_does_not_read_is_named_before_it_and_told_after_it() {
    let site = Site::new(Cluster::options()).await;
    let good = site.document("ws_a", "3", &["shell"]);
    let mut crowded = good.clone();
    let entry = json!({"signing_key_id": "key_other", "document_signature": "0".repeat(128)});
    crowded["co_signatures"] = vec![entry; 17].into();
    let plain = site.document("ws_b", "1", &["sh\u{ad}ell"]);
    left_by_an_older_version(&site, "ws-a", &crowded).await;
    left_by_an_older_version(&site, "ws-b", &plain).await;
    site.commit([&good, &plain]).await;

    // the repository is in order already, and the cluster is not: that is told, and is no fault of the change
    let ran = check(&site).await;
    assert_eq!(ran.code, Some(0), "{ran}");
    assert!(ran.stdout.contains("WorkspacePolicy ws-a (workspace ws_a) of the cluster"), "{ran}");
    assert!(ran.stdout.contains("17 entries; expected 16 at most"), "{ran}");
    assert!(
        ran.stderr.contains("WorkspacePolicy ws-b (workspace ws_b) of the cluster: content.agent.capabilities"),
        "{ran}"
    );

    // nothing that could be read is there: whoever would upgrade now loses the policy of the workspace
    site.commit([&crowded]).await;
    let ran = check(&site).await;
    assert_eq!(ran.code, Some(1), "{ran}");
    assert_eq!(ran.stdout.matches("17 entries; expected 16 at most").count(), 2, "{ran}");

    let _controller = ControllerOptions::new("new").start(&site.cluster).await;
    let (a, b) = (site.namespace("ws_a").await, site.namespace("ws_b").await);
    until("what is read is enforced as before", async || try_agent(&site, &b).await).await;
    until("the refusal says why there is no policy", async || match try_agent(&site, &a).await {
        Err(message) if message.contains("[policy.missing]") && message.contains("17 entries") => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    until("the status says so too", async || {
        let object = site.policies().get("ws-a").await.unwrap();
        let conditions = object.status.unwrap_or_default().conditions;
        let ready = conditions::find(&conditions, "Ready").ok_or("no condition")?;
        let said = ready.status == "False" && ready.reason == "Malformed" && ready.message.contains("17 entries");
        if said { Ok(()) } else { Err(format!("{conditions:#?}")) }
    })
    .await;
    assert_eq!(site.policies().get("ws-a").await.unwrap().spec.document, crowded, "nothing was withdrawn or lost");

    // the same version, as it may be: no higher one is needed
    site.commit([&good]).await;
    site.enforced("ws-a", "3").await;
    until("agents are admitted again", async || try_agent(&site, &a).await).await;
    let ran = check(&site).await;
    assert_eq!(ran.code, Some(0), "{ran}");
    assert!(!ran.stdout.contains("17 entries"), "{ran}");
}
