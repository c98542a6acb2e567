//! The real controller, as a process of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, Config,
    api::{ObjectMeta, PostParams},
};
use rustix::process::Signal;

use super::{guard::Process, leaks, pki::User, ports::Port, server::Cluster};

/// The namespace of the controller's own objects.
pub(crate) const NAMESPACE: &str = "sekuire-system";

/// How long a controller may take to become ready or to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a replica is started.
#[derive(Clone, Debug)]
pub(crate) struct ControllerOptions {
    identity: String,
    namespace: String,
    kubeconfig: Option<PathBuf>,
    api: bool,
    receiver: bool,
    metrics: bool,
    strict: bool,
    program: Option<PathBuf>,
    listen: &'static str,
    flags: Vec<String>,
    env: Vec<(String, String)>,
}

impl ControllerOptions {
    /// A replica whose name in the lease, and whose folder, is `identity`.
    pub(crate) fn new(identity: &str) -> ControllerOptions {
        let (flags, env) = (Vec::new(), Vec::new());
        let (identity, namespace) = (identity.to_owned(), NAMESPACE.to_owned());
        ControllerOptions {
            identity,
            namespace,
            kubeconfig: None,
            api: false,
            receiver: false,
            metrics: false,
            strict: false,
            program: None,
            listen: "127.0.0.1",
            flags,
            env,
        }
    }

    /// Other credentials than the administrator's, or another way to the API server.
    pub(crate) fn kubeconfig(mut self, path: PathBuf) -> Self {
        self.kubeconfig = Some(path);
        self
    }

    /// With the read API.
    pub(crate) fn api(mut self) -> Self {
        self.api = true;
        self
    }

    /// With the receiver.
    pub(crate) fn receiver(mut self) -> Self {
        self.receiver = true;
        self
    }

    /// With metrics.
    pub(crate) fn metrics(mut self) -> Self {
        self.metrics = true;
        self
    }

    /// One of another installation, in a namespace of its own.
    pub(crate) fn namespace(mut self, namespace: &str) -> Self {
        namespace.clone_into(&mut self.namespace);
        self
    }

    /// As in production: `file://` and `http://` repositories are refused.
    pub(crate) fn strict(mut self) -> Self {
        self.strict = true;
        self
    }

    /// Another program than the one that is tested, such as that of another version.
    pub(crate) fn program(mut self, path: PathBuf) -> Self {
        self.program = Some(path);
        self
    }

    /// Listens here, with brackets where it is IPv6, and not on 127.0.0.1 alone.
    pub(crate) fn listen(mut self, host: &'static str) -> Self {
        self.listen = host;
        self
    }

    /// More flags of `sekuire controller`.
    pub(crate) fn flags<const N: usize>(mut self, flags: [&str; N]) -> Self {
        self.flags.extend(flags.map(str::to_owned));
        self
    }

    /// An environment variable, such as `RUST_LOG`.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts it, and waits until it serves verified policies.
    pub(crate) async fn start(self, cluster: &Cluster) -> Controller {
        let mut controller = self.spawn(cluster).await;
        controller.ready().await;
        controller
    }

    /// Starts it, and does not wait.
    pub(crate) async fn spawn(self, cluster: &Cluster) -> Controller {
        make_namespace(cluster, &self.namespace).await;
        let folder = cluster.folder().join(format!("controller-{}", self.identity));
        fs::create_dir_all(&folder).expect("make the controller's folder");
        let port = Port::reserve();
        let host = self.listen;
        let kubeconfig = self.kubeconfig.unwrap_or_else(|| cluster.kubeconfig(User::ADMIN));
        let mut args = vec![
            "controller".to_owned(),
            format!("--kubeconfig={}", kubeconfig.display()),
            format!("--namespace={}", self.namespace),
            format!("--webhook-listen={host}:{}", port.number()),
            format!("--identity={}", self.identity),
        ];
        if !self.flags.iter().any(|flag| flag.starts_with("--data-dir")) {
            args.push(format!("--data-dir={}", folder.join("data").display()));
        }
        // behind a Service nobody reaches it here, as there are no nodes
        if !self.flags.iter().any(|flag| flag.starts_with("--webhook-service")) {
            args.push(format!("--webhook-url=https://127.0.0.1:{}", port.number()));
        }
        if !self.strict {
            args.push("--allow-insecure-git-urls".to_owned());
        }
        if !self.flags.iter().any(|flag| flag.starts_with("--shutdown-delay")) {
            args.push("--shutdown-delay=0".to_owned()); // no endpoints drain here
        }
        let api = self.api.then(Port::reserve);
        args.extend(api.iter().map(|port| format!("--api-listen={host}:{}", port.number())));
        let receiver = self.receiver.then(Port::reserve);
        args.extend(receiver.iter().map(|port| format!("--receiver-listen={host}:{}", port.number())));
        let metrics = self.metrics.then(Port::reserve);
        args.extend(metrics.iter().map(|port| format!("--metrics-listen={host}:{}", port.number())));
        args.extend(self.flags);
        let chosen =
            args.iter().any(|arg| arg.starts_with("--log=")) || self.env.iter().any(|(name, _)| name == "SEKUIRE_LOG");
        let mut env = self.env;
        // what another version says is not what is checked
        let shared = if self.program.is_some() { None } else { leaks::log_file(&self.identity) };
        let (log, detailed) = match shared {
            Some(log) => (log, !chosen),
            None => (folder.join("log"), false),
        };
        if detailed {
            env.push(("SEKUIRE_LOG".to_owned(), "trace".to_owned()));
        }
        let (program, identity) = (self.program.unwrap_or_else(sekuire), self.identity);
        let process = Process::start(&program, &args, &env, &log);
        Controller { identity, program, args, env, port, api, receiver, metrics, folder, log, detailed, process }
    }
}

