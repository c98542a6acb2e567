//! The clone is a cache: whatever happens to it, the next snapshot is right.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use sekuire_policy::git::{Ancestry, Limits, Request};

use super::child::children;
use super::server::Server;
use super::support::{Fixture, Repository, paths, refused};

fn packs(fixture: &Fixture) -> Vec<PathBuf> {
    let folder = fixture.data().join("one/clone/objects/pack");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|text| text == "pack")).collect()
}

fn start(fixture: &Fixture) -> Repository {
    let repository = fixture.repository("a");
    repository.commit_file("policies/a.json", "{\"some\": \"content\"}");
    repository
}

/// Overwrites a file, which Git makes read-only, from an offset on.
fn damage(path: &PathBuf, offset: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[offset..].fill(0x5a);
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn a_damaged_clone_is_made_anew() {
    let fixture = Fixture::new();
    let repository = start(&fixture);
    let first = fixture.snapshot(&repository).await.unwrap();
    let clone = fixture.data().join("one/clone");
    let damages: [&dyn Fn(); 7] = [
        &|| damage(&packs(&fixture)[0], 12),
        &|| damage(&packs(&fixture)[0].with_extension("idx"), 0),
        &|| fs::remove_file(packs(&fixture)[0].clone()).unwrap(),
        &|| fs::remove_file(clone.join("HEAD")).unwrap(),
        &|| fs::write(clone.join("config"), "[broken").unwrap(),
        &|| fs::remove_dir_all(clone.join("objects")).unwrap(),
        &|| {
            fs::remove_dir_all(&clone).unwrap();
            fs::write(&clone, "a file").unwrap();
        },
    ];
    for (number, damage) in damages.iter().enumerate() {
        damage();
        assert_eq!(fixture.snapshot(&repository).await.unwrap(), first, "damage {number}");
        let blobs = [first.tip_files[0].blob.clone()];
        assert_eq!(fixture.git.read_blobs("one", &blobs).await.unwrap().len(), 1, "damage {number}");
    }
}

#[tokio::test]
async fn old_commits_that_got_lost_are_not_taken_for_a_rewritten_history() {
    let fixture = Fixture::new();
    let repository = start(&fixture);
    let first = fixture.snapshot(&repository).await.unwrap();
    let lost = packs(&fixture).remove(0);
    let tip = repository.commit_file("policies/a.json", "2");
    // Everything that the tip itself needs is in the second pack.
    repository.git(&["repack", "-q", "-a", "-d"]);
    fixture.snapshot(&repository).await.unwrap();
    fs::remove_file(lost.with_extension("idx")).unwrap();
    fs::remove_file(lost).unwrap();
    let mut request = repository.request();
    request.since = Some(first.tip);
    let snapshot = fixture.git.snapshot(&request).await.unwrap();
    assert_eq!((snapshot.ancestry, snapshot.tip), (Ancestry::Descends, tip));
}

#[tokio::test]
async fn damage_that_is_met_when_a_file_is_read_costs_one_more_snapshot() {
    let fixture = Fixture::new();
    let repository = fixture.repository("a");
    // Content that does not shrink, so that its bytes are most of the pack, and are its end.
    let content: Vec<u8> = (0..200_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    repository.commit_file("policies/a.json", &content);
    let server = Server::start(fixture.root()).await;
    let request = Request::new("one", server.url("a/.git"));
    let snapshot = fixture.git.snapshot(&request).await.unwrap();
    let blobs = [snapshot.tip_files[0].blob.clone()];
    let pack = packs(&fixture).remove(0);
    let length = fs::metadata(&pack).unwrap().len();
    damage(&pack, usize::try_from(length).unwrap() - 1000);
    refused(fixture.git.read_blobs("one", &blobs).await, "GitOperationFailed", "made anew");
    assert_eq!(fixture.git.snapshot(&request).await.unwrap(), snapshot);
    assert_eq!(fixture.git.read_blobs("one", &blobs).await.unwrap()[&blobs[0]], content);
}

#[tokio::test]
async fn what_a_killed_child_leaves_behind_is_cleaned_up() {
    let fixture = Fixture::new();
    let repository = start(&fixture);
    fixture.snapshot(&repository).await.unwrap();
    let clone = fixture.data().join("one/clone");
    let leftovers = [
        clone.join("objects/pack/pack_git2_abcdef"),
        clone.join("objects/pack/pack-0000000000000000000000000000000000000000.idx"),
        clone.join("refs/sekuire/main.lock"),
        clone.join("config.lock"),
        clone.join("packed-refs.lock"),
    ];
    for path in &leftovers {
        fs::write(path, "half").unwrap();
    }
    fs::create_dir_all(fixture.data().join("one/new/objects")).unwrap();
    fs::write(fixture.data().join("one/new/config"), "half").unwrap();
    let tip = repository.commit_file("policies/b.json", "{}");
    assert_eq!(fixture.snapshot(&repository).await.unwrap().tip, tip);
    assert_eq!(packs(&fixture).len(), 2, "the clone was kept");
    assert!(leftovers.iter().all(|path| !path.exists()));
}

#[tokio::test]
async fn another_url_under_the_same_key_gets_a_clone_of_its_own() {
    let fixture = Fixture::new();
    let repository = start(&fixture);
    let old = fixture.snapshot(&repository).await.unwrap();
    let other = fixture.repository("b");
    other.commit_file("policies/b.json", "{}");
    let mut request = other.request();
    request.also = vec![(old.tip, "policies/a.json".into())];
    let snapshot = fixture.git.snapshot(&request).await.unwrap();
    assert_eq!((paths(&snapshot.tip_files), snapshot.also.len()), (vec!["policies/b.json"], 0));
}

#[tokio::test]
async fn a_clone_that_has_grown_out_of_bounds_is_made_anew() {
    let fixture = Fixture::with(Limits { pack_bytes: 100_000, ..Limits::default() });
    let repository = start(&fixture);
    fixture.snapshot(&repository).await.unwrap();
    fs::write(fixture.data().join("one/clone/objects/pack/pack-1.pack"), vec![0; 200_001]).unwrap();
    fs::write(fixture.data().join("one/clone/objects/pack/pack-1.idx"), "").unwrap();
    fixture.snapshot(&repository).await.unwrap();
    assert_eq!(packs(&fixture).len(), 1);
}

#[tokio::test]
async fn a_forgotten_repository_leaves_nothing_and_can_come_back() {
    let fixture = Fixture::new();
    let repository = start(&fixture);
    let first = fixture.snapshot(&repository).await.unwrap();
    for _ in 0..2 {
        fixture.git.forget("one").await.unwrap();
        assert!(!fixture.data().join("one").exists());
    }
    refused(
        fixture.git.read_blobs("one", &[first.tip_files[0].blob.clone()]).await,
        "GitOperationFailed",
        "no clone to read",
    );
    assert_eq!(fixture.snapshot(&repository).await.unwrap(), first);
}

#[tokio::test]
async fn a_child_killed_at_any_moment_leaves_a_clone_that_works_or_is_made_anew() {
    let fixture = Fixture::new();
    let repository = start(&fixture);
    let server = Server::start(fixture.root()).await;
    let mut request = Request::new("one", server.url("a/.git"));
    // Moments from before the child has started until after it is done, in an order of their own each run.
    let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().subsec_nanos();
    println!("seed {seed}");
    let mut state = u64::from(seed) | 1;
    let (mut killed, mut slower) = (0, 1);
    for number in 0..40 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        repository.commit_file("policies/a.json", format!("{number}"));
        // Dropping the future kills the child with SIGKILL.
        let moment = Duration::from_micros((state >> 33) % 60_000);
        tokio::select! {
            outcome = fixture.git.snapshot(&request) => drop(outcome),
            // later where it is slow, so that not all end before they begin
            () = tokio::time::sleep(moment * slower) => {
                let running = !children(&fixture.data()).is_empty();
                killed += usize::from(running);
                slower += u32::from(!running);
            }
        }
        if number % 4 == 3 {
            let snapshot = fixture.git.snapshot(&request).await.unwrap();
            assert_eq!(snapshot.tip, repository.head());
            let blob = snapshot.tip_files[0].blob.clone();
            let content = fixture.git.read_blobs("one", std::slice::from_ref(&blob)).await.unwrap();
            assert_eq!(content[&blob], number.to_string().into_bytes());
            request.since = Some(snapshot.tip);
        }
    }
    assert!(killed > 0, "none was killed while it ran");
}
