//! Break glass: opened, seen and closed again, with replicas and without any.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use kube::{Api, api::PostParams};
use sekuire_policy::admission::registration::CONFIGURATION_NAME;
use sekuire_policy::api::BREAK_GLASS;
use serde_json::{Value, json};

use super::support::{OTHERS, answer_of, ask, client_as, fastest_within_a_second, takes_effect};
use crate::cluster::{Cluster, Controller, ControllerOptions, Ran, User, controller::sekuire};
use crate::resilience::support::{DENIED, Site, agent, dry_run, logged, until};

const KIND: &str = "validatingwebhookconfiguration";

/// A cluster whose policy denies a tool, and two replicas.
async fn site() -> (Site, String, Controller, Controller) {
    let site = Site::new(Cluster::options()).await;
    let namespace = site.namespace("ws_a").await;
    site.commit([&site.document("ws_a", "1", &[DENIED])]).await;
    let one = ControllerOptions::new("a").start(&site.cluster).await;
    site.enforced("ws-a", "1").await;
    let two = ControllerOptions::new("b").start(&site.cluster).await;
    refuses(&site, &namespace, "tool.blocked").await;
    (site, namespace, one, two)
}

async fn attempt(site: &Site, namespace: &str) -> Result<(), String> {
    let created = site.agents(namespace).create(&dry_run(), &agent(namespace, "bad", &[DENIED])).await;
    created.map(drop).map_err(|error| error.to_string())
}

async fn refuses(site: &Site, namespace: &str, why: &str) {
    until(&format!("it refuses for {why}"), async || match attempt(site, namespace).await {
        Err(said) if said.contains(why) => Ok(()),
        other => Err(other),
    })
    .await;
}

async fn admits(site: &Site, namespace: &str) {
    until("it admits", async || attempt(site, namespace).await).await;
}

async fn break_glass(cluster: &Cluster, args: &[&str]) -> Ran {
    let mut command = tokio::process::Command::new(sekuire());
    command.arg("break-glass").args(args).arg("--kubeconfig").arg(cluster.kubeconfig(User::ADMIN));
    crate::cluster::command::run(command, b"").await
}

async fn configuration(site: &Site) -> (String, Option<String>) {
    let api: Api<ValidatingWebhookConfiguration> = Api::all(site.client.clone());
    let found = api.get(CONFIGURATION_NAME).await.unwrap();
    let policy = found.webhooks.unwrap()[0].failure_policy.clone().unwrap();
    (policy, found.metadata.annotations.and_then(|all| all.get(BREAK_GLASS).cloned()))
}

async fn becomes(site: &Site, policy: &str, open: bool) {
    until(&format!("failurePolicy is {policy}"), async || {
        let now = configuration(site).await;
        if now.0 == policy && now.1.is_some() == open { Ok(()) } else { Err(now) }
    })
    .await;
}

async fn event(site: &Site, reason: &str) {
    until(&format!("an Event {reason}"), async || {
        if site.events(CONFIGURATION_NAME, reason).await > 0 { Ok(()) } else { Err("none") }
    })
    .await;
}

