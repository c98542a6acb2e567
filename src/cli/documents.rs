//! Documents out of files, commits and clusters, with what verification says of them.

use std::path::PathBuf;
use std::thread;

use anyhow::bail;
use clap::Args;
use jiff::Timestamp;
use serde_json::Value;

use super::Usage;
use super::cluster::LazyCluster;
use super::source::{Found, Source};
use crate::git::one_line;
use crate::policy::document::parse_unsigned;
use crate::policy::{Document, Fault, KeyRing, Reason, Refusal, VerifiedPolicy, verify};

/// Which documents.
#[derive(Args, Clone, Debug)]
pub(super) struct DocumentArgs {
    /// Documents: files (*.json, *.yaml, *.yml), REV:PATH for a file in a commit, cluster:WORKSPACE for what is enforced.
    #[arg(value_name = "DOCUMENT")]
    sources: Vec<Source>,
    /// A file; the same as without --file. Can be given several times.
    #[arg(long = "file", value_name = "FILE", num_args = 1..)]
    files: Vec<PathBuf>,
}

impl DocumentArgs {
    /// All that are named, in their order.
    pub(super) fn sources(&self) -> anyhow::Result<Vec<Source>> {
        let named = self.files.iter().cloned().map(Source::File).chain(self.sources.iter().cloned());
        let named: Vec<Source> = named.collect();
        if named.is_empty() {
            bail!(Usage("no document was named; expected files such as policies/*.json".to_owned()));
        }
        for source in &named {
            if let Source::File(path) = source {
                super::files::format(path)?;
            }
        }
        Ok(named)
    }
}

/// A document and what is known of it.
pub(super) struct Judged {
    /// Where it was found.
    pub(super) name: String,
    /// Its data, as far as it is a document; one that still lacks its signatures is one too.
    pub(super) value: Result<Value, Fault>,
    /// Its digest, if it is complete.
    pub(super) digest: Option<String>,
    /// What verification says; none where there are no keys to verify with.
    pub(super) verdict: Option<Result<VerifiedPolicy, Refusal>>,
}

impl Judged {
    /// One word of the closed set; none where nothing was verified.
    pub(super) fn result(&self) -> Option<Reason> {
        self.verdict
            .as_ref()
            .map(|verdict| verdict.as_ref().map_or_else(|refusal| refusal.reason, |_| Reason::Verified))
    }

    /// Its name, and the policy, if it verified.
    pub(super) fn policy(&self) -> Option<(&str, &VerifiedPolicy)> {
        Some((&self.name, self.verdict.as_ref()?.as_ref().ok()?))
    }
}

/// Warns of policies and keys that are near their end.
pub(super) fn warn_of_ends<'p>(policies: impl Iterator<Item = (&'p str, &'p VerifiedPolicy)>, now: Timestamp) {
    for (name, policy) in policies {
        if let Some(ending) = policy.ending(now) {
            super::warn(&format!("{}: {ending}", one_line(name)));
        }
    }
}

/// Verifies documents, on all processors; in their order.
pub(super) fn judge(found: &[(String, Found)], keys: Option<&KeyRing>, now: Timestamp) -> Vec<Judged> {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let share = found.len().div_ceil(processors).max(1);
    let shares: Vec<&[(String, Found)]> = found.chunks(share).collect();
    thread::scope(|scope| {
        let of = |share: &[(String, Found)]| share.iter().map(|(name, found)| one(name, found, keys, now)).collect();
        let rest: Vec<_> = shares.iter().skip(1).map(|share| scope.spawn(move || of(share))).collect();
        let mut judged: Vec<Judged> = shares.first().map(|share| of(share)).unwrap_or_default();
        for other in rest {
            // a panic in a thread is a panic here
            judged.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        judged
    })
}

fn one(name: &str, found: &Found, keys: Option<&KeyRing>, now: Timestamp) -> Judged {
    let document = Document::parse(&found.bytes, found.format);
    let digest = document.as_ref().ok().map(Document::digest);
    let value = match &document {
        Ok(document) => Ok(document.value().clone()),
        Err(_) => parse_unsigned(&found.bytes, found.format),
    };
    let verdict = keys.map(|keys| document.map_err(Refusal::from).and_then(|document| verify(document, keys, now)));
    Judged { name: name.to_owned(), value, digest, verdict }
}

/// Gets all documents; `unavailable` is told of those that cannot be had.
pub(super) fn find(
    sources: &[Source],
    cluster: &LazyCluster<'_>,
    now: Timestamp,
    mut unavailable: impl FnMut(anyhow::Error),
) -> anyhow::Result<Vec<(String, Found)>> {
    let mut all = Vec::new();
    for source in sources {
        match source.find(|| cluster.get(), now) {
            Ok(found) => all.push((source.to_string(), found)),
            Err(e) if e.is::<Usage>() => return Err(e),
            Err(e) => unavailable(e),
        }
    }
    Ok(all)
}
