//! Runs a program to its end and keeps what it printed.

use std::{fmt, process::Stdio, time::Duration};

use tokio::{io::AsyncWriteExt, process::Command};

/// What became of a program.
#[derive(Clone, Debug)]
pub(crate) struct Ran {
    /// the command as one would type it
    pub(crate) command: String,
    /// its exit code; `None` after a signal
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    pub(crate) fn succeeded(&self) -> bool {
        self.code == Some(0)
    }

    /// Its standard output, where it succeeded; else the test ends with all that it printed.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert!(self.succeeded(), "{self}");
        self.stdout
    }

    /// Its standard error, where it failed; else the test ends.
    #[track_caller]
    pub(crate) fn refused(self) -> String {
        assert!(self.code.is_some_and(|code| code != 0), "expected a failure of\n{self}");
        self.stderr
    }
}

impl fmt::Display for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => writeln!(f, "`{}` ended with {code}", self.command)?,
            None => writeln!(f, "`{}` was ended by a signal", self.command)?,
        }
        write!(f, "{}{}", self.stdout, self.stderr)
    }
}

/// Runs `command` with `input` on its standard input, for a minute at most.
pub(crate) async fn run(mut command: Command, input: &[u8]) -> Ran {
    let shown = shown(&command);
    let ended = async {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|e| panic!("start `{shown}`: {e}"));
        let mut stdin = child.stdin.take().expect("the pipe was asked for");
        let feed = async move {
            // A program that does not read its input closes the pipe early, which is no fault.
            let _ = stdin.write_all(input).await;
        };
        tokio::join!(child.wait_with_output(), feed).0
    };
    let output = tokio::time::timeout(Duration::from_secs(60), ended)
        .await
        .unwrap_or_else(|_| panic!("`{shown}` did not end within a minute"))
        .unwrap_or_else(|e| panic!("`{shown}`: {e}"));
    Ran {
        command: shown,
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The command as one would type it, programs without their folder.
fn shown(command: &Command) -> String {
    let command = command.as_std();
    let program = command.get_program().to_string_lossy();
    let mut text = program.rsplit('/').next().unwrap_or_default().to_owned();
    for arg in command.get_args() {
        let arg = arg.to_string_lossy();
        let plain = !arg.is_empty() && !arg.contains(|c: char| c.is_whitespace() || "'\"$*|&;<>()".contains(c));
        text.push(' ');
        text.push_str(&if plain { arg.into_owned() } else { format!("'{arg}'") });
    }
    text
}
