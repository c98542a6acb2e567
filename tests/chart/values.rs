//! Values: documented, tried, and refused where they make no sense.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use super::helm::{CHART, EVERYTHING, NAME, find, helm, object, objects, render};
use crate::cluster::controller::sekuire;
use crate::cluster::skip::skip;

fn read(path: &str) -> Value {
    serde_yaml::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// The values by their paths. A map that is empty, or that only users fill, is one value.
fn leaves(value: &Value) -> BTreeMap<String, Value> {
    fn walk(path: &str, value: &Value, all: &mut BTreeMap<String, Value>) {
        match value.as_object().filter(|map| !map.is_empty()) {
            Some(map)
                if !["resources", "podSecurityContext", "securityContext"].contains(&path)
                    && !path.ends_with("abels") =>
            {
                let dot = if path.is_empty() { "" } else { "." };
                map.iter().for_each(|(key, value)| walk(&format!("{path}{dot}{key}"), value, all));
            }
            _ => drop(all.insert(path.to_owned(), value.clone())),
        }
    }
    let mut all = BTreeMap::new();
    walk("", value, &mut all);
    all
}

#[tokio::test]
async fn the_chart_is_clean_with_default_and_with_every_value() {
    let helm_program = match find() {
        Ok(program) => program,
        Err(why) => skip!(why),
    };
    for values in [&[][..], &["--values", EVERYTHING]] {
        let said = helm(&helm_program, &[&["lint", "--strict", CHART], values].concat()).await.ok();
        assert!(said.contains("1 chart(s) linted, 0 chart(s) failed") && !said.contains("[WARNING]"), "{said}");
        render(&helm_program, values).await.ok();
    }
}

#[test]
fn every_value_is_tried_with_another_than_its_default() {
    let (defaults, tried) = (leaves(&read(&format!("{CHART}/values.yaml"))), read(EVERYTHING));
    // on by default, and only of interest where they are on; the Secret excludes cert-manager
    let same = [
        "crds.install",
        "metrics.enabled",
        "labelPolicy.enabled",
        "writerPolicy.enabled",
        "accountPolicy.enabled",
        "podDisruptionBudget.enabled",
        "networkPolicy.enabled",
        "rbac.aggregate",
    ];
    for (path, default) in defaults {
        let value = tried.pointer(&format!("/{}", path.replace('.', "/")));
        match value {
            None => assert_eq!(path, "tls.secretName"),
            Some(value) => assert_eq!(*value == default, same.contains(&path.as_str()), "{path}: {value}"),
        }
    }
}

#[test]
fn the_readme_of_the_chart_has_every_value_with_its_default_and_no_other() {
    let readme = fs::read_to_string(format!("{CHART}/README.md")).unwrap();
    let rows = readme.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | `"));
    let told: BTreeMap<String, Value> = rows
        .map(|(path, rest)| (path.to_owned(), serde_yaml::from_str(rest.split_once("` |").unwrap().0).unwrap()))
        .collect();
    assert_eq!(told, leaves(&read(&format!("{CHART}/values.yaml"))));
}

/// What stands above each value in `values.yaml`, by its path.
fn comments() -> BTreeMap<String, String> {
    let text = fs::read_to_string(format!("{CHART}/values.yaml")).unwrap();
    let (mut path, mut comment, mut all) = (Vec::new(), Vec::new(), BTreeMap::new());
    for line in text.lines() {
        let trimmed = line.trim_start();
        if let Some(words) = trimmed.strip_prefix('#') {
            comment.push(words.trim());
            continue;
        }
        if let Some((name, _)) = trimmed.split_once(':').filter(|(name, _)| name.chars().all(char::is_alphanumeric)) {
            path.truncate((line.len() - trimmed.len()) / 2);
            path.push(name);
            all.insert(path.join("."), comment.join(" "));
        }
        comment.clear();
    }
    all
}

#[test]
fn the_readme_of_the_chart_says_of_every_value_what_stands_above_it() {
    let (readme, comments) = (fs::read_to_string(format!("{CHART}/README.md")).unwrap(), comments());
    let mut rows = 0;
    for row in readme.lines().filter_map(|line| line.strip_prefix("| `")) {
        let (path, rest) = row.split_once("` | `").unwrap();
        let words = rest.split_once("` | ").unwrap().1.trim_end_matches(" |");
        assert_eq!(Some(words), comments.get(path).map(String::as_str), "{path}");
        rows += 1;
    }
    assert_eq!(rows, leaves(&read(&format!("{CHART}/values.yaml"))).len());
}

/// Values that make no sense, and what has to be named when they are refused.
fn senseless() -> Vec<(Value, &'static str)> {
    vec![
        (json!({"replicas": 0}), "/replicas"),
        (json!({"replicas": "two"}), "/replicas"),
        (json!({"replica": 2}), "'replica' not allowed"),
        (json!({"image": {"tag": "a b"}}), "/image/tag"),
        (json!({"image": {"digest": "sha256:abc"}}), "/image/digest"),
        (json!({"image": {"pullPolicy": "Sometimes"}}), "/image/pullPolicy"),
        (json!({"image": {"repository": ""}}), "/image/repository"),
        (json!({"image": {"repository": "registry.example.com/sekuire:1"}}), "/image/repository"),
        (json!({"imagePullSecrets": ["registry"]}), "/imagePullSecrets/0"),
        (json!({"fullnameOverride": "x".repeat(60)}), "/fullnameOverride"),
        (json!({"commonLabels": {"a": "not a label!"}}), "/commonLabels/a"),
        (json!({"crds": {"instal": true}}), "'instal' not allowed"),
        (json!({"secretNames": ["Git_Login"]}), "/secretNames/0"),
        (json!({"secretNames": ["a", "a"]}), "/secretNames"),
        (json!({"log": {"filter": ""}}), "/log/filter"),
        (json!({"log": {"format": "xml"}}), "/log/format"),
        (json!({"shutdownDelaySeconds": -1}), "/shutdownDelaySeconds"),
        (json!({"tls": {"secretName": "own", "certManager": {"enabled": true}}}), "/tls/secretName"),
        (json!({"tls": {"certManager": {"issuerRef": {"name": "a"}}}}), "/tls/certManager/issuerRef"),
        (json!({"tls": {"certManager": {"duration": "90 days"}}}), "/tls/certManager/duration"),
        (json!({"webhook": {"listenAddress": "127.0.0.1"}}), "/webhook/listenAddress"),
        (json!({"api": {"port": 70000}}), "/api/port"),
        (json!({"api": {"listenAddress": "[::]"}}), "/api/listenAddress"),
        (json!({"receiver": {"listenAddress": ""}}), "/receiver/listenAddress"),
        (json!({"receiver": {"service": {"ipFamilyPolicy": "DualStack"}}}), "/receiver/service/ipFamilyPolicy"),
        (json!({"service": {"ipFamilies": ["IPv4", "IPv4"]}}), "/service/ipFamilies"),
        (json!({"service": {"ipFamilies": ["ipv6"]}}), "/service/ipFamilies/0"),
        (json!({"metrics": {"listenAddress": "::1"}}), "/metrics/listenAddress"),
        (json!({"receiver": {"port": 9443}}), "/receiver/port"),
        (
            json!({"metrics": {"enabled": false, "prometheusRule": {"enabled": true}}}),
            "/metrics/prometheusRule/enabled",
        ),
        (json!({"metrics": {"serviceMonitor": {"interval": "often"}}}), "/metrics/serviceMonitor/interval"),
        (json!({"tracing": {"otlpEndpoint": "collector:4318"}}), "/tracing/otlpEndpoint"),
        (json!({"labelPolicy": {"groups": []}}), "/labelPolicy/groups"),
        (json!({"labelPolicy": {"groups": ["system:authenticated"]}}), "/labelPolicy/groups/0"),
        (json!({"writerPolicy": {"groups": ["a\nb"]}}), "/writerPolicy/groups/0"),
        (
            json!({"labelPolicy": {"rules": [{"groups": ["system:authenticated"], "workspaces": ["*"], "namespaces": ["a"]}]}}),
            "/labelPolicy/rules/0/workspaces/0",
        ),
        (
            json!({"labelPolicy": {"rules": [{"groups": ["a"], "workspaces": ["a*b"], "namespaces": ["a"]}]}}),
            "/labelPolicy/rules/0/workspaces/0",
        ),
    ]
}

/// The same of pods, networks and what is handed through.
fn senseless_of_pods() -> Vec<(Value, &'static str)> {
    vec![
        (json!({"resources": {"limits": {"memory": "much"}}}), "/resources/limits/memory"),
        (json!({"dataSizeLimit": "0"}), "/dataSizeLimit"),
        (json!({"dataSizeLimit": "1k"}), "/dataSizeLimit"),
        (json!({"podDisruptionBudget": {"maxUnavailable": 0}}), "/podDisruptionBudget/maxUnavailable"),
        (json!({"podSecurityContext": {"runAsUser": 0}}), "/podSecurityContext/runAsUser"),
        (json!({"securityContext": {"privileged": true}}), "/securityContext/privileged"),
        (json!({"networkPolicy": {"gitPorts": []}}), "/networkPolicy/gitPorts"),
        (json!({"networkPolicy": {"gitCidrs": ["github.com"]}}), "/networkPolicy/gitCidrs/0"),
        (json!({"networkPolicy": {"apiServerCidrs": ["10.0.0.256/24"]}}), "/networkPolicy/apiServerCidrs/0"),
        (json!({"networkPolicy": {"webhookCidrs": ["10.0.0.1"]}}), "/networkPolicy/webhookCidrs/0"),
        (json!({"networkPolicy": {"apiFrom": ["10.0.0.0/8"]}}), "/networkPolicy/apiFrom/0"),
        (json!({"networkPolicy": {"metricsFrom": [{"namespace": "monitoring"}]}}), "'namespace' not allowed"),
        (json!({"extraArgs": ["--data-dir=/elsewhere"]}), "/extraArgs/0"),
        (json!({"extraArgs": ["--identity=everybody"]}), "/extraArgs/0"),
        (json!({"extraEnv": [{"value": "nameless"}]}), "/extraEnv/0"),
        (json!({"test": {"admitted": {"model": {}}}}), "/test/namespace"),
        (json!({"test": {"namespace": "a", "refused": {"model": {}}}}), "/test/rule"),
    ]
}

/// Values that a schema cannot refuse, since each makes sense alone.
fn senseless_together() -> Vec<(Value, &'static str)> {
    vec![
        (json!({"receiver": {"enabled": true, "port": 8080}}), "metrics.port and receiver.port are both 8080"),
        (
            json!({"service": {"ipFamilies": ["IPv6", "IPv4"], "ipFamilyPolicy": "SingleStack"}}),
            "service.ipFamilies has two families, which take PreferDualStack or RequireDualStack as service.ipFamilyPolicy",
        ),
        (
            json!({"receiver": {"service": {"ipFamilies": ["IPv6", "IPv4"]}}}),
            "receiver.service.ipFamilies has two families",
        ),
        (json!({"test": {"namespace": "agents"}}), "test.namespace has nothing to try"),
        (
            json!({"tls": {"certManager": {"enabled": true, "duration": "24h", "renewBefore": "23h60m"}}}),
            "tls.certManager.renewBefore, 23h60m, has to be shorter than its duration, 24h",
        ),
        (
            json!({
                "tls": {"certManager": {"enabled": true, "duration": "720h", "renewBefore": "72h"}},
                "metrics": {"prometheusRule": {"enabled": true}},
            }),
            "tls.certManager.renewBefore, 72h, is when the alert SekuireCertificateExpiresSoon is raised already",
        ),
        (json!({"test": {"namespace": "sekuire-system"}}), "test.namespace is the namespace of the release"),
        (
            json!({"tls": {"certManager": {"enabled": true, "duration": "59m", "renewBefore": "10m"}}}),
            "tls.certManager.duration, 59m, and renewBefore, 10m: cert-manager takes an hour or more",
        ),
        (
            json!({"podLabels": {"a": "b"}, "commonLabels": {"a": "b"}}),
            "podLabels and commonLabels both have the label a",
        ),
        (
            json!({"metrics": {"dashboard": {"labels": {"a": "b"}}}, "commonLabels": {"a": "b"}}),
            "metrics.dashboard.labels and commonLabels both have the label a",
        ),
        (json!({"extraEnv": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]}), "extraEnv has A twice"),
        (
            json!({"topologySpreadConstraints": [
                {"maxSkew": 1, "topologyKey": "a", "whenUnsatisfiable": "DoNotSchedule"},
                {"maxSkew": 2, "topologyKey": "a", "whenUnsatisfiable": "DoNotSchedule"},
            ]}),
            "topologySpreadConstraints has a with DoNotSchedule twice",
        ),
        (
            json!({"resources": {"requests": {"memory": "1Gi"}, "limits": {"memory": "1000M"}}}),
            "resources.requests.memory, 1Gi, is more than resources.limits.memory, 1000M",
        ),
        (
            json!({"resources": {"requests": {"cpu": "1500m"}, "limits": {"cpu": 1.2}}}),
            "resources.requests.cpu, 1500m, is more than resources.limits.cpu, 1.2",
        ),
        (json!({"dataSizeLimit": "1M"}), "dataSizeLimit, 1M, has no room for one fetch: give 256Mi or more"),
    ]
}

