//! The read API of the real controller.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::StatusCode;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use kube::Api;
use rustls::ClientConfig;
use sekuire_policy::admission::registration::CONFIGURATION_NAME;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::tenant::{FLOOD, Tenant, eventually};
use crate::admission::client::{Connection, Reply, handshake, trusting};
use crate::cluster::command::{Ran, run};
use crate::cluster::controller::sekuire;
use crate::cluster::{Controller, ControllerOptions};

/// The authorities of the controllers' certificates, as the API server is told them.
pub(crate) async fn authorities(team: &Tenant) -> String {
    let api: Api<ValidatingWebhookConfiguration> = Api::all(team.client.clone());
    let configuration = api.get(CONFIGURATION_NAME).await.unwrap();
    let bundle = configuration.webhooks.unwrap()[0].client_config.ca_bundle.clone().unwrap();
    String::from_utf8(bundle.0).unwrap()
}

fn address(url: &str) -> SocketAddr {
    url.strip_prefix("https://").unwrap().parse().unwrap()
}

/// A connection to `url`, believed by what the API server believes.
pub(crate) async fn connect(team: &Tenant, url: &str) -> Connection {
    Connection::open(address(url), "127.0.0.1", trusting(&authorities(team).await, "http/1.1")).await.unwrap()
}

pub(crate) async fn read(team: &Tenant, controller: &Controller, workspace: &str) -> Reply {
    let path = format!("/api/v1/workspaces/{workspace}/policy/active");
    connect(team, &controller.api_url()).await.get(&path).await.unwrap()
}

/// What `sekuire policy validate` says of a document, by the team's key.
async fn validate(team: &Tenant, document: &[u8]) -> Ran {
    let folder = tempfile::tempdir().unwrap();
    let (file, key) = (folder.path().join("policy.json"), folder.path().join("key.yaml"));
    std::fs::write(&file, document).unwrap();
    std::fs::write(&key, team.signer.manifest("key", &["*"]).to_string()).unwrap();
    let mut command = Command::new(sekuire());
    command.args(["policy", "validate", "--file"]).arg(&file).arg("--trust").arg(&key);
    run(command, &[]).await
}

#[tokio::test]
async fn what_is_enforced_is_served_as_it_was_signed_with_its_key() {
    let team = Tenant::new().await;
    let document = team.active("a", "1", "shell_exec");
    team.commit(&[("a.json", &document)]).await;
    team.watch_repository(json!({})).await;
    team.enforced("a", "1").await;
    let reply = read(&team, team.controller, &team.workspace("a")).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    assert_eq!(reply.headers["content-type"], "application/json");
    let mut expected: Value = serde_json::from_str(&document).unwrap();
    expected["signing_public_key"] = team.signer.public_hex().into();
    assert_eq!(reply.json(), expected);
    validate(&team, &reply.body).await.ok();
    team.commit(&[("a.json", &team.active("a", "2", "calculator"))]).await;
    team.enforced("a", "2").await;
    let reply = read(&team, team.controller, &team.workspace("a")).await;
    assert_eq!(reply.json()["version"], "2");
}

#[tokio::test]
async fn drafts_archived_policies_and_unknown_workspaces_are_not_served() {
    let team = Tenant::with_files(async |team: &Tenant| {
        let (draft, active) = (team.document("draft", "1", "draft", "x"), team.active("gone", "1", "x"));
        team.commit(&[("draft.json", &draft), ("gone.json", &active)]).await;
    })
    .await;
    team.enforced("gone", "1").await;
    assert_eq!(read(&team, team.controller, &team.workspace("gone")).await.status, StatusCode::OK);
    team.commit(&[("gone.json", &team.document("gone", "2", "archived", "x"))]).await;
    team.condition("gone", "Enforced", "False", "Archived").await;
    for suffix in ["gone", "draft", "unknown"] {
        let workspace = team.workspace(suffix);
        let reply = read(&team, team.controller, &workspace).await;
        let expected =
            format!("the workspace {workspace} has no policy in force; the status of its WorkspacePolicy says why");
        assert_eq!((reply.status, &reply.json()), (StatusCode::NOT_FOUND, &json!({"message": expected})));
    }
}

#[tokio::test]
async fn a_policy_whose_key_is_revoked_is_at_once_no_longer_served() {
    let team = Tenant::with_files(async |team: &Tenant| {
        team.commit(&[("a.json", &team.active("a", "1", "x"))]).await;
    })
    .await;
    team.enforced("a", "1").await;
    let mut key = team.signer.manifest(&team.name, &[&format!("{}_*", team.name)]);
    key["spec"]["revoked"] = json!({"reason": "alice lost her laptop"});
    team.quiet().await;
    let start = Instant::now();
    team.apply(&key).await;
    let reply = eventually("404", async || {
        let reply = read(&team, team.controller, &team.workspace("a")).await;
        if reply.status == StatusCode::NOT_FOUND { Ok(reply) } else { Err(reply.text()) }
    })
    .await;
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert!(!reply.text().contains("laptop"), "{}", reply.text());
}

