//! Documents of a repository, verified once each: what was verified is not verified again until the keys or the time say
//! so.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::candidate::Summary;
use crate::admission::by_itself::by_itself;
use crate::admission::hold;
use crate::git::{File, FileKind, Git, GitError, shown};
use crate::policy::document::{self, MAX_DOCUMENT_BYTES};
use crate::policy::{Document, Format, KeyRing, Reason, Refusal, VerifiedPolicy, verify};

/// Bytes that are read from one child and verified at once.
const BATCH_BYTES: u64 = 8 << 20;

/// What judging the documents of one look may cost. What is left over is judged by the next looks, which begin where this one
/// ended: so whoever may write to a repository can make it late, and nothing else.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Bytes of documents; each counts for `EACH` more, for its signatures.
    pub bytes: u64,
    /// From the first document on. The batch that is under way is finished.
    pub time: Duration,
}

/// What the signatures of a document cost beside its bytes.
const EACH: u64 = 2 << 10;

impl Default for Budget {
    /// Ten thousand documents of some kilobytes take about a second.
    fn default() -> Self {
        Budget { bytes: 128 << 20, time: Duration::from_secs(30) }
    }
}

/// How much lower the verification of much stands than what answers requests, as nice(1) has it.
const NICENESS: i32 = 5;
/// From so many bytes on it does; less is done in a moment, and somebody waits for it.
const LARGE: usize = 1 << 20;

/// What verification said of a document, and for whom it is.
#[derive(Clone, Debug)]
pub struct Judged {
    /// The summary, or the refusal.
    pub verdict: Result<Summary, Refusal>,
    /// Workspace that it is for, or says that it is for.
    pub workspace: Option<Arc<str>>,
    /// The verdict is good until then; `None`: until the keys change.
    until: Option<Timestamp>,
    /// It is good from then on. A refusal is from when it was made: should the clock have been ahead, it is made again.
    since: Option<Timestamp>,
}

impl Judged {
    fn is_good(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until) && self.since.is_none_or(|since| since <= now)
    }

    fn refused(refusal: Refusal, workspace: Option<Arc<str>>, now: Timestamp) -> Judged {
        Judged { workspace, until: refusal.retry_at, since: Some(now), verdict: Err(refusal) }
    }
}

/// A blob is read as JSON or as YAML, whatever its name says: the same bytes can be one and not the other.
type Id = (Arc<str>, Format);

/// A document to judge.
struct Work {
    id: Id,
    size: u64,
    /// Where it was found first.
    path: Arc<str>,
}

/// The verdicts on the blobs of one repository, with one set of keys.
#[derive(Default)]
pub struct Documents {
    budget: Budget,
    /// How many the last pass left for the next one.
    left: usize,
    keys: String,
    judged: HashMap<Id, Judged>,
    /// Policies verified in the present pass, so that what is to be applied need not be read twice.
    fresh: HashMap<Id, Arc<VerifiedPolicy>>,
}

