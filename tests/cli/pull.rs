//! `sekuire policy pull`, from read APIs and Git repositories. From a cluster: see `reconcile::pull`.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::sync::mpsc::{self, Receiver};
use std::thread;

use serde_json::{Value, json};

use super::support::{Desk, Ended, JSON};
use crate::cluster::GitRepo;
use crate::cluster::ports::Port;
use crate::cluster::skip::skip;
use crate::git::server::tls;

/// A server that gives the same answer to everybody, byte for byte. Its thread ends with the process.
struct Server {
    port: u16,
    requests: Receiver<String>,
}

impl Server {
    fn new(answer: Vec<u8>) -> Server {
        Server::serving(answer, false)
    }

    /// One that says what it has, and then neither ends nor goes on.
    fn silent_after(answer: Vec<u8>) -> Server {
        Server::serving(answer, true)
    }

    fn serving(answer: Vec<u8>, then_silent: bool) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (tell, requests) = mpsc::channel();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, mut head) = (stream.unwrap(), Vec::new());
                while !head.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    match stream.read(&mut byte) {
                        Ok(1) => head.push(byte[0]),
                        _ => break,
                    }
                }
                // a client that has read enough hangs up, and a test that has seen enough ends
                let _ = tell.send(String::from_utf8(head).unwrap());
                let _ = stream.write_all(&answer);
                if then_silent {
                    let _ = stream.read(&mut [0]);
                }
            }
        });
        Server { port, requests }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

fn http(status: &str, headers: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len()).into()
}

fn ok(body: &str) -> Vec<u8> {
    http("200 OK", "Content-Type: application/json; charset=utf-8\r\n", body)
}

/// A signed document as a read API serves it: compact, with a key that nobody should believe.
fn served(desk: &Desk) -> Value {
    desk.write("source.json", JSON);
    let ended = desk.sign(&["source.json"]);
    assert_eq!(ended.code, 0, "{}", ended.err);
    let mut document: Value = serde_json::from_str(&desk.read("source.json")).unwrap();
    document["signing_public_key"] = "00".repeat(32).into();
    document
}

/// The document as it is written: with the key that verified it, since no signature covers the one that was served.
fn written(desk: &Desk, mut document: Value) -> Value {
    let shown = desk.run(&["key", "show", &desk.private_key(), "-o", "json"]);
    let shown: Value = serde_json::from_str(&shown.out).unwrap();
    document["signing_public_key"] = shown[0]["publicKey"].clone();
    document
}

fn pull(desk: &Desk, more: &[&str]) -> Ended {
    desk.run(&[&["policy", "pull", "--workspace", "ws_a", "--trust", "keys"], more].concat())
}

#[test]
fn what_a_backend_serves_is_verified_and_written_member_for_member() {
    let desk = Desk::new();
    let document = served(&desk);
    let server = Server::new(ok(&document.to_string()));
    let document = written(&desk, document);
    let url = format!("{}/sekuire/", server.url());
    let ended = pull(&desk, &["--backend", &url]);
    assert_eq!((ended.code, ended.out), (0, format!("{document:#}\n")), "{}", ended.err);
    let request = server.requests.recv().unwrap().to_ascii_lowercase();
    assert!(request.starts_with("get /sekuire/api/v1/workspaces/ws_a/policy/active http/1.1\r\n"), "{request}");
    assert!(request.contains("accept: application/json") && !request.contains("authorization"), "{request}");
    desk.write("policy.json", "something older");
    for out in ["policy.json", "policy.yaml"] {
        let ended = pull(&desk, &["--backend", &url, "--out", out]);
        assert_eq!((ended.code, ended.out.as_str()), (0, ""), "{}", ended.err);
        assert!(ended.err.starts_with(&format!("wrote {out}: policy_a version 1.9 of ws_a")), "{}", ended.err);
        let written: Value = serde_yaml::from_str(&desk.read(out)).unwrap();
        assert_eq!(written, document);
    }
    assert_eq!(desk.read("policy.json"), format!("{document:#}\n"));
    assert_eq!(desk.results(&["policy.json", "policy.yaml"]), ["Verified", "Verified"]);
}

