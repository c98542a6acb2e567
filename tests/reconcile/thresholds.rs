//! Workspaces that ask for the signatures of several keys, and keys that near their end.

use std::path::Path;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use sekuire_policy::api::{SigningThreshold, conditions, object_name};
use serde_json::{Value, json};

use super::tenant::{Tenant, eventually};
use crate::cluster::{Cluster, ControllerOptions, Signer};
use crate::resilience::support::logged;

impl Tenant {
    /// Asks for so many signatures in all workspaces of the team.
    async fn ask_for(&self, signatures: u32) {
        let threshold = json!({"apiVersion": "sekuire.ai/v1alpha1", "kind": "SigningThreshold",
            "metadata": {"name": self.name}, "spec": {"workspaces": [format!("{}_*", self.name)], "signatures": signatures}});
        self.apply(&threshold).await;
    }

    /// Another key of the team, trusted under the object name `NAME-suffix`.
    pub(super) async fn colleague(&self, number: u16, suffix: &str) -> Signer {
        let signer = Signer::new(number);
        self.apply(&signer.manifest(&self.object(suffix), &[&format!("{}_*", self.name)])).await;
        signer
    }

    fn object(&self, suffix: &str) -> String {
        format!("{}-{suffix}", self.name)
    }

    async fn patch(&self, key: &str, spec: Value) {
        self.keys().patch(key, &PatchParams::default(), &Patch::Merge(&json!({"spec": spec}))).await.unwrap();
    }
}

