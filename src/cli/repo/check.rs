//! `sekuire repo check`: the pull-request gate.

use std::path::{Path, PathBuf};

use clap::Args;
use jiff::Timestamp;

use super::agents::{self, Member};
use super::contents::{Base, Contents};
use super::findings::{Found, Ground};
use super::formats::Form;
use super::report::{Finding, Level, Report};
use crate::admission::index::PolicyIndex;
use crate::api::{PolicyRepository, PolicyRepositorySpec};
use crate::cli::agents::AgentFault;
use crate::cli::checkout::Checkout;
use crate::cli::cluster::{Cluster, LazyCluster};
use crate::cli::documents::warn_of_ends;
use crate::cli::terminal::Style;
use crate::cli::trust::{self, API_VERSION, JudgeArgs};
use crate::cli::{Outcome, Usage, emit, files, manifest, warn};
use crate::controller::observe::Ownership;
use crate::policy::Reason;

/// Check a repository of policies as the controller would, and a change to it before it is merged.
///
/// Every document is verified. With --base, the change is held against what was there before: versions rise, none is used
/// twice, a workspace has one policy, and none is deleted that was not archived. With --agents or --cluster, agents are
/// named that comply now and would not any more. Without --base and without --cluster nothing is known of what was there before: an
/// older version passes.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  sekuire repo check --trust keys/
  sekuire repo check --base origin/main --trust /etc/sekuire/keys --agents agents/
  sekuire repo check --base origin/main --cluster                 keys, accepted versions and agents of the cluster
  sekuire repo check policies-example --trust policies-example/keys --output sarif > sekuire.sarif

The verdict is that of the controller, by the same code, for the same reasons; that a version is older shows only with --base
or --cluster. What is in a file of the checkout counts, committed or not,
unless Git ignores it. Keys that a change brings along vouch for nothing: take --trust from the base, or from the cluster.

With --cluster, every policy of the cluster is named that this version of the program does not read: run it before an
upgrade. What may not do what it is meant to (denials without an allow list, entries that nothing can meet) is a warning;
with --base, in documents that the change touches.

Exit code 1: a document is refused, or a file is deleted whose policy stays enforced, or a policy of the cluster cannot be
read; with --strict also: an agent would newly be refused.
JSON: {documents: [{file, workspace_id, policy_id, version, status, follows, result, message}], findings: [{level, reason,
file, line, column, message}], advice: [{file, line, column, kind, path, text}], newly_refused: [as of `sekuire agent check`]}.")]
pub(in crate::cli) struct Check {
    /// Checkout of the repository.
    #[arg(value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// Commit that the change is to be merged into, such as origin/main (gitrevisions(7)).
    #[arg(long, value_name = "REV")]
    base: Option<String>,
    /// The change is not merged but pushed: it has to descend from --base.
    #[arg(long, requires = "base")]
    push: bool,
    /// Folder of the documents in DIR. Default: that of --repository, else `policies`.
    #[arg(long, value_name = "FOLDER")]
    path: Option<String>,
    /// The PolicyRepository manifest, which says what the repository may publish. Default: repository.yaml in DIR, as --base
    /// has it, if there is one.
    #[arg(long, value_name = "FILE")]
    repository: Option<PathBuf>,
    /// Name the agents in these manifests or folders that would newly be refused. Can be given several times.
    #[arg(long, value_name = "PATH")]
    agents: Vec<PathBuf>,
    /// Ask the cluster: for the versions that it has accepted, for what the repository may publish, for its agents, and,
    /// without --trust, for its keys.
    #[arg(long = "cluster")]
    ask_cluster: bool,
    /// End with exit code 1 also where an agent would newly be refused.
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    by: JudgeArgs,
    /// Form of the output. `github`: annotations of GitHub Actions.
    #[arg(long = "output", short = 'o', value_enum, default_value_t = Form::Text, value_name = "FORM")]
    output: Form,
}

