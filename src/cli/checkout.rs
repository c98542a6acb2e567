//! The Git repository around a folder, read only.
//!
//! In this process, not in a child: it is the user's own checkout, with the user's own rights.

use std::path::Path;

use anyhow::{Context as _, anyhow, bail};
use git2::{ObjectType, Repository};

/// The repository of a checkout.
pub(super) struct Checkout(Repository);

impl Checkout {
    /// The repository that this folder belongs to.
    pub(super) fn of(dir: &Path) -> anyhow::Result<Checkout> {
        let repository = Repository::discover(dir).map_err(|e| match e.code() {
            git2::ErrorCode::NotFound => anyhow!("{} is in no Git repository", dir.display()),
            git2::ErrorCode::Owner => anyhow!(
                "the repository around {} belongs to somebody else; `git config --global --add safe.directory DIR` trusts it",
                dir.display()
            ),
            _ => anyhow!("cannot read the repository around {}: {}", dir.display(), e.message()),
        })?;
        Ok(Checkout(repository))
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

    /// The path of a file of the checkout from the root of the repository, with `/`.
    pub(super) fn path_of(&self, file: &Path) -> anyhow::Result<String> {
        let root = self.0.workdir().ok_or_else(|| anyhow!("the repository has no checkout"))?;
        let root = root.canonicalize().with_context(|| format!("cannot read {}", root.display()))?;
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
}