#[tokio::test]
async fn one_command_opens_it_for_all_replicas_loudly_and_another_closes_it() {
    let (site, namespace, mut one, two) = site().await;
    let closed = break_glass(&site.cluster, &["status"]).await.ok();
    assert!(closed.starts_with("closed\nfailurePolicy Fail"), "{closed}");
    let opened = break_glass(&site.cluster, &["open", "--for", "2h", "--reason", "INC-123 payments"]).await;
    assert!(opened.succeeded() && opened.stderr.contains("Break glass is open until"), "{opened}");
    admits(&site, &namespace).await;
    becomes(&site, "Ignore", true).await;
    event(&site, "BreakGlassOpened").await;
    for replica in [&one, &two] {
        logged(replica, "break glass is open: nothing is enforced").await;
        let answer = answer_of(replica, &namespace).await;
        assert_eq!(answer["allowed"], true, "{}: {answer}", replica.identity());
        assert!(answer["warnings"][0].as_str().unwrap().contains("break glass is open until"), "{answer}");
    }
    let manifest = serde_json::to_string(&agent(&namespace, "bad", &[DENIED])).unwrap();
    let made = site.cluster.kubectl_as(User::ADMIN, &["create", "-f", "-"], &manifest).await;
    assert!(made.succeeded() && made.stderr.contains("Warning: admitted, as break glass is open until"), "{made}");
    assert!(made.stderr.contains(": INC-123 payments") && made.stderr.contains("[tool.blocked]"), "{made}");
    logged(&one, "mode=\"break-glass\"").await;
    // no workspace, no policy: admitted too, as is what this version cannot read
    let bare = site.cluster.namespace("bare").await;
    until("an unbound one is admitted", async || {
        let created = site.agents(&bare).create(&dry_run(), &agent(&bare, "a", &[])).await;
        created.map(drop).map_err(|e| e.to_string())
    })
    .await;
    let status: Value =
        serde_json::from_str(&break_glass(&site.cluster, &["status", "--output", "json"]).await.ok()).unwrap();
    assert_eq!(
        (&status["open"], &status["reason"], &status["failurePolicy"]),
        (&json!(true), &json!("INC-123 payments"), &json!("Ignore"))
    );

    // nobody puts Fail back while it is open, neither the leader nor the next one
    one.kill();
    site.led_by("b").await;
    site.cluster.kubectl(["patch", KIND, CONFIGURATION_NAME, "-p", &webhook("Fail")]).await.ok();
    becomes(&site, "Ignore", true).await;

    break_glass(&site.cluster, &["close"]).await.ok();
    becomes(&site, "Fail", false).await;
    event(&site, "BreakGlassClosed").await;
    logged(&two, "break glass is closed").await;
    one.start_again();
    one.ready().await;
    for replica in [&one, &two] {
        let answer = answer_of(replica, &namespace).await;
        assert_eq!(answer["allowed"], false, "{}: {answer}", replica.identity());
    }
}

#[tokio::test]
async fn opening_and_closing_take_effect_in_every_replica_within_a_second() {
    let (site, namespace, one, two) = site().await;
    let (mut opened, mut closed) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        break_glass(&site.cluster, &["open", "--for", "2h", "--reason", "INC-1"]).await.ok();
        opened.push(takes_effect(&[&one, &two], &namespace, true).await);
        break_glass(&site.cluster, &["close"]).await.ok();
        closed.push(takes_effect(&[&one, &two], &namespace, false).await);
    }
    fastest_within_a_second(&opened);
    fastest_within_a_second(&closed);
}

#[tokio::test]
async fn a_whole_day_can_be_asked_for_by_the_command_and_not_a_second_more_by_the_annotation() {
    let (site, namespace, one, two) = site().await;
    break_glass(&site.cluster, &["open", "--for", "24h", "--reason", "INC-1"]).await.ok();
    admits(&site, &namespace).await;
    takes_effect(&[&one, &two], &namespace, true).await;
    break_glass(&site.cluster, &["close"]).await.ok();
    takes_effect(&[&one, &two], &namespace, false).await;
    becomes(&site, "Fail", false).await;
    // a minute more than a day, which the time until it is read does not use up
    let far = Timestamp::now() + Duration::from_secs(24 * 3600 + 60);
    let annotation = format!("{BREAK_GLASS}={far} INC-2");
    refuses_throughout(&site, &namespace, async || {
        site.cluster.kubectl(["annotate", "--overwrite", KIND, CONFIGURATION_NAME, &annotation]).await.ok();
        becomes(&site, "Fail", false).await;
    })
    .await;
}

