//! What many repositories cost: `cargo bench --bench fleet`.
//!
//! 200 repositories of 50 policies each (`FLEET_REPOSITORIES`, `FLEET_POLICIES`) on one real controller and API server, and
//! one more whose server accepts connections and never answers. Printed: how long until all are enforced, how long a commit
//! of one file then takes while the silent server is being waited for, and what the controller holds of memory, file
//! handles and children.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what cannot be measured ends the benchmark"
)]

#[path = "../../tests/cluster/mod.rs"]
mod cluster;

use std::collections::HashMap;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use futures::future::join_all;
use kube::Api;
use kube::api::{Patch, PatchParams};
use sekuire_policy::api::{PolicyRepository, SigningKey, WorkspacePolicy, conditions};
use serde_json::json;

use cluster::{Cluster, Controller, GitRepo, Signer};

/// Nothing here may take longer.
const PATIENCE: Duration = Duration::from_secs(900);

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[tokio::main]
async fn main() {
    // `cargo test --benches` only wants to know that it builds
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let (repositories, policies) = (number("FLEET_REPOSITORIES", 200), number("FLEET_POLICIES", 50));
    let fleet = Fleet::new(repositories, policies).await;
    println!("{repositories} repositories of {policies} policies each, and one whose server never answers");
    let idle = Costs::of(&fleet.controller);
    fleet.watch().await;
    let start = Instant::now();
    let (highest, taken) = fleet.until_all_are_enforced(repositories * policies).await;
    println!("all enforced after {:.1} s", taken.duration_since(start).as_secs_f64());
    println!("            resident    handles   children");
    println!("idle        {idle}\nat most     {highest}");
    let mut times: Vec<Duration> = Vec::new();
    for round in 0..20 {
        times.push(fleet.change(round % repositories, round).await);
    }
    times.sort();
    println!(
        "a commit of one file, from push to the object, while the silent server is waited for: p50 {} ms, most {} ms",
        times[times.len() / 2].as_millis(),
        times[times.len() - 1].as_millis()
    );
    println!("at the end  {}", Costs::of(&fleet.controller));
    println!(
        "the silent one: {}",
        fleet.ready("silent").await.unwrap_or_else(|| "nothing is said of it yet".to_owned())
    );
}

struct Fleet {
    cluster: Cluster,
    controller: Controller,
    repos: Vec<GitRepo>,
    policies: usize,
    signer: Signer,
    silent: TcpListener,
}

impl Fleet {
    async fn new(repositories: usize, policies: usize) -> Fleet {
        let cluster = Cluster::start().await;
        cluster.install_crds().await;
        let signer = Signer::new(1);
        let mut repos = Vec::new();
        for repository in 0..repositories {
            let repo = GitRepo::new().await;
            for policy in 0..policies {
                repo.write(&format!("policies/{policy}.json"), document(&signer, repository, policy, "1"));
            }
            repo.commit("all").await;
            repos.push(repo);
        }
        let controller = Controller::start(&cluster).await;
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        Fleet { cluster, controller, repos, policies, signer, silent }
    }

    async fn watch(&self) {
        let client = self.cluster.client().await;
        let keys: Api<SigningKey> = Api::all(client.clone());
        let key = self.signer.manifest("key", &["*"]);
        keys.patch("key", &PatchParams::apply("bench"), &Patch::Apply(&key)).await.unwrap();
        let silent = format!("http://{}/silent.git", self.silent.local_addr().unwrap());
        let urls = self.repos.iter().enumerate().map(|(number, repo)| (format!("r{number}"), repo.url()));
        let all: Vec<(String, String)> = urls.chain([("silent".to_owned(), silent)]).collect();
        let api: Api<PolicyRepository> = Api::all(client);
        for (name, url) in all {
            let repository = json!({
                "apiVersion": "sekuire.ai/v1alpha1", "kind": "PolicyRepository", "metadata": {"name": name},
                "spec": {"url": url, "interval": "1h", "timeout": "60s", "workspaces": [format!("{name}_*")]},
            });
            api.patch(&name, &PatchParams::apply("bench"), &Patch::Apply(&repository)).await.unwrap();
        }
    }

