//! As whom and how a server is reached: real servers, and what each of them is not told.

use sekuire_policy::git::{Access, ClientCertificate, GitError, Limits, Login, Proxy, Request, Snapshot};

use super::real::{Authority, Ssh, Tinyproxy, Web, missing};
use super::support::{Fixture, Repository, refused};
use crate::cluster::skip::skip;

const PASSWORD: &str = "correct-horse-battery";
const TOKEN: &str = "tok-3f9a51c07be24d66";

/// A repository, behind a web server with a private authority.
struct Site {
    fixture: Fixture,
    repository: Repository,
    web: Web,
}

impl Site {
    fn new() -> Self {
        Self::elsewhere(1)
    }

    fn elsewhere(port: u16) -> Self {
        let fixture = Fixture::with(Limits::default());
        let repository = fixture.repository("a");
        repository.commit_file("policies/a.json", "{}");
        let web = Web::start(fixture.root(), TOKEN, port);
        web.accept("robot", PASSWORD);
        Self { fixture, repository, web }
    }

    /// Access that believes the authority of the site.
    fn access(&self, login: Login) -> Access {
        Access { login, authorities: Some(self.web.authority.pem()), ..Access::default() }
    }

    async fn read(&self, at: &str, access: Access) -> Result<Snapshot, GitError> {
        let mut request = Request::new("one", self.web.url(&format!("{at}/a/.git")));
        request.access = access;
        self.fixture.git.snapshot(&request).await
    }

    #[track_caller]
    fn is_read(&self, outcome: Result<Snapshot, GitError>) {
        assert_eq!(outcome.unwrap().tip, self.repository.head());
    }
}

fn basic(username: &str, password: &str) -> Login {
    Login::Basic { username: username.into(), password: password.to_owned().into() }
}

fn bearer(token: &str) -> Login {
    Login::Bearer(token.to_owned().into())
}

#[tokio::test]
async fn a_server_with_a_private_authority_is_believed_by_that_authority_alone() {
    if let Some(why) = missing() {
        skip!(why);
    }
    let site = Site::new();
    site.is_read(site.read("open", site.access(Login::None)).await);
    let stranger = Access { authorities: Some(Authority::new().pem()), ..Access::default() };
    for access in [Access::default(), stranger] {
        refused(site.read("open", access).await, "GitOperationFailed", "ertificate");
    }
    let broken = Access { authorities: Some("no certificate".into()), ..Access::default() };
    assert!(refused(site.read("open", broken).await, "AuthenticationFailed", "ca.crt").permanent());
}

#[tokio::test]
async fn user_and_password_and_token_are_accepted_if_they_are_right() {
    if let Some(why) = missing() {
        skip!(why);
    }
    let site = Site::new();
    for (at, right, wrong) in [
        ("basic", basic("robot", PASSWORD), basic("robot", "wrong-password")),
        ("bearer", bearer(TOKEN), bearer("wrong-token")),
    ] {
        site.is_read(site.read(at, site.access(right)).await);
        let error = refused(site.read(at, site.access(wrong)).await, "AuthenticationFailed", "does not accept");
        assert!(!error.permanent() && !error.to_string().contains("wrong-"), "{error}");
        refused(site.read(at, site.access(Login::None)).await, "AuthenticationFailed", "none are configured");
    }
    site.web.accept("robot", "another-password");
    refused(site.read("basic", site.access(basic("robot", PASSWORD))).await, "AuthenticationFailed", "");
    site.is_read(site.read("basic", site.access(basic("robot", "another-password"))).await);
}

#[tokio::test]
async fn a_redirect_is_followed_on_the_same_server_alone_and_no_other_one_sees_a_credential() {
    if let Some(why) = missing() {
        skip!(why);
    }
    let elsewhere = Site::new();
    let site = Site::elsewhere(elsewhere.web.port());
    for login in [basic("robot", PASSWORD), bearer(TOKEN)] {
        site.is_read(site.read("moved", site.access(login.clone())).await);
        site.fixture.git.forget("one").await.unwrap();
        // the other one has an authority of its own, so that both are believed here
        let mut access = site.access(login);
        access.authorities = Some([site.web.authority.pem(), elsewhere.web.authority.pem()].concat());
        for at in ["elsewhere", "other"] {
            let error = refused(site.read(at, access.clone()).await, "GitOperationFailed", "give the final address");
            assert!(!error.permanent());
        }
    }
    assert_eq!(elsewhere.web.requests(), Vec::<String>::new());
    let requests = site.web.requests();
    assert!(requests.iter().any(|line| line.starts_with("POST /open/a/.git/git-upload-pack") && line.contains("200")));
    assert!(!requests.iter().any(|line| line.contains("/open/") && line.contains("/other/")), "{requests:?}");
}

#[tokio::test]
async fn a_client_certificate_opens_what_only_its_holders_may_read() {
    if let Some(why) = missing() {
        skip!(why);
    }
    let site = Site::new();
    let with = |client| Access { client_certificate: Some(client), ..site.access(Login::None) };
    site.is_read(site.read("client", with(site.web.authority.client())).await);
    refused(site.read("client", site.access(Login::None)).await, "AuthenticationFailed", "403");
    refused(site.read("client", with(Authority::new().client())).await, "GitOperationFailed", "");

    let (one, other) = (site.web.authority.client(), site.web.authority.client());
    let mixed = ClientCertificate { chain: one.chain.clone(), key: other.key };
    let no_key = ClientCertificate { chain: one.chain.clone(), key: "no key".to_owned().into() };
    let no_chain = ClientCertificate { chain: "no certificate".into(), key: one.key };
    for (client, says) in [(mixed, "tls.key"), (no_key, "tls.key holds no"), (no_chain, "tls.crt")] {
        assert!(refused(site.read("client", with(client)).await, "AuthenticationFailed", says).permanent());
    }
}