#[tokio::test]
async fn two_people_have_to_sign_and_what_only_one_signs_changes_nothing() {
    let team = Tenant::new().await;
    let (second, third) = (team.colleague(210, "second").await, team.colleague(211, "third").await);
    let one = team.active("a", "1", "shell_exec");
    team.commit(&[("a.json", &one)]).await;
    team.watch_repository(json!({})).await;
    team.enforced("a", "1").await;
    let namespace = team.namespace("a").await;
    team.admits(&namespace, "calculator").await;

    // a higher threshold withdraws what does not meet it
    team.ask_for(2).await;
    let message = team.refuses(&namespace, "calculator", "policy.missing").await;
    assert!(message.contains("ThresholdNotMet") && message.contains("1 of the 2 signatures"), "{message}");
    team.condition("a", "Enforced", "False", "ThresholdNotMet").await;
    team.commit(&[("a.json", &second.cosign(&one))]).await;
    team.admits(&namespace, "calculator").await;
    let object = team.ready("a", "True", "Succeeded").await;
    assert_eq!(object.spec.document["version"], "1", "the same version");

    // one signature of two: refused, and what was enforced stays
    let two = team.active("a", "2", "calculator");
    let commit = team.commit(&[("a.json", &two)]).await;
    let status = team.synced(&commit).await;
    assert_eq!(status.refused[0].reason, "ThresholdNotMet");
    let object = team.ready("a", "False", "ThresholdNotMet").await;
    assert_eq!(object.spec.document["version"], "1");
    team.condition("a", "Enforced", "True", "Succeeded").await;
    assert!(team.try_agent(&namespace, "calculator").await.is_ok());
    let stranger = Signer::new(212).cosign(&two);
    let commit = team.commit(&[("a.json", &stranger)]).await;
    let refused = &team.synced(&commit).await.refused[0];
    assert!(refused.message.contains("UnknownSigningKey"), "{}", refused.message);
    team.commit(&[("a.json", &second.cosign(&two))]).await;
    team.enforced("a", "2").await;
    team.refuses(&namespace, "calculator", "tool.blocked").await;
    team.admits(&namespace, "shell_exec").await;

    // a co-signer that is revoked withdraws at once, and not when the repository is looked at
    team.watch_repository(json!({"interval": "1h"})).await;
    let start = Instant::now();
    team.patch(&team.object("second"), json!({"revoked": {"reason": "left"}})).await;
    let message = team.refuses(&namespace, "shell_exec", "policy.missing").await;
    println!("withdrawn {:?} after a co-signer was revoked", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert!(message.contains("KeyRevoked"), "{message}");
    let object = team.condition("a", "Enforced", "False", "ThresholdNotMet").await;
    assert_eq!(object.spec.document["version"], "2", "and nothing older comes back");
    team.watch_repository(json!({})).await;
    team.commit(&[("a.json", &third.cosign(&second.cosign(&two)))]).await;
    team.admits(&namespace, "shell_exec").await;

    // without a threshold the document's own signature is enough
    team.commit(&[("a.json", &team.active("a", "3", "x"))]).await;
    team.ready("a", "False", "ThresholdNotMet").await;
    let thresholds: Api<SigningThreshold> = Api::all(team.client.clone());
    thresholds.delete(&team.name, &DeleteParams::default()).await.unwrap();
    team.enforced("a", "3").await;
}

#[tokio::test]
async fn a_co_signers_key_begins_and_ends_by_the_clock_alone() {
    let soon = |seconds| (Timestamp::now() + SignedDuration::from_secs(seconds)).to_string();
    let team = Tenant::new().await;
    team.ask_for(2).await;
    let second = team.colleague(213, "second").await;
    team.patch(&team.object("second"), json!({"notBefore": soon(3)})).await;
    team.commit(&[("a.json", &second.cosign(&team.active("a", "1", "x")))]).await;
    team.watch_repository(json!({"interval": "1h"})).await;
    team.enforced("a", "1").await;
    let namespace = team.namespace("a").await;
    team.admits(&namespace, "calculator").await;
    team.patch(&team.object("second"), json!({"notAfter": soon(3)})).await;
    team.admits(&namespace, "calculator").await;
    team.refuses(&namespace, "calculator", "policy.missing").await;
    team.condition("a", "Enforced", "False", "ThresholdNotMet").await;
    team.patch(&team.object("second"), json!({"notAfter": null})).await;
    team.admits(&namespace, "calculator").await;
}

#[tokio::test]
async fn a_key_that_ends_within_thirty_days_is_told_of_once_and_so_is_what_it_signed() {
    let team = Tenant::with_files(async |team: &Tenant| {
        team.commit(&[("a.json", &team.active("a", "1", "x"))]).await;
    })
    .await;
    team.enforced("a", "1").await;
    let expiring = async || {
        let key = team.keys().get(&team.name).await.unwrap().status.unwrap_or_default().conditions;
        let policy = team.policy("a").await.status.unwrap_or_default().conditions;
        [key, policy].map(|all| {
            let is = |type_: &str| conditions::find(&all, type_).is_some_and(|condition| condition.status == "True");
            (is("Expiring"), is("Ready"))
        })
    };
    let until = async |wanted: bool| {
        eventually(&format!("Expiring: {wanted}"), async || match expiring().await {
            found if found == [(wanted, true); 2] => Ok(()),
            found => Err(format!("{found:?}")),
        })
        .await;
    };
    until(false).await;
    let in_days = |days: i64| (Timestamp::now() + SignedDuration::from_hours(24 * days)).to_string();
    team.patch(&team.name, json!({"notAfter": in_days(10)})).await;
    until(true).await;
    let events: Api<Event> = Api::all(team.client.clone());
    let told = async |kind: &str, name: &str| {
        let all = events.list(&ListParams::default()).await.unwrap().items;
        let about = |event: &&Event| {
            let regarding = event.regarding.clone().unwrap_or_default();
            event.reason.as_deref() == Some("Expiring")
                && regarding.kind.as_deref() == Some(kind)
                && regarding.name.as_deref() == Some(name)
        };
        let found: Vec<_> = all.iter().filter(about).collect();
        assert!(found.iter().all(|event| event.type_.as_deref() == Some("Warning")));
        found.len()
    };
    let policy = object_name(&team.workspace("a"));
    for (kind, name) in [("SigningKey", &team.name), ("WorkspacePolicy", &policy)] {
        eventually(&format!("an Event of {kind}"), async || match told(kind, name).await {
            1 => Ok(()),
            number => Err(format!("{number} Events")),
        })
        .await;
    }
    team.patch(&team.name, json!({"notAfter": in_days(40)})).await;
    until(false).await;
}

#[tokio::test]
async fn without_the_kind_a_replica_is_not_ready_and_says_what_to_apply() {
    let cluster = Cluster::start().await;
    let crds = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds");
    let missing = "sekuire.ai_signingthresholds.yaml";
    for file in std::fs::read_dir(&crds).unwrap().flatten().filter(|file| file.file_name() != missing) {
        let path = file.path();
        cluster.kubectl(["apply", "--server-side", "-f", path.to_str().unwrap()]).await.ok();
    }
    let mut controller = ControllerOptions::new("old").spawn(&cluster).await;
    logged(&controller, "signingthresholds").await;
    logged(&controller, "sekuire crds | kubectl apply --server-side -f -").await;
    tokio::time::sleep(Duration::from_secs(2)).await; // time for a replica that runs without
    assert!(controller.get("/readyz").await.is_err());
    cluster.kubectl(["apply", "--server-side", "-f", crds.join(missing).to_str().unwrap()]).await.ok();
    controller.ready().await;
}
