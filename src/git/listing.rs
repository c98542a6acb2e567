//! Which documents a commit has: for the child that fetches, and for the gate of a pull request (`sekuire repo check`), so
//! that both see the same.
//!
//! What a limit costs: a path (too deep, too long, not UTF-8), a kind of entry (link, submodule) or a name that Git makes
//! none of costs that entry alone, which is listed as what it is. A number (of documents, of entries to look at) has no entry
//! that would be to blame, and costs the commit.

use std::cell::Cell;
use std::path::Path;

use git2::{ErrorClass, ErrorCode, ObjectType, Odb, Oid, Repository, Tree};

use super::child::Trouble;
use super::{File, FileKind, GitError};

/// Folders within folders below the path: deeper than this is no repository of policies.
const DEPTH: usize = 64;

/// The longest path, as on Linux.
const PATH_BYTES: usize = 4096;

/// Entries of trees that one listing looks at. Trees may share folders, so that a few objects hold billions of entries.
const ENTRIES: usize = 1_000_000;

/// The same for all listings of one snapshot.
const ALL_ENTRIES: usize = 20_000_000;

/// The endings of documents.
const ENDINGS: [&[u8]; 3] = [b".json", b".yaml", b".yml"];

const FOLDER: i32 = 0o040_000;

/// Lists documents below one path.
pub(crate) struct Documents<'a> {
    repository: &'a Repository,
    odb: Odb<'a>,
    path: Vec<&'a str>,
    most: usize,
    entries_left: Cell<usize>,
}

/// One listing under way.
struct Walk {
    files: Vec<File>,
    prefix: Vec<u8>,
    entries_left: usize,
}

/// Where an entry is.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    /// From the root.
    pub(crate) path: &'a [u8],
    /// Folders below the path of documents that it is in.
    pub(crate) depth: usize,
}

/// What is wrong with where something is, a file or a folder.
pub(crate) fn fault_of_path(place: Place<'_>) -> Option<FileKind> {
    let name = place.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    // the names that Git refuses to check out
    let impossible = [b"".as_slice(), b".", b"..", b".git", b"git~1"].iter().any(|no| name.eq_ignore_ascii_case(no));
    match () {
        () if impossible => Some(FileKind::Malformed),
        () if place.depth > DEPTH => Some(FileKind::TooDeep),
        () if place.path.len() > PATH_BYTES => Some(FileKind::TooLong),
        () => None,
    }
}

impl<'a> Documents<'a> {
    /// `path` has been checked: parts that are names, or `.`. At most `most` documents are accepted in one commit.
    ///
    /// # Errors
    /// If the repository has no objects.
    pub(crate) fn new(repository: &'a Repository, path: &'a str, most: usize) -> Result<Self, git2::Error> {
        let path = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        Ok(Self { repository, odb: repository.odb()?, path, most, entries_left: Cell::new(ALL_ENTRIES) })
    }

    /// Those of a commit, by path; with a parent, only those that the parent does not have just so. `None` if the path is no
    /// folder in it.
    pub(crate) fn of(&self, commit: Oid, parent: Option<Oid>) -> Result<Option<Vec<File>>, Trouble> {
        let Some(tree) = self.folder(commit)? else { return Ok(None) };
        let base = match parent {
            Some(parent) => self.folder(parent)?,
            None => None,
        };
        let entries_left = ENTRIES.min(self.entries_left.get());
        let mut walk = Walk { files: Vec::new(), prefix: Vec::new(), entries_left };
        for part in &self.path {
            walk.prefix.extend_from_slice(part.as_bytes());
            walk.prefix.push(b'/');
        }
        let outcome = self.walk(&mut walk, &tree, base.as_ref(), 0);
        self.entries_left.set(self.entries_left.get() - (entries_left - walk.entries_left));
        outcome?;
        let mut files = walk.files;
        files.sort_by(|a, b| a.path.cmp(&b.path));
        // paths that are not UTF-8 may look alike
        let twice = |a: &File, b: &File| a.path == b.path && a.kind != FileKind::NotUtf8;
        let (mut twins, pairs) = (Vec::new(), files.windows(2).enumerate());
        for (index, _) in pairs.filter(|(_, pair)| twice(&pair[0], &pair[1])) {
            twins.extend([index, index + 1]);
        }
        for index in twins {
            files[index].kind = FileKind::Malformed;
        }
        Ok(Some(files))
    }

