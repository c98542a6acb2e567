//! A child that was taken over gets nowhere. What an attacker would do is done by a child of the real program, which has it
//! built in where it is built for tests.

use std::fs;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use sekuire_policy::git::Attack;
use sekuire_policy::telemetry::metrics;

use super::child::child;
use super::server::{Manner, Server};
use super::support::{Fixture, refused};

/// Whether the kernel has seccomp with filters, as it says itself.
fn has_seccomp() -> bool {
    fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail").is_ok_and(|actions| actions.contains("kill_process"))
}

/// The same of Landlock, which has no file that says it.
#[allow(unsafe_code, reason = "asks for a number, and hands no memory over")]
fn has_landlock() -> bool {
    let version: libc::c_ulong = 1; // LANDLOCK_CREATE_RULESET_VERSION
    // SAFETY: see the reason above.
    unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0_usize, version) >= 1 }
}

/// How often a child was stopped for what it tried.
fn stopped() -> f64 {
    let families = metrics().families();
    let family = families.iter().find(|family| family.name() == "sekuire_git_process_failures_total").unwrap();
    let of = |metric: &&prometheus::proto::Metric| metric.get_label().iter().any(|label| label.value() == "forbidden");
    family.get_metric().iter().find(of).unwrap().get_counter().get_value()
}

#[tokio::test]
async fn what_a_child_is_locked_in_by_is_told_as_the_kernel_has_it() {
    let sandbox = Fixture::new().git.sandbox().await.unwrap();
    assert_eq!((sandbox.files, sandbox.system_calls), (has_landlock(), has_seccomp()));
    assert!(sandbox.network || !sandbox.system_calls);
    println!("a Git process is locked in by {:?}", sandbox.parts());
}

#[tokio::test]
async fn a_child_that_was_taken_over_reads_lists_and_writes_nothing_but_its_own_clone() {
    let fixture = Fixture::new();
    let outside = |name: &str| fixture.root().join(name);
    fs::write(outside("token"), "service account").unwrap();
    for key in ["one", "two"] {
        fs::create_dir_all(fixture.data().join(key)).unwrap();
        fs::write(fixture.data().join(key).join("file"), "of a clone").unwrap();
    }
    let own = fs::canonicalize("/proc/self").unwrap();
    let attacks = [
        Attack::Read(outside("token")),
        Attack::Read(fixture.data().join("two/file")),
        Attack::Read("two/file".into()),
        Attack::Read("one/../../token".into()),
        Attack::Read("/etc/passwd".into()),
        Attack::Read("/proc/self/environ".into()),
        Attack::Read(own.join("environ")),
        Attack::Read(own.join("mem")),
        Attack::List("/".into()),
        Attack::List(fixture.data()),
        Attack::List(own.join("fd")),
        Attack::Write(outside("new")),
        Attack::Write(outside("token")),
        Attack::Write(fixture.data().join("two/file")),
        Attack::Write("/proc/self/oom_score_adj".into()),
    ];
    for attack in attacks {
        let outcome = fixture.git.attack("one", attack.clone()).await.unwrap();
        assert_eq!(outcome.contains("PermissionDenied"), has_landlock(), "{attack:?}: {outcome}");
    }
    if has_landlock() {
        assert_eq!(fs::read_to_string(outside("token")).unwrap(), "service account");
        assert_eq!(fs::read_to_string(fixture.data().join("two/file")).unwrap(), "of a clone");
        assert!(!outside("new").exists());
    }
    // what it is for
    for attack in [Attack::Read("one/file".into()), Attack::Write("one/new".into()), Attack::List("one".into())] {
        let outcome = fixture.git.attack("one", attack.clone()).await.unwrap();
        assert!(outcome.starts_with("Ok"), "{attack:?}: {outcome}");
    }
}

#[tokio::test]
async fn a_child_that_was_taken_over_is_stopped_where_it_executes_traces_or_makes_a_socket_and_that_is_told() {
    let fixture = Fixture::new();
    let (tcp, marker) = (TcpListener::bind("127.0.0.1:0").unwrap(), fixture.root().join("marker"));
    tcp.set_nonblocking(true).unwrap();
    let unix = UnixListener::bind(fixture.root().join("socket")).unwrap();
    unix.set_nonblocking(true).unwrap();
    let program = script(&fixture, &marker);
    let mut victim = Command::new("sleep").arg("600").spawn().unwrap();
    let pid = i32::try_from(victim.id()).unwrap();
    let attacks = [
        Attack::Execute(program.clone()),
        Attack::Connect(tcp.local_addr().unwrap()),
        Attack::Udp,
        Attack::Unix(fixture.root().join("socket")),
        Attack::Trace(pid),
        Attack::ReadMemory(pid),
        Attack::Kill(pid),
    ];
    for attack in attacks {
        let before = stopped();
        let outcome = fixture.git.attack("one", attack.clone()).await;
        if has_seccomp() {
            let error = refused(outcome, "GitOperationFailed", "never takes, and was stopped");
            assert!(!error.permanent(), "{attack:?}");
            assert!(stopped() > before, "{attack:?}");
        } else {
            assert!(!fixture.git.sandbox().await.unwrap().system_calls);
        }
    }
    // these fail without an end
    for attack in [Attack::Spawn(program), Attack::ExecutableMemory] {
        let outcome = fixture.git.attack("one", attack.clone()).await.unwrap();
        assert_eq!(outcome.starts_with("Err"), has_seccomp(), "{attack:?}: {outcome}");
    }
    if has_seccomp() {
        assert!(!marker.exists());
        assert!(victim.try_wait().unwrap().is_none(), "it still runs");
        assert_eq!(tcp.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!(unix.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    }
    victim.kill().unwrap();
    victim.wait().unwrap();
}

#[tokio::test]
async fn a_child_that_asks_for_a_connection_elsewhere_is_stopped_and_that_is_told() {
    let fixture = Fixture::new();
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    elsewhere.set_nonblocking(true).unwrap();
    let before = stopped();
    let attack = Attack::AskFor("127.0.0.1".into(), elsewhere.local_addr().unwrap().port());
    refused(fixture.git.attack("one", attack).await, "GitOperationFailed", "of which it was told nothing");
    assert!(stopped() > before);
    assert_eq!(elsewhere.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[tokio::test]
async fn a_child_that_fetches_has_no_privileges_to_gain_and_its_filters_on() {
    let fixture = Fixture::new();
    let server = Server::with(fixture.root(), Manner::Hangs).await;
    let request = sekuire_policy::git::Request::new("one", server.url("a"));
    let look = async {
        let pid = child(&fixture.data()).await;
        while server.requests.lock().unwrap().is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        let folder = Path::new("/proc").join(pid.as_raw_nonzero().to_string()).join("task");
        let threads: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|thread| fs::read_to_string(thread.unwrap().path().join("status")).unwrap())
            .collect();
        assert_eq!(threads.len(), 2);
        for status in threads {
            assert!(status.contains("NoNewPrivs:\t1\n"), "{status}");
            assert_eq!(status.contains("Seccomp:\t2\n"), has_seccomp(), "{status}");
        }
    };
    tokio::select! {
        outcome = fixture.git.snapshot(&request) => panic!("{outcome:?}"),
        () = look => {}
    }
}

/// A program that leaves a file behind.
fn script(fixture: &Fixture, marker: &Path) -> std::path::PathBuf {
    let program = fixture.data().join("one/program");
    fs::create_dir_all(program.parent().unwrap()).unwrap();
    fs::write(&program, format!("#!/bin/sh\necho > {}\n", marker.display())).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    program
}
