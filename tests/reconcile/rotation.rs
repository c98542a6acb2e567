//! A key takes over from another one, as the documentation says.

use std::time::{Duration, Instant};

use http::StatusCode;
use kube::api::{Patch, PatchParams};
use sekuire_policy::api::conditions;
use serde_json::json;
use tokio::process::Command;

use super::read_api::{connect, read};
use super::tenant::{Tenant, eventually};
use crate::cluster::command::run;
use crate::cluster::controller::sekuire;
use crate::cluster::{Controller, ControllerOptions, Signer, User};

const AGAIN: [&str; 3] = ["a", "b", "c"];
const LEFT: [&str; 3] = ["d", "e", "f"];

#[tokio::test]
async fn a_rotation_loses_nothing_but_what_the_revoked_key_signed() {
    let team = Tenant::with_files(async |team: &Tenant| {
        let files: Vec<(String, String)> =
            AGAIN.iter().chain(&LEFT).map(|id| (format!("{id}.json"), team.active(id, "1", "shell_exec"))).collect();
        let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        team.commit(&files).await;
    })
    .await;
    let mut namespaces = Vec::new();
    for id in AGAIN.iter().chain(&LEFT) {
        team.enforced(id, "1").await;
        namespaces.push(team.namespace(id).await);
        team.admits(namespaces.last().unwrap(), "calculator").await;
    }
    let (again, left) = namespaces.split_at(AGAIN.len());

    // 1. the new key is trusted beside the old one
    let new = Signer::new(220);
    team.apply(&new.manifest(&format!("{}-new", team.name), &[&format!("{}_*", team.name)])).await;
    // 2. half of the files are signed again, and merged
    sign_again(&team, &new).await;
    team.repo.commit("Rotate the key").await;
    // 3. the policies name the new key, at the same version
    for id in AGAIN {
        eventually(&format!("{id} is signed with the new key"), async || {
            let object = team.policy(id).await;
            let status = object.status.unwrap_or_default().conditions;
            let enforced = conditions::find(&status, "Enforced").is_some_and(|condition| condition.status == "True");
            let is_new =
                object.spec.document["signing_key_id"] == new.key_id() && object.spec.document["version"] == "1";
            if is_new && enforced { Ok(()) } else { Err(object.spec.document["signing_key_id"].to_string()) }
        })
        .await;
    }
    for namespace in &namespaces {
        assert_eq!(team.try_agent(namespace, "calculator").await, Ok(()));
    }
    // 4. the old key is revoked, which counts without a look at the repository
    team.quiet().await;
    let mut followers = Vec::new();
    for identity in ["rotated-b", "rotated-c"] {
        followers.push(ControllerOptions::new(identity).api().start(team.cluster).await);
    }
    for follower in &followers {
        for id in AGAIN.iter().chain(&LEFT) {
            assert_eq!(read(&team, follower, &team.workspace(id)).await.status, StatusCode::OK);
        }
    }
    let start = Instant::now();
    let revoked = json!({"spec": {"revoked": {"reason": "rotated"}}});
    team.keys().patch(&team.name, &PatchParams::default(), &Patch::Merge(&revoked)).await.unwrap();
    let everywhere = futures::future::join_all(followers.iter().map(|follower| withdrawn_at(&team, follower, start)));
    tokio::join!(withdrawn_in_time(&team, again, left), everywhere);
    for id in LEFT {
        team.condition(id, "Enforced", "False", "KeyRevoked").await;
    }
    for id in AGAIN {
        team.ready(id, "True", "Succeeded").await;
    }
}

/// Runs `sekuire key rotate` on half of the files.
async fn sign_again(team: &Tenant, new: &Signer) {
    let pem = team.cluster.folder().join(format!("{}.pem", team.name));
    std::fs::write(&pem, new.private_pem()).unwrap();
    let mut rotate = Command::new(sekuire());
    rotate.args(["key", "rotate", "--from", team.signer.key_id(), "--key", pem.to_str().unwrap()]);
    rotate.env("KUBECONFIG", team.cluster.kubeconfig(User::ADMIN));
    rotate.args(AGAIN.map(|id| format!("policies/{id}.json"))).current_dir(team.repo.work());
    let said = run(rotate, b"").await.ok();
    assert_eq!(said.matches("signed again policies/").count(), AGAIN.len(), "{said}");
}

/// Watches until a replica serves nothing any more that the revoked key signed, and all else as before. What it serves is what it
/// admits agents by.
async fn withdrawn_at(team: &Tenant, replica: &Controller, start: Instant) {
    let mut connection = connect(team, &replica.api_url()).await;
    for id in LEFT {
        let path = format!("/api/v1/workspaces/{}/policy/active", team.workspace(id));
        while connection.get(&path).await.unwrap().status != StatusCode::NOT_FOUND {
            assert!(start.elapsed() < Duration::from_secs(2), "{id} at {}: {:?}", replica.identity(), start.elapsed());
        }
    }
    println!("withdrawn {:?} after the old key was revoked, at {}", start.elapsed(), replica.identity());
    for id in AGAIN {
        assert_eq!(read(team, replica, &team.workspace(id)).await.status, StatusCode::OK, "{id}");
    }
}

/// Watches until nobody is admitted any more by what the revoked key signed, while all else stays enforced.
async fn withdrawn_in_time(team: &Tenant, again: &[String], left: &[String]) {
    let start = Instant::now();
    loop {
        for namespace in again {
            assert_eq!(team.try_agent(namespace, "calculator").await, Ok(()), "what was signed again stays enforced");
            assert!(team.try_agent(namespace, "shell_exec").await.is_err());
        }
        let mut withdrawn = 0;
        for namespace in left {
            withdrawn +=
                usize::from(team.try_agent(namespace, "calculator").await.is_err_and(|e| e.contains("KeyRevoked")));
        }
        if withdrawn == left.len() {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(2), "{withdrawn} withdrawn after {:?}", start.elapsed());
    }
    println!("withdrawn {:?} after the old key was revoked", start.elapsed());
}
