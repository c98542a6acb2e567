//! From `helm install` to `helm uninstall`.

use std::{fs, panic::AssertUnwindSafe, time::Instant};

use futures::FutureExt as _;
use jiff::{SignedDuration, Timestamp};
use kube::api::{DeleteParams, PostParams};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use serde_json::{Value, json};

use crate::{
    faults, images,
    site::{NAME, NAMESPACE, REPLICAS, SYSTEM, Site, agent, agent_spec, took, until},
};

/// Where the Git server is.
const GIT: &str = "sekuire-e2e-git";
/// Name and password at the Git server.
const LOGIN: (&str, &str) = ("controller", "correct horse battery staple");
const RELEASE: &str = "sekuire";

/// Tells it all; whether it went as it should. A cluster that stays is left without any of it.
pub(crate) async fn tell(site: &Site) -> bool {
    let told = AssertUnwindSafe(story(site)).catch_unwind().await.is_ok();
    if !told {
        site.show().await;
    }
    clean(site).await;
    told
}

/// One step: what it is, and how long it took.
macro_rules! step {
    ($what:expr, $step:expr) => {{
        let since = Instant::now();
        let done = $step.await;
        took($what, since);
        done
    }};
}
async fn story(site: &Site) {
    step!("helm install --wait, in a namespace that enforces `restricted`", install(site));
    let git = step!("a Git server in a pod, with TLS of a private CA", git_server(site));
    step!("policy pushed, fetched over HTTPS with the Secret, verified, enforced", enforced(site, &git));
    step!("helm test: an agent admitted, one refused by the name of its rule", helm_test(site));
    step!("an agent admitted, one refused", verdicts(site));
    faults::under_load(site).await;
    step!("metrics read from a pod", metrics(site));
    step!(
        "controller scaled to nothing: agents are refused, nothing else; break glass opened and closed",
        without_controller(site)
    );
    step!("helm uninstall: no webhook left, agents are nobody's business any more", uninstall(site));
}

async fn install(site: &Site) {
    let restricted = json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": SYSTEM, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
    });
    let payments = json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": NAMESPACE, "labels": {"sekuire.ai/workspace": "ws_payments"}},
    });
    site.apply(&[restricted, payments]).await;
    let values = json!({
        "secretNames": ["policies-git"],
        "networkPolicy": {"gitPorts": [443, 8443]},
        "test": {
            "namespace": NAMESPACE, "rule": "tool.blocked",
            "admitted": agent_spec("ledger_read"), "refused": agent_spec("shell_exec"),
        },
    });
    fs::write(site.folder.join("values.json"), values.to_string()).expect("write a file");
    helm_to(site, "install", images::FIRST).await;
}

/// `helm install` or `helm upgrade` to the image of this tag.
pub(crate) async fn helm_to(site: &Site, command: &str, tag: &str) {
    let values = site.folder.join("values.json").display().to_string();
    let args = format!(
        "{command} {RELEASE} charts/{NAME} --namespace {SYSTEM} --values {values} --set image.tag={tag} --wait --timeout 55s"
    );
    site.helm(&args).await.ok();
}

/// Starts it; returns the URL of its repository.
async fn git_server(site: &Site) -> String {
    let metadata = json!({"name": "git", "namespace": GIT});
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": metadata,
        "spec": {"selector": {"app": "git"}, "ports": [{"port": 443, "targetPort": 8443}]},
    });
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": GIT}});
    site.apply(&[namespace, service]).await;
    let get = format!("get service git --namespace {GIT} --output jsonpath={{.spec.clusterIP}}");
    let address = site.kubectl(&get).await.ok();
    let (authority, certificate, key) = certificate(&address);
    let (user, password) = LOGIN;
    let files = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": metadata,
        "stringData": {"tls.crt": certificate, "tls.key": key, "users": format!("{user}:{{PLAIN}}{password}\n")},
    });
    let login = json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "policies-git", "namespace": SYSTEM, "annotations": {"sekuire.ai/hosts": address}},
        "stringData": {"username": user, "password": password, "ca.crt": authority},
    });
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "git", "namespace": GIT, "labels": {"app": "git"}},
        "spec": {
            "containers": [{
                "name": "git", "image": images::GIT, "imagePullPolicy": "IfNotPresent",
                "readinessProbe": {"tcpSocket": {"port": 8443}, "periodSeconds": 1},
                "volumeMounts": [{"name": "files", "mountPath": "/etc/git-server"}, {"name": "tmp", "mountPath": "/tmp"}],
            }],
            "volumes": [{"name": "files", "secret": {"secretName": "git"}}, {"name": "tmp", "emptyDir": {}}],
            "terminationGracePeriodSeconds": 0,
        },
    });
    // a namespace gets its ServiceAccount a moment later
    until("the pod of the Git server", async || {
        let made = site
            .kubectl_with(
                "apply --filename -",
                &json!({"apiVersion": "v1", "kind": "List", "items": [files, login, pod]}).to_string(),
            )
            .await;
        if made.succeeded() { Ok(()) } else { Err(made.to_string()) }
    })
    .await;
    site.kubectl(&format!("wait pod/git --namespace {GIT} --for=condition=Ready --timeout 50s")).await.ok();
    // pushed by the way that works on any cluster; what is under test fetches
    let push = format!("ext::kubectl exec --stdin --namespace {GIT} git -- git receive-pack /tmp/policies.git");
    site.repo.git(["config", "protocol.ext.allow", "always"]).await;
    site.repo.git(["remote", "set-url", "--push", "origin", &push]).await;
    format!("https://{address}/policies.git")
}

