//! Dispatch only.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Before the command line: the child of a fetch limits itself before it does anything else.
    if std::env::args_os().nth(1).is_some_and(|argument| argument == "git-child") {
        return sekuire_policy::git::child::main();
    }
    sekuire_policy::cli::run()
}
