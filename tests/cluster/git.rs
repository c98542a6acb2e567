//! A real Git repository, made by the real `git`, that knows nothing of the person who runs the test.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicI64, Ordering},
};

use tempfile::TempDir;
use tokio::process::Command;

use super::{
    command::{Ran, run},
    guard,
};

/// The time of the first commit, in seconds; each is a second later. So equal steps make equal commits.
const FIRST_COMMIT: i64 = 1_767_225_600; // 2026-01-01T00:00:00Z

/// A bare repository that others fetch from, and a clone to work in. What is committed is pushed.
pub(crate) struct GitRepo {
    commits: AtomicI64,
    folder: TempDir,
}

impl GitRepo {
    /// A repository without any commit, whose branch will be `main`.
    pub(crate) async fn new() -> GitRepo {
        let folder = tempfile::Builder::new().prefix("sekuire-git-").tempdir().expect("make a temporary folder");
        guard::remove_at_end(folder.path());
        let repo = GitRepo { commits: AtomicI64::new(0), folder };
        repo.git_in(repo.folder.path(), &["init", "--quiet", "--bare", "-b", "main", "origin.git"], &[]).await.ok();
        repo.git_in(repo.folder.path(), &["init", "--quiet", "-b", "main", "work"], &[]).await.ok();
        repo.git(["remote", "add", "origin", &repo.url()]).await;
        repo
    }

    /// `file:///…/origin.git`
    pub(crate) fn url(&self) -> String {
        format!("file://{}", self.origin().display())
    }

    /// The bare repository.
    pub(crate) fn origin(&self) -> PathBuf {
        self.folder.path().join("origin.git")
    }

    /// The folder that commits are made of.
    pub(crate) fn work(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    /// Writes a file of the work folder, and the folders above it.
    pub(crate) fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.work().join(path);
        let parent = path.parent().expect("it is below the work folder");
        fs::create_dir_all(parent).expect("make the folders");
        fs::write(&path, content).expect("write the file");
    }

    /// Removes a file of the work folder.
    pub(crate) fn remove(&self, path: &str) {
        fs::remove_file(self.work().join(path)).expect("remove the file");
    }

    /// Commits all that is in the work folder and pushes it. Returns the commit, 40 hex digits.
    pub(crate) async fn commit(&self, message: &str) -> String {
        let commit = self.commit_only(message).await;
        self.push().await;
        commit
    }

    /// Writes these files, commits and pushes.
    pub(crate) async fn commit_files<C: AsRef<[u8]>>(
        &self,
        message: &str,
        files: impl IntoIterator<Item = (&str, C)>,
    ) -> String {
        for (path, content) in files {
            self.write(path, content);
        }
        self.commit(message).await
    }

    /// Commits and does not push, so that several commits can arrive at once.
    pub(crate) async fn commit_only(&self, message: &str) -> String {
        self.git(["add", "--all", "--force", "."]).await;
        self.git(["commit", "--quiet", "--allow-empty", "-m", message]).await;
        self.head().await
    }

    /// Pushes the branch that is checked out.
    pub(crate) async fn push(&self) {
        self.git(["push", "--quiet", "origin", "HEAD"]).await;
    }

    /// Puts another commit in the place of the last one, and pushes it by force. Returns the commit.
    pub(crate) async fn amend(&self, message: &str) -> String {
        self.git(["add", "--all", "--force", "."]).await;
        self.git(["commit", "--quiet", "--amend", "--allow-empty", "-m", message]).await;
        self.force_push().await;
        self.head().await
    }

    /// Takes the branch back to `commit`, and pushes that by force.
    pub(crate) async fn reset(&self, commit: &str) {
        self.git(["reset", "--quiet", "--hard", commit]).await;
        self.force_push().await;
    }

    /// Makes a history of one commit that has no parent, out of what is in the work folder, and pushes it by force.
    pub(crate) async fn rewrite(&self, message: &str) -> String {
        let branch = self.git(["branch", "--show-current"]).await.trim().to_owned();
        self.git(["checkout", "--quiet", "--orphan", "rewritten"]).await;
        let commit = self.commit_only(message).await;
        self.git(["branch", "-M", "rewritten", &branch]).await;
        self.force_push().await;
        commit
    }

    pub(crate) async fn force_push(&self) {
        self.git(["push", "--quiet", "--force", "origin", "HEAD"]).await;
    }

    /// The commit that is checked out.
    pub(crate) async fn head(&self) -> String {
        self.git(["rev-parse", "HEAD"]).await.trim().to_owned()
    }

    /// Runs git in the work folder; it has to succeed. Returns its standard output.
    pub(crate) async fn git<const N: usize>(&self, args: [&str; N]) -> String {
        self.git_in(&self.work(), &args, &[]).await.ok()
    }

    /// Runs git in `folder`, with more environment.
    pub(crate) async fn git_in(&self, folder: &Path, args: &[&str], env: &[(&str, &str)]) -> Ran {
        let time = FIRST_COMMIT + self.commits.fetch_add(1, Ordering::Relaxed);
        let mut command = Command::new("git");
        command.args(args).current_dir(folder).envs(clean_env(time));
        for (name, value) in env {
            command.env(name, value);
        }
        run(command, &[]).await
    }
}

/// The environment that keeps the configuration of the machine and of its user away from git.
pub(crate) fn clean_env(time: i64) -> Vec<(&'static str, String)> {
    let time = format!("{time} +0000");
    let text = str::to_owned;
    vec![
        ("GIT_CONFIG_GLOBAL", text("/dev/null")),
        ("GIT_CONFIG_NOSYSTEM", text("1")),
        ("GIT_TERMINAL_PROMPT", text("0")),
        ("GIT_AUTHOR_NAME", text("Platform Team")),
        ("GIT_AUTHOR_EMAIL", text("platform@example.com")),
        ("GIT_AUTHOR_DATE", time.clone()),
        ("GIT_COMMITTER_NAME", text("Platform Team")),
        ("GIT_COMMITTER_EMAIL", text("platform@example.com")),
        ("GIT_COMMITTER_DATE", time),
    ]
}
