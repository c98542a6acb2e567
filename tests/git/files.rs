//! Which files of a commit are seen, and as what.

use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;

use sekuire_policy::git::{FileKind, Limits};

use super::support::{Fixture, Repository, paths, refused};

#[tokio::test]
async fn documents_below_the_path_are_listed_and_everything_else_is_ignored() {
    let fixture = Fixture::new();
    let repository = fixture.repository("a");
    for path in [
        "policies/a.json",
        "policies/b.yaml",
        "policies/deep/er/c.yml",
        "policies/folder.json/d.json",
        "policies/README.md",
        "policies/UPPER.JSON",
        "policies/json",
        "elsewhere.json",
        "policies-old/e.json",
    ] {
        repository.write(path, format!("content of {path}"));
    }
    let tip = repository.commit("first");

    let snapshot = fixture.snapshot(&repository).await.unwrap();
    assert_eq!(
        (snapshot.tip.as_str(), snapshot.reference.as_str(), snapshot.path_exists),
        (tip.as_str(), "main", true)
    );
    assert_eq!(
        paths(&snapshot.tip_files),
        ["policies/a.json", "policies/b.yaml", "policies/deep/er/c.yml", "policies/folder.json/d.json"]
    );
    let blobs: Vec<String> = snapshot.tip_files.iter().map(|file| file.blob.clone()).collect();
    let content = fixture.git.read_blobs("one", &blobs).await.unwrap();
    for file in &snapshot.tip_files {
        assert_eq!(content[&file.blob], format!("content of {}", file.path).into_bytes());
        assert_eq!(file.size, content[&file.blob].len() as u64);
        assert_eq!(file.blob, repository.git(&["rev-parse", &format!("HEAD:{}", file.path)]));
    }
}

#[tokio::test]
async fn the_path_may_be_the_root_or_a_folder_below_another_one() {
    let fixture = Fixture::new();
    let repository = fixture.repository("a");
    repository.write("a.json", "1");
    repository.commit_file("teams/red/b.json", "2");
    for (path, expected) in [
        ("", &["a.json", "teams/red/b.json"][..]),
        (".", &["a.json", "teams/red/b.json"]),
        ("teams/red", &["teams/red/b.json"]),
        ("./teams/red/", &["teams/red/b.json"]),
    ] {
        let mut request = repository.request();
        request.path = path.into();
        assert_eq!(paths(&fixture.git.snapshot(&request).await.unwrap().tip_files), expected, "{path:?}");
    }
}

#[tokio::test]
async fn a_path_that_is_no_folder_of_the_tip_is_an_empty_listing_that_says_so() {
    let fixture = Fixture::new();
    let repository = fixture.repository("a");
    repository.write("file", "x");
    std::os::unix::fs::symlink("/etc", repository.path.join("link")).unwrap();
    repository.commit_file("a.json", "1");
    for path in ["policies", "file", "link", "a.json", "a.json/b"] {
        let mut request = repository.request();
        request.path = path.into();
        let snapshot = fixture.git.snapshot(&request).await.unwrap();
        assert!(!snapshot.path_exists && snapshot.tip_files.is_empty(), "{path}");
    }
}

#[tokio::test]
async fn a_path_that_leaves_the_repository_is_refused_for_good() {
    let fixture = Fixture::new();
    let repository = fixture.repository("a");
    for path in ["/etc", "..", "a/../b", "a//b", "/", "a/.."] {
        let mut request = repository.request();
        request.path = path.into();
        let error = refused(fixture.git.snapshot(&request).await, "GitOperationFailed", "below the root");
        assert!(error.permanent());
    }
}

#[tokio::test]
async fn keys_that_would_leave_the_data_directory_are_refused() {
    let fixture = Fixture::new();
    for key in ["", "..", ".", "a/b", "/tmp", "a\0b", ".hidden", &"x".repeat(129)] {
        refused(fixture.git.forget(key).await, "GitOperationFailed", "cannot name a folder");
    }
}

