//! Fetching from servers, good ones and bad ones.

use std::time::{Duration, Instant};

use sekuire_policy::git::{Ancestry, Git, Limits, Login, Reference, Request};

use super::child::{child, children};
use super::server::{Manner, Server};
use super::support::{Fixture, Repository, refused};

const HOST_KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGjzT0bUWCzDpaFMUWAGyEE3RHl/JAjVGpu8oqzL5GPK";

/// Within which a fetch that may take two seconds has ended, on a busy machine too. Otherwise it would take half a minute.
const SOON: Duration = Duration::from_secs(25);

fn with_file(fixture: &Fixture, name: &str) -> Repository {
    let repository = fixture.repository(name);
    repository.commit_file("policies/a.json", "{}");
    repository
}

fn request(server: &Server, repository: &str) -> Request {
    let mut request = Request::new("one", server.url(repository));
    request.timeout = Duration::from_secs(30);
    request
}

/// Shows that the same [`Git`] still works, on another repository and on the same key.
async fn works(fixture: &Fixture) {
    let repository = with_file(fixture, "next");
    let mut request = repository.request();
    for key in ["two", "one"] {
        request.key = key.into();
        assert_eq!(fixture.git.snapshot(&request).await.unwrap().tip_files.len(), 1, "{key}");
    }
}

#[tokio::test]
async fn a_smart_http_server_is_fetched_from_and_asked_for_a_pack_only_when_the_tip_moved() {
    let fixture = Fixture::new();
    let repository = with_file(&fixture, "a");
    let server = Server::start(fixture.root()).await;
    let mut request = request(&server, "a/.git");

    let first = fixture.git.snapshot(&request).await.unwrap();
    assert_eq!((first.reference.as_str(), first.tip.clone()), ("main", repository.head()));
    let packs = server.packs();
    assert!(packs > 0);
    fixture.git.snapshot(&request).await.unwrap();
    assert_eq!(server.packs(), packs);

    request.since = Some(first.tip);
    for number in 0..30 {
        repository.commit_file("policies/a.json", format!("{{\"n\":{number}}}"));
    }
    let second = fixture.git.snapshot(&request).await.unwrap();
    assert_eq!((second.ancestry, second.commits.len()), (Ancestry::Descends, 29));
    assert!(server.packs() > packs);
    let blob = second.tip_files[0].blob.clone();
    assert_eq!(fixture.git.read_blobs("one", std::slice::from_ref(&blob)).await.unwrap()[&blob], b"{\"n\":29}");
}

#[tokio::test]
async fn only_the_one_branch_is_fetched_and_no_tag() {
    let fixture = Fixture::new();
    let repository = with_file(&fixture, "a");
    repository.git(&["checkout", "-q", "-b", "other"]);
    let other = repository.commit_file("policies/other.json", "other");
    repository.git(&["tag", "-a", "-m", "tag", "v1"]);
    repository.git(&["checkout", "-q", "main"]);
    let server = Server::start(fixture.root()).await;
    let mut request = request(&server, "a/.git");
    request.also = vec![(other.clone(), "policies/other.json".into())];
    assert!(fixture.git.snapshot(&request).await.unwrap().also.is_empty());

    request.reference = Reference::Branch("other".into());
    let snapshot = fixture.git.snapshot(&request).await.unwrap();
    assert_eq!((snapshot.reference.as_str(), snapshot.tip.as_str()), ("other", other.as_str()));
    let clone = Repository { path: fixture.data().join("one/clone") };
    assert_eq!(clone.git(&["for-each-ref", "--format=%(refname)"]), "refs/sekuire/heads/other");
}

#[tokio::test]
async fn without_network_the_clone_is_read_as_it_is() {
    let fixture = Fixture::new();
    let repository = with_file(&fixture, "a");
    let mut request = repository.request();
    request.offline = true;
    refused(fixture.git.snapshot(&request).await, "GitOperationFailed", "no clone yet");
    request.offline = false;
    let online = fixture.git.snapshot(&request).await.unwrap();
    repository.commit_file("policies/b.json", "{}");
    request.offline = true;
    assert_eq!(fixture.git.snapshot(&request).await.unwrap(), online);
    request.reference = Reference::Branch("main".into());
    assert_eq!(fixture.git.snapshot(&request).await.unwrap(), online);
    request.reference = Reference::Branch("other".into());
    refused(fixture.git.snapshot(&request).await, "GitOperationFailed", "not been fetched yet");
}

