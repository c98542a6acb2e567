//! A real forge: pull requests merged in each way that its page offers, and the webhooks that it sends.

use std::time::Instant;

use serde_json::json;

use super::read_api::authorities;
use super::tenant::{Tenant, eventually};
use crate::cluster::controller::NAMESPACE;
use crate::cluster::gitea::Gitea;
use crate::cluster::skip::skip;

#[tokio::test]
async fn a_pull_request_is_enforced_when_the_forge_merges_it_by_merge_squash_or_rebase() {
    let built = match Gitea::find() {
        Ok(built) => built,
        Err(why) => skip!(why),
    };
    let team = Tenant::new().await;
    let gitea = Gitea::start(&built, &authorities(&team).await).await;
    gitea.post("user/repos", &json!({"name": "policies", "default_branch": "main"})).await.unwrap();
    team.repo.git(["remote", "set-url", "origin", &gitea.push_url("policies")]).await;
    team.commit(&[("a.json", &team.active("a", "1", "tool_1"))]).await;
    team.apply(&json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": team.name, "namespace": NAMESPACE},
        "stringData": {"token": "the token of the forge"},
    }))
    .await;
    let receiver = json!({"type": "gitea", "secretRef": {"name": team.name}});
    let url = gitea.clone_url("policies");
    team.watch_repository(json!({"url": url, "interval": "1h", "receiver": receiver})).await;
    team.enforced("a", "1").await;
    let target = format!("{}/hook/{}", team.controller.receiver_url(), team.name);
    let config = json!({"url": target, "content_type": "json", "secret": "the token of the forge"});
    let hook = json!({"type": "gitea", "active": true, "events": ["push"], "config": config});
    gitea.post_to("policies", "hooks", &hook).await.unwrap();

    let namespace = team.namespace("a").await;
    for (version, style) in [("2", "merge"), ("3", "squash"), ("4", "rebase")] {
        team.repo.git(["checkout", "--quiet", "-b", style]).await;
        let tool = format!("tool_{version}");
        // two commits, so that a squash is one
        team.commit(&[("README.txt", style)]).await;
        team.commit(&[("a.json", &team.active("a", version, &tool))]).await;
        let request = json!({"title": style, "head": style, "base": "main"});
        let number = gitea.post_to("policies", "pulls", &request).await.unwrap()["number"].clone();
        let start = eventually(&format!("{style} is possible"), async || {
            let start = Instant::now();
            let merge = gitea.post_to("policies", &format!("pulls/{number}/merge"), &json!({"Do": style})).await;
            merge.map(|_| start)
        })
        .await;
        team.refuses(&namespace, &tool, "tool.blocked").await;
        println!("{style}: enforced {} ms after it was asked for", start.elapsed().as_millis());
        team.enforced("a", version).await;
        team.repo.git(["fetch", "--quiet", "origin", "main"]).await;
        let tip = team.repo.git(["rev-parse", "FETCH_HEAD"]).await;
        team.synced(tip.trim()).await;
        team.repo.git(["checkout", "--quiet", "-B", "main", "FETCH_HEAD"]).await;
    }
}
