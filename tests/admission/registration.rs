//! The webhook configuration on a real API server: made, filled in, put back, and not written for nothing.

use k8s_openapi::api::admissionregistration::v1::{ValidatingWebhook, ValidatingWebhookConfiguration};
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use sekuire_policy::admission::registration::{CONFIGURATION_NAME, WEBHOOK_NAME};
use serde_json::{Value, json};

use super::replica::{Replica, configuration, until};
use crate::cluster::Cluster;

fn webhook(configuration: &ValidatingWebhookConfiguration) -> &ValidatingWebhook {
    let [webhook] = configuration.webhooks.as_deref().unwrap() else { panic!("{configuration:?}") };
    webhook
}

fn has_bundle(configuration: &ValidatingWebhookConfiguration) -> bool {
    configuration.webhooks.iter().flatten().any(|webhook| webhook.client_config.ca_bundle.is_some())
}

/// How often an Event of this reason was seen, with this in its note.
async fn events(client: &Client, reason: &str, note: &str) -> bool {
    let api: Api<Event> = Api::namespaced(client.clone(), "default");
    let events = api.list(&kube::api::ListParams::default()).await.unwrap();
    events.iter().any(|event| {
        let about = event.regarding.as_ref().is_some_and(|object| {
            object.kind.as_deref() == Some("ValidatingWebhookConfiguration")
                && object.name.as_deref() == Some(CONFIGURATION_NAME)
        });
        about
            && event.reason.as_deref() == Some(reason)
            && event.note.as_deref().is_some_and(|text| text.contains(note))
    })
}

#[tokio::test]
async fn the_leader_registers_the_webhook_and_puts_it_back_when_it_is_changed_or_deleted_with_an_event_that_says_what()
{
    let cluster = Cluster::start().await;
    let client = cluster.client().await;
    let api: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
    let namespace = cluster.namespace("controller").await;
    let replica = Replica::new(client.clone()).await;
    replica.keep_certificate(&namespace);
    replica.register(replica.address);
    // nobody leads: nothing is written, the certificate is made all the same
    replica.certificates.bundle().wait_for(Option::is_some).await.unwrap();
    assert_eq!(api.get_opt(CONFIGURATION_NAME).await.unwrap(), None);

    replica.leader.send_replace(true);
    let right = configuration(&client, has_bundle).await;
    let ours = webhook(&right);
    assert_eq!(ours.name, WEBHOOK_NAME);
    assert_eq!(ours.failure_policy.as_deref(), Some("Fail"));
    assert_eq!(ours.client_config.url, Some(format!("https://{}/validate", replica.address)));
    until("an Event of the registration", async || events(&client, "WebhookRegistered", "").await.then_some(())).await;

    let tamper: [(&str, Value); 6] = [
        ("failurePolicy", json!([{"op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Ignore"}])),
        ("matchConditions", json!([{"op": "remove", "path": "/webhooks/0/matchConditions"}])),
        ("rules", json!([{"op": "replace", "path": "/webhooks/0/rules/0/operations", "value": ["CREATE"]}])),
        ("caBundle", json!([{"op": "remove", "path": "/webhooks/0/clientConfig/caBundle"}])),
        (
            "namespaceSelector",
            json!([{"op": "add", "path": "/webhooks/0/namespaceSelector/matchLabels", "value": {"a": "b"}}]),
        ),
        ("the webhook was gone", json!([{"op": "remove", "path": "/webhooks/0"}])),
    ];
    for (what, patch) in tamper {
        let patch = patch.to_string();
        let kind = "validatingwebhookconfigurations";
        cluster.kubectl(["patch", kind, CONFIGURATION_NAME, "--type=json", "-p", &patch]).await.ok();
        configuration(&client, |seen| seen.webhooks == right.webhooks).await;
        until(what, async || events(&client, "WebhookRestored", what).await.then_some(())).await;
    }

    api.delete(CONFIGURATION_NAME, &DeleteParams::default()).await.unwrap();
    let again = configuration(&client, |seen| seen.webhooks == right.webhooks).await;
    assert_ne!(again.metadata.uid, right.metadata.uid);
    until("an Event of the deletion", async || events(&client, "WebhookRestored", "deleted").await.then_some(())).await;
}

#[tokio::test]
async fn a_charts_configuration_is_filled_in_and_then_left_alone_by_every_leader() {
    let cluster = Cluster::start().await;
    let client = cluster.client().await;
    let api: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
    let namespace = cluster.namespace("controller").await;
    let (one, two) = (Replica::new(client.clone()).await, Replica::new(client.clone()).await);
    let chart: ValidatingWebhookConfiguration = serde_json::from_value(json!({
        "metadata": {"name": CONFIGURATION_NAME, "labels": {"app.kubernetes.io/managed-by": "Helm"}},
        "webhooks": [{
            "name": WEBHOOK_NAME,
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "clientConfig": {"url": format!("https://{}/validate", one.address)}
        }]
    }))
    .unwrap();
    api.create(&PostParams::default(), &chart).await.unwrap();
    one.leader.send_replace(true);
    for replica in [&one, &two] {
        replica.keep_certificate(&namespace);
        replica.register(one.address);
    }
    let filled = configuration(&client, |seen| has_bundle(seen) && webhook(seen).rules.is_some()).await;
    assert_eq!(filled.metadata.labels, chart.metadata.labels, "what is not ours stays");
    // the other leads: it finds nothing to do, which shows in the version once it has put back something else
    one.leader.send_replace(false);
    two.leader.send_replace(true);
    let patch = json!({"webhooks": [{"name": WEBHOOK_NAME, "timeoutSeconds": 3}]});
    let merge = PatchParams { field_manager: Some("somebody".to_owned()), ..PatchParams::default() };
    let before = api.get(CONFIGURATION_NAME).await.unwrap();
    assert_eq!(before.metadata.resource_version, filled.metadata.resource_version);
    api.patch(CONFIGURATION_NAME, &merge, &Patch::Strategic(&patch)).await.unwrap();
    let restored = configuration(&client, |seen| webhook(seen).timeout_seconds == Some(10)).await;
    assert_eq!(restored.webhooks, filled.webhooks);
    assert_eq!(restored.metadata.generation, filled.metadata.generation.map(|generation| generation + 2));
}
