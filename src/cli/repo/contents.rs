//! What a repository holds after a change, and what it held before.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use git2::Oid;

use crate::cli::checkout::Checkout;
use crate::cli::files;
use crate::git::{File, FileKind};
use crate::policy::{Format, MAX_DOCUMENT_BYTES};

/// Commits before the base that are read for the versions that were published in them; as many as the controller reads.
const MOST_COMMITS: usize = 1_000;

/// The documents of a repository, and those of the commits before.
pub(super) struct Contents {
    /// What is there once the change is merged, by path.
    pub(super) tip: Vec<File>,
    /// What the base holds, by path.
    pub(super) base: Vec<File>,
    /// What the commits before the base, and the base itself, added or changed, oldest first.
    pub(super) earlier: Vec<(String, Vec<File>)>,
    /// Whether base and change have no commit in common.
    pub(super) unrelated: bool,
    /// Contents of files of the checkout, by blob id.
    texts: HashMap<String, Vec<u8>>,
}

/// What the change is held against.
pub(super) struct Base {
    pub(super) id: Oid,
    /// The change is pushed as it is: nothing of the base that it lacks is merged in.
    pub(super) pushed: bool,
}

impl Contents {
    /// Reads the documents of the folder `path` (as in `spec.path`) of the checkout `dir`, and those of the base.
    pub(super) fn read(
        checkout: Option<&Checkout>,
        dir: &Path,
        path: &str,
        base: Option<&Base>,
    ) -> anyhow::Result<Contents> {
        let mut contents = Contents {
            tip: Vec::new(),
            base: Vec::new(),
            earlier: Vec::new(),
            unrelated: false,
            texts: HashMap::new(),
        };
        let folder = &folder(dir, path);
        let prefix = match checkout {
            Some(checkout) => {
                let root = dir.canonicalize().with_context(|| format!("cannot read {}", dir.display()))?;
                self::folder(Path::new(&checkout.path_of(&root)?), path)
            }
            None => folder.clone(),
        };
        let prefix = prefix.to_string_lossy().into_owned();
        let there = is_folder(dir, path);
        if there {
            contents.walk(checkout, folder, &prefix)?;
        }
        contents.tip.sort_by(|a, b| a.path.cmp(&b.path));
        let (Some(checkout), Some(base)) = (checkout, base) else {
            anyhow::ensure!(there, "there is no folder {}; name the documents' folder with --path", folder.display());
            return Ok(contents);
        };
        let before = checkout.documents(base.id, &prefix)?;
        anyhow::ensure!(
            there || before.is_some(),
            "there is no folder {}, here or in the base; name the documents' folder with --path",
            folder.display()
        );
        contents.base = before.unwrap_or_default();
        let fork = checkout.merge_base(base.id, checkout.id("HEAD")?)?;
        contents.unrelated = fork.is_none() || (base.pushed && fork != Some(base.id));
        if let Some(fork) = fork.filter(|fork| *fork != base.id && !base.pushed) {
            let fork = checkout.documents(fork, &prefix)?.unwrap_or_default();
            contents.tip = merged(&fork, &contents.base, &contents.tip);
        }
        for commit in checkout.history(base.id, MOST_COMMITS)? {
            let changed = checkout.changed(commit, &prefix)?;
            if !changed.is_empty() {
                contents.earlier.push((commit.to_string(), changed));
            }
        }
        Ok(contents)
    }

