//! `sekuire policy`: policy documents.

use clap::Subcommand;

use super::Outcome;

mod sign;
mod validate;
mod yaml_text;

/// Policy documents: sign them, and see whether they would be believed.
#[derive(Subcommand, Debug)]
pub(super) enum Policy {
    Sign(sign::Sign),
    Validate(validate::Validate),
}

impl Policy {
    pub(super) fn run(self) -> anyhow::Result<Outcome> {
        match self {
            Policy::Sign(command) => command.run(),
            Policy::Validate(command) => command.run(),
        }
    }
}
