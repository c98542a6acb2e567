//! Agents that were there before a policy forbade them can be cleaned up, also while no controller runs; but not changed
//! into anything else that it forbids.

use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use sekuire_policy::api::Agent;
use serde_json::{Value, json};

use super::support::{DENIED, Site, agent, until};
use crate::cluster::{Cluster, Controller, programs::has_controller_manager, skip::skip};

const WORKSPACE: &str = "ws_a";
const NAME: &str = "ws-a";
const FINALIZER: &str = "example.com/hold";

async fn create(api: &Api<Agent>, namespace: &str, name: &str, tools: &[&str]) {
    let mut agent = agent(namespace, name, tools);
    agent.metadata.finalizers = Some(vec![FINALIZER.to_owned()]);
    until(&format!("{name} is created"), async || {
        api.create(&PostParams::default(), &agent).await.map(drop).map_err(|e| e.to_string())
    })
    .await;
}

async fn patch(api: &Api<Agent>, name: &str, patch: &Value) -> Result<Agent, String> {
    let patched = api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await;
    patched.map_err(|error| error.to_string())
}

async fn refused(api: &Api<Agent>, name: &str, change: &Value, why: &str) {
    let said = patch(api, name, change).await.expect_err(&format!("{name} was changed: {change}"));
    assert!(said.contains(why), "{name}: {said}");
}

/// All that is not judged: labels, annotations, finalizers, the status.
async fn metadata_changes_freely(api: &Api<Agent>, name: &str, when: &str) {
    let more = [FINALIZER, "example.com/second"];
    let changes = [
        json!({"metadata": {"labels": {"team": when}}}),
        json!({"metadata": {"annotations": {"example.com/note": when}}}),
        json!({"metadata": {"finalizers": more}}),
        json!({"metadata": {"finalizers": [FINALIZER], "labels": {"team": null}}}),
    ];
    for change in changes {
        let deleted = api.get(name).await.unwrap().metadata.deletion_timestamp.is_some();
        if deleted && change["metadata"]["finalizers"].as_array().is_some_and(|list| list.len() > 1) {
            continue; // the API server takes no new finalizer on what is being deleted
        }
        patch(api, name, &change).await.unwrap_or_else(|why| panic!("{name} {when}: {change}: {why}"));
    }
    let status = json!({"status": {"conditions": [], "observedGeneration": 1}});
    api.patch_status(name, &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
}

/// Deletes an agent with a finalizer: it is held until the finalizer goes, then it is gone.
async fn can_be_deleted(api: &Api<Agent>, name: &str) {
    drop(api.delete(name, &DeleteParams::default()).await.unwrap());
    assert!(api.get(name).await.unwrap().metadata.deletion_timestamp.is_some());
    metadata_changes_freely(api, name, "deleting").await;
    patch(api, name, &json!({"metadata": {"finalizers": null}})).await.unwrap();
    until(&format!("{name} is gone"), async || match api.get_opt(name).await.unwrap() {
        Some(still) => Err(still.metadata.finalizers),
        None => Ok(()),
    })
    .await;
}

/// A namespace with an agent that no policy would admit any more, and a finalizer on that, can be deleted.
async fn namespace_can_be_deleted(site: &Site, namespace: &str, agents: &[&str]) {
    site.cluster.kubectl(["delete", "namespace", namespace, "--wait=false"]).await.ok();
    let api = site.agents(namespace);
    for name in agents {
        until(&format!("{name} is being deleted"), async || match api.get(name).await {
            Ok(agent) if agent.metadata.deletion_timestamp.is_none() => Err("not yet"),
            _ => Ok(()),
        })
        .await;
        patch(&api, name, &json!({"metadata": {"finalizers": null}})).await.unwrap();
    }
    site.cluster.kubectl(["wait", "--for=delete", "--timeout=50s", &format!("namespace/{namespace}")]).await.ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_of_before_can_be_released_and_deleted_but_not_changed_into_another_violation() {
    if !has_controller_manager() {
        skip!("no kube-controller-manager in KUBEBUILDER_ASSETS");
    }
    let site = Site::new(Cluster::options().controller_manager()).await;
    let (first, second) = (site.namespace(WORKSPACE).await, site.namespace(WORKSPACE).await);
    let (api, other) = (site.agents(&first), site.agents(&second));
    // before there is any controller, and so any policy
    create(&api, &first, "oldest", &[DENIED]).await;
    site.commit([&site.document(WORKSPACE, "1", &[])]).await;
    let mut controller = Controller::start(&site.cluster).await;
    site.enforced(NAME, "1").await;
    for name in ["old", "late", "dying", "dying-late"] {
        create(&api, &first, name, &[DENIED]).await;
    }
    create(&api, &first, "good", &["search"]).await;
    create(&other, &second, "old", &[DENIED]).await;
    create(&other, &second, "other", &[DENIED]).await;
    site.commit([&site.document(WORKSPACE, "2", &[DENIED])]).await;
    site.enforced(NAME, "2").await;
    until("no new one is admitted", async || {
        let new = api.create(&super::support::dry_run(), &agent(&first, "new", &[DENIED])).await;
        new.map_or(Ok(()), |_| Err("admitted"))
    })
    .await;

    let still_denied = json!({"spec": {"model": {"name": "claude-2"}}});
    let bad = json!({"spec": {"tools": [{"name": DENIED}, {"name": "search"}]}});
    metadata_changes_freely(&api, "old", "before").await;
    refused(&api, "old", &still_denied, "tool.blocked").await;
    for name in ["good", "dying", "dying-late"] {
        drop(api.delete(name, &DeleteParams::default()).await.unwrap());
    }
    refused(&api, "good", &bad, "tool.blocked").await;
    refused(&api, "dying", &still_denied, "tool.blocked").await;
    patch(&api, "dying", &json!({"spec": {"tools": [{"name": "search"}]}})).await.expect("it complies now");
    refused(&api, "dying", &bad, "tool.blocked").await;
    can_be_deleted(&api, "oldest").await;
    can_be_deleted(&api, "old").await;
    namespace_can_be_deleted(&site, &second, &["old", "other"]).await;

    controller.kill();
    metadata_changes_freely(&api, "late", "down").await;
    refused(&api, "late", &still_denied, "agents.sekuire.ai").await;
    refused(&api, "dying-late", &bad, "agents.sekuire.ai").await;
    patch(&api, "dying-late", &json!({"metadata": {"finalizers": null}})).await.unwrap();
    can_be_deleted(&api, "late").await;
    namespace_can_be_deleted(&site, &first, &["good", "dying"]).await;
}
