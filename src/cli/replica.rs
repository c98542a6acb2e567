//! One replica from start to end.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use kube::Client;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::{cluster, data_folder};
use crate::admission::certificates::{Certificates, SETTLE};
use crate::admission::registration::{self, Registration, Target};
use crate::admission::routes::Bodies;
use crate::admission::{self, Files, Names, ReadApi, Routes, SECRET_NAME, SecretSource, Webhook, server};
use crate::controller::answer;
use crate::controller::caches::{self, Caches};
use crate::controller::events::Events;
use crate::controller::installation::{self, Installation};
use crate::controller::lead;
use crate::controller::lease::{Election, Leading};
use crate::controller::rollout;
use crate::controller::secrets::Secrets;
use crate::git::{Git, Limits, Sandbox};
use crate::receiver::{self, Endpoints, Hooks};
use crate::telemetry::{self, metrics};

/// How long the end may wait for the Lease to be given back.
const RELEASE: Duration = Duration::from_secs(5);

/// Where the serving certificate comes from.
#[derive(Clone, Debug)]
pub enum Tls {
    /// From a Secret that the replicas keep.
    Own,
    /// From files that somebody else keeps.
    Files {
        /// Chain, PEM.
        certificate: PathBuf,
        /// Private key, PEM.
        key: PathBuf,
        /// CA, PEM.
        ca: PathBuf,
    },
}

/// How to run.
#[derive(Clone, Debug)]
pub struct Config {
    /// Kubeconfig; `None`: what the environment says.
    pub kubeconfig: Option<PathBuf>,
    /// Name of this replica.
    pub identity: Option<String>,
    /// Folder of the clones.
    pub data_dir: PathBuf,
    /// Namespace of the controller's own objects.
    pub namespace: String,
    /// Address of the webhook.
    pub listen: SocketAddr,
    /// Address of the read API; `None`: it is not served.
    pub api_listen: Option<SocketAddr>,
    /// Address of the receiver; `None`: it is not served.
    pub receiver_listen: Option<SocketAddr>,
    /// Address of the metrics; `None`: they are not served.
    pub metrics_listen: Option<SocketAddr>,
    /// URL of the webhook, where the API server does not reach it through a Service.
    pub webhook_url: Option<String>,
    /// Service of the webhook.
    pub webhook_service: String,
    /// ClusterRole that owns a webhook configuration which is made here.
    pub owner: Option<String>,
    /// Name of the ValidatingAdmissionPolicy that protects the labels of namespaces, and of its binding.
    pub label_policy: Option<String>,
    /// The serving certificate.
    pub tls: Tls,
    /// Accept `file://` and `http://` repositories.
    pub allow_insecure_git_urls: bool,
    /// After how long a silence a watch counts as dead.
    pub watch_silence: Duration,
    /// How long a replica that goes still answers.
    pub shutdown_delay: Duration,
}

