//! A cluster with a repository of policies that a controller follows, and ways to look at it.

use std::{
    collections::BTreeMap,
    env,
    fmt::Debug,
    future::Future,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use futures::StreamExt as _;
use k8s_openapi::api::{
    admissionregistration::v1::ValidatingWebhookConfiguration, coordination::v1::Lease, events::v1::Event,
};
use kube::{Api, Client, Resource, ResourceExt as _, api::PostParams, runtime::watcher};
use sekuire_policy::{
    api::{Agent, PolicyLedger, PolicyRepository, SigningKey, WORKSPACE_LABEL, WorkspacePolicy, conditions},
    policy::Version,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::cluster::{Cluster, ClusterOptions, Controller, GitRepo, Signer, controller::NAMESPACE, server::CRDS};

/// The tool that is denied wherever one is.
pub(crate) const DENIED: &str = "shell";
/// How long anything may take that takes a second at most.
const PATIENCE: Duration = Duration::from_secs(90);

/// A cluster of one's own, with the CRDs, a trusted key, a repository and the object that names it; no controller yet.
pub(crate) struct Site {
    pub(crate) cluster: Cluster,
    pub(crate) client: Client,
    pub(crate) repo: GitRepo,
    pub(crate) signer: Signer,
}

impl Site {
    pub(crate) async fn new(options: ClusterOptions) -> Site {
        Site::with_kinds(options, Path::new(CRDS)).await
    }

    /// With the kinds of a folder.
    pub(crate) async fn with_kinds(options: ClusterOptions, crds: &Path) -> Site {
        let cluster = options.start().await;
        cluster.apply_crds(crds).await;
        let (client, repo, signer) = (cluster.client().await, GitRepo::new().await, Signer::new(7));
        let key = signer.manifest("platform", &["ws_*"]);
        let repository = json!({
            "apiVersion": "sekuire.ai/v1alpha1", "kind": "PolicyRepository", "metadata": {"name": "policies"},
            "spec": {"url": repo.url(), "interval": "1s"},
        });
        for manifest in [key, repository] {
            cluster.apply(&manifest.to_string()).await.ok();
        }
        Site { cluster, client, repo, signer }
    }

    /// The document of a workspace that denies these tools.
    pub(crate) fn document(&self, workspace: &str, version: &str, denied: &[&str]) -> Value {
        self.document_as(workspace, version, "active", denied)
    }

    pub(crate) fn document_as(&self, workspace: &str, version: &str, status: &str, denied: &[&str]) -> Value {
        let content = json!({"agent": {"capabilities": {"denied_tools": denied}}});
        serde_json::from_str(&self.signer.document(workspace, version, status, content)).unwrap()
    }

    /// Commits these documents, each as the file of its workspace.
    pub(crate) async fn commit<'a>(&self, documents: impl IntoIterator<Item = &'a Value>) -> String {
        for document in documents {
            let path = format!("policies/{}.json", document["workspace_id"].as_str().unwrap());
            self.repo.write(&path, format!("{document:#}\n"));
        }
        self.repo.commit("Publish").await
    }

    /// A namespace of a workspace.
    pub(crate) async fn namespace(&self, workspace: &str) -> String {
        self.cluster.namespace_with("agents", &[(WORKSPACE_LABEL, workspace)]).await
    }

    pub(crate) fn policies(&self) -> Api<WorkspacePolicy> {
        Api::all(self.client.clone())
    }

    pub(crate) fn ledgers(&self) -> Api<PolicyLedger> {
        Api::all(self.client.clone())
    }

    pub(crate) fn agents(&self, namespace: &str) -> Api<Agent> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Waits until object and mark of a workspace are at this version, and the object says that it is enforced.
    pub(crate) async fn enforced(&self, name: &str, version: &str) {
        until(&format!("{name} is enforced at {version}"), async || self.is_at(name, version).await).await;
    }

    async fn is_at(&self, name: &str, version: &str) -> Result<(), String> {
        let policy = self.policies().get_opt(name).await.map_err(|e| e.to_string())?.ok_or("no object")?;
        let ledger = self.ledgers().get_opt(name).await.map_err(|e| e.to_string())?.ok_or("no ledger")?;
        at_version(&policy, &ledger, version)
    }

    /// Waits until object and mark of a workspace are at this version, whatever else is said of it.
    pub(crate) async fn enforced_marked(&self, name: &str, version: &str) {
        until(&format!("{name} is marked at {version}"), async || {
            let policy = self.policies().get_opt(name).await.map_err(|e| e.to_string())?.ok_or("no object")?;
            let ledger = self.ledgers().get_opt(name).await.map_err(|e| e.to_string())?.ok_or("no ledger")?;
            let conditions = policy.status.clone().unwrap_or_default().conditions;
            let enforced = conditions::find(&conditions, "Enforced")
                .is_some_and(|found| found.status == "True" && found.observed_generation == policy.metadata.generation);
            let there = (policy.spec.document["version"].as_str(), ledger.spec.version.to_string());
            if enforced && there == (Some(version), version.to_owned()) { Ok(()) } else { Err(format!("{there:?}")) }
        })
        .await;
    }

    /// The holder of the controllers' Lease, and when it took and renewed it.
    pub(crate) async fn lease(&self) -> (Option<String>, Option<jiff::Timestamp>, Option<jiff::Timestamp>) {
        self.lease_in(NAMESPACE).await
    }

    /// That of an installation in another namespace.
    pub(super) async fn lease_in(
        &self,
        namespace: &str,
    ) -> (Option<String>, Option<jiff::Timestamp>, Option<jiff::Timestamp>) {
        let path = format!("{}/sekuire-policy-controller", Lease::url_path(&(), Some(namespace)));
        let request = http::Request::get(path).body(Vec::new()).unwrap();
        // as text: somebody may have written what no type takes
        let lease: Value = match self.client.request_text(request).await {
            Ok(text) => serde_json::from_str(&text).unwrap(),
            Err(kube::Error::Api(status)) if status.code == 404 => Value::Null,
            Err(error) => panic!("{error}"),
        };
        let text = |field: &str| lease["spec"][field].as_str().filter(|text| !text.is_empty());
        let time = |field: &str| text(field).and_then(|time| time.parse().ok());
        (text("holderIdentity").map(str::to_owned), time("acquireTime"), time("renewTime"))
    }

    pub(crate) async fn led_by(&self, identity: &str) {
        until(&format!("{identity} leads"), async || {
            let (holder, ..) = self.lease().await;
            if holder.as_deref() == Some(identity) { Ok(()) } else { Err(format!("{holder:?}")) }
        })
        .await;
    }

    /// How often an Event of this reason was published about an object.
    pub(crate) async fn events(&self, name: &str, reason: &str) -> i32 {
        let request = http::Request::get(Event::url_path(&(), None)).body(Vec::new()).unwrap();
        // as text: somebody may have written what no type takes
        let all: Value = self.client.request(request).await.unwrap();
        let about = all["items"].as_array().unwrap().iter();
        let about = about.filter(|event| event["reason"] == reason && event["regarding"]["name"] == name);
        about
            .map(|event| event["series"]["count"].as_i64().unwrap_or(1))
            .map(|count| i32::try_from(count).unwrap())
            .sum()
    }

    /// The resourceVersions of everything that the controller writes when something has changed, and only then.
    pub(crate) async fn revisions(&self) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        self.add::<WorkspacePolicy>(&mut all).await;
        self.add::<PolicyLedger>(&mut all).await;
        self.add::<PolicyRepository>(&mut all).await;
        self.add::<SigningKey>(&mut all).await;
        self.add::<ValidatingWebhookConfiguration>(&mut all).await;
        all
    }

    async fn add<K: Resource<DynamicType = ()>>(&self, all: &mut BTreeMap<String, String>) {
        let request = http::Request::get(K::url_path(&(), None)).body(Vec::new()).unwrap();
        let list: Value = self.client.request(request).await.unwrap();
        for object in list["items"].as_array().unwrap() {
            let name = object["metadata"]["name"].as_str().unwrap();
            let version = object["metadata"]["resourceVersion"].as_str().unwrap();
            all.insert(format!("{}/{name}", K::plural(&())), version.to_owned());
        }
    }

    /// Waits until nothing is written any more: for three seconds, which is three looks at the repository.
    pub(crate) async fn at_rest(&self) -> BTreeMap<String, String> {
        let mut last = (Instant::now(), self.revisions().await);
        let deadline = Instant::now() + PATIENCE;
        loop {
            tokio::time::sleep(Duration::from_millis(250)).await;
            let now = self.revisions().await;
            if now != last.1 {
                let moved = differing(&last.1, &now);
                assert!(Instant::now() < deadline, "the controller writes on and on, last: {moved:?}");
                last = (Instant::now(), now);
            } else if last.0.elapsed() > Duration::from_secs(3) {
                return now;
            }
        }
    }

    /// That nothing is written for so long.
    pub(crate) async fn stays_at(&self, before: &BTreeMap<String, String>, how_long: Duration, when: &str) {
        let end = Instant::now() + how_long;
        while Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(250)).await;
            let now = self.revisions().await;
            let moved = differing(before, &now);
            if let Some(name) = moved.first() {
                let (kind, name) = name.split_once('/').unwrap();
                let object = self.cluster.kubectl(["get", kind, name, "-o", "yaml", "--show-managed-fields"]).await;
                panic!("written although nothing changed ({when}): {moved:?}\n{object}");
            }
        }
    }
}

