//! Real repositories, made with the real `git`.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use sekuire_policy::git::{File, Git, GitError, Limits, Request, Snapshot};
use tempfile::TempDir;

/// A temporary folder with repositories and the data directory of a [`Git`].
pub struct Fixture {
    dir: TempDir,
    pub git: Git,
}

impl Fixture {
    pub fn new() -> Self {
        Self::with(Limits::default())
    }

    pub fn with(limits: Limits) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let exe = PathBuf::from(env!("CARGO_BIN_EXE_sekuire"));
        let git = Git::new(exe, dir.path().join("data"), limits, true);
        Self { dir, git }
    }

    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub fn root(&self) -> &Path {
        self.dir.path()
    }

    /// A repository with the branch `main` and no commit.
    pub fn repository(&self, name: &str) -> Repository {
        let path = self.dir.path().join(name);
        fs::create_dir(&path).unwrap();
        let repository = Repository { path };
        repository.git(&["init", "-q", "-b", "main"]);
        repository
    }

    /// The snapshot of a repository over `file://`, under the key `one`.
    pub async fn snapshot(&self, repository: &Repository) -> Result<Snapshot, GitError> {
        self.git.snapshot(&repository.request()).await
    }
}

/// A repository with a work tree.
pub struct Repository {
    pub path: PathBuf,
}

impl Repository {
    pub fn url(&self) -> String {
        format!("file://{}", self.path.display())
    }

    pub fn request(&self) -> Request {
        Request::new("one", self.url())
    }

    /// Runs git and returns what it printed, without the last line's end.
    pub fn git(&self, arguments: &[&str]) -> String {
        self.git_with_input(arguments, b"")
    }

    pub fn git_with_input(&self, arguments: &[&str], input: &[u8]) -> String {
        let output = self.try_git(arguments, input);
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    fn try_git(&self, arguments: &[&str], input: &[u8]) -> Output {
        let mut child = command(&self.path).args(arguments).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        child.wait_with_output().unwrap()
    }

    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.path.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Commits everything in the work tree and returns the commit's id.
    pub fn commit(&self, message: &str) -> String {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", message]);
        self.head()
    }

    /// Writes one file and commits it.
    pub fn commit_file(&self, path: &str, content: impl AsRef<[u8]>) -> String {
        self.write(path, content);
        self.commit(path)
    }

    pub fn head(&self) -> String {
        self.git(&["rev-parse", "HEAD"])
    }
}

/// `git` that knows nothing of the machine it runs on.
pub fn command(directory: &Path) -> Command {
    let mut command = Command::new("git");
    command
        .current_dir(directory)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_AUTHOR_NAME", "Test")
        .env("GIT_AUTHOR_EMAIL", "test@example.com")
        .env("GIT_COMMITTER_NAME", "Test")
        .env("GIT_COMMITTER_EMAIL", "test@example.com")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

pub fn paths(files: &[File]) -> Vec<&str> {
    files.iter().map(|file| file.path.as_str()).collect()
}

/// The error of something that must fail, with its reason checked.
#[track_caller]
pub fn refused<T: std::fmt::Debug>(result: Result<T, GitError>, reason: &str, says: &str) -> GitError {
    let error = result.unwrap_err();
    assert_eq!(error.reason(), reason, "{error}");
    assert!(error.to_string().contains(says), "{error}");
    error
}
