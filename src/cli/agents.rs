//! Agents out of files: manifests, streams of manifests such as Helm prints, and the vendor's `sekuire.yml`.
//!
//! What is checked here is what the policy judges: that the fields are ones of an `Agent`, have its types, and are no longer
//! than those of one. Their form, and rules between fields, are checked by the API server.

use std::io::Read as _;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::files;
use super::trust::API_VERSION;
use crate::api::Plain;
use crate::policy::AgentSpec;

mod vendor;

/// More than any chart prints.
const MAX_FILE_BYTES: usize = 32 * 1024 * 1024;
/// Our API group.
const GROUP: &str = "sekuire.ai/";
/// Its other kinds.
const KINDS: [&str; 5] = ["PolicyRepository", "SigningKey", "SigningThreshold", "WorkspacePolicy", "PolicyLedger"];

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

/// What cannot be read as an agent.
pub(super) struct AgentFault {
    /// The file, and the line in it.
    pub(super) origin: (String, u32),
    /// Place, what is wrong, and what would be accepted.
    pub(super) message: String,
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
}

/// Reads agents: of files, of all `*.yaml`, `*.yml` and `*.json` below folders, and of standard input (`-`). Other kinds
/// are passed over.
///
/// # Errors
/// When a file cannot be read. What is in it is a fault, not an error.
pub(super) fn load(paths: &[PathBuf]) -> anyhow::Result<Agents> {
    let mut found = Agents::default();
    for path in paths {
        if path.as_os_str() == "-" {
            let mut text = String::new();
            let input = std::io::stdin().lock().take(MAX_FILE_BYTES as u64 + 1);
            { input }.read_to_string(&mut text).context("cannot read standard input")?;
            if text.len() > MAX_FILE_BYTES {
                bail!("standard input is longer than {MAX_FILE_BYTES} bytes");
            }
            found.stream(&text, "standard input");
            continue;
        }
        for file in files::list(path, &["yaml", "yml", "json"], true)? {
            let text = files::read_text(&file, MAX_FILE_BYTES)?;
            match vendor::parse(&text) {
                Some(Ok(config)) => config.load(&file, &mut found),
                Some(Err(e)) => {
                    let name = files::name(&file);
                    found.fault((&name, 1), format!("{name}: not a sekuire.yml: {e}"));
                }
                None => found.stream(&text, &files::name(&file)),
            }
        }
    }
    if found.agents.is_empty() && found.faults.is_empty() {
        let named: Vec<String> = paths.iter().map(|path| files::name(path)).collect();
        let first = named.first().map_or("", String::as_str);
        found.fault((first, 1), format!("no Agent of {API_VERSION} in {}", named.join(", ")));
    }
    Ok(found)
}

/// The documents of a stream with the lines that they begin at. By lines, since a parser that has met a fault says nothing
/// of what follows it: a line of `---` is a boundary wherever it stands (YAML 1.2, 9.1.2).
fn documents(text: &str) -> Vec<(usize, String)> {
    let mut documents = vec![(1, String::new())];
    for (number, line) in text.lines().enumerate() {
        let boundary = line.strip_prefix("---").filter(|rest| rest.is_empty() || rest.starts_with([' ', '\t']));
        match (boundary, documents.last_mut()) {
            (Some(rest), _) => documents.push((number + 1, format!("{rest}\n"))),
            (None, Some((_, document))) => {
                document.push_str(line);
                document.push('\n');
            }
            (None, None) => {}
        }
    }
    documents
        .retain(|(_, document)| document.lines().any(|line| !matches!(line.trim().chars().next(), None | Some('#'))));
    documents
}

impl Agents {
    fn fault(&mut self, (file, line): (&str, u32), message: String) {
        self.faults.push(AgentFault { origin: (file.to_owned(), line), message });
    }

