//! What a real API server says of the chart.

use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use kube::Api;
use sekuire_policy::admission::registration::CONFIGURATION_NAME;
use serde_json::{Value, json};

use super::helm::{EVERYTHING, NAME, find, object, objects, render};
use crate::cluster::controller::NAMESPACE;
use crate::cluster::skip::skip;
use crate::cluster::{Cluster, ControllerOptions, User};
use crate::resilience::support::until;

pub(super) const OTHERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/chart/other-kinds.yaml");

/// Makes a namespace with labels.
async fn namespace(cluster: &Cluster, name: &str, labels: Value) {
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
    cluster.apply(&namespace.to_string()).await.ok();
}

#[tokio::test]
async fn an_api_server_takes_the_chart_with_default_and_with_every_value_and_the_plain_manifests() {
    let program = match find() {
        Ok(program) => program,
        Err(why) => skip!(why),
    };
    let cluster = Cluster::start().await;
    cluster.kubectl(["apply", "-f", OTHERS]).await.ok();
    cluster.kubectl(["wait", "--for=condition=Established", "--timeout=60s", "-f", OTHERS]).await.ok();
    namespace(&cluster, NAMESPACE, json!({})).await;
    namespace(&cluster, "payments", json!({})).await;
    let own_secret = ["--set", "tls.secretName=own,receiver.enabled=true"];
    let plain = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/charts/install.yaml")).unwrap();
    let mut all = vec![plain];
    for values in [&[][..], &["--values", EVERYTHING], &own_secret] {
        all.push(render(&program, values).await.ok());
    }
    for manifests in all {
        let args = ["apply", "--dry-run=server", "--validate=strict", "-f", "-"];
        let applied = cluster.kubectl_as(User::ADMIN, &args, &manifests).await;
        assert!(!applied.stderr.contains("Warning"), "{applied}");
        let lines = applied.ok();
        assert_eq!(lines.lines().count(), objects(&manifests).len(), "{lines}");
    }
    let bad = render(&program, &["--values", EVERYTHING]).await.ok().replace("renewBefore:", "renewBefor:");
    let args = ["apply", "--dry-run=server", "--validate=strict", "-f", "-"];
    let said = cluster.kubectl_as(User::ADMIN, &args, &bad).await.refused();
    assert!(said.contains("renewBefor"), "what is misspelt would be seen: {said}");
}

