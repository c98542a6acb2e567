//! The alerts, by promtool, and that each says what to do.

use super::support::{alerts, file, has_prometheus, metric_names, read, rules};
use crate::cluster::command::run;
use crate::cluster::skip::skip;

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
    for name in ["alerts-cases.yaml", "alerts-cases-days.yaml"] {
        let cases = folder.path().join(name);
        std::fs::copy(file(&format!("tests/observe/{name}")), &cases).unwrap();
        run(promtool(["test", "rules"], &cases), b"").await.ok();
    }
}

#[test]
fn every_alert_is_seen_to_fire_in_a_case() {
    let cases = read("tests/observe/alerts-cases.yaml") + &read("tests/observe/alerts-cases-days.yaml");
    for rule in rules() {
        let name = rule["alert"].as_str().unwrap();
        assert!(cases.contains(name), "no case of {name}");
    }
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
