//! GitHub Apps: a token for one installation, which the App's private key is exchanged for.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jiff::Timestamp;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::{PrivateKeyDer, pem::PemObject as _};
use serde::Deserialize;
use serde_json::json;
use ureq::Agent;
use ureq::http::{StatusCode, header};

use super::http;
use crate::git::GitError;
use crate::git::access::{GitHubApp, Login, Secret};

/// Whom a token logs in.
const USER: &str = "x-access-token";

/// How long a signed claim counts, in seconds: GitHub takes ten minutes at most, and clocks differ.
const BACK: i64 = 60;
const AHEAD: i64 = 540;

/// The longest answer that is read.
const ANSWER: u64 = 64 << 10;

#[derive(Deserialize)]
struct Answer {
    token: String,
}

/// Asks GitHub for a token, which counts for an hour, and returns the login with it.
pub(super) fn login(agent: &Agent, app: &GitHubApp) -> Result<Login, GitError> {
    let claim = claim(app, Timestamp::now().as_second())?;
    let mut response = agent
        .post(format!("{}/app/installations/{}/access_tokens", app.base_url.trim_end_matches('/'), app.installation_id))
        .header(header::AUTHORIZATION, format!("Bearer {claim}"))
        .header(header::ACCEPT, "application/vnd.github+json")
        .header("X-GitHub-Api-Version", "2022-11-28")
        .send_empty()
        .map_err(|error| http::explain(&error))?;
    let what = "cannot get a token for the GitHub App";
    match response.status() {
        StatusCode::CREATED => {}
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            return Err(GitError::Authentication(format!(
                "{what}: {} (look at githubAppID and githubAppPrivateKey, and at the clock of this machine)",
                response.status()
            )));
        }
        StatusCode::NOT_FOUND => {
            return Err(GitError::Authentication(format!(
                "{what}: {} (look at githubAppInstallationID and githubAppBaseURL)",
                response.status()
            )));
        }
        status => return Err(GitError::Failed(format!("{what}: the server answers {status}"))),
    }
    let answer =
        response.body_mut().with_config().limit(ANSWER).read_to_vec().map_err(|error| http::explain(&error))?;
    let Answer { token } = serde_json::from_slice(&answer)
        .map_err(|_| GitError::Failed(format!("{what}: the answer is none of GitHub's API (githubAppBaseURL)")))?;
    Ok(Login::Basic { username: USER.to_owned(), password: Secret::from(token) })
}

/// A JSON web token that says who the App is, signed with its key (RS256).
fn claim(app: &GitHubApp, now: i64) -> Result<String, GitError> {
    let unusable = || {
        GitError::Credentials(
            "githubAppPrivateKey of the Secret cannot be used: it must be the RSA key that GitHub made, as PEM".into(),
        )
    };
    let key = match PrivateKeyDer::from_pem_slice(app.private_key.reveal().as_bytes()) {
        Ok(PrivateKeyDer::Pkcs1(key)) => RsaKeyPair::from_der(key.secret_pkcs1_der()),
        Ok(PrivateKeyDer::Pkcs8(key)) => RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()),
        _ => return Err(unusable()),
    }
    .map_err(|_| unusable())?;
    let part = |value: serde_json::Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let head = part(json!({"alg": "RS256", "typ": "JWT"}));
    let body = part(json!({"iat": now - BACK, "exp": now + AHEAD, "iss": app.id}));
    let text = format!("{head}.{body}");
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature).map_err(|_| unusable())?;
    Ok(format!("{text}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature)))
}
