//! The Git repository around a folder, read only.
//!
//! In this process, not in a child: it is the user's own checkout, with the user's own rights.

use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use git2::{Oid, Repository};

use super::{files, worktree};
use crate::git::{Documents, File, FileKind, GitError, Limits, Place, Trouble, fault_of_path};
use crate::policy::Format;
use crate::policy::document::MAX_DOCUMENT_BYTES;

/// Before the folders of objects, which are 1 and 2.
const MEMORY_FIRST: i32 = 1000;

/// The repository of a checkout.
pub(super) struct Checkout(Repository);

impl Checkout {
    /// The repository that this folder belongs to.
    pub(super) fn of(dir: &Path) -> anyhow::Result<Checkout> {
        Checkout::find(dir)?.ok_or_else(|| anyhow!("{} is in no Git repository", dir.display()))
    }

    /// The repository that this folder belongs to, if it belongs to one.
    pub(super) fn find(dir: &Path) -> anyhow::Result<Option<Checkout>> {
        match Repository::discover(dir) {
            Ok(repository) => {
                // what is read of files is hashed as Git would; kept in memory, in the place of the user's repository
                repository.odb()?.add_new_mempack_backend(MEMORY_FIRST)?;
                Ok(Some(Checkout(repository)))
            }
            Err(e) if e.code() == git2::ErrorCode::NotFound => Ok(None),
            Err(e) if e.code() == git2::ErrorCode::Owner => bail!(
                "the repository around {} belongs to somebody else; `git config --global --add safe.directory DIR` trusts it",
                dir.display()
            ),
            Err(e) => bail!("cannot read the repository around {}: {}", dir.display(), e.message()),
        }
    }

    /// Whether there is something at `path` (from the root of the repository) in the commit that `revision` names.
    pub(super) fn has(&self, revision: &str, path: &str) -> anyhow::Result<bool> {
        Ok(self.commit(revision)?.tree()?.get_path(Path::new(path)).is_ok())
    }

    /// The document `path` (from the root of the repository) in the commit that `revision` names, of at most `limit` bytes.
    pub(super) fn file(&self, revision: &str, path: &str, limit: usize) -> anyhow::Result<Vec<u8>> {
        let commit = self.commit(revision)?.id();
        let documents = self.listing("").and_then(|documents| self.told(documents.at(commit, path)))?;
        let Some(file) = documents else {
            bail!("there is no {path} in {revision}; paths are given from the root of the repository");
        };
        match file.kind {
            FileKind::Regular if file.size > limit as u64 => {
                bail!("{path} in {revision} has {} bytes; a document has at most {limit}", file.size)
            }
            FileKind::Regular => self.blob(&file.blob).with_context(|| format!("cannot read {path} in {revision}")),
            _ => bail!("{path} in {revision} is no file"),
        }
    }

    /// The root of the checkout.
    fn root(&self) -> anyhow::Result<PathBuf> {
        let root = self.0.workdir().ok_or_else(|| anyhow!("the repository has no checkout"))?;
        root.canonicalize().with_context(|| format!("cannot read {}", root.display()))
    }

    /// The path of a file of the checkout from the root of the repository, with `/`.
    pub(super) fn path_of(&self, file: &Path) -> anyhow::Result<String> {
        let root = self.root()?;
        // the file itself may be a link, or not be there any more
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let folder = folder.canonicalize().with_context(|| format!("cannot read {}", folder.display()))?;
        let path = folder.join(file.file_name().unwrap_or_default());
        let path = path.strip_prefix(&root).map_err(|_| anyhow!("{} is not in the checkout", file.display()))?;
        path.to_str().map(str::to_owned).ok_or_else(|| anyhow!("{} is no path in UTF-8", file.display()))
    }