#[tokio::test]
async fn a_replica_that_does_not_lead_serves_too_and_a_flood_of_readers_does_not_reach_admission() {
    let _alone = FLOOD.lock().await;
    let team = Tenant::with_files(async |team: &Tenant| {
        let tools: Vec<String> = (0..2000).map(|n| format!("tool_{n}_{}", "x".repeat(100))).collect();
        let rules = json!({"agent": {"capabilities": {"denied_tools": tools}}});
        team.commit(&[("a.json", &team.signer.active(&team.workspace("a"), "1", rules))]).await;
    })
    .await;
    team.enforced("a", "1").await;
    let mut follower = ControllerOptions::new("follower").api().start(team.cluster).await;
    let reply = read(&team, &follower, &team.workspace("a")).await;
    assert_eq!((reply.status, &reply.json()["version"]), (StatusCode::OK, &json!("1")));

    // more than it takes at a time; none of them ever reads
    let trust = trusting(&authorities(&team).await, "http/1.1");
    let request = format!("GET /api/v1/workspaces/{}/policy/active HTTP/1.1\r\nhost: api\r\n\r\n", team.workspace("a"));
    let (api, asking) = (address(&follower.api_url()), Arc::new(AtomicUsize::new(0)));
    let flood = (0..300).map(|_| flood(api, trust.clone(), request.clone(), asking.clone()));
    let flood: Vec<_> = flood.map(tokio::spawn).collect();
    eventually("all places of the read API are taken", async || {
        let asking = asking.load(Ordering::SeqCst);
        if asking >= 250 { Ok(()) } else { Err(format!("{asking} ask")) }
    })
    .await;
    for _ in 0..10 {
        let start = Instant::now();
        let mut webhook = connect(&team, &follower.url()).await;
        assert_eq!(webhook.get("/readyz").await.unwrap().status, StatusCode::OK);
        let reply = webhook.post("/validate", "no review").await.unwrap();
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{}", reply.text());
        // readers hold their places for 30 s
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    }
    flood.iter().for_each(tokio::task::JoinHandle::abort);
    eventually("readers are served again", async || {
        let path = format!("/api/v1/workspaces/{}/policy/active", team.workspace("a"));
        let answer = connect(&team, &follower.api_url()).await.get(&path).await.map_err(|e| e.to_string())?;
        if answer.status == StatusCode::OK { Ok(()) } else { Err(answer.text()) }
    })
    .await;
    assert!(follower.terminate().await.success(), "it drains both servers:\n{}", follower.log());
}

/// Asks and holds on, without reading.
async fn flood(address: SocketAddr, trust: Arc<ClientConfig>, request: String, asking: Arc<AtomicUsize>) {
    let Ok(mut stream) = handshake(address, "127.0.0.1", trust).await else { return };
    if stream.write_all(request.as_bytes()).await.is_ok() {
        asking.fetch_add(1, Ordering::SeqCst);
        std::future::pending::<()>().await;
    }
}

#[tokio::test]
async fn without_being_asked_for_it_is_not_served() {
    let team = Tenant::new().await;
    let quiet = ControllerOptions::new("quiet").start(team.cluster).await;
    let reply = connect(&team, &quiet.url()).await.get("/api/v1/workspaces/ws/policy/active").await.unwrap();
    assert_eq!(reply.status, StatusCode::NOT_FOUND);
    let reading = ControllerOptions::new("reading").api().start(team.cluster).await;
    assert_eq!((listening(quiet.id()), listening(reading.id())), (1, 2));
}

/// On how many TCP sockets a process listens.
fn listening(id: u32) -> usize {
    let table = |name: &str| std::fs::read_to_string(format!("/proc/{id}/net/{name}")).unwrap();
    let tables = table("tcp") + &table("tcp6");
    let inodes = tables.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let inodes: Vec<String> =
        inodes.filter(|line| line.get(3) == Some(&"0A")).map(|line| format!("socket:[{}]", line[9])).collect();
    let handles = std::fs::read_dir(format!("/proc/{id}/fd")).unwrap();
    let handles = handles.filter_map(|handle| std::fs::read_link(handle.unwrap().path()).ok());
    handles.filter(|handle| inodes.iter().any(|inode| handle.as_os_str() == inode.as_str())).count()
}
