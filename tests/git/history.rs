//! How a tip relates to the last verified commit.

use std::fmt::Write as _;

use sekuire_policy::git::{Ancestry, FileKind, Limits, Snapshot};

use super::support::{Fixture, Repository, paths, refused};

async fn since(fixture: &Fixture, repository: &Repository, since: &str) -> Snapshot {
    let mut request = repository.request();
    request.since = Some(since.into());
    fixture.git.snapshot(&request).await.unwrap()
}

fn ids(snapshot: &Snapshot) -> Vec<&str> {
    snapshot.commits.iter().map(|commit| commit.id.as_str()).collect()
}

#[tokio::test]
async fn at_first_sight_only_the_tip_is_read() {
    let fixture = Fixture::new();
    let repository = fixture.repository("a");
    for number in 0..5 {
        repository.commit_file(&format!("policies/{number}.json"), "{}");
    }
    let snapshot = fixture.snapshot(&repository).await.unwrap();
    assert_eq!((snapshot.ancestry, snapshot.commits.len()), (Ancestry::FirstSight, 0));
    assert_eq!(snapshot.tip_files.len(), 5);
}

#[tokio::test]
async fn an_unchanged_tip_is_listed_again() {
    let fixture = Fixture::new();
    let repository = fixture.repository("a");
    let tip = repository.commit_file("policies/a.json", "{}");
    let snapshot = since(&fixture, &repository, &tip).await;
    assert_eq!((snapshot.ancestry, snapshot.commits.len(), snapshot.tip_files.len()), (Ancestry::Unchanged, 0, 1));
}

#[tokio::test]
async fn commits_in_between_are_listed_oldest_first_with_what_each_changed() {
    let fixture = Fixture::new();
    let repository = fixture.repository("a");
    repository.write("policies/kept.json", "kept");
    let first = repository.commit_file("policies/a.json", "1");
    let second = repository.commit_file("policies/a.json", "2");
    repository.write("README.md", "nothing to see");
    let third = repository.commit("third");
    repository.git(&["rm", "-q", "policies/kept.json"]);
    let fourth = repository.commit_file("policies/deep/b.yaml", "b");
    let tip = repository.commit_file("policies/a.json", "3");

    let snapshot = since(&fixture, &repository, &first).await;
    assert_eq!((snapshot.ancestry, snapshot.tip.as_str(), snapshot.skipped), (Ancestry::Descends, tip.as_str(), 0));
    assert_eq!(ids(&snapshot), [second.as_str(), &third, &fourth]);
    let changed: Vec<Vec<&str>> = snapshot.commits.iter().map(|commit| paths(&commit.files)).collect();
    assert_eq!(changed, [vec!["policies/a.json"], vec![], vec!["policies/deep/b.yaml"]]);
    assert_eq!(snapshot.commits[0].files[0].blob, repository.git(&["rev-parse", &format!("{second}:policies/a.json")]));
    assert_eq!(paths(&snapshot.tip_files), ["policies/a.json", "policies/deep/b.yaml"]);
}

#[tokio::test]
async fn a_merge_is_walked_along_its_first_parents() {
    let fixture = Fixture::new();
    let repository = fixture.repository("a");
    let first = repository.commit_file("policies/a.json", "1");
    repository.git(&["checkout", "-q", "-b", "side"]);
    repository.commit_file("policies/side.json", "1");
    repository.commit_file("policies/side.json", "2");
    repository.git(&["checkout", "-q", "main"]);
    let second = repository.commit_file("policies/a.json", "2");
    repository.git(&["merge", "-q", "--no-ff", "-m", "merge", "side"]);
    let merge = repository.head();
    repository.commit_file("policies/a.json", "3");

    let snapshot = since(&fixture, &repository, &first).await;
    assert_eq!((snapshot.ancestry, ids(&snapshot)), (Ancestry::Descends, vec![second.as_str(), &merge]));
    assert_eq!(paths(&snapshot.commits[1].files), ["policies/side.json"]);
}

