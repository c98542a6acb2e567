//! Where a policy document comes from: a file, a commit, a cluster.

use std::convert::Infallible;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::bail;
use jiff::Timestamp;

use super::checkout::Checkout;
use super::cluster::Cluster;
use super::{Usage, files};
use crate::admission::index::Enforced;
use crate::policy::{Format, MAX_DOCUMENT_BYTES, VerifiedPolicy};

/// A place of a document, as it is written on the command line: `FILE`, `REV:PATH` or `cluster:WORKSPACE`. What is there
/// as a file is a file; `./` before it makes that clear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A file.
    File(PathBuf),
    /// A file, by its path from the root, in a commit of the repository around the present folder.
    Revision {
        /// As in gitrevisions(7).
        revision: String,
        /// From the root of the repository.
        path: String,
    },
    /// What the cluster enforces in a workspace.
    Cluster {
        /// Its id.
        workspace: String,
    },
}

/// A document as it was found; nothing of it was judged yet.
pub(super) struct Found {
    /// The bytes; more than a document may have are cut off, which parsing says.
    pub(super) bytes: Vec<u8>,
    /// How they are to be read.
    pub(super) format: Format,
    /// The commit that it was accepted in, if a cluster says so.
    pub(super) commit: Option<String>,
}

impl Found {
    /// The document of a policy.
    pub(super) fn of(policy: &VerifiedPolicy, commit: Option<String>) -> Found {
        let bytes = policy.document_json().as_bytes().to_vec();
        Found { bytes, format: Format::Json, commit }
    }
}

impl FromStr for Source {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        if let Some(workspace) = text.strip_prefix("cluster:") {
            return Ok(Source::Cluster { workspace: workspace.to_owned() });
        }
        let is_path = text.starts_with(['.', '/']) || Path::new(text).exists();
        Ok(match text.split_once(':') {
            Some((revision, path)) if !is_path && !revision.is_empty() && !path.is_empty() => {
                Source::Revision { revision: revision.to_owned(), path: path.to_owned() }
            }
            _ => Source::File(text.into()),
        })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::File(path) => write!(f, "{}", path.display()),
            Source::Revision { revision, path } => write!(f, "{revision}:{path}"),
            Source::Cluster { workspace } => write!(f, "cluster:{workspace}"),
        }
    }
}

impl Source {
    /// Gets the document. `cluster` is called where one is needed.
    pub(super) fn find<'c>(
        &self,
        cluster: impl FnOnce() -> anyhow::Result<&'c Cluster>,
        now: Timestamp,
    ) -> anyhow::Result<Found> {
        match self {
            Source::File(path) => {
                let format = files::format(path)?;
                Ok(Found { bytes: files::read(path, MAX_DOCUMENT_BYTES)?, format, commit: None })
            }
            Source::Revision { revision, path } => {
                let format = files::format(Path::new(path))?;
                let bytes = Checkout::of(Path::new("."))?.file(revision, path, MAX_DOCUMENT_BYTES)?;
                Ok(Found { bytes, format, commit: None })
            }
            Source::Cluster { workspace } if workspace.is_empty() => {
                bail!(Usage("cluster: needs a workspace, such as cluster:ws_payments".to_owned()))
            }
            Source::Cluster { workspace } => {
                let cluster = cluster()?;
                match cluster.enforced(workspace, cluster.keys()?, now)? {
                    Enforced::Policy { policy, source } => {
                        Ok(Found::of(&policy, source.map(|source| source.commit.clone())))
                    }
                    Enforced::None { why } => {
                        bail!("the workspace {workspace} has no policy in force on {}: {why}", cluster.server())
                    }
                }
            }
        }
    }
}