#[tokio::test]
async fn an_unknown_branch_is_answered_with_those_that_exist() {
    let fixture = Fixture::new();
    let repository = with_file(&fixture, "a");
    for name in ["b1", "b2", "b3", "b4", "b5"] {
        repository.git(&["branch", name]);
    }
    let mut request = repository.request();
    request.reference = Reference::Branch("master".into());
    let error = refused(fixture.git.snapshot(&request).await, "GitOperationFailed", "no branch \"master\"");
    assert!(error.to_string().contains("b1, b2, b3, b4, b5 and 1 more"), "{error}");
    assert!(!error.permanent());
}

#[tokio::test]
async fn an_empty_repository_and_a_head_that_names_nothing_say_what_to_do() {
    let fixture = Fixture::new();
    let repository = fixture.repository("a");
    let server = Server::start(fixture.root()).await;
    for request in [repository.request(), request(&server, "a/.git")] {
        refused(fixture.git.snapshot(&request).await, "GitOperationFailed", "push a first commit");
    }
    repository.commit_file("policies/a.json", "{}");
    repository.git(&["symbolic-ref", "HEAD", "refs/heads/gone"]);
    for request in [repository.request(), request(&server, "a/.git")] {
        refused(fixture.git.snapshot(&request).await, "GitOperationFailed", "spec.ref.branch to one of: main");
    }
}

#[tokio::test]
async fn a_branch_whose_name_is_not_utf8_does_not_stop_the_others() {
    let fixture = Fixture::new();
    let repository = with_file(&fixture, "a");
    let packed = format!("{} refs/heads/bad-", repository.head()).into_bytes();
    std::fs::write(repository.path.join(".git/packed-refs"), [&packed[..], b"\xff\xfe\n"].concat()).unwrap();
    let server = Server::start(fixture.root()).await;
    assert_eq!(fixture.git.snapshot(&request(&server, "a/.git")).await.unwrap().reference, "main");
}

#[tokio::test]
async fn what_is_no_repository_or_cannot_be_reached_says_so() {
    let fixture = Fixture::new();
    let server = Server::start(fixture.root()).await;
    refused(fixture.git.snapshot(&request(&server, "nothing")).await, "GitOperationFailed", "no repository there");
    let mut gone = request(&server, "a");
    drop(server);
    // The task may still hold the port for a moment; what counts is that every outcome is an error of this kind.
    for url in
        [gone.url.clone(), "http://127.0.0.1:1/a".into(), "http://host.invalid/a".into(), "file:///nowhere".into()]
    {
        gone.url = url;
        let error = refused(fixture.git.snapshot(&gone).await, "GitOperationFailed", "cannot reach");
        assert!(!error.permanent());
        // advice that fits: a path is not looked up in DNS
        let said = error.to_string();
        assert_eq!(said.contains("DNS"), gone.url.contains("host.invalid"), "{said}");
        assert_eq!(said.contains("this machine"), gone.url.starts_with("file:"), "{said}");
    }
    works(&fixture).await;
}

#[tokio::test]
async fn a_server_that_wants_credentials_is_an_authentication_failure() {
    let fixture = Fixture::new();
    let basic = vec![("www-authenticate", "Basic realm=\"x\"".to_owned())];
    for (status, headers) in [(401, basic), (403, vec![])] {
        let server = Server::with(fixture.root(), Manner::Status(status, headers)).await;
        refused(fixture.git.snapshot(&request(&server, "a")).await, "AuthenticationFailed", "");
    }
}

#[tokio::test]
async fn a_url_that_is_not_accepted_is_refused_for_good_without_repeating_a_secret() {
    let fixture = Fixture::new();
    for url in ["http://user:s3cret@127.0.0.1/a", "ext::sh -c s3cret", "git@example.com:s3cret/a.git"] {
        let error = refused(fixture.git.snapshot(&Request::new("one", url)).await, "URLInvalid", "https://");
        assert!(error.permanent() && !error.to_string().contains("s3cret"), "{error}");
    }
    let strict = Git::new(env!("CARGO_BIN_EXE_sekuire").into(), fixture.data(), Limits::default(), false);
    let repository = with_file(&fixture, "a");
    refused(strict.snapshot(&repository.request()).await, "URLInvalid", "local file");
    refused(strict.snapshot(&Request::new("one", "http://127.0.0.1/a")).await, "URLInvalid", "plain http");
}