#[tokio::test]
async fn a_last_commit_that_came_in_from_the_side_of_a_merge_is_descended_from() {
    let fixture = Fixture::new();
    let repository = fixture.repository("a");
    repository.commit_file("policies/a.json", "1");
    // The branch that was watched goes on, and is then fast-forwarded to a merge made on the other line.
    repository.git(&["checkout", "-q", "-b", "other"]);
    let other = repository.commit_file("policies/b.json", "1");
    let other_2 = repository.commit_file("policies/b.json", "2");
    repository.git(&["checkout", "-q", "main"]);
    repository.commit_file("policies/a.json", "2");
    let watched = repository.commit_file("policies/a.json", "3");
    repository.git(&["checkout", "-q", "other"]);
    repository.git(&["merge", "-q", "--no-ff", "-m", "merge", "main"]);
    let tip = repository.head();
    repository.git(&["branch", "-q", "-f", "main", "other"]);
    repository.git(&["checkout", "-q", "main"]);

    let snapshot = since(&fixture, &repository, &watched).await;
    assert_eq!((snapshot.ancestry, snapshot.tip.as_str()), (Ancestry::Descends, tip.as_str()));
    assert_eq!(ids(&snapshot), [other.as_str(), &other_2]);
}

#[tokio::test]
async fn rewritten_history_is_seen_also_when_the_clone_still_holds_the_old_commits() {
    let fixture = Fixture::new();
    let repository = fixture.repository("a");
    repository.commit_file("policies/a.json", "1");
    let old = repository.commit_file("policies/a.json", "2");
    fixture.snapshot(&repository).await.unwrap();
    repository.git(&["reset", "-q", "--hard", "HEAD^"]);
    let new = repository.commit_file("policies/a.json", "3");

    let snapshot = since(&fixture, &repository, &old).await;
    assert_eq!((snapshot.ancestry, snapshot.tip.as_str()), (Ancestry::Rewritten, new.as_str()));
    assert_eq!((snapshot.commits.len(), paths(&snapshot.tip_files)), (0, vec!["policies/a.json"]));

    // The same for a tip that went back, for a new clone, and for a commit that never was.
    repository.git(&["reset", "-q", "--hard", "HEAD^"]);
    for unknown in [&old, &new, "0123456789012345678901234567890123456789"] {
        assert_eq!(since(&fixture, &repository, unknown).await.ancestry, Ancestry::Rewritten);
        fixture.git.forget("one").await.unwrap();
        assert_eq!(since(&fixture, &repository, unknown).await.ancestry, Ancestry::Rewritten);
    }
}

#[tokio::test]
async fn a_commit_without_common_history_is_a_rewrite() {
    let fixture = Fixture::new();
    let repository = fixture.repository("a");
    let old = repository.commit_file("policies/a.json", "1");
    fixture.snapshot(&repository).await.unwrap();
    repository.git(&["checkout", "-q", "--orphan", "fresh"]);
    repository.commit_file("policies/b.json", "1");
    repository.git(&["branch", "-q", "-f", "main", "fresh"]);
    repository.git(&["checkout", "-q", "main"]);
    assert_eq!(since(&fixture, &repository, &old).await.ancestry, Ancestry::Rewritten);
}

#[tokio::test]
async fn three_hundred_commits_are_all_looked_at_and_a_bound_keeps_the_newest() {
    let fixture = Fixture::new();
    let repository = fixture.repository("a");
    let first = repository.commit_file("policies/a.json", "0");
    let mut stream = String::new();
    for number in 1..=300 {
        let from = if number == 1 { format!("from {first}\n") } else { String::new() };
        write!(
            stream,
            "commit refs/heads/main\ncommitter Test <t@example.com> {} +0000\ndata 1\nx\n{from}\
             M 644 inline policies/a.json\ndata 3\n{number:03}\n",
            1_700_000_000 + number
        )
        .unwrap();
    }
    repository.git_with_input(&["fast-import", "--quiet"], stream.as_bytes());

    let snapshot = since(&fixture, &repository, &first).await;
    assert_eq!((snapshot.commits.len(), snapshot.skipped), (299, 0));
    let listed = repository.git(&["rev-list", "--first-parent", "--reverse", &format!("{first}..main^")]);
    assert_eq!(ids(&snapshot), listed.lines().collect::<Vec<_>>());
    assert!(snapshot.commits.iter().all(|commit| paths(&commit.files) == ["policies/a.json"]));

    let few = Fixture::with(Limits { commits: 10, ..Limits::default() });
    let bounded = since(&few, &repository, &first).await;
    assert_eq!((bounded.commits.len(), bounded.skipped), (10, 289));
    assert_eq!(bounded.commits[..], snapshot.commits[289..]);
}

