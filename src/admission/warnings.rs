//! The words of a denial that is none, as warnings: what kubectl prints beside what it did.
//!
//! An API server passes on 4096 characters of all warnings of a request, and cuts single ones to 256 where that is exceeded;
//! one with a control character it drops. So what is to be said is cut here, between words, and counted where it does not fit.

use super::denial;
use super::mode::Spared;
use crate::api::ENFORCEMENT_LABEL;
use crate::git::one_line;
use crate::policy::Decision;

/// Characters of one warning.
pub(super) const LONGEST: usize = 256;
/// Characters of all, so that others have room beside ours.
pub(super) const ALL: usize = 3500;
/// What a piece begins with that goes on from the one before.
const ON: &str = "… ";
/// Kept free for the sentence that says how many more there are.
const TAIL: usize = 80;

/// The warnings of an agent that is admitted although it breaks rules. None in the mode `audit`, which is for operators.
pub(super) fn of(namespace: &str, name: &str, decision: &Decision, spared: &Spared) -> Vec<String> {
    let why = match spared {
        Spared::Audit => return Vec::new(),
        Spared::Warn => format!("admitted, as the namespace is labelled {ENFORCEMENT_LABEL}: warn"),
        Spared::BreakGlass(open) => format!("admitted, as break glass is open {open}"),
    };
    let opening = denial::opening(namespace, name, decision, "would be refused");
    let mut warnings = pieces(&why);
    warnings.extend(pieces(&opening));
    let mut room = ALL.saturating_sub(TAIL + length(&warnings));
    let mut omitted = decision.omitted;
    for (told, violation) in decision.violations.iter().enumerate() {
        let line = pieces(denial::line(violation, namespace).trim_start_matches('\n'));
        let Some(left) = room.checked_sub(length(&line)) else {
            omitted += decision.violations.len() - told;
            break;
        };
        room = left;
        warnings.extend(line);
    }
    if omitted > 0 {
        warnings.push(format!("and {omitted} more"));
    }
    warnings
}

/// The warnings of a request that would have been refused without being judged.
pub(super) fn unjudged(why: &str, spared: &Spared) -> Vec<String> {
    let Spared::BreakGlass(open) = spared else { return Vec::new() };
    let mut warnings = pieces(&format!("admitted, as break glass is open {open}"));
    let text: String = why.chars().take(ALL / 2).collect();
    warnings.extend(pieces(&format!("would be refused: {text}")));
    warnings
}

fn length(warnings: &[String]) -> usize {
    warnings.iter().map(|warning| warning.chars().count()).sum()
}

/// A text as warnings of at most [`LONGEST`] characters, parted between words where there are any.
fn pieces(text: &str) -> Vec<String> {
    let text = one_line(text);
    let (mut pieces, mut rest) = (Vec::new(), text.trim());
    while !rest.is_empty() {
        let lead = if pieces.is_empty() { "" } else { ON };
        let room = LONGEST - lead.chars().count();
        let end = rest
            .char_indices()
            .nth(room)
            .map_or(rest.len(), |(end, _)| rest[..end].rfind(' ').filter(|space| *space > end / 2).unwrap_or(end));
        let (piece, more) = rest.split_at(end);
        pieces.push(format!("{lead}{}", piece.trim_end()));
        rest = more.trim_start();
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Violation;

    fn decision(message: &str, times: usize) -> Decision {
        let violation = |number: usize| Violation {
            rule: "tool.blocked",
            field: format!("spec.tools[{number}].name"),
            value: "shell".to_owned(),
            policy_path: String::new(),
            message: message.to_owned(),
        };
        Decision { violations: (0..times).map(violation).collect(), ..Decision::default() }
    }

    #[test]
    fn the_words_are_those_of_the_denial_one_warning_a_violation() {
        let decision = decision("\"shell\" is blocked", 2);
        let denial = denial::describe("team-a", "scout", &decision, None);
        let warnings = of("team-a", "scout", &decision, &Spared::Warn);
        assert_eq!(
            warnings,
            [
                "admitted, as the namespace is labelled sekuire.ai/enforcement: warn",
                "Agent team-a/scout would be refused:",
                "- spec.tools[0].name: \"shell\" is blocked [tool.blocked]",
                "- spec.tools[1].name: \"shell\" is blocked [tool.blocked]",
            ]
        );
        assert!(warnings[2..].iter().all(|warning| denial.message.contains(warning)));
    }

    #[test]
    fn in_the_mode_audit_the_user_hears_nothing() {
        assert!(of("team-a", "scout", &decision("no", 1), &Spared::Audit).is_empty());
    }

    #[test]
    fn a_long_one_is_parted_between_words_and_nothing_of_it_is_lost() {
        let message = "weather ".repeat(70);
        let warnings = of("team-a", "scout", &decision(message.trim(), 1), &Spared::Warn);
        let parts: Vec<&str> = warnings[2..].iter().map(|part| part.trim_start_matches(ON)).collect();
        assert!(parts.len() == 3 && warnings.iter().all(|warning| warning.chars().count() <= LONGEST), "{warnings:?}");
        assert!(parts.join(" ").contains(message.trim()));
    }

    #[test]
    fn all_of_them_fit_into_what_an_api_server_passes_on_and_the_rest_is_counted() {
        for (message, times) in
            [("é\n\u{1b}[31m".repeat(300), 100), ("x".repeat(1 << 20), 3), ("short".to_owned(), 500)]
        {
            let warnings = of("team-a", "scout", &decision(&message, times), &Spared::Warn);
            assert!(length(&warnings) <= ALL, "{}", length(&warnings));
            assert!(warnings.iter().all(|warning| warning.chars().count() <= LONGEST));
            assert!(warnings.iter().all(|warning| !warning.chars().any(char::is_control)), "{warnings:?}");
            let last = warnings.last().unwrap();
            assert!(last.starts_with("and ") && last.ends_with(" more"), "{last}");
        }
    }
}
