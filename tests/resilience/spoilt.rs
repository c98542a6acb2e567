//! Objects of others' kinds of which one field is spoilt, each field in each way that the API server takes: seen each time,
//! put back or not needed, and never a way to have something else overlooked.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::{Api, Client, Resource, api::PostParams};
use serde_json::{Value, json, value::RawValue};
use tokio::task::JoinHandle;

use super::schema::{Spoilt, spoilt};
use super::support::{DENIED, Site, agent, dry_run, until};
use super::tampering::{NAME, WORKSPACE};
use crate::cluster::controller::NAMESPACE;
use crate::cluster::{Cluster, Controller, ControllerOptions};

/// The name of webhook configuration and Lease.
const OURS: &str = "sekuire-policy-controller";
const CERTIFICATE: &str = "sekuire-webhook-certificate";
/// Within which a configuration is put back.
const SOON: Duration = Duration::from_secs(2);
/// By which the API server itself may be later: it reads configurations from a watch of its own.
const HEARS: Duration = Duration::from_secs(2);
/// Cases that have to be left of those that were made, so that no test passes for want of any.
const ENOUGH: usize = 20;

/// A site on which a policy that denies a tool is enforced.
async fn site(options: ControllerOptions) -> (Site, Controller, String) {
    let site = Site::new(Cluster::options()).await;
    site.commit([&site.document(WORKSPACE, "1", &[DENIED])]).await;
    let namespace = site.namespace(WORKSPACE).await;
    let controller = options.metrics().start(&site.cluster).await;
    site.enforced(NAME, "1").await;
    until("agents are judged", async || judged(&site, &namespace).await).await;
    (site, controller, namespace)
}

/// Whether the agent with the denied tool is refused for it, and the other one admitted.
async fn judged(site: &Site, namespace: &str) -> Result<(), String> {
    let create = async |tool| site.agents(namespace).create(&dry_run(), &agent(namespace, "probe", &[tool])).await;
    let refused = create(DENIED).await.map_or_else(|error| error.to_string(), |_| "admitted".to_owned());
    create("search").await.map_err(|error| error.to_string())?;
    if refused.contains("tool.blocked") { Ok(()) } else { Err(refused) }
}

fn path<K: Resource<DynamicType = ()>>(namespace: Option<&str>, name: &str) -> String {
    format!("{}/{name}", K::url_path(&(), namespace))
}

/// An object as it stands there, whatever can be read of it: what is too deep is its text.
pub(super) async fn raw(client: &Client, path: &str) -> Value {
    let text = client.request_text(http::Request::get(path).body(Vec::new()).unwrap()).await.unwrap();
    members(&text, 1)
}

/// The members of an object, each by itself, and theirs, down to a depth.
fn members(text: &str, depth: usize) -> Value {
    if let Ok(value) = serde_json::from_str(text) {
        return value;
    }
    let members_of: Result<BTreeMap<String, Box<RawValue>>, _> = serde_json::from_str(text);
    match members_of.ok().filter(|_| depth < 4) {
        Some(all) => all.into_iter().map(|(name, value)| (name, members(value.get(), depth + 1))).collect(),
        None => Value::String(text.to_owned()),
    }
}

/// Writes the members of an object over those that are there, by a patch, as whoever may do no more than that. False: the API
/// server does not take it, or sees no change in it.
pub(super) async fn write(client: &Client, path: &str, object: &Value) -> bool {
    let before = raw(client, path).await;
    if !object.is_object() {
        return false;
    }
    let members =
        object.as_object().into_iter().flatten().filter(|(name, _)| !["apiVersion", "kind"].contains(&name.as_str()));
    let mut patch: Vec<Value> =
        members.map(|(name, value)| json!({"op": "add", "path": format!("/{name}"), "value": value})).collect();
    // those of before would be refused as old
    if object["metadata"].is_object() {
        for name in ["resourceVersion", "uid"] {
            let value = &before["metadata"][name];
            patch.push(json!({"op": "add", "path": format!("/metadata/{name}"), "value": value}));
        }
    }
    let body = serde_json::to_vec(&patch).unwrap();
    let request = http::Request::patch(path).header("content-type", "application/json-patch+json").body(body).unwrap();
    let Ok(answer) = client.request_text(request).await else { return false };
    self::members(&answer, 1)["metadata"]["resourceVersion"] != before["metadata"]["resourceVersion"]
}

/// What of a configuration decides whether agents are asked about, and for how long it stays.
fn effective(configuration: &Value) -> [Value; 3] {
    let metadata = &configuration["metadata"];
    [
        configuration["webhooks"].clone(),
        metadata["ownerReferences"].clone(),
        metadata["annotations"]["sekuire.ai/namespace"].clone(),
    ]
}