#[tokio::test]
async fn one_commit_with_too_many_files_in_between_does_not_hide_the_others() {
    let fixture = Fixture::with(Limits { files: 20, ..Limits::default() });
    let repository = fixture.repository("a");
    let first = repository.commit_file("policies/a.json", "1");
    let second = repository.commit_file("policies/a.json", "2");
    for number in 0..30 {
        repository.write(&format!("policies/flood/{number}.json"), "{}");
    }
    repository.commit("flood");
    repository.git(&["rm", "-q", "-r", "policies/flood"]);
    let fourth = repository.commit("cleaned up");
    repository.commit_file("policies/a.json", "3");
    let snapshot = since(&fixture, &repository, &first).await;
    assert_eq!((ids(&snapshot), snapshot.skipped), (vec![second.as_str(), &fourth], 1));
}

/// Commits a tree with one entry in `policies` of this name and mode, which `git add` would not make.
fn commit_entry(repository: &Repository, mode: &str, name: &str, content: &str) -> String {
    let blob = repository.git_with_input(&["hash-object", "-w", "--stdin"], content.as_bytes());
    let bytes: Vec<u8> =
        (0..40).step_by(2).map(|digit| u8::from_str_radix(&blob[digit..digit + 2], 16).unwrap()).collect();
    let tree = [mode.as_bytes(), b" ", name.as_bytes(), b"\0", &bytes].concat();
    let tree = repository.git_with_input(&["hash-object", "-t", "tree", "-w", "--literally", "--stdin"], &tree);
    let root = repository.git_with_input(&["mktree"], format!("040000 tree {tree}\tpolicies\n").as_bytes());
    let parent = repository.head();
    let commit = repository.git_with_input(&["commit-tree", "-p", &parent, &root], b"odd");
    repository.git(&["update-ref", "refs/heads/main", &commit]);
    commit
}

#[tokio::test]
async fn a_malformed_entry_of_a_commit_in_between_costs_itself_and_hides_nothing() {
    // `..` is no name of a document, and so nothing that is missed
    for (mode, name, listed) in [("100644", "..", 0), ("100644", "../a.json", 1), ("10644", "a.json", 1)] {
        let fixture = Fixture::new();
        let repository = fixture.repository("a");
        let first = repository.commit_file("policies/a.json", "1");
        let second = repository.commit_file("policies/a.json", "2");
        let odd = commit_entry(&repository, mode, name, "odd");
        let fourth = repository.commit_file("policies/a.json", "4");
        repository.commit_file("policies/a.json", "5");
        // with a new clone, and again with the one that is there
        for _ in 0..2 {
            let snapshot = since(&fixture, &repository, &first).await;
            let commits = vec![second.as_str(), &odd, &fourth];
            assert_eq!((ids(&snapshot), snapshot.skipped), (commits, 0), "{mode} {name}");
            let kinds: Vec<FileKind> = snapshot.commits[1].files.iter().map(|file| file.kind).collect();
            assert_eq!(kinds, vec![FileKind::Malformed; listed], "{mode} {name}");
            assert_eq!(paths(&snapshot.commits[2].files), ["policies/a.json"]);
        }
    }
}

