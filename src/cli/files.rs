//! Files, with messages that name them.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};

use super::Usage;
use crate::git::shown;
use crate::policy::Format;

/// A path for people: others name files too.
pub(super) fn name(path: &Path) -> String {
    shown(&path.to_string_lossy())
}

/// Reads a file of at most `limit` bytes; of a longer one, one byte more than that.
pub(super) fn read(path: &Path, limit: usize) -> anyhow::Result<Vec<u8>> {
    let shown = name(path);
    let file = File::open(path).with_context(|| format!("cannot read {shown}"))?;
    if file.metadata().with_context(|| format!("cannot read {shown}"))?.is_dir() {
        bail!("{shown} is a folder; expected a file");
    }
    let mut bytes = Vec::new();
    file.take(limit as u64 + 1).read_to_end(&mut bytes).with_context(|| format!("cannot read {shown}"))?;
    Ok(bytes)
}

/// As [`read`], for a text; a longer one is refused.
pub(super) fn read_text(path: &Path, limit: usize) -> anyhow::Result<String> {
    let bytes = read(path, limit)?;
    if bytes.len() > limit {
        bail!("{} is longer than {limit} bytes; that is not what is expected here", name(path));
    }
    String::from_utf8(bytes).map_err(|_| anyhow!("{} is not text in UTF-8", name(path)))
}

/// As [`read_text`], for what kubectl reads: also UTF-16, and a byte order mark is no part of it.
pub(super) fn read_manifest(path: &Path, limit: usize) -> anyhow::Result<String> {
    let bytes = read(path, limit)?;
    if bytes.len() > limit {
        bail!("{} is longer than {limit} bytes; that is not what is expected here", name(path));
    }
    super::manifest::text(&bytes).map_err(|what| anyhow!("{} is {what}", name(path)))
}

/// How a policy document is written, by its name.
pub(super) fn format(path: &Path) -> Result<Format, Usage> {
    path.to_str().and_then(Format::of_path).ok_or_else(|| {
        Usage(format!("{} is no policy document by its name; expected *.json, *.yaml or *.yml", name(path)))
    })
}

/// Writes a file, whole or not at all: a new one, or another content of one that is there, as [`replace`] does.
pub(super) fn write(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    match fs::symlink_metadata(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => {
            put(path, content, None).with_context(|| format!("cannot write {}; nothing was written", name(path)))
        }
        _ => replace(path, content),
    }
}

/// A file as it is; or, of a folder, its files with these endings, by name, and of the folders below it if `deep`.
pub(super) fn list(path: &Path, endings: &[&str], deep: bool) -> anyhow::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path).with_context(|| format!("cannot read {}", name(path)))? {
        let path = entry.with_context(|| format!("cannot read {}", name(path)))?.path();
        if path.is_dir() {
            // a link to a folder may lead back to where it stands
            if deep && !path.is_symlink() {
                files.extend(list(&path, endings, deep)?);
            }
        } else if path.extension().and_then(|e| e.to_str()).is_some_and(|e| endings.contains(&e)) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Replaces a file by another content: whole or not at all, whatever happens meanwhile. A symbolic link stays one.
pub(super) fn replace(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let shown = name(path);
    let target = fs::canonicalize(path).with_context(|| format!("cannot write {shown}"))?;
    let metadata = fs::metadata(&target).with_context(|| format!("cannot write {shown}"))?;
    if !metadata.is_file() {
        bail!("cannot write {shown}: it is a folder or a device; expected a file");
    }
    put(&target, content, Some(metadata.permissions()))
        .with_context(|| format!("cannot write {shown}; it was left as it was"))
}

/// Writes a file beside the target, and gives it the name of the target when it is complete. A file without permissions of
/// its own gets those that new files have.
fn put(target: &Path, content: &[u8], permissions: Option<Permissions>) -> io::Result<()> {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let beside = target.with_file_name(format!(".{name}.{}.tmp", std::process::id()));
    let mode = if permissions.is_some() { 0o600 } else { 0o666 };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
    let written = (|| {
        file.write_all(content)?;
        if let Some(permissions) = permissions {
            file.set_permissions(permissions)?;
        }
        file.sync_all()?;
        fs::rename(&beside, target)
    })();
    if written.is_err() {
        // The error that is reported is the first one.
        let _ = fs::remove_file(&beside);
    }
    written
}

/// Makes a file that must not exist yet.
pub(super) fn create(path: &Path, content: &str, mode: u32) -> anyhow::Result<()> {
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => anyhow!("{} exists already, and is not overwritten", name(path)),
            _ => anyhow::Error::new(error).context(format!("cannot create {}", name(path))),
        })?;
    let written = file
        .set_permissions(Permissions::from_mode(mode))
        .and_then(|()| file.write_all(content.as_bytes()))
        .and_then(|()| file.sync_all());
    if written.is_err() {
        // Made a moment ago, by this process.
        let _ = fs::remove_file(path);
    }
    written.with_context(|| format!("cannot write {}", name(path)))
}

/// Whether others than its owner may read a file.
pub(super) fn readable_by_others(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0)
}
