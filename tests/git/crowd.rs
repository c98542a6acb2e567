//! What all repositories take together is bounded: large ones are read one after another.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::pin::pin;
use std::time::{Duration, Instant};

use futures::future::{Either, join, select};
use sekuire_policy::git::{Limits, Request};
use tokio::sync::watch;

use super::child::children;
use super::server::{Manner, Server};
use super::support::{Fixture, Repository, refused};

/// Within which something has ended that is waited for by nothing else.
const SOON: Duration = Duration::from_secs(60);

fn request(server: &Server, name: &str) -> Request {
    let mut request = Request::new(name, server.url(&format!("{name}/.git")));
    request.timeout = Duration::from_secs(240);
    request
}

/// A repository that takes some 60 MB of memory to read: it has many branches with long names.
fn with_branches(fixture: &Fixture, name: &str) -> Repository {
    let repository = fixture.repository(name);
    let tip = repository.commit_file("policies/a.json", "{}");
    let mut packed = "# pack-refs with: peeled fully-peeled sorted \n".to_owned();
    for number in 0..150_000 {
        writeln!(packed, "{tip} refs/heads/{}-{number:06}", "x".repeat(240)).unwrap();
    }
    fs::write(repository.path.join(".git/packed-refs"), packed).unwrap();
    repository
}

/// Memory of their own that all children have.
fn memory(data: &Path) -> u64 {
    let of = |pid: &rustix::process::Pid| {
        let process = procfs::process::Process::new(pid.as_raw_nonzero().get()).ok()?;
        let pages = process.statm().ok()?;
        Some((pages.resident - pages.shared) * procfs::page_size())
    };
    children(data).iter().filter_map(of).sum()
}

