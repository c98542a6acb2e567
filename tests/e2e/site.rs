//! The cluster, as its operators see it: kubectl, helm and a client.

use std::{
    env,
    path::PathBuf,
    time::{Duration, Instant},
};

use kube::{Api, Client, api::PostParams};
use sekuire_policy::api::Agent;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::cluster::{GitRepo, Ran, Signer, command, programs::programs};

/// Where the controller is installed.
pub(crate) const SYSTEM: &str = "sekuire-system";
/// The namespace of the agents.
pub(crate) const NAMESPACE: &str = "payments";
/// Deployment, Service, Lease and webhook configuration.
pub(crate) const NAME: &str = "sekuire-policy-controller";
/// The label that all replicas have.
pub(crate) const REPLICAS: &str = "app.kubernetes.io/name=sekuire-policy-controller";
/// What everything here may take.
const PATIENCE: Duration = Duration::from_secs(90);

pub(crate) struct Site {
    pub(crate) client: Client,
    pub(crate) repo: GitRepo,
    pub(crate) signer: Signer,
    pub(crate) folder: PathBuf,
    helm: PathBuf,
}

impl Site {
    pub(crate) async fn new() -> Site {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/helm/build.sh");
        let helm = Command::new(script).output().await.expect("run tests/helm/build.sh");
        assert!(helm.status.success(), "{}", String::from_utf8_lossy(&helm.stderr));
        Site {
            client: Client::try_default().await.expect("a kubeconfig"),
            repo: GitRepo::new().await,
            signer: Signer::new(9),
            folder: env::var_os("E2E_FOLDER").expect("set by who started this").into(),
            helm: String::from_utf8_lossy(&helm.stdout).trim().into(),
        }
    }

    /// Runs `kubectl`, words separated by blanks.
    pub(crate) async fn kubectl(&self, args: &str) -> Ran {
        self.kubectl_with(args, "").await
    }

    /// Runs `kubectl` with `input` as its standard input.
    pub(crate) async fn kubectl_with(&self, args: &str, input: &str) -> Ran {
        let mut kubectl = Command::new(programs().join("kubectl"));
        kubectl.args(args.split(' ')).env("KUBECACHEDIR", self.folder.join("kubectl-cache"));
        command::run(kubectl, input.as_bytes()).await
    }

    pub(crate) async fn apply(&self, manifests: &[Value]) {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": manifests});
        self.kubectl_with("apply --filename -", &list.to_string()).await.ok();
    }

    pub(crate) async fn helm(&self, args: &str) -> Ran {
        let mut helm = Command::new(&self.helm);
        helm.args(args.split(' '))
            .env("HELM_CACHE_HOME", self.folder.join("helm"))
            .current_dir(env!("CARGO_MANIFEST_DIR"));
        command::run(helm, b"").await
    }

    pub(crate) fn agents(&self) -> Api<Agent> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    /// Tries an agent with this tool. `Err`: the words of the refusal.
    pub(crate) async fn try_tool(&self, tool: &str) -> Result<(), String> {
        let how = PostParams { dry_run: true, ..PostParams::default() };
        self.agents().create(&how, &agent("tried", tool)).await.map(drop).map_err(|error| error.to_string())
    }

    /// Names of the replicas that are not on their way out, oldest first.
    pub(crate) async fn replicas(&self) -> Vec<String> {
        let listed = self
            .kubectl(&format!("get pods --namespace {SYSTEM} --selector {REPLICAS} --sort-by=.metadata.creationTimestamp --output json"))
            .await
            .ok();
        let listed: Value = serde_json::from_str(&listed).expect("kubectl prints JSON");
        let pods = listed["items"].as_array().expect("a list").iter();
        pods.filter(|pod| pod["metadata"]["deletionTimestamp"].is_null())
            .map(|pod| pod["metadata"]["name"].as_str().expect("a name").to_owned())
            .collect()
    }

    /// The replica that holds the Lease.
    pub(crate) async fn leader(&self) -> String {
        let get = format!("get lease {NAME} --namespace {SYSTEM} --output jsonpath={{.spec.holderIdentity}}");
        self.kubectl(&get).await.ok()
    }

    /// Waits until there are two replicas, both ready, and none on its way out.
    pub(crate) async fn two_replicas(&self) {
        let status = format!("rollout status deployment/{NAME} --namespace {SYSTEM} --timeout 50s");
        self.kubectl(&status).await.ok();
        let gone = async || {
            let all = format!("get pods --namespace {SYSTEM} --selector {REPLICAS} --output name");
            let all = self.kubectl(&all).await.ok().lines().count();
            let ready =
                format!("get deployment {NAME} --namespace {SYSTEM} --output jsonpath={{.status.readyReplicas}}");
            let ready = self.kubectl(&ready).await.ok();
            if (all, ready.as_str()) == (2, "2") { Ok(()) } else { Err(format!("{all} pods, {ready} ready")) }
        };
        until("two replicas", gone).await;
    }

    /// What the controllers have said, for who has to find out why.
    pub(crate) async fn show(&self) {
        for args in [
            "get pods --all-namespaces --output wide".to_owned(),
            format!("describe pods --namespace {SYSTEM}"),
            "get wsp,prepo,skey,pled --output wide".to_owned(),
            format!("logs --namespace {SYSTEM} --selector {REPLICAS} --prefix --tail 30"),
            "get events --all-namespaces".to_owned(),
        ] {
            println!("\n{}", self.kubectl(&args).await);
        }
    }
}

/// An agent with one tool.
pub(crate) fn agent(name: &str, tool: &str) -> Agent {
    serde_json::from_value(json!({
        "apiVersion": "sekuire.ai/v1alpha1", "kind": "Agent",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": agent_spec(tool),
    }))
    .expect("an agent")
}

pub(crate) fn agent_spec(tool: &str) -> Value {
    json!({"model": {"provider": "anthropic", "name": "claude"}, "tools": [{"name": tool}]})
}

/// Says what happened and how long it took.
pub(crate) fn took(what: &str, since: Instant) {
    println!("{:7.1} s  {what}", since.elapsed().as_secs_f32());
}

/// Waits until it holds; the last reason why not ends the run.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> Result<(), String>) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let Err(why) = holds().await else { return };
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}: {why}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
