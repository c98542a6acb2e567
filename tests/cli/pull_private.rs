//! `sekuire policy pull --repo` of repositories that are not public: logins, keys, proxies, authorities.

use std::fs::Permissions;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Stdio};

use super::support::{Desk, Ended, JSON};
use crate::cluster::ports::Port;
use crate::cluster::skip::skip;
use crate::git::real::{Ssh, Tinyproxy, Web, missing};

const PASSWORD: &str = "correct-horse-battery";

/// A desk with a repository `repo` of a signed policy.
fn desk() -> Desk {
    let desk = Desk::new();
    std::fs::create_dir_all(desk.path("repo/policies")).unwrap();
    desk.write("repo/policies/p.json", JSON);
    assert_eq!(desk.sign(&["repo/policies/p.json"]).code, 0);
    desk.git_in("repo", &["init", "-q", "-b", "main"]);
    desk.git_in("repo", &["add", "."]);
    desk.git_in("repo", &["commit", "-q", "-m", "one"]);
    desk
}

fn pull(desk: &Desk, environment: &[(&str, &str)], more: &[&str]) -> Ended {
    let arguments = ["policy", "pull", "--workspace", "ws_a", "--trust", "keys", "--timeout", "20"];
    let nothing = [
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_TERMINAL_PROMPT", "0"),
        ("GIT_SSL_CAINFO", ""),
        ("SSL_CERT_FILE", ""),
        ("HTTPS_PROXY", ""),
        ("NO_PROXY", ""),
    ];
    let ended = desk.run_with(&[&nothing[..], environment].concat(), &[&arguments[..], more].concat());
    for word in ["Secret", "spec.", "ca.crt"] {
        assert!(!ended.err.contains(word), "there is no {word} on the command line: {}", ended.err);
    }
    assert!(!ended.err.contains(PASSWORD) && !ended.out.contains(PASSWORD));
    ended
}

#[track_caller]
fn is_got(ended: &Ended) {
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert!(ended.out.contains("\"workspace_id\": \"ws_a\""), "{}", ended.out);
}

#[track_caller]
fn fails(ended: &Ended, said: &str) {
    assert_eq!((ended.code, ended.err.contains(said)), (3, true), "{said}: {}", ended.err);
}

