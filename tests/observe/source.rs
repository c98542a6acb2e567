//! The log as it stands in the source: what a running controller does not happen to say.

use std::collections::BTreeSet;
use std::path::Path;

use super::support::{file, read};

/// The first column of the table below a heading of docs/monitoring.md.
pub(super) fn documented(heading: &str) -> BTreeSet<String> {
    let text = read("docs/monitoring.md");
    let section = text.split(&format!("\n### {heading}\n")).nth(1).unwrap_or_else(|| panic!("no section {heading}"));
    let section = section.split("\n#").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    let cells = rows.map(|row| row.split(" | ").next().unwrap());
    cells
        .flat_map(|cell| {
            cell.split('`')
                .step_by(2)
                .filter(|name| !name.trim_matches([',', ' ', '|']).is_empty())
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .collect()
}

fn sources(folder: &Path, all: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, all);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            all.push((path.display().to_string(), std::fs::read_to_string(&path).unwrap()));
        }
    }
}

/// The arguments of each call of a macro of `tracing` that logs, split at its own commas.
fn calls(text: &str) -> Vec<Vec<String>> {
    let mut calls = Vec::new();
    for level in ["error", "warn", "info", "debug", "trace"] {
        let start = format!("tracing::{level}!(");
        for (at, _) in text.match_indices(&start) {
            calls.push(arguments(&text[at + start.len()..]));
        }
    }
    calls
}

/// Up to the bracket that closes.
fn arguments(text: &str) -> Vec<String> {
    let (mut depth, mut quoted, mut escaped) = (0, false, false);
    let (mut all, mut current) = (Vec::new(), String::new());
    for c in text.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if quoted => {}
            '(' | '[' | '{' => depth += 1,
            ')' if depth == 0 => break,
            ')' | ']' | '}' => depth -= 1,
            ',' if depth == 0 => {
                all.push(std::mem::take(&mut current).trim().to_owned());
                continue;
            }
            _ => {}
        }
        current.push(c);
    }
    all.push(current.trim().to_owned());
    all.retain(|argument| !argument.is_empty());
    all
}

#[test]
fn every_message_in_the_source_is_constant_and_documented_and_every_field_is_of_the_vocabulary() {
    let (messages, fields) = (documented("Messages"), documented("Fields"));
    let mut all = Vec::new();
    sources(&file("src"), &mut all);
    let mut said = BTreeSet::new();
    for (path, text) in &all {
        for call in calls(text) {
            let (message, named) = call.split_last().unwrap();
            let constant = message.strip_prefix('"').and_then(|message| message.strip_suffix('"'));
            let constant = constant.unwrap_or_else(|| panic!("{path}: no constant message in {call:?}"));
            assert!(!constant.contains(['{', '\\', '\n']), "{path}: {constant:?} is put together");
            assert!(messages.contains(constant), "{path}: {constant:?} is not in docs/monitoring.md");
            said.insert(constant.to_owned());
            for field in named {
                let name = field.split('=').next().unwrap().trim().trim_start_matches(['%', '?']);
                let name = name.rsplit('.').next().unwrap();
                assert!(fields.contains(name), "{path}: the field {name} of {call:?} is not in docs/monitoring.md");
            }
        }
    }
    assert!(said.len() > 40, "only {} messages were found", said.len());
    let unsaid: Vec<_> = messages.difference(&said).collect();
    assert!(unsaid.is_empty(), "documented, and in no source: {unsaid:?}");
}

#[test]
fn the_arguments_of_a_call_are_taken_apart_at_its_own_commas() {
    let calls = calls("x; tracing::warn!(%error, name = f(a, \"b,)\"), \"said \\\"so\\\"\"); tracing::info!(\"y\");");
    assert_eq!(calls, [vec!["%error", "name = f(a, \"b,)\")", "\"said \\\"so\\\"\""], vec!["\"y\""]]);
}
