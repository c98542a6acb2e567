//! Who owns the webhook configuration: uninstalling leaves nothing behind that would refuse agents.

use std::time::{Duration, Instant};

use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use kube::Api;
use sekuire_policy::admission::registration::CONFIGURATION_NAME;
use serde_json::json;

use crate::cluster::{Cluster, ControllerOptions, programs::has_controller_manager, skip::skip};
use crate::resilience::support::{logged, until};

const ROLE: &str = "sekuire-policy-controller";

async fn make_role(cluster: &Cluster) {
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": ROLE},
        "rules": []});
    cluster.apply(&role.to_string()).await.ok();
}

async fn there(api: &Api<ValidatingWebhookConfiguration>) -> ValidatingWebhookConfiguration {
    until("there is a configuration", async || api.get_opt(CONFIGURATION_NAME).await.unwrap().map(drop).ok_or("none"))
        .await;
    api.get(CONFIGURATION_NAME).await.unwrap()
}

#[tokio::test]
async fn what_the_controller_made_goes_with_its_owner_and_is_not_made_again() {
    if !has_controller_manager() {
        skip!("no kube-controller-manager in KUBEBUILDER_ASSETS");
    }
    let cluster = Cluster::options().controller_manager().start().await;
    cluster.install_crds().await;
    let api: Api<ValidatingWebhookConfiguration> = Api::all(cluster.client().await);
    make_role(&cluster).await;
    let controller = ControllerOptions::new("a").flags(["--owner", ROLE]).start(&cluster).await;
    let made = there(&api).await;
    let owners = made.metadata.owner_references.clone().unwrap();
    assert_eq!((owners.len(), owners[0].kind.as_str(), owners[0].name.as_str()), (1, "ClusterRole", ROLE));

    // in the order of `helm uninstall`: the configuration first, which is put back at once, the role later
    cluster.kubectl(["delete", "validatingwebhookconfiguration", CONFIGURATION_NAME]).await.ok();
    until("it is put back", async || match api.get_opt(CONFIGURATION_NAME).await.unwrap() {
        Some(again) if again.metadata.uid != made.metadata.uid => Ok(()),
        other => Err(other.map(|other| other.metadata.uid)),
    })
    .await;
    cluster.kubectl(["delete", "clusterrole", ROLE]).await.ok();
    until("it is gone", async || api.get_opt(CONFIGURATION_NAME).await.unwrap().map_or(Ok(()), |_| Err("still there")))
        .await;
    logged(&controller, "its owner is gone").await;
    let end = Instant::now() + Duration::from_secs(7);
    while Instant::now() < end {
        assert!(api.get_opt(CONFIGURATION_NAME).await.unwrap().is_none(), "made although nobody owns it");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // installed again, it goes on
    make_role(&cluster).await;
    there(&api).await;
}

#[tokio::test]
async fn a_configuration_of_a_chart_gets_its_authority_and_no_owner() {
    let cluster = Cluster::start().await;
    cluster.install_crds().await;
    make_role(&cluster).await;
    let api: Api<ValidatingWebhookConfiguration> = Api::all(cluster.client().await);
    // as one was made before without an owner, and then taken over
    let first = ControllerOptions::new("a").flags(["--owner", ROLE]).start(&cluster).await;
    let mut chart = there(&api).await;
    drop(first);
    chart.metadata = kube::api::ObjectMeta {
        name: Some(CONFIGURATION_NAME.to_owned()),
        labels: Some([("app.kubernetes.io/managed-by".to_owned(), "Helm".to_owned())].into()),
        ..Default::default()
    };
    chart.webhooks.as_mut().unwrap()[0].client_config.ca_bundle = None;
    cluster.kubectl(["delete", "validatingwebhookconfiguration", CONFIGURATION_NAME]).await.ok();
    api.create(&Default::default(), &chart).await.unwrap();
    let _second = ControllerOptions::new("b").flags(["--owner", ROLE]).start(&cluster).await;
    until("the authority is filled in", async || {
        let found = api.get(CONFIGURATION_NAME).await.unwrap();
        let filled = found.webhooks.as_ref().unwrap()[0].client_config.ca_bundle.is_some();
        assert_eq!(found.metadata.owner_references, None, "the chart's own is the chart's");
        assert_eq!(found.metadata.labels, chart.metadata.labels);
        if filled { Ok(()) } else { Err("not yet") }
    })
    .await;
}
