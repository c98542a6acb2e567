//! Agents that comply with what the base has, and would not with the change.

use std::collections::HashMap;
use std::path::PathBuf;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;

use super::findings::Policies;
use super::report::{AGENT_NEWLY_REFUSED, Finding, Level};
use crate::admission::index::Enforced;
use crate::api::{Agent, WORKSPACE_LABEL};
use crate::cli::agent::{Verdict, decide_on};
use crate::cli::agents::{self, AgentFault, NamedAgent};
use crate::cli::cluster::Cluster;
use crate::cli::warn;
use crate::git::one_line;

/// An agent and whose it is.
pub(super) struct Member {
    agent: NamedAgent,
    namespace: String,
    workspace: String,
}

/// The agents of manifests, and what of these cannot be read. An agent's workspace is that of its namespace, if a manifest
/// of that is among them, or the one that the agent names.
pub(super) fn of_files(paths: &[PathBuf]) -> anyhow::Result<(Vec<Member>, Vec<AgentFault>)> {
    if paths.is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    let found = agents::load(paths)?;
    let labels: HashMap<String, String> = found.namespaces.into_iter().collect();
    let mut members = Vec::new();
    for agent in found.agents {
        let namespace = agent.namespace.clone().unwrap_or_else(|| "default".to_owned());
        match labels.get(&namespace).or(agent.spec.workspace.as_ref()).cloned() {
            Some(workspace) => members.push(Member { agent, namespace, workspace }),
            None => warn(&format!(
                "{}: the agent {} is not judged: no manifest of its namespace {namespace} with the label \
                 {WORKSPACE_LABEL} is beside it, and it has no spec.workspace",
                one_line(&agent.file),
                one_line(&agent.name)
            )),
        }
    }
    Ok((members, found.faults))
}

/// The agents of a cluster, in namespaces that belong to a workspace.
pub(super) fn of_cluster(cluster: &Cluster) -> anyhow::Result<Vec<Member>> {
    let mut labels = HashMap::new();
    for sent in cluster.list::<Namespace>("cannot read the namespaces")? {
        let Ok(namespace) = sent.object else { continue }; // no label of it can be known, and no agent be admitted there
        let label = namespace.metadata.labels.unwrap_or_default().remove(WORKSPACE_LABEL);
        if let (Some(name), Some(label)) = (namespace.metadata.name, label) {
            labels.insert(name, label);
        }
    }
    let mut members = Vec::new();
    for sent in cluster.list::<Agent>("cannot read the agents")? {
        let agent = match sent.object {
            Ok(agent) => *agent,
            Err(unreadable) => {
                warn(&format!("an agent of the cluster is not judged: {unreadable}"));
                continue;
            }
        };
        let namespace = agent.metadata.namespace.unwrap_or_default();
        let Some(workspace) = labels.get(&namespace).cloned() else { continue };
        let file = "cluster".to_owned();
        let agent = NamedAgent {
            name: agent.metadata.name.unwrap_or_default(),
            namespace: Some(namespace.clone()),
            origin: (String::new(), 1),
            file,
            spec: agent.spec.0,
            manifest: None,
        };
        members.push(Member { agent, namespace, workspace });
    }
    Ok(members)
}

impl Member {
    /// The decision, if it is a refusal by the change alone.
    pub(super) fn newly_refused(&self, policies: &Policies, now: Timestamp) -> Option<Verdict> {
        let by = |policy: &Option<_>| {
            let enforced = match policy {
                Some(policy) => Enforced::Policy { policy: std::sync::Arc::clone(policy), source: None },
                None => Enforced::None { why: "none was ever accepted".into() },
            };
            decide_on(&self.agent, &self.namespace, Some(&self.workspace), &enforced, now)
        };
        let after = by(&policies.after);
        (!after.decision.allowed && by(&policies.before).decision.allowed).then_some(after)
    }

    /// Its workspace.
    pub(super) fn workspace(&self) -> &str {
        &self.workspace
    }

    /// What is reported of it. `file`: its manifest, as the report names files.
    pub(super) fn finding(&self, verdict: &Verdict, level: Level, file: Option<String>) -> Finding {
        let violations = verdict.decision.violations.iter();
        let mut lines: Vec<String> = violations.map(|v| format!("{}: {} [{}]", v.field, v.message, v.rule)).collect();
        if verdict.decision.omitted > 0 {
            lines.push(format!("and {} more", verdict.decision.omitted));
        }
        let (namespace, name) = (&self.namespace, &self.agent.name);
        let line = file.is_some().then_some(self.agent.origin.1);
        let message = format!("agent {namespace}/{name} would newly be refused: {}", lines.join("; "));
        Finding { level, reason: AGENT_NEWLY_REFUSED, file, line, column: None, message }
    }

    /// The file of its manifest; none for one of a cluster.
    pub(super) fn file(&self) -> Option<&str> {
        Some(self.agent.origin.0.as_str()).filter(|file| !file.is_empty())
    }
}
