//! Documents of a repository, verified once each: what was verified is not verified again until the keys or the time say
//! so.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::candidate::Summary;
use crate::admission::hold;
use crate::git::{File, FileKind, Git, GitError};
use crate::policy::document::{self, MAX_DOCUMENT_BYTES};
use crate::policy::{Document, Format, KeyRing, Reason, Refusal, VerifiedPolicy, verify};

/// Bytes that are read from one child and verified at once.
const BATCH_BYTES: u64 = 8 << 20;

/// What verification said of a document, and for whom it is.
#[derive(Clone, Debug)]
pub struct Judged {
    /// The summary, or the refusal.
    pub verdict: Result<Summary, Refusal>,
    /// Workspace that it is for, or says that it is for.
    pub workspace: Option<Arc<str>>,
    /// The verdict is good until then; `None`: until the keys change.
    until: Option<Timestamp>,
    /// It is good from then on: what had expired when it was judged has not, should the clock go back.
    since: Option<Timestamp>,
}

impl Judged {
    fn is_good(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until) && self.since.is_none_or(|since| since <= now)
    }
}

/// A blob is read as JSON or as YAML, whatever its name says: the same bytes can be one and not the other.
type Id = (Arc<str>, Format);

/// The verdicts on the blobs of one repository, with one set of keys.
#[derive(Default)]
pub struct Documents {
    keys: String,
    judged: HashMap<Id, Judged>,
    /// Policies verified in the present pass, so that what is to be applied need not be read twice.
    fresh: HashMap<Id, Arc<VerifiedPolicy>>,
}

impl Documents {
    /// Verifies what is not verified yet of `files`.
    ///
    /// # Errors
    /// When the blobs cannot be read from the clone.
    pub async fn judge(
        &mut self,
        git: &Git,
        repository: &str,
        files: &[&File],
        keys: &KeyRing,
        now: Timestamp,
    ) -> Result<(), GitError> {
        if self.keys != keys.fingerprint() {
            self.judged.clear();
            keys.fingerprint().clone_into(&mut self.keys);
        }
        let mut wanted: Vec<(Id, u64)> = Vec::new();
        let mut seen = HashSet::new();
        for file in files.iter().filter(|file| readable(file).is_ok()) {
            let Some(format) = Format::of_path(&file.path) else { continue };
            let id = (Arc::from(file.blob.as_str()), format);
            if self.judged.get(&id).is_none_or(|judged| !judged.is_good(now)) && seen.insert(id.clone()) {
                wanted.push((id, file.size));
            }
        }
        for batch in batches(wanted) {
            let blobs: Vec<String> = batch.iter().map(|(blob, _)| blob.to_string()).collect();
            let bytes = git.read_blobs(repository, &blobs).await?;
            let work: Vec<(Id, Vec<u8>)> =
                batch.iter().filter_map(|id| Some((id.clone(), bytes.get(&*id.0)?.clone()))).collect();
            for (id, judged, policy) in verify_all(work, keys, now).await {
                if let Some(policy) = policy {
                    self.fresh.insert(id.clone(), policy);
                }
                self.judged.insert(id, judged);
            }
        }
        Ok(())
    }

    /// What is known of a file.
    pub fn of(&self, file: &File) -> Judged {
        let refused = |message: String| Judged {
            verdict: Err(Refusal { reason: Reason::Malformed, message, retry_at: None }),
            workspace: None,
            until: None,
            since: None,
        };
        if let Err(why) = readable(file) {
            let mut judged = refused(why);
            if let Err(refusal) = &mut judged.verdict
                && file.kind.exceeds_limit()
            {
                refusal.reason = Reason::LimitExceeded;
            }
            return judged;
        }
        let format = Format::of_path(&file.path).unwrap_or(Format::Json);
        let known = self.judged.get(&(Arc::from(file.blob.as_str()), format)).cloned();
        known.unwrap_or_else(|| refused("the file could not be read from the clone".to_owned()))
    }

    /// The policy of a blob that was verified in this pass.
    pub fn fresh(&self, blob: &str, path: &str) -> Option<Arc<VerifiedPolicy>> {
        self.fresh.get(&(Arc::from(blob), Format::of_path(path)?)).cloned()
    }

    /// Ends a pass: forgets the policies, and the verdicts on blobs that are no longer there.
    pub fn end_pass(&mut self, files: &[File]) {
        self.fresh = HashMap::new();
        let there: HashSet<&str> = files.iter().map(|file| file.blob.as_str()).collect();
        self.judged.retain(|(blob, _), _| there.contains(&**blob));
    }

