//! Private repositories: their Secrets, and where those may not be seen.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Api;
use kube::api::DeleteParams;
use sekuire_policy::api::PolicyRepositoryStatus;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::tenant::{Tenant, eventually};
use crate::cluster::controller::NAMESPACE;
use crate::cluster::skip::skip;
use crate::cluster::{Cluster, ControllerOptions, GitRepo, Signer};
use crate::git::real::{Ssh, Web, missing};
use crate::leaks::search;

pub(crate) fn secret(name: &str, keys: &[(&str, &str)]) -> Value {
    let data: BTreeMap<&str, &str> = keys.iter().copied().collect();
    json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": name, "namespace": NAMESPACE}, "stringData": data,
    })
}

/// The same for the server on this machine at a port, by both of its names.
pub(crate) fn secret_for(port: u16, name: &str, keys: &[(&str, &str)]) -> Value {
    let mut secret = secret(name, keys);
    secret["metadata"]["annotations"] = json!({"sekuire.ai/hosts": format!("localhost:{port}, 127.0.0.1:{port}")});
    secret
}

/// The folder that a web server serves the repository `origin.git` of.
pub(crate) fn root(repo: &GitRepo) -> std::path::PathBuf {
    repo.origin().parent().unwrap().to_owned()
}

#[tokio::test]
async fn a_rotated_secret_is_used_at_once_and_until_then_what_is_enforced_stays() {
    if let Some(why) = missing() {
        skip!(why);
    }
    let team = Tenant::new().await;
    let web = Web::start(&root(&team.repo), "no token", 1);
    web.accept("robot", "first-password");
    team.commit(&[("a.json", &team.active("a", "1", "shell_exec"))]).await;
    // an interval that no test waits for. What is missing, and a 401, is tried again by itself; a Secret without a password is
    // not, so that from there on only the Secret can be what has it looked at
    let spec = json!({"url": web.url("basic/origin.git"), "interval": "1h", "secretRef": {"name": team.name}});
    team.watch_repository(spec).await;
    let message = team.repository_fails("AuthenticationFailed").await;
    assert!(
        message.contains(&format!("Secret {NAMESPACE}/{} (spec.secretRef) does not exist", team.name)),
        "{message}"
    );

    let authority = web.authority.pem();
    let store = async |keys: &[(&str, &str)]| {
        let secrets: Api<Secret> = Api::namespaced(team.client.clone(), NAMESPACE);
        drop(secrets.delete(&team.name, &DeleteParams::default()).await);
        team.apply(&secret_for(web.port(), &team.name, keys)).await;
    };
    store(&[("username", "robot"), ("ca.crt", &authority)]).await;
    let status = team.repository("Stalled", |s| s.conditions.iter().any(|c| c.type_ == "Stalled")).await;
    let stalled = status.conditions.iter().find(|condition| condition.type_ == "Stalled").unwrap();
    assert_eq!(stalled.reason, "AuthenticationFailed");
    assert!(stalled.message.contains("has no key password; an https:// repository takes"), "{}", stalled.message);

    let start = Instant::now();
    store(&[("username", "robot"), ("password", "first-password"), ("ca.crt", &authority)]).await;
    team.enforced("a", "1").await;
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    let namespace = team.namespace("a").await;
    team.refuses(&namespace, "shell_exec", "tool.blocked").await;

    web.accept("robot", "second-password");
    team.commit(&[("a.json", &team.active("a", "2", "calculator"))]).await;
    team.annotate_repository("reconcile.fluxcd.io/requestedAt", "now").await;
    let message = team.repository_fails("AuthenticationFailed").await;
    assert!(message.contains("401") && message.contains("does not accept the credentials"), "{message}");
    team.refuses(&namespace, "shell_exec", "tool.blocked").await;
    team.admits(&namespace, "calculator").await;

    let rotated = [("password", "second-password"), ("username", "robot"), ("ca.crt", &authority)];
    team.apply(&secret_for(web.port(), &team.name, &rotated)).await;
    team.enforced("a", "2").await;
    team.refuses(&namespace, "calculator", "tool.blocked").await;
}

/// A server that takes connections and notes that it was asked; it speaks no TLS, so any byte of a client would be a surprise.
async fn trap() -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, asked) = (listener.local_addr().unwrap().port(), Arc::<AtomicUsize>::default());
    let count = Arc::clone(&asked);
    tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    (port, asked)
}

