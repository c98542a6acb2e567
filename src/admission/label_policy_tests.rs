use serde_json::{Value, json};

use super::*;

const NAME: &str = "sekuire-policy-controller-labels";

fn policy(change: impl FnOnce(&mut Value)) -> ValidatingAdmissionPolicy {
    let spec: Value = serde_yaml::from_str(SPEC).unwrap();
    let mut object = json!({"metadata": {"name": NAME}, "spec": spec});
    change(&mut object);
    serde_json::from_value(object).unwrap()
}

fn binding(change: impl FnOnce(&mut Value)) -> ValidatingAdmissionPolicyBinding {
    let mut object = json!({"metadata": {"name": NAME}, "spec": {"policyName": NAME, "validationActions": ["Deny"]}});
    change(&mut object);
    serde_json::from_value(object).unwrap()
}

fn said(policy: Option<&ValidatingAdmissionPolicy>, binding: Option<&ValidatingAdmissionPolicyBinding>) -> String {
    let labels = LabelPolicy::default();
    labels.named(NAME);
    labels.saw_policy(policy);
    labels.saw_binding(binding);
    labels.in_force().expect_err("not in force")
}

fn changed(path: &str, value: Value) -> String {
    let policy = policy(|object| match path.rsplit_once('/') {
        Some((parent, member)) => {
            object.pointer_mut(parent).unwrap().as_object_mut().unwrap().insert(member.to_owned(), value);
        }
        None => unreachable!("{path}"),
    });
    said(Some(&policy), Some(&binding(|_| {})))
}

#[test]
fn the_charts_policy_with_any_groups_and_its_binding_are_in_force() {
    let labels = LabelPolicy::default();
    assert!(labels.in_force().unwrap_err().contains("--label-policy"));
    labels.named(NAME);
    assert!(
        labels
            .in_force()
            .unwrap_err()
            .contains("ValidatingAdmissionPolicy sekuire-policy-controller-labels has not been seen yet")
    );
    labels.heard(Part::Policy);
    assert!(labels.in_force().is_err(), "that a watch lives says nothing of what it watches");
    labels.saw_policy(Some(&policy(|_| {})));
    assert!(labels.in_force().unwrap_err().contains("ValidatingAdmissionPolicyBinding"));
    labels.saw_binding(Some(&binding(|_| {})));
    assert_eq!(labels.in_force(), Ok(()));
    for groups in [r#"["platform","system:serviceaccounts:argocd"]"#, r#"[ "a" ]"#, "[]"] {
        labels.saw_policy(Some(&policy(|object| object["spec"]["variables"][0]["expression"] = json!(groups))));
        assert_eq!(labels.in_force(), Ok(()), "{groups}");
    }
    labels.saw_policy(None);
    assert!(labels.in_force().unwrap_err().ends_with("does not exist"));
}

