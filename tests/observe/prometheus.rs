//! A real Prometheus that scrapes a real controller.

use std::collections::BTreeSet;
use std::path::Path;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::support::{World, alerts, eventually, get, has_prometheus, metric_names, read, rules};
use crate::cluster::ControllerOptions;
use crate::cluster::guard::Process;
use crate::cluster::ports::Port;
use crate::cluster::skip::skip;

/// Panels that have something to show after a little traffic.
const SHOW_SOMETHING: [&str; 16] = [
    "Replicas ready",
    "Leaders",
    "Workspaces with a policy in force",
    "Workspaces without",
    "Break glass",
    "Certificate ends in",
    "Requests by decision",
    "Latency",
    "Broken rules",
    "Policies",
    "Days until policies expire",
    "Days until signing keys end",
    "Since the last success",
    "Looks by result",
    "Duration of looks, p90",
    "Documents",
];
/// Metrics that are there only while something is so.
const SOMETIMES: [&str; 1] = ["sekuire_break_glass_end_timestamp_seconds"];

struct Prometheus {
    address: String,
    _process: Process,
    _port: Port,
}

impl Prometheus {
    fn start(folder: &Path, target: &str) -> Prometheus {
        let port = Port::reserve();
        let address = format!("127.0.0.1:{}", port.number());
        std::fs::write(folder.join("alerts.yaml"), alerts()).unwrap();
        let config = serde_json::json!({
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": ["alerts.yaml"],
            "scrape_configs": [{"job_name": "sekuire", "static_configs": [{"targets": [target]}]}],
        });
        let path = folder.join("prometheus.yaml");
        std::fs::write(&path, config.to_string()).unwrap();
        let args = [
            format!("--config.file={}", path.display()),
            format!("--storage.tsdb.path={}", folder.join("data").display()),
            format!("--web.listen-address={address}"),
        ];
        let process = Process::start(Path::new("prometheus"), args, &[], &folder.join("prometheus.log"));
        Prometheus { address, _process: process, _port: port }
    }

    async fn ask(&self, path: &str) -> Result<Value, String> {
        let text = get(&self.address, path).await.map_err(|error| error.to_string())?;
        serde_json::from_str(&text).map_err(|error| error.to_string())
    }

    /// The series of an expression now.
    async fn query(&self, expression: &str) -> Result<Vec<Value>, String> {
        let path = format!("/api/v1/query?query={}", utf8_percent_encode(expression, NON_ALPHANUMERIC));
        let answer = self.ask(&path).await.map_err(|error| format!("{expression}: {error}"))?;
        if answer["status"] != "success" {
            return Err(format!("{expression}: {answer}"));
        }
        Ok(answer["data"]["result"].as_array().cloned().unwrap_or_default())
    }
}