    fn stream(&mut self, text: &str, file: &str) {
        let documents = documents(text);
        let several = documents.len() > 1;
        for (line, document) in documents {
            // `# Source: chart/templates/agent.yaml`, as Helm writes it
            let source = document.lines().find_map(|line| line.strip_prefix("# Source: "));
            let mut place = if several { format!("{file}:{line}") } else { file.to_owned() };
            if let Some(source) = source {
                place = format!("{place} ({})", source.trim());
            }
            // by way of YAML's own values, since these know of members that are there twice
            let parse =
                |text: &str| serde_yaml::from_str::<serde_yaml::Value>(text).and_then(serde_yaml::from_value::<Plain>);
            // again for the words of a fault, where the document stands in the file: they name lines
            let origin = (file, u32::try_from(line).unwrap_or(u32::MAX));
            let value = parse(&document).or_else(|_| parse(&("\n".repeat(line - 1) + &document)));
            match value {
                Ok(Plain(value)) => self.object(value, &place, origin),
                Err(e) => self.fault(origin, format!("{place}: not YAML or JSON: {e}")),
            }
        }
    }

    /// One object, or a list of some.
    fn object(&mut self, value: Value, place: &str, origin: (&str, u32)) {
        let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default();
        let (api_version, kind) = (text("apiVersion"), text("kind"));
        if kind == "List" || (kind == "AgentList" && api_version == API_VERSION) {
            let items = value.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
            for (index, item) in items.into_iter().enumerate() {
                self.object(item, &format!("{place}, items[{index}]"), origin);
            }
            return;
        }
        let metadata = |name: &str| value.get("metadata")?.get(name);
        if kind == "Namespace" && api_version == "v1" {
            let label = metadata("labels").and_then(|labels| labels.get(crate::api::WORKSPACE_LABEL)?.as_str());
            if let (Some(name), Some(label)) = (metadata("name").and_then(Value::as_str), label) {
                self.namespaces.push((name.to_owned(), label.to_owned()));
            }
            return;
        }
        if value.is_object() && (api_version.is_empty() || kind.is_empty()) {
            self.fault(origin, format!("{place}: a manifest without apiVersion or kind"));
            return;
        }
        if !api_version.starts_with(GROUP) || KINDS.contains(&kind) {
            return;
        }
        if kind != "Agent" {
            self.fault(origin, format!("{place}: a {kind:?} of {api_version}; did you mean Agent?"));
            return;
        }
        if api_version != API_VERSION {
            self.fault(origin, format!("{place}: an Agent of {api_version:?}; this program knows {API_VERSION}"));
            return;
        }
        let name = metadata("name").and_then(Value::as_str).map(str::to_owned);
        let generated = metadata("generateName").and_then(Value::as_str).map(|prefix| format!("{prefix}*"));
        let Some(name) = name.or(generated) else {
            self.fault(origin, format!("{place}: an Agent without metadata.name"));
            return;
        };
        let spec = value.get("spec").cloned().unwrap_or_default();
        match serde_path_to_error::deserialize::<_, AgentSpec>(spec) {
            Ok(spec) => self.agents.push(NamedAgent {
                name,
                namespace: metadata("namespace").and_then(Value::as_str).map(str::to_owned),
                file: place.to_owned(),
                origin: (origin.0.to_owned(), origin.1),
                spec,
                manifest: Some(value),
            }),
            Err(e) => {
                let path = e.path().to_string();
                let path = if path == "." { String::new() } else { format!(".{path}") };
                self.fault(origin, format!("{place}: Agent {name}: spec{path}: {}", e.into_inner()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::documents;

    #[test]
    fn a_stream_is_cut_at_its_boundaries_and_what_is_empty_is_left_out() {
        let stream = "# head\n---\na: 1\n--- # why\n\n---\nb: |\n  ---\n  x\n---x: 2\n";
        let found = documents(stream);
        assert_eq!(found.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [2, 6]);
        assert!(found[1].1.contains("  ---\n  x\n---x: 2"));
    }
}
