//! Releases of the real Helm on a real API server, where somebody else has written too.

use std::path::Path;

use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use kube::Api;
use kube::api::PostParams;
use sekuire_policy::admission::registration::CONFIGURATION_NAME;
use sekuire_policy::api::{BREAK_GLASS, FIELD_MANAGER};

use super::helm::{CHART, find, helm_at};
use crate::cluster::command::Ran;
use crate::cluster::controller::NAMESPACE;
use crate::cluster::server::CRDS;
use crate::cluster::skip::skip;
use crate::cluster::{Cluster, User};

/// `helm install` or `upgrade` of the release, in a cluster.
async fn helm(program: &Path, cluster: &Cluster, what: &str, chart: &str, more: &[&str]) -> Ran {
    let args = [&[what, "sekuire", chart, "--namespace", NAMESPACE], more].concat();
    helm_at(program, &cluster.kubeconfig(User::ADMIN), &args).await
}

/// A copy of the chart in which a kind says something else.
fn another_chart(folder: &Path) -> String {
    let copied = std::process::Command::new("cp").arg("-r").arg(CHART).arg(folder).status().unwrap();
    assert!(copied.success());
    let chart = folder.join("sekuire-policy-controller");
    let kind = chart.join("files/crds/sekuire.ai_agents.yaml");
    let text = std::fs::read_to_string(&kind).unwrap();
    let changed = text.replacen("description: What the object says.", "description: What the agent says.", 1);
    assert_ne!(text, changed);
    std::fs::write(kind, changed).unwrap();
    chart.display().to_string()
}

#[tokio::test]
async fn kinds_that_kubectl_made_are_taken_over_and_upgraded_as_the_documents_say() {
    let program = match find() {
        Ok(program) => program,
        Err(why) => skip!(why),
    };
    let (cluster, folder) = (Cluster::start().await, tempfile::tempdir().unwrap());
    cluster.kubectl_as(User::ADMIN, &["apply", "--server-side", "-f", CRDS], "").await.ok();
    let said = helm(&program, &cluster, "install", CHART, &["--create-namespace"]).await.refused();
    assert!(said.contains("cannot be imported"), "{said}");
    helm(&program, &cluster, "install", CHART, &["--create-namespace", "--take-ownership"]).await.ok();
    let another = another_chart(folder.path());
    let said = helm(&program, &cluster, "upgrade", &another, &[]).await.refused();
    assert!(said.contains("conflict with \"kubectl\""), "{said}");
    helm(&program, &cluster, "upgrade", &another, &["--force-conflicts"]).await.ok();
    // once: back again goes without
    helm(&program, &cluster, "upgrade", CHART, &[]).await.ok();
}

#[tokio::test]
async fn while_break_glass_is_open_an_upgrade_changes_nothing_unless_it_is_forced_and_then_the_annotation_stays() {
    let program = match find() {
        Ok(program) => program,
        Err(why) => skip!(why),
    };
    let cluster = Cluster::start().await;
    helm(&program, &cluster, "install", CHART, &["--create-namespace"]).await.ok();
    let api: Api<ValidatingWebhookConfiguration> = Api::all(cluster.client().await);
    let mut opened = api.get(CONFIGURATION_NAME).await.unwrap();
    opened.metadata.annotations.get_or_insert_default().insert(BREAK_GLASS.to_owned(), "INC-1".to_owned());
    opened.webhooks.as_mut().unwrap()[0].failure_policy = Some("Ignore".to_owned());
    // as the controller writes it
    let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    api.replace(CONFIGURATION_NAME, &params, &opened).await.unwrap();

    let policy =
        async || api.get(CONFIGURATION_NAME).await.unwrap().webhooks.unwrap()[0].failure_policy.clone().unwrap();
    let said = helm(&program, &cluster, "upgrade", CHART, &[]).await.refused();
    assert!(said.contains("failurePolicy"), "{said}");
    assert_eq!(policy().await, "Ignore");
    helm(&program, &cluster, "upgrade", CHART, &["--force-conflicts"]).await.ok();
    assert_eq!(policy().await, "Fail");
    let annotations = api.get(CONFIGURATION_NAME).await.unwrap().metadata.annotations.unwrap();
    assert_eq!(annotations.get(BREAK_GLASS).map(String::as_str), Some("INC-1"));
}
