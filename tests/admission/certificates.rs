//! The certificate in its Secret, with a real API server that calls the webhook under it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, DynamicObject, ObjectMeta, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use sekuire_policy::admission::certificates::make;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::client::{Connection, blind};
use super::replica::{Replica, SECRET, configuration, names, until};
use super::world;
use crate::cluster::Cluster;

fn agents(client: &Client, namespace: &str) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("sekuire.ai", "v1alpha1", "Agent"));
    Api::namespaced_with(client.clone(), namespace, &resource)
}

fn agent(spec: &Value) -> DynamicObject {
    serde_json::from_value(json!({
        "apiVersion": "sekuire.ai/v1alpha1",
        "kind": "Agent",
        "metadata": {"generateName": "agent-"},
        "spec": spec
    }))
    .unwrap()
}

/// What the API server says to an agent: nothing, or why it is refused.
async fn verdict(api: &Api<DynamicObject>, spec: &Value) -> Result<(), String> {
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    match api.create(&dry_run, &agent(spec)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) => Err(status.message.clone()),
        Err(error) => panic!("{error}"),
    }
}

fn non_compliant() -> Value {
    let mut spec = world::compliant();
    spec["tools"][0]["name"] = json!("shell_exec");
    spec
}

fn pem(text: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(text.as_bytes()).unwrap()
}

/// Waits until the API server asks the webhook. Before it has heard of any, it admits everything.
async fn asked(api: &Api<DynamicObject>) {
    until("the API server asks the webhook", async || {
        let refused = verdict(api, &non_compliant()).await.is_err_and(|why| why.contains("[tool.blocked]"));
        (refused && verdict(api, &world::compliant()).await.is_ok()).then_some(())
    })
    .await;
}

/// The certificate that a replica shows.
async fn served(replica: &Replica) -> CertificateDer<'static> {
    let connection = Connection::open(replica.address, "127.0.0.1", blind()).await.unwrap();
    connection.certificate().clone()
}

