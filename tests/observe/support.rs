//! A cluster with a controller and something to watch, and the programs that watch.

use std::collections::BTreeMap;
use std::process::Command;

use jiff::{SignedDuration, Timestamp};
use kube::api::PostParams;
use kube::{Api, Client, Config};
use sekuire_policy::api::{Agent, WORKSPACE_LABEL};
use serde_json::{Value, json};

use crate::cluster::{Cluster, Controller, ControllerOptions, GitRepo, Signer};
pub(super) use crate::reconcile::tenant::eventually;

/// A cluster of one's own, with a repository, a key that ends soon, and one workspace, whose policy ends soon and denies the
/// tool `shell`.
pub(super) struct World {
    pub(super) cluster: Cluster,
    pub(super) client: Client,
    pub(super) repo: GitRepo,
    pub(super) signer: Signer,
    /// Name of repository and key, and the end of the workspace.
    pub(super) name: String,
    pub(super) namespace: String,
}

impl World {
    pub(super) async fn new(name: &str) -> World {
        let cluster = Cluster::start().await;
        cluster.install_crds().await;
        let (client, repo, signer) = (cluster.client().await, GitRepo::new().await, Signer::new(9));
        let workspace = format!("ws_{name}");
        let namespace = cluster.namespace_with("agents", &[(WORKSPACE_LABEL, &workspace)]).await;
        let world = World { cluster, client, repo, signer, name: name.to_owned(), namespace };
        world.repo.write("policies/good.json", world.document("1"));
        world.repo.commit("Publish").await;
        let mut key = world.signer.manifest(name, &["ws_*"]);
        key["spec"]["notAfter"] = in_days(20).into();
        let repository = json!({
            "apiVersion": "sekuire.ai/v1alpha1", "kind": "PolicyRepository", "metadata": {"name": name},
            "spec": {"url": world.repo.url(), "interval": "1s"},
        });
        for manifest in [key, repository] {
            world.cluster.apply(&manifest.to_string()).await.ok();
        }
        world
    }

    pub(super) fn workspace(&self) -> String {
        format!("ws_{}", self.name)
    }

    /// The document of the workspace.
    pub(super) fn document(&self, version: &str) -> String {
        let document = json!({
            "policy_id": format!("policy_{}", self.name), "workspace_id": self.workspace(), "version": version,
            "status": "active", "expires_at": in_days(10),
            "content": {"agent": {"capabilities": {"denied_tools": ["shell"]}}},
        });
        format!("{:#}\n", self.signer.sign(document))
    }

    /// A replica with metrics and the receiver that logs JSON, once it admits what complies.
    pub(super) async fn controller(&self, options: ControllerOptions) -> Controller {
        let controller = options.metrics().receiver().flags(["--log-format=json"]).start(&self.cluster).await;
        eventually("the policy is in force", async || self.ask("probe", "calculator").await).await;
        controller
    }

    /// What the API server says to an agent with this name and tool: `Ok`, or the message of the refusal.
    pub(super) async fn ask(&self, agent: &str, tool: &str) -> Result<(), String> {
        let agent: Agent = serde_json::from_value(json!({
            "apiVersion": "sekuire.ai/v1alpha1", "kind": "Agent", "metadata": {"name": agent},
            "spec": {"model": {"provider": "openai", "name": "gpt-4"}, "tools": [{"name": tool}]},
        }))
        .unwrap();
        let api: Api<Agent> = Api::namespaced(self.client.clone(), &self.namespace);
        let dry_run = PostParams { dry_run: true, ..PostParams::default() };
        match api.create(&dry_run, &agent).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) => Err(status.message.clone()),
            Err(error) => panic!("{error}"),
        }
    }
}

/// The time in so many days.
pub(super) fn in_days(days: i64) -> String {
    let at = Timestamp::now() + SignedDuration::from_hours(days * 24);
    Timestamp::from_second(at.as_second()).unwrap().to_string()
}

/// The answer of a server without TLS.
pub(super) async fn get(address: &str, path: &str) -> Result<String, kube::Error> {
    let client = Client::try_from(Config::new(format!("http://{address}").parse().unwrap()))?;
    client.request_text(http::Request::get(path).body(Vec::new()).unwrap()).await
}

/// The metrics of a replica.
pub(crate) async fn scrape(controller: &Controller) -> String {
    get(&controller.metrics_address(), "/metrics").await.unwrap()
}

/// The series of a scrape, by name and labels as they stand there.
pub(crate) fn series(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap();
            (series.to_owned(), value.parse().unwrap())
        })
        .collect()
}

/// Where the file of this repository is.
pub(super) fn file(path: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

pub(super) fn read(path: &str) -> String {
    std::fs::read_to_string(file(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// The alerts as the chart installs them.
pub(super) fn alerts() -> String {
    read("charts/sekuire-policy-controller/files/alerts.yaml").replace("@RUNBOOKS@", "https://example.com/runbooks.md")
}

/// The rules of the alerts.
pub(super) fn rules() -> Vec<Value> {
    let alerts: Value = serde_yaml::from_str(&alerts()).unwrap();
    let groups = alerts["groups"].as_array().unwrap().clone();
    groups.iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
}

/// Whether Debian's package is here.
pub(super) fn has_prometheus() -> bool {
    ["prometheus", "promtool"].iter().all(|program| Command::new(program).arg("--version").output().is_ok())
}

/// All names of metrics in an expression.
pub(super) fn metric_names(expression: &str) -> Vec<String> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = expression.split(|c| !word(c));
    let ours = words.filter(|word| word.starts_with("sekuire_") || word.starts_with("process_"));
    ours.map(str::to_owned).collect()
}