/// The panels of the dashboard, with their expressions as Grafana would send them.
fn panels() -> Vec<(String, Vec<String>)> {
    let dashboard: Value =
        serde_json::from_str(&read("charts/sekuire-policy-controller/files/dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row");
    panels
        .map(|panel| {
            let targets = panel["targets"].as_array().unwrap().iter();
            let expressions = targets.map(|target| {
                let expression = target["expr"].as_str().unwrap();
                let filled = [("$__rate_interval", "30s"), ("$workspace", ".*"), ("$repository", ".*")]
                    .iter()
                    .fold(expression.to_owned(), |text, (variable, value)| text.replace(variable, value));
                assert!(!filled.contains('$'), "a variable that nobody fills in: {filled}");
                filled
            });
            (panel["title"].as_str().unwrap().to_owned(), expressions.collect())
        })
        .collect()
}

#[tokio::test]
async fn every_alert_and_every_panel_works_on_the_metrics_of_a_running_controller() {
    if !has_prometheus() {
        skip!("no prometheus: apt-get install prometheus");
    }
    let world = World::new("watched").await;
    let controller = world.controller(ControllerOptions::new("a").flags(["--label-policy=labels"])).await;
    let folder = tempfile::tempdir().unwrap();
    let prometheus = Prometheus::start(folder.path(), &controller.metrics_address());
    let panels = panels();
    let mut expressions: Vec<String> = panels.iter().flat_map(|(_, expressions)| expressions.clone()).collect();
    expressions.extend(rules().iter().map(|rule| rule["expr"].as_str().unwrap().to_owned()));
    assert!(expressions.len() > 60, "{}", expressions.len());
    // the first scrape may come before the end of the first look
    eventually("all that they ask for is scraped", async || {
        let answer = prometheus.ask("/api/v1/label/__name__/values").await?;
        let names = serde_json::from_value::<BTreeSet<String>>(answer["data"].clone()).unwrap_or_default();
        let asked = expressions.iter().flat_map(|expression| metric_names(expression));
        let mut unknown = asked.filter(|name| !names.contains(name) && !SOMETIMES.contains(&name.as_str()));
        unknown.next().map_or(Ok(()), |name| Err(format!("{name} is no metric")))
    })
    .await;
    for expression in &expressions {
        prometheus.query(expression).await.unwrap();
    }
    for title in SHOW_SOMETHING {
        let (_, expressions) =
            panels.iter().find(|(name, _)| name == title).unwrap_or_else(|| panic!("no panel {title}"));
        for expression in expressions {
            eventually(&format!("{title} shows something"), async || {
                world.ask("good", "calculator").await.unwrap();
                world.ask("bad", "shell").await.unwrap_err();
                let found = prometheus.query(expression).await?;
                let numbers =
                    found.iter().any(|series| series["value"][1].as_str().is_some_and(|value| value != "NaN"));
                if numbers { Ok(()) } else { Err(expression.clone()) }
            })
            .await;
        }
    }
    // 20 days are left of the key, and 10 of the policy; nothing else is wrong
    eventually("the alerts that fire are these", async || {
        let answer = prometheus.ask("/api/v1/alerts").await?;
        let alerts = answer["data"]["alerts"].as_array().unwrap().iter().filter(|alert| alert["state"] == "firing");
        let firing: BTreeSet<&str> = alerts.map(|alert| alert["labels"]["alertname"].as_str().unwrap()).collect();
        let expected = BTreeSet::from(["SekuirePolicyExpiresSoon", "SekuireSigningKeyEndsSoon"]);
        if firing == expected { Ok(()) } else { Err(answer.to_string()) }
    })
    .await;
}

#[test]
fn the_dashboard_has_a_data_source_to_choose_and_panels_that_do_not_overlap() {
    let dashboard: Value =
        serde_json::from_str(&read("charts/sekuire-policy-controller/files/dashboard.json")).unwrap();
    assert!(dashboard["schemaVersion"].as_u64().unwrap() >= 38, "Grafana 10 or newer");
    assert!(dashboard["uid"].is_string() && dashboard["title"].is_string());
    assert_eq!(dashboard["templating"]["list"][0]["type"], "datasource");
    let (mut ids, mut cells) = (BTreeSet::new(), BTreeSet::new());
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "two panels have one id");
        let at = |member: &str| panel["gridPos"][member].as_u64().unwrap();
        assert!(at("x") + at("w") <= 24, "{}", panel["title"]);
        for (x, y) in (at("x")..at("x") + at("w")).flat_map(|x| (at("y")..at("y") + at("h")).map(move |y| (x, y))) {
            assert!(cells.insert((x, y)), "{} lies over another panel", panel["title"]);
        }
        if panel["type"] == "row" {
            continue;
        }
        assert!(!panel["description"].as_str().unwrap().is_empty());
        assert_eq!(panel["datasource"]["uid"], "${datasource}");
        let targets = panel["targets"].as_array().unwrap();
        assert!(targets.iter().all(|target| target["datasource"]["uid"] == "${datasource}"), "{}", panel["title"]);
    }
}
