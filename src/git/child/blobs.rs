//! Reading the content of files.

use git2::{ErrorCode, ObjectType, Oid, Repository};

use super::clone::Store;
use super::describe;
use crate::git::{GitError, Limits};

/// Appends blobs to `bytes`, as many from the start of the list as one answer holds and at least one, and returns their
/// sizes.
pub(super) fn read(
    store: &Store,
    ids: &[String],
    limits: &Limits,
    bytes: &mut Vec<u8>,
) -> Result<Vec<usize>, GitError> {
    let Some(repository) = store.open() else {
        return Err(GitError::Failed("there is no clone to read files from; fetch the repository again".into()));
    };
    let outcome = read_all(&repository, ids, limits, bytes);
    if let Err(GitError::Failed(_)) = outcome {
        // Every blob asked for comes out of a listing of this clone: it is damaged, or older than the listing.
        drop(repository);
        store.discard()?;
    }
    outcome
}

fn read_all(
    repository: &Repository,
    ids: &[String],
    limits: &Limits,
    bytes: &mut Vec<u8>,
) -> Result<Vec<usize>, GitError> {
    let fault = |id: &str| {
        let what = format!("cannot read {id} from the clone, which will be made anew");
        move |error: git2::Error| match error.code() {
            ErrorCode::NotFound => GitError::Failed(format!("{what}: it is not there")),
            _ => describe(&what, &error),
        }
    };
    let odb = repository.odb().map_err(fault("objects"))?;
    let mut sizes = Vec::new();
    for id in ids {
        let oid = Oid::from_str(id).map_err(fault(id))?;
        let (size, kind) = odb.read_header(oid).map_err(fault(id))?;
        if kind != ObjectType::Blob {
            return Err(GitError::Request(format!("{id} is a {kind}, not the content of a file")));
        }
        if size as u64 > limits.file_bytes {
            return Err(GitError::Limit(format!(
                "the file {id} has {size} bytes; at most {} are accepted",
                limits.file_bytes
            )));
        }
        if !sizes.is_empty() && bytes.len() + size > limits.output_bytes {
            break;
        }
        let object = odb.read(oid).map_err(fault(id))?;
        bytes.extend_from_slice(object.data());
        sizes.push(object.len());
    }
    Ok(sizes)
}
