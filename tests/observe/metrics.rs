//! `GET /metrics`.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::support::{World, eventually, get, has_prometheus, read, scrape, series};
use crate::admission::client::{blind, handshake};
use crate::cluster::ControllerOptions;
use crate::cluster::skip::skip;

/// Everything that counts or states something, as it stands in the snapshot.
fn described(text: &str) -> String {
    let mut labels: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, rest) = line.split_once(['{', ' ']).unwrap();
        let name = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        let of = labels.entry(name).or_default();
        if line.contains('{') {
            let inside = rest.rsplit_once('}').unwrap().0;
            of.extend(inside.split("\",").map(|label| label.split_once('=').unwrap().0).filter(|label| *label != "le"));
        }
    }
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).map(|line| {
        let (name, kind) = line.split_once(' ').unwrap();
        let labels: Vec<&str> = labels[name].iter().copied().collect();
        format!("{name} {kind} {{{}}}\n", labels.join(","))
    });
    types.collect()
}

#[tokio::test]
async fn names_types_and_labels_of_all_metrics_are_a_snapshot_and_documented() {
    let world = World::new("names").await;
    let controller = world.controller(ControllerOptions::new("a").flags(["--label-policy=labels"])).await;
    world.ask("bad", "shell").await.unwrap_err();
    world.repo.write("policies/bad.json", "{}");
    world.repo.commit("Publish rubbish").await;
    let text = eventually("the refused document is counted", async || {
        let text = scrape(&controller).await;
        if text.contains(r#"sekuire_documents{reason="Malformed",repository="names"} 1"#) {
            Ok(text)
        } else {
            Err(text)
        }
    })
    .await;
    insta::assert_snapshot!("metrics", described(&text));
    let documented = read("docs/monitoring.md");
    for line in described(&text).lines() {
        let name = line.split_once(' ').unwrap().0;
        assert!(documented.contains(&format!("`{name}`")), "{name} is not in docs/monitoring.md");
    }
}

#[tokio::test]
async fn promtool_has_nothing_to_say_of_the_metrics() {
    if !has_prometheus() {
        skip!("no promtool: apt-get install prometheus");
    }
    let world = World::new("clean").await;
    let controller = world.controller(ControllerOptions::new("a")).await;
    world.ask("bad", "shell").await.unwrap_err();
    let text = scrape(&controller).await;
    let mut promtool = tokio::process::Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = promtool.stdin.take().unwrap();
    input.write_all(text.as_bytes()).await.unwrap();
    drop(input);
    let output = promtool.wait_with_output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}\n{text}");
}