#[tokio::test]
async fn values_that_make_no_sense_are_refused_by_their_name() {
    let helm_program = match find() {
        Ok(program) => program,
        Err(why) => skip!(why),
    };
    let folder = tempfile::tempdir().unwrap();
    for (values, named) in senseless().into_iter().chain(senseless_of_pods()).chain(senseless_together()) {
        let file = folder.path().join("values.json");
        fs::write(&file, values.to_string()).unwrap();
        let said = render(&helm_program, &["--values", file.to_str().unwrap()]).await.refused();
        assert!(said.contains(named), "{values}: expected {named} in\n{said}");
    }
}

#[tokio::test]
async fn two_renders_are_equal_and_nothing_in_a_template_is_made_up_or_asked_of_the_cluster() {
    let helm_program = match find() {
        Ok(program) => program,
        Err(why) => skip!(why),
    };
    let one = render(&helm_program, &["--values", EVERYTHING]).await.ok();
    assert_eq!(one, render(&helm_program, &["--values", EVERYTHING]).await.ok());
    assert!(!one.contains("caBundle:"), "it is the controller's");
    for file in fs::read_dir(format!("{CHART}/templates"))
        .unwrap()
        .flatten()
        .filter(|file| file.path().extension().is_some_and(|end| end == "yaml" || end == "tpl"))
    {
        let text = fs::read_to_string(file.path()).unwrap();
        for word in [
            "genCA",
            "genSelfSigned",
            "genSigned",
            "genPrivateKey",
            "lookup ",
            "rand",
            "uuidv4",
            "now ",
            "Capabilities",
        ] {
            assert!(!text.contains(word), "{word} in {}", file.path().display());
        }
    }
}