pub(crate) fn at_version(policy: &WorkspacePolicy, ledger: &PolicyLedger, version: &str) -> Result<(), String> {
    let there = policy.spec.document["version"].as_str().unwrap_or_default();
    let mark = ledger.spec.version.to_string();
    let status = policy.status.clone().unwrap_or_default();
    let true_now = |kind: &str| {
        conditions::find(&status.conditions, kind)
            .is_some_and(|found| found.status == "True" && found.observed_generation == policy.metadata.generation)
    };
    if there == version && mark == version && true_now("Ready") && true_now("Enforced") {
        return Ok(());
    }
    Err(format!("object {there}, mark {mark}, {:?}", status.conditions))
}

pub(crate) fn differing(before: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> Vec<String> {
    let names = before.keys().chain(now.keys());
    let mut moved: Vec<String> = names.filter(|name| before.get(*name) != now.get(*name)).cloned().collect();
    moved.sort();
    moved.dedup();
    moved
}

/// The manifest of an agent that uses these tools.
pub(crate) fn agent(namespace: &str, name: &str, tools: &[&str]) -> Agent {
    let tools: Vec<Value> = tools.iter().map(|tool| json!({"name": tool})).collect();
    serde_json::from_value(json!({
        "apiVersion": "sekuire.ai/v1alpha1", "kind": "Agent",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"model": {"provider": "anthropic", "name": "claude"}, "tools": tools},
    }))
    .unwrap()
}

