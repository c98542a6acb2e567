//! Gitea, a real forge: built by `tests/gitea/build.sh`, on a free loopback port, in a folder of its own.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::getuid;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use super::command::{Ran, run};
use super::guard::{self, Process};
use super::leaks;
use super::ports::Port;

/// How long it may take to start: two seconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(90);
const USER: &str = "platform";
const PASSWORD: &str = "a-password-of-the-tests";

/// A forge with one user, who may do everything.
pub(crate) struct Gitea {
    folder: TempDir,
    port: Port,
    _process: Process,
}

impl Gitea {
    /// The folder that `SEKUIRE_GITEA` names.
    ///
    /// # Errors
    /// How to build it, where it names none.
    pub(crate) fn find() -> Result<PathBuf, &'static str> {
        let path = std::env::var_os("SEKUIRE_GITEA").filter(|path| !path.is_empty());
        path.map(PathBuf::from).ok_or("SEKUIRE_GITEA is not set: run with SEKUIRE_GITEA=$(tests/gitea/build.sh)")
    }

    /// Starts what was built in `built`; its webhooks believe `authorities` (PEM).
    pub(crate) async fn start(built: &Path, authorities: &str) -> Gitea {
        let folder = tempfile::Builder::new().prefix("sekuire-gitea-").tempdir().expect("make a temporary folder");
        guard::remove_at_end(folder.path());
        let (port, root) = (Port::reserve(), folder.path());
        std::fs::write(root.join("ca.crt"), authorities).expect("write the authorities");
        let user = command("id", &["-un"]).await.ok();
        let settings = settings(root, built, user.trim(), port.number());
        std::fs::write(root.join("app.ini"), settings).expect("write its settings");
        let [program, args @ ..] = &*invocation(root, built, &["web"]) else { unreachable!("it has a program") };
        let process = Process::start(Path::new(program), args, &environment(root), &root.join("log"));
        let gitea = Gitea { port, _process: process, folder };
        gitea.ready().await;
        leaks::secret("password of the forge", PASSWORD);
        let user = ["admin", "user", "create", "--username", USER, "--password", PASSWORD, "--email", "p@example.com"];
        let args =
            invocation(gitea.folder.path(), built, &[&user[..], &["--admin", "--must-change-password=false"]].concat());
        let mut create = Command::new(&args[0]);
        create.args(&args[1..]).envs(environment(gitea.folder.path()));
        run(create, &[]).await.ok();
        gitea
    }

    async fn ready(&self) {
        let start = Instant::now();
        while !command("curl", &["--silent", "--fail", &format!("{}/api/healthz", self.url())]).await.succeeded() {
            let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            assert!(start.elapsed() < PATIENCE, "Gitea does not start:\n{log}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port.number())
    }

    /// Where anybody fetches a repository of its user.
    pub(crate) fn clone_url(&self, repository: &str) -> String {
        format!("{}/{USER}/{repository}.git", self.url())
    }

    /// Where its user pushes to it.
    pub(crate) fn push_url(&self, repository: &str) -> String {
        self.clone_url(repository).replacen("http://", &format!("http://{USER}:{PASSWORD}@"), 1)
    }

    /// Posts to its API, as its user.
    ///
    /// # Errors
    /// What it answered, if that is no success.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Value, String> {
        let (url, body, login) =
            (format!("{}/api/v1/{path}", self.url()), body.to_string(), format!("{USER}:{PASSWORD}"));
        let flags = ["--silent", "--show-error", "--fail-with-body", "--header", "content-type: application/json"];
        let ran = command("curl", &[&flags[..], &["--user", &login, "--data", &body, &url]].concat()).await;
        if !ran.succeeded() {
            return Err(ran.to_string());
        }
        Ok(serde_json::from_str(&ran.stdout).unwrap_or(Value::Null))
    }

    /// Posts about a repository of its user: `post`, to `repos/USER/REPOSITORY/…`.
    ///
    /// # Errors
    /// As `post`.
    pub(crate) async fn post_to(&self, repository: &str, path: &str, body: &Value) -> Result<Value, String> {
        self.post(&format!("repos/{USER}/{repository}/{path}"), body).await
    }
}

/// The program with its arguments.
fn invocation(root: &Path, built: &Path, args: &[&str]) -> Vec<String> {
    let shown = |path: PathBuf| path.to_string_lossy().into_owned();
    let settings = ["--config".to_owned(), shown(root.join("app.ini"))];
    let args = args.iter().map(ToString::to_string);
    std::iter::once(shown(built.join("gitea"))).chain(args).chain(settings).collect()
}

fn environment(root: &Path) -> Vec<(String, String)> {
    let root = root.display().to_string();
    let authorities = format!("{root}/ca.crt");
    [
        ("HOME", &root),
        ("GITEA_WORK_DIR", &root),
        ("SSL_CERT_FILE", &authorities),
        ("SSL_CERT_DIR", &"/nowhere".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value.clone()))
    .into()
}

/// It runs as whoever runs the tests, also as root, as which it usually refuses to: another user could enter neither a checkout
/// nor a temporary folder of root's. It listens on loopback alone, and has only what a test gives it.
fn settings(root: &Path, built: &Path, user: &str, port: u16) -> String {
    let (root, built) = (root.display(), built.display());
    format!(
        "I_AM_BEING_UNSAFE_RUNNING_AS_ROOT = {as_root}\n\
         RUN_USER = {user}\n\
         WORK_PATH = {root}\n\
         [server]\nSTATIC_ROOT_PATH = {built}/static\nHTTP_ADDR = 127.0.0.1\nHTTP_PORT = {port}\n\
         ROOT_URL = http://127.0.0.1:{port}/\nOFFLINE_MODE = true\nDISABLE_SSH = true\n\
         [database]\nDB_TYPE = sqlite3\nPATH = {root}/gitea.db\n\
         [security]\nINSTALL_LOCK = true\nSECRET_KEY = of-the-tests\n\
         [webhook]\nALLOWED_HOST_LIST = 127.0.0.1\n\
         [service]\nDISABLE_REGISTRATION = true\n\
         [repository]\nROOT = {root}/repositories\nDEFAULT_BRANCH = main\n\
         [log]\nMODE = console\nLEVEL = Info\n",
        as_root = getuid().is_root(),
    )
}

async fn command(program: &str, args: &[&str]) -> Ran {
    let mut command = Command::new(program);
    command.args(args).env("NO_PROXY", "127.0.0.1").env("no_proxy", "127.0.0.1");
    run(command, &[]).await
}
