use super::*;
use crate::policy::Violation;

fn decision(rules: &[&'static str]) -> Decision {
    let violation = |rule: &&'static str| Violation {
        rule,
        field: "spec".to_owned(),
        value: String::new(),
        policy_path: String::new(),
        message: "no".to_owned(),
    };
    let violations: Vec<_> = rules.iter().map(violation).collect();
    Decision { allowed: violations.is_empty(), violations, ..Decision::default() }
}

fn open() -> Option<Open> {
    Some(Open { until: jiff::Timestamp::MAX, reason: "INC-1".into() })
}

fn of(rules: &[&'static str], label: Option<&str>) -> Verdict {
    Verdict::of(&decision(rules), &Label::read(label), || Ok(()), || None)
}

#[test]
fn what_complies_is_admitted_and_nothing_else_is_asked() {
    for label in [None, Some("enforce"), Some("warn"), Some("audit"), Some("")] {
        let label = Label::read(label);
        let verdict = Verdict::of(&decision(&[]), &label, || panic!("asked"), || panic!("asked"));
        assert_eq!(verdict, Verdict::Admitted);
    }
}

#[test]
fn absent_and_enforce_refuse_without_a_word_on_labels() {
    assert_eq!(of(&["tool.blocked"], None), Verdict::Refused(vec![]));
    assert_eq!(of(&["tool.blocked"], Some("enforce")), Verdict::Refused(vec![]));
}

#[test]
fn warn_and_audit_spare_where_labels_are_protected() {
    assert_eq!(of(&["tool.blocked", "model.blocked"], Some("warn")), Verdict::Spared(Spared::Warn));
    assert_eq!(of(&["tool.blocked"], Some("audit")), Verdict::Spared(Spared::Audit));
}

#[test]
fn an_unknown_value_enforces_and_says_which_are_known() {
    for value in ["", "Warn", "warn ", "off", "dryrun"] {
        let Verdict::Refused(notes) = of(&["tool.blocked"], Some(value)) else { panic!("{value}") };
        assert_eq!(
            notes,
            [format!(
                "The namespace's label sekuire.ai/enforcement is {value:?}, which is none of enforce, warn, audit: rules are \
                 enforced."
            )]
        );
    }
}

#[test]
fn a_label_that_is_not_protected_is_not_obeyed_and_the_denial_says_why() {
    for value in ["warn", "audit"] {
        let label = Label::read(Some(value));
        let verdict = Verdict::of(&decision(&["tool.blocked"]), &label, || Err("it is gone".to_owned()), || None);
        let expected = format!(
            "The namespace is labelled sekuire.ai/enforcement: {value}, but such labels are not obeyed: it is gone."
        );
        assert_eq!(verdict, Verdict::Refused(vec![expected]));
    }
}

#[test]
fn no_mode_spares_an_agent_of_no_workspace_or_without_a_policy_in_force() {
    for rule in ["workspace.unbound", "workspace.mismatch", "policy.missing", "policy.expired"] {
        for value in ["warn", "audit"] {
            for rules in [vec![rule], vec!["tool.blocked", rule]] {
                let Verdict::Refused(notes) = of(&rules, Some(value)) else { panic!("{rules:?} {value}") };
                assert!(notes[0].contains("workspace.* and policy.* are enforced all the same"), "{notes:?}");
            }
        }
    }
}

#[test]
fn break_glass_spares_everything_whatever_the_label() {
    for label in [None, Some("enforce"), Some("warn"), Some("nonsense")] {
        for rule in ["tool.blocked", "workspace.unbound", "policy.expired"] {
            let label = Label::read(label);
            let verdict = Verdict::of(&decision(&[rule]), &label, || Err("unprotected".to_owned()), open);
            assert_eq!(verdict, Verdict::Spared(Spared::BreakGlass(open().unwrap())));
        }
    }
}