impl Documents {
    /// Verifies what is not verified yet of `files`, in their order, as far as the [`Budget`] goes. Returns how many are left.
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
    ) -> Result<usize, GitError> {
        if self.keys != keys.fingerprint() {
            self.judged.clear();
            keys.fingerprint().clone_into(&mut self.keys);
        }
        let mut wanted: Vec<Work> = Vec::new();
        let mut seen = HashSet::new();
        for file in files.iter().filter(|file| readable(file).is_ok()) {
            let Some(format) = Format::of_path(&file.path) else { continue };
            let id = (Arc::from(file.blob.as_str()), format);
            if self.judged.get(&id).is_none_or(|judged| !judged.is_good(now)) && seen.insert(id.clone()) {
                wanted.push(Work { id, size: file.size, path: file.path.as_str().into() });
            }
        }
        let (start, mut spent) = (Instant::now(), 0);
        self.left = wanted.len();
        for batch in batches(wanted) {
            // what is left does not get less if nothing is ever done
            if spent > 0 && (spent >= self.budget.bytes || start.elapsed() >= self.budget.time) {
                break;
            }
            spent += batch.iter().map(|work| work.size + EACH).sum::<u64>();
            self.left -= batch.len();
            self.judge_batch(git, repository, batch, keys, now).await?;
        }
        Ok(self.left)
    }

    async fn judge_batch(
        &mut self,
        git: &Git,
        repository: &str,
        batch: Vec<Work>,
        keys: &KeyRing,
        now: Timestamp,
    ) -> Result<(), GitError> {
        let blobs: Vec<String> = batch.iter().map(|work| work.id.0.to_string()).collect();
        let bytes = git.read_blobs(repository, &blobs).await?;
        let read = |work: Work| {
            let found = bytes.get(&*work.id.0)?.clone();
            Some((work, found))
        };
        let all: Vec<(Work, Vec<u8>)> = batch.into_iter().filter_map(read).collect();
        drop(bytes);
        for (id, judged, policy) in verify_all(all, keys, now).await {
            if let Some(policy) = policy {
                self.fresh.insert(id.clone(), policy);
            }
            self.judged.insert(id, judged);
        }
        Ok(())
    }

    /// What is known of a file.
    pub fn of(&self, file: &File) -> Judged {
        let refused = |reason: Reason, message: String| Judged {
            verdict: Err(Refusal { reason, message, retry_at: None }),
            workspace: None,
            until: None,
            since: None,
        };
        if let Err(why) = readable(file) {
            let reason = if file.kind.exceeds_limit() { Reason::LimitExceeded } else { Reason::Malformed };
            return refused(reason, why);
        }
        let format = Format::of_path(&file.path).unwrap_or(Format::Json);
        let known = self.judged.get(&(Arc::from(file.blob.as_str()), format)).cloned();
        known.unwrap_or_else(|| match self.left {
            0 => refused(Reason::Malformed, "the file could not be read from the clone".to_owned()),
            _ => refused(
                Reason::LimitExceeded,
                "not looked at yet: what is to be verified is more than one look takes".to_owned(),
            ),
        })
    }

    /// The policy of a blob that was verified in this pass.
    pub fn fresh(&self, blob: &str, path: &str) -> Option<Arc<VerifiedPolicy>> {
        self.fresh.get(&(Arc::from(blob), Format::of_path(path)?)).cloned()
    }

    /// Ends a pass: forgets the policies, and the verdicts on blobs that are not among these files.
    pub fn end_pass<'f>(&mut self, files: impl IntoIterator<Item = &'f File>) {
        self.fresh = HashMap::new();
        let there: HashSet<&str> = files.into_iter().map(|file| file.blob.as_str()).collect();
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
fn batches(wanted: Vec<Work>) -> Vec<Vec<Work>> {
    let (mut batches, mut room): (Vec<Vec<Work>>, u64) = (Vec::new(), 0);
    for work in wanted {
        let size = work.size;
        match batches.last_mut() {
            Some(batch) if size <= room => {
                batch.push(work);
                room -= size;
            }
            _ => {
                batches.push(vec![work]);
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

/// Verifies on all cores, away from the threads that answer admission requests, which go before.
async fn verify_all(work: Vec<(Work, Vec<u8>)>, keys: &KeyRing, now: Timestamp) -> Vec<Done> {
    let keys = keys.clone();
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let share = work.len().div_ceil(threads).max(1);
    let large = work.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() > LARGE;
    let task = tokio::task::spawn_blocking(move || {
        let verify_part = |part: &[(Work, Vec<u8>)]| {
            // of this thread alone, which ends with its part; where it may not, all have the same turn
            if large {
                let _ = rustix::process::nice(NICENESS);
            }
            part.iter().map(|(work, bytes)| judge_one(work, bytes, &keys, now)).collect::<Vec<_>>()
        };
        std::thread::scope(|scope| {
            let parts: Vec<_> = work.chunks(share).map(|part| scope.spawn(move || verify_part(part))).collect();
            parts.into_iter().flat_map(|part| part.join().unwrap_or_default()).collect()
        })
    });
    task.await.unwrap_or_else(|error| {
        // no document can do that: each is judged by itself. What is not judged is told as unreadable, and never enforced
        tracing::error!(%error, "documents could not be verified");
        Vec::new()
    })
}

fn judge_one(work: &Work, bytes: &[u8], keys: &KeyRing, now: Timestamp) -> Done {
    let mut workspace: Option<Arc<str>> = None;
    let judged = by_itself(&shown(&work.path), || {
        let document = Document::parse(bytes, work.id.1).map_err(|fault| {
            workspace = document::peek(bytes, work.id.1).workspace_id.map(Arc::from);
            hold::malformed(&fault)
        })?;
        workspace = Some(document.workspace_id().into());
        verify(document, keys, now).map(VerifiedPolicy::without_unsigned)
    });
    match judged {
        Ok(policy) => {
            let (since, until) = (policy.holds_from(), policy.holds_until());
            let judged = Judged { verdict: Ok(Summary::of(&policy)), workspace, until, since };
            (work.id.clone(), judged, Some(Arc::new(policy)))
        }
        Err(refusal) => (work.id.clone(), Judged::refused(refusal, workspace, now), None),
    }
}