/// Asks on and on, the API server and by it both replicas in turn, from before a change until after it: all is refused.
async fn refuses_throughout(site: &Site, namespace: &str, change: impl AsyncFn()) {
    let asked = std::cell::Cell::new(0);
    let asking = async {
        loop {
            let why = attempt(site, namespace).await.expect_err("it is obeyed");
            assert!(why.contains("tool.blocked"), "{why}");
            asked.set(asked.get() + 1);
        }
    };
    let changing = async {
        while asked.get() < 3 {
            tokio::task::yield_now().await;
        }
        change().await;
        let before = asked.get();
        while asked.get() < before + 3 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! { () = changing => {}, () = asking => {} }
}

fn webhook(policy: &str) -> String {
    json!({"webhooks": [{"name": "agents.sekuire.ai", "failurePolicy": policy}]}).to_string()
}

#[tokio::test]
async fn it_ends_by_the_clock_also_where_the_leader_was_started_after_the_end() {
    let (site, namespace, mut one, mut two) = site().await;
    let soon = |seconds: i64| Timestamp::now() + Duration::from_secs(u64::try_from(seconds).unwrap());
    let until_then = async |seconds: i64| {
        let annotation = format!("{BREAK_GLASS}={} INC-1", soon(seconds));
        site.cluster.kubectl(["annotate", "--overwrite", KIND, CONFIGURATION_NAME, &annotation]).await.ok();
    };
    until_then(600).await;
    admits(&site, &namespace).await;
    becomes(&site, "Ignore", true).await; // the leader does that: only the annotation was set
    // the end comes near only now: on a busy machine it would be over before it was seen to be open
    until_then(4).await;
    refuses(&site, &namespace, "tool.blocked").await;
    becomes(&site, "Fail", false).await;
    event(&site, "BreakGlassClosed").await;

    // opened with nobody there, over before anybody is: the first leader closes it
    one.kill();
    two.kill();
    let open = json!({"metadata": {"annotations": {BREAK_GLASS: format!("{} INC-2", soon(2))}},
        "webhooks": [{"name": "agents.sekuire.ai", "failurePolicy": "Ignore"}]});
    site.cluster.kubectl(["patch", KIND, CONFIGURATION_NAME, "-p", &open.to_string()]).await.ok();
    // nobody answers, and that is ignored as soon as the API server has heard of it
    admits(&site, &namespace).await;
    until("its time is over", async || {
        let (_, annotation) = configuration(&site).await;
        let until: Timestamp = annotation.unwrap().split_once(' ').unwrap().0.parse().unwrap();
        if until < Timestamp::now() { Ok(()) } else { Err("not yet") }
    })
    .await;
    one.start_again();
    becomes(&site, "Fail", false).await;
    one.ready().await;
    refuses(&site, &namespace, "agents.sekuire.ai").await;
}

#[tokio::test]
async fn what_has_no_end_or_a_far_one_is_not_obeyed_and_taken_away_with_an_event() {
    let (site, namespace, one, _two) = site().await;
    let far = (Timestamp::now() + Duration::from_secs(48 * 3600)).to_string();
    for value in ["true", "INC-1 for ever", &format!("{far} INC-1"), "2020-01-01T00:00:00Z INC-1"] {
        let annotation = format!("{BREAK_GLASS}={value}");
        refuses_throughout(&site, &namespace, async || {
            site.cluster.kubectl(["annotate", "--overwrite", KIND, CONFIGURATION_NAME, &annotation]).await.ok();
            becomes(&site, "Fail", false).await;
        })
        .await;
    }
    event(&site, "BreakGlassRefused").await;
    logged(&one, "webhook configuration brought up to date").await;
    // closed with kubectl, by the annotation alone
    let soon = (Timestamp::now() + Duration::from_secs(600)).to_string();
    let open = format!("{BREAK_GLASS}={soon} INC-2");
    site.cluster.kubectl(["annotate", KIND, CONFIGURATION_NAME, &open]).await.ok();
    becomes(&site, "Ignore", true).await;
    site.cluster.kubectl(["annotate", KIND, CONFIGURATION_NAME, &format!("{BREAK_GLASS}-")]).await.ok();
    becomes(&site, "Fail", false).await;
    refuses(&site, &namespace, "tool.blocked").await;
    assert_eq!(site.events(CONFIGURATION_NAME, "WebhookRestored").await, 0, "that is no tampering");
    // failurePolicy without a word is
    site.cluster.kubectl(["patch", KIND, CONFIGURATION_NAME, "-p", &webhook("Ignore")]).await.ok();
    becomes(&site, "Fail", false).await;
    event(&site, "WebhookRestored").await;
    for wrong in [["--for", "25h"], ["--for", "59s"], ["--for", "soon"]] {
        let ran = break_glass(&site.cluster, &["open", wrong[0], wrong[1], "--reason", "x"]).await;
        assert!(ran.code == Some(2) && ran.stderr.contains("at most 24 hours"), "{ran}");
    }
    let ran = break_glass(&site.cluster, &["open", "--for", "1h", "--reason", " "]).await;
    assert!(ran.code == Some(2) && ran.stderr.contains("--reason"), "{ran}");
}

#[tokio::test]
async fn in_an_outage_with_no_replica_left_one_command_lets_agents_pass_and_nothing_else_ever_waited() {
    let (site, namespace, mut one, mut two) = site().await;
    one.kill();
    two.kill();
    let refused = attempt(&site, &namespace).await.expect_err("nobody answers");
    assert!(refused.contains("agents.sekuire.ai"), "{refused}");
    // of all else, nothing waits for the controller
    let client = site.cluster.client().await;
    for (way, path, body) in [
        ("POST", "/api/v1/namespaces".to_owned(), json!({"metadata": {"name": "more"}})),
        ("POST", format!("/api/v1/namespaces/{namespace}/configmaps"), json!({"metadata": {"name": "a"}})),
        ("merge", format!("/api/v1/namespaces/{namespace}"), json!({"metadata": {"labels": {"a": "b"}}})),
        (
            "merge",
            "/apis/sekuire.ai/v1alpha1/policyrepositories/policies".to_owned(),
            json!({"spec": {"suspend": true}}),
        ),
        ("DELETE", "/apis/sekuire.ai/v1alpha1/workspacepolicies/ws-a".to_owned(), json!({})),
    ] {
        ask(&client, way, &path, &body).await.unwrap_or_else(|why| panic!("{way} {path}: {why}"));
    }
    break_glass(&site.cluster, &["open", "--for", "30m", "--reason", "INC-9"]).await.ok();
    admits(&site, &namespace).await;
    let api = site.agents(&namespace);
    api.create(&PostParams::default(), &agent(&namespace, "bad", &[DENIED])).await.unwrap();
    let shown = break_glass(&site.cluster, &["status"]).await.ok();
    assert!(shown.contains(": INC-9\nfailurePolicy Ignore: agents are admitted"), "{shown}");
    break_glass(&site.cluster, &["close"]).await.ok();
    refuses(&site, &namespace, "agents.sekuire.ai").await;
}

#[tokio::test]
async fn whoever_may_only_write_namespaces_and_agents_cannot_open_it_and_the_charts_role_can() {
    let (site, namespace, _one, _two) = site().await;
    let role = json!([
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "tenants"},
            "rules": [{"apiGroups": [""], "resources": ["namespaces"], "verbs": ["*"]},
                {"apiGroups": ["sekuire.ai"], "resources": ["agents"], "verbs": ["*"]}]},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "break-glass"},
            "rules": [{"apiGroups": ["admissionregistration.k8s.io"], "resources": ["validatingwebhookconfigurations"],
                "resourceNames": [CONFIGURATION_NAME], "verbs": ["get", "patch"]}]},
    ]);
    for role in role.as_array().unwrap() {
        site.cluster.apply(&role.to_string()).await.ok();
    }
    for (name, subject) in [("tenants", format!("--group={OTHERS}")), ("break-glass", "--user=oncall".to_owned())] {
        let role = format!("--clusterrole={name}");
        site.cluster.kubectl(["create", "clusterrolebinding", name, &role, &subject]).await.ok();
    }
    let path = format!("/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/{CONFIGURATION_NAME}");
    let value = format!("{} INC-1", Timestamp::now() + Duration::from_secs(600));
    let open = json!({"metadata": {"annotations": {BREAK_GLASS: value}}});
    let tenant = client_as(&site.cluster, "otto", &[OTHERS]).await;
    // the annotation elsewhere opens nothing
    let elsewhere = format!("/api/v1/namespaces/{namespace}");
    until("RBAC has heard of theirs", async || ask(&tenant, "merge", &elsewhere, &open).await.map(drop)).await;
    let said = ask(&tenant, "merge", &path, &open).await.expect_err("not theirs");
    assert!(said.contains("cannot patch resource"), "{said}");
    let why = attempt(&site, &namespace).await.expect_err("still enforced");
    assert!(why.contains("tool.blocked"), "{why}");
    let oncall = client_as(&site.cluster, "oncall", &[]).await;
    until("RBAC has heard of the role", async || ask(&oncall, "merge", &path, &open).await.map(drop)).await;
    admits(&site, &namespace).await;
}
