//! How a sender proves that it knows the token of a repository.

use hmac::{Hmac, KeyInit as _, Mac as _};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::api::policy_repository::ReceiverType;

const GITEA_SIGNATURE: HeaderName = HeaderName::from_static("x-gitea-signature");
const GITLAB_TOKEN: HeaderName = HeaderName::from_static("x-gitlab-token");
const HUB_SIGNATURE: HeaderName = HeaderName::from_static("x-hub-signature");
const HUB_SIGNATURE_256: HeaderName = HeaderName::from_static("x-hub-signature-256");
const SIGNATURE: HeaderName = HeaderName::from_static("x-signature");
/// Headers that name the event, of all forges.
const EVENTS: [HeaderName; 4] = [
    HeaderName::from_static("x-github-event"),
    HeaderName::from_static("x-gitlab-event"),
    HeaderName::from_static("x-gitea-event"),
    HeaderName::from_static("x-event-key"),
];

/// Checks one request. The body is fed in as it arrives, and kept nowhere.
///
/// The same is computed for every request: signature and token, whatever the repository wants, and with a token that
/// nobody knows where there is none. So neither answer nor time says whether a repository exists.
pub struct Check {
    type_: ReceiverType,
    token: Sha256,
    body: Hmac<Sha256>,
}

impl Check {
    /// Against the token of a repository.
    pub fn new(type_: ReceiverType, token: &[u8]) -> Check {
        #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
        let body = Hmac::new_from_slice(token).expect("a key");
        Check { type_, token: Sha256::new_with_prefix(token), body }
    }

    /// The next part of the body.
    pub fn update(&mut self, part: &[u8]) {
        self.body.update(part);
    }

    /// Whether the headers prove it.
    pub fn passes(self, headers: &HeaderMap) -> bool {
        let claimed = claimed(self.type_, headers).unwrap_or_default();
        let signed = self.body.verify_slice(&claimed).is_ok();
        let known: bool = self.token.finalize().ct_eq(&Sha256::digest(&claimed)).into();
        match self.type_ {
            ReceiverType::Gitlab | ReceiverType::Generic => known,
            ReceiverType::Github | ReceiverType::Gitea | ReceiverType::Bitbucket | ReceiverType::GenericHmac => signed,
        }
    }
}

/// The token or the signature that a request carries.
fn claimed(type_: ReceiverType, headers: &HeaderMap) -> Option<Vec<u8>> {
    let sha256 = |name: HeaderName| hex::decode(headers.get(name)?.as_bytes().strip_prefix(b"sha256=")?).ok();
    match type_ {
        ReceiverType::Github => sha256(HUB_SIGNATURE_256),
        ReceiverType::Gitea => match headers.get(GITEA_SIGNATURE) {
            Some(signature) => hex::decode(signature).ok(),
            None => sha256(HUB_SIGNATURE_256),
        },
        ReceiverType::Bitbucket => sha256(HUB_SIGNATURE),
        ReceiverType::GenericHmac => sha256(SIGNATURE),
        ReceiverType::Gitlab => Some(headers.get(GITLAB_TOKEN)?.as_bytes().to_vec()),
        ReceiverType::Generic => {
            let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
            scheme.eq_ignore_ascii_case("Bearer").then(|| token.into())
        }
    }
}

/// What has happened, as the sender calls it. For the log, and for [`is_ping`].
pub fn event(headers: &HeaderMap) -> &str {
    let event = EVENTS.iter().find_map(|name| headers.get(name));
    event.and_then(|event: &HeaderValue| event.to_str().ok()).unwrap_or("unnamed")
}

/// Whether a forge only tries whether the endpoint answers.
pub fn is_ping(event: &str) -> bool {
    matches!(event, "ping" | "diagnostics:ping")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Test vector of RFC 4231, section 4.3.
    const KEY: &[u8] = b"Jefe";
    const BODY: &[u8] = b"what do ya want for nothing?";
    const HMAC: &str = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";

    fn passes(type_: ReceiverType, header: &'static str, value: &str) -> bool {
        let mut check = Check::new(type_, KEY);
        let (one, other) = BODY.split_at(7);
        check.update(one);
        check.update(other);
        check.passes(&HeaderMap::from_iter([(HeaderName::from_static(header), value.parse().unwrap())]))
    }

    #[test]
    fn the_right_header_proves_it_and_no_other() {
        let types = [
            ReceiverType::Github,
            ReceiverType::Gitlab,
            ReceiverType::Gitea,
            ReceiverType::Bitbucket,
            ReceiverType::Generic,
            ReceiverType::GenericHmac,
        ];
        let (signature, upper) = (format!("sha256={HMAC}"), format!("sha256={}", HMAC.to_uppercase()));
        for (header, value, right) in [
            ("x-hub-signature-256", &*signature, &["github", "gitea"][..]),
            ("x-hub-signature-256", &*upper, &["github", "gitea"]),
            ("x-hub-signature", &signature, &["bitbucket"]),
            ("x-signature", &signature, &["generic-hmac"]),
            ("x-gitea-signature", HMAC, &["gitea"]),
            ("x-gitlab-token", "Jefe", &["gitlab"]),
            ("authorization", "Bearer Jefe", &["generic"]),
            ("authorization", "bearer Jefe", &["generic"]),
            // neither the token where a signature is wanted, nor a signature where the token is wanted
            ("x-hub-signature-256", "Jefe", &[]),
            ("x-hub-signature-256", HMAC, &[]),
            ("x-hub-signature-256", "sha256=", &[]),
            ("x-hub-signature-256", &signature[..69], &[]),
            ("x-hub-signature", "sha1=effcdf6ae5eb2fa2d27416d5f184df9c259a7c79", &[]),
            ("x-gitea-signature", &signature, &[]),
            ("x-gitlab-token", HMAC, &[]),
            ("x-gitlab-token", "", &[]),
            ("x-gitlab-token", "Jef", &[]),
            ("x-gitlab-token", "Jefe ", &[]),
            ("authorization", "Basic Jefe", &[]),
            ("authorization", "Jefe", &[]),
            ("authorization", "Bearer", &[]),
        ] {
            let passed: Vec<_> = types.into_iter().filter(|type_| passes(*type_, header, value)).collect();
            assert_eq!(passed.iter().map(|type_| type_.as_str()).collect::<Vec<_>>(), right, "{header}: {value}");
        }
    }
}