#[tokio::test]
async fn whoever_writes_a_repository_cannot_have_the_credentials_of_a_secret_sent_to_another_server() {
    if let Some(why) = missing() {
        skip!(why);
    }
    let team = Tenant::new().await;
    let (theirs, asked) = trap().await;
    let web = Web::start(&root(&team.repo), "token-of-the-robot", theirs);
    web.accept("robot", "password-of-the-robot");
    team.commit(&[("a.json", &team.active("a", "1", "shell_exec"))]).await;
    let (authority, client) = (web.authority.pem(), web.authority.client());
    let key = client.key.reveal();
    for (way, keys) in [
        ("basic", &[("username", "robot"), ("password", "password-of-the-robot"), ("ca.crt", &*authority)][..]),
        ("bearer", &[("bearerToken", "token-of-the-robot"), ("ca.crt", &*authority)]),
        ("client", &[("tls.crt", &*client.chain), ("tls.key", key), ("ca.crt", &*authority)]),
    ] {
        let name = format!("{}-{way}", team.name);
        let asked = || (asked.load(Ordering::SeqCst), web.requests().len());
        let at = |url: String| json!({"url": url, "interval": "1h", "secretRef": {"name": name}});
        // as it was written before there was such an annotation
        team.apply(&secret(&name, keys)).await;
        let before = asked();
        team.watch_repository(at(web.url(&format!("{way}/origin.git")))).await;
        let (reason, message) = judged(&team).await;
        let list = format!("sekuire.ai/hosts=localhost:{}", web.port());
        let told = format!("kubectl annotate --overwrite secret -n {NAMESPACE} {name} {list}");
        assert!(reason == "AuthenticationFailed" && message.ends_with(&told), "{message}");
        assert!(message.contains("does not say that it is for localhost"), "{message}");
        assert_eq!(asked(), before, "not even the right server is asked");
        // what the message says, and nothing else
        team.cluster.kubectl(["annotate", "--overwrite", "secret", "-n", NAMESPACE, &name, &list]).await.ok();
        let ready = |c: &Condition| c.type_ == "Ready" && c.status == "True";
        team.repository("Ready", |status| status.conditions.iter().any(ready)).await;

        // the Secret and the repository may each have had a look of their own
        let mut before = asked();
        loop {
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            let now = asked();
            if std::mem::replace(&mut before, now) == now {
                break;
            }
        }
        for url in [
            format!("https://localhost:{theirs}/{way}/origin.git"),
            format!("https://127.0.0.1:{}/{way}/origin.git", web.port()),
            format!("https://127.0.0.1:{theirs}/localhost:{}/origin.git", web.port()),
            format!("ssh://localhost@127.0.0.1:{theirs}/localhost:{}/origin.git", web.port()),
        ] {
            team.watch_repository(at(url.clone())).await;
            let (reason, message) = judged(&team).await;
            assert_eq!(reason, "AuthenticationFailed", "{url}: {message}");
            let wanted =
                ["by its annotation sekuire.ai/hosts, and was not used", "an ssh:// repository takes identity"];
            assert!(message.contains(wanted[usize::from(url.starts_with("ssh"))]), "{url}: {message}");
            assert_eq!(asked(), before, "{url}");
        }
        // the right server says to go to the other one
        team.watch_repository(at(web.url("elsewhere/origin.git"))).await;
        assert_eq!(judged(&team).await.0, "GitOperationFailed");
        assert_eq!(asked().0, 0, "{way}: no redirect is followed to it");
    }
    team.enforced("a", "1").await;
}

/// `Ready` of the repository as it is now: reason and message.
async fn judged(team: &Tenant) -> (String, String) {
    let generation = team.repositories().get(&team.name).await.unwrap().metadata.generation;
    let judged = |c: &Condition| c.type_ == "Ready" && c.status != "Unknown" && c.observed_generation == generation;
    let status = team.repository("judged", |status| status.conditions.iter().any(judged)).await;
    let ready = status.conditions.iter().find(|condition| judged(condition)).unwrap();
    (ready.reason.clone(), ready.message.clone())
}

#[tokio::test]
async fn what_only_a_change_can_mend_is_not_tried_again_until_something_changes() {
    if let Some(why) = missing() {
        skip!(why);
    }
    let team = Tenant::new().await;
    team.commit(&[("a.json", &team.active("a", "1", "shell_exec"))]).await;
    let ssh = Ssh::start();
    let (identity, known_hosts) = (ssh.key("key", &["-t", "ed25519"], ""), ssh.known_hosts("ed25519"));
    let with = |identity: &str| secret(&team.name, &[("identity", identity), ("known_hosts", &known_hosts)]);
    team.apply(&with("no key")).await;
    let over_ssh = |reference: Value| json!({"url": ssh.url(&team.repo.origin()), "secretRef": {"name": team.name}, "ref": reference});
    team.watch_repository(over_ssh(json!({"branch": "main"}))).await;
    let stalled = |status: &PolicyRepositoryStatus| status.conditions.iter().any(|c| c.type_ == "Stalled");
    team.repository("Stalled", stalled).await;
    let connections = || ssh.log().matches("Connection from").count();
    eventually("the one that waited for the server is told of", async || {
        if connections() > 0 { Ok(()) } else { Err(ssh.log()) }
    })
    .await;
    let before = connections();
    for token in ["1", "2", "3"] {
        team.annotate_repository("sekuire.ai/requestedAt", token).await;
        let looked = |status: &PolicyRepositoryStatus| status.last_handled_reconcile_at.as_deref() == Some(token);
        assert!(stalled(&team.repository("looked at", looked).await));
    }
    assert_eq!(connections(), before);
    team.apply(&with(&identity)).await;
    team.enforced("a", "1").await;

    team.watch_repository(over_ssh(json!({"semver": "one to two"}))).await;
    let message = team.repository_fails("GitOperationFailed").await;
    assert!(message.contains("accepted are for example: 1.2.3"), "{message}");
    team.repo.git(["tag", "v1.2.0"]).await;
    team.repo.git(["push", "--quiet", "origin", "v1.2.0"]).await;
    let head = team.repo.head().await;
    for (reference, revision) in [
        (json!({"semver": "1.x"}), format!("v1.2.0@sha1:{head}")),
        (json!({"commit": head}), format!("sha1:{head}")),
        (json!({"tag": "v1.2.0"}), format!("v1.2.0@sha1:{head}")),
    ] {
        team.watch_repository(over_ssh(reference)).await;
        team.repository(&revision, |status| status.last_applied_revision.as_ref() == Some(&revision)).await;
    }
    team.ready("a", "True", "Succeeded").await;
}

