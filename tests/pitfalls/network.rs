//! Addresses, credentials and callers.

use std::time::{Duration, Instant};

use http::StatusCode;
use sekuire_policy::api::conditions;
use serde_json::json;

use super::support::Target;
use crate::admission::client::{Connection, trusting};
use crate::cluster::leaks;
use crate::cluster::skip::skip;
use crate::cluster::{Controller, ControllerOptions};
use crate::git::real::{Ssh, Tinyproxy, Web, missing};
use crate::git::server::{Manner, Server};
use crate::reconcile::access::{Loud, forms, found, root, secret, secret_for};
use crate::reconcile::read_api::authorities;
use crate::reconcile::receiver::{PUSH, send};
use crate::reconcile::tenant::{FLOOD, Tenant, eventually};

/// Said on purpose.
const PLANTED: &str = "pa55word-said-on-purpose";

impl Tenant {
    /// Waits until the repository, as it is now, is not ready. Returns reason and message.
    async fn fails_now(&self) -> (String, String) {
        let generation = self.repositories().get(&self.name).await.unwrap().metadata.generation;
        let failed = |status: &sekuire_policy::api::PolicyRepositoryStatus| {
            conditions::find(&status.conditions, "Ready")
                .is_some_and(|ready| ready.status == "False" && ready.observed_generation == generation)
        };
        let status = self.repository("not ready", failed).await;
        let ready = conditions::find(&status.conditions, "Ready").unwrap();
        (ready.reason.clone(), ready.message.clone())
    }
}

#[tokio::test]
async fn ssrf_file_and_ext_urls_reach_nothing_but_repositories_over_https_and_ssh() {
    let target = Target::new().await;
    let team = &target.team;
    // at the door
    for url in ["ext::sh -c id", "ext::sh://x", "git://127.0.0.1/a", "ftp://127.0.0.1/a", "gopher://127.0.0.1/", "/etc"]
    {
        let repository = json!({
            "apiVersion": "sekuire.ai/v1alpha1", "kind": "PolicyRepository",
            "metadata": {"name": format!("{}-x", team.name)}, "spec": {"url": url, "workspaces": ["none"]},
        });
        let said = team.try_apply(&repository).await.expect_err(url).to_string();
        assert!(said.contains("spec.url"), "{url}: {said}");
    }
    // where clouds hand out the machine's own credentials, by https and by ssh, however it is written
    let key = json!({"identity": "no key", "known_hosts": "* ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGjzT0bUWCzDpaFMUWAGyEE3RHl/JAjVGpu8oqzL5GPK"});
    let keys: Vec<(&str, &str)> =
        key.as_object().unwrap().iter().map(|(name, value)| (name.as_str(), value.as_str().unwrap())).collect();
    team.apply(&secret(&team.name, &keys)).await;
    for url in [
        "https://169.254.169.254/latest/meta-data",
        "https://[::ffff:169.254.169.254]/latest/meta-data",
        "https://0xA9FEA9FE/latest/meta-data",
        "http://169.254.169.254/latest/meta-data",
        "https://[fe80::1]/a",
        "ssh://git@169.254.169.254/a",
        "ssh://git@169.254.169.254:80/a",
        "ssh://git@[fe80::1]/a",
        "ssh://git@0xA9FEA9FE/a",
    ] {
        let spec = match url.starts_with("ssh") {
            true => json!({"url": url, "secretRef": {"name": team.name}}),
            false => json!({"url": url}),
        };
        team.watch_repository(spec).await;
        let (reason, message) = team.fails_now().await;
        assert_eq!(reason, "GitOperationFailed", "{url}: {message}");
        assert!(message.contains("link-local"), "{url}: {message}");
    }
    // a redirect to another server, which is not even asked
    let folder = team.repo.origin().parent().unwrap().to_owned();
    let elsewhere = Server::start(&folder).await;
    for to in [format!("http://127.0.0.1:{}", elsewhere.port()), "http://169.254.169.254".into(), "file:///etc".into()]
    {
        let location = format!("{to}/origin.git/info/refs?service=git-upload-pack");
        let server = Server::with(&folder, Manner::Status(302, vec![("location", location)])).await;
        team.watch_repository(json!({"url": server.url("origin.git")})).await;
        let (reason, message) = team.fails_now().await;
        assert_eq!(reason, "GitOperationFailed");
        assert!(message.contains("redirects"), "{to}: {message}");
    }
    // a submodule is named, and its address is asked for nothing
    team.repo
        .write(".gitmodules", format!("[submodule \"m\"]\npath = policies/m.json\nurl = {}\n", elsewhere.url("m")));
    let head = team.repo.head().await;
    let index = format!("160000,{head},policies/m.json");
    team.repo.git(["add", "--all"]).await;
    team.repo.git(["update-index", "--add", "--cacheinfo", &index]).await;
    team.repo.git(["commit", "--quiet", "-m", "a submodule"]).await;
    team.repo.push().await;
    team.watch_repository(json!({})).await;
    let status = team.synced(&team.repo.head().await).await;
    assert!(status.refused[0].message.contains("submodule"), "{status:?}");
    assert_eq!(*elsewhere.requests.lock().unwrap(), Vec::<String>::new());
    target.unchanged().await;
}

