//! `sekuire policy pull`: the policy that is in force, verified, into a file.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use serde_json::Value;

use super::edit::Failure;
use super::yaml_text;
use crate::admission::index::Enforced;
use crate::cli::cluster::{Cluster, ClusterArgs, LazyCluster};
use crate::cli::source::Found;
use crate::cli::trust::TrustArgs;
use crate::cli::{Outcome, Usage, complain, emit, files, note};
use crate::git::one_line;
use crate::policy::{Document, Format, KeyRing, Status, VerifiedPolicy, is_id, verify};

mod access;
mod backend;
mod present;
mod repository;

/// What a server tells its readers of the key.
const PUBLIC_KEY: &str = "signing_public_key";

/// Download the policy that is in force in a workspace, verify it, and only then write it.
///
/// It comes from the cluster of the current kubeconfig, from a read API (--backend), or from a Git repository (--repo).
/// Trusted keys come from --trust, else from the cluster; never from what was downloaded.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  sekuire policy pull --workspace ws_payments --out policy.json
  sekuire policy pull --workspace ws_payments --backend https://sekuire.example.com --trust keys/ --out policy.yaml
  sekuire policy pull --workspace ws_payments --repo https://git.example.com/policies.git --ref main --trust keys/
  sekuire policy pull --workspace ws_payments --repo git@git.example.com:policies.git --trust keys/    by ssh, as Git writes it
  sekuire policy pull --workspace ws_payments --repo ../policies --trust keys/ > policy.json

What is written is the document itself, member for member as it was signed: as JSON, or as YAML by the name of --out. A
file is written whole or not at all. Whoever answers may have kept an older version: a file that holds a verified version
of the workspace is not replaced by a lower one, nor by a copy of the same one that holds less long or that fewer keys
have signed.

Exit code 1: the workspace has no policy in force, or what was downloaded does not verify, is not active, is for another
workspace, or is older than what the file holds.")]
pub(in crate::cli) struct Pull {
    /// Id of the workspace.
    #[arg(long, value_name = "ID")]
    workspace: String,
    /// File to write: *.json, *.yaml or *.yml; one that is there is replaced, unless it holds a later version. Default:
    /// standard output, as JSON.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Replace the file also where it holds a higher version of the workspace's policy, or the same version with other
    /// content, that a trusted key signed.
    #[arg(long, requires = "out")]
    allow_lower: bool,
    /// How long a backend may take to answer, or a repository to be fetched. Default: 20, or 60.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: Option<u64>,
    #[command(flatten)]
    trust: TrustArgs,
    #[command(flatten)]
    backend: backend::BackendArgs,
    #[command(flatten)]
    repository: repository::RepositoryArgs,
    #[command(flatten)]
    access: access::AccessArgs,
    #[command(flatten)]
    cluster: ClusterArgs,
}

impl Pull {
    pub(in crate::cli) fn run(self) -> anyhow::Result<Outcome> {
        match self.pull() {
            Ok(()) => Ok(Outcome::Fine),
            Err(Failure::Refused(why)) => {
                complain(&format!("{}; nothing was written", one_line(&why)));
                Ok(Outcome::Refused)
            }
            Err(Failure::Other(e)) => Err(e),
        }
    }

