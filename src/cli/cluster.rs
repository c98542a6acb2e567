//! The cluster of a kubeconfig, asked once and not watched.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::core::request::Request;
use kube::{Api, Client, Config, Resource};
use serde::de::DeserializeOwned;
use tokio::runtime::Runtime;

use super::proxy;
use super::terminal::Progress;
use crate::admission::index::{Enforced, PolicyIndex};
use crate::admission::mode::Label;
use crate::api::sent::{Sent, SentList};
use crate::api::{
    ENFORCEMENT_LABEL, PolicyLedger, SigningKey, SigningThreshold, WORKSPACE_LABEL, WorkspacePolicy, object_name,
};
use crate::controller::keys::Keys;
use crate::policy::KeyRing;

/// How long the cluster may take to accept a connection, and to answer.
const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(20);

/// Where help lists them. Given to each, since `next_help_heading` would go on behind them.
const HEADING: &str = "Cluster";

/// Which cluster is asked.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct ClusterArgs {
    /// Kubeconfig of the cluster. Default: as kubectl: KUBECONFIG, ~/.kube/config, or the
    /// service account of the pod.
    #[arg(long, value_name = "FILE", help_heading = HEADING)]
    kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig. Default: its current one.
    #[arg(long, value_name = "NAME", help_heading = HEADING)]
    context: Option<String>,
}

/// A cluster.
pub(super) struct Cluster {
    client: Client,
    /// Its address, for messages.
    server: String,
    /// The namespace of the context.
    namespace: String,
    runtime: Runtime,
}

/// Configuration of a client: this kubeconfig, or what the environment says.
pub(super) async fn config(kubeconfig: Option<&PathBuf>, context: Option<&str>) -> anyhow::Result<Config> {
    let found = match kubeconfig {
        Some(path) => {
            Some(read(path).with_context(|| format!("cannot read kubeconfig {}; see --kubeconfig", path.display()))?)
        }
        None => from_environment()?,
    };
    let Some(kubeconfig) = found else {
        if context.is_some() {
            bail!("found no kubeconfig; give --kubeconfig");
        }
        return Config::incluster().map_err(|_| {
            anyhow!(
                "found no cluster: no kubeconfig (KUBECONFIG, ~/.kube/config), and this is no pod; give --kubeconfig"
            )
        });
    };
    let proxy = proxy_of(&kubeconfig, context);
    let options = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &options).await?;
    // as kubectl, which lets NO_PROXY speak of the cluster, and not of the proxy
    config.proxy_url = match proxy {
        Some(proxy) => Some(proxy.parse().context("the kubeconfig has a proxy-url that is no URL")?),
        None if proxy::is_here(&config.cluster_url) => None,
        None => proxy::of_environment(&config.cluster_url)?,
    };
    Ok(config)
}

/// The files that kubectl would read: those of KUBECONFIG that are there, or the one at home. None where there is none.
fn from_environment() -> anyhow::Result<Option<Kubeconfig>> {
    let list = std::env::var_os("KUBECONFIG").unwrap_or_default();
    let mut files: Vec<PathBuf> = std::env::split_paths(&list).filter(|path| !path.as_os_str().is_empty()).collect();
    if files.is_empty() {
        files.extend(std::env::home_dir().map(|home| home.join(".kube/config")));
    }
    let mut merged: Option<Kubeconfig> = None;
    for file in files.iter().filter(|file| file.exists()) {
        let next = read(file).with_context(|| format!("cannot read kubeconfig {}", file.display()))?;
        merged = Some(match merged {
            Some(before) => before
                .merge(next)
                .with_context(|| format!("kubeconfig {} does not go with those before it", file.display()))?,
            None => next,
        });
    }
    // an empty file says as little as one that is not there
    Ok(merged
        .filter(|found| found.current_context.is_some() || !found.contexts.is_empty() || !found.clusters.is_empty()))
}

fn read(path: &Path) -> Result<Kubeconfig, KubeconfigError> {
    // what stands beside it is found from any folder
    let mut found = Kubeconfig::read_from(std::path::absolute(path).unwrap_or_else(|_| path.to_owned()))?;
    // kubectl takes an empty name for none
    found.current_context = found.current_context.filter(|name| !name.is_empty());
    Ok(found)
}

/// The proxy that the cluster of the context names.
fn proxy_of(kubeconfig: &Kubeconfig, context: Option<&str>) -> Option<String> {
    let context = context.or(kubeconfig.current_context.as_deref())?;
    let context = kubeconfig.contexts.iter().find(|named| named.name == context)?.context.as_ref()?;
    let cluster = kubeconfig.clusters.iter().find(|named| named.name == context.cluster)?;
    cluster.cluster.as_ref()?.proxy_url.clone().filter(|url| !url.is_empty())
}