/// One replica of the controller. Dropping it kills it.
pub(crate) struct Controller {
    identity: String,
    program: PathBuf,
    args: Vec<String>,
    env: Vec<(String, String)>,
    port: Port,
    api: Option<Port>,
    receiver: Option<Port>,
    metrics: Option<Port>,
    folder: PathBuf,
    log: PathBuf,
    /// It logs more than it was told to, for the check for leaks.
    detailed: bool,
    process: Process,
}

impl Controller {
    /// One replica with nothing special; ready when this returns.
    pub(crate) async fn start(cluster: &Cluster) -> Controller {
        ControllerOptions::new("a").start(cluster).await
    }

    /// How it was started, as one would type it.
    pub(crate) fn command_line(&self) -> String {
        format!("sekuire {}", self.args.join(" "))
    }

    /// Lets it run until this process ends, and, where [`Cluster::keep`] says so, longer.
    pub(crate) fn keep_running(self) {
        std::mem::forget(self);
    }

    /// Its name in the lease.
    pub(crate) fn identity(&self) -> &str {
        &self.identity
    }

    /// `https://127.0.0.1:…` of webhook, `/readyz` and `/healthz`.
    pub(crate) fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port.number())
    }

    /// `https://127.0.0.1:…` of the read API, which it was started with.
    pub(crate) fn api_url(&self) -> String {
        format!("https://127.0.0.1:{}", self.api.as_ref().expect("started with it").number())
    }

    /// `https://127.0.0.1:…` of the receiver, which it was started with.
    pub(crate) fn receiver_url(&self) -> String {
        format!("https://127.0.0.1:{}", self.receiver.as_ref().expect("started with it").number())
    }

    /// `127.0.0.1:…` of the metrics, which it was started with.
    pub(crate) fn metrics_address(&self) -> String {
        format!("127.0.0.1:{}", self.metrics.as_ref().expect("started with it").number())
    }

    /// Where it keeps its clones.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// The file of all that it printed, over all its starts.
    pub(crate) fn log_file(&self) -> &Path {
        &self.log
    }

    /// What it printed, over all its starts.
    pub(crate) fn log(&self) -> String {
        let log = String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned();
        if self.detailed { leaks::without_details(&log) } else { log }
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.process.ended()
    }

    /// Waits until `/readyz` is answered with success. When that takes a minute, or it ends, so does the test.
    pub(crate) async fn ready(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.get("/readyz").await;
            if answer.is_ok() {
                return;
            }
            if let Some(status) = self.ended() {
                panic!("controller {} ended with {status}:\n{}", self.identity, self.log());
            }
            let (who, late) = (&self.identity, Instant::now() > deadline);
            assert!(!late, "controller {who} is not ready: {answer:?}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What its own HTTPS server answers; every status but 2xx is an error. Any certificate will do.
    pub(crate) async fn get(&self, path: &str) -> Result<String, kube::Error> {
        let mut config = Config::new(self.url().parse().expect("a URL"));
        config.accept_invalid_certs = true;
        let client = Client::try_from(config)?;
        let request = http::Request::get(path).body(Vec::new()).expect("a request");
        tokio::time::timeout(Duration::from_secs(5), client.request_text(request))
            .await
            .unwrap_or_else(|_| Err(kube::Error::Service("no answer within 5 s".into())))
    }

    /// SIGKILL, to it and all it has started.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// SIGTERM; waits for its end. It has to end by itself within a minute.
    pub(crate) async fn terminate(&mut self) -> ExitStatus {
        let ended = self.process.terminate(PATIENCE).await;
        ended.unwrap_or_else(|| panic!("still runs after SIGTERM:\n{}", self.log()))
    }

    /// A signal such as STOP or CONT.
    pub(crate) fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Starts it again after its end, with the same flags, port and folder, and does not wait.
    pub(crate) fn start_again(&mut self) {
        self.process.kill();
        self.process = Process::start(&self.program, &self.args, &self.env, &self.log);
    }

    /// SIGKILL, start, and wait until it is ready.
    pub(crate) async fn restart(&mut self) {
        self.kill();
        self.start_again();
        self.ready().await;
    }
}

/// The program that the tests test: the one that Cargo built beside them.
pub(crate) fn sekuire() -> PathBuf {
    // Cargo names it for tests, and not for examples, which lie in a folder beside it.
    option_env!("CARGO_BIN_EXE_sekuire").map_or_else(
        || {
            let me = std::env::current_exe().expect("the path of this program");
            let folder = me.ancestors().nth(2).expect("target/debug/examples/demo");
            folder.join("sekuire")
        },
        PathBuf::from,
    )
}

async fn make_namespace(cluster: &Cluster, name: &str) {
    let namespace = Namespace {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        ..Namespace::default()
    };
    let api: Api<Namespace> = Api::all(cluster.client().await);
    match api.create(&PostParams::default(), &namespace).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 409 => {} // another replica was first
        Err(e) => panic!("create the namespace {name}: {e}"),
    }
}