#[tokio::test]
async fn a_redirect_to_another_host_is_not_followed() {
    let fixture = Fixture::new();
    with_file(&fixture, "a");
    let target = Server::start(fixture.root()).await;
    let location = format!("http://localhost:{}/a/.git/info/refs?service=git-upload-pack", target.port());
    let server = Server::with(fixture.root(), Manner::Status(302, vec![("location", location)])).await;
    refused(fixture.git.snapshot(&request(&server, "a/.git")).await, "GitOperationFailed", "give the final address");
    assert_eq!(target.requests.lock().unwrap().len(), 0);
    works(&fixture).await;
}

#[tokio::test]
async fn a_link_local_address_is_not_connected_to() {
    let fixture = Fixture::new();
    for host in ["169.254.169.254", "[fe80::1]", "[::ffff:169.254.169.254]", "0xA9FEA9FE"] {
        let request = Request::new("one", format!("https://{host}/latest/meta-data"));
        refused(fixture.git.snapshot(&request).await, "GitOperationFailed", "link-local");
    }
}

#[tokio::test]
async fn a_server_that_falls_silent_is_given_up_and_the_next_repository_works() {
    let fixture = Fixture::new();
    let server = Server::with(fixture.root(), Manner::Hangs).await;
    let mut request = request(&server, "a");
    request.timeout = Duration::from_secs(2);
    let start = Instant::now();
    refused(fixture.git.snapshot(&request).await, "GitOperationFailed", "");
    assert!(start.elapsed() < SOON);
    works(&fixture).await;
}

#[tokio::test]
async fn a_silent_ssh_or_tls_server_is_given_up_when_the_time_is_over_and_no_process_stays() {
    let fixture = Fixture::new();
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    let known_hosts = format!("[127.0.0.1]:{} {HOST_KEY}", address.port());
    let ssh = Login::Ssh { identity: "no key".to_owned().into(), passphrase: None, known_hosts };
    for (url, login) in [(format!("ssh://git@{address}/a"), ssh), (format!("https://{address}/a"), Login::None)] {
        let mut request = Request::new("one", url);
        request.access.login = login;
        request.timeout = Duration::from_secs(2);
        let start = Instant::now();
        let data = fixture.data();
        // a process waits for it meanwhile
        let (outcome, _) = tokio::join!(fixture.git.snapshot(&request), child(&data));
        refused(outcome, "GitOperationFailed", "");
        assert!(start.elapsed() < SOON);
        assert_eq!(children(&data), []);
    }
    works(&fixture).await;
}

#[tokio::test]
async fn a_content_type_counts_without_case_and_parameters() {
    let fixture = Fixture::new();
    with_file(&fixture, "a");
    for content_type in [
        "application/x-git-upload-pack-@; charset=utf-8",
        "Application/X-Git-Upload-Pack-@",
        "application/x-git-upload-pack-@ ;charset=\"utf-8\"; q=1",
    ] {
        let server = Server::with(fixture.root(), Manner::Says(content_type)).await;
        assert_eq!(
            fixture.git.snapshot(&request(&server, "a/.git")).await.unwrap().tip_files.len(),
            1,
            "{content_type}"
        );
        fixture.git.forget("one").await.unwrap();
    }
    for content_type in ["text/html; application/x-git-upload-pack-@", "application/x-git-upload-pack-@x", ""] {
        let server = Server::with(fixture.root(), Manner::Says(content_type)).await;
        refused(fixture.git.snapshot(&request(&server, "a/.git")).await, "GitOperationFailed", "not a Git server");
    }
}

