//! One platform team of many: a repository, a key and workspaces of its own, in a cluster and under a controller that all
//! tests of this module share.

use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client};
use sekuire_policy::api::{
    Agent, PolicyLedger, PolicyRepository, PolicyRepositoryStatus, SigningKey, WorkspacePolicy, conditions, object_name,
};
use serde_json::{Value, json};
use tokio::sync::{Mutex, OnceCell};

use crate::cluster::{Cluster, Controller, ControllerOptions, GitRepo, Signer};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
static CONTROLLER: OnceCell<Controller> = OnceCell::const_new();
static NEXT: AtomicU16 = AtomicU16::new(1);

/// Held by whoever floods a server: what others still get is measured with one flood at a time.
pub(crate) static FLOOD: Mutex<()> = Mutex::const_new(());

/// A platform team.
pub(crate) struct Tenant {
    pub(crate) cluster: &'static Cluster,
    pub(crate) controller: &'static Controller,
    pub(crate) client: Client,
    pub(crate) repo: GitRepo,
    pub(crate) signer: Signer,
    /// Name of its repository and key, and beginning of its workspaces.
    pub(crate) name: String,
}

impl Tenant {
    /// A team whose key is trusted, and whose repository is not watched yet.
    pub(crate) async fn new() -> Tenant {
        let cluster = CLUSTER.get_or_init(Cluster::start).await;
        cluster.install_crds().await;
        let controller = CONTROLLER.get_or_init(|| ControllerOptions::new("a").api().receiver().start(cluster)).await;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let tenant = Tenant {
            cluster,
            controller,
            client: cluster.client().await,
            repo: GitRepo::new().await,
            signer: Signer::new(number),
            name: format!("team{number}"),
        };
        tenant.apply(&tenant.signer.manifest(&tenant.name, &[&format!("{}_*", tenant.name)])).await;
        tenant
    }

    /// A team with these files committed, whose repository is watched.
    pub(crate) async fn with_files(files: impl AsyncFnOnce(&Tenant)) -> Tenant {
        let tenant = Tenant::new().await;
        files(&tenant).await;
        tenant.watch_repository(json!({})).await;
        tenant
    }

    /// A key of its own that no `SigningKey` names.
    pub(crate) fn stranger(&self) -> Signer {
        Signer::new(1000 + self.name.trim_start_matches("team").parse::<u16>().unwrap())
    }

    /// Id of the workspace `NAME_suffix`.
    pub(crate) fn workspace(&self, suffix: &str) -> String {
        format!("{}_{suffix}", self.name)
    }

    /// Rules that forbid a tool.
    pub(crate) fn forbids(tool: &str) -> Value {
        json!({"agent": {"capabilities": {"denied_tools": [tool]}}})
    }

    /// A signed, active document.
    pub(crate) fn active(&self, suffix: &str, version: &str, tool: &str) -> String {
        self.signer.active(&self.workspace(suffix), version, Self::forbids(tool))
    }

    /// A signed document of another status.
    pub(crate) fn document(&self, suffix: &str, version: &str, status: &str, tool: &str) -> String {
        self.signer.document(&self.workspace(suffix), version, status, Self::forbids(tool))
    }

    /// Writes these files below `policies/`, commits and pushes. Returns the commit.
    pub(crate) async fn commit(&self, files: &[(&str, &str)]) -> String {
        for (path, content) in files {
            self.repo.write(&format!("policies/{path}"), content);
        }
        self.repo.commit("change").await
    }

    /// Creates or changes the `PolicyRepository`; `more` is merged into its spec.
    pub(crate) async fn watch_repository(&self, more: Value) {
        let mut spec = json!({
            "url": self.repo.url(), "interval": "1s", "ref": {"branch": "main"},
            "workspaces": [format!("{}_*", self.name)],
        });
        for (member, value) in more.as_object().unwrap() {
            spec[member] = value.clone();
        }
        let repository = json!({
            "apiVersion": "sekuire.ai/v1alpha1", "kind": "PolicyRepository",
            "metadata": {"name": self.name}, "spec": spec,
        });
        self.apply(&repository).await;
    }