#[tokio::test]
async fn its_pods_are_what_restricted_allows() {
    let program = match find() {
        Ok(program) => program,
        Err(why) => skip!(why),
    };
    let cluster = Cluster::start().await;
    let labels = [("pod-security.kubernetes.io/enforce", "restricted")];
    let namespace = cluster.namespace_with("restricted", &labels).await;
    let mut pods = Vec::new();
    for (values, name) in [(&[][..], NAME), (&["--values", EVERYTHING], "agents-policy")] {
        let rendered = render(&program, values).await.ok();
        let template = object(&rendered, "Deployment", name)["spec"]["template"].clone();
        pods.push(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": template["spec"]}));
        pods.extend(objects(&rendered).into_iter().filter(|object| object["kind"] == "Pod"));
    }
    assert_eq!(pods.len(), 6, "two of the Deployment, one and three of helm test");
    let create = async |pod: &Value| {
        let args = ["create", "--dry-run=server", "-n", &namespace, "-f", "-"];
        cluster.kubectl_as(User::ADMIN, &args, &pod.to_string()).await
    };
    for pod in &mut pods {
        pod["metadata"].as_object_mut().unwrap().retain(|key, _| key == "name");
        // nobody has made the class; what it says is no matter of Pod Security
        pod["spec"].as_object_mut().unwrap().remove("priorityClassName");
        let created = create(pod).await;
        assert!(!created.stderr.contains("would violate"), "{created}");
        created.ok();
    }
    let pod = &mut pods[0];
    pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = true.into();
    let said = create(pod).await.refused();
    assert!(said.contains("violates PodSecurity") && said.contains("allowPrivilegeEscalation"), "{said}");
}

/// The runs of lines of a unified diff that are added or taken away.
fn differences(diff: &str) -> Vec<&str> {
    let (mut found, mut start, mut at) = (Vec::new(), None, 0);
    for line in diff.split_inclusive('\n') {
        let differs = line.starts_with(['+', '-']) && !line.starts_with("+++") && !line.starts_with("---");
        match (differs, start) {
            (true, None) => start = Some(at),
            (false, Some(from)) => {
                found.push(&diff[from..at]);
                start = None;
            }
            _ => {}
        }
        at += line.len();
    }
    found.extend(start.map(|from| &diff[from..]));
    found
}

#[tokio::test]
async fn nothing_drifts_while_the_controller_runs_and_the_webhook_configuration_is_as_it_would_make_it() {
    let program = match find() {
        Ok(program) => program,
        Err(why) => skip!(why),
    };
    let cluster = Cluster::start().await;
    namespace(&cluster, NAMESPACE, json!({})).await;
    let rendered = render(&program, &["--skip-tests"]).await.ok();
    let apply = async || {
        let args = ["apply", "--server-side", "--field-manager=helm", "-f", "-"];
        cluster.kubectl_as(User::ADMIN, &args, &rendered).await.ok();
    };
    apply().await;
    let api: Api<ValidatingWebhookConfiguration> = Api::all(cluster.client().await);
    let chart = object(&rendered, "ValidatingWebhookConfiguration", CONFIGURATION_NAME);
    let live = async || serde_json::to_value(api.get(CONFIGURATION_NAME).await.unwrap()).unwrap();
    assert_eq!(live().await["webhooks"], chart["webhooks"], "the API server adds nothing");

    let controller =
        ControllerOptions::new("a").flags(["--webhook-service=sekuire-policy-controller"]).start(&cluster).await;
    until("caBundle is filled in", async || {
        let bundle = live().await["webhooks"][0]["clientConfig"]["caBundle"].clone();
        if bundle.is_null() { Err("none yet") } else { Ok(()) }
    })
    .await;
    let mut webhooks = live().await["webhooks"].clone();
    webhooks[0]["clientConfig"].as_object_mut().unwrap().remove("caBundle");
    assert_eq!(webhooks, chart["webhooks"], "the controller changes nothing else");
    let log = controller.log();
    assert!(!log.contains("put back"), "{log}");

    let server_side = ["diff", "--server-side", "--field-manager=helm", "-f", "-"];
    for args in [&server_side[..], &["diff", "-f", "-"]] {
        let diff = cluster.kubectl_as(User::ADMIN, args, &rendered).await;
        // kubectl's own annotation of a client-side apply is what such a diff adds; nothing else may differ
        let differing: Vec<&str> = differences(&diff.stdout)
            .into_iter()
            .filter(|hunk| {
                let lines: Vec<&str> = hunk.lines().collect();
                !matches!(lines[..], [head, what, json]
                    if head == "+  annotations:" && what == "+    kubectl.kubernetes.io/last-applied-configuration: |"
                        && json.starts_with("+      {\"apiVersion\":"))
                    && !matches!(lines[..], [what, json]
                        if what == "+    kubectl.kubernetes.io/last-applied-configuration: |"
                            && json.starts_with("+      {\"apiVersion\":"))
            })
            .collect();
        assert!(differing.is_empty(), "{args:?}: {diff}");
    }
    let revisions = async || {
        let all = [
            "get",
            "clusterrole,deployment,service,validatingwebhookconfigurations,crd,role,rolebinding,networkpolicy,pdb",
            "-A",
            "-o",
        ];
        let path = r#"jsonpath={range .items[*]}{.kind}/{.metadata.name} {.metadata.resourceVersion}{"\n"}{end}"#;
        cluster.kubectl_as(User::ADMIN, &[&all[..], &[path]].concat(), "").await.ok()
    };
    let before = revisions().await;
    apply().await;
    assert_eq!(revisions().await, before, "the second time nothing is written");
}
