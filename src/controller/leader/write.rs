//! The writes for one workspace, and the Events that tell of them.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{DeleteParams, PostParams, Preconditions};
use tracing::Instrument as _;

use super::{Leader, WorkspaceError};
use crate::admission::index::{LedgerView, ObjectView, WorkspaceView};
use crate::api::conditions::{self, find};
use crate::api::policy_ledger::Lowered;
use crate::api::{
    ACCEPT_VERSION, FIELD_MANAGER, Plain, PolicyLedger, PolicyLedgerSpec, Sent, WorkspacePolicy, WorkspacePolicySpec,
    object_name,
};
use crate::controller::apply;
use crate::controller::candidate::Candidate;
use crate::controller::documents::Documents;
use crate::controller::events::Events;
use crate::controller::plan::{Base, Plan};
use crate::controller::status::{self, Observed};
use crate::git::shown;
use crate::policy::VerifiedPolicy;
use crate::telemetry::{metrics, trace};

/// The object of a workspace, with the uid that `kubectl describe` finds its Events by, where it is there.
fn regarding(name: &str, view: &WorkspaceView) -> ObjectReference {
    Events::policy(name, view.object.as_ref().map(|object| object.uid.clone()))
}

/// The workspace of an object that is there.
fn workspace_of(view: &WorkspaceView) -> String {
    view.object.as_ref().map(|object| object.workspace.clone()).unwrap_or_default()
}

impl Leader {
    /// A second object of a workspace, which no replica looks at.
    pub(super) async fn delete_misnamed(&self, name: &str, object: &ObjectView) -> Result<(), WorkspaceError> {
        let workspace = object.verdict.as_ref().map_or(object.workspace.as_str(), |policy| policy.workspace_id());
        let proper = object_name(workspace);
        let params = DeleteParams::default().preconditions(Preconditions {
            uid: Some(object.uid.clone()),
            resource_version: Some(object.resource_version.clone()),
        });
        self.sent_policies()
            .delete(name, &params)
            .await
            .map_err(WorkspaceError::api("delete WorkspacePolicy", name))?;
        metrics().object_restored("WorkspacePolicy");
        tracing::warn!(kind = "WorkspacePolicy", name, workspace, "second object of a workspace deleted");
        let note = format!("WorkspacePolicy {name} was deleted: workspace {workspace} has the object {proper}");
        self.events.warning(Events::policy(&proper, None), "Restored", note).await;
        Ok(())
    }

    pub(super) async fn write_object(
        &self,
        name: &str,
        view: &WorkspaceView,
        plan: &Plan,
        candidates: &[Candidate],
        fresh: Option<&Documents>,
    ) -> Result<(), WorkspaceError> {
        let Some(policy) = self.document(name, view, plan, candidates, fresh).await? else { return Ok(()) };
        let Plain(document) = serde_json::from_str(policy.document_json())
            .map_err(|error| WorkspaceError::Document { name: name.to_owned(), message: error.to_string() })?;
        let spec =
            WorkspacePolicySpec { workspace: policy.workspace_id().to_owned(), document, source: plan.source.clone() };
        let written = match &view.object {
            None => {
                let object = WorkspacePolicy::new(name, spec);
                let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
                let sent = self.sent_policies();
                sent.create(&params, &object.into()).instrument(trace::write("WorkspacePolicy")).await
            }
            Some(object) => {
                let (params, patch) = apply::<WorkspacePolicy>(name, Some(&object.resource_version), "spec", &spec);
                let api = self.sent_policies();
                api.patch(name, &params, &patch).instrument(trace::write("WorkspacePolicy")).await
            }
        };
        // what was written over an unreadable object is readable; if it were not, it would be written again and again
        let written = written.and_then(Sent::readable).map_err(WorkspaceError::api("write WorkspacePolicy", name))?;
        let uid = written.metadata.uid.clone();
        self.index.object_answered(Ok(Box::new(written)), view.deletions, Timestamp::now());
        self.say_written(name, view, plan, &policy, uid).await;
        Ok(())
    }

    async fn say_written(
        &self,
        name: &str,
        view: &WorkspaceView,
        plan: &Plan,
        policy: &VerifiedPolicy,
        uid: Option<String>,
    ) {
        let source = plan.source.clone().unwrap_or_default();
        let version = policy.version();
        let is_new = view.ledger.as_ref().is_none_or(|ledger| !ledger.mark.is(policy));
        let about = Events::policy(name, uid);
        if is_new || plan.signed_again {
            let what = if is_new { "accepted" } else { "signed again" };
            tracing::info!(policy_id = %policy.policy_id(), workspace = %policy.workspace_id(), %version, commit = %source.commit,
                repository = shown(&source.repository), path = shown(&source.path), key_id = %policy.signing_key_id(), signed_again = !is_new, "policy accepted");
            let note = format!(
                "version {version} of {} ({}) was {what}: {} in commit {}, signed by {}",
                policy.policy_id(),
                policy.status(),
                source.path,
                source.commit,
                policy.signing_key_id()
            );
            self.events.normal(about, "Verified", note).await;
        } else {
            metrics().object_restored("WorkspacePolicy");
            tracing::warn!(kind = "WorkspacePolicy", name, policy_id = %policy.policy_id(), workspace = %policy.workspace_id(),
                %version, "object put back");
            let note = format!("the object was changed or deleted by somebody else; version {version} was put back");
            self.events.warning(about, "Restored", note).await;
        }
    }