#[test]
fn groups_of_everybody_or_that_cannot_be_read_protect_nothing() {
    let groups = |text: &str| {
        let policy = policy(|object| object["spec"]["variables"][0]["expression"] = json!(text));
        said(Some(&policy), Some(&binding(|_| {})))
    };
    for everybody in EVERYBODY {
        assert!(groups(&format!(r#"["platform","{everybody}"]"#)).contains("lets everybody set them"));
    }
    for text in ["request.userInfo.groups", "", r#""system:masters""#, r#"["a"] + request.userInfo.groups"#, "[1]"] {
        assert!(groups(text).contains("does not list its groups"), "{text}");
    }
}

#[test]
fn rules_are_taken_as_the_chart_writes_them_unless_they_let_everybody_set_more_than_a_few_values() {
    let with = |text: &str| policy(|object| object["spec"]["variables"][1]["expression"] = json!(text));
    let rule = |groups: &str, workspace: &str, namespace: &str, modes: &str| {
        format!(
            r#"[{{"enforcement":[{modes}],"groups":["{groups}"],"namespaces":["{namespace}"],"workspaces":["{workspace}"]}}]"#
        )
    };
    let labels = LabelPolicy::default();
    labels.named(NAME);
    labels.saw_binding(Some(&binding(|_| {})));
    for rules in [
        "[]".to_owned(),
        rule("system:serviceaccounts:argocd", "*", "*", r#""warn","audit""#),
        rule("system:authenticated", "ws_a", "team-a-*", ""),
    ] {
        labels.saw_policy(Some(&with(&rules)));
        assert_eq!(labels.in_force(), Ok(()), "{rules}");
    }
    for everybody in EVERYBODY {
        for rules in [
            rule(everybody, "*", "team-a-*", ""),
            rule(everybody, "ws_a", "*", ""),
            rule(everybody, "ws_a", "team-a-*", r#""audit""#),
        ] {
            let said = said(Some(&with(&rules)), Some(&binding(|_| {})));
            assert!(said.contains("has a rule that lets everybody set them"), "{rules}: {said}");
        }
    }
    for rules in ["", "{}", "[[]]", r#"[{"groups":["a"]}]"#, r#"variables.groups.map(g, g)"#, "[1]", "null"] {
        let said = said(Some(&with(rules)), Some(&binding(|_| {})));
        assert!(said.contains("does not list its rules"), "{rules}: {said}");
    }
}

#[test]
fn a_policy_that_differs_in_anything_else_is_none() {
    assert!(changed("/spec/failurePolicy", json!("Ignore")).ends_with("failurePolicy differs"));
    let never = json!([{"name": "never", "expression": "false"}]);
    assert!(changed("/spec/matchConditions", never).ends_with("matchConditions differs"));
    let narrow = json!({"matchLabels": {"a": "b"}});
    assert!(changed("/spec/matchConstraints/namespaceSelector", narrow).ends_with("matchConstraints differs"));
    let exempt =
        json!([{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["namespaces"], "operations": ["UPDATE"]}]);
    assert!(changed("/spec/matchConstraints/excludeResourceRules", exempt).ends_with("matchConstraints differs"));
    assert!(changed("/spec/validations", json!([{"expression": "true"}])).ends_with("validations differs"));
    assert!(
        changed("/spec/paramKind", json!({"apiVersion": "v1", "kind": "ConfigMap"})).ends_with("paramKind differs")
    );
    let variables = policy(|object| object["spec"]["variables"][4]["expression"] = json!("[]"));
    assert!(said(Some(&variables), Some(&binding(|_| {}))).ends_with("variables differs"));
    assert!(changed("/metadata/deletionTimestamp", json!("2026-06-01T12:00:00Z")).ends_with("is being deleted"));
    let bare = policy(|object| drop(object.as_object_mut().unwrap().remove("spec")));
    assert!(said(Some(&bare), Some(&binding(|_| {}))).ends_with("has no spec"));
}

#[test]
fn a_binding_that_does_not_deny_everywhere_is_none() {
    let bound = |change: fn(&mut Value)| said(Some(&policy(|_| {})), Some(&binding(change)));
    assert!(said(Some(&policy(|_| {})), None).ends_with("Binding sekuire-policy-controller-labels does not exist"));
    assert!(bound(|object| object["spec"]["validationActions"] = json!(["Warn", "Audit"])).contains("does not deny"));
    assert!(bound(|object| object["spec"]["policyName"] = json!("other")).contains("binds the policy \"other\""));
    assert!(bound(|object| object["spec"]["matchResources"] = json!({})).contains("matchResources"));
    assert!(bound(|object| object["spec"]["paramRef"] = json!({"name": "a"})).contains("paramRef"));
    assert!(
        bound(|object| object["metadata"]["deletionTimestamp"] = json!("2026-06-01T12:00:00Z")).contains("deleted")
    );
    let labels = LabelPolicy::default();
    labels.named(NAME);
    labels.saw_policy(Some(&policy(|_| {})));
    labels.saw_binding(Some(&binding(|object| object["spec"]["validationActions"] = json!(["Deny", "Audit"]))));
    assert_eq!(labels.in_force(), Ok(()));
    labels.unreadable(Part::Binding, "no");
    assert!(labels.in_force().unwrap_err().contains("cannot be read"));
}
