//! Other copies of what is enforced: who writes to Git, or to the object, can bring back any that was ever there, and add to it
//! what no key signed.

use std::time::{Duration, Instant};

use kube::api::{Patch, PatchParams};
use sekuire_policy::api::{WorkspacePolicy, object_name};
use serde_json::{Value, json};

use super::tenant::{Tenant, eventually};
use crate::cluster::Signer;

/// A workspace with a policy that two keys signed one after the other, as in a rotation, with all copies that ever were.
struct Rotated {
    team: Tenant,
    namespace: String,
    /// What is enforced: signed by the new key.
    object: WorkspacePolicy,
    /// Genuine copies of the same version: the old key's, and with co-signatures that have counted, or never did.
    older: Vec<String>,
}

impl Rotated {
    async fn new(number: u16) -> Rotated {
        let team = Tenant::new().await;
        let colleague = team.colleague(number, "colleague").await;
        let new = team.colleague(number + 1, "new").await;
        let old = team.active("a", "1", "shell_exec");
        team.commit(&[("a.json", &old)]).await;
        team.watch_repository(json!({})).await;
        team.enforced("a", "1").await;
        let namespace = team.namespace("a").await;
        team.admits(&namespace, "calculator").await;
        // signatures tell the second
        tokio::time::sleep(Duration::from_millis(1100)).await;
        let again = new.sign(serde_json::from_str(&old).unwrap());
        team.commit(&[("a.json", &colleague.cosign(&again.to_string()))]).await;
        let object = eventually("the new key's copy is in place", async || {
            let object = team.enforced("a", "1").await;
            let signed_by = object.spec.document["signing_key_id"].clone();
            if signed_by == new.key_id() { Ok(object) } else { Err(signed_by.to_string()) }
        })
        .await;
        team.ready("a", "True", "Succeeded").await;
        let older = vec![old.clone(), colleague.cosign(&old), team.stranger().cosign(&old), again.to_string()];
        Rotated { team, namespace, object, older }
    }

    /// Commits these files, and asserts that nothing of the object has changed once they were worked through.
    async fn stays(&self, files: &[(&str, &str)], case: &str) {
        let commit = self.team.commit(files).await;
        self.team.synced(&commit).await;
        let now = self.team.ready("a", "True", "Succeeded").await;
        assert_eq!(now.spec, self.object.spec, "{case}");
        assert_eq!(now.metadata.generation, self.object.metadata.generation, "written and put back: {case}");
        assert_eq!(self.team.try_agent(&self.namespace, "calculator").await, Ok(()), "{case}");
    }

    /// How often an Event says that a version was signed again.
    async fn signed_again(&self) -> usize {
        let name = object_name(&self.team.workspace("a"));
        let events = self.team.cluster.kubectl(["get", "events", "-A", "-o", "json"]).await.ok();
        let events: Value = serde_json::from_str(&events).unwrap();
        let said = |event: &&Value| {
            let message = event["message"].as_str().unwrap_or_default();
            event["involvedObject"]["name"] == *name && message.contains("signed again")
        };
        events["items"].as_array().unwrap().iter().filter(said).count()
    }
}

/// A document with more co-signatures, by nobody.
fn with_junk(document: &Value, how_many: usize) -> String {
    let mut document = document.clone();
    let mut list = document["co_signatures"].as_array().cloned().unwrap_or_default();
    list.extend(
        (0..how_many).map(|n| json!({"signing_key_id": format!("key_{n}"), "document_signature": "0".repeat(128)})),
    );
    document["co_signatures"] = list.into();
    document.to_string()
}

#[tokio::test]
async fn whoever_brings_back_an_older_copy_in_git_ends_nothing_when_the_old_key_is_revoked() {
    let site = Rotated::new(240).await;
    let genuine = site.object.spec.document.to_string();
    for (number, older) in site.older.iter().enumerate() {
        site.stays(&[("a.json", older)], &format!("copy {number} alone")).await;
        site.stays(&[("a.json", &genuine), ("b.json", older)], &format!("copy {number} beside it, later by name"))
            .await;
        site.stays(&[("0.json", older), ("b.json", older)], &format!("copy {number} twice, sooner by name")).await;
        for name in ["0.json", "b.json"] {
            site.team.repo.remove(&format!("policies/{name}"));
        }
        let yaml = serde_yaml::to_string(&serde_json::from_str::<Value>(older).unwrap()).unwrap();
        site.team.repo.remove("policies/a.json");
        site.stays(&[("a.yaml", &yaml)], &format!("copy {number} as YAML")).await;
        site.team.repo.remove("policies/a.yaml");
        // the better one comes and goes between two looks
        site.team.repo.write("policies/a.json", &genuine);
        site.team.repo.commit_only("the better one").await;
        site.stays(&[("a.json", older)], &format!("copy {number} after it, in one push")).await;
    }
    assert_eq!(site.signed_again().await, 1, "the rotation, and nothing since");
    // the old key's copy stands at the tip, and the old key is revoked
    site.stays(&[("a.json", &site.older[0])], "the last word of the attacker").await;
    let revoked = json!({"spec": {"revoked": {"reason": "rotated"}}});
    site.team.keys().patch(&site.team.name, &PatchParams::default(), &Patch::Merge(&revoked)).await.unwrap();
    let end = Instant::now() + Duration::from_secs(4);
    while Instant::now() < end {
        assert_eq!(site.team.try_agent(&site.namespace, "calculator").await, Ok(()));
        assert!(site.team.try_agent(&site.namespace, "shell_exec").await.unwrap_err().contains("tool.blocked"));
    }
    assert_eq!(site.team.policy("a").await.spec, site.object.spec);
    site.team.condition("a", "Enforced", "True", "Succeeded").await;
}