    async fn until_all_are_enforced(&self, all: usize) -> (Costs, Instant) {
        let (mut highest, deadline) = (Costs::default(), Instant::now() + PATIENCE);
        let api: Api<WorkspacePolicy> = Api::all(self.cluster.client().await);
        loop {
            highest = highest.max(Costs::of(&self.controller));
            // counted with little: the names alone
            let enforced = api.list_metadata(&kube::api::ListParams::default()).await.unwrap().items.len();
            let ready = join_all((0..self.repos.len()).map(async |n| self.ready(&format!("r{n}")).await));
            if enforced >= all && ready.await.iter().all(|ready| ready.as_deref() == Some("True")) {
                return (highest, Instant::now());
            }
            assert!(Instant::now() < deadline, "{enforced} of {all} after {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// The status of the condition `Ready` of a repository.
    async fn ready(&self, name: &str) -> Option<String> {
        let api: Api<PolicyRepository> = Api::all(self.cluster.client().await);
        let status = api.get(name).await.unwrap().status?;
        conditions::find(&status.conditions, "Ready").map(|ready| ready.status.clone())
    }

    /// Changes one policy of one repository, asks for a look, and waits for the object.
    async fn change(&self, repository: usize, round: usize) -> Duration {
        let policy = round % self.policies;
        let repo = &self.repos[repository];
        repo.write(&format!("policies/{policy}.json"), document(&self.signer, repository, policy, "2"));
        let commit = repo.commit("one").await;
        let start = Instant::now();
        let client = self.cluster.client().await;
        let requested = json!({"metadata": {"annotations": {"sekuire.ai/requestedAt": commit}}});
        let api: Api<PolicyRepository> = Api::all(client.clone());
        api.patch(&format!("r{repository}"), &PatchParams::default(), &Patch::Merge(&requested)).await.unwrap();
        let objects: Api<WorkspacePolicy> = Api::all(client);
        let name = sekuire_policy::api::object_name(&format!("r{repository}_{policy}"));
        while objects.get(&name).await.unwrap().spec.document["version"] != "2" {
            assert!(start.elapsed() < PATIENCE, "{name} is not at version 2");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        start.elapsed()
    }
}

fn document(signer: &Signer, repository: usize, policy: usize, version: &str) -> String {
    let rules = json!({"agent": {"capabilities": {"denied_tools": ["shell_*", format!("tool_{policy}")]}}});
    signer.active(&format!("r{repository}_{policy}"), version, rules)
}

/// What a process holds.
#[derive(Clone, Copy, Default)]
struct Costs {
    resident_mb: usize,
    handles: usize,
    children: usize,
}

impl Costs {
    fn of(controller: &Controller) -> Costs {
        let id = controller.id();
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        let fields: HashMap<&str, &str> = status.lines().filter_map(|line| line.split_once(':')).collect();
        let kilobytes = fields.get("VmRSS").and_then(|text| text.trim().trim_end_matches(" kB").parse::<usize>().ok());
        let handles = std::fs::read_dir(format!("/proc/{id}/fd")).map_or(0, Iterator::count);
        let tasks = std::fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten();
        let children = tasks.map(|task| std::fs::read_to_string(task.path().join("children")).unwrap_or_default());
        let children = children.map(|list| list.split_whitespace().count()).sum();
        Costs { resident_mb: kilobytes.unwrap_or(0) / 1000, handles, children }
    }

    fn max(self, other: Costs) -> Costs {
        Costs {
            resident_mb: self.resident_mb.max(other.resident_mb),
            handles: self.handles.max(other.handles),
            children: self.children.max(other.children),
        }
    }
}

impl std::fmt::Display for Costs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:>5} MB   {:>8}   {:>8}", self.resident_mb, self.handles, self.children)
    }
}
