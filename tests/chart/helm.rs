//! Helm, and what it renders.

use std::path::{Path, PathBuf};

use serde::Deserialize as _;
use serde_json::Value;
use tokio::process::Command;

use crate::cluster::command::{Ran, run};
use crate::cluster::controller::NAMESPACE;

/// Where the chart is.
pub(super) const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/sekuire-policy-controller");
/// Every value, and none as it is by default.
pub(super) const EVERYTHING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/chart/everything.yaml");
/// The name of all objects by default.
pub(super) const NAME: &str = "sekuire-policy-controller";

/// The program that `SEKUIRE_HELM` names.
pub(super) fn find() -> Result<PathBuf, &'static str> {
    let path = std::env::var_os("SEKUIRE_HELM").filter(|path| !path.is_empty());
    path.map(PathBuf::from).ok_or("SEKUIRE_HELM is not set: run with SEKUIRE_HELM=$(tests/helm/build.sh)")
}

/// Runs Helm, which reads and keeps nothing of the person who runs the test.
pub(super) async fn helm(program: &Path, args: &[&str]) -> Ran {
    helm_at(program, Path::new("/dev/null"), args).await
}

/// The same in the cluster of a kubeconfig.
pub(super) async fn helm_at(program: &Path, kubeconfig: &Path, args: &[&str]) -> Ran {
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new(program);
    command.args(args).env("HELM_CONFIG_HOME", home.path()).env("HELM_CACHE_HOME", home.path());
    command.env("HELM_DATA_HOME", home.path()).env("KUBECONFIG", kubeconfig);
    run(command, b"").await
}

/// `helm template` of the release `sekuire`, with more arguments.
pub(super) async fn render(program: &Path, args: &[&str]) -> Ran {
    helm(program, &[&["template", "sekuire", CHART, "--namespace", NAMESPACE], args].concat()).await
}

/// The objects of a stream of YAML.
pub(super) fn objects(yaml: &str) -> Vec<Value> {
    let all = serde_yaml::Deserializer::from_str(yaml).map(|document| Value::deserialize(document).unwrap());
    all.filter(|object| !object.is_null()).collect()
}

/// The one object of this kind and name.
pub(super) fn object(yaml: &str, kind: &str, name: &str) -> Value {
    let found = objects(yaml).into_iter().filter(|object| object["kind"] == kind && object["metadata"]["name"] == name);
    let [object] =
        <[Value; 1]>::try_from(found.collect::<Vec<_>>()).unwrap_or_else(|all| panic!("{kind} {name}: {all:?}"));
    object
}