    /// All documents below a folder, but for what Git leaves out.
    fn walk(&mut self, checkout: Option<&Checkout>, folder: &Path, prefix: &str) -> anyhow::Result<()> {
        let cannot = || format!("cannot read {}", folder.display());
        let entries: Vec<_> =
            std::fs::read_dir(folder).with_context(cannot)?.collect::<Result<_, _>>().with_context(cannot)?;
        for entry in entries {
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}/{name}") };
            let kind = entry.file_type()?;
            let submodule = kind.is_dir() && entry.path().join(".git").exists();
            // by file: one in a folder that is ignored may be tracked all the same
            if kind.is_dir() && !submodule {
                if name != ".git" {
                    self.walk(checkout, &entry.path(), &path)?;
                }
                continue;
            }
            if Format::of_path(&name).is_none() || checkout.map_or(Ok(false), |checkout| checkout.ignores(&path))? {
                continue;
            }
            let unread = match () {
                () if submodule => Some(FileKind::Submodule),
                () if kind.is_symlink() => Some(FileKind::Symlink),
                () if entry.path().to_str().is_none() => Some(FileKind::NotUtf8),
                () => None,
            };
            let file = match unread {
                Some(kind) => File { path, blob: String::new(), size: 0, kind },
                None => self.file(&entry.path(), path)?,
            };
            self.tip.push(file);
        }
        Ok(())
    }

    fn file(&mut self, from: &Path, path: String) -> anyhow::Result<File> {
        let text = files::read(from, MAX_DOCUMENT_BYTES)?;
        let size = std::fs::metadata(from).with_context(|| format!("cannot read {}", from.display()))?.len();
        let blob = Oid::hash_object(git2::ObjectType::Blob, &text)?.to_string();
        self.texts.insert(blob.clone(), text);
        Ok(File { path, blob, size, kind: FileKind::Regular })
    }

    /// The content of a file.
    pub(super) fn text(&self, checkout: Option<&Checkout>, file: &File) -> anyhow::Result<Vec<u8>> {
        match (self.texts.get(&file.blob), checkout) {
            (Some(text), _) => Ok(text.clone()),
            (None, Some(checkout)) => checkout.blob(&file.blob),
            (None, None) => anyhow::bail!("{} was not read", file.path),
        }
    }
}

/// What merging leaves, file by file: what the change does not touch is as in the base, which may have gone on since the
/// change forked off.
fn merged(fork: &[File], base: &[File], change: &[File]) -> Vec<File> {
    let by_path = |files: &[File]| files.iter().map(|file| (file.path.clone(), file.clone())).collect();
    let (fork, base, change): (BTreeMap<_, _>, BTreeMap<_, _>, BTreeMap<_, _>) =
        (by_path(fork), by_path(base), by_path(change));
    let same = |a: Option<&File>, b: Option<&File>| {
        a.map(|file| (&file.blob, file.kind)) == b.map(|file| (&file.blob, file.kind))
    };
    let mut paths: Vec<&String> = fork.keys().chain(base.keys()).chain(change.keys()).collect();
    paths.sort();
    paths.dedup();
    let result = |path: &String| if same(fork.get(path), change.get(path)) { base.get(path) } else { change.get(path) };
    paths.into_iter().filter_map(result).cloned().collect()
}

/// Whether there is a folder `path` below `dir`, none of its parts being a link: Git follows none.
fn is_folder(dir: &Path, path: &str) -> bool {
    let folder = folder(dir, path);
    let parts = folder.ancestors().take_while(|part| *part != dir);
    folder.is_dir() && parts.into_iter().all(|part| !part.is_symlink())
}

/// The folder of the documents: `path`, as in `spec.path`, below `dir`.
fn folder(dir: &Path, path: &str) -> PathBuf {
    path.split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .fold(dir.to_owned(), |folder, part| folder.join(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(list: &[(&str, &str)]) -> Vec<File> {
        let file = |(path, blob): &(&str, &str)| File {
            path: (*path).to_owned(),
            blob: (*blob).to_owned(),
            size: 1,
            kind: FileKind::Regular,
        };
        list.iter().map(file).collect()
    }

    #[test]
    fn what_a_change_does_not_touch_is_as_in_the_base() {
        let fork = files(&[("deleted", "1"), ("deleted in base", "1"), ("edited", "1"), ("newer in base", "1")]);
        let base = files(&[("added in base", "2"), ("deleted", "1"), ("edited", "1"), ("newer in base", "2")]);
        let change = files(&[("added", "3"), ("deleted in base", "1"), ("edited", "3"), ("newer in base", "1")]);
        let expected = files(&[("added", "3"), ("added in base", "2"), ("edited", "3"), ("newer in base", "2")]);
        assert_eq!(merged(&fork, &base, &change), expected);
    }
}
