//! Which documents a commit has.

use std::cell::Cell;
use std::path::Path;

use git2::{ErrorClass, ErrorCode, ObjectType, Odb, Oid, Repository, Tree};

use super::Trouble;
use crate::git::{File, FileKind, GitError, Limits};

/// Folders within folders: deeper than this is no repository of policies.
const DEPTH: usize = 64;

/// The longest path, as on Linux.
const PATH_BYTES: usize = 4096;

/// Entries of trees that one listing looks at. Trees may share folders, so that a few objects hold billions of entries.
const ENTRIES: usize = 1_000_000;

/// The same for all listings of one snapshot.
const ALL_ENTRIES: usize = 20_000_000;

/// The endings of documents.
const ENDINGS: [&[u8]; 3] = [b".json", b".yaml", b".yml"];

/// Lists documents below one path.
pub(super) struct Lister<'a> {
    repository: &'a Repository,
    odb: Odb<'a>,
    path: Vec<&'a str>,
    limits: &'a Limits,
    entries_left: Cell<usize>,
}

/// One listing under way.
struct Walk {
    files: Vec<File>,
    prefix: Vec<u8>,
    entries_left: usize,
}

impl<'a> Lister<'a> {
    /// `path` has been checked: parts that are names, or `.`.
    pub(super) fn new(repository: &'a Repository, path: &'a str, limits: &'a Limits) -> Result<Self, git2::Error> {
        let path = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        Ok(Self { repository, odb: repository.odb()?, path, limits, entries_left: Cell::new(ALL_ENTRIES) })
    }

    /// The documents of a commit, by path; with a parent, only those that the parent does not have just so. `None` if
    /// the path is no folder in it.
    pub(super) fn documents(&self, commit: Oid, parent: Option<Oid>) -> Result<Option<Vec<File>>, Trouble> {
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
        walk.files.sort_by(|a, b| a.path.cmp(&b.path));
        let twice =
            walk.files.windows(2).find(|pair| pair[0].path == pair[1].path && pair[1].kind != FileKind::NotUtf8);
        match twice {
            Some(pair) => Err(malformed(commit, &format!("has two entries {:?}", pair[0].path))),
            None => Ok(Some(walk.files)),
        }
    }

    /// One document of a commit. `None` if the commit has none at `path`, or `path` is not below the path of documents.
    pub(super) fn document(&self, commit: Oid, path: &str) -> Result<Option<File>, Trouble> {
        let parts: Vec<&str> = path.split('/').collect();
        let Some(below) = parts.strip_prefix(&*self.path).filter(|below| !below.is_empty()) else { return Ok(None) };
        if !ENDINGS.iter().any(|ending| path.as_bytes().ends_with(ending)) {
            return Ok(None);
        }
        let Some(tree) = self.folder(commit)? else { return Ok(None) };
        match tree.get_path(Path::new(&below.join("/"))) {
            Ok(entry) if entry.filemode_raw() == 0o040_000 => Ok(None),
            Ok(entry) => self.file(path.as_bytes(), entry.id(), entry.filemode_raw()).map(Some),
            Err(error) if error.code() == ErrorCode::NotFound && error.class() == ErrorClass::Tree => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The tree at the path.
    fn folder(&self, commit: Oid) -> Result<Option<Tree<'a>>, git2::Error> {
        let mut tree = self.repository.find_commit(commit)?.tree()?;
        for part in &self.path {
            let Some(id) =
                tree.get_name(part).filter(|entry| entry.filemode_raw() == 0o040_000).map(|entry| entry.id())
            else {
                return Ok(None);
            };
            tree = self.repository.find_tree(id)?;
        }
        Ok(Some(tree))
    }

    fn walk(&self, walk: &mut Walk, tree: &Tree<'_>, base: Option<&Tree<'_>>, depth: usize) -> Result<(), Trouble> {
        if depth > DEPTH {
            return Err(limit(format!("folders are nested more than {DEPTH} deep at {:?}", lossy(&walk.prefix))));
        }
        for entry in tree {
            walk.entries_left = walk.entries_left.checked_sub(1).ok_or_else(|| {
                limit(format!("there are more than {ENTRIES} files and folders to look at below the path"))
            })?;
            let name = entry.name_bytes();
            if name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') {
                return Err(malformed(tree.id(), &format!("has an entry with the name {:?}", lossy(name))));
            }
            let (id, mode) = (entry.id(), entry.filemode_raw());
            let before = base.and_then(|base| base.get_name_bytes(name));
            if before.as_ref().is_some_and(|old| old.id() == id && old.filemode_raw() == mode) {
                continue;
            }
            let length = walk.prefix.len();
            walk.prefix.extend_from_slice(name);
            if walk.prefix.len() > PATH_BYTES {
                return Err(limit(format!("a path is longer than {PATH_BYTES} bytes below {:?}", self.path.join("/"))));
            }
            if mode == 0o040_000 {
                walk.prefix.push(b'/');
                let old = before.filter(|old| old.filemode_raw() == 0o040_000).map(|old| old.id());
                let old = old.map(|id| self.repository.find_tree(id)).transpose()?;
                self.walk(walk, &self.repository.find_tree(id)?, old.as_ref(), depth + 1)?;
            } else if ENDINGS.iter().any(|ending| name.ends_with(ending)) {
                let file = self.file(&walk.prefix, id, mode)?;
                walk.files.push(file);
                if walk.files.len() > self.limits.files {
                    let (most, path) = (self.limits.files, self.path.join("/"));
                    return Err(limit(format!(
                        "there are more than the accepted {most} .json, .yaml and .yml files below {path:?}"
                    )));
                }
            }
            walk.prefix.truncate(length);
        }
        Ok(())
    }

    fn file(&self, path: &[u8], id: Oid, mode: i32) -> Result<File, Trouble> {
        let text = std::str::from_utf8(path);
        let kind = match mode & 0o170_000 {
            0o100_000 if text.is_ok() => FileKind::Regular,
            0o100_000 => FileKind::NotUtf8,
            0o120_000 => FileKind::Symlink,
            0o160_000 => FileKind::Submodule,
            _ => return Err(malformed(id, &format!("is an entry {:?} of mode {mode:o}", lossy(path)))),
        };
        let size = match kind {
            FileKind::Submodule => 0,
            // The header alone: the content of a large file is not touched.
            _ => match self.odb.read_header(id)? {
                (size, ObjectType::Blob) => size as u64,
                (_, other) => {
                    return Err(malformed(id, &format!("is a {other}, but {:?} says it is a file", lossy(path))));
                }
            },
        };
        Ok(File { path: lossy(path), blob: id.to_string(), size, kind })
    }
}

fn limit(message: String) -> Trouble {
    Trouble::Final(GitError::Limit(message))
}

/// No fault of the clone: the id of an object is the hash of its content, so it came like this.
fn malformed(id: Oid, what: &str) -> Trouble {
    Trouble::Final(GitError::Failed(format!("the repository is malformed: object {id} {what}")))
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
