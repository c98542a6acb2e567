//! The drill of docs/backup.md: what is state is saved, restored into an empty cluster, and enforced again.

use serde_json::{Value, json};

use crate::cluster::{Cluster, ClusterOptions, ControllerOptions};
use crate::resilience::support::{DENIED, Site, agent, dry_run, until};

/// What docs/backup.md says: in this order.
const STATE: [&str; 6] =
    ["signingkeys", "signingthresholds", "workspacepolicies", "policyledgers", "policyrepositories", "agents"];

/// The objects of a kind, as one would put them into a backup.
async fn save(cluster: &Cluster, kind: &str) -> String {
    cluster.kubectl(["get", kind, "--all-namespaces", "-o", "json"]).await.ok()
}

/// A saved list without what belongs to the cluster that it comes from.
fn portable(saved: &str) -> String {
    let mut list: Value = serde_json::from_str(saved).unwrap();
    for object in list["items"].as_array_mut().unwrap() {
        for member in ["uid", "resourceVersion", "creationTimestamp", "generation", "managedFields", "ownerReferences"]
        {
            object["metadata"].as_object_mut().unwrap().remove(member);
        }
    }
    list.to_string()
}

async fn apply(cluster: &Cluster, list: &str) {
    if serde_json::from_str::<Value>(list).unwrap()["items"] != json!([]) {
        cluster.apply(list).await.ok();
    }
}

#[tokio::test]
async fn what_is_restored_is_enforced_again_with_its_marks_and_nothing_older_is_taken() {
    let site = Site::new(ClusterOptions::default()).await;
    let first = site.commit([&site.document("ws_a", "1", &[])]).await;
    let controller = ControllerOptions::new("a").start(&site.cluster).await;
    site.enforced("ws-a", "1").await;
    site.commit([&site.document("ws_a", "2", &[DENIED])]).await;
    site.enforced("ws-a", "2").await;
    let namespace = site.namespace("ws_a").await;
    let running = agent(&namespace, "running", &["calculator"]);
    until("admitted", async || site.agents(&namespace).create(&dry_run(), &running).await.map(drop)).await;
    site.agents(&namespace).create(&Default::default(), &running).await.unwrap();
    drop(controller);
    let mut backup = Vec::new();
    for kind in STATE {
        backup.push(portable(&save(&site.cluster, kind).await));
    }

    // somebody took the repository back to the old version meanwhile
    site.repo.reset(&first).await;
    let Site { repo, signer, cluster, client } = site;
    drop((cluster, client));
    let cluster = Cluster::start().await;
    cluster.install_crds().await;
    let labels = json!({"sekuire.ai/workspace": "ws_a"});
    let bound = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}});
    cluster.apply(&bound.to_string()).await.ok();
    for list in &backup {
        apply(&cluster, list).await;
    }
    let site = Site { client: cluster.client().await, cluster, repo, signer };
    assert!(site.agents(&namespace).get_opt("running").await.unwrap().is_some());
    // no folder of clones: it is a cache
    let _controller = ControllerOptions::new("b").start(&site.cluster).await;
    until("refused", async || {
        match site.agents(&namespace).create(&dry_run(), &agent(&namespace, "a", &[DENIED])).await {
            Err(kube::Error::Api(status)) if status.message.contains("[tool.blocked]") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    site.at_rest().await; // it has looked at the old commit by now, and more than once
    let policy = site.policies().get("ws-a").await.unwrap();
    let ledger = site.ledgers().get("ws-a").await.unwrap();
    assert_eq!(policy.spec.document["version"], "2");
    assert_eq!(ledger.spec.version.to_string(), "2");
    // the cursor came back with the repository's status only where statuses are restored; the mark holds without it
    site.commit([&site.document("ws_a", "3", &[DENIED])]).await;
    until("the next version is enforced", async || {
        let (policy, ledger) = (site.policies().get("ws-a").await, site.ledgers().get("ws-a").await);
        let (policy, ledger) = (policy.map_err(|e| e.to_string())?, ledger.map_err(|e| e.to_string())?);
        if policy.spec.document["version"] == "3" && ledger.spec.version.to_string() == "3" {
            Ok(())
        } else {
            Err(format!("{:?}", policy.status))
        }
    })
    .await;
}
