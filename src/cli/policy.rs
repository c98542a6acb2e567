//! `sekuire policy`: policy documents.

use clap::Subcommand;

use super::Outcome;

mod cosign;
mod diff;
pub(in crate::cli) mod edit;
mod json_text;
mod lifecycle;
mod new;
mod pull;
mod show;
mod sign;
mod validate;
mod yaml_text;

/// Policy documents, from the first draft to the end.
#[derive(Subcommand, Debug)]
pub(super) enum Policy {
    New(new::New),
    Sign(sign::Sign),
    Cosign(cosign::Cosign),
    Activate(lifecycle::Activate),
    Archive(lifecycle::Archive),
    Revert(lifecycle::Revert),
    Validate(validate::Validate),
    Show(show::Show),
    Diff(diff::Diff),
    Pull(Box<pull::Pull>),
}

impl Policy {
    pub(super) fn run(self) -> anyhow::Result<Outcome> {
        match self {
            Policy::New(command) => command.run(),
            Policy::Sign(command) => command.run(),
            Policy::Cosign(command) => command.run(),
            Policy::Activate(command) => command.run(),
            Policy::Archive(command) => command.run(),
            Policy::Revert(command) => command.run(),
            Policy::Validate(command) => command.run(),
            Policy::Show(command) => command.run(),
            Policy::Diff(command) => command.run(),
            Policy::Pull(command) => command.run(),
        }
    }
}
