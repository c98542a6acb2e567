//! More to verify than one look takes, and values that are read by no other rule than JSON's.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cluster::{Cluster, Controller, GitRepo};
use crate::resilience::support::{DENIED, Site, agent, dry_run, until};

/// So many documents of nearly the largest size are more than one look takes, and less than two.
const DOCUMENTS: usize = 700;

/// A genuine document, with as many co-signatures by nobody as there is room for.
fn costly(genuine: &Value, number: usize) -> String {
    let signature = "0".repeat(128);
    let junk: Vec<Value> = (0..1_350)
        .map(|n| json!({"signing_key_id": format!("key_{number}_{n}"), "document_signature": signature}))
        .collect();
    let mut document = genuine.clone();
    document["co_signatures"] = junk.into();
    let text = document.to_string();
    assert!((240 << 10..256 << 10).contains(&text.len()), "{}", text.len());
    text
}

/// A cluster with two repositories, each with a workspace of its own, both enforced at version 1.
struct Attacked {
    site: Site,
    other: GitRepo,
    namespace: String,
    controller: Controller,
}

impl Attacked {
    async fn new() -> Attacked {
        let (site, other) = (Site::new(Cluster::options()).await, GitRepo::new().await);
        for (name, url, workspace) in [("policies", site.repo.url(), "ws_a"), ("other", other.url(), "ws_b")] {
            let repository = json!({
                "apiVersion": "sekuire.ai/v1alpha1", "kind": "PolicyRepository", "metadata": {"name": name},
                "spec": {"url": url, "interval": "1s", "workspaces": [workspace]},
            });
            site.cluster.apply(&repository.to_string()).await.ok();
        }
        site.commit([&site.document("ws_a", "1", &[DENIED])]).await;
        let namespace = site.namespace("ws_b").await;
        let controller = Controller::start(&site.cluster).await;
        let attacked = Attacked { site, other, namespace, controller };
        attacked.publish("1").await;
        attacked.site.enforced("ws-a", "1").await;
        until("it admits", async || attacked.attempt().await).await;
        attacked
    }

    /// The other repository's next version; in force when this returns.
    async fn publish(&self, version: &str) {
        let document = self.site.document("ws_b", version, &[DENIED]);
        self.other.commit_files("publish", [("policies/b.json", document.to_string())]).await;
        self.site.enforced("ws-b", version).await;
    }

    async fn attempt(&self) -> Result<(), kube::Error> {
        let good = agent(&self.namespace, "good", &["search"]);
        self.site.agents(&self.namespace).create(&dry_run(), &good).await.map(drop)
    }

    /// The attack, and in the same commit what somebody meant.
    async fn attack(&self) {
        // nobody is to spend the time of this test on small packs
        for (name, value) in [("pack.window", "0"), ("core.compression", "1"), ("core.looseCompression", "1")] {
            self.site.repo.git(["config", name, value]).await;
        }
        let first = self.site.document("ws_a", "1", &[DENIED]);
        for number in 0..DOCUMENTS {
            self.site.repo.write(&format!("policies/a/{number:04}.json"), costly(&first, number));
        }
        self.site.commit([&self.site.document("ws_a", "2", &[DENIED])]).await;
    }

    async fn told(&self) {
        until("the repository says that it is too much", async || {
            let events = self.site.events("policies", "LimitExceeded").await;
            if events > 0 { Ok(()) } else { Err(self.controller.log()) }
        })
        .await;
    }

    async fn others_go_on(&self) {
        let mut slowest = Duration::ZERO;
        for version in 2..5 {
            let begun = Instant::now();
            self.publish(&version.to_string()).await;
            slowest = slowest.max(begun.elapsed());
        }
        println!("other repository: the slowest of three versions took {slowest:?}");
        assert!(slowest < Duration::from_secs(20), "{slowest:?}");
    }

    async fn admission_goes_on(&self) {
        let (start, mut slowest) = (Instant::now(), Duration::ZERO);
        while start.elapsed() < Duration::from_secs(20) {
            let begun = Instant::now();
            self.attempt().await.expect("admitted all the time");
            slowest = slowest.max(begun.elapsed());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        println!("admission: the slowest answer took {slowest:?}");
        assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    }

    /// The next looks go on, until all is told of.
    async fn all_are_judged(&self) {
        until("all were judged", async || {
            let status = self.site.cluster.kubectl(["get", "prepo", "policies", "-o", "jsonpath={.status}"]).await.ok();
            let status: Value = serde_json::from_str(&status).unwrap();
            let ready = |it: &Value| it["type"] == "Ready" && it["status"] == "True";
            let ready = status["conditions"].as_array().unwrap().iter().any(ready);
            let all = status["documents"]["total"] == DOCUMENTS + 1;
            if ready && all { Ok(()) } else { Err(status.to_string()) }
        })
        .await;
    }
}

#[tokio::test]
async fn thousands_of_costly_documents_keep_neither_their_own_repository_nor_others_nor_admission_from_their_work() {
    let attacked = Attacked::new().await;
    attacked.attack().await;
    let start = Instant::now();
    let genuine = attacked.site.enforced_marked("ws-a", "2");
    tokio::join!(attacked.told(), genuine, attacked.others_go_on(), attacked.admission_goes_on());
    println!("told, and the genuine version in force, after {:?}", start.elapsed());
    attacked.all_are_judged().await;
    println!("all were judged after {:?}", start.elapsed());
    assert!(!attacked.controller.log().contains("panicked"));
}

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

/// serde_json's own `Value` parses texts in objects of a certain member, and Cargo unites features: that cannot be turned off.
#[test]
fn no_value_of_no_type_is_read_by_any_other_visitor_than_the_plain_one() {
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    assert!(files.len() > 150, "{}", files.len());
    let mut found = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        if file.file_name().unwrap().to_string_lossy().ends_with("_tests.rs") {
            continue;
        }
        let dense: String = code.chars().filter(|c| !c.is_whitespace()).collect();
        let dense = dense.replace("serde_yaml::Value", "Yaml").replace("serde_json::Value", "Value");
        let names = ["from_str", "from_slice", "from_reader", "from_value", "from_iter"];
        for name in names {
            for forbidden in
                [format!("{name}::<Value>"), format!("{name}::<Map<String,Value>>"), format!("{name}::<Vec<Value>>")]
            {
                if dense.contains(&forbidden) {
                    found.push(format!("{}: {forbidden}", file.display()));
                }
            }
            for typed in [":Value", ":Map<String,Value>", ":Vec<Value>"] {
                for by in ["serde_json", "serde_yaml"] {
                    let forbidden = format!("{typed}={by}::{name}(");
                    if dense.contains(&forbidden) {
                        found.push(format!("{}: {forbidden}", file.display()));
                    }
                }
            }
        }
        if dense.contains("Value::deserialize(") {
            found.push(format!("{}: Value::deserialize", file.display()));
        }
        // fields
        for part in dense.split("#[derive(").skip(1) {
            let Some((derived, rest)) = part.split_once(")]") else { continue };
            let fields = rest.split_once('{').filter(|(head, _)| head.contains("struct"));
            let fields = fields.and_then(|(_, fields)| fields.split_once('}')).map(|(fields, _)| fields);
            let values =
                fields.map_or(0, |fields| fields.matches(":Value,").count() + fields.matches("<Value>").count());
            let plain = fields.map_or(0, |fields| fields.matches("plain::value").count());
            if derived.split(',').any(|it| it == "Deserialize") && values > plain {
                found.push(format!("{}: a field that is a Value", file.display()));
            }
        }
    }
    assert_eq!(found, Vec::<String>::new(), "read it as api::Plain");
}
