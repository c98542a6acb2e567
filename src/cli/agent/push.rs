//! `sekuire agent push`.

use anyhow::Context as _;
use clap::ValueEnum;
use clap::builder::PossibleValuesParser;
use kube::api::{Patch, PatchParams};
use kube::core::Request;
use kube::{Api, ResourceExt as _};

use super::*;
use crate::admission::denial;
use crate::api::{self, Sent};
use crate::cli::cluster::Cluster;
use crate::cli::{emit, warn, warned};
use crate::policy::Rule;

/// Field manager of what is pushed.
const FIELD_MANAGER: &str = "sekuire";

/// Apply agents to the cluster, if all of them comply with the policy of their workspace.
///
/// If one does not, nothing is applied, and the words are those of the cluster. In a namespace that is labelled
/// sekuire.ai/enforcement: warn or audit it is the cluster that decides, and its warnings are shown. With --dry-run=server the
/// cluster alone is asked: nothing but the right to create and patch agents is needed, and --expect-refused says what it has to
/// answer.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  sekuire agent push --workspace ws_payments agent.yaml
  helm template ./chart | sekuire agent push --workspace ws_payments --namespace payments -
  sekuire agent push --dry-run=server agent.yaml                       would the cluster admit it?
  sekuire agent push --dry-run=server --expect-refused model.blocked bad.yaml
                                                                       is the policy in force?

Exit code 1: an agent was refused, here or by the cluster; with --expect-refused, one was not, or for other rules alone.")]
pub(in crate::cli) struct Push {
    /// Agent manifests, folders of such, or - for standard input. Other kinds in them are passed over.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The workspace that the agents belong to; their namespaces have to be of it. Needed unless the cluster alone is asked.
    #[arg(long, value_name = "ID", required_unless_present = "dry_run")]
    workspace: Option<String>,
    /// Namespace of agents that do not say theirs. Default: that of the kubeconfig's context.
    #[arg(long, short = 'n', value_name = "NAME")]
    namespace: Option<String>,
    /// Take over fields that others have set meanwhile, such as `kubectl apply`.
    #[arg(long)]
    force_conflicts: bool,
    /// Change nothing.
    #[arg(long, value_enum, value_name = "WHO", num_args = 0..=1, require_equals = true, default_missing_value = "both")]
    dry_run: Option<DryRun>,
    /// Succeed if the cluster refuses every agent, and each for this rule among others; for tests. With --dry-run=server.
    #[arg(long, value_name = "RULE", requires = "dry_run", value_parser = PossibleValuesParser::new(Rule::ALL.map(Rule::as_str)), hide_possible_values = true)]
    pub(super) expect_refused: Option<String>,
    #[command(flatten)]
    trust: TrustArgs,
    #[command(flatten)]
    pub(super) cluster: ClusterArgs,
}

/// Who checks in a dry run.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum DryRun {
    /// The policy as it is read from the cluster, then the cluster.
    Both,
    /// The cluster alone.
    Server,
}

impl Push {
    /// The namespace of an agent.
    pub(super) fn namespace_of<'a>(&'a self, agent: &'a NamedAgent, cluster: &'a Cluster) -> &'a str {
        agent.namespace.as_deref().or(self.namespace.as_deref()).unwrap_or(cluster.namespace())
    }

    /// How agents are applied.
    pub(super) fn params(&self, dry_run: bool) -> PatchParams {
        PatchParams { dry_run, force: self.force_conflicts, ..PatchParams::apply(FIELD_MANAGER) }
    }

    pub(in crate::cli) fn run(self) -> anyhow::Result<Outcome> {
        let found = agents::load(&self.files)?;
        if tell_faults(&found) != Outcome::Fine {
            complain("nothing was applied");
            return Ok(Outcome::Refused);
        }
        if let Some(agent) = found.agents.iter().find(|agent| agent.manifest.is_none() || agent.name.ends_with('*')) {
            bail!(Usage(format!("{} is no Agent manifest with a name, and cannot be applied", agent.file)));
        }
        if self.dry_run == Some(DryRun::Server) {
            return self.ask_cluster(&found.agents);
        }
        let Some(expected) = &self.workspace else {
            bail!(Usage("give --workspace, or ask the cluster alone with --dry-run=server".to_owned()));
        };
        if self.expect_refused.is_some() {
            bail!(Usage("--expect-refused is about the answer of the cluster: give --dry-run=server".to_owned()));
        }
        let cluster = self.cluster.connect()?;
        let keys = self.trust.ring(|| Ok(&cluster))?;
        let now = Timestamp::now();
        let enforced = cluster.enforced(expected, keys, now)?;
        let mut refused = 0;
        for agent in &found.agents {
            let namespace = self.namespace_of(agent, &cluster);
            let (workspace, label) = cluster.labels_of(namespace)?;
            if let Some(other) = workspace.as_ref().filter(|workspace| *workspace != expected) {
                complain(&format!(
                    "{}: the namespace {namespace} belongs to {other}, not to {}; push it with --workspace {other}",
                    agent.name, expected
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
        if self.dry_run.is_some() || tried != Outcome::Fine {
            Ok(tried)
        } else {
            self.apply(&cluster, &found.agents, false)
        }
    }

    pub(super) fn apply(&self, cluster: &Cluster, agents: &[NamedAgent], dry_run: bool) -> anyhow::Result<Outcome> {
        let params = self.params(dry_run);
        for (done, agent) in agents.iter().enumerate() {
            let namespace = self.namespace_of(agent, cluster);
            let api: Api<Sent<api::Agent>> = Api::namespaced(cluster.client(), namespace);
            let manifest = agent.manifest.as_ref().context("an agent without manifest")?;
            let request = Request::new(api.resource_url()).patch(&agent.name, &params, &Patch::Apply(manifest))?;
            let client = cluster.client();
            let sent = warned::send::<Sent<api::Agent>>(&client, request);
            let patched = cluster.try_ask(&format!("applying {namespace}/{}", agent.name), sent);
            let before = if dry_run { 0 } else { done };
            let (applied, of) = (format!("{before} of {} agents were applied", agents.len()), agent.name.as_str());
            match patched {
                Ok(_) if dry_run && self.dry_run.is_none() => {}
                Ok((object, warnings)) => {
                    warnings.iter().for_each(|warning| warn(&format!("{of}: {}", one_line(warning))));
                    let what = if dry_run { "would apply" } else { "applied" };
                    emit(&format!("{what} {namespace}/{}\n", object.name_any()))?;
                }
                Err(kube::Error::Api(status)) if status.code == 409 && status.reason == "Conflict" => {
                    complain(&format!(
                        "{}\n{of} was not applied; {applied}; take these fields over with --force-conflicts, or apply it with \
                         what set them",
                        status.message
                    ));
                    return Ok(Outcome::Refused);
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