#[tokio::test]
async fn a_symlink_and_a_submodule_are_named_for_what_they_are() {
    let fixture = Fixture::new();
    let repository = fixture.repository("a");
    repository.write("policies/real.json", "{}");
    std::os::unix::fs::symlink("/etc/passwd", repository.path.join("policies/link.json")).unwrap();
    let commit = repository.commit("first");
    repository.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{commit},policies/module.json")]);
    repository.git(&["commit", "-q", "-m", "second"]);

    let files = fixture.snapshot(&repository).await.unwrap().tip_files;
    let kinds: Vec<(&str, FileKind, u64)> = files.iter().map(|f| (f.path.as_str(), f.kind, f.size)).collect();
    assert_eq!(
        kinds,
        [
            ("policies/link.json", FileKind::Symlink, 11),
            ("policies/module.json", FileKind::Submodule, 0),
            ("policies/real.json", FileKind::Regular, 2),
        ]
    );
}

#[tokio::test]
async fn a_path_that_is_not_utf8_is_listed_as_such_beside_the_others() {
    let fixture = Fixture::new();
    let repository = fixture.repository("a");
    repository.write("policies/a.json", "1");
    let name = std::ffi::OsStr::from_bytes(b"policies/\xff\xfe.json");
    std::fs::write(repository.path.join(name), "2").unwrap();
    repository.write("policies/line\nbreak.json", "3");
    repository.commit("first");
    let files = fixture.snapshot(&repository).await.unwrap().tip_files;
    let kinds: Vec<(&str, FileKind)> = files.iter().map(|file| (file.path.as_str(), file.kind)).collect();
    assert_eq!(
        kinds,
        [
            ("policies/a.json", FileKind::Regular),
            ("policies/line\nbreak.json", FileKind::Regular),
            ("policies/\u{fffd}\u{fffd}.json", FileKind::NotUtf8),
        ]
    );
}

#[tokio::test]
async fn a_file_of_50_mib_is_listed_with_its_size_and_never_read() {
    let fixture = Fixture::new();
    let repository = fixture.repository("a");
    repository.write("policies/small.json", "{}");
    let file = std::fs::File::create(repository.path.join("policies/large.json")).unwrap();
    file.set_len(50 << 20).unwrap();
    repository.commit("large");
    let snapshot = fixture.snapshot(&repository).await.unwrap();
    let [large, small] = &snapshot.tip_files[..] else { panic!("{:?}", snapshot.tip_files) };
    assert_eq!((large.size, small.size), (50 << 20, 2));
    refused(fixture.git.read_blobs("one", std::slice::from_ref(&large.blob)).await, "LimitExceeded", "at most 262144");
    // The refusal is about the file; the clone is fine.
    let content = fixture.git.read_blobs("one", std::slice::from_ref(&small.blob)).await.unwrap();
    assert_eq!(content[&small.blob], b"{}");
}

#[tokio::test]
async fn a_binary_file_comes_back_byte_for_byte_without_any_filter() {
    let fixture = Fixture::new();
    let repository = fixture.repository("a");
    repository.write(".gitattributes", "*.json text eol=crlf ident\n");
    let bytes: Vec<u8> = (0..=255).chain(*b"$Id$\n\r\n").collect();
    let blob = repository.git_with_input(&["hash-object", "-w", "--no-filters", "--stdin"], &bytes);
    repository.git(&["update-index", "--add", "--cacheinfo", &format!("100755,{blob},policies/binary.json")]);
    repository.git(&["commit", "-q", "-m", "binary"]);
    let files = fixture.snapshot(&repository).await.unwrap().tip_files;
    assert_eq!((files[0].blob.as_str(), files[0].kind), (blob.as_str(), FileKind::Regular));
    assert_eq!(fixture.git.read_blobs("one", std::slice::from_ref(&blob)).await.unwrap()[&blob], bytes);
}

#[tokio::test]
async fn ten_thousand_files_are_listed_and_read_in_several_answers() {
    // An answer of 64 KiB holds only some of them.
    let fixture = Fixture::with(Limits { output_bytes: 4 << 20, ..Limits::default() });
    let repository = fixture.repository("a");
    repository.git_with_input(&["fast-import", "--quiet"], &import(10_000, 700));
    let snapshot = fixture.snapshot(&repository).await.unwrap();
    assert_eq!(snapshot.tip_files.len(), 10_000);
    let blobs: Vec<String> = snapshot.tip_files.iter().map(|file| file.blob.clone()).collect();
    let content = fixture.git.read_blobs("one", &blobs).await.unwrap();
    assert_eq!(content.len(), 10_000);
    assert!(content.values().all(|bytes| bytes.len() == 700));
}