    fn pull(&self) -> Result<(), Failure> {
        let named = self.out.as_deref().map(files::format).transpose().map_err(anyhow::Error::from)?;
        if !is_id(&self.workspace) {
            let usage = Usage("--workspace takes an id: letters, digits, '.', '_' and '-', at most 63".to_owned());
            return Err(anyhow::Error::from(usage).into());
        }
        let now = Timestamp::now();
        let cluster = LazyCluster::new(&self.cluster);
        let timeout = self.timeout.map(Duration::from_secs);
        let keys = self.trust.ring(|| cluster.get())?;
        let files = (self.backend.ca_file.as_deref(), self.backend.token_file.as_deref());
        let repository = self.repository.repository(&self.access, files)?;
        let (found, from) = match (self.backend.backend()?, repository) {
            (Some(backend), _) => (backend.active(&self.workspace, timeout)?, backend.to_string()),
            (None, Some(repository)) => {
                (repository.enforced(&self.workspace, &keys, now, timeout)?, repository.to_string())
            }
            (None, None) if files != (None, None) => {
                let usage = "--ca-file and --token-file are for --backend or --repo; expected one of them";
                return Err(anyhow::Error::from(Usage(usage.to_owned())).into());
            }
            (None, None) => {
                let cluster = cluster.get()?;
                (self.enforced(cluster, now)?, cluster.server().to_owned())
            }
        };
        let (document, policy) = self.verified(&found, &from, &keys, now)?;
        let text = match named {
            Some(Format::Yaml) => yaml_text::anew(&document)?,
            _ => format!("{document:#}\n"),
        };
        let Some(out) = &self.out else { return Ok(emit(&text)?) };
        let there = if self.allow_lower { None } else { present::policy(out, &self.workspace, &keys, now)? };
        if let Some(there) = there
            && present::stays(&there, &policy, &from, now)?
        {
            let kept =
                "holds this version already, in a copy that holds longer or has more signatures; it was left as it was";
            note(&format!("{} {kept}", files::name(out)));
            return Ok(());
        }
        files::write(out, text.as_bytes())?;
        let (id, version, workspace) = (policy.policy_id(), policy.version(), policy.workspace_id());
        let commit = found.commit.map(|commit| format!(", in commit {commit}")).unwrap_or_default();
        let key = policy.signing_key_id();
        note(&format!("wrote {}: {id} version {version} of {workspace}, signed by {key}{commit}", out.display()));
        Ok(())
    }

    /// What the cluster enforces, by its own keys.
    fn enforced(&self, cluster: &Cluster, now: Timestamp) -> Result<Found, Failure> {
        match cluster.enforced(&self.workspace, cluster.keys()?, now)? {
            Enforced::Policy { policy, source } => Ok(Found::of(&policy, source.map(|source| source.commit.clone()))),
            Enforced::None { why } => Err(Failure::Refused(format!(
                "the workspace {} has no policy in force on {}: {why}",
                self.workspace,
                cluster.server()
            ))),
        }
    }

    /// The document as it was found, if it is a policy in force in the workspace, by these keys.
    fn verified(
        &self,
        found: &Found,
        from: &str,
        keys: &KeyRing,
        now: Timestamp,
    ) -> Result<(Value, VerifiedPolicy), Failure> {
        let refused = |why: String| Failure::Refused(format!("the document from {from} is refused: {why}"));
        let document =
            Document::parse(&found.bytes, found.format).map_err(|fault| refused(format!("Malformed: {fault}")))?;
        let place = document.value().as_object().and_then(|it| it.keys().position(|name| name == PUBLIC_KEY));
        let policy = verify(document, keys, now)
            .map_err(|refusal| refused(format!("{}: {}", refusal.reason, refusal.message)))?
            .without_unsigned();
        let (workspace, version) = (policy.workspace_id(), policy.version());
        if workspace != self.workspace {
            return Err(refused(format!("it is for the workspace {workspace}, not for {}", self.workspace)));
        }
        match policy.status() {
            Status::Active => {
                let document = Document::parse(policy.document_json().as_bytes(), Format::Json)
                    .map_err(|fault| refused(format!("Malformed: {fault}")))?;
                let mut value = document.value().clone();
                // no signature covers it: whoever sent it may have put another key there
                if let (Some(place), Some(members)) = (place, value.as_object_mut()) {
                    members.shift_insert(
                        place.min(members.len()),
                        PUBLIC_KEY.to_owned(),
                        policy.public_key().to_hex().into(),
                    );
                }
                Ok((value, policy))
            }
            status => Err(refused(format!("version {version} of {workspace} is {status}, not active"))),
        }
    }
}
