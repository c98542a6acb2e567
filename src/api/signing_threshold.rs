//! `SigningThreshold`: how many keys have to sign the documents of which workspaces.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::Unreadable;
use crate::policy::{Pattern, Threshold};

/// Documents of these workspaces need so many signatures (two-person rule): `document_signature` and `co_signatures`, each
/// by another public key that is trusted for the workspace, valid and not revoked. Of several objects that name a
/// workspace the highest number counts. What does not meet it stops being enforced at once.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "sekuire.ai",
    version = "v1alpha1",
    kind = "SigningThreshold",
    plural = "signingthresholds",
    shortname = "sthr",
    category = "sekuire",
    printcolumn(name = "Workspaces", type_ = "string", json_path = ".spec.workspaces"),
    printcolumn(name = "Signatures", type_ = "integer", json_path = ".spec.signatures"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SigningThresholdSpec {
    /// Ids of the workspaces; `*` stands for any run of characters. At least one.
    #[schemars(length(min = 1, max = 256), inner(length(min = 1, max = 253)))]
    pub workspaces: Vec<String>,
    /// How many distinct public keys have to sign, the document's own one among them: 1 to 16.
    #[schemars(range(min = 1, max = 16))]
    pub signatures: u32,
}

impl SigningThresholdSpec {
    /// The threshold as the core wants it; `name` is the object's.
    pub fn threshold(&self, name: &str) -> Threshold {
        Threshold { name: name.to_owned(), workspaces: patterns(&self.workspaces), signatures: Ok(self.signatures) }
    }
}

impl Unreadable {
    /// A threshold that cannot be read: no number of signatures is enough where it speaks of, which is everywhere unless
    /// at least that can be read.
    pub fn threshold(&self) -> Threshold {
        let workspaces: Option<Vec<String>> = self.field("workspaces");
        Threshold {
            name: self.name().to_owned(),
            workspaces: workspaces.map_or_else(|| vec![Pattern::new("*")], |workspaces| patterns(&workspaces)),
            signatures: Err(self.to_string()),
        }
    }
}

fn patterns(workspaces: &[String]) -> Vec<Pattern> {
    workspaces.iter().map(|pattern| Pattern::new(pattern)).collect()
}
