//! The clone on disk, as a cache: `<key>/clone`, and `<key>/new` while one is being made.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use git2::{Repository, RepositoryInitOptions};
use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::{describe, parent};
use crate::git::{GitError, Limits};

/// More packs than this (there is one a fetch) make reading slow, and libgit2 cannot join them.
const PACKS: usize = 200;

/// How often a folder is looked at that another process uses.
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// Where the clone remembers its URL.
const URL: &str = "sekuire.url";

/// The folder of one repository. While a value lives, this process alone uses it.
pub(in crate::git) struct Store {
    root: PathBuf,
    /// Held, not used: the kernel releases the lock when the process ends, however it ends.
    _lock: File,
}

impl Store {
    /// Waits for the folder of `key` below the working directory to be free, and makes it if it is absent.
    pub(super) fn lock(key: &str) -> Result<Self, GitError> {
        let root = PathBuf::from(key);
        let lock = lock(&root).map_err(|error| disk(&root, &error))?;
        Ok(Self { root, _lock: lock })
    }

    /// The folder of another repository, if no process uses it.
    pub(in crate::git) fn idle(root: &Path) -> Option<Self> {
        let path = root.join("lock");
        let lock = File::open(&path).ok()?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).ok()?;
        let same = fs::metadata(&path).ok()?.ino() == lock.metadata().ok()?.ino();
        same.then(|| Self { root: root.to_owned(), _lock: lock })
    }

    /// The clone, if there is a usable one.
    pub(super) fn open(&self) -> Option<Repository> {
        let path = self.clone_path();
        // What a killed process leaves behind would fail the next one, or fill the disk.
        clean(&path).ok()?;
        Repository::open_bare(path).ok()
    }

    /// The clone, if there is a usable one of `url` that has not grown out of bounds.
    pub(super) fn open_for(&self, url: &str, limits: &Limits) -> Option<Repository> {
        let repository = self.open()?;
        let (packs, bytes) = usage(&self.clone_path().join("objects/pack")).ok()?;
        let small = packs <= PACKS && bytes <= limits.pack_bytes.saturating_mul(2);
        let same = repository.config().ok()?.get_string(URL).is_ok_and(|known| known == url);
        (small && same).then_some(repository)
    }

    /// An empty repository beside the clone. It becomes the clone by [`Store::adopt`].
    pub(super) fn fresh(&self, url: &str) -> Result<Repository, GitError> {
        let path = self.new_path();
        remove(&path).map_err(|error| disk(&path, &error))?;
        let mut options = RepositoryInitOptions::new();
        options.bare(true).external_template(false).no_reinit(true);
        let make = || -> Result<Repository, git2::Error> {
            let repository = Repository::init_opts(&path, &options)?;
            let mut config = repository.config()?;
            config.set_str(URL, url)?;
            // The one setting that a connection takes from here: no redirect to another host.
            config.set_bool("http.followRedirects", false)?;
            Ok(repository)
        };
        make().map_err(|error| describe("cannot make a clone", &error))
    }

    /// Puts the new repository in the place of the clone.
    pub(super) fn adopt(&self) -> Result<(), GitError> {
        let (new, path) = (self.new_path(), self.clone_path());
        remove(&path).and_then(|()| fs::rename(&new, &path)).map_err(|error| disk(&path, &error))
    }

    /// Throws away what [`Store::fresh`] made.
    pub(in crate::git) fn abandon(&self) -> Result<(), GitError> {
        remove(&self.new_path()).map_err(|error| disk(&self.new_path(), &error))
    }

    /// Throws away the clone, so that the next fetch makes it anew.
    pub(in crate::git) fn discard(&self) -> Result<(), GitError> {
        remove(&self.clone_path()).map_err(|error| disk(&self.clone_path(), &error))
    }

    /// Deletes everything.
    pub(super) fn forget(self) -> Result<(), GitError> {
        remove(&self.root).map_err(|error| disk(&self.root, &error))
    }

    fn clone_path(&self) -> PathBuf {
        self.root.join("clone")
    }

    fn new_path(&self) -> PathBuf {
        self.root.join("new")
    }
}

/// Locks `<root>/lock`. While this waits, the holder may delete the folder: then the lock is of no file any more.
fn lock(root: &Path) -> io::Result<File> {
    let path = root.join("lock");
    loop {
        fs::create_dir_all(root)?;
        let file = match File::options().create(true).truncate(false).write(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            opened => opened?,
        };
        // Not in one call: this process is not locked in yet, so it has no thread that notices the end of its parent.
        while let Err(error) = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            if !matches!(error, Errno::WOULDBLOCK | Errno::INTR) {
                return Err(error.into());
            }
            if parent::gone_within(LOCK_PAUSE) {
                return Err(io::Error::other("nobody waits for it any more"));
            }
        }
        match fs::metadata(&path) {
            Ok(found) if found.ino() == file.metadata()?.ino() => return Ok(file),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
}

/// Deletes what a process that was killed has left in a clone: lock files, and packs that were not finished.
fn clean(clone: &Path) -> io::Result<()> {
    for entry in fs::read_dir(clone.join("objects/pack"))? {
        let path = entry?.path();
        let extension = path.extension().and_then(|text| text.to_str());
        let whole = match extension {
            Some("idx") => path.with_extension("pack").exists(),
            Some("pack") => path.with_extension("idx").exists(),
            _ => false,
        };
        if !whole {
            fs::remove_file(path)?;
        }
    }
    for name in ["HEAD.lock", "config.lock", "packed-refs.lock"] {
        remove(&clone.join(name))?;
    }
    remove_locks(&clone.join("refs"))
}

fn remove_locks(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_locks(&entry.path())?;
        } else if entry.path().extension().is_some_and(|text| text == "lock") {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// How many packs there are, and the bytes of all files beside them.
fn usage(packs: &Path) -> io::Result<(usize, u64)> {
    let (mut count, mut bytes) = (0, 0);
    for entry in fs::read_dir(packs)? {
        let entry = entry?;
        bytes += entry.metadata()?.len();
        count += usize::from(entry.path().extension().is_some_and(|text| text == "pack"));
    }
    Ok((count, bytes))
}

/// Deletes a file or a folder; it may be absent.
fn remove(path: &Path) -> io::Result<()> {
    let result = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn disk(path: &Path, error: &io::Error) -> GitError {
    GitError::Failed(format!("cannot use {} in the data directory: {error}", path.display()))
}
