//! What a child is locked in by, as the controller tells it; how is in `child::sandbox`.

use serde::{Deserialize, Serialize};

/// What a child of this program is kept from, on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sandbox {
    /// Files outside of the clone that it works on (Landlock).
    pub files: bool,
    /// Connections that its parent did not make for it (seccomp, or Landlock since Linux 6.7).
    pub network: bool,
    /// All that reading a repository does not take of the kernel, such as to execute and to trace (seccomp).
    pub system_calls: bool,
}

impl Sandbox {
    /// Each part by its name in logs and metrics, and whether it is there.
    #[must_use]
    pub fn parts(&self) -> [(&'static str, bool); 3] {
        [("files", self.files), ("network", self.network), ("system_calls", self.system_calls)]
    }
}

/// What somebody would try who has taken over a child.
#[cfg(debug_assertions)]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Attack {
    /// Read a file.
    Read(std::path::PathBuf),
    /// List a folder.
    List(std::path::PathBuf),
    /// Write a file.
    Write(std::path::PathBuf),
    /// Run a program as a process of its own.
    Spawn(std::path::PathBuf),
    /// Become another program.
    Execute(std::path::PathBuf),
    /// Connect over TCP by itself.
    Connect(std::net::SocketAddr),
    /// Make a socket for UDP.
    Udp,
    /// Connect to a socket of the file system.
    Unix(std::path::PathBuf),
    /// Have the parent connect.
    AskFor(String, u16),
    /// Trace a process.
    Trace(i32),
    /// Read the memory of a process.
    ReadMemory(i32),
    /// Send a process a signal.
    Kill(i32),
    /// Make memory that can be written and executed.
    ExecutableMemory,
}