#[tokio::test]
async fn every_decision_is_counted_once_under_what_was_decided_and_by_the_rules_that_were_broken() {
    let world = World::new("counts").await;
    let controller = world.controller(ControllerOptions::new("a")).await;
    let before = series(&scrape(&controller).await);
    for number in 0..7 {
        world.ask(&format!("good-{number}"), "calculator").await.unwrap();
    }
    for number in 0..3 {
        world.ask(&format!("bad-{number}"), "shell").await.unwrap_err();
    }
    let after = series(&scrape(&controller).await);
    let grown = |series: &str| after[series] - before[series];
    let requests = |decision: &str, mode: &str| {
        grown(&format!(r#"sekuire_admission_requests_total{{decision="{decision}",kind="Agent",mode="{mode}"}}"#))
    };
    assert_eq!(requests("allowed", "enforce"), 7.0);
    assert_eq!(requests("denied", "enforce"), 3.0);
    assert_eq!(requests("error", "enforce") + requests("denied", "warn") + requests("denied", "audit"), 0.0);
    assert_eq!(grown(r#"sekuire_admission_violations_total{mode="enforce",rule="tool.blocked"}"#), 3.0);
    let durations = r#"sekuire_admission_duration_seconds_count{decision="denied",kind="Agent",mode="enforce"}"#;
    assert_eq!(grown(durations), 3.0);
}

#[tokio::test]
async fn what_is_refused_or_given_up_before_its_body_is_here_is_counted_and_told() {
    let world = World::new("unread").await;
    let controller = world.controller(ControllerOptions::new("a")).await;
    let errors = async || series(&scrape(&controller).await)[r#"sekuire_admission_requests_total{decision="error",kind="Agent",mode="enforce"}"#];
    let before = errors().await;
    let address = controller.url().strip_prefix("https://").unwrap().parse().unwrap();
    let ask = async |length: usize| {
        let mut stream = handshake(address, "127.0.0.1", blind()).await.unwrap();
        let head = format!("POST /validate HTTP/1.1\r\nhost: webhook\r\ncontent-length: {length}\r\n\r\n{{");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        stream
    };
    let (mut late, gone, mut large) = (ask(100).await, ask(100).await, ask(4_000_000).await);
    drop(gone);
    for (stream, status) in [(&mut large, "413"), (&mut late, "408")] {
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&answer), format!("HTTP/1.1 {status}"));
    }
    eventually("all three are counted", async || {
        let counted = errors().await - before;
        if counted == 3.0 { Ok(()) } else { Err(counted) }
    })
    .await;
    let log = controller.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("admission requests not read")).collect();
    assert!(!lines.is_empty() && lines.len() < 3, "the rest is told ten seconds later: {lines:#?}");
    assert!(lines[0].contains(r#""peer":"127.0.0.1""#), "{lines:#?}");
}

#[tokio::test]
async fn what_is_gone_has_no_series_any_more() {
    let world = World::new("gone").await;
    let controller = world.controller(ControllerOptions::new("a")).await;
    let has = async |label: &str| scrape(&controller).await.contains(label);
    for label in [r#"repository="gone""#, r#"signing_key="gone""#, r#"workspace="ws_gone""#] {
        // the policy is in force a moment before the look that brought it is over
        eventually(label, async || if has(label).await { Ok(()) } else { Err("there is none") }).await;
    }
    world.cluster.kubectl(["delete", "prepo", "gone"]).await.ok();
    eventually("no series of the repository but where a policy is from", async || {
        let text = scrape(&controller).await;
        let left =
            text.lines().find(|line| line.contains(r#"repository="gone""#) && !line.contains("sekuire_policy_info"));
        left.map_or(Ok(()), |left| Err(left.to_owned()))
    })
    .await;
    world.cluster.kubectl(["delete", "skey", "gone"]).await.ok();
    eventually("no series of the key", async || if has("signing_key=").await { Err("there is") } else { Ok(()) }).await;
    eventually("a policy that is not ready, as its key is gone", async || {
        let ready = series(&scrape(&controller).await)[r#"sekuire_policy_ready{workspace="ws_gone"}"#];
        if ready == 0.0 { Ok(()) } else { Err(ready) }
    })
    .await;
}

#[tokio::test]
async fn the_leader_alone_says_that_it_leads_and_counts_for_the_repositories() {
    let world = World::new("leads").await;
    let mut a = world.controller(ControllerOptions::new("a")).await;
    let b = world.controller(ControllerOptions::new("b")).await;
    let counts = |text: &str| text.contains("sekuire_repository_syncs_total{");
    eventually("a has looked", async || Some(scrape(&a).await).filter(|text| counts(text)).map(drop).ok_or("not yet"))
        .await;
    let (of_a, of_b) = (scrape(&a).await, scrape(&b).await);
    assert_eq!((series(&of_a)["sekuire_leader"], series(&of_b)["sekuire_leader"]), (1.0, 0.0));
    assert!(!counts(&of_b));
    assert!(a.terminate().await.success());
    eventually("the other leads", async || {
        let text = scrape(&b).await;
        if series(&text)["sekuire_leader"] == 1.0 && counts(&text) { Ok(()) } else { Err(text) }
    })
    .await;
}

#[tokio::test]
async fn of_two_installations_the_one_that_the_api_server_does_not_ask_says_so() {
    let world = World::new("asked").await;
    let a = world.controller(ControllerOptions::new("a")).await;
    let b = world.controller(ControllerOptions::new("b").namespace("second-system")).await;
    for (controller, registered) in [(&a, 1.0), (&b, 0.0)] {
        eventually("whether it is asked", async || {
            let text = scrape(controller).await;
            if series(&text)["sekuire_webhook_registered"] == registered { Ok(()) } else { Err(text) }
        })
        .await;
    }
}

#[tokio::test]
async fn what_was_tampered_with_and_put_back_is_counted() {
    let world = World::new("tamper").await;
    let controller = world.controller(ControllerOptions::new("a")).await;
    for (command, name) in [
        (["delete", "wsp", "ws-tamper"], r#"sekuire_objects_restored_total{kind="WorkspacePolicy"}"#),
        (["delete", "pled", "ws-tamper"], r#"sekuire_objects_restored_total{kind="PolicyLedger"}"#),
        (
            ["delete", "validatingwebhookconfiguration", "sekuire-policy-controller"],
            "sekuire_webhook_configuration_restored_total",
        ),
    ] {
        let before = series(&scrape(&controller).await)[name];
        world.cluster.kubectl(command).await.ok();
        eventually(name, async || {
            let now = series(&scrape(&controller).await)[name];
            if now > before { Ok(()) } else { Err(now) }
        })
        .await;
    }
}

#[tokio::test]
async fn nothing_but_a_get_of_the_metrics_is_answered() {
    let world = World::new("only").await;
    let controller = world.controller(ControllerOptions::new("a")).await;
    let address = controller.metrics_address();
    let refused = get(&address, "/healthz").await.unwrap_err().to_string();
    assert!(refused.contains("404") || refused.contains("there is GET /metrics"), "{refused}");
    let client = kube::Client::try_from(kube::Config::new(format!("http://{address}").parse().unwrap())).unwrap();
    let post = http::Request::post("/metrics").body(b"x".to_vec()).unwrap();
    let refused = client.request_text(post).await.unwrap_err().to_string();
    assert!(refused.contains("only GET") || refused.contains("405"), "{refused}");
}
