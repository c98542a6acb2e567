//! `sekuire repo`: a repository of policies as a whole.

use clap::Subcommand;

use super::Outcome;

mod agents;
mod check;
mod contents;
mod findings;
mod formats;
mod report;

/// A repository of policies as a whole.
#[derive(Subcommand, Debug)]
pub(super) enum Repo {
    Check(Box<check::Check>),
}

impl Repo {
    pub(super) fn run(self) -> anyhow::Result<Outcome> {
        match self {
            Repo::Check(command) => command.run(),
        }
    }
}