    /// Whether a verdict has changed by the clock alone: time has passed, or was set back.
    pub fn changed(&self, now: Timestamp) -> bool {
        self.judged.values().any(|judged| !judged.is_good(now))
    }

    /// The next moment at which a verdict changes by the clock alone.
    pub fn next_change(&self, now: Timestamp) -> Option<Timestamp> {
        self.judged.values().filter_map(|judged| judged.until).filter(|at| *at > now).min()
    }
}

/// Parts of at most [`BATCH_BYTES`], one document at least.
fn batches(wanted: Vec<(Id, u64)>) -> Vec<Vec<Id>> {
    let (mut batches, mut room) = (Vec::new(), 0);
    for (id, size) in wanted {
        match batches.last_mut() {
            Some(batch) if size <= room => {
                let batch: &mut Vec<Id> = batch;
                batch.push(id);
                room -= size;
            }
            _ => {
                batches.push(vec![id]);
                room = BATCH_BYTES.saturating_sub(size);
            }
        }
    }
    batches
}

/// Whether a file may be read at all.
///
/// # Errors
/// Why not, and what to do.
pub fn readable(file: &File) -> Result<(), String> {
    match file.kind {
        FileKind::Regular if file.size <= MAX_DOCUMENT_BYTES as u64 => Ok(()),
        FileKind::Regular => {
            Err(format!("the file has {} bytes; a document has at most {MAX_DOCUMENT_BYTES}", file.size))
        }
        FileKind::Symlink => Err("a symbolic link is not followed: commit the document itself".to_owned()),
        FileKind::Submodule => Err("a submodule is not fetched: commit the document itself".to_owned()),
        FileKind::NotUtf8 => Err("the path is not UTF-8: rename the file".to_owned()),
        FileKind::TooDeep => Err("it is in more folders than are read: move it up".to_owned()),
        FileKind::TooLong => Err("its path is longer than is read: give it a shorter one".to_owned()),
        FileKind::Malformed => {
            Err("the commit has it as Git makes no entry: remove it, and add it with git".to_owned())
        }
    }
}

type Done = (Id, Judged, Option<Arc<VerifiedPolicy>>);

/// Verifies on all cores, away from the threads that answer admission requests.
async fn verify_all(work: Vec<(Id, Vec<u8>)>, keys: &KeyRing, now: Timestamp) -> Vec<Done> {
    let keys = keys.clone();
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let share = work.len().div_ceil(threads).max(1);
    let task = tokio::task::spawn_blocking(move || {
        let each = |(id, bytes): &(Id, Vec<u8>)| judge_one(id, bytes, &keys, now);
        std::thread::scope(|scope| {
            let parts: Vec<_> =
                work.chunks(share).map(|part| scope.spawn(move || part.iter().map(each).collect::<Vec<_>>())).collect();
            parts.into_iter().flat_map(|part| part.join().unwrap_or_default()).collect()
        })
    });
    // a panic would be a fault of ours; what is not judged is reported as unreadable, and never enforced
    task.await.unwrap_or_default()
}

fn judge_one(id: &Id, bytes: &[u8], keys: &KeyRing, now: Timestamp) -> Done {
    let document = match Document::parse(bytes, id.1) {
        Ok(document) => document,
        Err(fault) => {
            let workspace = document::peek(bytes, id.1).workspace_id.map(Arc::from);
            let verdict = Err(hold::malformed(&fault));
            return (id.clone(), Judged { verdict, workspace, until: None, since: None }, None);
        }
    };
    let workspace: Option<Arc<str>> = Some(document.workspace_id().into());
    match verify(document, keys, now) {
        Ok(policy) => {
            let (since, until) = (policy.holds_from(), policy.holds_until());
            let judged = Judged { verdict: Ok(Summary::of(&policy)), workspace, until, since };
            (id.clone(), judged, Some(Arc::new(policy)))
        }
        Err(refusal) => {
            let until = refusal.retry_at;
            let ends = [Reason::KeyExpired, Reason::PolicyExpired, Reason::ThresholdNotMet];
            let expired = ends.contains(&refusal.reason);
            let since = expired.then_some(now);
            (id.clone(), Judged { verdict: Err(refusal), workspace, until, since }, None)
        }
    }
}
