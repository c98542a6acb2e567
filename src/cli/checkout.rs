//! The Git repository around a folder, read only.
//!
//! In this process, not in a child: it is the user's own checkout, with the user's own rights.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use git2::{Delta, ObjectType, Oid, Repository, Tree, TreeWalkMode, TreeWalkResult};

use crate::git::{File, FileKind};
use crate::policy::Format;

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
            Ok(repository) => Ok(Some(Checkout(repository))),
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

    /// The file `path` (from the root of the repository) in the commit that `revision` names, of at most `limit` bytes.
    pub(super) fn file(&self, revision: &str, path: &str, limit: usize) -> anyhow::Result<Vec<u8>> {
        let commit = self.commit(revision)?;
        let tree = commit.tree()?;
        let entry = tree.get_path(Path::new(path)).map_err(|_| {
            anyhow!("there is no {path} in {revision}; paths are given from the root of the repository")
        })?;
        if entry.kind() != Some(ObjectType::Blob) {
            bail!("{path} in {revision} is no file");
        }
        let blob = self.0.find_blob(entry.id()).with_context(|| format!("cannot read {path} in {revision}"))?;
        if blob.size() > limit {
            bail!("{path} in {revision} has {} bytes; a policy document has at most {limit}", blob.size());
        }
        Ok(blob.content().to_vec())
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

    /// The documents of a commit below a folder (from the root), by path; none if the folder is not there.
    pub(super) fn documents(&self, commit: Oid, folder: &str) -> anyhow::Result<Option<Vec<File>>> {
        let Some(tree) = self.folder(commit, folder)? else { return Ok(None) };
        let (mut files, mut broken) = (Vec::new(), None);
        tree.walk(TreeWalkMode::PreOrder, |below, entry| {
            // what is not UTF-8 the controller refuses by name; here there is no name to point at
            let Ok(name) = entry.name() else { return TreeWalkResult::Skip };
            let kind = match entry.filemode() {
                0o040_000 => return TreeWalkResult::Ok,
                0o120_000 => FileKind::Symlink,
                0o160_000 => FileKind::Submodule,
                _ => FileKind::Regular,
            };
            if Format::of_path(name).is_some() {
                match self.size(entry.id(), kind) {
                    Ok(size) => {
                        files.push(File {
                            path: joined(folder, below, name),
                            blob: entry.id().to_string(),
                            size,
                            kind,
                        });
                    }
                    Err(e) => broken = Some(e),
                }
            }
            TreeWalkResult::Ok
        })?;
        broken.map_or(Ok(Some(files)), |e| Err(e).context("the repository lacks an object; fetch it again"))
    }

    /// The documents below a folder that a commit added or changed against its first parent.
    pub(super) fn changed(&self, commit: Oid, folder: &str) -> anyhow::Result<Vec<File>> {
        let Ok(parent) = self.0.find_commit(commit)?.parent(0) else {
            return Ok(self.documents(commit, folder)?.unwrap_or_default());
        };
        let (new, old) = (self.folder(commit, folder)?, self.folder(parent.id(), folder)?);
        if new.as_ref().map(Tree::id) == old.as_ref().map(Tree::id) {
            return Ok(Vec::new());
        }
        let diff = self.0.diff_tree_to_tree(old.as_ref(), new.as_ref(), None)?;
        let mut files = Vec::new();
        for delta in diff.deltas().filter(|delta| matches!(delta.status(), Delta::Added | Delta::Modified)) {
            let file = delta.new_file();
            let Some(path) = file.path().and_then(Path::to_str) else { continue };
            if Format::of_path(path).is_some()
                && matches!(file.mode(), git2::FileMode::Blob | git2::FileMode::BlobExecutable)
            {
                let (blob, size) = (file.id().to_string(), self.size(file.id(), FileKind::Regular)?);
                files.push(File { path: joined(folder, "", path), blob, size, kind: FileKind::Regular });
            }
        }
        Ok(files)
    }

    fn folder(&self, commit: Oid, folder: &str) -> anyhow::Result<Option<Tree<'_>>> {
        let root = self.0.find_commit(commit)?.tree()?;
        if folder.is_empty() {
            return Ok(Some(root));
        }
        match root.get_path(Path::new(folder)) {
            Ok(entry) if entry.kind() == Some(ObjectType::Tree) => Ok(Some(self.0.find_tree(entry.id())?)),
            _ => Ok(None),
        }
    }

    fn size(&self, id: Oid, kind: FileKind) -> Result<u64, git2::Error> {
        if kind == FileKind::Submodule { Ok(0) } else { Ok(self.0.odb()?.read_header(id)?.0 as u64) }
    }

    /// The content of a blob.
    pub(super) fn blob(&self, id: &str) -> anyhow::Result<Vec<u8>> {
        Ok(self.0.find_blob(Oid::from_str(id)?)?.content().to_vec())
    }

    /// Whether Git leaves a file out, as .gitignore says; path from the root.
    pub(super) fn ignores(&self, path: &str) -> anyhow::Result<bool> {
        let tracked = self.0.index()?.get_path(Path::new(path), 0).is_some();
        Ok(!tracked && self.0.is_path_ignored(path)?)
    }
}

fn joined(folder: &str, below: &str, name: &str) -> String {
    if folder.is_empty() { format!("{below}{name}") } else { format!("{folder}/{below}{name}") }
}