fn write_secret(desk: &Desk, name: &str, text: &str) {
    desk.write(name, text);
    std::fs::set_permissions(desk.path(name), Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn an_https_repository_is_read_with_a_login_of_a_file_or_of_gits_helpers() {
    if let Some(why) = missing() {
        skip!(why);
    }
    let desk = desk();
    let web = Web::start(&desk.path(""), "tok", 1);
    web.accept("robot", PASSWORD);
    desk.write("ca.pem", &web.authority.pem());
    let (open, basic) = (web.url("open/repo/.git"), web.url("basic/repo/.git"));
    write_secret(&desk, "token", &format!("{PASSWORD}\n"));
    write_secret(&desk, "wrong", "wrong-password\n");
    let ca = desk.path("ca.pem").display().to_string();
    // the authority, by option, by the environment (also a relative path), and as Git is told
    is_got(&pull(&desk, &[], &["--repo", &open, "--ca-file", "ca.pem"]));
    for environment in [("SSL_CERT_FILE", "ca.pem"), ("SSL_CERT_FILE", &ca), ("GIT_SSL_CAINFO", "ca.pem")] {
        is_got(&pull(&desk, &[environment], &["--repo", &open]));
    }
    desk.write(".gitconfig", &format!("[http]\n  sslCAInfo = {ca}\n"));
    is_got(&pull(&desk, &[], &["--repo", &open]));
    // the login
    is_got(&pull(&desk, &[], &["--repo", &basic, "--token-file", "token", "--username", "robot"]));
    fails(
        &pull(&desk, &[], &["--repo", &basic, "--token-file", "wrong", "--username", "robot"]),
        "it does not accept the login",
    );
    fails(&pull(&desk, &[], &["--repo", &basic]), "Git's credential helpers know none: give --token-file");
    let helper = |password: &str| {
        let script = format!(
            "!f() {{ cat >> asked; echo \"$1\" >> asked; test \"$1\" = get && echo username=robot && echo password={password}; }}; f"
        );
        desk.write(
            ".gitconfig",
            &format!("[http]\n  sslCAInfo = {ca}\n[credential]\n  useHttpPath = true\n  helper = {script:?}\n"),
        );
    };
    helper(PASSWORD);
    is_got(&pull(&desk, &[], &["--repo", &open]));
    assert!(!desk.path("asked").exists(), "who is not asked tells nobody");
    is_got(&pull(&desk, &[], &["--repo", &basic]));
    let asked = desk.read("asked");
    assert!(asked.contains("path=basic/repo/.git") && asked.trim_end().ends_with("store"), "{asked}");
    helper("wrong-password");
    fails(&pull(&desk, &[], &["--repo", &basic]), "it does not accept the login");
    assert!(desk.read("asked").trim_end().ends_with("erase"), "{}", desk.read("asked"));
    desk.write(".gitconfig", "");
    fails(&pull(&desk, &[], &["--repo", &open]), "--ca-file says which authorities to believe");
}

#[test]
fn a_proxy_is_one_of_the_option_the_environment_or_git() {
    if let Some(why) = missing() {
        skip!(why);
    }
    let desk = desk();
    let web = Web::start(&desk.path(""), "tok", 1);
    let proxy = Tinyproxy::start("proxy-user", "proxy-secret-word");
    desk.write("ca.pem", &web.authority.pem());
    let url = web.url("open/repo/.git");
    let whole = proxy.address().replace("http://", "http://proxy-user:proxy-secret-word@");
    let connects = || proxy.log().matches("CONNECT localhost").count();
    let run = |environment: &[(&str, &str)], more: &[&str]| {
        pull(&desk, environment, &[&["--repo", &url, "--ca-file", "ca.pem"], more].concat())
    };
    is_got(&run(&[], &["--proxy", &whole]));
    let first = connects();
    assert!(first > 0, "{}", proxy.log());
    desk.write(".gitconfig", &format!("[http]\n  proxy = {whole}\n"));
    is_got(&run(&[], &[]));
    let second = connects();
    assert!(second > first, "{}", proxy.log());
    is_got(&run(&[("HTTPS_PROXY", &whole)], &[]));
    assert!(connects() > second, "{}", proxy.log());
    let all = connects();
    is_got(&run(&[("HTTPS_PROXY", "http://127.0.0.1:1"), ("NO_PROXY", "localhost")], &[]));
    assert_eq!(connects(), all);
    let refused = run(&[], &["--proxy", &proxy.address()]);
    fails(&refused, "the proxy does not accept the user name and password that were given, or wants some");
    for bad in ["socks5://127.0.0.1:1", "http://user:hidden-word@", "://"] {
        let ended = run(&[], &["--proxy", bad]);
        assert!(ended.code == 3 && !ended.err.contains("hidden-word"), "{bad}: {}", ended.err);
        assert!(ended.err.contains("expected http://[user:password@]host:port"), "{bad}: {}", ended.err);
    }
}

#[test]
fn an_ssh_repository_is_read_with_a_key_and_known_hosts_of_options_or_of_home() {
    if let Some(why) = missing() {
        skip!(why);
    }
    let desk = desk();
    let ssh = Ssh::start();
    let url = ssh.url(&desk.path("repo/.git"));
    write_secret(&desk, "id", &ssh.key("id", &["-t", "ed25519"], ""));
    write_secret(&desk, "locked", &ssh.key("locked", &["-t", "ed25519"], "passwords"));
    desk.write("known", &ssh.known_hosts("ed25519"));
    fails(&pull(&desk, &[], &["--repo", &url]), "needs a private key: give --ssh-key");
    is_got(&pull(&desk, &[], &["--repo", &url, "--ssh-key", "id", "--known-hosts", "known"]));
    let locked = ["--repo", &url, "--ssh-key", "locked", "--known-hosts", "known"];
    is_got(&pull(&desk, &[("SEKUIRE_KEY_PASSPHRASE", "passwords")], &locked));
    desk.write("empty", "# none\n");
    desk.write("other", &format!("other.example.com {}", ssh.known_hosts("ed25519").split_once(' ').unwrap().1));
    let known = |file: &str| pull(&desk, &[], &["--repo", &url, "--ssh-key", "id", "--known-hosts", file]);
    fails(&known("other"), "--known-hosts has no key of [127.0.0.1]");
    fails(&known("missing"), "cannot read missing");
    std::fs::create_dir(desk.path(".ssh")).unwrap();
    write_secret(&desk, ".ssh/id_ed25519", &desk.read("id"));
    desk.write(".ssh/known_hosts", &ssh.known_hosts("ed25519"));
    is_got(&pull(&desk, &[], &["--repo", &url]));
    let ended = pull(&desk, &[], &["--repo", &url, "--token-file", "id"]);
    assert_eq!((ended.code, ended.err.contains("takes --ssh-key and --known-hosts")), (2, true), "{}", ended.err);
    // as Git writes it
    let ended = pull(&desk, &[], &["--repo", "git@127.0.0.1:policies.git"]);
    assert!(ended.code == 3 && ended.err.contains("ssh://git@127.0.0.1/policies.git"), "{}", ended.err);
}

/// `openssl s_server`, which speaks TLS and no Git.
struct TlsServer(Child, Port);

impl TlsServer {
    fn start(desk: &Desk, certificate: &str, key: &str) -> TlsServer {
        let port = Port::reserve();
        let number = port.number().to_string();
        let child = Command::new("openssl")
            .args(["s_server", "-www", "-accept", &format!("127.0.0.1:{number}"), "-cert", certificate, "-key", key])
            .current_dir(desk.path(""))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        for _ in 0..200 {
            if TcpStream::connect(("127.0.0.1", port.number())).is_ok() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        TlsServer(child, port)
    }

    fn url(&self) -> String {
        format!("https://localhost:{}/p.git", self.1.number())
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn certificates_that_git_takes_are_taken() {
    let desk = desk();
    let run = |script: &str| {
        let output = Command::new("bash").args(["-euc", script]).current_dir(desk.path("")).output().unwrap();
        output.status.success()
    };
    let made = run(r#"san=subjectAltName=DNS:localhost
        key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:$2 -out $1.key; }
        ca() { key $1 $2; openssl req -x509 -new -key $1.key -$3 -days 3 -subj /CN=$1 -out $1.crt; }
        leaf() { key $1 $3; openssl req -new -key $1.key -subj /CN=localhost -out $1.csr
          printf "$san\nbasicConstraints=CA:FALSE\n" > $1.ext
          openssl x509 -req -in $1.csr -CA $2.crt -CAkey $2.key -$4 -days ${5:-3} -extfile $1.ext -out $1.crt; }
        self() { key $1 P-256; openssl req -x509 -new -key $1.key -days 3 -subj /CN=$1 -addext "$2" -out $1.crt; }
        ca root P-256 sha256; ca root384 P-384 sha512; ca root521 P-521 sha512; ca root256 P-256 sha512
        leaf p521 root P-521 sha256; leaf s512 root384 P-256 sha512; leaf all521 root521 P-521 sha384; leaf s512of256 root256 P-256 sha512
        self own $san; self other $san; self elsewhere subjectAltName=DNS:elsewhere; leaf old root P-256 sha256 -1 || leaf old root P-256 sha256 0
        openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:secp256k1 -out k1.key
        openssl req -x509 -new -key k1.key -days 3 -subj /CN=k1 -addext $san -addext basicConstraints=critical,CA:FALSE -out k1.crt"#);
    if !made {
        skip!("openssl is not there, or makes no such certificates");
    }
    for (what, leaf, believed, said) in [
        ("P-521", "p521", "root", "not a Git server"),
        ("P-384 that signs with SHA-512", "s512", "root384", "not a Git server"),
        ("P-521 that signs with SHA-384", "all521", "root521", "not a Git server"),
        ("P-256 that signs with SHA-512", "s512of256", "root256", "not a Git server"),
        ("self-signed, as openssl makes it", "own", "own", "not a Git server"),
        ("self-signed, and another is believed", "own", "other", "put this very certificate into"),
        ("self-signed, of another name", "elsewhere", "elsewhere", "TLS failed"),
        ("a curve that nobody takes", "k1", "k1", "accepted are TLS 1.2 and 1.3"),
        ("another authority", "p521", "root384", "--ca-file says which authorities to believe"),
    ] {
        let server = TlsServer::start(&desk, &format!("{leaf}.crt"), &format!("{leaf}.key"));
        let ended = pull(&desk, &[], &["--repo", &server.url(), "--ca-file", &format!("{believed}.crt")]);
        assert_eq!((ended.code, ended.err.contains(said)), (3, true), "{what}: {}", ended.err);
        for debris in ["Other(", "Context {", "[6, 8"] {
            assert!(!ended.err.contains(debris), "{what}: {}", ended.err);
        }
    }
}