#[tokio::test]
async fn more_files_than_accepted_are_an_error_with_the_number() {
    let fixture = Fixture::with(Limits { files: 999, ..Limits::default() });
    let repository = fixture.repository("a");
    repository.git_with_input(&["fast-import", "--quiet"], &import(1000, 10));
    let error = refused(fixture.snapshot(&repository).await, "LimitExceeded", "accepted 999 ");
    assert!(!error.permanent());
}

#[tokio::test]
async fn a_listing_longer_than_an_answer_may_be_is_an_error() {
    let fixture = Fixture::with(Limits { output_bytes: 10_000, ..Limits::default() });
    let repository = fixture.repository("a");
    repository.git_with_input(&["fast-import", "--quiet"], &import(1000, 10));
    refused(fixture.snapshot(&repository).await, "LimitExceeded", "accepted 10000");
}

/// A stream for `git fast-import`: one commit of files with different content.
fn import(files: usize, size: usize) -> Vec<u8> {
    let mut stream =
        String::from("commit refs/heads/main\ncommitter Test <t@example.com> 1700000000 +0000\ndata 1\nx\n");
    for number in 0..files {
        let content = format!("{number:0size$}");
        write!(stream, "M 644 inline policies/{}/{number}.json\ndata {size}\n{content}\n", number % 100).unwrap();
    }
    stream.into_bytes()
}

#[tokio::test]
async fn a_tree_bomb_is_refused_by_the_number_of_its_entries() {
    let fixture = Fixture::new();
    let repository = fixture.repository("a");
    let mut id = repository.git_with_input(&["hash-object", "-w", "--stdin"], b"{}");
    let mut kind = "100644 blob";
    // 10 levels of 10 names each: 10 objects, 10 billion files.
    for _ in 0..10 {
        let tree: String = (0..10).map(|name| format!("{kind} {id}\t{name}.json\n")).collect();
        id = repository.git_with_input(&["mktree"], tree.as_bytes());
        kind = "040000 tree";
    }
    let commit = repository.git_with_input(&["commit-tree", &id], b"bomb");
    repository.git(&["update-ref", "refs/heads/main", &commit]);
    let mut request = repository.request();
    request.path = String::new();
    refused(fixture.git.snapshot(&request).await, "LimitExceeded", "more than");
}

/// Commits one blob at a path of any form.
fn commit_at(repository: &Repository, path: &str) {
    let mut id = repository.git_with_input(&["hash-object", "-w", "--stdin"], b"{}");
    for (level, part) in path.split('/').rev().enumerate() {
        let kind = if level == 0 { "100644 blob" } else { "040000 tree" };
        let mut entries = format!("{kind} {id}\t{part}\n");
        // beside it, in the folder of documents, one that is good
        if level + 2 == path.split('/').count() {
            let good = repository.git_with_input(&["hash-object", "-w", "--stdin"], b"{\"good\": 1}");
            entries += &format!("100644 blob {good}\tgood.json\n");
        }
        id = repository.git_with_input(&["mktree"], entries.as_bytes());
    }
    let commit = repository.git_with_input(&["commit-tree", &id], b"x");
    repository.git(&["update-ref", "refs/heads/main", &commit]);
}

#[tokio::test]
async fn a_folder_nested_too_deep_and_a_path_too_long_cost_themselves_alone() {
    let fixture = Fixture::new();
    let long = format!("{}/", "y".repeat(200));
    for (name, path, kind) in [
        ("a", format!("policies/{}a.json", "x/".repeat(64)), FileKind::Regular),
        ("b", format!("policies/{}a.json", "x/".repeat(65)), FileKind::TooDeep),
        ("c", format!("policies/{}a.json", "x/".repeat(70)), FileKind::TooDeep),
        ("d", format!("policies/{}a.json", long.repeat(20)), FileKind::Regular),
        ("e", format!("policies/{}a.json", long.repeat(21)), FileKind::TooLong),
    ] {
        let repository = fixture.repository(name);
        commit_at(&repository, &path);
        let files = fixture.snapshot(&repository).await.unwrap().tip_files;
        let kinds: Vec<FileKind> = files.iter().map(|file| file.kind).collect();
        // the good one sorts first, or last
        assert_eq!(kinds.len(), 2, "{files:?}");
        assert!(kinds.contains(&kind) && kinds.contains(&FileKind::Regular), "{name}: {files:?}");
        let bad = files.iter().find(|file| !file.path.ends_with("good.json")).unwrap();
        assert!(path.starts_with(&bad.path), "{}", bad.path);
        let readable = sekuire_policy::controller::documents::readable(bad);
        assert_eq!(readable.is_ok(), kind == FileKind::Regular, "{readable:?}");
    }
}

