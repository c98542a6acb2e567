//! `sekuire agent check`.

use super::*;
use crate::cli::output::Output;
use crate::cli::source::Found;
use crate::cli::{note, warn};
use std::sync::Arc;

/// Hold agents against a policy, by the decision that the cluster makes at admission.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  sekuire agent check agents/ --policy policies/payments.json --trust keys/
  sekuire agent check agent.yaml --workspace ws_payments            what the cluster enforces there
  helm template ./chart | sekuire agent check - --workspace ws_payments
  sekuire agent check sekuire.yml --policy main:policies/payments.json --trust keys/ --output json

Manifests are read as kubectl reads them, and held against the schema of the kind Agent as the API server does it: members,
types, lengths, and rules between fields. Not compared: rules about what is in the cluster already (spec.workspace cannot be
changed, names that are taken), other admission policies, and quotas. A member that is not known, or stands elsewhere, is a
fault; manifests of other kinds are named and not judged. A member that is there twice is refused, which kubectl lets pass.
Exit code 1: an agent is refused, is no valid Agent, or the policy does not verify.
JSON: a list, one object an agent, with name, namespace, file, allowed, policy {policy_id, workspace_id, version, hash,
signing_key_id, commit}, violations [{rule, field, value, policyPath, message}] (256 at most; omitted: how many more), warnings, and enforcement (warn or audit)
where the agent's namespace in the cluster is labelled so: an agent that is refused here may be admitted there.")]
pub(in crate::cli) struct Check {
    /// Agent manifests, folders of such, a vendor's sekuire.yml, or - for standard input.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The policy to hold them against: a file, REV:PATH, or cluster:WORKSPACE.
    #[arg(long, value_name = "DOCUMENT", conflicts_with = "workspace")]
    policy: Option<Source>,
    /// Hold them against what the cluster enforces in this workspace. Default: in that of each agent's namespace.
    #[arg(long, value_name = "ID")]
    workspace: Option<String>,
    /// Namespace of agents that do not say theirs. Default: that of the kubeconfig's context where a cluster is asked, else
    /// `default`.
    #[arg(long, short = 'n', value_name = "NAME")]
    namespace: Option<String>,
    #[command(flatten)]
    trust: TrustArgs,
    #[command(flatten)]
    cluster: ClusterArgs,
    #[command(flatten)]
    output: Output,
}

/// Why agents cannot be held against a policy.
enum Unfit {
    /// The policy was refused.
    Refused(String),
    Other(anyhow::Error),
}

impl From<anyhow::Error> for Unfit {
    fn from(e: anyhow::Error) -> Unfit {
        Unfit::Other(e)
    }
}

impl Check {
    pub(in crate::cli) fn run(self) -> anyhow::Result<Outcome> {
        let cluster = LazyCluster::new(&self.cluster);
        let now = Timestamp::now();
        let found = agents::load(&self.files)?;
        let mut outcome = tell_faults(&found);
        let mut verdicts = Vec::new();
        let one = match self.one_policy(&cluster, now) {
            Ok(one) => one,
            Err(Unfit::Refused(why)) => {
                complain(&why);
                // a list is what programs expect
                self.output.print(&verdicts, |_| String::new())?;
                return Ok(Outcome::Refused);
            }
            Err(Unfit::Other(e)) => return Err(e),
        };
        if let Some((workspace, _)) = &one {
            self.warn_of_others(&found.agents, workspace);
        }
        for agent in &found.agents {
            let namespace = agent.namespace.as_deref().or(self.namespace.as_deref());
            verdicts.push(match &one {
                Some((_, Enforced::Policy { policy, .. })) if policy.status() == Status::Draft => tried(agent, policy),
                Some((workspace, enforced)) => {
                    decide_on(agent, namespace.unwrap_or("default"), Some(workspace), enforced, now)
                }
                None => self.as_at_admission(agent, namespace, &cluster, now)?,
            });
        }
        if verdicts.iter().any(|verdict| !verdict.decision.allowed) {
            outcome = outcome.max(Outcome::Refused);
        }
        self.output.print(&verdicts, |style| table(&verdicts, style))?;
        Ok(outcome)
    }

    /// The one policy that was named, with its workspace.
    fn one_policy(&self, cluster: &LazyCluster<'_>, now: Timestamp) -> Result<Option<(String, Enforced)>, Unfit> {
        let keys = || self.trust.ring(|| cluster.get());
        match (&self.policy, &self.workspace) {
            (None, None) => Ok(None),
            (None, Some(workspace)) | (Some(Source::Cluster { workspace }), _) => {
                Ok(Some((workspace.clone(), cluster.get()?.enforced(workspace, keys()?, now)?)))
            }
            (Some(source), _) => {
                let found = source.find(|| cluster.get(), now)?;
                Ok(Some(verified(source, &found, &keys()?, now)?))
            }
        }
    }

    /// Says which agents name another workspace than the one whose policy they are held against.
    fn warn_of_others(&self, agents: &[NamedAgent], workspace: &str) {
        for agent in agents {
            if let Some(other) = agent.spec.workspace.as_ref().filter(|other| *other != workspace) {
                warn(&one_line(&format!(
                    "{} says that it belongs to {other}, and is held against the policy of {workspace}, as you asked",
                    agent.name
                )));
            }
        }
    }

    /// Each by the workspace of its namespace in the cluster.
    fn as_at_admission(
        &self,
        agent: &NamedAgent,
        namespace: Option<&str>,
        cluster: &LazyCluster<'_>,
        now: Timestamp,
    ) -> anyhow::Result<Verdict> {
        let known = self.cluster.is_known() || namespace.is_some();
        if !known {
            bail!(Usage(
                "expected a policy to hold them against: --policy FILE --trust KEYS, or --workspace ID of a cluster"
                    .to_owned()
            ));
        }
        let cluster = cluster.get()?;
        let namespace = namespace.unwrap_or(cluster.namespace());
        let (workspace, label) = cluster.labels_of(namespace)?;
        let none = Enforced::None { why: "the namespace belongs to no workspace".into() };
        let enforced = match &workspace {
            Some(workspace) => cluster.enforced(workspace, self.trust.ring(|| Ok(cluster))?, now)?,
            None => none,
        };
        Ok(decide_on(agent, namespace, workspace.as_deref(), &enforced, now).labelled(&label))
    }
}

/// The decision by the rules of a draft.
fn tried(agent: &NamedAgent, draft: &VerifiedPolicy) -> Verdict {
    let warnings = vec![format!("version {} is a draft: nothing is enforced by it yet", draft.version())];
    Verdict::new(agent, Decision { warnings, ..rehearse(draft, &agent.spec) })
}

/// The policy of a document, if it verifies, with its workspace.
fn verified(source: &Source, found: &Found, keys: &KeyRing, now: Timestamp) -> Result<(String, Enforced), Unfit> {
    let refused = |reason: &str, message: &str| Unfit::Refused(format!("{source} is refused: {reason}: {message}"));
    let document =
        Document::parse(&found.bytes, found.format).map_err(|fault| refused("Malformed", &fault.to_string()))?;
    let policy = verify(document, keys, now).map_err(|refusal| refused(refusal.reason.as_str(), &refusal.message))?;
    if policy.status() == Status::Draft {
        note(&format!("{source} is a draft: this is what it would decide if it were active"));
    }
    Ok((policy.workspace_id().to_owned(), Enforced::Policy { policy: Arc::new(policy), source: None }))
}
