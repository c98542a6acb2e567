//! What happens to a child process happens to nothing else.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use sekuire_policy::git::{Limits, Request};
use tokio::sync::watch;

use super::server::{Manner, Server};
use super::support::{Fixture, refused};

/// The children that work in a data directory.
pub(super) fn children(data: &Path) -> Vec<Pid> {
    // it is not dumpable: nobody else sees its folder or its environment
    let is_child = |pid: &i32| {
        let line = fs::read(Path::new("/proc").join(pid.to_string()).join("cmdline")).unwrap_or_default();
        let mut words = line.split(|byte| *byte == 0).skip(1).skip_while(|word| *word != b"git-child").skip(1);
        words.next().is_some_and(|word| Path::new(OsStr::from_bytes(word)).parent() == Some(data))
    };
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    processes.filter(is_child).filter_map(Pid::from_raw).collect()
}

/// Waits until the only child of a data directory runs.
pub(super) async fn child(data: &Path) -> Pid {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let [pid] = children(data)[..] {
            return pid;
        }
        assert!(Instant::now() < deadline, "no child appeared");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn gone(data: &Path) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !children(data).is_empty() {
        assert!(Instant::now() < deadline, "the child still runs");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_child_that_crashes_costs_its_own_job_alone() {
    let fixture = Fixture::new();
    let repository = fixture.repository("a");
    repository.commit_file("policies/a.json", "{}");
    let server = Server::with(fixture.root(), Manner::Hangs).await;
    for signal in [Signal::SEGV, Signal::ABORT, Signal::KILL, Signal::BUS] {
        let request = Request::new("one", server.url("a"));
        let kill = async {
            let pid = child(&fixture.data()).await;
            // The standard library's handler lets the first SIGSEGV pass: a real fault would come again at once.
            while children(&fixture.data()).contains(&pid) {
                kill_process(pid, signal).ok();
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let (outcome, ()) = tokio::join!(fixture.git.snapshot(&request), kill);
        let error = refused(outcome, "GitOperationFailed", "killed by signal");
        assert!(!error.permanent());
        fixture.snapshot(&repository).await.unwrap();
    }
}

#[tokio::test]
async fn a_child_ends_when_nobody_waits_for_it_any_more() {
    let fixture = Fixture::new();
    let server = Server::with(fixture.root(), Manner::Hangs).await;
    let request = Request::new("one", server.url("a"));
    let data = fixture.data();
    tokio::select! {
        outcome = fixture.git.snapshot(&request) => panic!("{outcome:?}"),
        _ = child(&data) => {}
    }
    gone(&data).await;
}

#[tokio::test]
async fn a_child_whose_parent_is_gone_ends_by_itself() {
    // Not by `Git`, which would kill it: a parent that dies only closes its end of the pipe.
    let fixture = Fixture::new();
    fs::create_dir_all(fixture.data()).unwrap();
    let server = Server::with(fixture.root(), Manner::Hangs).await;
    let (mut socket, theirs) = UnixStream::pair().unwrap();
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_sekuire"))
        .arg("git-child")
        .env_clear()
        .current_dir(fixture.data())
        .stdin(OwnedFd::from(theirs))
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut request = Request::new("one", server.url("a"));
    request.timeout = Duration::from_secs(600);
    let job = serde_json::json!({
        "limits": Limits::default(), "allow_insecure": true, "work": { "Snapshot": request }
    });
    std::io::Write::write_all(&mut socket, format!("{job}\n").as_bytes()).unwrap();
    // it has read its job, is locked in, and waits for a connection
    let mut question = String::new();
    BufReader::new(&socket).read_line(&mut question).unwrap();
    assert!(question.contains("Connect"), "{question}");
    assert!(child.try_wait().unwrap().is_none());
    drop(socket);
    let status = tokio::task::spawn_blocking(move || child.wait()).await.unwrap().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
}

#[tokio::test]
async fn an_object_that_inflates_beyond_the_memory_is_a_limit() {
    let fixture = Fixture::with(Limits { memory_bytes: 256 << 20, ..Limits::default() });
    let repository = fixture.repository("a");
    repository.commit_file("policies/a.json", "{}");
    let good = repository.head();
    // A commit with a message of 300 MiB, which is 300 KB in a pack.
    let message = vec![b'x'; 300 << 20];
    let tree = repository.git(&["rev-parse", "HEAD^{tree}"]);
    let bomb = repository.git_with_input(&["commit-tree", &tree], &message);
    repository.git(&["update-ref", "refs/heads/main", &bomb]);
    let server = Server::start(fixture.root()).await;
    let request = Request::new("one", server.url("a/.git"));
    refused(fixture.git.snapshot(&request).await, "LimitExceeded", "memory");
    repository.git(&["update-ref", "refs/heads/main", &good]);
    assert_eq!(fixture.git.snapshot(&request).await.unwrap().tip_files.len(), 1);
}

#[tokio::test]
async fn a_child_that_uses_up_its_processor_time_is_a_limit() {
    let fixture = Fixture::with(Limits { cpu_seconds: 1, ..Limits::default() });
    let repository = fixture.repository("a");
    // 512 MiB to inflate and hash, out of half a MB.
    let file = fs::File::create(repository.path.join("zeros")).unwrap();
    file.set_len(512 << 20).unwrap();
    repository.commit_file("policies/a.json", "{}");
    let server = Server::start(fixture.root()).await;
    let request = Request::new("one", server.url("a/.git"));
    refused(fixture.git.snapshot(&request).await, "LimitExceeded", "processor time");
    let other = fixture.repository("b");
    other.commit_file("policies/a.json", "{}");
    assert_eq!(fixture.snapshot(&other).await.unwrap().tip_files.len(), 1);
}

#[tokio::test]
async fn snapshots_of_one_repository_at_once_wait_for_each_other() {
    let fixture = Fixture::new();
    let repository = fixture.repository("a");
    repository.commit_file("policies/a.json", "{}");
    let (go, held) = watch::channel(false);
    let server = Server::with(fixture.root(), Manner::HoldsPacks(held)).await;
    let request = Request::new("one", server.url("a/.git"));
    let data = fixture.data();
    let all = futures::future::join_all((0..4).map(|_| fixture.git.snapshot(&request)));
    let waits = async {
        let deadline = Instant::now() + Duration::from_secs(60);
        while children(&data).len() < 4 || server.packs() == 0 {
            assert!(Instant::now() < deadline, "{} children, {} packs", children(&data).len(), server.packs());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // one has the folder and half of its pack; the others ask the server for nothing
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!((server.requests.lock().unwrap().len(), children(&data).len()), (2, 4));
        go.send(true).unwrap();
    };
    let (snapshots, ()) = tokio::join!(all, waits);
    for snapshot in snapshots {
        assert_eq!(snapshot.unwrap().tip, repository.head());
    }
    assert_eq!(server.packs(), 1, "what one has fetched the others have");
}

#[tokio::test]
async fn a_program_that_is_no_git_child_is_an_error() {
    let fixture = Fixture::new();
    let repository = fixture.repository("a");
    for (program, says) in [("/bin/true", "understood"), ("/bin/false", "failed"), ("/nowhere", "cannot start")] {
        let git = sekuire_policy::git::Git::new(program.into(), fixture.data(), Limits::default(), true);
        refused(git.snapshot(&repository.request()).await, "GitOperationFailed", says);
    }
}

#[tokio::test]
async fn a_child_that_prints_too_much_is_stopped() {
    let fixture = Fixture::new();
    let repository = fixture.repository("a");
    let limits = Limits { output_bytes: 100_000, ..Limits::default() };
    // `yes git-child` prints for ever.
    let git = sekuire_policy::git::Git::new("/usr/bin/yes".into(), fixture.data(), limits, true);
    refused(git.snapshot(&repository.request()).await, "LimitExceeded", "printed more than");
    gone(&fixture.data()).await;
}
