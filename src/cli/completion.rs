//! `sekuire completion`: completion of commands in a shell, and of the plugin by kubectl.

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Arg, Args, Command, ValueHint};
use clap_complete::Shell;

use super::{Outcome, command, emit, program};

/// The name by which kubectl asks for completions of the plugin.
const ASKED: &str = "kubectl_complete-sekuire";

/// Print the script that makes a shell complete sekuire's commands.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  source <(sekuire completion bash)
  sekuire completion zsh > \"${fpath[1]}/_sekuire\"
  sekuire completion fish > ~/.config/fish/completions/sekuire.fish
  ln -s sekuire kubectl-sekuire; ln -s sekuire kubectl_complete-sekuire      `kubectl sekuire <TAB>`, beside sekuire on the path

The script is for the name that this program was started by: sekuire or kubectl-sekuire.")]
pub(super) struct Completion {
    /// The shell.
    shell: Shell,
}

impl Completion {
    pub(super) fn run(&self) -> anyhow::Result<Outcome> {
        let name = program().filter(|name| name.starts_with("kubectl")).unwrap_or_else(|| "sekuire".to_owned());
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command().bin_name(&name), &name, &mut script);
        script.flush()?;
        emit(&String::from_utf8(script)?)?;
        Ok(Outcome::Fine)
    }
}

/// Whether kubectl asks for completions of the plugin.
pub(super) fn is_asked() -> bool {
    program().is_some_and(|name| name == ASKED)
}

/// Answers kubectl: a candidate a line, with its description behind a tab, and then whether the shell may add files.
///
/// By hand, since what clap_complete has for it is not stable, and speaks no protocol of kubectl.
pub(super) fn answer() -> ExitCode {
    let mut words: Vec<String> = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let last = words.pop().unwrap_or_default();
    let (candidates, files) = candidates(&command(), &words, &last);
    // of cobra: 4 is \"no files\"
    let text = candidates.concat() + if files { ":0\n" } else { ":4\n" };
    if emit(&text).is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What may stand in the place of the last word, and whether a file may.
fn candidates(root: &Command, words: &[String], last: &str) -> (Vec<String>, bool) {
    let mut command = root;
    let mut value_of: Option<&Arg> = None;
    for word in words {
        value_of = match (value_of.take(), option(command, word)) {
            (Some(_), _) => None,
            (None, Some(found)) if found.get_action().takes_values() && !word.contains('=') => Some(found),
            (None, Some(_)) => None,
            (None, None) => {
                command = command.find_subcommand(word).unwrap_or(command);
                None
            }
        };
    }
    if let Some(found) = value_of {
        return values(found, last, "");
    }
    if let Some((name, begun)) = last.split_once('=')
        && let Some(found) = option(command, name)
    {
        return values(found, begun, &format!("{name}="));
    }
    let shown = |name: &str, help: Option<&clap::builder::StyledStr>| {
        let help = help.map(ToString::to_string).unwrap_or_default();
        format!("{name}\t{}\n", help.lines().next().unwrap_or_default())
    };
    if last.starts_with('-') {
        let options = command.get_arguments().filter(|found| !found.is_hide_set());
        let options = options.filter_map(|found| Some((format!("--{}", found.get_long()?), found.get_help())));
        let help = ("--help".to_owned(), None);
        let fitting = options.chain([help]).filter(|(name, _)| name.starts_with(last));
        return (fitting.map(|(name, help)| shown(&name, help)).collect(), false);
    }
    let below: Vec<String> = command
        .get_subcommands()
        .filter(|sub| !sub.is_hide_set() && sub.get_name().starts_with(last))
        .map(|sub| shown(sub.get_name(), sub.get_about()))
        .collect();
    if command.has_subcommands() {
        return (below, false);
    }
    command.get_positionals().next().map_or_else(|| (Vec::new(), false), |found| values(found, last, ""))
}

fn option<'c>(command: &'c Command, word: &str) -> Option<&'c Arg> {
    let name = word.split('=').next().unwrap_or_default();
    command.get_arguments().find(|found| {
        let long = found.get_long().is_some_and(|long| name.strip_prefix("--") == Some(long));
        long || found.get_short().is_some_and(|short| name == format!("-{short}"))
    })
}

fn values(found: &Arg, begun: &str, before: &str) -> (Vec<String>, bool) {
    let possible = found.get_possible_values();
    let fitting = possible.iter().filter(|value| !value.is_hide_set() && value.get_name().starts_with(begun));
    let names = fitting.map(|value| format!("{before}{}\n", value.get_name())).collect();
    (names, possible.is_empty() && found.get_value_hint() != ValueHint::Other)
}
