//! `sekuire.yml`, the file in which the vendor's SDK describes an agent, with its prompt and its tools in files of
//! their own. Its forms: `identity` (spec_version 0.1), `agent` or `agents` (the SDK's config), `llm` alone, and `identity`
//! and `agent` which describe one agent together.
//!
//! Whatever says something that a policy judges becomes part of the agent. Of the rest, what is known to say nothing of
//! that kind is named to the user; what is not known is a fault: an agent that was not read whole does not comply.

use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use serde_json::Value;

use super::{Agents, NamedAgent};
use crate::cli::{files, manifest};
use crate::policy::agent::{
    Approval, ApprovalMode, Compliance, Filesystem, Identity, Model, Network, Permissions, RateLimits, Service, Tool,
};
use crate::policy::{AgentSpec, agent, identity};

mod section;

use section::Section;

/// A prompt, or a list of tools.
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// What of a file says nothing that a policy judges: of its root, and of its sections.
const NEUTRAL: &[&str] = &["spec_version", "logger", "memory", "a2a", "deployment"];
const NEUTRAL_PROJECT: &[&str] =
    &["version", "description", "author", "authors", "license", "homepage", "repository", "tags"];
const NEUTRAL_LLM: &[&str] = &["api_key_env", "temperature", "max_tokens", "streaming", "top_p"];
const NEUTRAL_TOOL: &[&str] = &[
    "description",
    "title",
    "category",
    "version",
    "tags",
    "schema",
    "parameters",
    "inputSchema",
    "input_schema",
    "outputSchema",
    "output_schema",
    "returns",
    "examples",
    "annotations",
    "implementation",
    "strict",
    "type",
];

/// What was read of one agent, before its files are.
#[derive(Clone, Default)]
struct Parts {
    name: Option<String>,
    model: Option<String>,
    provider: Option<String>,
    endpoint: Option<String>,
    prompt: Option<PathBuf>,
    tools: Option<PathBuf>,
    compliance: Option<Compliance>,
    approval: Option<Approval>,
}

/// What holds for all agents of a file.
struct Common {
    project: Option<String>,
    sekuire_id: Option<String>,
    permissions: Option<Permissions>,
    rate_limits: Option<RateLimits>,
}

/// Reads the file and those that it names, if it is a `sekuire.yml`: by its name, or since it is no manifest and has one of
/// the sections.
pub(super) fn load(text: &str, file: &Path, into: &mut Agents) -> bool {
    let mut documents = manifest::documents(text);
    let named = file.file_stem().is_some_and(|stem| stem == "sekuire");
    let is_ours = |value: &Value| {
        let has = |name: &str| value.get(name).is_some();
        !has("apiVersion") && !has("kind") && (named || ["identity", "agent", "agents", "llm"].into_iter().any(has))
    };
    match documents.as_slice() {
        [Ok(document)] if is_ours(&document.value) => {}
        [Err(_)] if named => {}
        _ => return false,
    }
    let shown = files::name(file);
    let value = match documents.remove(0) {
        Ok(document) => document.value,
        Err((_, message)) => {
            into.fault((&shown, 1), format!("{shown}: not a sekuire.yml: {message}"));
            return true;
        }
    };
    let mut root = Section::new("", value);
    let agents = read(&mut root);
    let (unread, mut faults) = root.end();
    match agents {
        Ok((common, all)) if faults.is_empty() => {
            let mut unread_tools = Vec::new();
            for parts in all {
                let name = parts.name.clone().or_else(|| common.project.clone()).unwrap_or_else(|| "agent".to_owned());
                match parts.read(&name, &common, file, &mut unread_tools) {
                    Ok(agent) => into.agents.push(agent),
                    Err(e) => faults.push(format!("agent {name}: {e:#}")),
                }
            }
            let unread: Vec<String> = unread.into_iter().chain(unread_tools).collect();
            if !unread.is_empty() {
                into.remarks.push(format!("{shown}: judged by no rule: {}", unread.join(", ")));
            }
        }
        Ok(_) => {}
        Err(e) => faults.push(format!("{e:#}")),
    }
    for fault in faults {
        into.fault((&shown, 1), format!("{shown}: {fault}"));
    }
    true
}