/// A private authority, and chain and key of a server at this address, PEM.
fn certificate(address: &str) -> (String, String, String) {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "sekuire-e2e");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("sign");
    let mut params = CertificateParams::new(vec![address.to_owned()]).expect("an address");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, &authority).expect("sign");
    (authority.pem(), certificate.pem(), key.serialize_pem())
}

async fn enforced(site: &Site, git: &str) {
    let repository = json!({
        "apiVersion": "sekuire.ai/v1alpha1", "kind": "PolicyRepository", "metadata": {"name": "policies"},
        "spec": {"url": git, "interval": "1s", "secretRef": {"name": "policies-git"}, "workspaces": ["ws_payments"]},
    });
    push(site, "1.0", &["ledger_read"]).await;
    site.apply(&[site.signer.manifest("platform", &["ws_payments"]), repository]).await;
    version(site, "1.0").await;
}

/// Signs and pushes a version that allows these tools. Returns the document.
pub(crate) async fn push(site: &Site, version: &str, allowed: &[&str]) -> String {
    let content = json!({"agent": {"capabilities": {"denied_tools": ["shell_exec"], "allowed_tools": allowed}}});
    let document = site.signer.active("ws_payments", version, content);
    site.repo.commit_files("Publish", [("policies/payments.json", &document)]).await;
    document
}

/// Waits until this version is enforced.
pub(crate) async fn version(site: &Site, version: &str) {
    until(&format!("version {version} is enforced"), async || {
        let get = "get wsp ws-payments --output \
                   jsonpath={.spec.document.version}/{.status.conditions[?(@.type=='Enforced')].status}";
        let found = site.kubectl(get).await;
        if found.stdout == format!("{version}/True") { Ok(()) } else { Err(found.to_string()) }
    })
    .await;
}

async fn helm_test(site: &Site) {
    site.helm(&format!("test {RELEASE} --namespace {SYSTEM} --timeout 55s")).await.ok();
}

async fn verdicts(site: &Site) {
    site.agents().create(&PostParams::default(), &agent("reconciler", "ledger_read")).await.expect("it complies");
    let refused = site.try_tool("shell_exec").await.expect_err("it does not comply");
    for part in ["policy_ws_payments version 1.0", "tool.blocked", "shell_exec"] {
        assert!(refused.contains(part), "expected `{part}` in: {refused}");
    }
}