/// Runs one replica until SIGTERM or SIGINT.
///
/// # Errors
/// What keeps it from starting; or a part of it ended that should not have.
pub async fn run(config: Config) -> anyhow::Result<()> {
    data_folder::take(&config.data_dir)?;
    let client = answer::client(cluster::config(config.kubeconfig.as_ref(), None).await?)?;
    let identity = config.identity.clone().unwrap_or_else(|| default_identity(&config.data_dir));
    let shutdown = CancellationToken::new();
    tokio::spawn(signals(shutdown.clone())?);
    let mut tasks = JoinSet::new();
    let caches = caches::start(&client, config.watch_silence, &mut tasks);
    let labels = config.label_policy.as_deref();
    rollout::start(&client, &caches.index, registration::CONFIGURATION_NAME, labels, &mut tasks);
    let exe = std::env::current_exe().context("cannot find this program, which the fetch children are started from")?;
    let git = Git::new(exe, config.data_dir.clone(), Limits::default(), config.allow_insecure_git_urls);
    tokio::spawn(tell_of_sandbox(git.clone()));
    let secrets = Secrets::new(client.clone(), &config.namespace);
    let events = Events::new(client.clone(), &identity);
    let (election, held) = Election::new(client.clone(), &config.namespace, &identity);
    let mut election = tokio::spawn(election.run(shutdown.clone()));
    let revision = telemetry::revision();
    tracing::info!(replica = %identity, namespace = %config.namespace, version = env!("CARGO_PKG_VERSION"), revision, "controller started");
    let installation = Installation::new(client.clone(), &config.namespace);
    let (sender, leading) = tokio::sync::watch::channel(None);
    let leading = Leading::from(leading);
    tasks.spawn(installation::stand_aside(installation.clone(), held, sender, events.clone()));
    tasks.spawn(lead_while_elected(
        client.clone(),
        git,
        secrets.clone(),
        caches.clone(),
        events.clone(),
        leading.clone(),
    ));
    let endpoints = config.receiver_listen.map(|_| Arc::new(Endpoints::new(secrets)));
    if let Some(endpoints) = endpoints.clone() {
        tasks.spawn(endpoints.follow(client.clone(), caches.repositories.clone()));
    }
    let (repositories, told) = (caches.repositories.clone(), events.clone());
    tasks.spawn(receiver::report(client.clone(), endpoints.clone(), repositories, leading.clone(), told));
    tokio::select! {
        ended = tasks.join_next() => bail!("a task that runs for ever has ended: {ended:?}"),
        ended = &mut election => bail!("the election has ended: {ended:?}"),
        served = serve(&config, installation, &events, caches, endpoints, leading, shutdown) => served?,
    }
    // it ends when the Lease is given back and nobody asks any more who leads
    tasks.shutdown().await;
    if tokio::time::timeout(RELEASE, election).await.is_err() {
        tracing::warn!("Lease not released; it ends by itself");
    }
    Ok(())
}

/// Says once what Git processes are locked in by on this machine, and what its kernel cannot.
async fn tell_of_sandbox(git: Git) {
    match git.sandbox().await {
        Ok(sandbox) => {
            sandbox.parts().into_iter().for_each(|(part, kept)| metrics().git_sandbox(part, kept));
            log_sandbox(sandbox);
        }
        Err(error) => tracing::error!(%error, "Git processes cannot be locked in: no repository is read"),
    }
}

fn log_sandbox(Sandbox { files, network, system_calls }: Sandbox) {
    if files && network && system_calls {
        tracing::info!(files, network, system_calls, "Git processes are locked in");
    } else {
        tracing::warn!(
            files,
            network,
            system_calls,
            "Git processes are not wholly locked in: the kernel lacks Landlock or seccomp"
        );
    }
}

/// The same after a restart, so that a replica that was killed takes its own Lease back at once; another for each
/// folder, so that two replicas on one machine are two.
fn default_identity(data_dir: &Path) -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let folder = data_dir.canonicalize().unwrap_or_else(|_| data_dir.to_owned());
    let digest = blake3::hash(folder.as_os_str().as_encoded_bytes()).to_hex();
    format!("{host}-{}", &digest.as_str()[..8])
}

fn signals(shutdown: CancellationToken) -> anyhow::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        tracing::info!("told to stop");
        shutdown.cancel();
    })
}

async fn lead_while_elected(
    client: Client,
    git: Git,
    secrets: Secrets,
    caches: Caches,
    events: Events,
    mut leading: Leading,
) {
    loop {
        leading.wait_for(true).await;
        tracing::info!("leading");
        let deposed = leading.clone();
        tokio::select! {
            // the tasks of a leader only end by a fault of ours: the process is to be started again
            () = lead::lead(client.clone(), git.clone(), secrets.clone(), caches.clone(), events.clone(), deposed) => return,
            () = leading.wait_for(false) => tracing::info!("no longer leading"),
        }
    }
}

