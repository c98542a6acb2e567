//! `sekuire completion`: completion of commands in a shell.

use std::io::Write as _;

use clap::Args;
use clap_complete::Shell;

use super::{Outcome, command, emit};

/// Print the script that makes a shell complete sekuire's commands.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  source <(sekuire completion bash)
  sekuire completion zsh > \"${fpath[1]}/_sekuire\"
  sekuire completion fish > ~/.config/fish/completions/sekuire.fish")]
pub(super) struct Completion {
    /// The shell.
    shell: Shell,
}

impl Completion {
    pub(super) fn run(&self) -> anyhow::Result<Outcome> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command(), "sekuire", &mut script);
        script.flush()?;
        emit(&String::from_utf8(script)?)?;
        Ok(Outcome::Fine)
    }
}
