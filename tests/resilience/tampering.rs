//! The ways in which an administrator of the cluster can tamper with what is enforced in a workspace.

use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use sekuire_policy::{
    api::{PolicyLedger, Sent, WorkspacePolicy},
    policy::Document,
};
use serde_json::{Value, json};

use super::support::Site;

/// One way to tamper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tampering {
    DropDeniedTool,
    AddMember,
    WriteOlderVersion,
    WriteDraft,
    CreateSecondObject,
    CreateObjectOfAnotherName,
    Delete,
    LowerLedger,
    DeleteLedger,
    LowerLedgerThenWriteOlder,
    WriteOlderThenLowerLedger,
    DeleteLedgerThenWriteOlder,
    DeleteBoth,
    ReplaceBothByOlder,
    DropDeniedToolAndDeleteLedger,
}

impl Tampering {
    pub(super) const ALL: [Tampering; 15] = [
        Tampering::DropDeniedTool,
        Tampering::AddMember,
        Tampering::WriteOlderVersion,
        Tampering::WriteDraft,
        Tampering::CreateSecondObject,
        Tampering::CreateObjectOfAnotherName,
        Tampering::Delete,
        Tampering::LowerLedger,
        Tampering::DeleteLedger,
        Tampering::LowerLedgerThenWriteOlder,
        Tampering::WriteOlderThenLowerLedger,
        Tampering::DeleteLedgerThenWriteOlder,
        Tampering::DeleteBoth,
        Tampering::ReplaceBothByOlder,
        Tampering::DropDeniedToolAndDeleteLedger,
    ];
}

/// The workspace that is tampered with: it has accepted version 2, which denies the tool that version 1 did not.
pub(super) struct Target {
    policies: Api<WorkspacePolicy>,
    ledgers: Api<PolicyLedger>,
    older: Value,
    accepted: Value,
    draft: Value,
}

/// Its id.
pub(super) const WORKSPACE: &str = "ws_a";
/// The name of its objects.
pub(super) const NAME: &str = "ws-a";
/// Objects that nobody needs.
const STRAY: [&str; 2] = ["ws-a-too", "ws-other"];

impl Target {
    pub(super) fn new(site: &Site, older: &Value, accepted: &Value) -> Target {
        Target {
            policies: site.policies(),
            ledgers: site.ledgers(),
            older: older.clone(),
            accepted: accepted.clone(),
            draft: site.document_as(WORKSPACE, "9", "draft", &[]),
        }
    }

    /// Does it. What is gone already, or was put back in between, is no reason to stop: the administrator does not look.
    pub(super) async fn tamper(&self, how: Tampering) {
        match how {
            Tampering::DropDeniedTool => self.drop_denied_tool().await,
            Tampering::AddMember => self.patch(&json!({"spec": {"document": {"content": {"extra": "x"}}}})).await,
            Tampering::WriteOlderVersion => self.write(&self.older).await,
            Tampering::WriteDraft => self.write(&self.draft).await,
            Tampering::CreateSecondObject => self.create(STRAY[0], WORKSPACE, &self.older).await,
            Tampering::CreateObjectOfAnotherName => self.create(STRAY[1], "ws_other", &self.older).await,
            Tampering::Delete => self.delete().await,
            Tampering::LowerLedger => self.lower_ledger().await,
            Tampering::DeleteLedger => self.delete_ledger().await,
            Tampering::LowerLedgerThenWriteOlder => {
                self.lower_ledger().await;
                self.write(&self.older).await;
            }
            Tampering::WriteOlderThenLowerLedger => {
                self.write(&self.older).await;
                self.lower_ledger().await;
            }
            Tampering::DeleteLedgerThenWriteOlder => {
                self.delete_ledger().await;
                self.write(&self.older).await;
            }
            Tampering::DeleteBoth => {
                tokio::join!(self.delete(), self.delete_ledger());
            }
            Tampering::ReplaceBothByOlder => {
                tokio::join!(self.delete(), self.delete_ledger());
                tokio::join!(self.create(NAME, WORKSPACE, &self.older), self.create_older_ledger());
            }
            Tampering::DropDeniedToolAndDeleteLedger => {
                tokio::join!(self.drop_denied_tool(), self.delete_ledger());
            }
        }
    }