impl ClusterArgs {
    /// Prepares to ask; nothing is sent yet.
    pub(super) fn connect(&self) -> anyhow::Result<Cluster> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (client, server, namespace) = runtime.block_on(async {
            let mut config = config(self.kubeconfig.as_ref(), self.context.as_deref()).await?;
            (config.connect_timeout, config.read_timeout) = (Some(CONNECT), Some(ANSWER));
            let (server, namespace) = (config.cluster_url.to_string(), config.default_namespace.clone());
            let client = Client::try_from(config).map_err(|error| match error {
                kube::Error::ProxyProtocolUnsupported { .. } | kube::Error::ProxyProtocolDisabled { .. } => {
                    anyhow!("the proxy of the kubeconfig, or of HTTPS_PROXY, cannot be used; expected http://host:port")
                }
                other => other.into(),
            })?;
            anyhow::Ok((client, server, namespace))
        })?;
        Ok(Cluster { client, server: server.trim_end_matches('/').to_owned(), namespace, runtime })
    }

    /// Whether somebody said which cluster is meant.
    pub(super) fn is_given(&self) -> bool {
        self.kubeconfig.is_some() || self.context.is_some()
    }

    /// The same, here or in a kubeconfig.
    pub(super) fn is_known(&self) -> bool {
        let home = std::env::home_dir().is_some_and(|home| home.join(".kube/config").exists());
        self.is_given() || home || std::env::var_os("KUBECONFIG").is_some()
    }
}

/// A cluster that is connected to when it is needed first.
pub(super) struct LazyCluster<'a> {
    args: &'a ClusterArgs,
    cluster: OnceCell<Cluster>,
}

impl<'a> LazyCluster<'a> {
    pub(super) fn new(args: &'a ClusterArgs) -> LazyCluster<'a> {
        LazyCluster { args, cluster: OnceCell::new() }
    }

    pub(super) fn get(&self) -> anyhow::Result<&Cluster> {
        if let Some(cluster) = self.cluster.get() {
            return Ok(cluster);
        }
        let cluster = self.args.connect()?;
        Ok(self.cluster.get_or_init(|| cluster))
    }
}

impl Cluster {
    /// The client, for what is not offered here.
    pub(super) fn client(&self) -> Client {
        self.client.clone()
    }

    /// Its address, for messages.
    pub(super) fn server(&self) -> &str {
        &self.server
    }

    /// The namespace of what does not say its own: that of the context, as kubectl has it.
    pub(super) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Runs what asks the cluster; `what` is said where that takes long, and where it fails.
    pub(super) fn ask<T>(&self, what: &str, asking: impl Future<Output = Result<T, kube::Error>>) -> anyhow::Result<T> {
        self.try_ask(what, asking).map_err(|error| self.explain(what, error))
    }

    /// As [`Cluster::ask`], with the error as it is.
    pub(super) fn try_ask<T>(
        &self,
        what: &str,
        asking: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, kube::Error> {
        let _progress = Progress::new(format!("waiting for {} ({what})", self.server));
        self.runtime.block_on(asking)
    }

    /// An error in words, with what to do.
    pub(super) fn explain(&self, what: &str, error: kube::Error) -> anyhow::Error {
        let server = &self.server;
        let advice = match &error {
            kube::Error::Api(status) if status.code == 401 => {
                "the cluster does not accept who the kubeconfig says you are: renew its token or certificate"
            }
            kube::Error::Api(status) if status.code == 403 => "ask for the right to do this (RBAC)",
            kube::Error::Api(status) if status.code == 404 && status.message.contains("page not found") => {
                "the cluster does not know this kind: apply the CRDs (`sekuire crds | kubectl apply --server-side -f -`)"
            }
            kube::Error::Api(_) => return anyhow!("{what}: {server} says: {error}"),
            kube::Error::Auth(_) => "renew the login that the kubeconfig names",
            _ => "see that it can be reached, or name another with --kubeconfig or --context",
        };
        anyhow::Error::new(error).context(format!("{what}: no answer from {server}; {advice}"))
    }

    /// All objects of a cluster-wide kind, or of all namespaces, also those that cannot be read as one.
    pub(super) fn list<K>(&self, what: &str) -> anyhow::Result<Vec<Sent<K>>>
    where
        K: Resource<DynamicType = ()> + DeserializeOwned,
    {
        const PAGE: u32 = 500;
        let request = Request::new(K::url_path(&(), None));
        let mut params = kube::api::ListParams::default().limit(PAGE);
        let mut all = Vec::new();
        loop {
            let page = request.list(&params)?;
            let page: SentList<K> = self.ask(what, self.client.request(page))?;
            all.extend(page.items.unwrap_or_default());
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params.continue_token = Some(token),
                None => return Ok(all),
            }
        }
    }