/// What is known of the repository's object.
#[derive(Default)]
struct Known {
    spec: Option<PolicyRepositorySpec>,
    /// How many there are in the cluster.
    repositories: usize,
}

/// A manifest is a page.
const MAX_MANIFEST_BYTES: usize = 1024 * 1024;

/// The name and the spec of the one `PolicyRepository` of a file.
fn repository(text: &[u8], file: &str) -> anyhow::Result<(String, PolicyRepositorySpec)> {
    const KIND: &str = "PolicyRepository";
    let text = manifest::text(text).map_err(|what| anyhow::anyhow!("{file} is {what}"))?;
    let mut found = Vec::new();
    for manifest in manifest::read(&text, file) {
        let manifest = manifest.map_err(|fault| anyhow::anyhow!("{}; see --repository", fault.message))?;
        anyhow::ensure!(
            manifest.kind == KIND && manifest.api_version == API_VERSION,
            "{} is a {} of {}; expected a {KIND} of {API_VERSION}",
            manifest.place,
            manifest.kind,
            manifest.api_version
        );
        found.push(manifest);
    }
    anyhow::ensure!(found.len() == 1, "{file} holds {} manifests; expected one, a {KIND}", found.len());
    trust::of::<PolicyRepository, _>(found.remove(0))
}

impl Check {
    pub(in crate::cli) fn run(self) -> anyhow::Result<Outcome> {
        let now = self.by.now();
        let lazy = LazyCluster::new(&self.by.cluster);
        let cluster = self.ask_cluster.then(|| lazy.get()).transpose()?;
        anyhow::ensure!(
            self.dir.is_dir(),
            "{} is no folder; expected a checkout of the repository",
            self.dir.display()
        );
        let checkout = Checkout::find(&self.dir)?;
        if self.base.is_some() && checkout.is_none() {
            return Err(Usage(format!("--base needs a Git repository, and {} is in none", self.dir.display())).into());
        }
        if !self.agents.is_empty() && self.base.is_none() && cluster.is_none() {
            return Err(Usage("--agents needs --base or --cluster: what would newly be refused?".to_owned()).into());
        }
        let known = self.known(cluster, checkout.as_ref())?;
        let path = self.path.as_deref().or(known.spec.as_ref().map(PolicyRepositorySpec::path)).unwrap_or("policies");
        let base = match (&checkout, &self.base) {
            (Some(checkout), Some(base)) => Some(Base { id: checkout.id(base)?, pushed: self.push }),
            _ => None,
        };
        let keys = self.by.trust.ring(|| lazy.get())?;
        let contents = Contents::read(checkout.as_ref(), &self.dir, path, base.as_ref())?;
        let ground = Ground {
            contents: &contents,
            checkout: checkout.as_ref(),
            keys: &keys,
            owned: known.spec.as_ref().map_or(Ownership::All, |spec| Ownership::of(spec, known.repositories)),
            index: cluster.map_or_else(|| Ok(PolicyIndex::default()), |cluster| cluster.index(keys.clone(), now))?,
            now,
        };
        let mut found = ground.judge()?;
        let after =
            found.workspaces.iter().filter_map(|(id, policies)| Some((id.as_str(), policies.after.as_deref()?)));
        warn_of_ends(after, now);
        if contents.unrelated {
            found.findings.insert(0, self.rewritten());
        }
        let report = self.report(found, self.agents(cluster)?, checkout.as_ref(), now);
        report.advice.iter().for_each(|remark| warn(&remark.text()));
        emit(&self.output.of(&report, Style::of_stdout())?)?;
        let refused = report.count(Level::Error) > 0;
        Ok(if refused { Outcome::Refused } else { Outcome::Fine })
    }

