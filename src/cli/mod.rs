//! The command line. One file a command group; the library does the work.
//!
//! Exit codes: 0 fine, 1 refused, 2 wrong usage, 3 could not find out (file, network, cluster).

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

mod agent;
mod agents;
mod break_glass;
mod checkout;
mod cluster;
mod completion;
pub mod controller;
pub mod crds;
mod data_folder;
mod documents;
mod files;
mod key;
mod manifest;
mod manual;
mod output;
mod policy;
mod proxy;
pub mod replica;
mod repo;
mod schema;
mod signing;
mod source;
mod terminal;
mod trust;
mod version;
mod warned;
mod worktree;

use jiff::Timestamp;

use crate::policy::document::parse_time;
use terminal::{complain, emit, note, warn};

/// Signed policies for AI agents: the controller, and the life of a policy on the command line.
#[derive(Parser, Debug)]
#[command(
    name = "sekuire",
    version,
    after_help = "Examples, from the first key to an agent:
  sekuire key generate --out ../private --workspace ws_payments
  sekuire policy new --workspace ws_payments --out policies/payments.yaml
  sekuire policy sign policies/payments.yaml --key ../private/key_0123456789abcdef.pem
  sekuire repo check --base origin/main --trust keys/
  sekuire agent check agent.yaml --workspace ws_payments

Exit codes: 0 fine, 1 refused, 2 wrong usage, 3 could not find out (file, network, cluster)."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    #[command(
        subcommand,
        after_help = "Examples:
  sekuire key generate --out ../private --workspace ws_payments
  sekuire key show ../private/*.pem keys/*.yaml"
    )]
    Key(key::Key),
    #[command(
        subcommand,
        after_help = "Examples:
  sekuire policy new --workspace ws_payments --out policies/payments.yaml
  sekuire policy sign policies/payments.yaml --key KEY.pem --bump
  sekuire policy show cluster:ws_payments"
    )]
    Policy(policy::Policy),
    #[command(
        subcommand,
        after_help = "Examples:
  sekuire agent check agents/ --policy policies/payments.json --trust keys/
  sekuire agent push --workspace ws_payments agent.yaml"
    )]
    Agent(agent::Agent),
    #[command(subcommand, after_help = "Examples:\n  sekuire repo check --base origin/main --trust keys/")]
    Repo(repo::Repo),
    Controller(Box<controller::Controller>),
    #[command(subcommand, after_help = "Examples:\n  sekuire break-glass open --for 2h --reason INC-123")]
    BreakGlass(break_glass::BreakGlass),
    Crds(crds::Crds),
    #[command(subcommand, after_help = "Examples:\n  sekuire schema policy > policy.schema.json")]
    Schema(schema::Schema),
    Completion(completion::Completion),
    Manual(manual::Manual),
    Version(version::Version),
}

/// What a command found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Fine,
    Refused,
    /// What was asked could not be found out for everything; what could was printed.
    Unknown,
}

/// That a command was used wrongly, where clap cannot know.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Usage(String);

/// Runs the command that the process was started with.
#[must_use]
pub fn run() -> ExitCode {
    if completion::is_asked() {
        return completion::answer();
    }
    let parsed = command().try_get_matches().and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(e) => {
            // Where help cannot be printed, there is nobody to tell.
            let _ = e.print();
            return ExitCode::from(if e.use_stderr() { 2 } else { 0 });
        }
    };
    let outcome = match cli.command {
        Command::Key(command) => command.run(),
        Command::Policy(command) => command.run(),
        Command::Agent(command) => command.run(),
        Command::Repo(command) => command.run(),
        Command::Controller(command) => command.run().map(|()| Outcome::Fine),
        Command::BreakGlass(command) => command.run(),
        Command::Crds(command) => command.run().map(|()| Outcome::Fine),
        Command::Schema(command) => command.run(),
        Command::Completion(command) => command.run(),
        Command::Manual(command) => command.run(),
        Command::Version(command) => command.run(),
    };
    match outcome {
        Ok(Outcome::Fine) => ExitCode::SUCCESS,
        Ok(Outcome::Refused) => ExitCode::from(1),
        Ok(Outcome::Unknown) => ExitCode::from(3),
        Err(e) => {
            complain(&format!("{e:#}"));
            ExitCode::from(if e.is::<Usage>() { 2 } else { 3 })
        }
    }
}

/// For clap: a time as in RFC 3339.
fn time(text: &str) -> Result<Timestamp, String> {
    parse_time(text).ok_or_else(|| "expected a time with a zone, such as 2026-06-01T00:00:00Z".to_owned())
}

/// The whole command line. As a plugin of kubectl (a file `kubectl-sekuire` on the path) it is `kubectl sekuire`.
fn command() -> clap::Command {
    let plugin = program().is_some_and(|name| name == "kubectl-sekuire" || name == "kubectl_sekuire");
    if plugin { Cli::command().bin_name("kubectl sekuire") } else { Cli::command() }
}

/// The name that this program was started by.
fn program() -> Option<String> {
    std::env::args_os().next().and_then(|path| Some(PathBuf::from(path).file_stem()?.to_str()?.to_owned()))
}
