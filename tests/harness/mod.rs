//! The harness itself: what the other tests rely on.

use std::{
    env,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api,
    api::{DeleteParams, ObjectMeta, PostParams},
};

use sekuire_policy::{
    api::SigningKey,
    policy::{Document, Format, KeyRing, verify},
};

use crate::cluster::{
    Cluster, Controller, ControllerOptions, GitRepo, Signer, User,
    guard::{self, Process, group_runs},
    programs::has_controller_manager,
    shared,
    skip::skip,
};

/// Names the folder in which the test of the tests, run as a child, says what it has started.
const CHILD: &str = "SEKUIRE_HARNESS_CHILD";

fn note(name: &str) -> ConfigMap {
    ConfigMap { metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() }, ..ConfigMap::default() }
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds().await {
        assert!(Instant::now() < deadline, "not within a minute: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn two_tests_on_the_shared_server_have_namespaces_of_their_own() {
    let cluster = shared().await;
    let (one, other) = (cluster.namespace("note").await, cluster.namespace("note").await);
    assert_ne!(one, other);
    let client = cluster.client().await;
    let notes: Api<ConfigMap> = Api::namespaced(client.clone(), &one);
    notes.create(&PostParams::default(), &note("n")).await.unwrap();
    let others: Api<ConfigMap> = Api::namespaced(client, &other);
    assert!(others.get_opt("n").await.unwrap().is_none());
}

#[tokio::test]
async fn the_server_is_the_version_that_we_name() {
    let version = shared().await.client().await.apiserver_version().await.unwrap();
    let expected = if env::var_os("KUBEBUILDER_ASSETS").is_some() { "v1." } else { "v1.36.3" };
    assert!(version.git_version.starts_with(expected), "{}", version.git_version);
}

#[tokio::test]
async fn a_tenant_may_do_nothing_until_it_is_bound() {
    let cluster = shared().await;
    let namespace = cluster.namespace("tenant").await;
    let args = ["get", "configmaps", "-n", &namespace];
    let said = cluster.kubectl_as(User::TENANT, &args, "").await.refused();
    assert!(said.contains(r#"User "tenant" cannot list resource "configmaps""#), "{said}");

    let role = ["create", "role", "reader", "--verb=get,list", "--resource=configmaps", "-n", &namespace];
    cluster.kubectl(role).await.ok();
    let bind = ["create", "rolebinding", "tenant", "--role=reader", "--user=tenant", "-n", &namespace];
    cluster.kubectl(bind).await.ok();
    // RBAC is read from a watch of the API server's own
    until("the binding is seen", async || cluster.kubectl_as(User::TENANT, &args, "").await.succeeded()).await;
}

#[tokio::test]
async fn kubectl_applies_manifests_and_its_failures_are_kept() {
    let cluster = shared().await;
    let namespace = cluster.namespace("kubectl").await;
    let manifest =
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: c, namespace: {namespace}}}\ndata: {{a: b}}\n");
    assert_eq!(cluster.apply(&manifest).await.ok(), "configmap/c created\n");
    let read = cluster.kubectl(["get", "cm", "c", "-n", &namespace, "-o", "jsonpath={.data.a}"]).await;
    assert_eq!(read.ok(), "b");
    let missing = cluster.kubectl(["get", "cm", "d", "-n", &namespace]).await;
    assert!(missing.command.starts_with("kubectl get cm d -n "));
    assert!(missing.refused().contains("\"d\" not found"));
}

#[tokio::test]
async fn the_kinds_of_the_project_are_served_and_explained() {
    let cluster = shared().await;
    cluster.install_crds().await;
    let kinds = cluster.kubectl(["api-resources", "--categories=sekuire", "-o", "name", "--no-headers"]).await.ok();
    assert_eq!(kinds.lines().count(), 6, "{kinds}");
    let field = "workspacepolicy.spec.document.content.agent.models";
    let said = cluster.kubectl(["explain", field]).await.ok();
    assert!(said.contains("allowed_providers"), "{said}");
}

#[tokio::test]
async fn what_was_written_survives_the_death_of_the_api_server_and_of_etcd() {
    let cluster = Cluster::start().await;
    let notes: Api<ConfigMap> = Api::namespaced(cluster.client().await, "default");
    notes.create(&PostParams::default(), &note("n")).await.unwrap();

    cluster.kill_api_server();
    assert!(notes.get("n").await.is_err());
    cluster.start_api_server().await;
    assert!(notes.get("n").await.is_ok());

    cluster.kill_etcd();
    cluster.start_etcd().await;
    until("it is read again", async || notes.get("n").await.is_ok()).await;

    cluster.stop_api_server().await;
    cluster.start_api_server().await;
    assert!(notes.get("n").await.is_ok());
}

#[tokio::test]
async fn with_a_controller_manager_namespaces_are_deleted_and_orphans_collected() {
    if !has_controller_manager() {
        skip!("no kube-controller-manager in KUBEBUILDER_ASSETS");
    }
    let cluster = Cluster::options().controller_manager().start().await;
    let namespace = cluster.namespace("short-lived").await;
    let client = cluster.client().await;
    let notes: Api<ConfigMap> = Api::namespaced(client, &namespace);
    let owner = notes.create(&PostParams::default(), &note("owner")).await.unwrap();
    let mut owned = note("owned");
    owned.metadata.owner_references = Some(vec![kube::Resource::owner_ref(&owner, &()).unwrap()]);
    notes.create(&PostParams::default(), &owned).await.unwrap();
    notes.delete("owner", &DeleteParams::default()).await.unwrap();
    until("the orphan is collected", async || notes.get_opt("owned").await.unwrap().is_none()).await;
    cluster.kubectl(["delete", "namespace", &namespace, "--timeout=60s"]).await.ok();
}

#[tokio::test]
async fn a_dropped_cluster_leaves_no_process_and_no_folder() {
    let cluster = Cluster::start().await;
    let (groups, folder) = (cluster.process_groups(), cluster.folder().to_owned());
    assert!(groups.len() == 2 && groups.iter().all(|group| group_runs(*group)));
    drop(cluster);
    assert!(!groups.iter().any(|group| group_runs(*group)));
    assert!(!folder.exists());
}

/// Runs this program as a process of its own, in which the test that does so becomes [`be_child`]; returns the groups and the folder that it started.
async fn child_in(folder: &Path, mode: &str) -> (std::process::Child, Vec<u32>, String) {
    let report = folder.join(mode);
    let child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "harness::nothing_is_left_when_a_test_panics_or_its_process_is_killed", "--nocapture"])
        .env(CHILD, &report)
        .env("MODE", mode)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    until("the child reports", async || report.exists()).await;
    let told = std::fs::read_to_string(&report).unwrap();
    let mut lines = told.lines();
    let cluster = lines.next().unwrap().to_owned();
    let groups: Vec<u32> = lines.map(|line| line.parse().unwrap()).collect();
    assert_eq!(groups.len(), 3, "{told}");
    (child, groups, cluster)
}