    /// The commit that a revision (gitrevisions(7)) names.
    fn commit(&self, revision: &str) -> anyhow::Result<git2::Commit<'_>> {
        let object = self.0.revparse_single(revision).map_err(|e| {
            anyhow!("{revision} names no commit of this repository: {}; a shallow clone may lack it", e.message())
        })?;
        object.peel_to_commit().map_err(|_| anyhow!("{revision} names no commit"))
    }

    /// The commit that the checkout is of; none before the first.
    pub(super) fn head(&self) -> anyhow::Result<Option<Oid>> {
        match self.0.head() {
            Ok(_) => self.id("HEAD").map(Some),
            Err(e) if matches!(e.code(), git2::ErrorCode::UnbornBranch | git2::ErrorCode::NotFound) => Ok(None),
            Err(e) => bail!("cannot read HEAD: {}", e.message()),
        }
    }

    /// The id of the commit that a revision names.
    pub(super) fn id(&self, revision: &str) -> anyhow::Result<Oid> {
        Ok(self.commit(revision)?.id())
    }

    /// The newest commit that both descend from, if there is one.
    pub(super) fn merge_base(&self, one: Oid, other: Oid) -> anyhow::Result<Option<Oid>> {
        match self.0.merge_base(one, other) {
            Ok(id) => Ok(Some(id)),
            Err(e) if e.code() == git2::ErrorCode::NotFound && self.0.is_shallow() => bail!(
                "the commits {one} and {other} have no common one in this shallow clone; fetch all of the history \
                 (`git fetch --unshallow`; in GitHub Actions `fetch-depth: 0`)"
            ),
            Err(e) if e.code() == git2::ErrorCode::NotFound => Ok(None),
            Err(e) => bail!("cannot follow the history of {one}: {}", e.message()),
        }
    }

    /// A commit and those before it on its first-parent line, oldest first, at most so many.
    pub(super) fn history(&self, commit: Oid, most: usize) -> anyhow::Result<Vec<Oid>> {
        let mut ids = vec![commit];
        let mut at = self.0.find_commit(commit)?;
        while ids.len() < most {
            let Ok(parent) = at.parent(0) else { break }; // the first one, or the end of a shallow clone
            ids.push(parent.id());
            at = parent;
        }
        ids.reverse();
        Ok(ids)
    }

    /// The documents of a commit below a folder (from the root), by path, as the controller lists them; none if the folder is
    /// not there. The inner error is one that the controller has too: the commit goes beyond a limit.
    pub(super) fn documents(&self, commit: Oid, folder: &str) -> anyhow::Result<Result<Option<Vec<File>>, GitError>> {
        self.bounded(self.listing(folder)?.of(commit, None))
    }

    /// The documents below a folder that a commit added or changed against its first parent. None of one that goes beyond a
    /// limit: the controller does not read it either.
    pub(super) fn changed(&self, commit: Oid, folder: &str) -> anyhow::Result<Vec<File>> {
        // there is none, or it is where a shallow clone ends
        let parent = self.0.find_commit(commit)?.parent(0).ok().map(|parent| parent.id());
        let changed = self.bounded(self.listing(folder)?.of(commit, parent))?;
        Ok(changed.ok().flatten().unwrap_or_default())
    }

    /// What the checkout has otherwise than its commit below a folder, by path from the root: what is there now, or nothing.
    pub(super) fn uncommitted(&self, folder: &str) -> anyhow::Result<Vec<(PathBuf, Option<File>)>> {
        let root = self.root()?;
        let mut found = Vec::new();
        for path in worktree::uncommitted(&self.0, &root, folder)? {
            let below = path.as_os_str().as_bytes().strip_prefix(folder.as_bytes()).unwrap_or_default();
            let below = below.iter().skip_while(|byte| **byte == b'/');
            let depth = below.filter(|byte| **byte == b'/').count();
            // what Git would follow no link to is not there
            let mut folders = path.ancestors().skip(1).filter(|folder| !folder.as_os_str().is_empty());
            let linked = folders.any(|folder| root.join(folder).is_symlink());
            let now = if linked { None } else { self.file_of_checkout(&root.join(&path), &path, depth)? };
            found.push((path, now));
        }
        Ok(found)
    }

    /// A file of the checkout, as Git would commit it.
    fn file_of_checkout(&self, file: &Path, path: &Path, depth: usize) -> anyhow::Result<Option<File>> {
        let cannot = || format!("cannot read {}", file.display());
        let Some((mut found, size)) = looked_at(file, path.as_os_str().as_bytes(), depth).with_context(cannot)? else {
            return Ok(None);
        };
        if found.kind == FileKind::Regular {
            let unknown_index = |error: &git2::Error| error.class() == git2::ErrorClass::Index;
            let (conversion, plain) = match worktree::conversion(&self.0, path) {
                Err(error) if unknown_index(&error) => (worktree::any_conversion(&self.0, &self.root()?, path)?, true),
                known => (known.with_context(cannot)?.map(str::to_owned), false),
            };
            if let Some(attribute) = conversion {
                bail!(
                    "{} is not committed, and .gitattributes ({attribute}) has Git store other bytes than are in the file: commit \
                     it, and what is committed is judged",
                    path.display()
                );
            }
            // line ends may go, which is what the controller would never see
            if size <= 2 * MAX_DOCUMENT_BYTES as u64 {
                let id = if plain {
                    self.0.blob(&files::read(file, 2 * MAX_DOCUMENT_BYTES)?)
                } else {
                    self.0.blob_path(file)
                };
                let id = id.with_context(cannot)?;
                found.size = self.0.odb()?.read_header(id)?.0 as u64;
                found.blob = id.to_string();
            }
        }
        Ok(Some(found))
    }

    fn listing<'a>(&'a self, folder: &'a str) -> anyhow::Result<Documents<'a>> {
        Documents::new(&self.0, folder, Limits::default().files).context("cannot read the repository")
    }

    fn bounded<T>(&self, listed: Result<T, Trouble>) -> anyhow::Result<Result<T, GitError>> {
        match listed {
            Err(Trouble::Final(error @ GitError::Limit(_))) => Ok(Err(error)),
            listed => self.told(listed).map(Ok),
        }
    }

    /// What helps where an object is missing.
    fn told<T>(&self, outcome: Result<T, Trouble>) -> anyhow::Result<T> {
        outcome.map_err(|trouble| {
            let missing = matches!(trouble, Trouble::Clone(_));
            self.advised(anyhow::Error::new(trouble.into_error()), missing)
        })
    }

    fn advised(&self, error: anyhow::Error, missing: bool) -> anyhow::Error {
        match () {
            () if missing && self.is_partial() => error.context(
                "this is a partial clone, which lacks the content of files: get it with `git fetch --refetch --no-filter`, or clone \
                 without --filter (actions/checkout: without `filter:`)",
            ),
            () if missing => error.context("the repository lacks an object; clone it anew"),
            () => error,
        }
    }

    /// Whether objects that are missing are to be had from a remote, which only Git itself does.
    fn is_partial(&self) -> bool {
        let Ok(config) = self.0.config() else { return false };
        let Ok(mut entries) = config.entries(Some("^(extensions\\.partialclone|remote\\..*\\.promisor)$")) else {
            return false;
        };
        entries.next().is_some()
    }

    /// The content of a blob, of a commit or of [`Checkout::uncommitted`].
    pub(super) fn blob(&self, id: &str) -> anyhow::Result<Vec<u8>> {
        match self.0.find_blob(Oid::from_str(id)?) {
            Ok(blob) => Ok(blob.content().to_vec()),
            Err(error) => {
                let missing = error.code() == git2::ErrorCode::NotFound;
                Err(self.advised(anyhow::Error::new(error), missing))
            }
        }
    }
}

/// A file on disk, and its size there. Nothing if it is not there, or no document; its content is not read.
pub(super) fn looked_at(file: &Path, path: &[u8], depth: usize) -> io::Result<Option<(File, u64)>> {
    let metadata = match std::fs::symlink_metadata(file) {
        Ok(metadata) => metadata,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let name = String::from_utf8_lossy(path).into_owned();
    if Format::of_path(&name).is_none() {
        return Ok(None);
    }
    let kind = match () {
        () if metadata.is_dir() && file.join(".git").exists() => FileKind::Submodule,
        () if metadata.is_dir() => return Ok(None),
        () if let Some(fault) = fault_of_path(Place { path, depth }) => fault,
        () if metadata.is_symlink() => FileKind::Symlink,
        () if std::str::from_utf8(path).is_err() => FileKind::NotUtf8,
        () if metadata.is_file() => FileKind::Regular,
        () => FileKind::Malformed,
    };
    let size = metadata.len();
    Ok(Some((File { path: name, blob: String::new(), size, kind }, size)))
}