/// The sections of the root.
fn read(root: &mut Section) -> anyhow::Result<(Common, Vec<Parts>)> {
    let (mut project, mut sekuire_id) = (None, None);
    if let Some(mut section) = root.section("project")? {
        (project, sekuire_id) = (section.text("name")?, section.text("sekuire_id")?);
        root.done(section.neutral(NEUTRAL_PROJECT));
    }
    let permissions = root.section("permissions")?.map(|section| permissions(section, root)).transpose()?;
    let rate_limits = root.section("rate_limits")?.map(|section| rate_limits(section, root)).transpose()?;
    if let Some(mut section) = root.section("capabilities")? {
        if section.texts("delegates_to")?.is_some_and(|list| !list.is_empty()) {
            bail!("capabilities.delegates_to: agents that are delegated to cannot be judged here; expected none");
        }
        root.done(section.neutral(&["provides", "requires"]));
    }
    let identity = root.section("identity")?.map(|section| of_identity(section, root)).transpose()?;
    let agent = root.section("agent")?.map(|section| of_agent(section, root)).transpose()?;
    let mut named = Vec::new();
    if let Some(mut sections) = root.section("agents")? {
        for (name, section) in sections.sections()? {
            let parts = of_agent(section, root)?;
            named.push(Parts { name: Some(name), ..parts });
        }
        root.done(sections);
    }
    let llm = root.section("llm")?.map(|section| of_llm(section, root)).transpose()?;
    let mut all: Vec<Parts> = agent.into_iter().chain(named).collect();
    match (llm, all.is_empty() && identity.is_none()) {
        (None, true) => bail!("no agent in it; expected one of the sections identity, agent, agents, llm"),
        // the SDK's oldest form, with its defaults
        (Some(llm), true) => {
            let (prompt, tools) = (Some("./system_prompt.md".into()), Some("./tools.json".into()));
            all.push(Parts { prompt, tools, ..llm });
        }
        (Some(_), false) => bail!("llm: beside an agent nobody reads it; expected it in the section of the agent"),
        (None, false) => {}
    }
    match (identity, all.as_mut_slice()) {
        (Some(identity), [one]) => *one = together(&identity, one)?,
        (Some(identity), _) => all.push(identity),
        (None, _) => {}
    }
    root.neutral_here(NEUTRAL);
    Ok((Common { project, sekuire_id, permissions, rate_limits }, all))
}

/// `identity` and `agent` describe one agent, so they have to agree.
fn together(identity: &Parts, agent: &Parts) -> anyhow::Result<Parts> {
    fn one<T: Clone + PartialEq + std::fmt::Debug>(
        what: &str,
        a: &Option<T>,
        b: &Option<T>,
    ) -> anyhow::Result<Option<T>> {
        match (a, b) {
            (Some(a), Some(b)) if a != b => {
                bail!("identity and agent describe one agent, and disagree on {what}: {a:?}, {b:?}")
            }
            (a, b) => Ok(a.clone().or_else(|| b.clone())),
        }
    }
    // `./x` is `x`
    let here = |part: &Component<'_>| *part != Component::CurDir;
    let plain = |path: &Option<PathBuf>| path.as_ref().map(|path| path.components().filter(here).collect::<PathBuf>());
    Ok(Parts {
        model: one("the model", &identity.model, &agent.model)?,
        provider: one("the provider", &identity.provider, &agent.provider)?,
        prompt: one("the prompt", &plain(&identity.prompt), &plain(&agent.prompt))?,
        tools: one("the tools", &plain(&identity.tools), &plain(&agent.tools))?,
        ..agent.clone()
    })
}

