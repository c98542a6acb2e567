//! The alerts, by promtool, and that each says what to do.

use std::collections::BTreeSet;

use serde_json::Value;

use super::support::{alerts, file, has_prometheus, metric_names, read, rules};
use crate::cluster::command::run;
use crate::cluster::skip::skip;

/// Files of cases for promtool.
const CASES: [&str; 3] = ["alerts-cases.yaml", "alerts-cases-days.yaml", "alerts-cases-quiet.yaml"];

#[tokio::test]
async fn promtool_accepts_the_alerts_and_they_fire_when_they_should() {
    if !has_prometheus() {
        skip!("no promtool: apt-get install prometheus");
    }
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("alerts.yaml");
    std::fs::write(&rules, alerts()).unwrap();
    let promtool = |arguments: [&str; 2], path: &std::path::Path| {
        let mut command = tokio::process::Command::new("promtool");
        command.args(arguments).arg(path);
        command
    };
    run(promtool(["check", "rules"], &rules), b"").await.ok();
    for name in CASES {
        let cases = folder.path().join(name);
        std::fs::copy(file(&format!("tests/observe/{name}")), &cases).unwrap();
        run(promtool(["test", "rules"], &cases), b"").await.ok();
    }
}

/// What one look of a case at alerts expects.
struct Look {
    /// Alerts by their whole names; several where the case looks at them together.
    names: BTreeSet<String>,
    fires: bool,
}

/// Every look at alerts of all cases.
fn looks() -> Vec<Look> {
    let mut looks = Vec::new();
    for file in CASES {
        let cases: Value = serde_yaml::from_str(&read(&format!("tests/observe/{file}"))).unwrap();
        for case in cases["tests"].as_array().unwrap() {
            for test in case["alert_rule_test"].as_array().into_iter().flatten() {
                let names = BTreeSet::from([test["alertname"].as_str().unwrap().to_owned()]);
                looks.push(Look { names, fires: !test["exp_alerts"].as_array().unwrap().is_empty() });
            }
            for test in case["promql_expr_test"].as_array().into_iter().flatten() {
                let expression = test["expr"].as_str().unwrap();
                let (_, rest) = expression.split_once("alertname=").unwrap();
                let names = rest.trim_start_matches('~').split('"').nth(1).unwrap();
                let fires = test["exp_samples"].as_array().unwrap().iter().any(|sample| sample["value"] != 0);
                looks.push(Look { names: names.split('|').map(str::to_owned).collect(), fires });
            }
        }
    }
    looks
}

#[test]
fn every_alert_is_seen_to_fire_in_a_case_and_to_be_quiet_in_another() {
    let (looks, rules) = (looks(), rules());
    let all: BTreeSet<&str> = rules.iter().map(|rule| rule["alert"].as_str().unwrap()).collect();
    for name in &all {
        // where several are looked at together, it is not known which of them fired
        let fires = looks.iter().any(|look| look.fires && look.names.len() == 1 && look.names.contains(*name));
        let quiet = looks.iter().any(|look| !look.fires && look.names.contains(*name));
        assert!(fires && quiet, "{name}: fires {fires}, quiet {quiet}");
    }
    let named: BTreeSet<&str> = looks.iter().flat_map(|look| &look.names).map(String::as_str).collect();
    assert_eq!(named, all, "no case looks for an alert that there is not");
}

#[test]
fn every_alert_has_a_severity_a_summary_a_description_and_a_runbook() {
    let runbooks = read("docs/runbooks.md");
    let headings: Vec<&str> = runbooks.lines().filter_map(|line| line.strip_prefix("## Sekuire")).collect();
    let rules = rules();
    for rule in &rules {
        let name = rule["alert"].as_str().unwrap();
        let severity = rule["labels"]["severity"].as_str().unwrap_or_default();
        assert!(["critical", "warning", "info"].contains(&severity), "{name}: {severity:?}");
        for annotation in ["summary", "description"] {
            assert!(
                rule["annotations"][annotation].as_str().is_some_and(|text| !text.is_empty()),
                "{name}: {annotation}"
            );
        }
        let expected = format!("https://example.com/runbooks.md#{}", name.to_lowercase());
        assert_eq!(rule["annotations"]["runbook_url"], expected, "{name}");
        assert!(headings.contains(&name.strip_prefix("Sekuire").unwrap()), "docs/runbooks.md has no section {name}");
    }
    assert_eq!(headings.len(), rules.len(), "a runbook without an alert");
}

#[test]
fn alerts_and_dashboard_name_documented_metrics_alone() {
    let documented = read("docs/monitoring.md");
    let dashboard = read("charts/sekuire-policy-controller/files/dashboard.json");
    let mut names = metric_names(&dashboard);
    rules().iter().for_each(|rule| names.extend(metric_names(rule["expr"].as_str().unwrap())));
    names.sort();
    names.dedup();
    assert!(names.len() > 30, "{names:?}");
    for name in names {
        let base = name.strip_suffix("_bucket").unwrap_or(&name);
        assert!(documented.contains(&format!("`{base}`")), "{name} is not in docs/monitoring.md");
    }
}