/// Waits until all children take so much memory.
async fn grows_to(data: &Path, bytes: u64) {
    let deadline = Instant::now() + SOON;
    while memory(data) < bytes {
        assert!(Instant::now() < deadline, "{} of {bytes} bytes", memory(data));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn repositories_too_large_together_are_read_one_after_the_other_and_delay_nobody() {
    let most = 96 << 20;
    let fixture = Fixture::with(Limits { all_memory_bytes: most, ..Limits::default() });
    let data = fixture.data();
    let tips = ["a", "b"].map(|name| with_branches(&fixture, name).head());
    let small = fixture.repository("small");
    small.commit_file("policies/a.json", "{}");
    let (go, held) = watch::channel(false);
    let server = Server::with(fixture.root(), Manner::HoldsBranches(held)).await;
    let silent = Server::with(fixture.root(), Manner::Hangs).await;
    let (git, hangs) = (fixture.git.clone(), request(&silent, "hangs"));
    let hanging = tokio::spawn(async move { git.snapshot(&hangs).await });
    let requests = ["a", "b"].map(|name| request(&server, name));

    // One of them is stopped, and when it is tried again, that is the one to go on.
    let (first, second) = (pin!(fixture.git.snapshot(&requests[0])), pin!(fixture.git.snapshot(&requests[1])));
    let (stopped, (killed, running)) = match select(first, second).await {
        Either::Left((outcome, running)) => (outcome, (0, running)),
        Either::Right((outcome, running)) => (outcome, (1, running)),
    };
    let error = refused(stopped, "GitOperationFailed", "all Git processes together took");
    assert!(!error.permanent() && error.to_string().contains("tried again alone"), "{error}");
    assert!(memory(&data) <= most);
    let mut first = pin!(fixture.git.snapshot(&requests[killed]));
    let Either::Right((stopped, _)) = select(first.as_mut(), running).await else { panic!("the one that was stopped") };
    refused(stopped, "GitOperationFailed", "tried again alone");
    assert!(memory(&data) <= most);

    // The other one waits for it, and nobody else does.
    let both = pin!(join(first, fixture.git.snapshot(&requests[1 - killed])));
    let others = pin!(async {
        grows_to(&data, most / 2).await;
        assert_eq!(fixture.git.snapshot(&Request::new("small", small.url())).await.unwrap().tip, small.head());
        let mut hangs = request(&silent, "hangs-too");
        hangs.timeout = Duration::from_secs(1);
        let start = Instant::now();
        refused(fixture.git.snapshot(&hangs).await, "GitOperationFailed", "");
        assert!(start.elapsed() < SOON);
    });
    let Either::Right(((), both)) = select(both, others).await else { panic!("it was to wait") };
    assert_eq!(children(&data).len(), 2, "one that hangs, and one that has the place");
    go.send(true).unwrap();
    let (first, second) = both.await;
    assert_eq!([first.unwrap().tip, second.unwrap().tip], [tips[killed].clone(), tips[1 - killed].clone()]);
    assert!(!hanging.is_finished());
    hanging.abort();
}

#[tokio::test]
async fn what_was_read_alone_and_is_still_too_large_is_a_limit() {
    let limits = Limits { all_memory_bytes: 100 << 20, memory_bytes: 256 << 20, ..Limits::default() };
    let fixture = Fixture::with(limits);
    let server = Server::with(fixture.root(), Manner::EndlessBranches).await;
    let request = request(&server, "a");
    let error = refused(fixture.git.snapshot(&request).await, "GitOperationFailed", "tried again alone");
    assert!(error.to_string().contains("where 100 MiB are accepted"), "{error}");
    refused(fixture.git.snapshot(&request).await, "LimitExceeded", "memory");
}

#[tokio::test]
async fn a_repository_that_was_large_once_waits_no_more_when_it_is_small() {
    let fixture = Fixture::with(Limits { all_memory_bytes: 160 << 20, ..Limits::default() });
    let endless = Server::with(fixture.root(), Manner::EndlessBranches).await;
    let requests = ["a", "b"].map(|name| request(&endless, name));
    for request in &requests {
        refused(fixture.git.snapshot(request).await, "GitOperationFailed", "tried again alone");
    }
    let repository = fixture.repository("a");
    repository.commit_file("policies/a.json", "{}");
    endless.behave(Manner::Honest);
    fixture.git.snapshot(&request(&endless, "a")).await.unwrap();

    endless.behave(Manner::Hangs);
    let has_place = pin!(fixture.git.snapshot(&requests[1]));
    let small = pin!(async {
        let deadline = Instant::now() + SOON;
        while children(&fixture.data()).is_empty() {
            assert!(Instant::now() < deadline, "no child appeared");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        fixture.git.snapshot(&Request::new("a", repository.url())).await
    });
    let Either::Right((outcome, _)) = select(has_place, small).await else { panic!("it hangs") };
    assert_eq!(outcome.unwrap().tip, repository.head());
}

/// A repository of so many MiB that do not shrink.
fn of_size(fixture: &Fixture, name: &str, mebibytes: u32) -> Repository {
    let repository = fixture.repository(name);
    let content: Vec<u8> = (0..mebibytes << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    repository.git(&["config", "core.compression", "0"]);
    repository.write("policies/a.json", "{}");
    repository.commit_file("large", content);
    repository
}

/// What all files below a folder take. Some may be renamed or deleted at this moment.
fn size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size(&entry.path()),
        metadata => metadata.map_or(0, |metadata| metadata.len()),
    });
    sizes.sum()
}

#[tokio::test]
async fn clones_that_nobody_uses_are_deleted_when_there_is_no_room_for_another() {
    let fixture = Fixture::with(Limits { clones_bytes: 50 << 20, ..Limits::default() });
    let small = of_size(&fixture, "small", 1);
    let server = Server::start(fixture.root()).await;
    fixture.git.snapshot(&request(&server, "small")).await.unwrap();
    for (name, mebibytes) in [("a", 18), ("b", 22), ("c", 20), ("a", 18)] {
        if !fixture.root().join(name).exists() {
            of_size(&fixture, name, mebibytes);
        }
        fixture.git.snapshot(&request(&server, name)).await.unwrap();
        assert!(size(&fixture.data()) <= 58 << 20, "{name}: {}", size(&fixture.data()));
    }
    let there = |name: &str| fixture.data().join(name).join("clone").exists();
    assert_eq!(["small", "a", "b", "c"].map(there), [true, true, false, true]);
    assert_eq!(fixture.git.snapshot(&request(&server, "b")).await.unwrap().tip_files.len(), 1);
    let mut request = request(&server, "small");
    request.offline = true;
    assert_eq!(fixture.git.snapshot(&request).await.unwrap().tip, small.head());
}

#[tokio::test]
async fn a_fetch_for_which_there_is_no_room_is_stopped_and_made_when_there_is() {
    let fixture = Fixture::with(Limits { clones_bytes: 28 << 20, ..Limits::default() });
    for (name, mebibytes) in [("a", 28), ("b", 28)] {
        of_size(&fixture, name, mebibytes);
    }
    let (go, held) = watch::channel(false);
    let holding = Server::with(fixture.root(), Manner::HoldsPacks(held)).await;
    let honest = Server::start(fixture.root()).await;
    let slow = request(&holding, "a");
    let (slow, other) = (
        pin!(fixture.git.snapshot(&slow)),
        pin!(async {
            let deadline = Instant::now() + SOON;
            while !fixture.data().exists() || size(&fixture.data()) < 13 << 20 {
                assert!(Instant::now() < deadline, "nothing arrives");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            fixture.git.snapshot(&request(&honest, "b")).await
        }),
    );
    let Either::Right((outcome, slow)) = select(slow, other).await else { panic!("it was to wait") };
    let error = refused(outcome, "GitOperationFailed", "28 MiB are accepted");
    assert!(!error.permanent());
    go.send(true).unwrap();
    slow.await.unwrap();
    fixture.git.snapshot(&request(&honest, "b")).await.unwrap();
    assert!(!fixture.data().join("a/clone").exists());
}