#[tokio::test]
async fn ssrf_file_and_ext_urls_of_this_machine_are_refused_where_nobody_allowed_them() {
    let mut loud = Loud::start(["--log=info"]).await;
    loud.watch("policies", json!({"url": loud.repo.url()})).await;
    loud.reason("policies", "Succeeded").await;
    let namespace = loud.cluster.namespace_with("agents", &[("sekuire.ai/workspace", "ws_a")]).await;
    assert!(loud.controller.terminate().await.success());
    let strict: Controller = ControllerOptions::new("strict").strict().start(&loud.cluster).await;
    loud.repo.commit_files("second", [("policies/a.json", loud.signer.active("ws_a", "2", json!({})))]).await;
    for url in [loud.repo.url(), "http://127.0.0.1:1/a".to_owned()] {
        loud.watch("policies", json!({"url": url})).await;
        loud.reason("policies", "URLInvalid").await;
    }
    let stalled = "jsonpath={.status.conditions[?(@.type==\"Stalled\")].status}";
    assert_eq!(loud.cluster.kubectl(["get", "prepo", "policies", "-o", stalled]).await.ok(), "True");
    let version = "jsonpath={.spec.document.version}";
    assert_eq!(loud.cluster.kubectl(["get", "wsp", "ws-a", "-o", version]).await.ok(), "1");
    assert_eq!(loud.cluster.kubectl(["get", "pled", "ws-a", "-o", "jsonpath={.spec.version}"]).await.ok(), "1");
    let agent = format!(
        "apiVersion: sekuire.ai/v1alpha1\nkind: Agent\nmetadata: {{name: a, namespace: {namespace}}}\n\
         spec: {{model: {{provider: openai, name: gpt-4}}}}\n"
    );
    eventually("what was enforced is", async || {
        let ran = loud.cluster.apply(&agent).await;
        if ran.succeeded() { Ok(()) } else { Err(ran) }
    })
    .await;
    drop(strict);
}

