//! GitHub Apps, against a fake of GitHub's API that is as strict as GitHub is, before a real Git server.

use std::convert::Infallible;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey};
use rustls::pki_types::{PrivatePkcs1KeyDer, pem::PemObject as _};
use sekuire_policy::git::{Access, GitHubApp, Login};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::real::{Web, keygen, missing};
use super::support::{Fixture, refused};
use crate::cluster::skip::skip;

const APP: &str = "123456";
const INSTALLATION: &str = "7890";

/// GitHub's API, which knows one App with one installation.
struct Api {
    public_key: Vec<u8>,
    web: Web,
    tokens: AtomicUsize,
}

impl Api {
    /// What a request is answered: status and body.
    fn answer(&self, request: &Request<Incoming>) -> (u16, Value) {
        let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let claim = header("authorization").strip_prefix("Bearer ").and_then(|token| self.claim(token));
        if header("user-agent").is_empty() || header("accept") != "application/vnd.github+json" {
            return (403, json!({"message": "Request forbidden by administrative rules."}));
        }
        let Some(claim) = claim else { return (401, json!({"message": "A JSON web token could not be decoded"})) };
        let now = Timestamp::now().as_second();
        let (made, until) = (claim["iat"].as_i64().unwrap(), claim["exp"].as_i64().unwrap());
        if claim["iss"] != APP || made > now || until < now || until - now > 600 {
            return (401, json!({"message": "'Expiration time' claim ('exp') is too far in the future"}));
        }
        let path = format!("/api/v3/app/installations/{INSTALLATION}/access_tokens");
        if request.method() != "POST" || request.uri().path() != path {
            return (404, json!({"message": "Not Found"}));
        }
        let token = format!("ghs_{:036}", self.tokens.fetch_add(1, Ordering::Relaxed));
        self.web.accept("x-access-token", &token);
        (201, json!({"token": token, "expires_at": "2099-01-01T00:00:00Z", "permissions": {"contents": "read"}}))
    }

    /// The content of a JSON web token that the App's key has signed.
    fn claim(&self, token: &str) -> Option<Value> {
        let (text, signature) = token.rsplit_once('.')?;
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).ok()?;
        let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &self.public_key);
        key.verify(text.as_bytes(), &signature).ok()?;
        let (head, body) = text.split_once('.')?;
        let decode = |part: &str| serde_json::from_slice::<Value>(&BASE64_URL_SAFE_NO_PAD.decode(part).ok()?).ok();
        (decode(head)? == json!({"alg": "RS256", "typ": "JWT"})).then_some(())?;
        decode(body)
    }
}

/// Serves the API on a port of 127.0.0.1, until the runtime of the test ends.
async fn serve(api: Arc<Api>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let api = api.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let (status, body) = api.answer(&request);
                let body = Full::new(Bytes::from(body.to_string()));
                let response = Response::builder().status(status).header("content-type", "application/json").body(body);
                async move { Ok::<_, Infallible>(response.unwrap()) }
            });
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    port
}

#[tokio::test]
async fn a_github_app_gets_a_token_of_its_installation_and_reads_with_it() {
    if let Some(why) = missing() {
        skip!(why);
    }
    let fixture = Fixture::new();
    let repository = fixture.repository("a");
    repository.commit_file("policies/a.json", "{}");
    let rsa = |name: &str, kind: &[&str]| {
        let path = fixture.root().join(name);
        keygen(&path, &[&["-t", "rsa", "-b", "2048", "-m"], kind].concat(), "");
        fs::read_to_string(path).unwrap()
    };
    let (key, stranger) = (rsa("key", &["PEM"]), rsa("stranger", &["PKCS8"]));
    let pair = PrivatePkcs1KeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let public_key = RsaKeyPair::from_der(pair.secret_pkcs1_der()).unwrap().public().as_ref().to_vec();
    let api = Arc::new(Api { public_key, web: Web::start(fixture.root(), "-", 1), tokens: AtomicUsize::new(0) });
    let (port, certificate) = super::server::tls(serve(api.clone()).await).await;

    let with = |id: &str, installation: &str, key: &str| Access {
        login: Login::GitHubApp(GitHubApp {
            id: id.into(),
            installation_id: installation.into(),
            private_key: key.to_owned().into(),
            base_url: format!("https://localhost:{port}/api/v3/"),
        }),
        authorities: Some([api.web.authority.pem(), certificate.clone()].concat()),
        ..Access::default()
    };
    let read = async |access: Access| {
        let mut request = sekuire_policy::git::Request::new("one", api.web.url("basic/a/.git"));
        request.access = access;
        fixture.git.snapshot(&request).await
    };
    for tokens in 1..=2 {
        assert_eq!(read(with(APP, INSTALLATION, &key)).await.unwrap().tip, repository.head());
        assert_eq!(api.tokens.load(Ordering::Relaxed), tokens);
        repository.commit_file("policies/a.json", "2");
    }
    for (access, says) in [
        (with(APP, INSTALLATION, &stranger), "githubAppPrivateKey"),
        (with("1", INSTALLATION, &key), "githubAppID"),
        (with(APP, "1", &key), "githubAppInstallationID"),
    ] {
        assert!(!refused(read(access).await, "AuthenticationFailed", says).permanent());
    }
    let error = refused(read(with(APP, INSTALLATION, "no key")).await, "AuthenticationFailed", "githubAppPrivateKey");
    assert!(error.permanent());
    assert_eq!(api.tokens.load(Ordering::Relaxed), 2);
}