    /// What the manifest, or the cluster's object of that name, says of the repository.
    fn known(&self, cluster: Option<&Cluster>, checkout: Option<&Checkout>) -> anyhow::Result<Known> {
        let Some((file, text)) = self.manifest(checkout)? else { return Ok(Known::default()) };
        let (name, spec) = repository(&text, &file)?;
        let Some(cluster) = cluster else { return Ok(Known { spec: Some(spec), repositories: 1 }) };
        let all = cluster.list::<PolicyRepository>("cannot read the repositories (PolicyRepository)")?;
        let repositories = all.len();
        let mut readable = all.into_iter().filter_map(|sent| sent.object.ok());
        let Some(object) = readable.find(|object| object.metadata.name.as_ref() == Some(&name)) else {
            warn(&format!("the cluster has no PolicyRepository {name}: {file} counts instead"));
            return Ok(Known { spec: Some(spec), repositories: repositories + 1 });
        };
        Ok(Known { spec: Some(object.spec), repositories })
    }

    /// The manifest of the repository, with its name. With a base it is the one of the base: a change does not choose
    /// where its documents are looked for, or for whom they may be.
    fn manifest(&self, checkout: Option<&Checkout>) -> anyhow::Result<Option<(String, Vec<u8>)>> {
        if let Some(file) = &self.repository {
            return Ok(Some((
                file.display().to_string(),
                files::read_manifest(file, MAX_MANIFEST_BYTES)?.into_bytes(),
            )));
        }
        let usual = self.dir.join("repository.yaml");
        if let (Some(checkout), Some(base)) = (checkout, &self.base) {
            let path = checkout.path_of(&usual)?;
            if checkout.has(base, &path)? {
                return Ok(Some((format!("{base}:{path}"), checkout.file(base, &path, MAX_MANIFEST_BYTES)?)));
            }
        }
        if !usual.is_file() {
            return Ok(None);
        }
        let file = usual.display().to_string();
        if let Some(base) = &self.base {
            warn(&format!("{base} has no repository.yaml: {file} of the change counts; see --repository"));
        }
        Ok(Some((file, files::read_manifest(&usual, MAX_MANIFEST_BYTES)?.into_bytes())))
    }

    fn rewritten(&self) -> Finding {
        let base = self.base.as_deref().unwrap_or_default();
        let message = if self.push {
            format!(
                "HEAD does not descend from {base}: the controller reads nothing of a rewritten history; rebase onto {base}"
            )
        } else {
            format!("HEAD and {base} have no commit in common: this is another history; start from {base}")
        };
        Finding::new(Level::Error, Reason::HistoryRewritten, None, message)
    }

    /// The agents of files and cluster, and what of the files cannot be read as one.
    fn agents(&self, cluster: Option<&Cluster>) -> anyhow::Result<(Vec<Member>, Vec<AgentFault>)> {
        let (mut members, faults) = agents::of_files(&self.agents)?;
        if let Some(cluster) = cluster {
            members.extend(agents::of_cluster(cluster)?);
        }
        Ok((members, faults))
    }

    fn report(
        &self,
        found: Found,
        (members, faults): (Vec<Member>, Vec<AgentFault>),
        checkout: Option<&Checkout>,
        now: Timestamp,
    ) -> Report {
        let Found { documents, mut findings, advice, workspaces } = found;
        let named = |file: &str| {
            let in_checkout = checkout.and_then(|checkout| checkout.path_of(Path::new(file)).ok());
            in_checkout.unwrap_or_else(|| file.to_owned())
        };
        for AgentFault { origin: (file, line), message } in faults {
            findings.push(Finding::of_agent(named(&file), line, message));
        }
        let level = if self.strict { Level::Error } else { Level::Warning };
        let mut newly_refused = Vec::new();
        for member in members {
            let policies = workspaces.get(member.workspace());
            let Some(verdict) = policies.and_then(|policies| member.newly_refused(policies, now)) else { continue };
            findings.push(member.finding(&verdict, level, member.file().map(named)));
            newly_refused.push(verdict);
        }
        Report { documents, findings, advice, newly_refused }
    }
}