/// Starts a cluster, says so in `report`, and ends as `MODE` says, or not at all.
async fn be_child(report: std::ffi::OsString) {
    let cluster = Cluster::start().await;
    let log = cluster.folder().join("sleep.log");
    // a program that ignores what can be ignored, with a child of its own
    let sleeper =
        Process::start(Path::new("sh"), ["-c", "trap '' TERM INT HUP; sleep 1000 & wait; sleep 1000"], &[], &log);
    let mut told = format!("{}\n", cluster.folder().display());
    for group in cluster.process_groups().into_iter().chain([sleeper.id()]) {
        told.push_str(&format!("{group}\n"));
    }
    let part = Path::new(&report).with_extension("part");
    std::fs::write(&part, told).unwrap();
    std::fs::rename(&part, &report).unwrap();
    match env::var("MODE").as_deref() {
        Ok("panic") => panic!("on purpose"),
        Ok("abort") => std::process::abort(),
        Ok("keep") => {
            std::mem::forget(sleeper);
            let guard = cluster.keep();
            std::fs::write(Path::new(&report).with_extension("guard"), guard.to_string()).unwrap();
        }
        _ => tokio::time::sleep(Duration::from_secs(1000)).await,
    }
}

#[tokio::test]
async fn nothing_is_left_when_a_test_panics_or_its_process_is_killed() {
    if let Some(report) = env::var_os(CHILD) {
        return be_child(report).await;
    }
    let folder = tempfile::tempdir().unwrap();
    for mode in ["panic", "abort", "sigkill"] {
        let (mut child, groups, cluster) = child_in(folder.path(), mode).await;
        if mode == "sigkill" {
            assert!(groups.iter().all(|group| group_runs(*group)), "{mode}");
            child.kill().unwrap();
        }
        let status = child.wait().unwrap();
        assert!(!status.success(), "{mode}");
        until("no process is left", async || !groups.iter().any(|group| group_runs(*group))).await;
        until("no folder is left", async || !Path::new(&cluster).exists()).await;
    }
}