#[tokio::test]
async fn credential_leaks_an_address_with_user_info_is_refused_and_not_repeated() {
    let target = Target::new().await;
    let team = &target.team;
    for url in [
        "https://user:p4ssw0rd-in-url@127.0.0.1/a",
        "https://ghp-token-in-url@127.0.0.1/a",
        "http://x:p4ssw0rd-in-url@127.0.0.1/a",
        "ssh://git:p4ssw0rd-in-url@127.0.0.1/a",
    ] {
        let repository = json!({
            "apiVersion": "sekuire.ai/v1alpha1", "kind": "PolicyRepository",
            "metadata": {"name": format!("{}-x", team.name)}, "spec": {"url": url, "workspaces": ["none"]},
        });
        let said = team.try_apply(&repository).await.expect_err(url).to_string();
        assert!(said.contains("the URL must hold no user name, token or password"), "{url}: {said}");
    }
    // what the door does not see through, the controller does
    for url in ["https://127.0.0.1/a?private_token=p4ssw0rd-in-url", "https://127.0.0.1/a#p4ssw0rd-in-url"] {
        team.watch_repository(json!({"url": url})).await;
        let (reason, message) = team.fails_now().await;
        assert_eq!(reason, "URLInvalid");
        assert!(message.contains("https://host/path") && !message.contains("p4ssw0rd"), "{message}");
    }
    let line = team.controller.log().lines().find(|line| line.contains("p4ssw0rd-in-url")).map(str::to_owned);
    assert_eq!(line, None);
    target.unchanged().await;
}

#[tokio::test]
async fn credential_leaks_no_secret_shows_in_the_log_at_trace_level_in_an_event_or_in_a_status() {
    if let Some(why) = missing() {
        skip!(why);
    }
    let loud = Loud::start(["--log=trace"]).await;
    let (password, token, passphrase, proxy_password) =
        ("pa55word-of-the-robot", "token-0c1d2e3f4a5b", "pass phrase of the key", "pa55word-of-the-proxy");
    let web = Web::start(&root(&loud.repo), token, 1);
    web.accept("robot", password);
    let (ssh, proxy) = (Ssh::start(), Tinyproxy::start("proxy-user", proxy_password));
    let identity = ssh.key("key", &["-t", "ed25519"], passphrase);
    let (authority, client) = (web.authority.pem(), web.authority.client());
    let (known_hosts, address) = (ssh.known_hosts("ed25519"), proxy.address());
    for (name, keys) in [
        ("basic", vec![("username", "robot"), ("password", password), ("ca.crt", &authority)]),
        ("bearer", vec![("bearerToken", token), ("ca.crt", &authority)]),
        ("client", vec![("tls.crt", &*client.chain), ("tls.key", client.key.reveal()), ("ca.crt", &authority)]),
        ("ssh", vec![("identity", &*identity), ("password", passphrase), ("known_hosts", &known_hosts)]),
        ("proxy", vec![("address", &*address), ("username", "proxy-user"), ("password", proxy_password)]),
        ("wrong", vec![("username", "robot"), ("password", "pa55word-that-is-wrong"), ("ca.crt", &authority)]),
        ("broken", vec![("username", "robot"), ("password", "pa55word-with-line-break\n")]),
    ] {
        // a known_hosts file says for whom it is
        let made = if name == "ssh" { secret(name, &keys) } else { secret_for(web.port(), name, &keys) };
        loud.cluster.apply(&made.to_string()).await.ok();
    }
    let https =
        |at: &str, secret: &str| json!({"url": web.url(&format!("{at}/origin.git")), "secretRef": {"name": secret}});
    let mut proxied = https("basic", "basic");
    proxied["proxySecretRef"] = json!({"name": "proxy"});
    let over_ssh = json!({"url": ssh.url(&loud.repo.origin()), "secretRef": {"name": "ssh"}});
    for (name, spec, reason) in [
        ("proxied", proxied, "Succeeded"),
        ("bearer", https("bearer", "bearer"), "Succeeded"),
        ("client", https("client", "client"), "Succeeded"),
        ("ssh", over_ssh, "Succeeded"),
        ("wrong", https("basic", "wrong"), "AuthenticationFailed"),
        ("echo", https("echo", "basic"), "AuthenticationFailed"),
        ("elsewhere", https("elsewhere", "bearer"), "GitOperationFailed"),
        ("broken", https("basic", "broken"), "AuthenticationFailed"),
    ] {
        loud.watch(name, spec).await;
        loud.reason(name, reason).await;
    }
    let secrets = [
        ("password", password),
        ("token", token),
        ("passphrase", passphrase),
        ("proxy password", proxy_password),
        ("identity", &*identity),
        ("client key", client.key.reveal()),
        ("wrong password", "pa55word-that-is-wrong"),
        ("password with line break", "pa55word-with-line-break"),
    ];
    let (forms, planted) = (forms(&secrets), forms(&[("planted", PLANTED)]));
    let said = loud.said().await;
    assert!(said.contains("TRACE") && said.contains("AuthenticationFailed"), "nothing was said");
    assert_eq!(found(&said, &forms), Vec::<String>::new());

    assert_eq!(found(&said, &planted), Vec::<String>::new());
    plant(&loud, &planted).await;
}

