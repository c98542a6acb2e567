//! Agents out of files: manifests, streams of manifests such as Helm prints, and the vendor's `sekuire.yml`.
//!
//! A manifest is held against the schema of its kind as the API server does it, so that an agent which is found to comply
//! is one that was read whole. What is passed over is said.

use std::io::Read as _;
use std::path::PathBuf;

use anyhow::{Context as _, anyhow, bail};
use serde_json::Value;

use super::manifest::{self, Manifest, Served};
use super::trust::API_VERSION;
use super::{files, note, warn};
use crate::api;
use crate::git::one_line;
use crate::policy::AgentSpec;

mod vendor;

pub(super) use super::manifest::Fault as AgentFault;

/// More than any chart prints.
const MAX_FILE_BYTES: usize = 32 * 1024 * 1024;
/// Our API group.
const GROUP: &str = "sekuire.ai";
/// Its other kinds.
const KINDS: [&str; 5] = ["PolicyRepository", "SigningKey", "SigningThreshold", "WorkspacePolicy", "PolicyLedger"];
/// How many of the manifests that are passed over are named.
const NAMED: usize = 5;

/// An agent and where it was found.
#[derive(Clone, Debug)]
pub(super) struct NamedAgent {
    /// `metadata.name`, or `generateName` and `*`.
    pub(super) name: String,
    /// `metadata.namespace`.
    pub(super) namespace: Option<String>,
    /// The file, and the line in it where there are several.
    pub(super) file: String,
    /// The same for programs: the file alone, and the line at which the manifest begins.
    pub(super) origin: (String, u32),
    /// The agent.
    pub(super) spec: AgentSpec,
    /// The whole manifest; none where it is not one of Kubernetes.
    pub(super) manifest: Option<Value>,
}

/// What was found.
#[derive(Default)]
pub(super) struct Agents {
    /// The agents, in their order.
    pub(super) agents: Vec<NamedAgent>,
    /// What of it cannot be read as an agent, each with its place and what would be accepted.
    pub(super) faults: Vec<AgentFault>,
    /// Labels `sekuire.ai/workspace` of `Namespace` manifests that were beside them.
    pub(super) namespaces: Vec<(String, String)>,
    /// Manifests that are none of an agent, each with its place.
    passed_over: Vec<String>,
    /// What else people should know of what was read.
    remarks: Vec<String>,
}

/// Reads agents: of files, of all `*.yaml`, `*.yml` and `*.json` below folders, and of standard input (`-`). Other kinds
/// are passed over, which is said.
///
/// # Errors
/// When a file cannot be read. What is in it is a fault, not an error.
pub(super) fn load(paths: &[PathBuf]) -> anyhow::Result<Agents> {
    let (mut found, served) = (Agents::default(), Served::of::<api::Agent>());
    for path in paths {
        if path.as_os_str() == "-" {
            found.stream(&standard_input()?, "standard input", &served);
            continue;
        }
        for file in files::list(path, &["yaml", "yml", "json"], true)? {
            let text = files::read_manifest(&file, MAX_FILE_BYTES)?;
            if !vendor::load(&text, &file, &mut found) {
                found.stream(&text, &files::name(&file), &served);
            }
        }
    }
    if found.agents.is_empty() && found.faults.is_empty() {
        let named: Vec<String> = paths.iter().map(|path| files::name(path)).collect();
        let first = named.first().map_or("", String::as_str);
        found.fault((first, 1), format!("no Agent of {API_VERSION} in {}", named.join(", ")));
    }
    found.tell();
    Ok(found)
}

fn standard_input() -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    let input = std::io::stdin().lock().take(MAX_FILE_BYTES as u64 + 1);
    { input }.read_to_end(&mut bytes).context("cannot read standard input")?;
    if bytes.len() > MAX_FILE_BYTES {
        bail!("standard input is longer than {MAX_FILE_BYTES} bytes");
    }
    manifest::text(&bytes).map_err(|what| anyhow!("standard input is {what}"))
}

impl Agents {
    fn fault(&mut self, (file, line): (&str, u32), message: String) {
        self.faults.push(AgentFault { origin: (file.to_owned(), line), message });
    }

    /// Says what was passed over, and what else there is to know.
    fn tell(&self) {
        self.remarks.iter().for_each(|remark| warn(&one_line(remark)));
        let many = self.passed_over.len();
        if many > 0 {
            let more = if many > NAMED { format!(", and {} more", many - NAMED) } else { String::new() };
            let named = self.passed_over[..many.min(NAMED)].join(", ");
            note(&one_line(&format!("not judged, since it is no Agent of {API_VERSION}: {named}{more}")));
        }
    }