#[tokio::test]
async fn another_log_filter_restarts_no_pod_unless_it_is_to_be_read_at_the_start_alone() {
    let helm_program = match find() {
        Ok(program) => program,
        Err(why) => skip!(why),
    };
    let pods = async |sets: &str| {
        let rendered = render(&helm_program, &["--set", sets]).await.ok();
        object(&rendered, "Deployment", NAME)["spec"]["template"].clone()
    };
    assert_eq!(pods("log.filter=debug").await, pods("log.filter=warn").await);
    let without = async |filter: &str| pods(&format!("log.reload=false,log.filter={filter}")).await;
    assert_ne!(without("debug").await, without("warn").await);
}

#[tokio::test]
async fn no_hook_is_needed_to_install_it() {
    let helm_program = match find() {
        Ok(program) => program,
        Err(why) => skip!(why),
    };
    let all = objects(&render(&helm_program, &["--values", EVERYTHING]).await.ok());
    let hooks = all.iter().filter_map(|object| object["metadata"]["annotations"]["helm.sh/hook"].as_str());
    assert!(hooks.map(|hook| assert_eq!(hook, "test")).count() >= 9);
}

#[tokio::test]
async fn the_kinds_are_those_of_the_code_and_are_kept() {
    let helm_program = match find() {
        Ok(program) => program,
        Err(why) => skip!(why),
    };
    let rendered = render(&helm_program, &[]).await.ok();
    let files = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/crds")).unwrap().flatten();
    let mut count = 0;
    for file in files {
        let ours = read(file.path().to_str().unwrap());
        let name = ours["metadata"]["name"].as_str().unwrap();
        let theirs = object(&rendered, "CustomResourceDefinition", name);
        assert_eq!(theirs["spec"], ours["spec"], "{name}");
        assert_eq!(theirs["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");
        count += 1;
    }
    let kinds = |yaml: &str| objects(yaml).iter().filter(|object| object["kind"] == "CustomResourceDefinition").count();
    assert_eq!(kinds(&rendered), count);
    assert_eq!(kinds(&render(&helm_program, &["--set", "crds.install=false"]).await.ok()), 0);
    assert!(!render(&helm_program, &["--set", "crds.keep=false"]).await.ok().contains("resource-policy"));
}

#[tokio::test]
async fn the_program_knows_every_argument_of_the_deployment() {
    let helm_program = match find() {
        Ok(program) => program,
        Err(why) => skip!(why),
    };
    for (values, name) in [(&[][..], NAME), (&["--values", EVERYTHING], "agents-policy")] {
        let deployment = object(&render(&helm_program, values).await.ok(), "Deployment", name);
        let container = &deployment["spec"]["template"]["spec"]["containers"][0];
        let args = container["args"].as_array().unwrap().iter().map(|arg| arg.as_str().unwrap());
        // all before --help is read, and refused if it is not known
        let said = Command::new(sekuire()).args(args).arg("--help").output().unwrap();
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    }
}

#[tokio::test]
async fn the_notes_say_loudly_what_is_weak() {
    let helm_program = match find() {
        Ok(program) => program,
        Err(why) => skip!(why),
    };
    let notes = async |sets: &[&str]| {
        let args = ["install", "sekuire", CHART, "--namespace", "s", "--dry-run=client"];
        let said = helm(&helm_program, &[&args[..], sets].concat()).await.ok();
        said.split_once("NOTES:\n").unwrap().1.to_owned()
    };
    let usual = notes(&[]).await;
    assert!(usual.contains("kubectl label namespace payments sekuire.ai/workspace=ws_payments"), "{usual}");
    assert!(usual.contains("helm test sekuire -n s") && usual.contains("secretNames is empty"), "{usual}");
    assert!(!usual.contains("there is one replica"), "{usual}");
    let weak = notes(&["--set", "replicas=1,labelPolicy.enabled=false,secretNames={git}"]).await;
    assert!(weak.contains("WARNING: there is one replica"), "{weak}");
    assert!(weak.contains("WARNING: labels of namespaces are not protected"), "{weak}");
    assert!(!weak.contains("secretNames is empty"), "{weak}");
}

#[tokio::test]
async fn what_is_applied_first_is_as_the_page_on_installing_says() {
    let helm_program = match find() {
        Ok(program) => program,
        Err(why) => skip!(why),
    };
    let all = objects(&render(&helm_program, &["--skip-tests"]).await.ok());
    let order: Vec<&str> = all.iter().map(|object| object["kind"].as_str().unwrap()).collect();
    let first =
        |kind: &str| order.iter().position(|found| *found == kind).unwrap_or_else(|| panic!("{kind} in {order:?}"));
    let told = [
        "CustomResourceDefinition",
        "Service",
        "Deployment",
        "ValidatingWebhookConfiguration",
        "ValidatingAdmissionPolicy",
    ];
    assert!(told.windows(2).all(|pair| first(pair[0]) < first(pair[1])), "{order:?}");
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/install.md")).unwrap();
    assert!(page.contains("then the webhook configuration, and the\nadmission policies last"), "told");
}
