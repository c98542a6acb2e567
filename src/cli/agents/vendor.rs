//! `sekuire.yml`, the file in which the vendor's SDK describes an agent, with its prompt and its tools in files of
//! their own. Both of its forms are read: `identity` (spec_version 0.1), and `agent` or `agents` (the SDK's config).
//!
//! Only what it has is mapped: model, provider, endpoint, tools, the tools that need approval, framework and audit
//! logging; and the identity, which is computed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde::Deserialize;
use serde_json::Value;

use super::{Agents, NamedAgent};
use crate::api::Plain;
use crate::cli::files;
use crate::policy::agent::{Approval, ApprovalMode, Compliance, Identity, Model, Tool};
use crate::policy::{AgentSpec, identity};

/// A prompt, or a list of tools.
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// The file, as far as it says something that a policy judges.
#[derive(Deserialize)]
pub(super) struct Config {
    project: Option<Project>,
    identity: Option<IdentitySection>,
    agent: Option<AgentSection>,
    agents: Option<BTreeMap<String, AgentSection>>,
}

#[derive(Deserialize)]
struct Project {
    name: Option<String>,
}

#[derive(Deserialize)]
struct IdentitySection {
    model: String,
    provider: Option<String>,
    system_prompt_path: PathBuf,
    tools_path: PathBuf,
}

#[derive(Deserialize)]
struct AgentSection {
    name: Option<String>,
    system_prompt: PathBuf,
    tools: PathBuf,
    llm: Llm,
    compliance: Option<ComplianceSection>,
}

#[derive(Deserialize)]
struct Llm {
    provider: String,
    model: String,
    base_url: Option<String>,
}

#[derive(Deserialize)]
struct ComplianceSection {
    framework: Option<String>,
    audit_logging: Option<bool>,
    require_approval: Option<Vec<String>>,
}

/// One agent, before its files are read.
struct Parts {
    name: String,
    model: Model,
    prompt: PathBuf,
    tools: PathBuf,
    compliance: Option<ComplianceSection>,
}

/// The file, if it is one: it has no `apiVersion`, and one of the sections.
pub(super) fn parse(text: &str) -> Option<Result<Config, serde_yaml::Error>> {
    let value: serde_yaml::Value = serde_yaml::from_str(text).ok()?;
    let has = |name: &str| value.get(name).is_some();
    let ours = !has("apiVersion") && !has("kind") && (has("identity") || has("agent") || has("agents"));
    ours.then(|| serde_yaml::from_value(value))
}

impl Config {
    /// Reads the files that it names, and adds its agents.
    pub(super) fn load(self, file: &Path, into: &mut Agents) {
        let project = self.project.and_then(|project| project.name).unwrap_or_else(|| "agent".to_owned());
        let mut all = Vec::new();
        if let Some(identity) = self.identity {
            // without a provider no allow list of providers is met
            let provider = identity.provider.unwrap_or_default();
            let model = Model { provider, name: identity.model, ..Model::default() };
            let (prompt, tools) = (identity.system_prompt_path, identity.tools_path);
            all.push(Parts { name: project.clone(), model, prompt, tools, compliance: None });
        }
        let named = self.agents.unwrap_or_default().into_iter().map(|(name, section)| (Some(name), section));
        for (name, section) in self.agent.into_iter().map(|section| (None, section)).chain(named) {
            let name = name.or(section.name).unwrap_or_else(|| project.clone());
            let Llm { provider, model, base_url } = section.llm;
            let model = Model { provider, name: model, endpoint: base_url, ..Model::default() };
            let (prompt, tools, compliance) = (section.system_prompt, section.tools, section.compliance);
            all.push(Parts { name, model, prompt, tools, compliance });
        }
        for parts in all {
            let name = parts.name.clone();
            match parts.read(file) {
                Ok(agent) => into.agents.push(agent),
                Err(e) => {
                    let file = files::name(file);
                    into.fault((&file, 1), format!("{file}: agent {name}: {e:#}"));
                }
            }
        }
    }
}

impl Parts {
    fn read(self, file: &Path) -> anyhow::Result<NamedAgent> {
        let folder = file.parent().unwrap_or(Path::new(""));
        let prompt = files::read_text(&inside(folder, &self.prompt)?, MAX_BYTES)?;
        let path = inside(folder, &self.tools)?;
        let Plain(tools) = serde_json::from_str(&files::read_text(&path, MAX_BYTES)?)
            .with_context(|| format!("{} is not JSON", files::name(&path)))?;
        let (prompt_hash, tools_hash) = (identity::prompt_hash(&prompt), identity::tools_hash(&tools)?);
        let sekuire_id = identity::sekuire_id(&self.model.name, &prompt_hash, &tools_hash);
        let compliance = self.compliance.as_ref();
        let spec = AgentSpec {
            tools: names(&tools).with_context(|| files::name(&path))?,
            approval: compliance
                .and_then(|section| section.require_approval.clone())
                .map(|tools| Approval { mode: ApprovalMode::Listed, tools }),
            compliance: compliance.map(|section| Compliance {
                frameworks: section.framework.clone().into_iter().collect(),
                audit_logging: section.audit_logging,
                ..Compliance::default()
            }),
            identity: Some(Identity { sekuire_id, prompt_hash: Some(prompt_hash), tools_hash: Some(tools_hash) }),
            model: self.model,
            ..AgentSpec::default()
        };
        let spec = bounded(&spec)?;
        let file = files::name(file);
        let origin = (file.clone(), 1);
        Ok(NamedAgent { name: self.name, namespace: None, file, origin, spec, manifest: None })
    }
}

/// An agent that was made of something else, held to the bounds of one that is read.
fn bounded(spec: &AgentSpec) -> anyhow::Result<AgentSpec> {
    let value = serde_json::to_value(spec)?;
    serde_path_to_error::deserialize(value).map_err(|e| anyhow::anyhow!("{}: {}", e.path(), e.inner()))
}

/// A path that the file names: below its own folder, since a manifest of somebody else is not to choose what is read.
fn inside(folder: &Path, path: &Path) -> anyhow::Result<PathBuf> {
    let base = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let wanted = folder.join(path);
    let whole = wanted.canonicalize().with_context(|| format!("cannot read {}", files::name(&wanted)))?;
    let base = base.canonicalize().with_context(|| format!("cannot read {}", files::name(base)))?;
    if !whole.starts_with(&base) {
        bail!("{} is outside of the folder of the manifest; expected a file in it", files::name(path));
    }
    Ok(wanted)
}

/// The names of the tools: of a list, or of a list under `tools`.
fn names(tools: &Value) -> anyhow::Result<Vec<Tool>> {
    let list = tools.as_array().or_else(|| tools.get("tools")?.as_array());
    let list = list.context("expected a list of tools, or an object with one under tools")?;
    let name = |(index, tool): (usize, &Value)| match tool.get("name").and_then(Value::as_str) {
        Some(name) => Ok(Tool { name: name.to_owned(), ..Tool::default() }),
        None => bail!("the tool at place {index} has no name"),
    };
    list.iter().enumerate().map(name).collect()
}