    fn stream(&mut self, text: &str, file: &str, served: &Served) {
        for manifest in manifest::read(text, file) {
            match manifest {
                Ok(manifest) => self.manifest(manifest, served),
                Err(fault) => self.faults.push(fault),
            }
        }
    }

    fn manifest(&mut self, manifest: Manifest, served: &Served) {
        let Manifest { place, origin, api_version, kind, value } = &manifest;
        let mut fault = |message: String| {
            self.faults.push(AgentFault { origin: origin.clone(), message: format!("{place}: {message}") });
        };
        let (group, _) = api_version.split_once('/').unwrap_or_default();
        let like_agent = strsim::damerau_levenshtein(&kind.to_lowercase(), "agent") <= 1;
        let like_ours = group.is_empty() || strsim::damerau_levenshtein(&group.to_lowercase(), GROUP) <= 2;
        match (group == GROUP, kind.as_str()) {
            (true, "Agent") if api_version == API_VERSION => self.agent(manifest, served),
            (true, "Agent") => fault(format!("an Agent of {api_version:?}; this program knows {API_VERSION}")),
            (true, kind) if !KINDS.contains(&kind) => {
                fault(format!("a {kind:?} of {api_version}; did you mean Agent?"));
            }
            (false, kind) if like_agent && like_ours => {
                fault(format!("a {kind:?} of {api_version:?}; did you mean an Agent of {API_VERSION}?"));
            }
            (_, kind) => {
                if like_agent {
                    self.remarks.push(format!(
                        "{place}: this {kind} of {api_version} is not judged, and nothing is said of it; Agents of \
                         {API_VERSION} are"
                    ));
                }
                if kind == "Namespace" && api_version == "v1" {
                    let metadata = |name: &str| value.get("metadata")?.get(name);
                    let label = metadata("labels").and_then(|labels| labels.get(api::WORKSPACE_LABEL)?.as_str());
                    if let (Some(name), Some(label)) = (metadata("name").and_then(Value::as_str), label) {
                        self.namespaces.push((name.to_owned(), label.to_owned()));
                    }
                }
                let name = value.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
                self.passed_over.push(format!("{place}: {kind} {name}").trim_end().to_owned());
            }
        }
    }

    fn agent(&mut self, manifest: Manifest, served: &Served) {
        let Manifest { place, origin, mut value, .. } = manifest;
        let faults = served.check(&mut value).err().unwrap_or_default();
        let metadata = |name: &str| {
            let text = value.get("metadata")?.get(name)?.as_str()?;
            Some(text).filter(|text| !text.is_empty()).map(str::to_owned)
        };
        let generated = metadata("generateName").map(|prefix| format!("{prefix}*"));
        let named = metadata("name").or(generated);
        let name = named.as_deref().unwrap_or("without name");
        for fault in &faults {
            self.fault((&origin.0, origin.1), format!("{place}: Agent {name}: {fault}"));
        }
        // hosts and paths that the API server refuses by their form, the policy's rules refuse in words of their own
        if !faults.iter().all(|fault| is_judged_too(fault)) {
            return;
        }
        let Some(name) = named else {
            return self.fault((&origin.0, origin.1), format!("{place}: an Agent without metadata.name"));
        };
        let spec = value.get("spec").cloned().unwrap_or_default();
        match serde_path_to_error::deserialize::<_, AgentSpec>(spec) {
            Ok(spec) => {
                let namespace = metadata("namespace");
                self.agents.push(NamedAgent { name, namespace, file: place, origin, spec, manifest: Some(value) });
            }
            Err(e) => {
                let path = e.path().to_string();
                let path = if path == "." { String::new() } else { format!(".{path}") };
                let message = format!("{place}: Agent {name}: spec{path}: {}", e.into_inner());
                self.fault((&origin.0, origin.1), message);
            }
        }
    }
}

/// Whether a fault of form, which begins with its place, is of a host, a path or an endpoint.
fn is_judged_too(fault: &str) -> bool {
    match fault.split_once(": ").map_or(fault, |(place, _)| place) {
        "spec.permissions.network.allowedHosts"
        | "spec.permissions.filesystem.allowedPaths"
        | "spec.model.endpoint" => true,
        place => place.starts_with("spec.fallbackModels[") && place.ends_with("].endpoint"),
    }
}