/// A cluster and a controller of one's own, which says all that it can say.
pub(crate) struct Loud {
    pub(crate) cluster: Cluster,
    pub(crate) controller: crate::cluster::Controller,
    pub(crate) repo: GitRepo,
    pub(crate) signer: Signer,
}

impl Loud {
    pub(crate) async fn start(flags: [&str; 1]) -> Loud {
        let cluster = Cluster::start().await;
        cluster.install_crds().await;
        let controller = ControllerOptions::new("a").flags(flags).start(&cluster).await;
        let (repo, signer) = (GitRepo::new().await, Signer::new(9));
        cluster.apply(&signer.manifest("platform", &["ws_*"]).to_string()).await.ok();
        repo.commit_files("first", [("policies/a.json", signer.active("ws_a", "1", json!({})))]).await;
        Loud { cluster, controller, repo, signer }
    }

    pub(crate) async fn watch(&self, name: &str, spec: Value) {
        let mut repository = json!({
            "apiVersion": "sekuire.ai/v1alpha1", "kind": "PolicyRepository", "metadata": {"name": name},
            "spec": {"interval": "2s", "workspaces": [format!("{name}_*"), "ws_*"]},
        });
        for (member, value) in spec.as_object().unwrap() {
            repository["spec"][member] = value.clone();
        }
        self.cluster.apply(&repository.to_string()).await.ok();
    }

    /// Waits until `Ready` of a repository has a reason.
    pub(crate) async fn reason(&self, name: &str, reason: &str) {
        let path = "jsonpath={.status.conditions[?(@.type==\"Ready\")].reason}";
        eventually(&format!("{name} {reason}"), async || {
            let found = self.cluster.kubectl(["get", "prepo", name, "-o", path]).await.ok();
            if found.trim() == reason { Ok(()) } else { Err(found) }
        })
        .await;
    }

    /// Everything that is said: the log, Events and statuses.
    pub(crate) async fn said(&self) -> String {
        let objects = ["get", "events.events.k8s.io,prepo,wsp,pled", "-A", "-o", "json", "--show-managed-fields"];
        self.controller.log() + &self.cluster.kubectl(objects).await.ok()
    }
}

/// The ways in which each secret would show, with its name.
pub(crate) fn forms(secrets: &[(&str, &str)]) -> Vec<(String, String)> {
    let of = |(name, secret): &(&str, &str)| {
        let name = (*name).to_owned();
        search::forms(secret).into_iter().map(move |form| (name.clone(), form))
    };
    secrets.iter().flat_map(of).collect()
}

pub(crate) fn found(said: &str, forms: &[(String, String)]) -> Vec<String> {
    let mut names: Vec<String> =
        forms.iter().filter(|(_, form)| said.contains(form)).map(|(name, _)| name.clone()).collect();
    names.dedup();
    names
}

#[tokio::test]
async fn a_repository_that_hangs_delays_no_other_and_not_the_end() {
    let mut loud = Loud::start(["--log=info"]).await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/policies.git", silent.local_addr().unwrap());
    for number in 0..5 {
        loud.watch(&format!("hangs{number}"), json!({"url": url, "timeout": "1h"})).await;
    }
    let mut connections = Vec::new();
    for _ in 0..5 {
        connections.push(silent.accept().await.unwrap());
    }
    loud.watch("works", json!({"url": loud.repo.url()})).await;
    loud.reason("works", "Succeeded").await;
    let next = loud.signer.active("ws_a", "2", json!({}));
    loud.repo.commit_files("second", [("policies/a.json", next)]).await;
    eventually("version 2 enforced", async || {
        let path = "jsonpath={.spec.document.version}";
        let found = loud.cluster.kubectl(["get", "wsp", "ws-a", "-o", path]).await.ok();
        if found == "2" { Ok(()) } else { Err(found) }
    })
    .await;
    // they hang for an hour
    let start = Instant::now();
    assert!(loud.controller.terminate().await.success());
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}
