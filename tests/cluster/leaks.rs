//! What the check for leaks looks through at the end of a run (`.ci/test`, `tests/leaks`). `SEKUIRE_LEAKS` names its folder;
//! without it nothing here does anything.
//!
//! ```text
//! secrets/…   every secret that a test makes, or that is stored on a test cluster
//! logs/…      what each controller says, at trace level
//! objects/…   every Event and every object of ours as it was after each write, one a line, by kind
//! ```

use std::{
    env, fs,
    io::Write as _,
    path::{Path, PathBuf},
    sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, Config,
    api::{ApiResource, DynamicObject, GroupVersionKind, ListParams},
    config::{KubeConfigOptions, Kubeconfig},
    runtime::watcher::{self, Event, watcher},
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

static FOLDER: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
    let folder = PathBuf::from(env::var_os("SEKUIRE_LEAKS").filter(|folder| !folder.is_empty())?);
    for part in ["secrets", "logs", "objects"] {
        fs::create_dir_all(folder.join(part)).expect("make the folder for leaks");
    }
    Some(folder)
});
static NEXT: AtomicU32 = AtomicU32::new(0);

/// Shorter ones would be found everywhere.
const SHORTEST: usize = 10;
/// What is recorded: group, kind, plural.
const KINDS: [(&str, &str, &str); 9] = [
    ("", "Event", "events"),
    ("sekuire.ai", "PolicyRepository", "policyrepositories"),
    ("sekuire.ai", "SigningKey", "signingkeys"),
    ("sekuire.ai", "SigningThreshold", "signingthresholds"),
    ("sekuire.ai", "WorkspacePolicy", "workspacepolicies"),
    ("sekuire.ai", "PolicyLedger", "policyledgers"),
    ("sekuire.ai", "Agent", "agents"),
    ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration", "validatingwebhookconfigurations"),
    ("coordination.k8s.io", "Lease", "leases"),
];
/// Keys of Secrets that hold nothing secret.
const PUBLIC: [&str; 6] =
    ["username", "known_hosts", "address", "githubAppID", "githubAppInstallationID", "githubAppBaseURL"];

/// Has it looked for wherever anything is said. Returns it, so that this can stand where a secret is made.
pub(crate) fn secret<T: AsRef<str>>(name: &str, value: T) -> T {
    register(name, value.as_ref(), "secret");
    value
}

/// One that is said on purpose: the check has to find it.
#[allow(dead_code, reason = "the tests and the demo each use a part of it")]
pub(crate) fn planted(name: &str, value: &str) {
    register(name, value, "planted");
}

