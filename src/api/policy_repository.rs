//! `PolicyRepository`: a Git repository of signed policies.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::git::{Reference, Signed};

/// A Git repository of signed policy documents to watch. Whoever can write to it may propose policies; only what a
/// trusted SigningKey signed takes effect, and nothing that is committed there can weaken or withdraw a policy without
/// such a signature.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "sekuire.ai",
    version = "v1alpha1",
    kind = "PolicyRepository",
    plural = "policyrepositories",
    shortname = "prepo",
    category = "sekuire",
    status = "PolicyRepositoryStatus",
    printcolumn(name = "URL", type_ = "string", json_path = ".spec.url"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].message"),
    printcolumn(name = "Documents", type_ = "integer", json_path = ".status.documents.total"),
    printcolumn(name = "Refused", type_ = "integer", json_path = ".status.documents.refused"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Revision", type_ = "string", priority = 1, json_path = ".status.lastAppliedRevision")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.verify) || !has(self.verify.mode) || self.verify.mode != 'Tag' || \
                            has(self.ref) && (has(self.ref.tag) || has(self.ref.semver))")
        .message("verify.mode Tag is for signed tags: set ref.tag or ref.semver, or use mode Head, which looks at the commit")
)]
pub struct PolicyRepositorySpec {
    /// URL of the repository: `https://…` or `ssh://git@…`. It must hold no token or password, and only an `ssh://` one a
    /// user name. `file://…` and
    /// `http://…` only work where the controller was started with --allow-insecure-git-urls (tests, the demo).
    #[schemars(length(min = 1, max = 2048), regex(pattern = "^(https|ssh|http|file)://[^\\s]+$"))]
    #[x_kube(validation = Rule::new("!self.matches('^(https|http|file)://[^/]*@') && !self.matches('^ssh://[^/]*:[^/]*@')")
        .message("the URL must hold no user name, token or password (ssh:// takes a user name): name a Secret in secretRef"))]
    pub url: String,
    /// What to follow. Absent: the default branch of the server.
    #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<GitReference>,
    /// Folder with the documents, from the root of the repository; `.` is the root itself. Every `.json`, `.yaml` and
    /// `.yml` file below it must be a policy document, everything else is ignored. Default `policies`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = Rule::new("!self.startsWith('/') && !self.split('/').exists(p, p == '..')")
        .message("path is relative to the root of the repository and has no .. part, for example: policies"))]
    pub path: Option<String>,
    /// Secret with the credentials for the URL, in the namespace of the controller. For `https://`: `username` and
    /// `password`, or `bearerToken`, or `githubAppID`, `githubAppInstallationID` and `githubAppPrivateKey`; and `ca.crt`
    /// (authorities to believe instead of the machine's), and `tls.crt` with `tls.key` (certificate of the client). For
    /// `ssh://`: `identity` (private key) and `known_hosts`, and `password` if the key is encrypted. A change of it is used
    /// at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretReference>,
    /// Secret with the HTTP proxy through which an `https://` URL is reached, in the namespace of the controller:
    /// `address` (`http://host:port`), and `username` and `password` if the proxy wants them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_secret_ref: Option<SecretReference>,
    /// Signatures of commits or tags, as a second line of defence: without one that counts nothing of a commit is read.
    /// Absent: only the signatures in the documents count, as they always do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<Verification>,
    /// How often to look for new commits, such as `30s`, `1m` or `1h30m`; a little jitter is added. At least 1s; default
    /// `1m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = "^([0-9]{1,6}(ms|s|m|h)){1,4}$"))]
    pub interval: Option<String>,
    /// How long the fetch of one look may take, at most; default `60s`. Waiting for a place, reading what was fetched,
    /// verifying it (30s, then the next look goes on) and writing what follows (60s a workspace) have bounds of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = "^([0-9]{1,6}(ms|s|m|h)){1,4}$"))]
    pub timeout: Option<String>,
    /// For how long there may be no successful fetch before the condition `Stale` says so, such as `1h`. Nothing is
    /// withdrawn by it: a policy that must not outlive its source has an `expires_at`. Default `1h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = "^([0-9]{1,6}(ms|s|m|h)){1,4}$"))]
    pub stale_after: Option<String>,
    /// Whose word, that there is something new, has the repository looked at without waiting for the interval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receiver: Option<WebhookReceiver>,
    /// True: look no more. What is enforced stays enforced, and is still put back when somebody edits it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
    /// Ids of the workspaces that this repository may publish policies for; `*` stands for any run of characters.
    /// Required as soon as there are two repositories.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), inner(length(min = 1, max = 253)))]
    pub workspaces: Option<Vec<String>>,
}