#[tokio::test]
async fn a_tls_certificate_is_checked_against_the_trusted_authorities() {
    let fixture = Fixture::new();
    with_file(&fixture, "a");
    let server = Server::start(fixture.root()).await;
    let (port, certificate) = super::server::tls(server.port()).await;
    let mut request = request(&server, "a/.git");
    for host in ["localhost", "127.0.0.1"] {
        request.url = format!("https://{host}:{port}/a/.git");
        refused(fixture.git.snapshot(&request).await, "GitOperationFailed", "certificate");
    }
    assert_eq!(server.requests.lock().unwrap().len(), 0);

    // A program that trusts the certificate. A shell writes it, so that no process of ours holds it open.
    let program = fixture.root().join("trusting");
    std::fs::write(fixture.root().join("ca.pem"), certificate).unwrap();
    let script = format!(
        "#!/bin/sh\nSSL_CERT_FILE={}/ca.pem exec {} \"$@\"\n",
        fixture.root().display(),
        env!("CARGO_BIN_EXE_sekuire")
    );
    let write = format!("cat > {0} && chmod +x {0}", program.display());
    let mut shell =
        std::process::Command::new("sh").args(["-c", &write]).stdin(std::process::Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut shell.stdin.take().unwrap(), script.as_bytes()).unwrap();
    assert!(shell.wait().unwrap().success());
    let trusting = Git::new(program, fixture.data(), Limits::default(), false);
    refused(trusting.snapshot(&request).await, "GitOperationFailed", "");
    request.url = format!("https://localhost:{port}/a/.git");
    assert_eq!(trusting.snapshot(&request).await.unwrap().tip_files.len(), 1);
}

#[tokio::test]
async fn a_server_that_sends_a_byte_at_a_time_is_killed_when_the_time_is_over() {
    let fixture = Fixture::new();
    let server = Server::with(fixture.root(), Manner::Trickles).await;
    let mut request = request(&server, "a");
    request.timeout = Duration::from_secs(2);
    let start = Instant::now();
    refused(fixture.git.snapshot(&request).await, "GitOperationFailed", "gave up after 2s");
    assert!(start.elapsed() < SOON);
    assert_eq!(children(&fixture.data()), []);
    works(&fixture).await;
}

#[tokio::test]
async fn broken_answers_are_errors_and_leave_nothing_behind() {
    let fixture = Fixture::new();
    with_file(&fixture, "a");
    for manner in [Manner::Garbage, Manner::GarbagePack, Manner::ResetsHalfWay] {
        let server = Server::with(fixture.root(), manner).await;
        refused(fixture.git.snapshot(&request(&server, "a/.git")).await, "GitOperationFailed", "");
        assert!(!fixture.data().join("one/new").exists());
    }
    works(&fixture).await;
}

#[tokio::test]
async fn a_broken_answer_leaves_the_clone_that_was_there() {
    let fixture = Fixture::new();
    let repository = with_file(&fixture, "a");
    let server = Server::start(fixture.root()).await;
    let mut request = request(&server, "a/.git");
    let first = fixture.git.snapshot(&request).await.unwrap();
    let tip = repository.commit_file("policies/b.json", "{}");
    for manner in [Manner::Garbage, Manner::GarbagePack, Manner::ResetsHalfWay, Manner::Status(500, vec![])] {
        server.behave(manner);
        request.offline = false;
        refused(fixture.git.snapshot(&request).await, "GitOperationFailed", "");
        request.offline = true;
        assert_eq!(fixture.git.snapshot(&request).await.unwrap(), first);
    }
    server.behave(Manner::Honest);
    request.offline = false;
    assert_eq!(fixture.git.snapshot(&request).await.unwrap().tip, tip);
}

#[tokio::test]
async fn a_pack_without_end_is_stopped_at_the_size_that_is_accepted() {
    let fixture = Fixture::with(Limits { pack_bytes: 8 << 20, ..Limits::default() });
    with_file(&fixture, "a");
    let server = Server::with(fixture.root(), Manner::EndlessPack).await;
    refused(fixture.git.snapshot(&request(&server, "a/.git")).await, "LimitExceeded", "accepted 8388608 bytes");
    assert!(!fixture.data().join("one/new").exists());
    works(&fixture).await;
}

#[tokio::test]
async fn branches_without_end_are_stopped_by_the_memory_that_is_accepted() {
    let fixture = Fixture::with(Limits { memory_bytes: 256 << 20, ..Limits::default() });
    let server = Server::with(fixture.root(), Manner::EndlessBranches).await;
    refused(fixture.git.snapshot(&request(&server, "a")).await, "LimitExceeded", "memory");
    works(&fixture).await;
}