/// Agents that comply and that do not, one after another, each verdict checked.
struct Load {
    done: Arc<AtomicBool>,
    count: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Load {
    /// Begins once the API server asks the webhook.
    async fn start(api: Api<DynamicObject>) -> Load {
        asked(&api).await;
        let (done, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (over, counted) = (done.clone(), count.clone());
        let task = tokio::spawn(async move {
            while !over.load(Ordering::SeqCst) {
                assert_eq!(verdict(&api, &world::compliant()).await, Ok(()));
                let why = verdict(&api, &non_compliant()).await.unwrap_err();
                assert!(why.contains("[tool.blocked]"), "{why}");
                counted.fetch_add(2, Ordering::SeqCst);
            }
        });
        Load { done, count, task }
    }

    /// Ends after a few more.
    async fn end(self) {
        let before = self.count.load(Ordering::SeqCst);
        let more = || self.task.is_finished() || self.count.load(Ordering::SeqCst) > before + 4;
        until("more requests", async || more().then_some(())).await;
        self.done.store(true, Ordering::SeqCst);
        self.task.await.unwrap();
    }
}

fn text(secret: &Secret, key: &str) -> String {
    let value = secret.data.as_ref().and_then(|data| data.get(key));
    value.map(|value| String::from_utf8(value.0.clone()).unwrap()).unwrap_or_default()
}

#[tokio::test]
async fn replicas_that_start_together_make_one_certificate_and_the_api_server_takes_it() {
    let cluster = Cluster::start().await;
    cluster.install_crds().await;
    let client = cluster.client().await;
    let namespace = cluster.namespace("controller").await;
    let team = cluster.namespace("team").await;
    let index = world::index(1);
    index.bindings.set(&team, Some("ws_0"));
    let mut replicas = Vec::new();
    for _ in 0..3 {
        replicas.push(Replica::new(cluster.client().await).await);
    }
    for replica in &mut replicas {
        replica.keep_certificate(&namespace);
        replica.serve(index.clone());
    }
    let mut bundles = Vec::new();
    for replica in &replicas {
        bundles.push(replica.certificates.bundle().wait_for(Option::is_some).await.unwrap().clone());
    }
    assert!(bundles.iter().all(|bundle| *bundle == bundles[0]));
    let secret: Secret = Api::namespaced(client.clone(), &namespace).get(SECRET).await.unwrap();
    assert_eq!(secret.type_.as_deref(), Some("kubernetes.io/tls"));
    assert_eq!(Some(text(&secret, "ca.crt").as_str()), bundles[0].as_deref());

    // each of them is one that the API server can be sent to
    let api = agents(&client, &team);
    for replica in &replicas {
        replica.register(replica.address);
        replica.leader.send_replace(true);
        let url = Some(format!("https://{}/validate", replica.address));
        configuration(&client, |seen| seen.webhooks.iter().flatten().any(|webhook| webhook.client_config.url == url))
            .await;
        asked(&api).await;
        let why = verdict(&api, &non_compliant()).await.unwrap_err();
        assert!(why.starts_with("admission webhook \"agents.sekuire.ai\" denied the request: Agent"), "{why}");
        assert!(why.contains("policy_ws_0 version 3") && why.contains("[tool.blocked]"), "{why}");
        replica.leader.send_replace(false);
    }
}

#[tokio::test]
async fn a_certificate_that_is_due_is_changed_without_losing_a_request() {
    let cluster = Cluster::start().await;
    cluster.install_crds().await;
    let client = cluster.client().await;
    let namespace = cluster.namespace("controller").await;
    let team = cluster.namespace("team").await;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    // past two thirds of its life
    let made = Timestamp::now() - SignedDuration::from_hours(70 * 24);
    let old = make(&names(), made).unwrap();
    let data = [("tls.crt", &old.certificate), ("tls.key", &old.key), ("ca.crt", &old.authority)];
    let data = data.map(|(key, value)| (key.to_owned(), ByteString(value.clone().into_bytes())));
    let secret = Secret {
        metadata: ObjectMeta { name: Some(SECRET.to_owned()), ..ObjectMeta::default() },
        data: Some(BTreeMap::from(data)),
        type_: Some("kubernetes.io/tls".to_owned()),
        ..Secret::default()
    };
    secrets.create(&PostParams::default(), &secret).await.unwrap();

    let index = world::index(1);
    index.bindings.set(&team, Some("ws_0"));
    let mut replica = Replica::new(client.clone()).await;
    // a second replica keeps the same Secret: of the two, each step is made by one
    let other = Replica::new(cluster.client().await).await;
    replica.serve(index);
    replica.register(replica.address);
    other.register(replica.address);
    replica.leader.send_replace(true);
    replica.keep_certificate(&namespace);
    other.keep_certificate(&namespace);

    let load = Load::start(agents(&client, &team)).await;
    let promoted = until("the next certificate takes over", async || {
        let secret = secrets.get(SECRET).await.unwrap();
        let promoted = text(&secret, "tls.crt") != old.certificate && text(&secret, "next.tls.crt").is_empty();
        promoted.then_some(secret)
    })
    .await;
    assert_eq!(text(&promoted, "ca.crt").matches("BEGIN CERTIFICATE").count(), 2, "both authorities are published");
    let certificate = text(&promoted, "tls.crt");
    until("the replica serves it", async || (served(&replica).await == pem(&certificate)).then_some(())).await;
    load.end().await;
}

#[tokio::test]
async fn a_secret_that_is_deleted_or_spoilt_is_made_again_without_losing_a_request() {
    let cluster = Cluster::start().await;
    cluster.install_crds().await;
    let client = cluster.client().await;
    let namespace = cluster.namespace("controller").await;
    let team = cluster.namespace("team").await;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    let index = world::index(1);
    index.bindings.set(&team, Some("ws_0"));
    let mut replica = Replica::new(client.clone()).await;
    replica.serve(index);
    replica.register(replica.address);
    replica.leader.send_replace(true);
    replica.keep_certificate(&namespace);
    let load = Load::start(agents(&client, &team)).await;

    let first = secrets.get(SECRET).await.unwrap();
    secrets.delete(SECRET, &DeleteParams::default()).await.unwrap();
    let second = until("the Secret is made again", async || secrets.get_opt(SECRET).await.unwrap()).await;
    assert_ne!(text(&first, "tls.crt"), text(&second, "tls.crt"));

    let key = text(&first, "tls.key");
    let spoil = json!({"stringData": {"tls.key": key}});
    secrets.patch(SECRET, &PatchParams::default(), &Patch::Merge(&spoil)).await.unwrap();
    until("the Secret is mended", async || {
        let secret = secrets.get(SECRET).await.unwrap();
        (text(&secret, "tls.key") != key).then_some(())
    })
    .await;
    until("the replica serves what is in it", async || {
        let certificate = text(&secrets.get(SECRET).await.unwrap(), "tls.crt");
        (served(&replica).await == pem(&certificate)).then_some(())
    })
    .await;
    load.end().await;
}
