//! Changing members of a JSON document in its text, so that its form stays as it was: what is reviewed is then what was
//! changed.
//!
//! By hand, because no library writes JSON back in the form in which it was read. What it makes is parsed again and
//! compared with what was meant; where that fails there is no result.

use std::ops::Range;

use serde_json::Value;

use crate::policy::Format;
use crate::policy::document::{json_members, parse_unsigned};

/// The text with the members of its root changed to those of `wanted`. None when that cannot be done.
pub(super) fn updated(text: &str, wanted: &Value) -> Option<String> {
    let before = parse_unsigned(text.as_bytes(), Format::Json).ok()?;
    let members = json_members(text)?;
    let wanted_members = wanted.as_object()?;
    let mut changed = String::with_capacity(text.len());
    let mut done = 0;
    for (name, place) in &members {
        match wanted_members.get(name) {
            Some(value) => {
                changed.push_str(&text[done..place.start]);
                let same = before.get(name) == Some(value);
                changed.push_str(&if same { text[place.clone()].to_owned() } else { value.to_string() });
            }
            None if done == 0 => return None,
            // it goes with the comma before it, which is not there yet
            None => {}
        }
        done = place.end;
    }
    let added = wanted_members.iter().filter(|(name, _)| before.get(name.as_str()).is_none());
    let between = between(text, &members)?;
    for (name, value) in added {
        changed += &format!(",{between}{}: {value}", Value::from(name.as_str()));
    }
    changed.push_str(&text[done..]);
    let same = parse_unsigned(changed.as_bytes(), Format::Json).is_ok_and(|value| value == *wanted);
    same.then_some(changed)
}

/// What stands between the comma behind a member and the next one: a line break and the indent, as a rule.
fn between(text: &str, members: &[(String, Range<usize>)]) -> Option<String> {
    let (_, last) = members.last()?;
    let start = if members.len() > 1 { members[members.len() - 2].1.end } else { text.find('{')? };
    let key = start + text[start..last.start].find('"')?;
    Some(text[start..key].trim_start_matches(|c| c != '\n' && c != ' ').to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_changed_stays_as_it_was_written() {
        let text = "{ \"policy_id\": \"p\",\n  \"version\" :\"1\", \"workspace_id\": \"w\",\n  \"co_signatures\": [],\n\t\"status\": \"active\",\n  \"content\": {\"tools\": {\"blocked_tools\": [\"a\",\n \"\\u00df\"]}}\n}\n";
        let mut wanted: Value = serde_json::from_str(text).unwrap();
        wanted["version"] = "2".into();
        wanted["hash"] = "x".into();
        wanted.as_object_mut().unwrap().shift_remove("co_signatures");
        let expected = text
            .replace("\"1\"", "\"2\"")
            .replace(",\n  \"co_signatures\": []", "")
            .replace("]}}\n}", "]}},\n  \"hash\": \"x\"\n}");
        assert_eq!(updated(text, &wanted).unwrap(), expected);
        let one = json!({"policy_id": "p"});
        assert_eq!(updated("{}", &one), None, "a form that cannot be followed");
    }
}