    /// An object of a cluster-wide kind, if there is one.
    pub(super) fn get<K>(&self, what: &str, name: &str) -> anyhow::Result<Option<Sent<K>>>
    where
        K: Resource<DynamicType = ()> + DeserializeOwned + Clone + std::fmt::Debug,
    {
        let api = Api::<Sent<K>>::all_with(self.client.clone(), &());
        self.ask(what, api.get_opt(name))
    }

    /// The workspace of a namespace and how it asks to be enforced, by its labels.
    pub(super) fn labels_of(&self, namespace: &str) -> anyhow::Result<(Option<String>, Label)> {
        let what = format!("cannot read the namespace {namespace}");
        let found = self.get::<Namespace>(&what, namespace)?.and_then(|sent| sent.object.ok());
        let labels = found.and_then(|namespace| namespace.metadata.labels).unwrap_or_default();
        let workspace = labels.get(WORKSPACE_LABEL).filter(|label| !label.is_empty()).cloned();
        Ok((workspace, Label::read(labels.get(ENFORCEMENT_LABEL).map(String::as_str))))
    }

    /// The keys that the cluster trusts, and how many of them have to sign.
    pub(super) fn keys(&self) -> anyhow::Result<KeyRing> {
        let mut keys = Keys::default();
        for sent in self.list::<SigningKey>("cannot read the trusted keys (SigningKey)")? {
            match sent.object {
                Ok(key) => keys.seen(*key),
                Err(unreadable) => keys.unreadable(&unreadable),
            }
        }
        for sent in self.list::<SigningThreshold>("cannot read how many keys have to sign (SigningThreshold)")? {
            match sent.object {
                Ok(threshold) => keys.threshold_seen(&threshold),
                Err(unreadable) => keys.threshold_unreadable(&unreadable),
            }
        }
        Ok(keys.ring())
    }

    /// All workspaces: their objects and ledgers, verified as a replica does that starts now.
    pub(super) fn index(&self, keys: KeyRing, now: Timestamp) -> anyhow::Result<PolicyIndex> {
        let index = PolicyIndex::default();
        index.keys_changed(keys, now);
        for sent in self.list::<WorkspacePolicy>("cannot read the policies (WorkspacePolicy)")? {
            match sent.object {
                Ok(object) => index.object_seen(*object, now),
                Err(unreadable) => index.object_unreadable(&unreadable, now),
            }
        }
        for sent in self.list::<PolicyLedger>("cannot read the accepted versions (PolicyLedger)")? {
            match sent.object {
                Ok(ledger) => index.ledger_seen(*ledger, now),
                Err(unreadable) => index.ledger_unreadable(&unreadable, now),
            }
        }
        Ok(index)
    }

    /// What is enforced in a workspace: its object and its ledger, verified as a replica does that starts now.
    pub(super) fn enforced(&self, workspace: &str, keys: KeyRing, now: Timestamp) -> anyhow::Result<Enforced> {
        let name = object_name(workspace);
        let index = PolicyIndex::default();
        index.keys_changed(keys, now);
        let what = format!("cannot read the policy of {workspace} (WorkspacePolicy {name})");
        match self.get::<WorkspacePolicy>(&what, &name)? {
            None => return Ok(Enforced::None { why: format!("there is no WorkspacePolicy {name}").into() }),
            Some(Sent { object: Ok(object), .. }) => {
                if object.spec.workspace != workspace {
                    bail!("the WorkspacePolicy {name} is for {}, not for {workspace}", object.spec.workspace);
                }
                index.object_seen(*object, now);
            }
            Some(Sent { object: Err(unreadable), .. }) => index.object_unreadable(&unreadable, now),
        }
        match self.get::<PolicyLedger>(&format!("cannot read the PolicyLedger {name}"), &name)? {
            Some(Sent { object: Ok(ledger), .. }) => index.ledger_seen(*ledger, now),
            Some(Sent { object: Err(unreadable), .. }) => index.ledger_unreadable(&unreadable, now),
            None => {}
        }
        Ok(index.enforced(workspace))
    }
}
