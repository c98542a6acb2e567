//! The controller's account: what it may do, and that this is enough.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::json;

use super::helm::{NAME, find, render};
use crate::cluster::command::run;
use crate::cluster::controller::NAMESPACE;
use crate::cluster::skip::skip;
use crate::cluster::{Cluster, ClusterOptions, Controller, ControllerOptions, User};
use crate::git::real::{Web, missing};
use crate::resilience::support::{DENIED, Site, agent, dry_run, until};

pub(super) const ACCOUNT: &str = "system:serviceaccount:sekuire-system:sekuire-policy-controller";

/// Applies the chart.
pub(super) async fn install(cluster: &Cluster, program: &std::path::Path, values: &[&str]) {
    let rendered = render(program, &[&["--skip-tests"], values].concat()).await.ok();
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
    cluster.apply(&namespace.to_string()).await.ok();
    let args = ["apply", "--server-side", "--force-conflicts", "--field-manager=helm", "-f", "-"];
    cluster.kubectl_as(User::ADMIN, &args, &rendered).await.ok();
}

/// A kubeconfig with a token of the account, as a pod has one.
async fn kubeconfig(cluster: &Cluster) -> PathBuf {
    let token = cluster.kubectl(["create", "token", NAME, "-n", NAMESPACE]).await.ok();
    let admin: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(cluster.kubeconfig(User::ADMIN)).unwrap()).unwrap();
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "clusters": admin["clusters"], "current-context": "account",
        "users": [{"name": "account", "user": {"token": token.trim()}}],
        "contexts": [{"name": "account", "context": {"cluster": "test", "user": "account"}}],
    });
    let path = cluster.folder().join("account.kubeconfig");
    std::fs::write(&path, config.to_string()).unwrap();
    path
}

#[tokio::test]
async fn the_account_may_do_what_the_list_says_and_nothing_else() {
    let program = match find() {
        Ok(program) => program,
        Err(why) => skip!(why),
    };
    let cluster = Cluster::start().await;
    install(&cluster, &program, &["--set", "secretNames={git-login},receiver.enabled=true"]).await;
    let other = cluster.namespace("tenant").await;
    let may = async |question: &[&str]| {
        let args = [&["auth", "can-i", "--as", ACCOUNT, "--as-group=system:serviceaccounts"], question].concat();
        cluster.kubectl_as(User::ADMIN, &args, "").await
    };
    // RBAC is read from watches of the API server's own: each binding is there when it is there
    for question in [
        &["get", "secret/git-login", "-n", NAMESPACE][..],
        &["create", "events.events.k8s.io", "-n", "default"],
        &["list", "namespaces"],
    ] {
        until("RBAC is seen", async || {
            let seen = may(question).await;
            if seen.succeeded() { Ok(()) } else { Err(seen.to_string()) }
        })
        .await;
    }
    let listed = async |who: &str, namespace: &str| -> BTreeSet<String> {
        let args = ["auth", "can-i", "--list", "--no-headers", "-n", namespace, "--as", who];
        let groups = ["--as-group=system:serviceaccounts", "--as-group=system:authenticated"];
        let list = cluster.kubectl_as(User::ADMIN, &[&args[..], &groups].concat(), "").await.ok();
        list.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    };
    let mut told = String::new();
    for namespace in [NAMESPACE, "default", &other] {
        let (ours, anybody) = (listed(ACCOUNT, namespace).await, listed("nobody", namespace).await);
        let shown = if namespace == other { "any other namespace" } else { namespace };
        let more: Vec<&str> = ours.difference(&anybody).map(String::as_str).collect();
        told += &format!("== {shown}\n{}\n", more.join("\n"));
    }
    insta::assert_snapshot!("account", told);
    for question in [
        &["get", "secrets", "-A"][..],
        &["list", "secrets", "-n", NAMESPACE],
        &["get", "secret/other", "-n", NAMESPACE],
        &["get", "secret/git-login", "-n", &other],
        &["update", "secret/git-login", "-n", NAMESPACE],
        &["create", "pods/exec", "-n", NAMESPACE],
        &["create", "pods", "-n", NAMESPACE],
        &["update", "namespaces"],
        &["create", "agents.sekuire.ai", "-n", &other],
        &["create", "signingkeys.sekuire.ai"],
        &["delete", "policyledgers.sekuire.ai"],
        &["delete", "validatingwebhookconfigurations/sekuire-policy-controller"],
        &["update", "validatingwebhookconfigurations/other"],
        &["create", "validatingwebhookconfigurations"],
        &["update", "clusterroles"],
        &["impersonate", "users"],
        &["*", "*"],
    ] {
        let said = may(question).await;
        assert!(said.stdout.starts_with("no"), "{question:?}: {said}");
    }
}

