//! The command line. One file a command group; the library does the work.
//!
//! Exit codes: 0 fine, 1 refused, 2 wrong usage, 3 could not find out (file, network, cluster).

use std::io::{ErrorKind, IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub mod controller;
pub mod crds;
mod files;
mod key;
mod policy;
pub mod replica;
mod trust;

/// Signed policies for AI agents: the controller, and the life of a policy on the command line.
#[derive(Parser, Debug)]
#[command(
    name = "sekuire",
    version,
    after_help = "Exit codes: 0 fine, 1 refused, 2 wrong usage, 3 could not find out (file, network, cluster)."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Controller(Box<controller::Controller>),
    Crds(crds::Crds),
    #[command(subcommand)]
    Key(key::Key),
    #[command(subcommand)]
    Policy(policy::Policy),
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
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            // Where help cannot be printed, there is nobody to tell.
            let _ = e.print();
            return ExitCode::from(if e.use_stderr() { 2 } else { 0 });
        }
    };
    let outcome = match cli.command {
        Command::Controller(command) => command.run().map(|()| Outcome::Fine),
        Command::Crds(command) => command.run().map(|()| Outcome::Fine),
        Command::Key(command) => command.run(),
        Command::Policy(command) => command.run(),
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

/// Says what went wrong, on standard error.
fn complain(what: &str) {
    // Where even this fails, the exit code says it.
    let _ = writeln!(std::io::stderr(), "error: {what}");
}

/// Says what deserves attention, on standard error.
fn warn(what: &str) {
    let _ = writeln!(std::io::stderr(), "warning: {what}");
}

/// Prints a command's result. A reader who has seen enough is no error.
fn emit(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(e.into()),
        _ => Ok(()),
    }
}

/// Whether standard output takes colour (https://no-color.org).
fn colour() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
