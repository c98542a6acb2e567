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
        // it refuses to run as root, and nobody else may look into root's cache
        command("cp", &["-r", &format!("{}/.", built.display()), &root.display().to_string()]).await.ok();
        std::fs::write(root.join("ca.crt"), authorities).expect("write the authorities");
        let user = if getuid().is_root() { "nobody".to_owned() } else { command("id", &["-un"]).await.ok() };
        std::fs::write(root.join("app.ini"), settings(root, user.trim(), port.number())).expect("write its settings");
        if getuid().is_root() {
            command("chown", &["-R", "nobody", &root.display().to_string()]).await.ok();
        }
        let [program, args @ ..] = &*invocation(root, &["web"]) else { unreachable!("it has a program") };
        let process = Process::start(Path::new(program), args, &environment(root), &root.join("log"));
        let gitea = Gitea { port, _process: process, folder };
        gitea.ready().await;
        leaks::secret("password of the forge", PASSWORD);
        let user = ["admin", "user", "create", "--username", USER, "--password", PASSWORD, "--email", "p@example.com"];
        let args = invocation(gitea.folder.path(), &[&user[..], &["--admin", "--must-change-password=false"]].concat());
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

/// The program with its arguments, as a user that it accepts.
fn invocation(root: &Path, args: &[&str]) -> Vec<String> {
    let setpriv = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"];
    let own: &[&str] = if getuid().is_root() { &setpriv } else { &[] };
    let (program, settings) = (root.join("gitea"), root.join("app.ini"));
    let program = [program.to_string_lossy().into_owned()];
    let settings = ["--config".to_owned(), settings.to_string_lossy().into_owned()];
    let (own, args) = (own.iter().map(ToString::to_string), args.iter().map(ToString::to_string));
    own.chain(program).chain(args).chain(settings).collect()
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

fn settings(root: &Path, user: &str, port: u16) -> String {
    let root = root.display();
    format!(
        "RUN_USER = {user}\n\
         WORK_PATH = {root}\n\
         [server]\nSTATIC_ROOT_PATH = {root}/static\nHTTP_ADDR = 127.0.0.1\nHTTP_PORT = {port}\n\
         ROOT_URL = http://127.0.0.1:{port}/\nOFFLINE_MODE = true\nDISABLE_SSH = true\n\
         [database]\nDB_TYPE = sqlite3\nPATH = {root}/gitea.db\n\
         [security]\nINSTALL_LOCK = true\nSECRET_KEY = of-the-tests\n\
         [webhook]\nALLOWED_HOST_LIST = 127.0.0.1\n\
         [service]\nDISABLE_REGISTRATION = true\n\
         [repository]\nROOT = {root}/repositories\nDEFAULT_BRANCH = main\n\
         [log]\nMODE = console\nLEVEL = Info\n"
    )
}

async fn command(program: &str, args: &[&str]) -> Ran {
    let mut command = Command::new(program);
    command.args(args).env("NO_PROXY", "127.0.0.1").env("no_proxy", "127.0.0.1");
    run(command, &[]).await
}
