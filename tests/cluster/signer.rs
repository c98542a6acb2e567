//! Keys and signed documents, at will.

use jiff::Timestamp;
use sekuire_policy::policy::sign::cosign_with;
use sekuire_policy::policy::{Document, Format, PrivateKey, sign};
use serde_json::{Value, json};

use super::leaks;

/// A signing key whose private half the tests have.
pub(crate) struct Signer {
    key: PrivateKey,
    id: String,
}

impl Signer {
    /// The key of this number: the same one each time.
    pub(crate) fn new(number: u16) -> Signer {
        let [high, low] = number.to_be_bytes();
        let mut seed = [low; 32];
        if high > 0 {
            seed[0] = high;
        }
        let key = PrivateKey::from_seed(&seed);
        leaks::secret(&format!("signing key {number}"), key.to_pkcs8_pem());
        let id = key.public().key_id();
        Signer { key, id }
    }

    /// The same key under another id.
    pub(crate) fn with_id(mut self, id: &str) -> Signer {
        self.id = id.to_owned();
        self
    }

    pub(crate) fn key_id(&self) -> &str {
        &self.id
    }

    /// 64 hex digits.
    pub(crate) fn public_hex(&self) -> String {
        self.key.public().to_hex()
    }

    pub(crate) fn public_pem(&self) -> String {
        self.key.public().to_pem()
    }

    /// The manifest of the `SigningKey` called `name` that trusts this key for these workspaces (patterns).
    pub(crate) fn manifest(&self, name: &str, workspaces: &[&str]) -> Value {
        json!({
            "apiVersion": "sekuire.ai/v1alpha1",
            "kind": "SigningKey",
            "metadata": {"name": name},
            "spec": {"keyId": self.id, "publicKey": self.public_pem(), "workspaces": workspaces},
        })
    }

    /// A signed, active document of `workspace` with these rules, as the text of a JSON file. Its policy is called
    /// `policy_` and the workspace.
    pub(crate) fn active(&self, workspace: &str, version: &str, content: Value) -> String {
        self.document(workspace, version, "active", content)
    }

    /// As [`Signer::active`], with another status.
    pub(crate) fn document(&self, workspace: &str, version: &str, status: &str, content: Value) -> String {
        let mut document = json!({
            "policy_id": format!("policy_{workspace}"),
            "workspace_id": workspace,
            "version": version,
            "status": status,
        });
        document["content"] = content;
        format!("{:#}\n", self.sign(document))
    }

    /// The private key, as `--key` of the command line takes it.
    pub(crate) fn private_pem(&self) -> String {
        self.key.to_pkcs8_pem()
    }

    /// A signed document with one more co-signature, by this key.
    pub(crate) fn cosign(&self, document: &str) -> String {
        let document = Document::parse(document.as_bytes(), Format::Json).expect("the test's document is well formed");
        let cosigned = cosign_with(&document, &self.key.public(), &self.id, |message| Ok(self.key.sign(message)));
        format!("{:#}\n", cosigned.expect("it is signed, and not by this key"))
    }

    /// Signs a document as it is, or again.
    pub(crate) fn sign(&self, document: Value) -> Value {
        sign(document, &self.key, &self.id, Timestamp::now()).expect("the test's document is well formed")
    }
}
