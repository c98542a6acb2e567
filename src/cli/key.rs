//! `sekuire key`: keys that sign policies.

use clap::Subcommand;
use jiff::Timestamp;

use super::Outcome;
use super::trust::{API_VERSION, KIND, Manifest, Metadata};
use crate::api::{Moment, SigningKeySpec, object_name};
use crate::policy::PublicKey;

mod generate;
mod manifest;
mod rotate;
mod show;

/// Keys that sign policies.
#[derive(Subcommand, Debug)]
pub(super) enum Key {
    Generate(generate::Generate),
    Show(show::Show),
    Manifest(manifest::PrintManifest),
    Rotate(rotate::Rotate),
}

impl Key {
    pub(super) fn run(self) -> anyhow::Result<Outcome> {
        match self {
            Key::Generate(command) => command.run(),
            Key::Show(command) => command.run(),
            Key::Manifest(command) => command.run(),
            Key::Rotate(command) => command.run(),
        }
    }
}

/// The `SigningKey` that makes a cluster trust a key.
struct Trusted {
    key_id: String,
    workspaces: Vec<String>,
    not_before: Option<Timestamp>,
    not_after: Option<Timestamp>,
}

impl Trusted {
    fn manifest(self, key: &PublicKey) -> anyhow::Result<String> {
        let manifest = Manifest {
            api_version: API_VERSION.to_owned(),
            kind: KIND.to_owned(),
            metadata: Metadata { name: object_name(&self.key_id) },
            spec: SigningKeySpec {
                key_id: self.key_id,
                public_key: key.to_pem(),
                workspaces: self.workspaces,
                not_before: self.not_before.map(|at| Moment(at.to_string())),
                not_after: self.not_after.map(|at| Moment(at.to_string())),
                revoked: None,
            },
        };
        Ok(serde_yaml::to_string(&manifest)?)
    }
}