fn register(name: &str, value: &str, kind: &str) {
    let Some(folder) = &*FOLDER else { return };
    assert!(value.trim().len() >= SHORTEST, "{name} is too short to be looked for: take {SHORTEST} letters or more");
    let path = folder.join("secrets").join(&blake3::hash(value.as_bytes()).to_hex()[..32]);
    if !path.exists() {
        let text = json!({"name": name, "kind": kind, "value": value}).to_string();
        // whole or not at all, whoever else makes the same one
        let new = path.with_extension(format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
        fs::write(&new, text).and_then(|()| fs::rename(&new, &path)).expect("write down a secret");
    }
}

/// Where a controller is to log to, at trace level.
pub(crate) fn log_file(identity: &str) -> Option<PathBuf> {
    let name = format!("{}-{}-{identity}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    FOLDER.as_ref().map(|folder| folder.join("logs").join(name))
}

/// What was said at the levels that a controller logs at by itself.
pub(crate) fn without_details(log: &str) -> String {
    let detail = |line: &&str| {
        let level = line.split_whitespace().nth(1).unwrap_or_default();
        let json = ["\"level\":\"TRACE\"", "\"level\":\"DEBUG\""];
        matches!(level, "TRACE" | "DEBUG") || line.starts_with('{') && json.iter().any(|level| line.contains(level))
    };
    log.split_inclusive('\n').filter(|line| !detail(line)).collect()
}

/// Writes down what there is on a cluster for as long as it lives.
pub(crate) struct Recorder {
    stop: CancellationToken,
    thread: Option<thread::JoinHandle<()>>,
}

impl Recorder {
    /// Of the cluster of a kubeconfig.
    pub(crate) fn start(kubeconfig: &Path) -> Option<Recorder> {
        let objects = FOLDER.as_ref()?.join("objects");
        let stop = CancellationToken::new();
        let (stopped, kubeconfig) = (stop.clone(), kubeconfig.to_owned());
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        // a runtime of its own: that of the test that starts a cluster may end before the cluster does
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let config = Kubeconfig::read_from(kubeconfig).expect("we wrote it");
                let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await;
                let client = Client::try_from(config.expect("we wrote it")).expect("a client");
                let kinds = KINDS.map(|kind| {
                    record(
                        client.clone(),
                        kind,
                        objects.join(format!("{}-{number}.{}", std::process::id(), kind.2)),
                        &stopped,
                    )
                });
                futures::future::join(futures::future::join_all(kinds), secrets(client.clone(), &stopped)).await;
            });
        };
        let thread = thread::Builder::new().name("recorder".to_owned()).spawn(run).expect("a thread");
        Some(Recorder { stop, thread: Some(thread) })
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Every state of every object of a kind; at the end, once more all of them, for what the watch has not brought yet.
async fn record(client: Client, (group, kind, plural): (&str, &str, &str), path: PathBuf, stop: &CancellationToken) {
    let version = if group == "sekuire.ai" { "v1alpha1" } else { "v1" };
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural);
    let api: Api<DynamicObject> = Api::all_with(client, &resource);
    let mut file = fs::File::options().create(true).append(true).open(&path).expect("open a file");
    let mut write = |object: &DynamicObject| {
        writeln!(file, "{}", serde_json::to_string(object).expect("it was JSON")).expect("write an object down");
    };
    let mut events = std::pin::pin!(watcher(api.clone(), watcher::Config::default()));
    while let Some(Some(event)) = stop.run_until_cancelled(events.next()).await {
        match event {
            Ok(Event::Apply(object) | Event::InitApply(object) | Event::Delete(object)) => write(&object),
            Ok(_) => {}
            Err(_) => pause(stop).await,
        }
    }
    let all = tokio::time::timeout(Duration::from_secs(2), api.list(&ListParams::default())).await;
    if let Ok(Ok(all)) = all {
        all.items.iter().for_each(write);
    }
}

/// The secrets that are stored, whoever made them: also those that a controller made for itself.
async fn secrets(client: Client, stop: &CancellationToken) {
    let mut events = std::pin::pin!(watcher(Api::<Secret>::all(client), watcher::Config::default()));
    while let Some(Some(event)) = stop.run_until_cancelled(events.next()).await {
        let secret = match event {
            Ok(Event::Apply(secret) | Event::InitApply(secret)) => secret,
            Ok(_) => continue,
            Err(_) => {
                pause(stop).await;
                continue;
            }
        };
        let name = secret.metadata.name.unwrap_or_default();
        for (key, value) in secret.data.unwrap_or_default() {
            let public = PUBLIC.contains(&&*key)
                || [".crt", ".pub", ".asc", "allowed_signers"].iter().any(|end| key.ends_with(end));
            let value = String::from_utf8_lossy(&value.0).into_owned();
            // one letter over and over, with which tests fill fields of any object, is no secret
            let letters = value.trim().as_bytes();
            let filler = letters.iter().all(|letter| Some(letter) == letters.first());
            if !public && !filler && letters.len() >= SHORTEST {
                self::secret(&format!("key {key} of Secret {name}"), value);
            }
        }
    }
}

/// The kind is not there yet, or the server is away.
async fn pause(stop: &CancellationToken) {
    let _ended = stop.run_until_cancelled(tokio::time::sleep(Duration::from_millis(300))).await;
}