/// The same configuration with enforcement turned off.
fn off(configuration: &Value) -> Value {
    let mut off = configuration.clone();
    off["webhooks"][0]["failurePolicy"] = json!("Ignore");
    off["webhooks"][0]["rules"] = json!([]);
    off
}

/// The configuration, and all that can be spoilt in it while enforcement is turned off.
async fn attacks(site: &Site) -> (String, Value, Vec<Spoilt>) {
    let path = path::<ValidatingWebhookConfiguration>(None, OURS);
    let right = raw(&site.client, &path).await;
    let document = "/openapi/v3/apis/admissionregistration.k8s.io/v1";
    let all = spoilt(&site.client, document, &off(&right)).await;
    (path, right, all)
}

async fn registered(controller: &Controller) -> Option<f64> {
    gauge(controller, "sekuire_webhook_registered").await
}

async fn gauge(controller: &Controller, name: &str) -> Option<f64> {
    let scraped = crate::observe::support::scrape(controller).await;
    crate::observe::support::series(&scraped).get(name).copied()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_else_is_spoilt_in_the_webhook_configuration_enforcement_is_put_back_within_two_seconds_with_an_event()
{
    let (site, controller, namespace) = site(ControllerOptions::new("a")).await;
    let (path, right, all) = attacks(&site).await;
    let (mut events, mut taken, made) = (site.events(OURS, "WebhookRestored").await, Vec::new(), all.len());
    for Spoilt { what, object } in all {
        // a busy machine may be late once; what is overlooked is late each time
        for last in [false, false, true] {
            let start = Instant::now();
            if !write(&site.client, &path, &object).await {
                assert_eq!(effective(&raw(&site.client, &path).await), effective(&right), "{what}");
                break;
            }
            until(&format!("put back after {what}"), async || {
                let now = effective(&raw(&site.client, &path).await);
                if now == effective(&right) { Ok(()) } else { Err(now) }
            })
            .await;
            let back = start.elapsed();
            until(&format!("refused after {what}"), async || judged(&site, &namespace).await).await;
            let refused = start.elapsed();
            // one for each: a late one of a case before would be one too many here
            until(&format!("an Event of {what}"), async || match site.events(OURS, "WebhookRestored").await {
                now if now == events + 1 => Ok(()),
                now => Err((events, now)),
            })
            .await;
            events += 1;
            let in_time = back < SOON && refused < SOON + HEARS;
            assert!(in_time || !last, "{what}: put back only after {back:?}, and refused after {refused:?}");
            if in_time {
                taken.push(what);
                break;
            }
        }
    }
    println!("{} of {made} were taken and put back: {taken:?}", taken.len());
    assert!(taken.len() > ENOUGH, "of {made} only {taken:?}");
    assert!(taken.iter().any(|what| what.contains("managedFields[0].time is 9999")), "{taken:?}");
    until("it counts as registered", async || match registered(&controller).await {
        Some(1.0) => Ok(()),
        other => Err(other),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_nobody_can_put_it_back_a_spoilt_webhook_configuration_is_no_moment_longer_called_registered() {
    let (site, controller, _) = site(ControllerOptions::new("a")).await;
    let held = Held::take(&site).await;
    until("nobody of ours leads", async || match gauge(&controller, "sekuire_leader").await {
        Some(0.0) => Ok(()),
        other => Err(other),
    })
    .await;
    let (path, right, all) = attacks(&site).await;
    let mut taken = Vec::new();
    for Spoilt { what, object } in all {
        if !write(&site.client, &path, &object).await {
            continue;
        }
        let is = async |expected: f64| {
            let start = Instant::now();
            until(&format!("registered is {expected} after {what}"), async || match registered(&controller).await {
                Some(now) if now.to_bits() == expected.to_bits() => Ok(()),
                other => Err(other),
            })
            .await;
            assert!(start.elapsed() < SOON + HEARS, "{what}: {expected} only after {:?}", start.elapsed());
        };
        is(0.0).await;
        assert!(write(&site.client, &path, &right).await, "the right one is written again after {what}");
        is(1.0).await;
        taken.push(what);
    }
    assert!(taken.len() > ENOUGH, "{taken:?}");
    held.0.abort();
}

/// The Lease, kept by somebody else.
struct Held(JoinHandle<()>);

impl Held {
    async fn take(site: &Site) -> Held {
        let (client, path) = (site.client.clone(), path::<Lease>(Some(NAMESPACE), OURS));
        let keep = async move {
            for number in 0_u32.. {
                let mut lease = raw(&client, &path).await;
                lease["spec"]["holderIdentity"] = json!("somebody");
                lease["spec"]["leaseTransitions"] = json!(number);
                write(&client, &path, &lease).await;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        Held(tokio::spawn(keep))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_spoilt_in_the_lease_it_is_seen_and_written_again_and_whoever_leads_goes_on() {
    let (site, controller, _) = site(ControllerOptions::new("a")).await;
    let path = path::<Lease>(Some(NAMESPACE), OURS);
    let right = raw(&site.client, &path).await;
    let all = spoilt(&site.client, "/openapi/v3/apis/coordination.k8s.io/v1", &right).await;
    let said = || controller.log().matches("somebody else changed or deleted the Lease").count();
    let mut taken = Vec::new();
    for Spoilt { what, object } in all {
        // who holds it is not spoilt but taken: that is another test
        if what.starts_with(".spec is ") || what.starts_with(".spec.holderIdentity") {
            continue;
        }
        let before = said();
        if !write(&site.client, &path, &object).await {
            continue;
        }
        until(&format!("seen: {what}"), async || if said() > before { Ok(()) } else { Err("not said") }).await;
        let start = Instant::now();
        until(&format!("put right: {what}"), async || {
            let lease = raw(&site.client, &path).await;
            let (spec, was) = (&lease["spec"], &object["spec"]);
            let lasts = spec["leaseDurationSeconds"] == json!(15) && spec["holderIdentity"] == json!("a");
            let ours = spec.as_object().unwrap().len() == 5 && spec["renewTime"] != was["renewTime"];
            if lasts && ours { Ok(()) } else { Err(lease) }
        })
        .await;
        assert!(start.elapsed() < SOON + HEARS, "{what}: only after {:?}", start.elapsed());
        assert_eq!(gauge(&controller, "sekuire_leader").await, Some(1.0), "{what}");
        taken.push(what);
    }
    println!("{}: {taken:?}", taken.len());
    assert!(taken.len() > ENOUGH, "{taken:?}");
    assert!(taken.iter().any(|what| what.contains("renewTime is 9999")), "{taken:?}");
    assert!(!controller.log().contains("no longer leading"), "{}", controller.log());
    site.commit([&site.document(WORKSPACE, "2", &[DENIED])]).await;
    site.enforced(NAME, "2").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_takes_over_a_lease_that_nobody_keeps_whatever_is_spoilt_in_it() {
    let site = Site::new(Cluster::options()).await;
    let path = path::<Lease>(Some(NAMESPACE), OURS);
    let mut first = ControllerOptions::new("a").start(&site.cluster).await;
    site.led_by("a").await;
    first.kill();
    let spec = json!({"holderIdentity": "dead", "leaseDurationSeconds": 2_000_000_000, "leaseTransitions": i32::MAX,
        "acquireTime": "9999-12-31T23:59:59.000000Z", "renewTime": "9999-12-31T23:59:59.000000Z"});
    let lease = json!({"metadata": {"name": OURS, "namespace": NAMESPACE,
        "managedFields": [{"manager": "x", "operation": "Update", "apiVersion": "coordination.k8s.io/v1",
            "time": "9999-12-31T23:59:59Z", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {}}}]}, "spec": spec});
    assert!(write(&site.client, &path, &lease).await);
    let b = ControllerOptions::new("b").start(&site.cluster).await;
    site.led_by("b").await;
    site.commit([&site.document(WORKSPACE, "1", &[DENIED])]).await;
    site.enforced(NAME, "1").await;
    drop(b);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_spoilt_in_the_secret_agents_are_judged_and_it_is_made_again_or_said_what_is_wrong() {
    let (site, controller, namespace) = site(ControllerOptions::new("a")).await;
    let path = path::<Secret>(Some(NAMESPACE), CERTIFICATE);
    let right = raw(&site.client, &path).await;
    let all = spoilt(&site.client, "/openapi/v3/api/v1", &right).await;
    let said = || controller.log().matches("webhook certificate cannot stay as it is").count();
    let (secrets, mut taken, mut harmed): (Api<Secret>, _, _) =
        (Api::namespaced(site.client.clone(), NAMESPACE), Vec::new(), 0);
    for Spoilt { what, object } in all {
        let before = said();
        if !write(&site.client, &path, &object).await {
            continue;
        }
        taken.push(what.clone());
        let now = raw(&site.client, &path).await;
        if now["data"] == right["data"] && now["immutable"] != json!(true) {
            judged(&site, &namespace).await.unwrap_or_else(|why| panic!("{what}: {why}"));
            continue;
        }
        // what is served stays, whatever becomes of the Secret
        let serves = ["tls.crt", "tls.key", "ca.crt"].iter().all(|key| now["data"][*key] == right["data"][*key]);
        if now["immutable"] == json!(true) || !serves {
            harmed += 1;
            until(&format!("said or made again: {what}"), async || {
                let again = raw(&site.client, &path).await["data"] != now["data"];
                if again || said() > before { Ok(()) } else { Err("neither") }
            })
            .await;
        }
        until(&format!("judged after {what}"), async || judged(&site, &namespace).await).await;
        // as it was, for the next case: an immutable one has to go for that
        secrets.delete(CERTIFICATE, &kube::api::DeleteParams::default()).await.unwrap();
        let mut again: Secret = serde_json::from_value(right.clone()).unwrap();
        again.metadata = kube::api::ObjectMeta { name: Some(CERTIFICATE.to_owned()), ..Default::default() };
        match secrets.create(&PostParams::default(), &again).await {
            Ok(_) => {}
            // the controller was first
            Err(kube::Error::Api(status)) if status.code == 409 => {
                until("written again", async || {
                    if write(&site.client, &path, &json!({"data": right["data"]})).await
                        || raw(&site.client, &path).await["data"] == right["data"]
                    {
                        Ok(())
                    } else {
                        Err("refused")
                    }
                })
                .await;
            }
            Err(error) => panic!("{what}: {error}"),
        }
        until(&format!("judged again after {what}"), async || judged(&site, &namespace).await).await;
    }
    println!("{} taken, {harmed} of them of what is needed: {taken:?}", taken.len());
    assert!(taken.len() > ENOUGH && harmed >= 6, "{harmed}: {taken:?}");
    // and left alone it is whole again, within the minute between two replacements
    assert!(write(&site.client, &path, &json!({"data": {"tls.crt": "AA==", "tls.key": "AA=="}})).await);
    until("the certificate is made again", async || {
        let data = raw(&site.client, &path).await["data"].clone();
        if data["tls.crt"] != "AA==" && data["tls.key"] != "AA==" { Ok(()) } else { Err(data) }
    })
    .await;
    until("judged at the end", async || judged(&site, &namespace).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_spoilt_in_the_role_that_owns_it_a_deleted_configuration_comes_back_owned() {
    const ROLE: &str = "owner-of-the-webhook";
    let site = Site::new(Cluster::options()).await;
    let roles: Api<ClusterRole> = Api::all(site.client.clone());
    let role: ClusterRole = serde_json::from_value(json!({"metadata": {"name": ROLE, "labels": {"a": "b"}}, "rules": [
        {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get"]}]}))
    .unwrap();
    let uid = roles.create(&PostParams::default(), &role).await.unwrap().metadata.uid.unwrap();
    let owner = format!("--owner={ROLE}");
    let controller = ControllerOptions::new("a").flags([owner.as_str()]).metrics().start(&site.cluster).await;
    let (path, configuration) = (path::<ClusterRole>(None, ROLE), path::<ValidatingWebhookConfiguration>(None, OURS));
    until("the webhook is registered", async || match registered(&controller).await {
        Some(1.0) => Ok(()),
        other => Err(other),
    })
    .await;
    let right = raw(&site.client, &path).await;
    let all = spoilt(&site.client, "/openapi/v3/apis/rbac.authorization.k8s.io/v1", &right).await;
    let (mut taken, mut events) = (Vec::new(), site.events(OURS, "WebhookRestored").await);
    for Spoilt { what, object } in all {
        if !write(&site.client, &path, &object).await {
            continue;
        }
        site.cluster.kubectl(["delete", "validatingwebhookconfiguration", OURS]).await.ok();
        let start = Instant::now();
        until(&format!("back after {what}"), async || {
            let request = http::Request::get(&configuration).body(Vec::new()).unwrap();
            let found = site.client.request_text(request).await.map_err(|error| error.to_string())?;
            let found: Value = serde_json::from_str(&found).unwrap();
            if found["metadata"]["ownerReferences"][0]["uid"] == json!(uid) { Ok(()) } else { Err(found.to_string()) }
        })
        .await;
        assert!(start.elapsed() < SOON + HEARS, "{what}: only after {:?}", start.elapsed());
        until(&format!("an Event of {what}"), async || match site.events(OURS, "WebhookRestored").await {
            now if now == events + 1 => Ok(()),
            now => Err((events, now)),
        })
        .await;
        events += 1;
        taken.push(what);
    }
    println!("{}: {taken:?}", taken.len());
    assert!(taken.len() > ENOUGH, "{taken:?}");
}