async fn metrics(site: &Site) {
    for pod in site.replicas().await {
        let get = format!("get --raw /api/v1/namespaces/{SYSTEM}/pods/{pod}:8080/proxy/metrics");
        let metrics = site.kubectl(&get).await.ok();
        assert!(metrics.lines().any(|line| line.starts_with("sekuire_")), "no metric of ours:\n{metrics}");
        let parts: Vec<&str> = metrics.lines().filter_map(|line| line.strip_prefix("sekuire_git_sandbox")).collect();
        println!("  {pod}: Git processes are kept from {}", parts.join(", "));
        for part in ["files", "network", "system_calls"] {
            assert!(parts.iter().any(|line| line.contains(part)), "nothing is said of {part}: {parts:?}");
        }
        // seccomp is in every kernel that a cluster runs on; Landlock may not be
        assert!(parts.contains(&r#"{part="system_calls"} 1"#), "{parts:?}");
    }
}

async fn without_controller(site: &Site) {
    site.kubectl(&format!("create namespace {NAMESPACE}-old")).await.ok();
    site.kubectl(&format!("label namespace {NAMESPACE}-old sekuire.ai/workspace=ws_payments")).await.ok();
    let mut old = agent("old", "ledger_read");
    old.metadata.namespace = None;
    let there: kube::Api<sekuire_policy::api::Agent> =
        kube::Api::namespaced(site.client.clone(), &format!("{NAMESPACE}-old"));
    there.create(&PostParams::default(), &old).await.expect("it complies");

    site.kubectl(&format!("scale deployment/{NAME} --namespace {SYSTEM} --replicas 0")).await.ok();
    site.kubectl(&format!("wait pod --namespace {SYSTEM} --selector {REPLICAS} --for=delete --timeout 55s")).await.ok();
    for tool in ["ledger_read", "shell_exec"] {
        let refused = site.try_tool(tool).await.expect_err("nobody is there to say yes");
        assert!(refused.contains("failed calling webhook"), "{refused}");
    }
    // a spec that is changed is judged, too
    let change = r#"{"spec":{"tools":[{"name":"shell_exec"}]}}"#;
    site.kubectl(&format!("patch skagent reconciler --namespace {NAMESPACE} --type merge --patch {change}"))
        .await
        .refused();

    site.kubectl(&format!("label skagent reconciler --namespace {NAMESPACE} seen=yes")).await.ok();
    let finalizer = |list: &str| {
        format!(
            "patch skagent old --namespace {NAMESPACE}-old --type merge --patch {{\"metadata\":{{\"finalizers\":{list}}}}}"
        )
    };
    site.kubectl(&finalizer(r#"["example.com/hold"]"#)).await.ok();
    site.kubectl(&finalizer("[]")).await.ok();
    site.kubectl(&format!("create configmap anything --namespace {NAMESPACE}")).await.ok();
    site.kubectl(&format!("run anything --namespace {NAMESPACE} --image {} --restart Never", images::GIT)).await.ok();
    site.kubectl(&format!("delete namespace {NAMESPACE}-old --timeout 50s")).await.ok();

    break_glass(site, true).await;
    until("the API server passes over the webhook", async || site.try_tool("shell_exec").await).await;

    site.kubectl(&format!("scale deployment/{NAME} --namespace {SYSTEM} --replicas 2")).await.ok();
    site.two_replicas().await;
    site.try_tool("shell_exec").await.expect("replicas that are alive obey break glass");
    break_glass(site, false).await;
    // kube-proxy hears of the new endpoints a moment later, and the leader of the annotation
    until("agents are refused again, by the policy", async || match site.try_tool("shell_exec").await {
        Err(refused) if refused.contains("tool.blocked") => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    until("the leader has put failurePolicy back", async || {
        let get = format!("get validatingwebhookconfiguration {NAME} --output jsonpath={{.webhooks[0].failurePolicy}}");
        let policy = site.kubectl(&get).await.ok();
        if policy == "Fail" { Ok(()) } else { Err(policy) }
    })
    .await;
    site.try_tool("ledger_read").await.expect("it complies");
}

/// Opens break glass as docs/break-glass.md does it with kubectl alone, or closes it.
async fn break_glass(site: &Site, open: bool) {
    if !open {
        site.kubectl(&format!("annotate validatingwebhookconfiguration {NAME} sekuire.ai/break-glass-")).await.ok();
        return;
    }
    let until = Timestamp::now() + SignedDuration::from_hours(1);
    let patch = json!({
        "metadata": {"annotations": {"sekuire.ai/break-glass": format!("{until:.0} e2e: no controller")}},
        "webhooks": [{"name": "agents.sekuire.ai", "failurePolicy": "Ignore"}],
    });
    let args = format!("patch validatingwebhookconfiguration {NAME} --patch-file /dev/stdin");
    site.kubectl_with(&args, &patch.to_string()).await.ok();
}

async fn uninstall(site: &Site) {
    site.helm(&format!("uninstall {RELEASE} --namespace {SYSTEM} --wait --timeout 55s")).await.ok();
    until("no replica is left", async || {
        let left = site.replicas().await;
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
    site.kubectl(&format!("wait pod --namespace {SYSTEM} --selector {REPLICAS} --for=delete --timeout 55s")).await.ok();
    let webhooks = site.kubectl("get validatingwebhookconfigurations --output name").await.ok();
    assert!(!webhooks.contains("sekuire"), "left behind: {webhooks}");
    site.kubectl("get crd workspacepolicies.sekuire.ai policyledgers.sekuire.ai").await.ok();
    let agents = site.agents();
    agents.create(&PostParams::default(), &agent("free", "shell_exec")).await.expect("nothing is enforced any more");
    agents.delete("free", &DeleteParams::default()).await.expect("it can go");
}

/// Removes what a run leaves in a cluster that is somebody's.
async fn clean(site: &Site) {
    // Each may be gone already.
    let _ = site.helm(&format!("uninstall {RELEASE} --namespace {SYSTEM} --ignore-not-found")).await;
    let _ = site.kubectl("delete prepo,skey,wsp,pled --all --ignore-not-found --timeout 20s").await;
    let namespaces =
        format!("delete namespace {GIT} {NAMESPACE} {NAMESPACE}-old {SYSTEM} --ignore-not-found --timeout 50s");
    let _ = site.kubectl(&namespaces).await;
}

/// What `kubectl get --output json` says.
pub(crate) async fn json_of(site: &Site, what: &str) -> Value {
    serde_json::from_str(&site.kubectl(&format!("get {what} --output json")).await.ok()).expect("kubectl prints JSON")
}
