//! The words of a denial: what kubectl prints, and the same as causes for programs.

use std::fmt::Write as _;

use serde::Serialize;

use crate::policy::{Decision, Violation};

/// So many violations are listed at most, and so many bytes of them: a message that nobody reads to its end helps nobody,
/// and API servers, audit logs and terminals bound theirs anyway.
pub(super) const MAX_CAUSES: usize = 64;
/// See [`MAX_CAUSES`].
pub(super) const MAX_MESSAGE_BYTES: usize = 16 * 1024;
/// Kept free for the sentence that says how many more there are, and for the note.
const TAIL: usize = 512;

/// One entry of `status.details.causes`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Cause<'a> {
    /// The agent's field.
    pub(crate) field: &'a str,
    /// The rule's id.
    pub(crate) reason: &'a str,
    /// What is wrong, and what is accepted.
    pub(crate) message: &'a str,
}

/// A denial in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Denial<'a> {
    /// Policy, version, commit and key, then the violations.
    pub(crate) message: String,
    /// The violations that the message lists.
    pub(crate) causes: Vec<Cause<'a>>,
}

/// Puts a decision that refuses into words.
#[must_use]
pub(crate) fn describe<'a>(namespace: &str, name: &str, decision: &'a Decision, note: Option<&str>) -> Denial<'a> {
    let mut message = opening(namespace, name, decision, "is refused");
    let mut causes = Vec::with_capacity(decision.violations.len().min(MAX_CAUSES));
    for violation in decision.violations.iter().take(MAX_CAUSES) {
        let line = line(violation, namespace);
        if message.len() + line.len() > MAX_MESSAGE_BYTES - TAIL {
            break;
        }
        message.push_str(&line);
        causes.push(Cause { field: &violation.field, reason: violation.rule, message: &violation.message });
    }
    let more = decision.count() - causes.len();
    if more > 0 {
        message.push_str("\nand ");
        push(&mut message, format_args!("{more}"));
        message.push_str(" more");
    }
    if let Some(note) = note {
        message.push('\n');
        message.push_str(cut(note, TAIL / 2));
    }
    Denial { message, causes }
}

/// Whose agent it is, and by which policy it `is refused`, or would be.
pub(super) fn opening(namespace: &str, name: &str, decision: &Decision, verb: &str) -> String {
    let violations = decision.count();
    let mut text = format!("Agent {}/{} {verb}", cut(namespace, 256), cut(name, 256));
    let Some(policy) = &decision.policy else {
        text.push(':');
        return text;
    };
    let times = if violations == 1 { "violation" } else { "violations" };
    let (id, version) = (cut(&policy.policy_id, 256), cut(&policy.version, 64));
    push(&mut text, format_args!(" for {violations} {times} of policy {id} version {version} ("));
    push(&mut text, format_args!("workspace {}", cut(&policy.workspace_id, 256)));
    if let Some(commit) = &policy.commit {
        push(&mut text, format_args!(", commit {}", cut(commit, 80)));
    }
    push(&mut text, format_args!(", signed with {}):", cut(&policy.signing_key_id, 256)));
    text
}

/// One violation, in a line of its own.
pub(super) fn line(violation: &Violation, namespace: &str) -> String {
    let Violation { rule, field, value, message, .. } = violation;
    // The value is told once: the opening names the namespace, and most sentences quote what they speak of.
    if value.is_empty() || value == namespace || message.contains(value.as_str()) {
        format!("\n- {field}: {message} [{rule}]")
    } else {
        format!("\n- {field} is {value:?}: {message} [{rule}]")
    }
}

/// The start of a text, at most `bytes` long, never half a character.
fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

fn push(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    #[expect(clippy::expect_used, reason = "writing to a String cannot fail")]
    text.write_fmt(arguments).expect("a String takes all");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::PolicyRef;

    fn violation(message: &str) -> Violation {
        Violation {
            rule: "model.blocked",
            field: "spec.model.name".to_owned(),
            value: "gpt-3.5".to_owned(),
            policy_path: String::new(),
            message: message.to_owned(),
        }
    }

    fn decision(violations: Vec<Violation>) -> Decision {
        let policy = PolicyRef {
            policy_id: "policy_a".to_owned(),
            workspace_id: "ws_a".to_owned(),
            version: "1.2.0".to_owned(),
            hash: "00".to_owned(),
            signing_key_id: "key_a".to_owned(),
            commit: Some("c".repeat(40)),
        };
        Decision { policy: Some(policy), violations, ..Decision::default() }
    }

    #[test]
    fn a_denial_names_policy_version_commit_and_key_before_field_value_and_rule() {
        let decision = decision(vec![violation("this model is blocked; any other is accepted")]);
        let denial = describe("team-a", "scout", &decision, None);
        assert_eq!(
            denial.message,
            format!(
                "Agent team-a/scout is refused for 1 violation of policy policy_a version 1.2.0 (workspace ws_a, commit {}, \
                 signed with key_a):\n- spec.model.name is \"gpt-3.5\": this model is blocked; any other is accepted \
                 [model.blocked]",
                "c".repeat(40)
            )
        );
        assert_eq!(denial.causes.len(), 1);
        assert_eq!((denial.causes[0].field, denial.causes[0].reason), ("spec.model.name", "model.blocked"));
    }

    #[test]
    fn a_value_that_the_sentence_quotes_already_is_not_quoted_twice() {
        let decision = decision(vec![violation("\"gpt-3.5\" is blocked")]);
        let denial = describe("team-a", "scout", &decision, None);
        assert!(denial.message.ends_with("\n- spec.model.name: \"gpt-3.5\" is blocked [model.blocked]"));
    }

    #[test]
    fn at_most_64_violations_are_listed_and_the_rest_is_counted() {
        let decision = decision(vec![violation("blocked"); 100]);
        let denial = describe("team-a", "scout", &decision, Some("a note"));
        assert_eq!(denial.causes.len(), MAX_CAUSES);
        assert!(denial.message.ends_with("\nand 36 more\na note"), "{}", denial.message);
    }

    #[test]
    fn a_message_stays_within_16_kib_and_counts_what_it_left_out() {
        let decision = decision(vec![violation(&"é".repeat(600)); 30]);
        let denial = describe("team-a", "scout", &decision, Some(&"ü".repeat(1000)));
        assert!(denial.message.len() <= MAX_MESSAGE_BYTES);
        assert!(denial.message.contains(&format!("\nand {} more", 30 - denial.causes.len())));
        assert!(denial.causes.len() > 10);
    }

    #[test]
    fn a_single_endless_violation_is_counted_rather_than_printed() {
        let decision = decision(vec![violation(&"x".repeat(1 << 20))]);
        let denial = describe("team-a", "scout", &decision, None);
        assert!(denial.message.ends_with(":\nand 1 more"), "{}", denial.message);
    }
}
