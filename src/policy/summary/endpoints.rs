//! The table of endpoints: which provider answers where.

use serde_json::Value;

use super::changes::Recorder;
use super::{Statement, lookup, only, statement, texts};
use crate::policy::words::quoted;

const GROUP: &str = "Models";
const TABLE: &str = "agent.models.endpoints";

/// An entry in words.
fn entry(entry: &Value) -> String {
    let text = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default();
    let place = format!("{}{}", text("host"), text("path_prefix"));
    let models = entry.get("models").map(|list| format!(", {}", only("model", &texts(list)))).unwrap_or_default();
    format!("at {} the provider {}{models}", quoted(&place), quoted(text("provider")))
}

fn table(content: &Value) -> Option<Vec<String>> {
    Some(lookup(content, TABLE)?.as_array()?.iter().map(entry).collect())
}

pub(super) fn describe(content: &Value) -> Vec<Statement> {
    let Some(table) = table(content) else { return Vec::new() };
    let others = if table.is_empty() { "no model may have an endpoint" } else { "endpoints only of these places" };
    let texts = std::iter::once(others.to_owned()).chain(table);
    texts.map(|text| statement(GROUP, TABLE, text)).collect()
}

/// An entry gives an endpoint another provider, or a first one: that can forbid and allow. So each that comes or goes is
/// said on both sides.
pub(super) fn compare(old: &Value, new: &Value, into: &mut Recorder) {
    let both = |into: &mut Recorder, text: String| {
        into.forbidden(GROUP, TABLE, text.clone());
        into.allowed(GROUP, TABLE, text);
    };
    match (table(old), table(new)) {
        (None, None) => {}
        (None, Some(table)) => {
            into.forbidden(GROUP, TABLE, "endpoints of other places than the table names".to_owned());
            table.into_iter().for_each(|entry| both(into, format!("now {entry}, whatever the agent says")));
        }
        (Some(table), None) => {
            into.allowed(GROUP, TABLE, "any endpoint".to_owned());
            table.into_iter().for_each(|entry| both(into, format!("no longer {entry}, but what the agent says")));
        }
        (Some(was), Some(is)) => {
            for gone in was.iter().filter(|entry| !is.contains(entry)) {
                both(into, format!("no longer {gone}"));
            }
            for come in is.iter().filter(|entry| !was.contains(entry)) {
                both(into, format!("now {come}"));
            }
            let kept = |list: &[String], than: &[String]| -> Vec<String> {
                list.iter().filter(|entry| than.contains(entry)).cloned().collect()
            };
            if kept(&was, &is) != kept(&is, &was) {
                both(into, "another order of the places, of which the first of two alike counts".to_owned());
            }
        }
    }
}
