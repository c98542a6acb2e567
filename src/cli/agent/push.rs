//! `sekuire agent push`.

use anyhow::Context as _;
use kube::api::{Patch, PatchParams};
use kube::core::Request;
use kube::{Api, ResourceExt as _};

use super::*;
use crate::admission::denial;
use crate::api;
use crate::cli::cluster::Cluster;
use crate::cli::{emit, warn, warned};

/// Field manager of what is pushed.
const FIELD_MANAGER: &str = "sekuire";

/// Apply agents to the cluster, if all of them comply with the policy of their workspace.
///
/// If one does not, nothing is applied, and the words are those of the cluster. In a namespace that is labelled
/// sekuire.ai/enforcement: warn or audit it is the cluster that decides, and its warnings are shown.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  sekuire agent push --workspace ws_payments agent.yaml
  helm template ./chart | sekuire agent push --workspace ws_payments --namespace payments -

Exit code 1: an agent was refused, here or by the cluster.")]
pub(in crate::cli) struct Push {
    /// Agent manifests, folders of such, or - for standard input. Other kinds in them are passed over.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The workspace that the agents belong to; their namespaces have to be of it.
    #[arg(long, value_name = "ID")]
    workspace: String,
    /// Namespace of agents that do not say theirs.
    #[arg(long, short = 'n', value_name = "NAME", default_value = "default")]
    namespace: String,
    /// Check, and have the cluster check, but change nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    trust: TrustArgs,
    #[command(flatten)]
    cluster: ClusterArgs,
}

impl Push {
    pub(in crate::cli) fn run(self) -> anyhow::Result<Outcome> {
        let found = agents::load(&self.files)?;
        if tell_faults(&found) != Outcome::Fine {
            complain("nothing was applied");
            return Ok(Outcome::Refused);
        }
        if let Some(agent) = found.agents.iter().find(|agent| agent.manifest.is_none() || agent.name.ends_with('*')) {
            bail!(Usage(format!("{} is no Agent manifest with a name, and cannot be applied", agent.file)));
        }
        let cluster = self.cluster.connect()?;
        let keys = self.trust.ring(|| Ok(&cluster))?;
        let now = Timestamp::now();
        let enforced = cluster.enforced(&self.workspace, keys, now)?;
        let mut refused = 0;
        for agent in &found.agents {
            let namespace = agent.namespace.as_deref().unwrap_or(&self.namespace);
            let (workspace, label) = cluster.labels_of(namespace)?;
            if let Some(other) = workspace.as_ref().filter(|workspace| **workspace != self.workspace) {
                complain(&format!(
                    "{}: the namespace {namespace} belongs to {other}, not to {}; push it with --workspace {other}",
                    agent.name, self.workspace
                ));
                refused += 1;
                continue;
            }
            let verdict = decide_on(agent, namespace, workspace.as_deref(), &enforced, now).labelled(&label);
            // the cluster says whether it obeys the label, and that before anything is applied
            if !verdict.decision.allowed && !verdict.may_be_spared() {
                complain(&denial::describe(namespace, &agent.name, &verdict.decision, None).message);
                refused += 1;
            }
        }
        if refused > 0 {
            complain("nothing was applied");
            return Ok(Outcome::Refused);
        }
        // the cluster checks more, such as lengths: what it would refuse is seen before anything is applied
        let tried = self.apply(&cluster, &found.agents, true)?;
        if self.dry_run || tried != Outcome::Fine { Ok(tried) } else { self.apply(&cluster, &found.agents, false) }
    }

    fn apply(&self, cluster: &Cluster, agents: &[NamedAgent], dry_run: bool) -> anyhow::Result<Outcome> {
        let params = PatchParams { dry_run, ..PatchParams::apply(FIELD_MANAGER) };
        for (done, agent) in agents.iter().enumerate() {
            let namespace = agent.namespace.as_deref().unwrap_or(&self.namespace);
            let api: Api<api::Agent> = Api::namespaced(cluster.client(), namespace);
            let manifest = agent.manifest.as_ref().context("an agent without manifest")?;
            let request = Request::new(api.resource_url()).patch(&agent.name, &params, &Patch::Apply(manifest))?;
            let client = cluster.client();
            let sent = warned::send::<api::Agent>(&client, request);
            let patched = cluster.try_ask(&format!("applying {namespace}/{}", agent.name), sent);
            let before = if dry_run { 0 } else { done };
            let (applied, of) = (format!("{before} of {} agents were applied", agents.len()), agent.name.as_str());
            match patched {
                Ok(_) if dry_run && !self.dry_run => {}
                Ok((object, warnings)) => {
                    warnings.iter().for_each(|warning| warn(&format!("{of}: {}", one_line(warning))));
                    let what = if dry_run { "would apply" } else { "applied" };
                    emit(&format!("{what} {namespace}/{}\n", object.name_any()))?;
                }
                Err(kube::Error::Api(status)) if (400..500).contains(&status.code) && status.code != 401 => {
                    complain(&format!("{}\n{of} was not applied; {applied}", status.message));
                    return Ok(Outcome::Refused);
                }
                Err(e) => return Err(cluster.explain(&format!("{of} was not applied ({applied})"), e)),
            }
        }
        Ok(Outcome::Fine)
    }
}
