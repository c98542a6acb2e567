//! Branches, tags, ranges of versions and commits.

use sekuire_policy::git::{Ancestry, GitError, Reference, Request, Snapshot};

use super::server::Server;
use super::support::{Fixture, Repository, paths, refused};

/// A repository with one commit after another, tagged `v1.0.0`, `1.1.0` (annotated), `v1.2.0-rc.1` and `v2.0.0`, each
/// with a file of that name; `main` is one further.
fn versions(fixture: &Fixture) -> Repository {
    let repository = fixture.repository("a");
    for tag in ["v1.0.0", "1.1.0", "v1.2.0-rc.1", "v2.0.0"] {
        repository.commit_file(&format!("policies/{tag}.json"), "{}");
        match tag {
            "1.1.0" => repository.git(&["tag", "-a", "-m", "a version", tag]),
            _ => repository.git(&["tag", tag]),
        };
    }
    repository.git(&["tag", "latest"]);
    repository.commit_file("policies/next.json", "{}");
    repository
}

fn commit(repository: &Repository, of: &str) -> String {
    repository.git(&["rev-parse", &format!("{of}^{{commit}}")])
}

async fn read(fixture: &Fixture, url: &str, reference: Reference) -> Result<Snapshot, GitError> {
    let mut request = Request::new("one", url);
    request.reference = reference;
    let online = fixture.git.snapshot(&request).await?;
    request.offline = true;
    assert_eq!(fixture.git.snapshot(&request).await.unwrap(), online, "without network");
    Ok(online)
}

fn tag(name: &str) -> Reference {
    Reference::Tag(name.into())
}

fn semver(range: &str) -> Reference {
    Reference::Semver(range.into())
}

#[tokio::test]
async fn a_tag_is_read_where_it_ends_also_behind_an_object_of_its_own() {
    let fixture = Fixture::new();
    let repository = versions(&fixture);
    repository.git(&["tag", "-a", "-m", "of a tag", "twice", "1.1.0"]);
    let server = Server::start(fixture.root()).await;
    for url in [repository.url(), server.url("a/.git")] {
        for (name, is) in [("v1.0.0", "v1.0.0"), ("1.1.0", "1.1.0"), ("twice", "1.1.0"), ("latest", "v2.0.0")] {
            let snapshot = read(&fixture, &url, tag(name)).await.unwrap();
            assert_eq!((snapshot.reference.as_str(), snapshot.tip), (name, commit(&repository, is)));
            assert!(paths(&snapshot.tip_files).contains(&&*format!("policies/{is}.json")));
        }
    }
}

#[tokio::test]
async fn of_a_range_the_highest_version_is_read_and_other_tags_do_not_count() {
    let fixture = Fixture::new();
    let repository = versions(&fixture);
    for (range, best) in [
        ("1.x", "1.1.0"),
        ("~1.0", "v1.0.0"),
        ("*", "v2.0.0"),
        (">=1.0.0 <2.0.0", "1.1.0"),
        (">=1.2.0-rc.1, <2.0.0", "v1.2.0-rc.1"),
        ("1.0.0", "v1.0.0"),
    ] {
        let snapshot = read(&fixture, &repository.url(), semver(range)).await.unwrap();
        assert_eq!((snapshot.reference.as_str(), snapshot.tip), (best, commit(&repository, best)), "{range}");
    }
    repository.git(&["tag", "v1.10.0"]);
    assert_eq!(read(&fixture, &repository.url(), semver("1.x")).await.unwrap().reference, "v1.10.0");
}

#[tokio::test]
async fn a_commit_is_read_whether_or_not_a_branch_stands_at_it() {
    let fixture = Fixture::new();
    let repository = versions(&fixture);
    let server = Server::start(fixture.root()).await;
    for (number, url) in [repository.url(), server.url("a/.git")].iter().enumerate() {
        for (allowed, of) in [("false", "main"), ("false", "v1.0.0"), ("false", "main~3"), ("true", "main~2")] {
            repository.git(&["config", "uploadpack.allowAnySHA1InWant", allowed]);
            let wanted = commit(&repository, of);
            let mut request = Request::new(format!("{number}-{wanted}"), url);
            request.reference = Reference::Commit(wanted.clone());
            let snapshot = fixture.git.snapshot(&request).await.unwrap();
            assert_eq!((snapshot.reference.as_str(), snapshot.tip.as_str()), ("", wanted.as_str()), "{of}");
            request.offline = true;
            assert_eq!(fixture.git.snapshot(&request).await.unwrap(), snapshot);
        }
    }
}

#[tokio::test]
async fn only_a_branch_has_a_history_to_keep() {
    let fixture = Fixture::new();
    let repository = versions(&fixture);
    let last = read(&fixture, &repository.url(), tag("latest")).await.unwrap().tip;
    repository.git(&["tag", "-f", "latest", "v1.0.0"]);
    let mut request = repository.request();
    request.since = Some(last);
    for reference in [tag("latest"), semver("1.x"), Reference::Commit(commit(&repository, "v1.0.0"))] {
        request.reference = reference;
        assert_eq!(fixture.git.snapshot(&request).await.unwrap().ancestry, Ancestry::FirstSight);
    }
    request.reference = Reference::Branch("main".into());
    assert_eq!(fixture.git.snapshot(&request).await.unwrap().ancestry, Ancestry::Descends);
}

#[tokio::test]
async fn what_is_not_there_is_answered_with_what_is() {
    let fixture = Fixture::new();
    let repository = versions(&fixture);
    let read = async |reference| read(&fixture, &repository.url(), reference).await;
    refused(read(tag("main")).await, "GitOperationFailed", "no tag \"main\"; there are: 1.1.0, latest");
    refused(read(semver(">=3")).await, "GitOperationFailed", "there are: 1.1.0, latest, v1.0.0");
    let nowhere = Reference::Commit("1".repeat(40));
    let error = refused(read(nowhere).await, "GitOperationFailed", "no commit 1111");
    assert!(!error.permanent());
    for name in repository.git(&["tag"]).lines() {
        repository.git(&["tag", "-d", name]);
    }
    refused(read(tag("v1.0.0")).await, "GitOperationFailed", "none at all");
    refused(read(semver("*")).await, "GitOperationFailed", "has no tag");
}

#[tokio::test]
async fn a_tag_of_something_else_than_a_commit_is_refused_and_the_clone_stays() {
    let fixture = Fixture::new();
    let repository = versions(&fixture);
    let good = read(&fixture, &repository.url(), tag("v1.0.0")).await.unwrap();
    let blob = repository.git_with_input(&["hash-object", "-w", "--stdin"], b"no commit");
    repository.git(&["tag", "blob", &blob]);
    repository.git(&["tag", "-a", "-m", "of a tree", "tree", "HEAD^{tree}"]);
    for name in ["blob", "tree"] {
        refused(
            read(&fixture, &repository.url(), tag(name)).await,
            "GitOperationFailed",
            "no commit and no tag of one",
        );
    }
    assert_eq!(read(&fixture, &repository.url(), tag("v1.0.0")).await.unwrap(), good);
}

#[tokio::test]
async fn a_reference_that_can_name_nothing_is_refused_for_good() {
    let fixture = Fixture::new();
    let repository = versions(&fixture);
    for reference in [
        semver("one to two"),
        Reference::Commit("abc".into()),
        Reference::Branch("a..b".into()),
        Reference::Branch("a b".into()),
        tag("v1^{}"),
    ] {
        let error = read(&fixture, &repository.url(), reference).await.unwrap_err();
        assert!(error.permanent(), "{error}");
    }
}