#[test]
fn what_is_refused_is_named_with_its_reason_and_leaves_the_file_as_it_was() {
    let desk = Desk::new();
    let good = served(&desk);
    let changed = |member: &str, value: Value| {
        let mut document = good.clone();
        document[member] = value;
        document.to_string()
    };
    let signed = |member: &str, value: &str| {
        let mut document: Value = serde_json::from_str(JSON).unwrap();
        document[member] = value.into();
        desk.write("other.json", &document.to_string());
        assert_eq!(desk.sign(&["other.json"]).code, 0);
        desk.read("other.json")
    };
    desk.write("policy.json", "as it was");
    for (answer, words) in [
        (changed("content", json!({})), "HashMismatch"),
        (changed("expires_at", json!("2999-01-01T00:00:00Z")), "DocumentSignatureInvalid"),
        (changed("signing_key_id", json!("key_other")), "UnknownSigningKey: the signing key key_other is not among"),
        (changed("kontent", json!({})), "Malformed: line 1: kontent: unknown member"),
        (signed("workspace_id", "ws_b"), "for the workspace ws_b, not for ws_a"),
        (signed("status", "draft"), "version 1.9 of ws_a is draft, not active"),
        (signed("status", "archived"), "version 1.9 of ws_a is archived, not active"),
        ("{\"\\u001b[2J\": 1}".to_owned(), "Malformed"),
        (String::new(), "Malformed"),
    ] {
        let server = Server::new(ok(&answer));
        let ended = pull(&desk, &["--backend", &server.url(), "--out", "policy.json"]);
        assert_eq!(ended.code, 1, "{words}: {}", ended.err);
        assert!(ended.err.contains(words) && ended.err.contains("nothing was written"), "{}", ended.err);
        assert!(!ended.err.contains('\u{1b}'), "{}", ended.err);
        assert_eq!(desk.read("policy.json"), "as it was");
    }
}