#[tokio::test]
async fn entries_as_git_makes_none_cost_themselves_alone() {
    let fixture = Fixture::new();
    let repository = fixture.repository("a");
    let blob = repository.git_with_input(&["hash-object", "-w", "--stdin"], b"{}");
    let id: Vec<u8> = (0..20).map(|at| u8::from_str_radix(&blob[at * 2..at * 2 + 2], 16).unwrap()).collect();
    let entry = |mode: &str, name: &[u8]| [mode.as_bytes(), b" ", name, b"\0", &id].concat();
    let tree = [
        entry("100644", b"../a.json"),
        entry("100644", b".."),
        entry("100644", b"good.json"),
        entry("100644", b"twice.json"),
        entry("100644", b"twice.json"),
        entry("107777", b"mode.json"),
    ]
    .concat();
    let tree = repository.git_with_input(&["hash-object", "-t", "tree", "-w", "--literally", "--stdin"], &tree);
    let root = repository.git_with_input(&["mktree"], format!("040000 tree {tree}\tpolicies\n").as_bytes());
    let commit = repository.git_with_input(&["commit-tree", &root], b"bad");
    repository.git(&["update-ref", "refs/heads/main", &commit]);
    let files = fixture.snapshot(&repository).await.unwrap().tip_files;
    let kinds: Vec<(&str, FileKind)> = files.iter().map(|file| (file.path.as_str(), file.kind)).collect();
    assert_eq!(
        kinds,
        [
            ("policies/../a.json", FileKind::Malformed),
            ("policies/good.json", FileKind::Regular),
            ("policies/mode.json", FileKind::Regular),
            ("policies/twice.json", FileKind::Malformed),
            ("policies/twice.json", FileKind::Malformed),
        ]
    );
}

#[tokio::test]
async fn the_limits_hold_at_their_defaults_and_not_one_above() {
    let fixture = Fixture::new();
    for (name, files) in [("a", 20_000), ("b", 20_001)] {
        let repository = fixture.repository(name);
        repository.git_with_input(&["fast-import", "--quiet"], &import(files, 10));
        let outcome = fixture.snapshot(&repository).await;
        if files == 20_000 {
            assert_eq!(outcome.unwrap().tip_files.len(), files);
        } else {
            refused(outcome, "LimitExceeded", "accepted 20000 ");
        }
    }
    let repository = fixture.repository("c");
    repository.write("policies/a.json", vec![b' '; 256 << 10]);
    repository.write("policies/b.json", vec![b' '; (256 << 10) + 1]);
    let first = repository.commit("sizes");
    let files = fixture.snapshot(&repository).await.unwrap().tip_files;
    let blobs: Vec<String> = files.iter().map(|file| file.blob.clone()).collect();
    assert_eq!(fixture.git.read_blobs("one", &blobs[..1]).await.unwrap()[&blobs[0]].len(), 256 << 10);
    refused(fixture.git.read_blobs("one", &blobs[1..]).await, "LimitExceeded", "at most 262144");

    let mut stream = String::new();
    for number in 0..1_002 {
        write!(stream, "commit refs/heads/main\ncommitter T <t@example.com> 1700000000 +0000\ndata 1\nx\n").unwrap();
        if number == 0 {
            writeln!(stream, "from {first}").unwrap();
        }
        writeln!(stream, "M 644 inline policies/a.json\ndata 4\n{number:04}").unwrap();
    }
    repository.git_with_input(&["fast-import", "--quiet"], stream.as_bytes());
    // both ends excluded: 1 001 commits in between, and 1 000
    for (since, skipped) in [(first, 1), (repository.git(&["rev-parse", "main~1001"]), 0)] {
        let mut request = repository.request();
        request.since = Some(since);
        let snapshot = fixture.git.snapshot(&request).await.unwrap();
        assert_eq!((snapshot.commits.len(), snapshot.skipped), (1_000, skipped));
    }
}