/// A request that changes nothing, and is judged all the same.
pub(crate) fn dry_run() -> PostParams {
    PostParams { dry_run: true, ..PostParams::default() }
}

/// Waits until it holds; after a minute and a half the test ends with the last reason why not.
pub(crate) async fn until<F: Future<Output = Result<(), E>>, E: Debug>(what: &str, mut holds: impl FnMut() -> F) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let Err(why) = holds().await else { return };
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}: {why:?}");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

/// Waits until a controller has written these words into its log.
pub(crate) async fn logged(controller: &Controller, words: &str) {
    until(&format!("the log says {words}"), async || {
        let log = controller.log();
        if log.contains(words) { Ok(()) } else { Err(log) }
    })
    .await;
}

/// Random numbers whose seed is printed, and is taken from `SEKUIRE_SEED` where that is set.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new() -> Random {
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos();
        let seed = env::var("SEKUIRE_SEED").map_or(u64::from(clock), |seed| seed.parse().expect("a number"));
        println!("SEKUIRE_SEED={seed}");
        Random(seed)
    }

    /// SplitMix64: any generator would do.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

#[derive(Default)]
struct Recorded {
    writes: usize,
    /// How often a watch broke off: what was written until the next one had begun was not seen.
    gaps: usize,
    versions: BTreeMap<String, Version>,
    faults: Vec<String>,
}

/// Watches all policies and ledgers: counts their writes, and notes every version that went down, or is none. Where a watch
/// broke off ([`History::gaps`]), only what had come of it is seen.
pub(crate) struct History {
    recorded: Arc<Mutex<Recorded>>,
    tasks: [JoinHandle<()>; 2],
}

impl History {
    pub(crate) fn record(client: &Client) -> History {
        let recorded = Arc::new(Mutex::new(Recorded::default()));
        let policies = follow(client.clone(), recorded.clone(), |policy: &WorkspacePolicy| {
            policy.spec.document["version"].as_str().and_then(|version| version.parse().ok())
        });
        let ledgers = follow(client.clone(), recorded.clone(), |ledger: &PolicyLedger| Some(ledger.spec.version));
        History { recorded, tasks: [tokio::spawn(policies), tokio::spawn(ledgers)] }
    }

    pub(crate) fn writes(&self) -> usize {
        self.recorded.lock().unwrap().writes
    }

    /// How often it did not see all.
    pub(crate) fn gaps(&self) -> usize {
        self.recorded.lock().unwrap().gaps
    }

    pub(crate) fn faults(&self) -> Vec<String> {
        self.recorded.lock().unwrap().faults.clone()
    }
}

impl Drop for History {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

fn follow<K>(
    client: Client,
    recorded: Arc<Mutex<Recorded>>,
    version: impl Fn(&K) -> Option<Version> + Send,
) -> impl Future<Output = ()> + Send
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let mut events = watcher(Api::<K>::all(client), watcher::Config::default()).boxed();
    async move {
        while let Some(event) = events.next().await {
            let object = match event {
                Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) => object,
                Ok(_) => continue,
                Err(_) => {
                    recorded.lock().unwrap().gaps += 1;
                    // a runtime that ends answers at once, for ever, and waits for this task
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let name = format!("{}/{}", K::plural(&()), object.name_any());
            let mut recorded = recorded.lock().unwrap();
            recorded.writes += 1;
            let Some(now) = version(&object) else {
                recorded.faults.push(format!("{name} has no version that can be read"));
                continue;
            };
            if let Some(before) = recorded.versions.insert(name.clone(), now).filter(|before| *before > now) {
                recorded.faults.push(format!("{name} went from {before} to {now}"));
            }
        }
    }
}