#[tokio::test]
async fn what_no_trusted_key_signed_is_not_stored_and_is_no_new_signature() {
    let site = Rotated::new(242).await;
    let genuine = site.object.spec.document.clone();
    let with = |member: &str, value: Value| {
        let mut document = genuine.clone();
        document[member] = value;
        document.to_string()
    };
    let co_signature = genuine["co_signatures"][0].clone();
    let mut reversed = with_junk(&genuine, 3);
    let document: Value = serde_json::from_str(&reversed).unwrap();
    let list: Vec<Value> = document["co_signatures"].as_array().unwrap().iter().rev().cloned().collect();
    reversed = with("co_signatures", list.into());
    for (case, changed) in [
        ("one more", with_junk(&genuine, 1)),
        ("as many as there may be", with_junk(&genuine, 15)),
        ("one twice", with("co_signatures", json!([co_signature, co_signature]))),
        ("in another order", reversed),
        ("none", with("co_signatures", json!([]))),
        ("a stranger's, which is right", site.team.stranger().cosign(&genuine.to_string())),
        ("a public key", with("signing_public_key", "0".repeat(64).into())),
        ("another public key", with("signing_public_key", site.team.stranger().public_hex().into())),
    ] {
        site.stays(&[("a.json", &changed)], case).await;
    }
    // more than there may be: whatever is said of the file, the object does not grow
    let commit = site.team.commit(&[("a.json", &with_junk(&genuine, 1_314))]).await;
    site.team.synced(&commit).await;
    assert_eq!(site.team.policy("a").await.spec, site.object.spec);
    assert_eq!(site.signed_again().await, 1, "the rotation, and nothing since");

    // the first that is seen of a version: what a trusted key signed is stored, and nothing else
    let two = site.team.active("a", "2", "calculator");
    let mut public: Value = serde_json::from_str(&two).unwrap();
    public["signing_public_key"] = "0".repeat(64).into();
    site.team.commit(&[("a.json", &with_junk(&public, 15))]).await;
    let object = site.team.enforced("a", "2").await;
    assert_eq!(object.spec.document, serde_json::from_str::<Value>(&two).unwrap());
    // and a co-signature that counts is one more signature
    let colleague = Signer::new(242);
    site.team.commit(&[("a.json", &with_junk(&serde_json::from_str(&colleague.cosign(&two)).unwrap(), 3))]).await;
    eventually("it is stored", async || {
        let document = site.team.policy("a").await.spec.document;
        let ids: Vec<&Value> =
            document["co_signatures"].as_array().into_iter().flatten().map(|it| &it["signing_key_id"]).collect();
        if ids == [colleague.key_id()] { Ok(()) } else { Err(format!("{ids:?}")) }
    })
    .await;
}

#[tokio::test]
async fn whoever_writes_the_object_puts_no_older_copy_and_nothing_unsigned_into_its_place() {
    let site = Rotated::new(244).await;
    let name = object_name(&site.team.workspace("a"));
    let genuine = site.object.spec.document.clone();
    let mut documents: Vec<Value> = site.older.iter().map(|older| serde_json::from_str(older).unwrap()).collect();
    documents.push(serde_json::from_str(&with_junk(&genuine, 5)).unwrap());
    let mut public = genuine.clone();
    public["signing_public_key"] = site.team.stranger().public_hex().into();
    documents.push(public);
    // read as what it says, it is no document; read by serde_json's own rule, it would be the genuine one
    documents.push(json!({"$serde_json::private::RawValue": genuine.to_string()}));
    documents.push(json!({"$serde_json::private::Number": "1"}));
    let packed =
        (0..12).fold(genuine.to_string(), |text, _| json!({"$serde_json::private::RawValue": text}).to_string());
    if packed.len() < 1 << 20 {
        documents.push(serde_json::from_str::<sekuire_policy::api::Plain>(&packed).unwrap().0);
    }
    for (number, document) in documents.into_iter().enumerate() {
        let before = site.team.policy("a").await.metadata.generation.unwrap();
        // the whole of it: a merge would leave what is there
        let patch = json!([{"op": "replace", "path": "/spec/document", "value": document}]);
        let request = http::Request::patch(format!("/apis/sekuire.ai/v1alpha1/workspacepolicies/{name}"))
            .header("content-type", "application/json-patch+json")
            .body(patch.to_string().into_bytes())
            .unwrap();
        site.team.client.request_text(request).await.unwrap();
        eventually(&format!("object {number} is put back"), async || {
            let now = site.team.policy("a").await;
            let is_back = now.spec == site.object.spec && now.metadata.generation.unwrap() >= before + 2;
            assert_eq!(site.team.try_agent(&site.namespace, "calculator").await, Ok(()), "object {number}");
            if is_back { Ok(()) } else { Err(now.spec.document.to_string()) }
        })
        .await;
    }
    assert_eq!(site.signed_again().await, 1, "the rotation, and nothing since");
}
