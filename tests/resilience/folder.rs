//! A folder for clones that cannot be used costs Git, and nothing else.

use std::time::Duration;

use kube::api::Api;
use sekuire_policy::api::{PolicyRepository, conditions};

use super::support::{DENIED, Site, agent, dry_run, logged, until};
use crate::cluster::{ClusterOptions, ControllerOptions};

#[tokio::test]
async fn a_replica_that_cannot_write_its_data_folder_answers_says_so_and_goes_on_when_it_can() {
    let site = Site::new(ClusterOptions::default()).await;
    site.commit([&site.document("ws_a", "1", &[DENIED])]).await;
    let first = ControllerOptions::new("a").start(&site.cluster).await;
    site.enforced("ws-a", "1").await;
    let namespace = site.namespace("ws_a").await;
    drop(first);

    // a file where the folder is to be: not even root can make a folder there
    let (file, repositories) =
        (site.cluster.folder().join("in-the-way"), Api::<PolicyRepository>::all(site.client.clone()));
    std::fs::write(&file, "").unwrap();
    let flag = format!("--data-dir={}", file.join("data").display());
    let mut controller = ControllerOptions::new("b").flags([&flag]).start(&site.cluster).await;
    until("refused", async || {
        match site.agents(&namespace).create(&dry_run(), &agent(&namespace, "a", &[DENIED])).await {
            Err(kube::Error::Api(status)) if status.message.contains("[tool.blocked]") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    logged(&controller, "data folder not usable: repositories cannot be read").await;
    site.led_by("b").await;
    site.commit([&site.document("ws_a", "2", &[DENIED, "curl"])]).await;
    until("the repository says so", async || {
        let all = repositories.list(&Default::default()).await.map_err(|e| e.to_string())?;
        let status = all.items[0].status.clone().unwrap_or_default();
        match conditions::find(&status.conditions, "Ready") {
            Some(ready) if ready.reason == "GitOperationFailed" && ready.message.contains("in-the-way") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert!(controller.ended().is_none());
    assert!(site.agents(&namespace).create(&dry_run(), &agent(&namespace, "a", &["calculator"])).await.is_ok());

    std::fs::remove_file(&file).unwrap();
    site.enforced("ws-a", "2").await;
    logged(&controller, "data folder usable").await;
    // from now on it is this one's alone
    let mut other = ControllerOptions::new("c").flags([&flag]).spawn(&site.cluster).await;
    let ended = tokio::time::timeout(Duration::from_secs(60), async {
        loop {
            match other.ended() {
                Some(status) => return status,
                None => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    });
    assert!(!ended.await.expect("another one with this folder ends").success());
    assert!(other.log().contains("is used by another controller"), "{}", other.log());
}
