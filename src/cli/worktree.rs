//! What a checkout has otherwise than the commit that it is of: the files that are changed, added or deleted and not
//! committed, but for what Git ignores.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use git2::{AttrCheckFlags, ErrorClass, IndexEntryExtendedFlag, Repository, Status, StatusOptions, StatusShow};

/// Attributes that have Git store other bytes than the file has, in ways that libgit2 knows nothing of.
const CONVERSIONS: [&str; 2] = ["working-tree-encoding", "filter"];

/// The paths below a folder, from the root, of which the checkout may have something else than its commit. What is there now
/// is for the caller to see.
pub(super) fn uncommitted(repository: &Repository, root: &Path, folder: &str) -> anyhow::Result<BTreeSet<PathBuf>> {
    let paths = match by_library(repository, folder) {
        Ok(paths) => paths,
        // such as a sparse index
        Err(error) if error.class() == ErrorClass::Index => return by_git(repository, root, folder, error.message()),
        Err(error) => return Err(error).context("cannot compare the checkout with its commit"),
    };
    // libgit2 cannot tell whether such a file is changed
    let converted = paths.iter().any(|path| conversion(repository, path).is_ok_and(|attribute| attribute.is_some()));
    if converted {
        return by_git(repository, root, folder, "a file is stored in another form than it has in the checkout");
    }
    Ok(paths)
}

/// The attribute by which Git stores other bytes than this file has, in a way that libgit2 does not know.
pub(super) fn conversion(repository: &Repository, path: &Path) -> Result<Option<&'static str>, git2::Error> {
    for name in CONVERSIONS {
        let value = repository.get_attr_bytes(path, name, AttrCheckFlags::FILE_THEN_INDEX)?;
        let value = git2::AttrValue::from_bytes(value);
        if matches!(value, git2::AttrValue::True | git2::AttrValue::String(_) | git2::AttrValue::Bytes(_)) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// The same, and for any way, where the index is of a form that libgit2 does not read: what it stores is not known here then.
pub(super) fn any_conversion(repository: &Repository, root: &Path, path: &Path) -> anyhow::Result<Option<String>> {
    let mut command = git(repository, root)?;
    command
        .args(["check-attr", "-z", "working-tree-encoding", "filter", "text", "eol", "ident", "crlf", "--"])
        .arg(path);
    let output = run(command, "the index is of a form that is not known here")?;
    // path, attribute and value, each ended by NUL
    let words: Vec<&[u8]> = output.split(|byte| *byte == 0).collect();
    let set = words.chunks_exact(3).find(|words| words[2] != b"unspecified" && words[2] != b"unset");
    Ok(set.map(|words| String::from_utf8_lossy(words[1]).into_owned()))
}

fn by_library(repository: &Repository, folder: &str) -> Result<BTreeSet<PathBuf>, git2::Error> {
    let mut options = StatusOptions::new();
    options
        .show(StatusShow::IndexAndWorkdir)
        .include_untracked(true)
        .recurse_untracked_dirs(true)
        .include_ignored(false)
        .exclude_submodules(true)
        .no_refresh(true)
        .disable_pathspec_match(true);
    if !folder.is_empty() {
        options.pathspec(folder);
    }
    let statuses = repository.statuses(Some(&mut options))?;
    let index = repository.index()?;
    // in a sparse checkout what is not there is not deleted
    let left_out = |path: &Path| {
        let skipped = IndexEntryExtendedFlag::SKIP_WORKTREE.bits();
        index.get_path(path, 0).is_some_and(|entry| entry.flags_extended & skipped != 0)
    };
    let changed = statuses.iter().map(|entry| (path_of(entry.path_bytes()), entry.status()));
    let changed = changed.filter(|(path, status)| *status != Status::WT_DELETED || !left_out(path));
    Ok(changed.map(|(path, _)| path).collect())
}

fn by_git(repository: &Repository, root: &Path, folder: &str, why: &str) -> anyhow::Result<BTreeSet<PathBuf>> {
    let mut command = git(repository, root)?;
    command.args([
        "status",
        "--porcelain=v1",
        "-z",
        "--untracked-files=all",
        "--no-renames",
        "--ignore-submodules=all",
    ]);
    command.args(["--", if folder.is_empty() { "." } else { folder }]);
    let output = run(command, why)?;
    // `XY path`, each ended by NUL
    Ok(output.split(|byte| *byte == 0).filter_map(|entry| entry.get(3..)).map(path_of).collect())
}

/// The installed Git, which knows each form of its own index. It runs nothing that the checkout or anybody's configuration
/// names (hooks, filters, monitors), and gets no objects over the network.
fn git(repository: &Repository, root: &Path) -> anyhow::Result<Command> {
    let mut command = Command::new("git");
    command.current_dir(root).args(["--no-optional-locks", "--literal-pathspecs"]);
    let mut settings = vec!["core.fsmonitor=false".to_owned(), "core.hooksPath=/dev/null".to_owned()];
    for driver in filters(repository)? {
        settings
            .extend(["clean=", "smudge=", "process=", "required=false"].map(|set| format!("filter.{driver}.{set}")));
    }
    for setting in settings {
        command.args(["-c", &setting]);
    }
    for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_CONFIG_PARAMETERS", "GIT_CONFIG_COUNT"] {
        command.env_remove(name);
    }
    command.env("GIT_NO_LAZY_FETCH", "1").env("GIT_TERMINAL_PROMPT", "0").stdin(Stdio::null());
    Ok(command)
}

fn run(mut command: Command, why: &str) -> anyhow::Result<Vec<u8>> {
    let output = match command.output() {
        Ok(output) => output,
        Err(error) if error.kind() == io::ErrorKind::NotFound => bail!(
            "cannot compare the checkout with its commit: {why}; Git itself knows more, but there is no `git` here to ask. \
             Install it, or clone anew without --sparse"
        ),
        Err(error) => return Err(error).context("cannot run git"),
    };
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    bail!("cannot compare the checkout with its commit: {why}; and git says: {}", crate::git::one_line(said.trim()))
}

/// The names of all filter drivers that are configured.
fn filters(repository: &Repository) -> anyhow::Result<BTreeSet<String>> {
    let config = repository.config().context("cannot read Git's configuration")?;
    let mut names = BTreeSet::new();
    let mut entries = config.entries(Some("^filter\\..*")).context("cannot read Git's configuration")?;
    while let Some(entry) = entries.next() {
        let entry = entry.context("cannot read Git's configuration")?;
        let name = entry.name().unwrap_or_default();
        names.extend(
            name.strip_prefix("filter.").and_then(|name| name.rsplit_once('.')).map(|(name, _)| name.to_owned()),
        );
    }
    Ok(names)
}

/// A folder that is a repository of its own has a `/` at its end.
fn path_of(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes.strip_suffix(b"/").unwrap_or(bytes)))
}