    pub(super) async fn write_mark(&self, name: &str, view: &WorkspaceView, plan: &Plan) -> Result<(), WorkspaceError> {
        let (Some(base), true) = (&plan.base, plan.raise_mark) else { return Ok(()) };
        let object = view.object.as_ref();
        let held = view.held.as_ref().is_some_and(|held| base.mark.is(&held.policy));
        let verified =
            object.and_then(|object| object.verdict.as_ref().ok()).is_some_and(|policy| base.mark.is(policy));
        if !held && !verified {
            // its key was revoked since this was planned: what nobody may enforce is not to be marked
            return Ok(());
        }
        let workspace = workspace_of(view);
        let source = plan.mark_source.clone();
        let same = view.ledger.as_ref().filter(|ledger| ledger.mark == base.mark);
        let spec = PolicyLedgerSpec {
            workspace,
            version: base.mark.version,
            digest: base.mark.digest.clone(),
            policy_id: base.mark.policy_id.clone(),
            lifecycle: base.mark.lifecycle,
            repository: source.repository,
            path: source.path,
            commit: source.commit,
            lowered: view.ledger.as_ref().and_then(|ledger| lowered(ledger, plan)),
            accepted_at: same.map_or_else(|| Some(now()), |ledger| ledger.spec.accepted_at.clone()),
        };
        let there = view.ledger.as_ref().map(|ledger| &ledger.resource_version).or(view.unreadable_ledger.as_ref());
        let written = match there {
            None => {
                let ledger = PolicyLedger::new(name, spec);
                let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
                let sent = self.sent_ledgers();
                sent.create(&params, &ledger.into()).instrument(trace::write("PolicyLedger")).await
            }
            Some(resource_version) => {
                let (params, patch) = apply::<PolicyLedger>(name, Some(resource_version), "spec", &spec);
                let api = self.sent_ledgers();
                api.patch(name, &params, &patch).instrument(trace::write("PolicyLedger")).await
            }
        };
        let written = written.and_then(Sent::readable).map_err(WorkspaceError::api("write PolicyLedger", name))?;
        self.index.ledger_answered(Ok(Box::new(written)), view.deletions, Timestamp::now());
        if plan.lowers {
            self.say_lowered(name, view, base).await;
        }
        let was_higher =
            !plan.lowers && !plan.signed_again && view.marked.is_some_and(|marked| marked >= base.mark.version);
        if was_higher || view.unreadable_ledger.is_some() {
            metrics().object_restored("PolicyLedger");
            tracing::warn!(kind = "PolicyLedger", name, policy_id = %base.mark.policy_id, version = %base.mark.version, "object put back");
            let note = format!(
                "the PolicyLedger was changed or deleted by somebody else; its mark {} was put back",
                base.mark.version
            );
            self.events.warning(regarding(name, view), "Restored", note).await;
        }
        Ok(())
    }

    async fn say_lowered(&self, name: &str, view: &WorkspaceView, base: &Base) {
        let (from, to) = (view.ledger.as_ref().map(|ledger| ledger.mark.version), base.mark.version);
        let workspace = workspace_of(view);
        let from = from.map(|from| from.to_string()).unwrap_or_default();
        tracing::warn!(policy_id = %base.mark.policy_id, workspace, from_version = %from,
            version = %to, "mark lowered, as an administrator asked");
        let note = format!("the mark was lowered from {from} to {to}, as the annotation {ACCEPT_VERSION} asks");
        self.events.warning(regarding(name, view), "VersionAccepted", note).await;
    }

    /// Says why a mark was not lowered.
    pub(super) async fn say_not_lowered(&self, name: &str, view: &WorkspaceView, plan: &Plan) {
        if let Some(why) = &plan.not_lowered {
            let note = format!("{ACCEPT_VERSION} is not followed: {why}");
            self.events.warning(regarding(name, view), "VersionNotAccepted", note).await;
        }
    }

    pub(super) async fn write_status(&self, name: &str, observed: &Observed<'_>) -> Result<(), WorkspaceError> {
        let Some(object) = &observed.view.object else { return Ok(()) };
        let status = status::workspace_status(observed);
        let mut present = object.status.clone();
        present.conditions = conditions::ours(&present.conditions);
        if status == present {
            return Ok(());
        }
        let (params, patch) = apply::<WorkspacePolicy>(name, Some(&object.resource_version), "status", &status);
        let written = self.sent_policies().patch_status(name, &params, &patch).await;
        let written = written.map_err(WorkspaceError::api("write status of WorkspacePolicy", name))?;
        self.index.object_answered(written.object, observed.view.deletions, Timestamp::now());
        self.say_status(name, object, &status).await;
        Ok(())
    }

    /// One Event for each new reason of `Ready`, and one where the end comes near; not for each write.
    async fn say_status(&self, name: &str, object: &ObjectView, status: &crate::api::WorkspacePolicyStatus) {
        if let Some(ending) = conditions::begins_to_expire(&object.status.conditions, &status.conditions) {
            let about = Events::policy(name, Some(object.uid.clone()));
            self.events.warning(about, &ending.reason, ending.message.clone()).await;
        }
        let before = find(&object.status.conditions, "Ready");
        let Some(after) = conditions::find(&status.conditions, "Ready") else { return };
        if after.status == "False"
            && before.is_none_or(|before| before.reason != after.reason || before.message != after.message)
        {
            let about = Events::policy(name, Some(object.uid.clone()));
            self.events.warning(about, &after.reason, after.message.clone()).await;
        }
    }
}

/// What the ledger is to remember of the mark that was lowered last.
fn lowered(ledger: &LedgerView, plan: &Plan) -> Option<Lowered> {
    let Some(base) = plan.base.as_ref().filter(|_| plan.lowers) else { return ledger.spec.lowered.clone() };
    Some(Lowered {
        from_version: ledger.mark.version,
        from_digest: ledger.mark.digest.clone(),
        version: base.mark.version,
        digest: base.mark.digest.clone(),
        at: now(),
    })
}

/// The present time as the API server stores it.
fn now() -> Time {
    let now = Timestamp::now();
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}
