//! The folder of the clones belongs to one process: two would spoil each other's clones.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};

/// How often a folder that cannot be used is looked at again.
const AGAIN: Duration = Duration::from_secs(10);

/// Takes the folder until the process ends. What is in it is a cache: one that cannot be made or written costs Git and nothing
/// else, so the log says so, each repository says why it is not read, and the folder is taken as soon as it can be.
///
/// # Errors
/// When another controller has it.
pub(super) fn take(folder: &Path) -> anyhow::Result<()> {
    match own(folder)? {
        Ok(lock) => hold(lock),
        Err(error) => {
            let why = unusable(&error);
            tokio::spawn(retry(folder.to_owned(), why));
        }
    }
    Ok(())
}

async fn retry(folder: PathBuf, mut why: String) {
    loop {
        tokio::time::sleep(AGAIN).await;
        match own(&folder) {
            Ok(Ok(lock)) => {
                tracing::info!(path = %folder.display(), "data folder usable");
                return hold(lock);
            }
            Ok(Err(error)) | Err(error) if format!("{error:#}") != why => why = unusable(&error),
            Ok(Err(_)) | Err(_) => {}
        }
    }
}

/// Returns what is said.
fn unusable(error: &anyhow::Error) -> String {
    let why = format!("{error:#}");
    tracing::error!(error = why, "data folder not usable: repositories cannot be read");
    why
}

/// The lock ends with the process.
fn hold(lock: File) {
    std::mem::forget(lock);
}

/// Outer error: another controller has it. Inner one: it cannot be used.
fn own(folder: &Path) -> anyhow::Result<anyhow::Result<File>> {
    let path = folder.join("lock");
    let opened = std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot create the data folder {}; see --data-dir", folder.display()))
        .and_then(|()| File::create(&path).with_context(|| format!("cannot write {}; see --data-dir", path.display())));
    let file = match opened {
        Ok(file) => file,
        Err(error) => return Ok(Err(error)),
    };
    match file.try_lock() {
        Ok(()) => Ok(Ok(file)),
        Err(TryLockError::WouldBlock) => {
            bail!("{} is used by another controller: give each its own --data-dir", folder.display())
        }
        Err(TryLockError::Error(error)) => {
            Ok(Err(anyhow::Error::new(error).context(format!("cannot lock {}; see --data-dir", path.display()))))
        }
    }
}