#[tokio::test]
async fn a_proxy_is_asked_to_connect_with_its_own_password() {
    if let Some(why) = missing() {
        skip!(why);
    }
    let site = Site::new();
    let proxy = Tinyproxy::start("proxy-user", "proxy-secret-word");
    let through = |address: &str, login: Option<(&str, &str)>| {
        let login = login.map(|(username, password)| (username.to_owned(), password.to_owned().into()));
        let proxy = Some(Proxy { address: address.to_owned(), login });
        Access { proxy, ..site.access(basic("robot", PASSWORD)) }
    };
    let right = Some(("proxy-user", "proxy-secret-word"));
    site.is_read(site.read("basic", through(&proxy.address(), right)).await);
    assert!(proxy.log().contains(&format!("CONNECT localhost:{}", site.web.port())), "{}", proxy.log());

    let wrong = through(&proxy.address(), Some(("proxy-user", "wrong-secret-word")));
    let error = refused(site.read("basic", wrong).await, "AuthenticationFailed", "spec.proxySecretRef");
    assert!(!error.to_string().contains("secret-word"), "{error}");
    refused(site.read("basic", through(&proxy.address(), None)).await, "AuthenticationFailed", "spec.proxySecretRef");
    refused(site.read("basic", through("http://127.0.0.1:1", right)).await, "GitOperationFailed", "cannot reach");
    for address in ["socks5://127.0.0.1:1080", "http://user:s3cret@127.0.0.1:1", "127.0.0.1:3128", "http://x/path"] {
        let error =
            refused(site.read("basic", through(address, right)).await, "AuthenticationFailed", "http://host:port");
        assert!(error.permanent() && !error.to_string().contains("s3cret"), "{error}");
    }
}

#[tokio::test]
async fn what_a_server_repeats_of_a_credential_is_not_shown() {
    if let Some(why) = missing() {
        skip!(why);
    }
    let site = Site::new();
    for login in [basic("robot", PASSWORD), bearer(TOKEN)] {
        let error = refused(site.read("echo", site.access(login)).await, "AuthenticationFailed", "403").to_string();
        assert!(!error.contains(PASSWORD) && !error.contains(TOKEN) && !error.contains("cm9ib3"), "{error}");
    }
}

/// Access with a key and known_hosts.
fn key(identity: &str, passphrase: Option<&str>, known_hosts: &str) -> Access {
    let passphrase = passphrase.map(|text| text.to_owned().into());
    let login = Login::Ssh { identity: identity.to_owned().into(), passphrase, known_hosts: known_hosts.to_owned() };
    Access { login, ..Access::default() }
}

#[tokio::test]
async fn ssh_lets_in_whoever_has_the_key_and_no_server_is_trusted_that_is_not_known() {
    if let Some(why) = missing() {
        skip!(why);
    }
    let fixture = Fixture::new();
    let repository = fixture.repository("a");
    repository.commit_file("policies/a.json", "{}");
    let (ssh, stranger) = (Ssh::start(), Ssh::start());
    let read = async |access: Access| {
        let mut request = Request::new("one", ssh.url(&repository.path));
        request.access = access;
        fixture.git.snapshot(&request).await
    };
    let plain = ssh.key("plain", &["-t", "ed25519"], "");
    let known = ssh.known_hosts("ed25519");
    // a host key of a type that the server would not choose by itself, too
    for known_hosts in [&known, &ssh.known_hosts("rsa")] {
        assert_eq!(read(key(&plain, None, known_hosts)).await.unwrap().tip, repository.head());
    }
    for (name, kind) in [
        ("rsa", vec!["-t", "rsa", "-b", "2048"]),
        ("pem", vec!["-t", "rsa", "-b", "2048", "-m", "PEM"]),
        ("ecdsa", vec!["-t", "ecdsa"]),
        ("ed25519", vec!["-t", "ed25519"]),
    ] {
        let identity = ssh.key(name, &kind, "a pass phrase");
        assert_eq!(read(key(&identity, Some("a pass phrase"), &known)).await.unwrap().tip, repository.head(), "{name}");
        let error = refused(read(key(&identity, Some("another"), &known)).await, "AuthenticationFailed", "");
        assert!(!error.to_string().contains("another"), "{error}");
    }
    let unknown = stranger.key("key", &["-t", "ed25519"], "");
    refused(read(key(&unknown, None, &known)).await, "AuthenticationFailed", "does not accept the key");
    refused(read(key("no key", None, &known)).await, "AuthenticationFailed", "identity");

    // the same host, and the key of another server
    let other =
        known.split(' ').next().unwrap().to_owned() + &stranger.known_hosts("ed25519")[known.find(' ').unwrap()..];
    let before = ssh.log().matches("Accepted publickey").count();
    refused(read(key(&plain, None, &other)).await, "GitOperationFailed", "known_hosts");
    for known_hosts in ["", &stranger.known_hosts("ed25519"), &format!("{known}@revoked {known}")] {
        assert!(refused(read(key(&plain, None, known_hosts)).await, "AuthenticationFailed", "known_hosts").permanent());
    }
    assert_eq!(ssh.log().matches("Accepted publickey").count(), before, "nobody logs in to a server that is not known");
    // and it was not remembered
    refused(read(key(&plain, None, &other)).await, "GitOperationFailed", "known_hosts");
}