#[tokio::test]
async fn a_cluster_that_is_kept_runs_on_until_its_guard_is_told_to_end() {
    let folder = tempfile::tempdir().unwrap();
    let (mut child, groups, cluster) = child_in(folder.path(), "keep").await;
    assert!(child.wait().unwrap().success());
    tokio::time::sleep(Duration::from_millis(300)).await; // time for a guard that does not keep
    assert!(groups.iter().all(|group| group_runs(*group)));
    let guard = std::fs::read_to_string(folder.path().join("keep.guard")).unwrap();
    let ended = Command::new("kill").arg(&guard).status().unwrap();
    assert!(ended.success());
    until("no process is left", async || !groups.iter().any(|group| group_runs(*group))).await;
    until("no folder is left", async || !Path::new(&cluster).exists()).await;
}

#[tokio::test]
async fn a_program_that_ends_is_seen_with_its_status_and_its_log() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let mut process = Process::start(Path::new("sh"), ["-c", "echo hello; exit 3"], &[], &log);
    let status = process.wait(Duration::from_secs(60)).await.unwrap();
    assert_eq!(status.code(), Some(3));
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "hello\n");
    guard::remove_at_end(folder.path());
}

#[tokio::test]
async fn a_repository_is_the_same_commit_for_commit_wherever_it_is_made() {
    let mut heads = Vec::new();
    for _ in 0..2 {
        let repo = GitRepo::new().await;
        repo.commit_files("Add a policy", [("policies/a.json", "{}")]).await;
        repo.remove("policies/a.json");
        heads.push(repo.commit("Remove it").await);
    }
    assert_eq!(heads[0], heads[1]);
}

#[tokio::test]
async fn a_repository_can_be_rewritten_amended_and_taken_back() {
    let repo = GitRepo::new().await;
    let first = repo.commit_files("One", [("a", "1")]).await;
    let second = repo.commit_files("Two", [("a", "2")]).await;
    let amended = repo.amend("Two, said better").await;
    assert_ne!(second, amended);
    let remote = async || repo.git(["ls-remote", "--quiet", &repo.url(), "main"]).await;
    assert!(remote().await.starts_with(&amended));
    repo.reset(&first).await;
    assert!(remote().await.starts_with(&first));
    let rewritten = repo.rewrite("From nothing").await;
    assert!(remote().await.starts_with(&rewritten));
    assert_eq!(repo.git(["rev-list", "--count", "main"]).await.trim(), "1");
}

#[test]
fn what_the_signer_signs_is_verified_by_the_key_of_its_manifest() {
    let signer = Signer::new(1);
    let text = signer.active("ws_a", "1.2", serde_json::json!({"tools": {"blocked_tools": ["shell"]}}));
    let key: SigningKey = serde_json::from_value(signer.manifest("one", &["ws_*"])).unwrap();
    let keys = KeyRing::new([key.spec.trusted_key().unwrap()]);
    let document = Document::parse(text.as_bytes(), Format::Json).unwrap();
    let policy = verify(document, &keys, jiff::Timestamp::now()).unwrap();
    assert_eq!((policy.policy_id(), policy.workspace_id()), ("policy_ws_a", "ws_a"));
}

#[tokio::test]
async fn replicas_of_the_controller_become_ready_die_come_back_and_end_when_told() {
    let cluster = Cluster::start().await;
    cluster.install_crds().await;
    let mut one = Controller::start(&cluster).await;
    let mut other = ControllerOptions::new("b").start(&cluster).await;
    assert_ne!(one.url(), other.url());
    let first = one.id();
    one.kill();
    assert!(one.get("/readyz").await.is_err());
    other.ready().await;
    one.start_again();
    one.ready().await;
    assert_ne!(one.id(), first);
    for replica in [&mut one, &mut other] {
        let status = replica.terminate().await;
        assert!(status.success(), "{}: {status}\n{}", replica.identity(), replica.log());
    }
}