fn of_identity(mut section: Section, root: &mut Section) -> anyhow::Result<Parts> {
    let parts = Parts {
        model: section.text("model")?,
        provider: section.text("provider")?,
        prompt: section.text("system_prompt_path")?.map(PathBuf::from),
        tools: section.text("tools_path")?.map(PathBuf::from),
        ..Parts::default()
    };
    root.done(section);
    Ok(parts)
}

fn of_agent(mut section: Section, root: &mut Section) -> anyhow::Result<Parts> {
    let llm = section.section("llm")?.map(|section| of_llm(section, root)).transpose()?;
    let (mut compliance, mut approval) = (None, None);
    if let Some(mut section) = section.section("compliance")? {
        approval = section.texts("require_approval")?.map(|tools| Approval { mode: ApprovalMode::Listed, tools });
        compliance = Some(Compliance {
            frameworks: section.text("framework")?.into_iter().collect(),
            audit_logging: section.flag("audit_logging")?,
            ..Compliance::default()
        });
        root.done(section.neutral(&["sensitive_data_detection"]));
    }
    let parts = Parts {
        name: section.text("name")?,
        prompt: section.text("system_prompt")?.map(PathBuf::from),
        tools: section.text("tools")?.map(PathBuf::from),
        compliance,
        approval,
        ..llm.unwrap_or_default()
    };
    root.done(section.neutral(&["memory", "description", "version"]));
    Ok(parts)
}

fn of_llm(mut section: Section, root: &mut Section) -> anyhow::Result<Parts> {
    let parts = Parts {
        model: section.text("model")?,
        provider: section.text("provider")?,
        endpoint: section.text("base_url")?,
        ..Parts::default()
    };
    if parts.endpoint.as_ref().is_some_and(|url| url.contains("${")) {
        bail!("{}: it depends on the environment, which cannot be judged; expected the URL", section.path("base_url"));
    }
    root.done(section.neutral(NEUTRAL_LLM));
    Ok(parts)
}

/// What it asks for. What it denies itself makes that no less.
fn permissions(mut section: Section, root: &mut Section) -> anyhow::Result<Permissions> {
    let mut permissions = Permissions::default();
    if let Some(mut network) = section.section("network")? {
        permissions.network = Some(Network {
            allowed_hosts: network.texts("allowed_hosts")?.unwrap_or_default(),
            require_tls: network.flag("require_tls")?,
        });
        root.done(network.neutral(&["blocked_hosts"]));
    }
    if let Some(mut filesystem) = section.section("filesystem")? {
        permissions.filesystem = Some(Filesystem {
            allowed_paths: filesystem.texts("allowed_paths")?.unwrap_or_default(),
            allowed_extensions: filesystem.texts("allowed_extensions")?.unwrap_or_default(),
        });
        root.done(filesystem.neutral(&["blocked_paths"]));
    }
    if let Some(mut api) = section.section("api")? {
        let mut services = Vec::new();
        for mut service in api.list_of_sections("allowed_services")? {
            let name = service.text("service_name")?;
            let name = name.ok_or_else(|| anyhow!("{}: is missing", service.path("service_name")))?;
            services.push(Service { name, endpoints: service.texts("endpoints")?.unwrap_or_default() });
            root.done(service);
        }
        permissions.api = Some(agent::Api { services });
        root.done(api);
    }
    root.done(section);
    Ok(permissions)
}

/// The limits of an `Agent`, from those that bound them: what is spent in a minute is spent in its hour.
fn rate_limits(mut section: Section, root: &mut Section) -> anyhow::Result<RateLimits> {
    let mut least = |name: &str, a_minute: u64, a_hour: u64| -> anyhow::Result<Option<u64>> {
        let Some(mut limits) = section.section(name)? else { return Ok(None) };
        let minute = limits.count("max_per_minute")?.map(|most| most.saturating_mul(a_minute));
        let hour = limits.count("max_per_hour")?.map(|most| most.saturating_mul(a_hour));
        root.done(limits);
        Ok(minute.into_iter().chain(hour).min())
    };
    let (requests_per_minute, tokens_per_hour) = (least("requests", 1, 1)?, least("tokens", 60, 1)?);
    root.done(section);
    Ok(RateLimits { requests_per_minute, tokens_per_hour })
}