/// What to follow: exactly one member.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("[has(self.branch), has(self.tag), has(self.semver), has(self.commit)].filter(x, x).size() == 1")
        .message("ref has exactly one member")
)]
pub struct GitReference {
    /// A branch, such as `main`. Its commits may only ever descend from those that were seen (`HistoryRewritten`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255), regex(pattern = "^[^\\s~^:?*\\[\\\\]+$"))]
    pub branch: Option<String>,
    /// A tag, such as `v1.2.0`. It may be moved: nothing is said of a tag's history, only the versions of the policies
    /// themselves may not fall.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255), regex(pattern = "^[^\\s~^:?*\\[\\\\]+$"))]
    pub tag: Option<String>,
    /// A range of versions, such as `1.x`, `~1.2` or `>=1.0.0 <2.0.0`: of the tags that are versions (`1.2.0` or
    /// `v1.2.0`), the highest in the range is read. A version alone means exactly that one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub semver: Option<String>,
    /// A commit, all 40 digits of its SHA-1 in lower case. A branch or a tag of the server has to lead to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^[0-9a-f]{40}$"))]
    pub commit: Option<String>,
}

/// The endpoint `/hook/NAME` of this repository (`sekuire controller --receiver-listen`), at which a forge or a pipeline
/// says that there is something new. It has the repository looked at, and nothing of what is sent is believed.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct WebhookReceiver {
    /// How the sender proves who it is.
    #[serde(rename = "type")]
    pub type_: ReceiverType,
    /// Secret whose key `token` holds what the sender proves that it knows.
    pub secret_ref: SecretReference,
}

/// Who sends, and how it proves who it is.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum ReceiverType {
    /// GitHub: HMAC-SHA256 of the body, in `X-Hub-Signature-256`.
    Github,
    /// GitLab: the token itself, in `X-Gitlab-Token`.
    Gitlab,
    /// Gitea and Forgejo: HMAC-SHA256 of the body, in `X-Gitea-Signature` or `X-Hub-Signature-256`.
    Gitea,
    /// Bitbucket Cloud and Data Center: HMAC-SHA256 of the body, in `X-Hub-Signature`.
    Bitbucket,
    /// Anything that sends the token itself, as `Authorization: Bearer`.
    Generic,
    /// Anything that signs: HMAC-SHA256 of the body, as `X-Signature: sha256=` and hexadecimal digits.
    GenericHmac,
}

impl ReceiverType {
    /// As it is written in the object.
    pub fn as_str(self) -> &'static str {
        match self {
            ReceiverType::Github => "github",
            ReceiverType::Gitlab => "gitlab",
            ReceiverType::Gitea => "gitea",
            ReceiverType::Bitbucket => "bitbucket",
            ReceiverType::Generic => "generic",
            ReceiverType::GenericHmac => "generic-hmac",
        }
    }
}

/// Who has to have signed what is read.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.secretRef) ? has(self.mode) : !has(self.mode) || self.mode == 'None'")
        .message("verify takes both: mode (None, Head or Tag), and secretRef with the keys; mode None needs no secretRef")
)]
pub struct Verification {
    /// `Head`: the commit that is read must be signed by one of the keys, and with it all before it. `Tag`: the annotated
    /// tag must be. `None`: neither.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<VerificationMode>,
    /// Secret with the public keys, in the namespace of the controller: members named `…allowed_signers` (as OpenSSH
    /// writes such a file), `….pub` (SSH public keys, one a line) and `….asc` (OpenPGP public keys, armoured). A change of
    /// it is used at once, also for the commit that was read last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretReference>,
}

/// What has to be signed.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerificationMode {
    /// Nothing.
    None,
    /// The commit.
    Head,
    /// The tag.
    Tag,
}

/// A Secret in the namespace of the controller.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
pub struct SecretReference {
    /// Its name.
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
}

/// What the controller found.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PolicyRepositoryStatus {
    /// The generation that the status speaks of.
    #[serde(default, deserialize_with = "super::sent::lenient", skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready` always; `Reconciling`, `Stalled` and `Stale` only while true; `SourceVerified`, which names the signer, if
    /// `spec.verify` asks for one and the last look got that far; `ReceiverReady` if `spec.receiver` asks for one.
    #[serde(default, deserialize_with = "super::sent::readable")]
    #[schemars(schema_with = "super::crds::conditions")]
    pub conditions: Vec<Condition>,
    /// Revision that was looked at last, as `branch@sha1:commit`, `tag@sha1:commit` or `sha1:commit`.
    #[serde(default, deserialize_with = "super::sent::lenient", skip_serializing_if = "Option::is_none")]
    pub last_attempted_revision: Option<String>,
    /// Revision up to which every commit was looked at and every accepted policy applied.
    #[serde(default, deserialize_with = "super::sent::lenient", skip_serializing_if = "Option::is_none")]
    pub last_applied_revision: Option<String>,
    /// Value of the annotation `sekuire.ai/requestedAt` or `reconcile.fluxcd.io/requestedAt` that was handled last.
    #[serde(default, deserialize_with = "super::sent::lenient", skip_serializing_if = "Option::is_none")]
    pub last_handled_reconcile_at: Option<String>,
    /// Where a branch was worked through last: a new tip of the same URL and branch must descend from this commit. It
    /// stays while something else than a branch is read.
    #[serde(default, deserialize_with = "super::sent::lenient", skip_serializing_if = "Option::is_none")]
    pub cursor: Option<Cursor>,
    /// The commit that an administrator accepted last although it does not descend from the one before it (annotation
    /// `sekuire.ai/accept-rewind`). The annotation counts once: to accept the same commit again, commit on top of it.
    #[serde(default, deserialize_with = "super::sent::lenient", skip_serializing_if = "Option::is_none")]
    pub accepted_rewind: Option<AcceptedRewind>,
    /// How many commits between the revision looked at last and the one applied before it were not read: too many at
    /// once, too many documents in them, or malformed. What stands at the tip was read; a version that stood in those
    /// commits alone was not seen, and has to be committed again.
    #[serde(default, deserialize_with = "super::sent::lenient", skip_serializing_if = "Option::is_none")]
    pub skipped_commits: Option<u32>,
    /// The documents at the revision looked at last.
    #[serde(default, deserialize_with = "super::sent::lenient", skip_serializing_if = "Option::is_none")]
    pub documents: Option<DocumentCounts>,
    /// The first refused documents, by path.
    #[serde(default, deserialize_with = "super::sent::readable", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub refused: Vec<RefusedDocument>,
    /// How many more were refused than `refused` lists.
    #[serde(default, deserialize_with = "super::sent::lenient", skip_serializing_if = "Option::is_none")]
    pub refused_omitted: Option<u32>,
}