    /// Whether all is as it was before anybody tampered.
    pub(super) async fn intact(&self) -> Result<(), String> {
        let read = |error: kube::Error| error.to_string();
        // read as our own programs do: what somebody wrote into it may be what no type takes
        let client = self.policies.clone().into_client();
        let (policies, ledgers): (Api<Sent<WorkspacePolicy>>, Api<Sent<PolicyLedger>>) =
            (Api::all(client.clone()), Api::all(client));
        let object = policies.get_opt(NAME).await.map_err(read)?.ok_or("the object is gone")?;
        let object = object.object.map_err(|unreadable| unreadable.to_string())?;
        if object.spec.document != self.accepted {
            return Err(format!("the object holds {}", object.spec.document));
        }
        let ledger = ledgers.get_opt(NAME).await.map_err(read)?.ok_or("the ledger is gone")?;
        let ledger = ledger.object.map_err(|unreadable| unreadable.to_string())?;
        if (ledger.spec.version.to_string(), &ledger.spec.digest) != ("2".to_owned(), &digest(&self.accepted)) {
            return Err(format!("the mark is {:?}", ledger.spec));
        }
        super::support::at_version(&object, &ledger, "2")?;
        for stray in STRAY {
            if self.policies.get_opt(stray).await.map_err(read)?.is_some() {
                return Err(format!("{stray} is still there"));
            }
        }
        Ok(())
    }

    async fn drop_denied_tool(&self) {
        let content = json!({"agent": {"capabilities": {"denied_tools": []}}});
        self.patch(&json!({"spec": {"document": {"content": content}}})).await;
    }

    async fn patch(&self, patch: &Value) {
        done(self.policies.patch(NAME, &PatchParams::default(), &Patch::Merge(patch)).await);
    }

    async fn write(&self, document: &Value) {
        let patch = json!([{"op": "replace", "path": "/spec/document", "value": document}]);
        let patch: Patch<()> = Patch::Json(serde_json::from_value(patch).unwrap());
        done(self.policies.patch(NAME, &PatchParams::default(), &patch).await);
    }

    async fn create(&self, name: &str, workspace: &str, document: &Value) {
        let object = json!({
            "apiVersion": "sekuire.ai/v1alpha1", "kind": "WorkspacePolicy", "metadata": {"name": name},
            "spec": {"workspace": workspace, "document": document},
        });
        let object: WorkspacePolicy = serde_json::from_value(object).unwrap();
        done(self.policies.create(&PostParams::default(), &object).await);
    }

    async fn delete(&self) {
        done(self.policies.delete(NAME, &DeleteParams::default()).await);
    }

    async fn lower_ledger(&self) {
        let patch = json!({"spec": {"version": "1", "digest": digest(&self.older)}});
        done(self.ledgers.patch(NAME, &PatchParams::default(), &Patch::Merge(&patch)).await);
    }

    async fn create_older_ledger(&self) {
        let ledger = json!({
            "apiVersion": "sekuire.ai/v1alpha1", "kind": "PolicyLedger", "metadata": {"name": NAME},
            "spec": {
                "workspace": WORKSPACE, "version": "1", "digest": digest(&self.older),
                "policyId": self.older["policy_id"], "lifecycle": "active",
            },
        });
        let ledger: PolicyLedger = serde_json::from_value(ledger).unwrap();
        done(self.ledgers.create(&PostParams::default(), &ledger).await);
    }

    async fn delete_ledger(&self) {
        done(self.ledgers.delete(NAME, &DeleteParams::default()).await);
    }
}

fn digest(document: &Value) -> String {
    Document::from_value(document.clone()).unwrap().digest()
}

/// The API server took it, or what it was meant for was gone or there already.
fn done<T>(result: Result<T, kube::Error>) {
    match result {
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
        Err(error) => panic!("the administrator's own request failed: {error}"),
        Ok(_) => {}
    }
}