    /// One document of a commit. `None` if the commit has none at `path`, or `path` is not below the path of documents.
    pub(crate) fn at(&self, commit: Oid, path: &str) -> Result<Option<File>, Trouble> {
        let parts: Vec<&str> = path.split('/').collect();
        let Some(below) = parts.strip_prefix(&*self.path).filter(|below| !below.is_empty()) else { return Ok(None) };
        let place = Place { path: path.as_bytes(), depth: below.len() - 1 };
        if !is_document(path.as_bytes()) || fault_of_path(place).is_some() {
            return Ok(None);
        }
        let Some(tree) = self.folder(commit)? else { return Ok(None) };
        match tree.get_path(Path::new(&below.join("/"))) {
            Ok(entry) if entry.filemode_raw() == FOLDER => Ok(None),
            Ok(entry) => self.file(path.as_bytes(), entry.id(), entry.filemode_raw()).map(Some),
            Err(error) if error.code() == ErrorCode::NotFound && error.class() == ErrorClass::Tree => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The tree at the path.
    fn folder(&self, commit: Oid) -> Result<Option<Tree<'a>>, git2::Error> {
        let mut tree = self.repository.find_commit(commit)?.tree()?;
        for part in &self.path {
            let Some(id) = tree.get_name(part).filter(|entry| entry.filemode_raw() == FOLDER).map(|entry| entry.id())
            else {
                return Ok(None);
            };
            tree = self.repository.find_tree(id)?;
        }
        Ok(Some(tree))
    }

    fn walk(&self, walk: &mut Walk, tree: &Tree<'_>, base: Option<&Tree<'_>>, depth: usize) -> Result<(), Trouble> {
        for entry in tree {
            walk.entries_left = walk.entries_left.checked_sub(1).ok_or_else(|| {
                limit(format!("there are more than {ENTRIES} files and folders to look at below the path"))
            })?;
            let name = entry.name_bytes();
            let (id, mode) = (entry.id(), entry.filemode_raw());
            let before = base.and_then(|base| base.get_name_bytes(name));
            if before.as_ref().is_some_and(|old| old.id() == id && old.filemode_raw() == mode) {
                continue;
            }
            let length = walk.prefix.len();
            walk.prefix.extend_from_slice(name);
            let place = Place { path: &walk.prefix, depth };
            let fault = fault_of_path(place).or(name.contains(&b'/').then_some(FileKind::Malformed));
            match fault {
                Some(kind) if mode == FOLDER || is_document(name) => {
                    let file = File { path: lossy(&walk.prefix), blob: id.to_string(), size: 0, kind };
                    self.found(walk, file)?;
                }
                Some(_) => {}
                None if mode == FOLDER => {
                    walk.prefix.push(b'/');
                    let old = before.filter(|old| old.filemode_raw() == FOLDER).map(|old| old.id());
                    let old = old.map(|id| self.repository.find_tree(id)).transpose()?;
                    self.walk(walk, &self.repository.find_tree(id)?, old.as_ref(), depth + 1)?;
                }
                None if is_document(name) => {
                    let file = self.file(&walk.prefix, id, mode)?;
                    self.found(walk, file)?;
                }
                None => {}
            }
            walk.prefix.truncate(length);
        }
        Ok(())
    }

    fn found(&self, walk: &mut Walk, file: File) -> Result<(), Trouble> {
        walk.files.push(file);
        if walk.files.len() <= self.most {
            return Ok(());
        }
        let (most, path) = (self.most, self.path.join("/"));
        Err(limit(format!("there are more than the accepted {most} .json, .yaml and .yml files below {path:?}")))
    }

    fn file(&self, path: &[u8], id: Oid, mode: i32) -> Result<File, Trouble> {
        let mut kind = match mode & 0o170_000 {
            0o100_000 if std::str::from_utf8(path).is_ok() => FileKind::Regular,
            0o100_000 => FileKind::NotUtf8,
            0o120_000 => FileKind::Symlink,
            0o160_000 => FileKind::Submodule,
            _ => FileKind::Malformed,
        };
        let mut size = 0;
        if !matches!(kind, FileKind::Submodule | FileKind::Malformed) {
            // The header alone: the content of a large file is not touched.
            match self.odb.read_header(id)? {
                (bytes, ObjectType::Blob) => size = bytes as u64,
                _ => kind = FileKind::Malformed,
            }
        }
        Ok(File { path: lossy(path), blob: id.to_string(), size, kind })
    }
}

fn is_document(name: &[u8]) -> bool {
    ENDINGS.iter().any(|ending| name.ends_with(ending))
}

fn limit(message: String) -> Trouble {
    Trouble::Final(GitError::Limit(message))
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