#[tokio::test]
async fn single_documents_of_older_commits_come_along_and_unknown_ones_are_absent() {
    let fixture = Fixture::new();
    let repository = fixture.repository("a");
    repository.write("elsewhere/a.json", "1");
    repository.write("policies/deep/line\nbreak.json", "3");
    repository.write("policies/deep/other.json", "4");
    let first = repository.commit_file("policies/a.json", "1");
    repository.git(&["mv", "policies/a.json", "policies/b.json"]);
    let second = repository.commit("moved");
    let unknown = "0123456789012345678901234567890123456789".to_owned();
    let asked = [
        (&unknown, "policies/a.json"),
        (&first, "policies/deep/line\nbreak.json"),
        (&first, "policies/a.json"),
        (&first, "policies/b.json"),
        (&first, "policies/deep"),
        (&first, "policies"),
        (&first, "policies/a.json/x.json"),
        (&first, "policies//a.json"),
        (&first, "policies/../elsewhere/a.json"),
        (&first, "elsewhere/a.json"),
        (&first, "../a.json"),
        (&first, ""),
        (&second, "policies/a.json"),
    ];
    let mut request = repository.request();
    request.also = asked.iter().map(|(commit, path)| ((*commit).clone(), (*path).to_owned())).collect();
    for offline in [false, true] {
        request.offline = offline;
        let snapshot = fixture.git.snapshot(&request).await.unwrap();
        let [also] = &snapshot.also[..] else { panic!("{:?}", snapshot.also) };
        assert_eq!(also.id, first);
        assert_eq!(paths(&also.files), ["policies/deep/line\nbreak.json", "policies/a.json"]);
        assert_eq!(also.files[1].blob, repository.git(&["rev-parse", &format!("{first}:policies/a.json")]));
    }
}

#[tokio::test]
async fn documents_of_many_large_commits_and_malformed_entries_never_cost_the_tip() {
    let fixture = Fixture::with(Limits { files: 20, ..Limits::default() });
    let repository = fixture.repository("a");
    let mut request = repository.request();
    for round in 0..9 {
        for number in 0..20 {
            repository.write(&format!("policies/{number}.json"), format!("{round} {number}"));
        }
        let commit = repository.commit("many");
        request.also.extend((0..20).map(|number| (commit.clone(), format!("policies/{number}.json"))));
    }
    for number in 20..40 {
        repository.write(&format!("policies/{number}.json"), "more than is accepted");
    }
    let flood = repository.commit("flood");
    request.also.push((flood.clone(), "policies/30.json".into()));
    let odd = commit_entry(&repository, "10644", "a.json", "odd");
    request.also.push((odd.clone(), "policies/a.json".into()));
    repository.git(&["rm", "-q", "-r", "--cached", "policies"]);
    std::fs::remove_dir_all(repository.path.join("policies")).unwrap();
    let tip = repository.commit_file("policies/signed-again.json", "{}");

    let snapshot = fixture.git.snapshot(&request).await.unwrap();
    assert_eq!((snapshot.tip.as_str(), paths(&snapshot.tip_files)), (&*tip, vec!["policies/signed-again.json"]));
    assert_eq!((snapshot.also.len(), snapshot.also.iter().map(|commit| commit.files.len()).sum::<usize>()), (11, 182));
    let odd = snapshot.also.iter().find(|commit| commit.id == odd).unwrap();
    assert_eq!(odd.files[0].kind, FileKind::Malformed);
    assert!(snapshot.also.iter().any(|commit| commit.id == flood), "one document of a flood is no flood");
}

#[tokio::test]
async fn a_last_commit_that_is_no_object_id_is_refused() {
    let fixture = Fixture::new();
    let repository = fixture.repository("a");
    let mut request = repository.request();
    request.since = Some("HEAD~1".into());
    refused(fixture.git.snapshot(&request).await, "GitOperationFailed", "40 hexadecimal");
}

#[tokio::test]
async fn a_server_whose_repository_is_shallow_is_refused_with_that_as_a_possible_cause() {
    let fixture = Fixture::new();
    let origin = fixture.repository("origin");
    origin.commit_file("policies/a.json", "1");
    origin.commit_file("policies/a.json", "2");
    origin.git(&["clone", "-q", "--bare", "--depth", "1", &origin.url(), "../shallow"]);
    let server = super::server::Server::start(fixture.root()).await;
    let request = sekuire_policy::git::Request::new("one", server.url("shallow"));
    refused(fixture.git.snapshot(&request).await, "GitOperationFailed", "shallow clone");
}