impl Parts {
    fn read(self, name: &str, common: &Common, file: &Path, unread: &mut Vec<String>) -> anyhow::Result<NamedAgent> {
        let missing = |what: &str, member: &str| anyhow!("it has no {what}; expected {member}");
        let model = self.model.ok_or_else(|| missing("model", "agent.llm.model or identity.model"))?;
        let prompt =
            self.prompt.ok_or_else(|| missing("prompt", "agent.system_prompt or identity.system_prompt_path"))?;
        let tools_path = self.tools.ok_or_else(|| missing("tools", "agent.tools or identity.tools_path"))?;
        let folder = file.parent().unwrap_or(Path::new(""));
        let prompt = files::read_text(&inside(folder, &prompt)?, MAX_BYTES)?;
        let path = inside(folder, &tools_path)?;
        let (shown, tools) = (files::name(&path), tools_of(&path)?);
        let (prompt_hash, tools_hash) = (identity::prompt_hash(&prompt), identity::tools_hash(&tools)?);
        let computed = identity::sekuire_id(&model, &prompt_hash, &tools_hash);
        let spec = AgentSpec {
            tools: names(tools, &shown, unread)?,
            approval: self.approval,
            compliance: self.compliance,
            permissions: common.permissions.clone(),
            rate_limits: common.rate_limits.clone(),
            identity: Some(Identity {
                sekuire_id: common.sekuire_id.clone().unwrap_or(computed),
                prompt_hash: Some(prompt_hash),
                tools_hash: Some(tools_hash),
            }),
            // without a provider no allow list of providers is met
            model: Model {
                provider: self.provider.unwrap_or_default(),
                name: model,
                endpoint: self.endpoint,
                ..Model::default()
            },
            ..AgentSpec::default()
        };
        let spec = bounded(&spec)?;
        let file = files::name(file);
        let origin = (file.clone(), 1);
        Ok(NamedAgent { name: name.to_owned(), namespace: None, file, origin, spec, manifest: None })
    }
}

/// An agent that was made of something else, held to the bounds of one that is read.
fn bounded(spec: &AgentSpec) -> anyhow::Result<AgentSpec> {
    let value = serde_json::to_value(spec)?;
    serde_path_to_error::deserialize(value).map_err(|e| anyhow::anyhow!("{}: {}", e.path(), e.inner()))
}

/// The file of the tools, which is JSON.
fn tools_of(path: &Path) -> anyhow::Result<Value> {
    let text = files::read_text(path, MAX_BYTES)?;
    manifest::json(&text).map_err(|e| anyhow!("{} is not JSON: {e}", files::name(path)))
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

/// The tools: of a list, or of a list under `tools`; each as the SDK has it, or as a function of a model's API.
fn names(tools: Value, file: &str, unread: &mut Vec<String>) -> anyhow::Result<Vec<Tool>> {
    let mut whole;
    let list = match tools {
        Value::Array(list) => list,
        other => {
            whole = Section::new(file, other);
            let list = whole.list("tools")?;
            let (neutral, faults) = whole.neutral(&["version", "description", "name"]).end();
            unread.extend(neutral);
            if let Some(fault) = faults.into_iter().next() {
                bail!("{fault}");
            }
            list.with_context(|| format!("{file}: expected a list of tools, or an object with one under tools"))?
        }
    };
    let mut named = Vec::new();
    for (index, tool) in list.into_iter().enumerate() {
        let mut section = Section::new(&format!("{file}[{index}]"), tool);
        if let Some(function) = section.section("function")? {
            section = function;
        }
        let name = section.text("name")?.with_context(|| format!("{file}: the tool at place {index} has no name"))?;
        named.push(Tool { name, server: section.text("server")? });
        // of every tool the same
        let (_, faults) = section.neutral(NEUTRAL_TOOL).end();
        if let Some(fault) = faults.into_iter().next() {
            bail!("{fault}");
        }
    }
    Ok(named)
}
