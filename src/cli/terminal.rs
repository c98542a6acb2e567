//! What a command says to a terminal.

use std::io::{ErrorKind, IsTerminal as _, Write as _};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// After so long somebody who waits is told what for.
const PATIENCE: Duration = Duration::from_secs(1);

/// Says what went wrong, on standard error.
pub(super) fn complain(what: &str) {
    // Where even this fails, the exit code says it.
    let _ = writeln!(std::io::stderr(), "error: {what}");
}

/// Says what deserves attention, on standard error.
pub(super) fn warn(what: &str) {
    let _ = writeln!(std::io::stderr(), "warning: {what}");
}

/// Says what was done or is to be done next, on standard error: standard output has the data.
pub(super) fn note(what: &str) {
    let _ = writeln!(std::io::stderr(), "{what}");
}

/// Prints a command's result. A reader who has seen enough is no error.
pub(super) fn emit(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(e.into()),
        _ => Ok(()),
    }
}

/// Colours of the terminal (ECMA-48), or none: not a terminal, or `NO_COLOR` is set (<https://no-color.org>).
#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    colour: bool,
}

impl Style {
    /// For what goes to standard output.
    pub(super) fn of_stdout() -> Style {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Style { colour: std::io::stdout().is_terminal() && !unwanted }
    }

    fn painted(self, code: u8, text: &str) -> String {
        if self.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    /// ✓ or ✗.
    pub(super) fn mark(self, good: bool) -> String {
        if good { self.good("✓") } else { self.bad("✗") }
    }

    pub(super) fn good(self, text: &str) -> String {
        self.painted(32, text)
    }

    pub(super) fn bad(self, text: &str) -> String {
        self.painted(31, text)
    }

    pub(super) fn doubtful(self, text: &str) -> String {
        self.painted(33, text)
    }

    pub(super) fn strong(self, text: &str) -> String {
        self.painted(1, text)
    }

    pub(super) fn faint(self, text: &str) -> String {
        self.painted(2, text)
    }
}

/// Says on standard error what is being waited for, once that takes more than a second. Ends when it is dropped.
pub(super) struct Progress {
    done: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Progress {
    /// `what`: such as `reading 3 agents of the cluster`.
    pub(super) fn new(what: String) -> Progress {
        let (done, waiting) = mpsc::channel();
        let thread = thread::spawn(move || {
            if waiting.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                note(&format!("{what} ..."));
            }
        });
        Progress { done: Some(done), thread: Some(thread) }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        drop(self.done.take());
        if let Some(thread) = self.thread.take() {
            // It only waits and prints.
            let _ = thread.join();
        }
    }
}