/// The last commit that was worked through.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Cursor {
    /// URL that it was fetched from.
    pub url: String,
    /// Branch that it was the tip of.
    pub branch: String,
    /// The commit, 40 hex digits.
    pub commit: String,
}

/// A rewritten history that an administrator accepted.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct AcceptedRewind {
    /// The commit, 40 hex digits.
    pub commit: String,
    /// The one that was worked through before it.
    pub previous: String,
    /// When it was worked through.
    pub accepted_at: Time,
}

/// Documents by result.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct DocumentCounts {
    /// Documents below `spec.path`.
    pub total: u32,
    /// Those that verified and are enforced, drafts or retired.
    pub verified: u32,
    /// Those that were refused.
    pub refused: u32,
    /// How many had which result.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub by_result: Vec<ResultCount>,
}

/// How many documents had a result.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ResultCount {
    /// `Verified`, `Superseded`, or the reason of a refusal.
    pub result: String,
    /// Number of documents.
    pub count: u32,
}

/// A document that was refused.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RefusedDocument {
    /// Path in the repository.
    pub path: String,
    /// The reason, one word.
    pub reason: String,
    /// What is wrong, where, and what would be accepted.
    pub message: String,
    /// Workspace that the document names, if that could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<String>,
}

impl PolicyRepositorySpec {
    /// `spec.path`, or its default.
    pub fn path(&self) -> &str {
        self.path.as_deref().unwrap_or("policies")
    }

    /// `spec.interval`, or its default; never under a second.
    pub fn interval(&self) -> Duration {
        duration(self.interval.as_deref(), Duration::from_secs(60)).max(Duration::from_secs(1))
    }

    /// `spec.timeout`, or its default; never under a second.
    pub fn timeout(&self) -> Duration {
        duration(self.timeout.as_deref(), Duration::from_secs(60)).max(Duration::from_secs(1))
    }

    /// `spec.staleAfter`, or its default.
    pub fn stale_after(&self) -> Duration {
        duration(self.stale_after.as_deref(), Duration::from_secs(3600))
    }

    /// What to read. The schema admits one member; were there more, the most exact one counts.
    pub fn reference(&self) -> Reference {
        match self.reference.clone().unwrap_or_default() {
            GitReference { commit: Some(commit), .. } => Reference::Commit(commit),
            GitReference { semver: Some(range), .. } => Reference::Semver(range),
            GitReference { tag: Some(tag), .. } => Reference::Tag(tag),
            GitReference { branch: Some(branch), .. } => Reference::Branch(branch),
            _ => Reference::Default,
        }
    }

    /// What has to be signed, if anything has to be.
    pub fn signed(&self) -> Option<Signed> {
        match self.verify.as_ref()?.mode? {
            VerificationMode::None => None,
            VerificationMode::Head => Some(Signed::Commit),
            VerificationMode::Tag => Some(Signed::Tag),
        }
    }

    /// Whether looking is switched off.
    pub fn suspended(&self) -> bool {
        self.suspend == Some(true)
    }
}

/// A duration in Go's form. The schema admits nothing else, so that a text that cannot be read means the default.
fn duration(text: Option<&str>, default: Duration) -> Duration {
    text.and_then(|text| text.parse::<jiff::SignedDuration>().ok())
        .and_then(|duration| Duration::try_from(duration).ok())
        .unwrap_or(default)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_in_gos_form() {
        let minute = Duration::from_secs(60);
        assert_eq!(duration(Some("30s"), minute), Duration::from_secs(30));
        assert_eq!(duration(Some("1h30m"), minute), Duration::from_secs(5400));
        assert_eq!(duration(Some("250ms"), minute), Duration::from_millis(250));
        assert_eq!(duration(Some("5m"), minute), Duration::from_secs(300));
        assert_eq!(duration(None, minute), minute);
    }
}