/// Serves admission, and the read API and the receiver if they were asked for, until `shutdown`, with certificate and
/// registration.
async fn serve(
    config: &Config,
    installation: Installation,
    events: &Events,
    caches: Caches,
    endpoints: Option<Arc<Endpoints>>,
    leading: Leading,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let (client, (target, names)) = (installation.client(), reached_at(config)?);
    let certificates = Arc::new(Certificates::new(names, SETTLE, Timestamp::now())?);
    let mut tasks = JoinSet::new();
    keep_certificate(config, &client, &certificates, &shutdown, &mut tasks);
    let sources = telemetry::Sources {
        index: caches.index.clone(),
        keys: caches.keys.clone(),
        repositories: caches.repositories.clone(),
        certificates: certificates.clone(),
        leading: leading.clone(),
    };
    let registration = Registration {
        name: registration::CONFIGURATION_NAME.to_owned(),
        target,
        owner: config.owner.clone(),
        namespace: config.namespace.clone(),
    };
    tasks.spawn(registration::run(
        client,
        installation,
        registration,
        certificates.clone(),
        leading,
        events.clone(),
        shutdown.clone(),
    ));
    let (serving, delay) = (certificates.serving(), config.shutdown_delay);
    let listener = server::listen(config.listen, "--webhook-listen").await?;
    let webhook = Arc::new(Webhook::new(caches.index.clone()));
    let routes = Routes::new(webhook, serving.clone(), &Bodies::default());
    let limits = server::Limits { shutdown_delay: delay, ..server::Limits::default() };
    let webhook = server::serve(listener, serving.clone(), routes, limits, shutdown.clone());
    let read_api = async {
        let Some(address) = config.api_listen else { return Ok(()) };
        let listener = server::listen(address, "--api-listen").await?;
        let (api, limits) = (ReadApi::new(caches.index), server::Limits::brief(delay));
        server::serve(listener, serving.clone(), api, limits, shutdown.clone()).await
    };
    let hooks = endpoints.map(Hooks::new).transpose()?;
    let receiver = async {
        let (Some(address), Some(hooks)) = (config.receiver_listen, hooks) else { return Ok(()) };
        let listener = server::listen(address, "--receiver-listen").await?;
        server::serve(listener, serving.clone(), hooks, server::Limits::brief(delay), shutdown.clone()).await
    };
    let metrics = async {
        let Some(address) = config.metrics_listen else { return Ok(()) };
        let listener = server::listen(address, "--metrics-listen").await?;
        let limits = server::Limits::brief(delay);
        server::serve_plain(listener, telemetry::Exposition::new(sources), limits, shutdown.clone()).await;
        Ok(())
    };
    tokio::select! {
        served = async { tokio::try_join!(webhook, read_api, receiver, metrics) } => Ok(served.map(drop)?),
        ended = ends_too_soon(&mut tasks, &shutdown) => bail!("a task that runs until the end has ended: {ended:?}"),
    }
}

/// How a task ended that should run until `shutdown`: a replica that no longer renews its certificate, or puts the webhook
/// configuration back, is to be started again.
async fn ends_too_soon(tasks: &mut JoinSet<()>, shutdown: &CancellationToken) -> Option<Result<(), JoinError>> {
    let ended = tasks.join_next().await;
    if shutdown.is_cancelled() {
        std::future::pending::<()>().await;
    }
    ended
}

/// Keeps the serving certificate true, from where it comes.
fn keep_certificate(
    config: &Config,
    client: &Client,
    certificates: &Arc<Certificates>,
    shutdown: &CancellationToken,
    tasks: &mut JoinSet<()>,
) {
    match &config.tls {
        Tls::Own => {
            let source = SecretSource { namespace: config.namespace.clone(), name: SECRET_NAME.to_owned() };
            tasks.spawn(admission::keep_secret(client.clone(), source, certificates.clone(), shutdown.clone()));
        }
        Tls::Files { certificate, key, ca } => {
            let files = Files { certificate: certificate.clone(), key: key.clone(), authority: Some(ca.clone()) };
            tasks.spawn(admission::follow_files(files, certificates.clone(), shutdown.clone()));
        }
    }
}

/// Where the API server finds the webhook, and the names that its certificate is made for.
fn reached_at(config: &Config) -> anyhow::Result<(Target, Names)> {
    let Some(url) = &config.webhook_url else {
        let (name, namespace) = (config.webhook_service.clone(), config.namespace.clone());
        let names = Names::of_service(&name, &namespace);
        return Ok((Target::Service { namespace, name, port: 443 }, names));
    };
    let wrong = || format!("--webhook-url {url}: give https://HOST:PORT, as the API server reaches this machine");
    let parsed = url::Url::parse(url).with_context(wrong)?;
    let names = Names::of_url(&parsed).filter(|_| parsed.scheme() == "https").with_context(wrong)?;
    Ok((Target::at(&parsed), names))
}