    /// Has the repository looked at once an hour, and waits until the look is over that this change asks for: from then on
    /// nothing but what the test does has anything judged again.
    pub(crate) async fn quiet(&self) {
        self.watch_repository(json!({"interval": "1h"})).await;
        let generation = self.repositories().get(&self.name).await.unwrap().metadata.generation;
        self.repository("looked at", |status| status.observed_generation == generation).await;
    }

    /// Server-side apply of any object of our group or the core.
    pub(crate) async fn apply(&self, object: &Value) {
        self.try_apply(object).await.unwrap();
    }

    /// As `apply`, with what the API server says.
    pub(crate) async fn try_apply(&self, object: &Value) -> Result<DynamicObject, kube::Error> {
        let (group, version) = object["apiVersion"].as_str().unwrap().split_once('/').unwrap_or(("", "v1"));
        let kind = object["kind"].as_str().unwrap();
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        let api: Api<DynamicObject> = match object["metadata"]["namespace"].as_str() {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        };
        let name = object["metadata"]["name"].as_str().unwrap();
        api.patch(name, &PatchParams::apply("tests").force(), &Patch::Apply(object)).await
    }

    pub(crate) fn policies(&self) -> Api<WorkspacePolicy> {
        Api::all(self.client.clone())
    }

    pub(crate) fn ledgers(&self) -> Api<PolicyLedger> {
        Api::all(self.client.clone())
    }

    pub(crate) fn keys(&self) -> Api<SigningKey> {
        Api::all(self.client.clone())
    }

    pub(crate) fn repositories(&self) -> Api<PolicyRepository> {
        Api::all(self.client.clone())
    }

    /// The object of a workspace.
    pub(crate) async fn policy(&self, suffix: &str) -> WorkspacePolicy {
        self.policies().get(&object_name(&self.workspace(suffix))).await.unwrap()
    }

    /// Waits until `Ready` of a workspace, as its object is now, has this status and reason. Returns the object.
    pub(crate) async fn ready(&self, suffix: &str, status: &str, reason: &str) -> WorkspacePolicy {
        self.condition(suffix, "Ready", status, reason).await
    }

    /// Waits until a condition of a workspace, as its object is now, has this status and reason. Returns the object.
    pub(crate) async fn condition(&self, suffix: &str, type_: &str, status: &str, reason: &str) -> WorkspacePolicy {
        let name = object_name(&self.workspace(suffix));
        eventually(&format!("{type_}={status} {reason} of {name}"), async || {
            let object = self.policies().get_opt(&name).await.unwrap().ok_or("no object")?;
            let conditions = object.status.clone().unwrap_or_default().conditions;
            let generation = object.metadata.generation;
            let found = conditions::find(&conditions, type_)
                .is_some_and(|c| c.status == status && c.reason == reason && c.observed_generation == generation);
            if found { Ok(object) } else { Err(format!("{conditions:#?}")) }
        })
        .await
    }

    /// Waits until a version is enforced: it is in the object and marked, and the leader decides by it.
    pub(crate) async fn enforced(&self, suffix: &str, version: &str) -> WorkspacePolicy {
        let name = object_name(&self.workspace(suffix));
        eventually(&format!("version {version} of {name} enforced"), async || {
            let object = self.policies().get_opt(&name).await.unwrap().ok_or("no object")?;
            let last = || format!("{} {:#?}", object.spec.document["version"], object.status);
            if is_enforced(&object, version) { Ok(object) } else { Err(last()) }
        })
        .await
    }

