//! Processes that do not outlive us.
//!
//! Every program runs as the leader of a process group of its own, and a small shell, the guard, knows all groups and
//! folders. It holds the reading end of a pipe whose writing end only this process has. However this process ends, be
//! it by SIGKILL, the pipe closes, and the guard kills what is listed and removes the folders. `PR_SET_PDEATHSIG`
//! would not do: it follows the *thread* that started the program, and a test's thread ends with the test.
//!
//! A program is started by a shell that waits for our word; the word is given when the guard knows the group. So there
//! is no moment at which a program runs and nobody would end it.

use std::{
    ffi::OsStr,
    fs::File,
    io::Write,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{LazyLock, Mutex},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

/// Reads `group N`, `done N`, `folder PATH`, `keep`. After `keep`, the end of input ends nothing: SIGTERM does, or the
/// end of all groups.
const GUARD: &str = r#"
groups=' '
end() {
  trap '' TERM
  for g in $groups; do kill -s KILL -- "-$g" 2>/dev/null; done
  for f in "$@"; do
    for again in 1 2 3 4 5; do rm -rf -- "$f" 2>/dev/null && break; sleep 0.1; done
  done
  exit 0
}
alive() { for g in $groups; do kill -s 0 -- "-$g" 2>/dev/null && return 0; done; return 1; }
trap '' INT HUP
trap 'end "$@"' TERM
keep=
while read -r what rest; do
  case $what in
    group) groups="$groups$rest " ;;
    done) groups=${groups%% "$rest" *}\ ${groups#* "$rest" } ;;
    folder) set -- "$@" "$rest" ;;
    keep) keep=1 ;;
  esac
done
while [ -n "$keep" ] && alive; do sleep 1 & wait $!; done
end "$@"
"#;

/// Waits for the word, then becomes the program. At the end of input, when nobody is left to give the word, it ends.
const HELD: &str = r#"read -r go && exec "$@" </dev/null"#;

struct Guard {
    pid: u32,
    pipe: ChildStdin,
}

static GUARD_PROCESS: LazyLock<Mutex<Guard>> = LazyLock::new(|| {
    #[allow(clippy::zombie_processes, reason = "it outlives us by design")]
    let mut child = Command::new("sh")
        .args(["-c", GUARD, "guard"])
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0) // Ctrl-C at the terminal is for us; the guard acts on our end
        .spawn()
        .expect("start `sh`");
    Mutex::new(Guard { pid: child.id(), pipe: child.stdin.take().expect("the pipe was asked for") })
});

fn tell(line: &str) {
    let mut guard = GUARD_PROCESS.lock().expect("no holder panics");
    writeln!(guard.pipe, "{line}").expect("the guard reads as long as we live");
}

/// Removes `folder` when this process ends, unless it is gone by then.
pub(crate) fn remove_at_end(folder: &Path) {
    tell(&format!("folder {}", folder.display()));
}

/// Lets everything run on when this process ends. Returns the process id to which a SIGTERM ends it all.
pub(crate) fn keep() -> u32 {
    tell("keep");
    GUARD_PROCESS.lock().expect("no holder panics").pid
}

/// A program in a process group of its own, which is killed when this is dropped or this process ends.
pub(crate) struct Process {
    child: Child,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts `program`; what it prints is appended to the file `log`.
    pub(crate) fn start<A: AsRef<OsStr>>(
        program: &Path,
        args: impl IntoIterator<Item = A>,
        env: &[(String, String)],
        log: &Path,
    ) -> Process {
        let out = File::options()
            .create(true)
            .append(true)
            .open(log)
            .unwrap_or_else(|e| panic!("open {}: {e}", log.display()));
        let err = out.try_clone().expect("a second handle of the log");
        let mut child = Command::new("sh")
            .args(["-c", HELD, "held"])
            .arg(program)
            .args(args)
            .envs(env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(out)
            .stderr(err)
            .process_group(0)
            .spawn()
            .expect("start `sh`");
        let mut word = child.stdin.take().expect("the pipe was asked for");
        tell(&format!("group {}", child.id()));
        word.write_all(b"go\n").expect("the shell waits for it");
        Process { child, ended: None }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() && self.has_exited() {
            self.collect();
        }
        self.ended
    }

    /// Sends a signal to the program and to whatever it has started.
    pub(crate) fn signal(&self, signal: Signal) {
        if self.ended.is_none() {
            // It fails only where nothing is left to be signalled.
            let _ = kill_process_group(self.group(), signal);
        }
    }

    /// SIGKILL, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        if self.ended.is_none() {
            self.collect();
        }
    }

    /// SIGTERM to the program alone, as a kubelet does, and waits until it has ended by itself.
    pub(crate) async fn terminate(&mut self, within: Duration) -> Option<ExitStatus> {
        if let Some(status) = self.ended() {
            return Some(status);
        }
        let pid = self.group();
        rustix::process::kill_process(pid, Signal::TERM).expect("it is not collected yet");
        self.wait(within).await
    }

    /// Waits until it has ended by itself; `None` when it still runs after `within`.
    pub(crate) async fn wait(&mut self, within: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + within;
        while self.ended().is_none() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.ended
    }

    fn group(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Whether it has ended; it stays in the process table, so that its id names nothing else.
    fn has_exited(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        matches!(waitid(WaitId::Pid(self.group()), options), Ok(Some(_)))
    }

    /// Kills what is left of the group while its id is still ours, then collects the program.
    fn collect(&mut self) {
        // It fails only where nothing is left.
        let _ = kill_process_group(self.group(), Signal::KILL);
        self.ended = Some(self.child.wait().expect("it is our child"));
        tell(&format!("done {}", self.child.id()));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended.is_none() {
            self.collect();
        }
    }
}

/// Whether any process of this group runs. One that has ended and waits to be collected by its parent (which may be
/// a careless init once we are gone) does not.
pub(crate) fn group_runs(group: u32) -> bool {
    let entries = std::fs::read_dir("/proc").expect("Linux");
    entries.flatten().any(|entry| {
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else {
            return false; // no process, or gone meanwhile
        };
        // pid (name) state parent group …; the name may hold anything
        let mut after_name = stat.rsplit(") ").next().unwrap_or_default().split(' ');
        let state = after_name.next();
        let its_group = after_name.nth(1).and_then(|text| text.parse().ok());
        its_group == Some(group) && !matches!(state, Some("Z" | "X"))
    })
}
