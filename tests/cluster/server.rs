//! etcd, kube-apiserver and, where asked for, kube-controller-manager.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, Config,
    api::{ObjectMeta, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use tempfile::TempDir;
use tokio::{process::Command, sync::OnceCell};

use super::{
    command::{Ran, run},
    guard::{self, Process},
    leaks::Recorder,
    pki::{Pki, User},
    ports::Port,
    programs::programs,
};

/// How long a program may take to answer. It takes about two seconds on an idle machine; a busy one gets all of this.
const PATIENCE: Duration = Duration::from_secs(90);

/// The folder of the kinds of this version.
pub(crate) const CRDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/crds");

/// What a cluster of one's own consists of.
#[derive(Clone, Default)]
pub(crate) struct ClusterOptions {
    controller_manager: bool,
    api_server_flags: Vec<String>,
}

impl ClusterOptions {
    /// Also runs kube-controller-manager: garbage collection, deletion of namespaces, service accounts.
    pub(crate) fn controller_manager(mut self) -> Self {
        self.controller_manager = true;
        self
    }

    /// One more flag of kube-apiserver.
    pub(crate) fn api_server_flag(mut self, flag: &str) -> Self {
        self.api_server_flags.push(flag.to_owned());
        self
    }

    /// Starts it and waits until it is ready.
    pub(crate) async fn start(self) -> Cluster {
        // A port is ours among tests, but not against the rest of the machine: try again with others.
        for attempt in 1.. {
            let cluster = Cluster::create(self.clone());
            match cluster.bring_up().await {
                Ok(()) => return cluster,
                Err(why) if why.contains("address already in use") && attempt < 4 => {}
                Err(why) => panic!("the test cluster does not start: {why}"),
            }
        }
        unreachable!("the fourth attempt ends it")
    }
}

/// A running Kubernetes API server of version 1.36.3.
pub(crate) struct Cluster {
    options: ClusterOptions,
    programs: &'static Path,
    etcd_port: Port,
    api_port: Port,
    etcd: Mutex<Option<Process>>,
    api_server: Mutex<Option<Process>>,
    controller_manager: Mutex<Option<Process>>,
    pki: Pki,
    kubeconfigs: Mutex<HashMap<&'static str, PathBuf>>,
    namespaces: AtomicU32,
    crds: OnceCell<()>,
    recorder: Mutex<Option<Recorder>>,
    // the last: everything in it is in use until here
    folder: TempDir,
}

impl Cluster {
    /// Starts etcd and kube-apiserver alone.
    pub(crate) async fn start() -> Cluster {
        ClusterOptions::default().start().await
    }

    /// A cluster of other parts.
    pub(crate) fn options() -> ClusterOptions {
        ClusterOptions::default()
    }

    fn create(options: ClusterOptions) -> Cluster {
        let folder = tempfile::Builder::new().prefix("sekuire-cluster-").tempdir().expect("make a temporary folder");
        guard::remove_at_end(folder.path());
        Cluster {
            options,
            programs: programs(),
            etcd_port: Port::reserve(),
            api_port: Port::reserve(),
            etcd: Mutex::default(),
            api_server: Mutex::default(),
            controller_manager: Mutex::default(),
            pki: Pki::create(folder.path()),
            kubeconfigs: Mutex::default(),
            namespaces: AtomicU32::new(0),
            crds: OnceCell::new(),
            recorder: Mutex::default(),
            folder,
        }
    }

    async fn bring_up(&self) -> Result<(), String> {
        self.try_start_etcd().await?;
        self.try_start_api_server().await?;
        if self.options.controller_manager {
            self.start_controller_manager();
        }
        *self.recorder.lock().expect("no holder panics") = Recorder::start(&self.kubeconfig(User::ADMIN));
        Ok(())
    }

    // === where things are

    /// A folder that lives as long as the cluster.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The folder of etcd, kube-apiserver, kubectl and kube-controller-manager.
    pub(crate) fn programs(&self) -> &Path {
        self.programs
    }

    /// `https://127.0.0.1:…`
    pub(crate) fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.api_port.number())
    }

    /// The certificate authority of the API server, PEM.
    pub(crate) fn ca_pem(&self) -> String {
        self.pki.ca_pem()
    }

    /// What kube-apiserver has printed so far.
    pub(crate) fn api_server_log(&self) -> String {
        self.log("kube-apiserver")
    }

    fn log(&self, program: &str) -> String {
        let log = fs::read(self.log_file(program)).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    fn log_file(&self, program: &str) -> PathBuf {
        self.folder().join(format!("{program}.log"))
    }

    // === users

    /// The path of a kubeconfig for `user`.
    pub(crate) fn kubeconfig(&self, user: User) -> PathBuf {
        let mut made = self.kubeconfigs.lock().expect("no holder panics");
        let path = made.entry(user.name).or_insert_with(|| {
            let path = self.folder().join(format!("{}.kubeconfig", user.name));
            fs::write(&path, self.pki.kubeconfig(user, &self.url())).expect("write a kubeconfig");
            path
        });
        path.clone()
    }

    /// A client of the administrator, bound to the runtime that runs this.
    pub(crate) async fn client(&self) -> Client {
        self.client_of(User::ADMIN).await
    }

    /// A client of `user`, bound to the runtime that runs this.
    pub(crate) async fn client_of(&self, user: User) -> Client {
        Client::try_from(self.config_of(user).await).expect("a client")
    }

    async fn config_of(&self, user: User) -> Config {
        let config = Kubeconfig::read_from(self.kubeconfig(user)).expect("we wrote it");
        let options = KubeConfigOptions::default();
        Config::from_custom_kubeconfig(config, &options).await.expect("we wrote it")
    }

    /// Runs kubectl as the administrator.
    pub(crate) async fn kubectl<const N: usize>(&self, args: [&str; N]) -> Ran {
        self.kubectl_as(User::ADMIN, &args, "").await
    }

    /// Applies manifests as the administrator, as `kubectl apply -f -` does.
    pub(crate) async fn apply(&self, manifests: &str) -> Ran {
        self.kubectl_as(User::ADMIN, &["apply", "-f", "-"], manifests).await
    }

    /// Runs kubectl as `user`, with `input` on its standard input.
    pub(crate) async fn kubectl_as(&self, user: User, args: &[&str], input: &str) -> Ran {
        let mut command = Command::new(self.programs.join("kubectl"));
        command.args(args).envs(self.kubectl_env(user));
        run(command, input.as_bytes()).await
    }

    /// What makes kubectl talk to this cluster as `user`, and read and keep nothing of the person who runs the test.
    pub(crate) fn kubectl_env(&self, user: User) -> Vec<(String, String)> {
        let path = |path: PathBuf| path.to_string_lossy().into_owned();
        vec![
            ("KUBECONFIG".to_owned(), path(self.kubeconfig(user))),
            ("KUBECACHEDIR".to_owned(), path(self.folder().join("kubectl-cache"))),
            ("KUBERC".to_owned(), "off".to_owned()),
        ]
    }

    /// A new namespace whose name begins with `prefix`.
    pub(crate) async fn namespace(&self, prefix: &str) -> String {
        self.namespace_with(prefix, &[]).await
    }

    /// A new namespace with these labels.
    pub(crate) async fn namespace_with(&self, prefix: &str, labels: &[(&str, &str)]) -> String {
        let name = format!("{prefix}-{}", self.namespaces.fetch_add(1, Ordering::Relaxed));
        let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let namespace = Namespace {
            metadata: ObjectMeta { name: Some(name.clone()), labels: Some(labels.collect()), ..ObjectMeta::default() },
            ..Namespace::default()
        };
        let api: Api<Namespace> = Api::all(self.client().await);
        api.create(&PostParams::default(), &namespace).await.expect("create a namespace");
        name
    }

    /// Applies `crds/` and waits until the kinds are served. Whoever comes second finds it done.
    pub(crate) async fn install_crds(&self) {
        self.crds.get_or_init(async || self.apply_crds(Path::new(CRDS)).await).await;
    }

    /// Applies the kinds of a folder, whatever version they are of, and waits until they are served.
    pub(crate) async fn apply_crds(&self, folder: &Path) {
        let path = folder.display().to_string();
        self.kubectl(["apply", "--server-side", "-f", &path]).await.ok();
        self.kubectl(["wait", "--for=condition=Established", "--timeout=60s", "-f", &path]).await.ok();
        // `kubectl explain` reads the description of the API, which follows a moment later
        while !self.describes(folder).await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Whether the description of the API names all kinds of the files `GROUP_PLURAL.yaml`.
    async fn describes(&self, folder: &Path) -> bool {
        let described = self.kubectl(["get", "--raw", "/openapi/v3/apis/sekuire.ai/v1alpha1"]).await.stdout;
        fs::read_dir(folder).expect("the folder of the CRDs").flatten().all(|file| {
            let name = file.file_name().to_string_lossy().replace(".yaml", "");
            name.split_once('_').is_some_and(|(_, plural)| described.contains(&format!("/{plural}\"")))
        })
    }

    // === faults

    /// SIGKILL to kube-apiserver.
    pub(crate) fn kill_api_server(&self) {
        *self.api_server.lock().expect("no holder panics") = None;
    }

    /// SIGTERM to kube-apiserver; waits for its end, and kills it after half a minute.
    pub(crate) async fn stop_api_server(&self) {
        let process = self.api_server.lock().expect("no holder panics").take();
        if let Some(mut process) = process {
            process.terminate(Duration::from_secs(30)).await;
        }
    }

    /// Starts kube-apiserver again, on the same port with the same certificates.
    pub(crate) async fn start_api_server(&self) {
        self.try_start_api_server().await.unwrap_or_else(|why| panic!("kube-apiserver: {why}"));
    }

    /// SIGKILL to etcd. What it has acknowledged is on disk, as far as the kernel is concerned.
    pub(crate) fn kill_etcd(&self) {
        *self.etcd.lock().expect("no holder panics") = None;
    }

    /// Starts etcd again, with its data.
    pub(crate) async fn start_etcd(&self) {
        self.try_start_etcd().await.unwrap_or_else(|why| panic!("etcd: {why}"));
    }

    /// The process groups of all programs that run.
    pub(crate) fn process_groups(&self) -> Vec<u32> {
        [&self.etcd, &self.api_server, &self.controller_manager]
            .iter()
            .filter_map(|p| p.lock().expect("no holder panics").as_ref().map(Process::id))
            .collect()
    }

    /// Lets the cluster run on when this process ends. Returns the process id to which a SIGTERM ends it.
    pub(crate) fn keep(self) -> u32 {
        std::mem::forget(self);
        guard::keep()
    }

    // === the programs

    async fn try_start_etcd(&self) -> Result<(), String> {
        let url = format!("http://127.0.0.1:{}", self.etcd_port.number());
        let args = [
            format!("--data-dir={}", self.folder().join("etcd").display()),
            format!("--listen-client-urls={url}"),
            format!("--advertise-client-urls={url}"),
            "--listen-peer-urls=http://127.0.0.1:0".to_owned(),
            "--unsafe-no-fsync".to_owned(),
            "--log-level=warn".to_owned(),
        ];
        let process = self.spawn("etcd", &args);
        *self.etcd.lock().expect("no holder panics") = Some(process);
        let config = Config::new(url.parse().expect("a URL"));
        self.answers("etcd", &self.etcd, config, "/readyz").await
    }

    async fn try_start_api_server(&self) -> Result<(), String> {
        let file = |name: &str| self.folder().join(name).display().to_string();
        let mut args = vec![
            format!("--etcd-servers=http://127.0.0.1:{}", self.etcd_port.number()),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--secure-port={}", self.api_port.number()),
            format!("--tls-cert-file={}", file("server.crt")),
            format!("--tls-private-key-file={}", file("server.key")),
            format!("--client-ca-file={}", file("ca.crt")),
            "--authorization-mode=RBAC".to_owned(),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!("--service-account-key-file={}", file("sa.pub")),
            format!("--service-account-signing-key-file={}", file("sa.key")),
            "--service-cluster-ip-range=10.0.0.0/24".to_owned(),
            // there is one server, and nobody comes by its Service; its end need not wait for that
            "--endpoint-reconciler-type=none".to_owned(),
        ];
        if !self.options.controller_manager {
            // nobody makes the account that it would ask for
            args.push("--disable-admission-plugins=ServiceAccount".to_owned());
        }
        args.extend(self.options.api_server_flags.iter().cloned());
        let process = self.spawn("kube-apiserver", &args);
        *self.api_server.lock().expect("no holder panics") = Some(process);
        let config = self.config_of(User::ADMIN).await;
        self.answers("kube-apiserver", &self.api_server, config, "/readyz").await
    }

    fn start_controller_manager(&self) {
        let file = |name: &str| self.folder().join(name).display().to_string();
        let args = [
            format!("--kubeconfig={}", self.kubeconfig(User::ADMIN).display()),
            "--controllers=garbage-collector-controller,namespace-controller,serviceaccount-controller".to_owned(),
            format!("--service-account-private-key-file={}", file("sa.key")),
            "--leader-elect=false".to_owned(),
            "--kube-api-qps=500".to_owned(),
            "--kube-api-burst=1000".to_owned(),
            "--secure-port=0".to_owned(),
        ];
        let process = self.spawn("kube-controller-manager", &args);
        *self.controller_manager.lock().expect("no holder panics") = Some(process);
    }

    fn spawn(&self, program: &str, args: &[String]) -> Process {
        Process::start(&self.programs.join(program), args, &[], &self.log_file(program))
    }

    /// Waits until `path` is answered with success; the error says what the program printed before it ended.
    async fn answers(
        &self,
        program: &str,
        process: &Mutex<Option<Process>>,
        config: Config,
        path: &str,
    ) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        let client = Client::try_from(config).map_err(|e| e.to_string())?;
        loop {
            let request = http::Request::get(path).body(Vec::new()).map_err(|e| e.to_string())?;
            let answer = tokio::time::timeout(Duration::from_secs(5), client.request_text(request)).await;
            if matches!(answer, Ok(Ok(_))) {
                return Ok(());
            }
            let ended = process.lock().expect("no holder panics").as_mut().and_then(Process::ended);
            if let Some(status) = ended {
                return Err(format!("{program} ended with {status}:\n{}", tail(&self.log(program))));
            }
            if Instant::now() > deadline {
                return Err(format!("{program} does not answer {path} ({answer:?}):\n{}", tail(&self.log(program))));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // while there is somebody to ask
        if let Ok(mut recorder) = self.recorder.lock() {
            *recorder = None;
        }
        // In this order, so that none spends its last second complaining of the others.
        for process in [&self.controller_manager, &self.api_server, &self.etcd] {
            if let Ok(mut process) = process.lock() {
                *process = None;
            }
        }
    }
}

fn tail(log: &str) -> &str {
    let start = log.char_indices().rev().nth(4000).map_or(0, |(at, _)| at);
    log.get(start..).unwrap_or(log)
}