    /// Publishes a policy of a workspace that holds for a short time, and waits until it is enforced and an agent was admitted
    /// by it. On a busy machine its time may be over before: then the next version holds for longer. Returns its version and
    /// its commit.
    pub(crate) async fn enforce_for_a_time(&self, suffix: &str, first: u32, namespace: &str) -> (String, String) {
        for (version, seconds) in (first..).zip([15, 45, 135]) {
            let ends = Timestamp::now() + SignedDuration::from_secs(seconds);
            let workspace = self.workspace(suffix);
            let document = self.signer.sign(json!({
                "policy_id": format!("policy_{workspace}"), "workspace_id": workspace, "version": version.to_string(),
                "status": "active", "content": {}, "expires_at": ends.to_string(),
            }));
            let commit = self.commit(&[(&format!("{suffix}.json"), &document.to_string())]).await;
            while Timestamp::now() < ends {
                let object = self.policies().get_opt(&object_name(&workspace)).await.unwrap();
                let enforced = object.is_some_and(|object| is_enforced(&object, &version.to_string()));
                if enforced && self.try_agent(namespace, "calculator").await.is_ok() {
                    return (version.to_string(), commit);
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        panic!("no version was enforced before it had expired");
    }

    /// Waits until the status of the repository says so.
    pub(crate) async fn repository(
        &self,
        what: &str,
        wanted: impl Fn(&PolicyRepositoryStatus) -> bool,
    ) -> PolicyRepositoryStatus {
        eventually(&format!("{}: {what}", self.name), async || {
            let status = self.repositories().get(&self.name).await.unwrap().status.unwrap_or_default();
            if wanted(&status) { Ok(status) } else { Err(format!("{status:#?}")) }
        })
        .await
    }

    /// Waits until a commit was worked through.
    pub(crate) async fn synced(&self, commit: &str) -> PolicyRepositoryStatus {
        let revision = format!("main@sha1:{commit}");
        self.repository(&format!("at {revision}"), |status| status.last_applied_revision.as_ref() == Some(&revision))
            .await
    }

    /// Waits until the repository is not ready for this reason. Returns its message.
    pub(crate) async fn repository_fails(&self, reason: &str) -> String {
        let is = |status: &PolicyRepositoryStatus| {
            conditions::find(&status.conditions, "Ready").is_some_and(|c| c.status == "False" && c.reason == reason)
        };
        let status = self.repository(&format!("Ready=False {reason}"), is).await;
        conditions::find(&status.conditions, "Ready").unwrap().message.clone()
    }

    /// A namespace that belongs to a workspace.
    pub(crate) async fn namespace(&self, suffix: &str) -> String {
        let workspace = self.workspace(suffix);
        self.cluster.namespace_with("agents", &[("sekuire.ai/workspace", &workspace)]).await
    }

    /// What the API server says to an agent with one tool: `Ok`, or the message of the refusal.
    pub(crate) async fn try_agent(&self, namespace: &str, tool: &str) -> Result<(), String> {
        let agent: Agent = serde_json::from_value(json!({
            "apiVersion": "sekuire.ai/v1alpha1", "kind": "Agent", "metadata": {"generateName": "probe-"},
            "spec": {"model": {"provider": "openai", "name": "gpt-4"}, "tools": [{"name": tool}]},
        }))
        .unwrap();
        let api: Api<Agent> = Api::namespaced(self.client.clone(), namespace);
        let dry_run = PostParams { dry_run: true, ..PostParams::default() };
        match api.create(&dry_run, &agent).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) => Err(status.message.clone()),
            Err(error) => panic!("{error}"),
        }
    }

    /// Waits until an agent with this tool is admitted.
    pub(crate) async fn admits(&self, namespace: &str, tool: &str) {
        eventually(&format!("{tool} admitted in {namespace}"), async || self.try_agent(namespace, tool).await).await;
    }

    /// Waits until an agent with this tool is refused for this rule. Returns the message.
    pub(crate) async fn refuses(&self, namespace: &str, tool: &str, rule: &str) -> String {
        eventually(&format!("{tool} refused in {namespace} by {rule}"), async || {
            match self.try_agent(namespace, tool).await {
                Err(message) if message.contains(&format!("[{rule}]")) => Ok(message),
                other => Err(format!("{other:?}")),
            }
        })
        .await
    }
}

/// Whether the object holds this version and says that it is enforced. The object is written first, its status last: one of
/// the version before says nothing of this one.
fn is_enforced(object: &WorkspacePolicy, version: &str) -> bool {
    let conditions = object.status.as_ref().map(|status| &*status.conditions).unwrap_or_default();
    let enforced = conditions::find(conditions, "Enforced");
    let now = enforced.filter(|condition| condition.observed_generation == object.metadata.generation);
    object.spec.document["version"] == version && now.is_some_and(|condition| condition.status == "True")
}

/// Asks until the answer is `Ok`; after a minute the last one ends the test.
pub(crate) async fn eventually<T, E: std::fmt::Display>(what: &str, mut ask: impl AsyncFnMut() -> Result<T, E>) -> T {
    let start = Instant::now();
    loop {
        match ask().await {
            Ok(found) => return found,
            Err(last) if start.elapsed() > PATIENCE => panic!("never: {what}; last: {last}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}
