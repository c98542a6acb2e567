//! What somebody attacks, and how one sees that it did not change.

use kube::api::DeleteParams;
use sekuire_policy::api::{PolicyRepositoryStatus, object_name};
use serde_json::{Value, json};

use crate::reconcile::tenant::{Tenant, eventually};

/// A team in whose workspace `a` version 3 is enforced, which forbids `shell_exec`. Versions 1 and 2, which were accepted
/// before, forbid other tools, so that whoever brings one of them back opens what is closed.
pub(super) struct Target {
    pub(super) team: Tenant,
    /// A namespace of the workspace.
    pub(super) namespace: String,
    /// What was enforced once, as it was signed.
    pub(super) older: [String; 2],
    /// What is enforced.
    pub(super) document: Value,
    mark: [String; 3],
}

impl Target {
    pub(super) async fn new() -> Target {
        Target::of(Tenant::new().await, json!({})).await
    }

    /// Of a team whose repository is not watched yet; `spec` is merged into that of the repository.
    pub(super) async fn of(team: Tenant, spec: Value) -> Target {
        let older = [team.active("a", "1", "translate"), team.active("a", "2", "summarize")];
        team.commit(&[("a.json", &older[0])]).await;
        team.watch_repository(spec).await;
        team.enforced("a", "1").await;
        team.commit(&[("a.json", &older[1])]).await;
        team.enforced("a", "2").await;
        team.commit(&[("a.json", &team.active("a", "3", "shell_exec"))]).await;
        Target::enforcing(team, older).await
    }

    /// Of a team whose version 3 is about to be enforced.
    pub(super) async fn enforcing(team: Tenant, older: [String; 2]) -> Target {
        let document = team.enforced("a", "3").await.spec.document;
        let namespace = team.namespace("a").await;
        team.admits(&namespace, "calculator").await;
        team.refuses(&namespace, "shell_exec", "tool.blocked").await;
        let name = object_name(&team.workspace("a"));
        let ledger = eventually("the mark is there", async || {
            let ledger = team.ledgers().get(&name).await.unwrap();
            if ledger.spec.version.to_string() == "3" { Ok(ledger) } else { Err(ledger.spec.version.to_string()) }
        })
        .await;
        let mark = [ledger.spec.version.to_string(), ledger.spec.digest, format!("{:?}", ledger.spec.lifecycle)];
        Target { team, namespace, older, document, mark }
    }

    /// A signed document of the workspace that would open what is closed, were it enforced.
    pub(super) fn permissive(&self, version: &str) -> Value {
        serde_json::from_str(&self.team.active("a", version, "nothing")).unwrap()
    }

    /// That the object, the mark and the verdicts are still those of version 3.
    pub(super) async fn unchanged(&self) {
        let difference = self.difference().await;
        assert_eq!(difference, None);
    }

    /// Waits until they are again: what somebody changed on the cluster is put back.
    pub(super) async fn put_back(&self) {
        eventually("all is as it was", async || match self.difference().await {
            None => Ok(()),
            Some(difference) => Err(difference),
        })
        .await;
    }

    /// That an agent is judged as it was, whatever the objects on the cluster say at this moment.
    pub(super) async fn verdicts_stay(&self) {
        let refused = self.team.try_agent(&self.namespace, "shell_exec").await.expect_err("shell_exec is admitted");
        assert!(refused.contains("[tool.blocked]") && refused.contains("version 3"), "{refused}");
        assert_eq!(self.team.try_agent(&self.namespace, "calculator").await, Ok(()));
        assert_eq!(self.team.try_agent(&self.namespace, "summarize").await, Ok(()));
    }

    async fn difference(&self) -> Option<String> {
        self.verdicts_stay().await;
        let name = object_name(&self.team.workspace("a"));
        let Some(object) = self.team.policies().get_opt(&name).await.unwrap() else { return Some("no object".into()) };
        if object.spec.document != self.document {
            return Some(format!("the object holds {}", object.spec.document));
        }
        let Some(ledger) = self.team.ledgers().get_opt(&name).await.unwrap() else { return Some("no mark".into()) };
        let mark = [ledger.spec.version.to_string(), ledger.spec.digest, format!("{:?}", ledger.spec.lifecycle)];
        (mark != self.mark).then(|| format!("the mark is {mark:?}"))
    }

    /// Commits these files below `policies/`. When all of the commit is worked through, exactly these of its files are
    /// refused, for these reasons, and nothing else has changed. Returns what the status says.
    pub(super) async fn attack(&self, what: &str, files: &[(&str, &str, &str)]) -> PolicyRepositoryStatus {
        let written: Vec<(&str, &str)> = files.iter().map(|(path, content, _)| (*path, *content)).collect();
        let commit = self.team.commit(&written).await;
        let status = self.team.synced(&commit).await;
        let expected: Vec<(String, &str)> = files
            .iter()
            .filter(|(.., reason)| !reason.is_empty())
            .map(|(p, _, r)| (format!("policies/{p}"), *r))
            .collect();
        let mut found: Vec<(String, &str)> =
            status.refused.iter().map(|refused| (refused.path.clone(), refused.reason.as_str())).collect();
        found.sort();
        let mut expected = expected;
        expected.sort();
        assert_eq!(found, expected, "{what}: {:#?}", status.refused);
        self.unchanged().await;
        status
    }

    /// The one file of the workspace is replaced by `content`, which is refused for this reason, in the list of the
    /// repository and in the status of the policy. Returns what is said of it.
    pub(super) async fn refuses_file(&self, what: &str, content: &str, reason: &str) -> String {
        let status = self.attack(what, &[("a.json", content, reason)]).await;
        self.team.condition("a", "Enforced", "True", "Succeeded").await;
        status.refused[0].message.clone()
    }

    /// As [`Target::refuses_file`] for several at once, each a file of its own beside others, the first in the place of
    /// the file that is enforced.
    pub(super) async fn refuses_all(&self, attempts: &[(&str, String, &str)]) -> Vec<String> {
        let paths: Vec<String> = (0..attempts.len())
            .map(|number| if number == 0 { "a.json".to_owned() } else { format!("attempt-{number:02}.json") })
            .collect();
        let files: Vec<(&str, &str, &str)> = attempts
            .iter()
            .zip(&paths)
            .map(|((_, content, reason), path)| (path.as_str(), content.as_str(), *reason))
            .collect();
        let what: Vec<String> =
            attempts.iter().zip(&paths).map(|((what, ..), path)| format!("{path}: {what}")).collect();
        let status = self.attack(&what.join(", "), &files).await;
        self.team.condition("a", "Enforced", "True", "Succeeded").await;
        for path in &paths[1..] {
            self.team.repo.remove(&format!("policies/{path}"));
        }
        let said = |path: &String| {
            let path = format!("policies/{path}");
            status.refused.iter().find(|refused| refused.path == path).map(|r| r.message.clone()).unwrap_or_default()
        };
        paths.iter().map(said).collect()
    }

    /// Deletes object and mark of the workspace.
    pub(super) async fn delete_both(&self) {
        let (policies, ledgers) = (self.team.policies(), self.team.ledgers());
        let (name, params) = (object_name(&self.team.workspace("a")), DeleteParams::default());
        let (policy, ledger) = tokio::join!(policies.delete(&name, &params), ledgers.delete(&name, &params));
        policy.unwrap();
        ledger.unwrap();
    }
}

/// The same document with another value of a member, and nothing signed again.
pub(super) fn with(document: &Value, member: &str, value: Value) -> Value {
    let mut document = document.clone();
    document[member] = value;
    document
}
