//! What in the content of a policy deserves a second look, although nothing forbids it.

use serde::Serialize;
use serde_json::Value;

use super::document::idle_names;
use super::words::quoted;

/// Something that may not do what its author means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Advice {
    /// Which kind of it.
    pub kind: AdviceKind,
    /// The member, without the place in a list, e.g. `content.agent.models.denied_models`.
    pub path: String,
    /// What is the matter, and what would be better.
    pub text: String,
}

/// The kinds of advice. A closed set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum AdviceKind {
    /// There are denials without an allow list beside them.
    DenialsAlone,
    /// An entry that nothing can meet.
    IdleEntry,
}

impl AdviceKind {
    /// All of them.
    pub const ALL: [AdviceKind; 2] = [AdviceKind::DenialsAlone, AdviceKind::IdleEntry];

    /// The name, e.g. `DenialsAlone`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            AdviceKind::DenialsAlone => "DenialsAlone",
            AdviceKind::IdleEntry => "IdleEntry",
        }
    }
}

/// All advice on a content that was checked, in the order of its members.
#[must_use]
pub fn advise(content: &Value) -> Vec<Advice> {
    let mut advice = Vec::new();
    let at = |path: &str| content.pointer(&format!("/{}", path.replace('.', "/")));
    let filled = |path: &str| at(path).and_then(Value::as_array).is_some_and(|list| !list.is_empty());
    let mut alone = |denied: &str, what: &str, allowed: &str| {
        if filled(denied) {
            let text = format!(
                "{what} are only denied by name, and a list of what is forbidden is never complete; list those that are \
                 meant in {allowed}"
            );
            advice.push(Advice { kind: AdviceKind::DenialsAlone, path: format!("content.{denied}"), text });
        }
    };
    if at("agent.models.allowed_models").is_none() {
        for denied in ["agent.models.denied_models", "agent.models.blocked_models"] {
            alone(denied, "models", "allowed_models");
        }
    }
    let approved = at("agent.capabilities.require_tool_approval").and_then(Value::as_bool) == Some(true);
    if at("agent.capabilities.allowed_tools").is_none() && at("tools.allowed_tools").is_none() && !approved {
        for denied in ["agent.capabilities.denied_tools", "tools.blocked_tools"] {
            alone(denied, "tools", "allowed_tools");
        }
    }
    for (path, fault) in idle_names(content) {
        let text = format!(
            "{path}: no agent can meet this entry, since it {fault}; names that can pass for others are refused"
        );
        advice.push(idle(&path, text));
    }
    idle_images(content, &mut advice);
    idle_prefixes(content, &mut advice);
    advice
}

fn idle(path: &str, text: String) -> Advice {
    let member = path.split('[').next().unwrap_or(path);
    Advice { kind: AdviceKind::IdleEntry, path: member.to_owned(), text }
}

fn entries<'a>(content: &'a Value, pointer: &str) -> impl Iterator<Item = (usize, &'a Value)> {
    content.pointer(pointer).and_then(Value::as_array).into_iter().flatten().enumerate()
}

/// Images are compared without tag and digest.
fn idle_images(content: &Value, advice: &mut Vec<Advice>) {
    for (i, entry) in entries(content, "/agent/images/allowed_images") {
        let Some(text) = entry.as_str() else { continue };
        let tagged = text.rsplit('/').next().is_some_and(|last| last.contains(':') && text.contains('/'));
        if tagged || text.contains('@') {
            let path = format!("content.agent.images.allowed_images[{i}]");
            let text = format!(
                "{path}: {} names a tag or digest, and images are compared without; leave it out",
                quoted(text)
            );
            advice.push(idle(&path, text));
        }
    }
}

/// Paths that programs may read in two ways meet no prefix.
fn idle_prefixes(content: &Value, advice: &mut Vec<Advice>) {
    for (i, entry) in entries(content, "/agent/models/endpoints") {
        let Some(prefix) = entry.get("path_prefix").and_then(Value::as_str) else { continue };
        let inner = prefix.strip_prefix('/').unwrap_or(prefix);
        let inner = inner.strip_suffix('/').unwrap_or(inner);
        let odd = !inner.is_empty() && inner.split('/').any(|part| matches!(part, "" | "." | ".."));
        if odd || prefix.contains(['%', '?', '#']) {
            let path = format!("content.agent.models.endpoints[{i}].path_prefix");
            let text = format!(
                "{path}: no path meets {}, since none with an empty, . or .. part, an escape, a query or a fragment does",
                quoted(prefix)
            );
            advice.push(idle(&path, text));
        }
    }
}
