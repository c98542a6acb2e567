//! What a repository holds after a change, and what it held before.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use git2::Oid;

use crate::cli::checkout::{Checkout, looked_at};
use crate::cli::files;
use crate::git::{File, FileKind, GitError, Place, fault_of_path};
use crate::policy::MAX_DOCUMENT_BYTES;

/// Commits before the base that are read for the versions that were published in them; as many as the controller reads.
const MOST_COMMITS: usize = 1_000;

/// The documents of a repository, and those of the commits before.
#[derive(Default)]
pub(super) struct Contents {
    /// What is there once the change is merged, by path.
    pub(super) tip: Vec<File>,
    /// Why nothing of what is there can be read, here as by the controller.
    pub(super) beyond: Option<GitError>,
    /// What the base holds, by path.
    pub(super) base: Vec<File>,
    /// What the commits before the base, and the base itself, added or changed, oldest first.
    pub(super) earlier: Vec<(String, Vec<File>)>,
    /// Whether base and change have no commit in common.
    pub(super) unrelated: bool,
    /// Contents of files that are in no repository, by blob id.
    texts: HashMap<String, Vec<u8>>,
}

/// What the change is held against.
pub(super) struct Base {
    pub(super) id: Oid,
    /// The change is pushed as it is: nothing of the base that it lacks is merged in.
    pub(super) pushed: bool,
}

impl Contents {
    /// Reads the documents of the folder `path` (as in `spec.path`) of `dir`, and those of the base: out of the commit that is
    /// checked out, by the code of the controller, and of files what is not committed.
    pub(super) fn read(
        checkout: Option<&Checkout>,
        dir: &Path,
        path: &str,
        base: Option<&Base>,
    ) -> anyhow::Result<Contents> {
        let mut contents = Contents::default();
        let folder = &folder(dir, path);
        let Some(checkout) = checkout else {
            anyhow::ensure!(is_folder(dir, path), "{}", nowhere(folder, "here"));
            contents.walk(folder, &folder.to_string_lossy(), 0)?;
            contents.tip.sort_by(|a, b| a.path.cmp(&b.path));
            return Ok(contents);
        };
        let root = dir.canonicalize().with_context(|| format!("cannot read {}", dir.display()))?;
        let prefix = self::folder(Path::new(&checkout.path_of(&root)?), path);
        let prefix = &*prefix.to_string_lossy();
        let there = contents.read_tip(checkout, prefix)? || is_folder(dir, path);
        let Some(base) = base else {
            anyhow::ensure!(there, "{}", nowhere(folder, "here"));
            return Ok(contents);
        };
        // what the controller cannot read either has published nothing
        let listed = |commit| anyhow::Ok(checkout.documents(commit, prefix)?.ok().flatten());
        let before = listed(base.id)?;
        anyhow::ensure!(there || before.is_some(), "{}", nowhere(folder, "here or in the base"));
        contents.base = before.unwrap_or_default();
        let fork = checkout.merge_base(base.id, checkout.id("HEAD")?)?;
        contents.unrelated = fork.is_none() || (base.pushed && fork != Some(base.id));
        if let Some(fork) = fork.filter(|fork| *fork != base.id && !base.pushed) {
            let fork = listed(fork)?.unwrap_or_default();
            contents.tip = merged(&fork, &contents.base, &contents.tip);
        }
        for commit in checkout.history(base.id, MOST_COMMITS)? {
            let changed = checkout.changed(commit, prefix)?;
            if !changed.is_empty() {
                contents.earlier.push((commit.to_string(), changed));
            }
        }
        Ok(contents)
    }

    /// Reads what is there now. Returns whether the folder is.
    fn read_tip(&mut self, checkout: &Checkout, prefix: &str) -> anyhow::Result<bool> {
        let committed = match checkout.head()? {
            Some(head) => checkout.documents(head, prefix)?,
            None => Ok(None),
        };
        let committed = committed.unwrap_or_else(|error| {
            self.beyond = Some(error);
            Some(Vec::new())
        });
        let there = committed.is_some();
        let mut files: BTreeMap<String, File> =
            committed.into_iter().flatten().map(|file| (file.path.clone(), file)).collect();
        for (path, now) in checkout.uncommitted(prefix)? {
            let path = path.to_string_lossy();
            // Git cannot check it out, so that it is missing says nothing
            let stays = |file: &File| matches!(file.kind, FileKind::Malformed | FileKind::TooLong);
            if now.is_none() && files.get(&*path).is_some_and(stays) {
                continue;
            }
            files.remove(&*path);
            files.extend(now.map(|file| (path.into_owned(), file)));
        }
        self.tip = files.into_values().collect();
        Ok(there)
    }

    /// All documents below a folder that is in no repository, as a commit of it would have them.
    fn walk(&mut self, folder: &Path, prefix: &str, depth: usize) -> anyhow::Result<()> {
        let cannot = || format!("cannot read {}", folder.display());
        for entry in std::fs::read_dir(folder).with_context(cannot)? {
            let entry = entry.with_context(cannot)?;
            let name = entry.file_name();
            let path = [prefix.as_bytes(), b"/", name.as_bytes()].concat();
            if name == ".git" {
                continue;
            }
            if entry.file_type()?.is_dir() {
                let shown = String::from_utf8_lossy(&path).into_owned();
                match fault_of_path(Place { path: &path, depth }) {
                    Some(kind) => self.tip.push(File { path: shown, blob: String::new(), size: 0, kind }),
                    None => self.walk(&entry.path(), &shown, depth + 1)?,
                }
            } else if let Some((mut file, _)) = looked_at(&entry.path(), &path, depth).with_context(cannot)? {
                if file.kind == FileKind::Regular {
                    let text = files::read(&entry.path(), MAX_DOCUMENT_BYTES)?;
                    file.blob = Oid::hash_object(git2::ObjectType::Blob, &text)?.to_string();
                    self.texts.insert(file.blob.clone(), text);
                }
                self.tip.push(file);
            }
        }
        Ok(())
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

fn nowhere(folder: &Path, place: &str) -> String {
    format!("there is no folder {}, {place}; name the documents' folder with --path", folder.display())
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