struct Story {
    site: Site,
    controller: Controller,
}

impl Story {
    async fn is_denied(&self, namespace: &str) -> Result<(), String> {
        let tried = self.site.agents(namespace).create(&dry_run(), &agent(namespace, "a", &[DENIED])).await;
        match tried {
            Err(kube::Error::Api(status)) if status.message.contains("[tool.blocked]") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    }

    async fn hook(&self) -> u16 {
        let authority = self
            .site
            .cluster
            .kubectl(["get", "secret", "sekuire-webhook-certificate", "-n", NAMESPACE, "-o", "json"])
            .await
            .ok();
        let secret: k8s_openapi::api::core::v1::Secret = serde_json::from_str(&authority).unwrap();
        let ca = String::from_utf8(secret.data.unwrap()["ca.crt"].0.clone()).unwrap();
        let url: url::Url = self.controller.receiver_url().parse().unwrap();
        let mut curl = tokio::process::Command::new("curl");
        let file = self.site.cluster.folder().join("ca.crt.receiver");
        std::fs::write(&file, ca).unwrap();
        curl.args(["--silent", "--output", "/dev/null", "--write-out", "%{http_code}", "--cacert"]).arg(&file);
        curl.args(["--header", "Authorization: Bearer secret-token-of-the-forge", "--request", "POST"]);
        curl.arg(url.join("hook/policies").unwrap().as_str());
        run(curl, b"").await.ok().trim().parse().unwrap()
    }
}

#[tokio::test]
async fn the_controller_does_all_its_work_as_its_account() {
    let program = match find() {
        Ok(program) => program,
        Err(why) => skip!(why),
    };
    if let Some(why) = missing() {
        skip!(why);
    }
    let site = Site::new(ClusterOptions::default()).await;
    let values = ["--set", "secretNames={git-login,hook-token},receiver.enabled=true"];
    install(&site.cluster, &program, &values).await;
    let web = Web::start(site.repo.origin().parent().unwrap(), "no token", 1);
    web.accept("robot", "password-of-the-robot");
    for (name, data) in [
        ("git-login", json!({"username": "robot", "password": "password-of-the-robot", "ca.crt": web.authority.pem()})),
        ("hook-token", json!({"token": "secret-token-of-the-forge"})),
    ] {
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": NAMESPACE, "annotations": {"sekuire.ai/hosts": format!("localhost:{}", web.port())}}, "stringData": data});
        site.cluster.apply(&secret.to_string()).await.ok();
    }
    let repository = json!({
        "apiVersion": "sekuire.ai/v1alpha1", "kind": "PolicyRepository", "metadata": {"name": "policies"},
        "spec": {"url": web.url("basic/origin.git"), "interval": "1h", "secretRef": {"name": "git-login"},
            "receiver": {"type": "generic", "secretRef": {"name": "hook-token"}}},
    });
    site.cluster.apply(&repository.to_string()).await.ok();
    site.commit([&site.document("ws_a", "1", &[DENIED])]).await;
    let options = ControllerOptions::new("a").kubeconfig(kubeconfig(&site.cluster).await).receiver();
    let mut story = Story { controller: options.start(&site.cluster).await, site };
    let site = &story.site;

    // the certificate Secret, the Lease, the git Secret, policy and mark
    site.led_by("a").await;
    site.enforced("ws-a", "1").await;
    let namespace = site.namespace("ws_a").await;
    until("refused", async || story.is_denied(&namespace).await).await;
    // what is changed in the configuration is put back
    let ignore = r#"[{"op": "replace", "path": "/webhooks/0/rules", "value": []}]"#;
    site.cluster.kubectl(["patch", "validatingwebhookconfigurations", NAME, "--type=json", "-p", ignore]).await.ok();
    until("put back", async || match site.events(NAME, "WebhookRestored").await {
        0 => Err("no Event"),
        _ => Ok(()),
    })
    .await;
    until("refused again", async || story.is_denied(&namespace).await).await;
    // the receiver: nothing else would have it looked at within the hour
    site.commit([&site.document("ws_a", "2", &[DENIED, "curl"])]).await;
    until("the hook is taken", async || match story.hook().await {
        202 => Ok(()),
        status => Err(status),
    })
    .await;
    site.enforced("ws-a", "2").await;
    // what somebody deleted or doubled, as far as the writer policy lets anybody
    site.cluster.kubectl(["delete", "wsp", "ws-a"]).await.ok();
    site.enforced("ws-a", "2").await;
    until("an Event tells of it", async || match site.events("ws-a", "Restored").await {
        0 => Err("none"),
        _ => Ok(()),
    })
    .await;
    assert!(story.controller.terminate().await.success());
    assert_eq!(story.site.lease().await.0, None, "given back");
    let log = story.controller.log();
    assert!(!log.to_lowercase().contains("forbidden"), "{log}");
}

#[tokio::test]
async fn a_deleted_webhook_configuration_is_made_again_only_with_the_right_to_and_else_that_it_is_gone_is_said_aloud() {
    let program = match find() {
        Ok(program) => program,
        Err(why) => skip!(why),
    };
    for recreate in [false, true] {
        let site = Site::new(ClusterOptions::default()).await;
        let value = format!("webhook.recreate={recreate}");
        install(&site.cluster, &program, &["--set", &value]).await;
        let options = ControllerOptions::new("a").kubeconfig(kubeconfig(&site.cluster).await).metrics();
        let owner = format!("--owner={NAME}");
        let options = if recreate { options.flags([owner.as_str()]) } else { options };
        let mut controller = options.start(&site.cluster).await;
        let registered = async |expected: f64| {
            until(&format!("registered is {expected}, with recreate={recreate}"), async || {
                let scraped = crate::observe::support::scrape(&controller).await;
                let now = crate::observe::support::series(&scraped)["sekuire_webhook_registered"];
                if now.to_bits() == expected.to_bits() { Ok(()) } else { Err(now) }
            })
            .await;
        };
        registered(1.0).await;
        site.cluster.kubectl(["delete", "validatingwebhookconfigurations", NAME]).await.ok();
        if recreate {
            until("an Event tells that it was put back", async || match site.events(NAME, "WebhookRestored").await {
                0 => Err("none"),
                _ => Ok(()),
            })
            .await;
            registered(1.0).await;
            let owner = "jsonpath={.metadata.ownerReferences[0].name}";
            let get = ["get", "validatingwebhookconfigurations", NAME, "-o", owner];
            assert_eq!(site.cluster.kubectl(get).await.ok(), NAME);
        } else {
            until("an Event tells that it is gone", async || match site.events(NAME, "WebhookMissing").await {
                0 => Err("none"),
                _ => Ok(()),
            })
            .await;
            registered(0.0).await;
            assert!(controller.log().contains("the webhook configuration is gone"), "{}", controller.log());
            // applied again, it is filled in again
            install(&site.cluster, &program, &["--set", &value]).await;
            registered(1.0).await;
        }
        assert!(controller.terminate().await.success());
    }
}
