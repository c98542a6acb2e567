//! A real node, in private namespaces of this machine.

use std::{
    env, fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use tokio::process::Command;

use crate::cluster::{guard::Process, programs::programs};

/// From the first process to a node that takes pods; it takes about six seconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Why no node can be started here, if so.
pub(crate) fn cannot_run() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("a node needs root".to_owned());
    }
    if !Path::new("/sys/fs/cgroup/memory/cgroup.procs").exists() {
        return Some("a node is only set up on a machine with cgroup v1".to_owned());
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]).collect();
    let missing = ["containerd", "runc", "nft", "nginx", "fcgiwrap", "openssl", "unshare", "nsenter", "cc", "python3"]
        .into_iter()
        .find(|program| !folders.iter().any(|folder| folder.join(program).exists()));
    let packages = "containerd runc nftables containernetworking-plugins nginx-light fcgiwrap";
    missing
        .map(str::to_owned)
        .or_else(|| (!Path::new("/usr/lib/cni/ptp").exists()).then(|| "/usr/lib/cni/ptp".to_owned()))
        .map(|what| format!("a node needs {what}: apt-get install --no-install-recommends {packages}"))
}

/// Dropping it kills its first process, and with that everything in it.
pub(crate) struct Node {
    folder: PathBuf,
    process: Process,
    /// The first process of the node, as this machine numbers it.
    init: u32,
}

impl Node {
    /// Starts it with the images in `folder`, and waits until it takes pods.
    pub(crate) async fn start(folder: &Path) -> Node {
        let script = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e").join(name);
        let built = Command::new(script("build.sh")).output().await.expect("run tests/e2e/build.sh");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        let own = String::from_utf8_lossy(&built.stdout).trim().to_owned();
        let env = [
            ("NODE".to_owned(), folder.display().to_string()),
            ("PROGRAMS".to_owned(), format!("{}:{own}", programs().display())),
        ];
        let log = folder.join("node.log");
        let mut process = Process::start(&script("node/up.sh"), [""; 0], &env, &log);
        let deadline = Instant::now() + PATIENCE;
        while !folder.join("up").exists() {
            let printed = || fs::read_to_string(&log).unwrap_or_default();
            if let Some(status) = process.ended() {
                panic!("the node ended with {status}:\n{}", printed());
            }
            assert!(Instant::now() < deadline, "the node is not up after {PATIENCE:?}:\n{}", printed());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let children = format!("/proc/{0}/task/{0}/children", process.id());
        let children = fs::read_to_string(&children).unwrap_or_else(|e| panic!("read {children}: {e}"));
        let init = children.trim().parse().expect("unshare has one child");
        Node { folder: folder.to_owned(), process, init }
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.folder.join("pki/admin.kubeconfig")
    }

    /// This program, in the network of the node.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.init.to_string(), "--net", "--"]);
        command.arg(env::current_exe().expect("this program")).env("E2E_NODE", self.init.to_string());
        command
    }

    /// The end of what each program printed.
    pub(crate) fn show_logs(&self) {
        for entry in fs::read_dir(self.folder.join("logs")).expect("the node has logs").flatten() {
            let log = fs::read_to_string(entry.path()).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            println!("== {}", entry.path().display());
            println!("{}", lines[lines.len().saturating_sub(15)..].join("\n"));
        }
    }

    /// Ends it, and checks that nothing is left but its folder.
    pub(crate) fn end(mut self) {
        let groups = self.groups();
        self.process.kill();
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut left = groups;
        while !left.is_empty() {
            // The kernel takes a moment to collect what has been killed.
            left.retain(|group| !remove(group));
            assert!(left.is_empty() || Instant::now() < deadline, "processes of the node are left in {left:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("Linux");
        let folder = self.folder.display().to_string();
        let mounts: Vec<&str> = mounts.lines().filter(|line| line.contains(&folder)).collect();
        assert!(mounts.is_empty(), "mounts of the node are left: {mounts:?}");
    }

    fn groups(&self) -> Vec<PathBuf> {
        let name = format!("sekuire-e2e-{}", self.process.id());
        let controllers = fs::read_dir("/sys/fs/cgroup").expect("cgroup v1").flatten();
        controllers.map(|controller| controller.path().join(&name)).filter(|group| group.exists()).collect()
    }
}

/// Removes a control group and those below it; whether nothing is left of it. A group with a process in it stays.
fn remove(group: &Path) -> bool {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove(&entry.path());
        }
    }
    fs::remove_dir(group).is_ok() || !group.exists()
}