/// And it would be found: a branch of that name. The check of the whole run looks for it too.
async fn plant(loud: &Loud, planted: &[(String, String)]) {
    leaks::planted("a secret that is said on purpose", PLANTED);
    loud.watch("planted", json!({"url": loud.repo.url(), "ref": {"branch": PLANTED}})).await;
    loud.reason("planted", "GitOperationFailed").await;
    eventually("it is said everywhere", async || {
        let events = loud.cluster.kubectl(["get", "events", "-A", "-o", "json"]).await.ok();
        if events.contains(PLANTED) { Ok(()) } else { Err("no Event yet") }
    })
    .await;
    assert_eq!(found(&loud.said().await, planted), ["planted"]);
    let replica = ControllerOptions::new(PLANTED).flags(["--log=trace"]).spawn(&loud.cluster).await;
    eventually("it is in a log", async || if replica.log().contains(PLANTED) { Ok(()) } else { Err("not yet") }).await;
}

#[tokio::test]
async fn receiver_dos_a_flood_of_junk_changes_nothing_and_a_genuine_hook_gets_through_it() {
    let (_alone, target) = (FLOOD.lock().await, Target::new().await);
    let team = &target.team;
    team.set_token("token-of-a-forge").await;
    team.receives("generic").await;
    let trust = trusting(&authorities(team).await, "http/1.1");
    let address = team.controller.receiver_url().strip_prefix("https://").unwrap().parse().unwrap();
    let junk = (0..20).map(|number| {
        let (trust, name) = (trust.clone(), team.name.clone());
        tokio::spawn(async move {
            let mut connection = Connection::open(address, "127.0.0.1", trust).await.unwrap();
            let mut answers = Vec::new();
            for attempt in 0..100 {
                let name = if number % 2 == 0 { &name } else { "nobody" };
                let headers = vec![("Authorization", format!("Bearer guess-{number}-{attempt}"))];
                let reply = send(&mut connection, name, &headers, PUSH).await;
                answers.push((reply.status, reply.headers.contains_key("retry-after")));
            }
            answers
        })
    });
    let junk: Vec<_> = junk.collect();
    let bearer = vec![("Authorization", "Bearer token-of-a-forge".to_owned())];
    let (mut genuine, mut times) = (0, Vec::new());
    target.verdicts_stay().await;
    while junk.iter().any(|task| !task.is_finished()) || genuine == 0 {
        let start = Instant::now();
        assert_eq!(team.hook(&bearer, PUSH).await.status, StatusCode::ACCEPTED);
        times.push(start.elapsed());
        genuine += 1;
    }
    let slowest = times.iter().max().unwrap();
    println!("{genuine} genuine hooks during the flood, the slowest {slowest:?}");
    // as long as it may take to write that a look is wanted
    assert!(*slowest < Duration::from_secs(5), "{slowest:?}");
    let (mut refused, mut slowed) = (0, 0);
    for task in junk {
        for answer in task.await.unwrap() {
            match answer {
                (StatusCode::UNAUTHORIZED, false) => refused += 1,
                (StatusCode::TOO_MANY_REQUESTS, true) => slowed += 1,
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(refused >= 100 && slowed > 0 && refused + slowed == 2000, "{refused} refused, {slowed} slowed down");
    let warnings = team.controller.log().lines().filter(|line| line.contains("hooks refused")).count();
    assert!((1..20).contains(&warnings), "{warnings} warnings of 2000");
    target.unchanged().await;
}