#[test]
fn a_backend_that_is_none_is_told_from_one_that_has_no_policy() {
    let desk = Desk::new();
    let json = "Content-Type: application/json\r\n";
    let html = "Content-Type: text/html\r\n";
    let huge = format!("{{\"x\": \"{}\"}}", "x".repeat(300 * 1024));
    for (answer, code, words) in [
        (
            http("404 Not Found", json, r#"{"message": "the workspace has no policy"}"#),
            1,
            "no policy in force for ws_a",
        ),
        (http("404 Not Found", html, "<h1>\u{1b}[2JNot here</h1>"), 3, "404 Not Found with text/html"),
        (http("200 OK", html, "<html>Log in</html>"), 3, "200 OK with text/html, not application/json"),
        (http("200 OK", "", "{}"), 3, "200 OK with nothing, not application/json"),
        (
            http("302 Found", "Location: https://login.example.com/\r\n", ""),
            3,
            "https://login.example.com/; that is not followed",
        ),
        (http("307 Temporary Redirect", "Location: /elsewhere\r\n", ""), 3, "to /elsewhere; that is not followed"),
        (
            http("401 Unauthorized", json, "{}"),
            3,
            "does not let you read: 401 Unauthorized; it may want one: --token-file",
        ),
        (
            http("500 Internal Server Error", html, &"oh no ".repeat(1000)),
            3,
            "answers 500 Internal Server Error: oh no oh no",
        ),
        (ok(&huge), 3, "more than 266240 bytes"),
        (b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{".to_vec(), 3, "broke off"),
        (b"SSH-2.0-OpenSSH_9.9\r\n".to_vec(), 3, "no answer from http://127.0.0.1:"),
    ] {
        let server = Server::new(answer);
        let ended = pull(&desk, &["--backend", &server.url(), "--out", "policy.json"]);
        assert_eq!(ended.code, code, "{words}: {}", ended.err);
        assert!(ended.err.contains(words), "{words} is not in: {}", ended.err);
        assert!(!ended.err.contains('\u{1b}') && ended.err.len() < 1000, "{}", ended.err);
        assert!(!desk.path("policy.json").exists());
    }
}

#[test]
fn a_backend_that_does_not_answer_is_waited_for_only_so_long() {
    let desk = Desk::new();
    let head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{".to_vec();
    for server in [Server::silent_after(Vec::new()), Server::silent_after(head)] {
        let ended = pull(&desk, &["--backend", &server.url(), "--timeout", "2"]);
        assert_eq!(ended.code, 3, "{}", ended.err);
        assert!(ended.err.contains(&format!("waiting for {} ...", server.url())), "{}", ended.err);
        assert!(ended.err.contains("within 2 s"), "{}", ended.err);
    }
    let closed = Port::reserve(); // nobody else gets it meanwhile
    let ended = pull(&desk, &["--backend", &format!("http://127.0.0.1:{}", closed.number())]);
    assert_eq!(ended.code, 3);
    assert!(ended.err.contains("see that it can be reached"), "{}", ended.err);
}

#[test]
fn a_backend_is_asked_over_tls_that_its_authority_vouches_for() {
    let desk = Desk::new();
    let document = served(&desk);
    let server = Server::new(ok(&document.to_string()));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (port, certificate) = runtime.block_on(tls(server.port));
    let document = written(&desk, document);
    desk.write("ca.pem", &certificate);
    desk.write("none.pem", "no certificate\n");
    let url = format!("https://localhost:{port}");
    let ended = pull(&desk, &["--backend", &url, "--ca-file", "ca.pem"]);
    assert_eq!((ended.code, ended.out), (0, format!("{document:#}\n")), "{}", ended.err);
    let ended = pull(&desk, &["--backend", &url]);
    assert_eq!(ended.code, 3);
    assert!(ended.err.contains("certificate is one of --ca-file"), "{}", ended.err);
    let ended = pull(&desk, &["--backend", &url, "--ca-file", "none.pem"]);
    assert_eq!(ended.code, 3);
    assert!(ended.err.contains("none.pem holds no certificates"), "{}", ended.err);
    // the environment's proxy is taken, unless it says that the server is not behind it
    let proxy = Server::new(http("403 Forbidden", "", ""));
    let through = [("HTTPS_PROXY", &*proxy.url().replace("127.", "user:word@127."))];
    let arguments =
        ["policy", "pull", "--workspace", "ws_a", "--trust", "keys", "--backend", &url, "--ca-file", "ca.pem"];
    let ended = desk.run_with(&through, &arguments);
    assert_eq!(ended.code, 3, "{}", ended.err);
    let request = proxy.requests.recv().unwrap();
    assert!(request.starts_with(&format!("CONNECT localhost:{port} HTTP/1.1\r\n")), "{request}");
    assert!(request.contains("Basic dXNlcjp3b3Jk"), "{request}");
    let ended = desk.run_with(&[through[0], ("NO_PROXY", "localhost")], &arguments);
    assert_eq!(ended.code, 0, "{}", ended.err);
}

#[test]
fn a_token_is_sent_to_the_backend_and_never_shown() {
    let desk = Desk::new();
    let server = Server::new(http("401 Unauthorized", "Content-Type: application/json\r\n", "{}"));
    desk.write("token", "s3cret-token\n");
    let ended = pull(&desk, &["--backend", &server.url(), "--token-file", "token"]);
    assert_eq!(ended.code, 3);
    assert!(server.requests.recv().unwrap().contains("Bearer s3cret-token\r\n"));
    assert!(ended.err.contains("renew the token") && !ended.err.contains("s3cret"), "{}", ended.err);
    assert!(ended.err.contains("warning: token can be read by others"), "{}", ended.err);
    desk.write("token", "s3cret token\nof two lines\n");
    let ended = pull(&desk, &["--backend", &server.url(), "--token-file", "token"]);
    assert_eq!(ended.code, 3);
    assert!(ended.err.contains("token holds no token") && !ended.err.contains("s3cret"), "{}", ended.err);
}

#[test]
fn only_addresses_that_nobody_on_the_way_can_change_are_asked() {
    let desk = Desk::new();
    for url in [
        "http://sekuire.example.com",
        "http://127.0.0.1.example.com",
        "https://user:s3cret@sekuire.example.com",
        "https://sekuire.example.com/?token=s3cret",
        "https://sekuire.example.com/#s3cret",
        "ftp://127.0.0.1",
        "sekuire.example.com",
        "file:///etc/passwd",
        "https://",
    ] {
        let ended = pull(&desk, &["--backend", url]);
        assert_eq!(ended.code, 2, "{url}: {}", ended.err);
        assert!(ended.err.contains("expected https://host") && !ended.err.contains("s3cret"), "{}", ended.err);
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn of_a_repository_the_highest_version_that_a_controller_would_enforce_is_taken() {
    let desk = Desk::new();
    let repo = runtime().block_on(GitRepo::new());
    let commit = |files: &[(&str, &str)]| {
        for (name, content) in files {
            repo.write(&format!("policies/{name}"), content);
        }
        runtime().block_on(repo.commit("change"))
    };
    let signed = |version: &str, status: &str, name: &str| {
        desk.write(name, &JSON.replace("1.9", version).replace("\"active\"", &format!("\"{status}\"")));
        assert_eq!(desk.sign(&[name]).code, 0);
        desk.read(name)
    };
    let url = repo.url();
    let from = |more: &[&str]| pull(&desk, &[&["--repo", &url], more].concat());
    let (low, high, draft) = (
        signed("1.9", "active", "low.json"),
        signed("1.10", "active", "high.json"),
        signed("2", "draft", "draft.json"),
    );
    let forged = signed("3", "active", "forged.json").replace("gpt-3*", "gpt-4*");
    let tip = commit(&[("low.json", &low), ("a/high.json", &high), ("draft.json", &draft), ("forged.json", &forged)]);
    let ended = from(&["--out", "policy.json"]);
    assert_eq!(ended.code, 0, "{}", ended.err);
    let value: serde_json::Value = serde_json::from_str(&high).unwrap();
    let pretty = format!("{value:#}\n");
    assert_eq!(desk.read("policy.json"), pretty);
    assert!(ended.err.contains("warning: policies/forged.json is refused: HashMismatch"), "{}", ended.err);
    assert!(ended.err.contains(&format!("version 1.10 of ws_a, signed by {}, in commit {tip}", desk.key_id)));
    // its folder does as well as its URL
    let ended = pull(&desk, &["--repo", repo.work().to_str().unwrap(), "--ref", "main"]);
    assert_eq!((ended.code, ended.out), (0, pretty), "{}", ended.err);
    for (more, code, words) in [
        (&["--ref", "no-such"][..], 3, "no branch \"no-such\"; there are: main"),
        (&["--path", "nowhere"], 3, "there is no folder nowhere in file:///"),
        (&["--workspace", "ws_b"], 1, "is for the workspace ws_b"),
        (&["--path", "policies/a", "--trust", "other"], 1, "UnknownSigningKey"),
    ] {
        desk.write("other", "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a\n");
        let mut arguments = vec!["policy", "pull", "--repo", &url];
        arguments.extend(if more.contains(&"--workspace") { &[][..] } else { &["--workspace", "ws_a"] });
        arguments.extend(if more.contains(&"--trust") { &[][..] } else { &["--trust", "keys"] });
        arguments.extend(more);
        let ended = desk.run(&arguments);
        assert_eq!(ended.code, code, "{more:?}: {}", ended.err);
        assert!(ended.err.contains(words), "{more:?}: {}", ended.err);
    }
    commit(&[("end.json", &signed("1.11", "archived", "end.json"))]);
    let ended = from(&[]);
    assert_eq!(ended.code, 1);
    assert!(ended.err.contains("version 1.11 of ws_a is archived"), "{}", ended.err);
    for (repo, words) in [
        ("git@example.com:a/b.git", "needs a private key: give --ssh-key"),
        ("no/such/folder", "or a folder"),
        ("http://127.0.0.1/a.git", "plain http"),
    ] {
        let ended = pull(&desk, &["--repo", repo]);
        assert_eq!(ended.code, 3);
        assert!(ended.err.contains(words), "{}", ended.err);
    }
}

#[test]
fn a_file_is_written_whole_or_not_at_all() {
    let desk = Desk::new();
    let document = served(&desk);
    let server = Server::new(ok(&document.to_string()));
    let url = server.url();
    let to = |out: &str| pull(&desk, &["--backend", &url, "--out", out]);
    std::fs::create_dir(desk.path("folder.json")).unwrap();
    symlink("/dev/null", desk.path("device.json")).unwrap();
    for (out, code, words) in [
        ("folder", 2, "expected *.json"),
        ("folder.json", 3, "it is a folder or a device"),
        ("device.json", 3, "it is a folder or a device"),
        ("no/such/policy.json", 3, "cannot write no/such/policy.json; nothing was written: No such file"),
        ("/sys/policy.json", 3, "cannot write /sys/policy.json; nothing was written"), // nobody may create files there
    ] {
        let ended = to(out);
        assert_eq!(ended.code, code, "{out}: {}", ended.err);
        assert!(ended.err.contains(words), "{out}: {}", ended.err);
    }
    // a disk that is full after some bytes: here it is the limit on the size of files
    desk.write("policy.json", "as it was");
    for out in ["policy.json", "new.json"] {
        let script = "trap '' XFSZ; ulimit -f 0; exec \"$@\"";
        let output = Command::new("bash")
            .args(["-c", script, "bash", env!("CARGO_BIN_EXE_sekuire"), "policy", "pull", "--workspace", "ws_a"])
            .args(["--trust", "keys", "--backend", &url, "--out", out])
            .current_dir(desk.path(""))
            .output()
            .unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(3), "{err}");
        assert!(err.contains(&format!("cannot write {out}")) && err.contains("File too large"), "{err}");
    }
    assert_eq!(desk.read("policy.json"), "as it was");
    let left = std::fs::read_dir(desk.path("")).unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = left.filter(|name| name.to_string_lossy().ends_with(".tmp") || name == "new.json").collect();
    assert_eq!(left, Vec::<std::ffi::OsString>::new());
}

#[test]
fn a_full_disk_is_named_and_nothing_is_left_half_written() {
    let desk = Desk::new();
    let document = served(&desk);
    let server = Server::new(ok(&document.to_string()));
    std::fs::create_dir(desk.path("disk")).unwrap();
    // a disk of its own for this process, of one page, which is taken
    let script = "mount -t tmpfs -o size=4k none disk && head -c 4096 /dev/zero > disk/full && \"$@\"; code=$?; ls disk; exit $code";
    let output = Command::new("unshare")
        .args([
            "--map-root-user",
            "--mount",
            "bash",
            "-c",
            script,
            "bash",
            env!("CARGO_BIN_EXE_sekuire"),
            "policy",
            "pull",
        ])
        .args(["--workspace", "ws_a", "--trust", "keys", "--backend", &server.url(), "--out", "disk/policy.json"])
        .current_dir(desk.path(""))
        .output();
    let Ok(output) = output else { skip!("unshare (util-linux) is not there") };
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if !out.starts_with("full\n") {
        skip!(format!("no disk can be mounted: {err}"));
    }
    assert_eq!((output.status.code(), &*out), (Some(3), "full\n"), "{err}");
    assert!(err.contains("cannot write disk/policy.json") && err.contains("No space left"), "{err}");
}

#[test]
fn wrong_usage_and_missing_keys_are_said_before_anything_is_asked() {
    let desk = Desk::new();
    let server = Server::new(ok("{}"));
    let url = server.url();
    for (arguments, code, words) in [
        (&["--workspace", "ws_a", "--backend", &url][..], 3, "name them with --trust"),
        (&["--workspace", "../ws_a", "--backend", &url, "--trust", "keys"], 2, "--workspace takes an id"),
        (&["--workspace", "", "--backend", &url, "--trust", "keys"], 2, "--workspace takes an id"),
        (&["--workspace", "ws_a", "--backend", &url, "--repo", ".", "--trust", "keys"], 2, "cannot be used with"),
        (&["--workspace", "ws_a", "--ref", "main", "--trust", "keys"], 2, "--repo"),
        (&["--workspace", "ws_a", "--token-file", "t", "--trust", "keys"], 2, "--backend"),
        (
            &["--workspace", "ws_a", "--repo", "https://u:s3cret@127.0.0.1/x", "--trust", "keys"],
            2,
            "--repo has a user name",
        ),
        (&["--backend", &url, "--trust", "keys"], 2, "--workspace"),
        (&["--workspace", "ws_a", "--trust", "keys"], 3, "found no cluster: no kubeconfig"),
    ] {
        let ended = desk.run(&[&["policy", "pull"], arguments].concat());
        assert_eq!(ended.code, code, "{arguments:?}: {}", ended.err);
        assert!(ended.err.contains(words) && !ended.err.contains("s3cret"), "{arguments:?}: {}", ended.err);
    }
    assert!(server.requests.try_recv().is_err());
}

/// A signed document with this version and these more members.
fn version(desk: &Desk, version: &str, more: &Value) -> Value {
    let mut document: Value = serde_json::from_str(JSON).unwrap();
    document["version"] = version.into();
    for (name, value) in more.as_object().unwrap() {
        document[name] = value.clone();
    }
    desk.write("version.json", &document.to_string());
    assert_eq!(desk.sign(&["version.json"]).code, 0);
    serde_json::from_str(&desk.read("version.json")).unwrap()
}

#[tokio::test]
async fn a_file_that_holds_a_later_version_is_not_replaced_by_an_older_one_whoever_serves_it() {
    let desk = Desk::new();
    let (one, two, other) = (
        version(&desk, "1", &json!({})),
        version(&desk, "2", &json!({})),
        version(&desk, "2", &json!({"content": {}})),
    );
    let repo = GitRepo::new().await;
    repo.commit_files("old", [("policies/p.json", one.to_string())]).await;
    let folder = repo.origin().display().to_string();
    std::fs::create_dir(desk.path("folder")).unwrap();
    for (served, code, words) in [
        (&one, 1, "is version 1 of ws_a, and the file holds version 2"),
        (&other, 1, "is version 2 of ws_a with other content"),
        (&two, 0, ""),
    ] {
        let url = Server::new(ok(&served.to_string())).url();
        let mut sources = vec![["--backend", &url]];
        if *served == one {
            sources.push(["--repo", &folder]);
        }
        for source in sources {
            for (name, text) in [
                ("p.json", format!("{two:#}\n")),
                ("compact.json", two.to_string()),
                ("p.yaml", serde_yaml::to_string(&two).unwrap()),
                ("p.yml", two.to_string()),
            ] {
                let real = format!("folder/{name}");
                let link = format!("link-{name}");
                let _ = std::fs::remove_file(desk.path(&link));
                symlink(&real, desk.path(&link)).unwrap();
                let absolute = desk.path(&real).display().to_string();
                for out in [&*real, &format!("./folder/../{real}"), &link, &absolute] {
                    desk.write(&real, &text);
                    let ended = pull(&desk, &[&source[..], &["--out", out]].concat());
                    assert_eq!(ended.code, code, "{source:?} {out}: {}", ended.err);
                    assert!(ended.err.contains(words), "{source:?} {out}: {}", ended.err);
                    if code == 1 {
                        assert!(
                            ended.err.contains("--allow-lower") && ended.err.contains("nothing was written"),
                            "{}",
                            ended.err
                        );
                        assert_eq!(desk.read(&real), text, "{out}");
                    }
                }
            }
            // whoever means it says so
            desk.write("p.json", &two.to_string());
            let ended = pull(&desk, &[&source[..], &["--out", "p.json", "--allow-lower"]].concat());
            assert_eq!(ended.code, 0, "{}", ended.err);
            assert_eq!(serde_json::from_str::<Value>(&desk.read("p.json")).unwrap(), *served);
        }
    }
    let usage = pull(&desk, &["--repo", &folder, "--allow-lower"]);
    assert_eq!(usage.code, 2, "{}", usage.err);
}

#[test]
fn a_file_that_holds_a_better_copy_of_the_version_stays_and_what_is_no_verified_version_is_replaced() {
    let desk = Desk::new();
    let one = version(&desk, "1", &json!({}));
    let url = Server::new(ok(&one.to_string())).url();
    // signed later, by the same key
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let later = version(&desk, "1", &json!({}));
    assert_ne!(one["updated_at"], later["updated_at"]);
    desk.write("p.json", &later.to_string());
    let ended = pull(&desk, &["--backend", &url, "--out", "p.json"]);
    assert_eq!((ended.code, desk.read("p.json")), (0, later.to_string()), "{}", ended.err);
    assert!(ended.err.contains("was left as it was"), "{}", ended.err);
    // what is past its time was a version too
    let end = jiff::Timestamp::now() + std::time::Duration::from_secs(3);
    let expired = version(&desk, "7", &json!({"expires_at": end.to_string()}));
    desk.write("p.json", &expired.to_string());
    while jiff::Timestamp::now() <= end {
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    assert_eq!(pull(&desk, &["--backend", &url, "--out", "p.json"]).code, 1);
    // what nobody signed, what is for another workspace, and what is none at all
    let mut forged = version(&desk, "8", &json!({}));
    forged["version"] = "9".into();
    let elsewhere = version(&desk, "9", &json!({"workspace_id": "ws_b"}));
    for text in [forged.to_string(), elsewhere.to_string(), "{".to_owned(), String::new(), "x".repeat(300 << 10)] {
        desk.write("p.json", &text);
        let ended = pull(&desk, &["--backend", &url, "--out", "p.json"]);
        assert_eq!(ended.code, 0, "{}", ended.err);
        assert_eq!(serde_json::from_str::<Value>(&desk.read("p.json")).unwrap(), one);
    }
}
