//! From a snapshot of a repository and the verdicts on its files to candidates, by workspace. Pure but for the verdicts'
//! cache and the index, which it only asks.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::candidate::Candidate;
use super::documents::Documents;
use super::report::Finding;
use crate::admission::index::PolicyIndex;
use crate::api::{PolicyRepositorySpec, object_name};
use crate::git::{File, Snapshot};
use crate::policy::{Pattern, Reason, Refusal};

/// Which workspaces a repository may publish.
pub enum Ownership {
    /// All: it is the only repository, and says nothing.
    All,
    /// Those that match.
    These(Vec<Pattern>),
    /// None: there are several repositories, and this one does not say.
    Unsaid,
}

impl Ownership {
    /// By the spec, and the number of repositories in the cluster.
    pub fn of(spec: &PolicyRepositorySpec, repositories: usize) -> Ownership {
        match &spec.workspaces {
            Some(patterns) => Ownership::These(patterns.iter().map(|pattern| Pattern::new(pattern)).collect()),
            None if repositories > 1 => Ownership::Unsaid,
            None => Ownership::All,
        }
    }

    /// Why the repository may not publish for this workspace, if it may not.
    pub fn refusal(&self, workspace: &str) -> Option<Refusal> {
        let message = match self {
            Ownership::All => return None,
            Ownership::These(patterns) if patterns.iter().any(|pattern| pattern.matches(workspace)) => return None,
            Ownership::These(_) => format!("spec.workspaces of the repository does not name workspace {workspace}"),
            Ownership::Unsaid => format!(
                "there are several PolicyRepositories, and spec.workspaces of this one is not set: name {workspace} there"
            ),
        };
        Some(Refusal { reason: Reason::WorkspaceNotOwned, message, retry_at: None })
    }
}

/// What a look found.
pub struct Seen {
    /// Documents by the object name of their workspace, commits in their order.
    pub candidates: HashMap<String, Vec<Candidate>>,
    /// Documents at the tip that belong to no workspace that this repository may speak of.
    pub unplanned: Vec<Finding>,
}

/// Leaves nothing of a snapshot but what is in marked commits, which were accepted once and may have to be put back: the
/// tip is not to be read.
pub fn only_marked(snapshot: &mut Snapshot) {
    snapshot.commits.clear();
    snapshot.tip_files.clear();
}

/// The files to verify: all that are listed. Those first that may have to be put back, then those at the tip that stand where an
/// accepted document came from, then the rest of the tip, and what was in between; the small ones before the large ones. So what
/// somebody adds in great numbers comes last, should it be more than one look takes.
pub fn files<'s>(snapshot: &'s Snapshot, repository: &str, index: &PolicyIndex) -> Vec<&'s File> {
    let accepted = accepted_paths(repository, index);
    let mut tip: Vec<&File> = snapshot.tip_files.iter().collect();
    tip.sort_by_key(|file| (!accepted.contains_key(&file.path), file.size));
    let mut between: Vec<&File> = snapshot.commits.iter().flat_map(|commit| &commit.files).collect();
    between.sort_by_key(|file| (!accepted.contains_key(&file.path), file.size));
    snapshot.also.iter().flat_map(|commit| &commit.files).chain(tip).chain(between).collect()
}

struct Builder<'a> {
    repository: Arc<str>,
    reference: Arc<str>,
    documents: &'a Documents,
    owned: &'a Ownership,
    /// Workspace whose accepted document came from a path: who commits rubbish there speaks of that workspace.
    paths: HashMap<String, Arc<str>>,
    previous: HashMap<(&'a str, &'a str), &'a Arc<str>>,
    seen: Seen,
}

impl Seen {
    /// Sorts what a snapshot lists. `previous` is what was seen last: a file that has not changed since keeps the commit
    /// in which it was seen first.
    pub fn new(
        repository: &str,
        snapshot: &Snapshot,
        documents: &Documents,
        owned: &Ownership,
        previous: Option<&Seen>,
        index: &PolicyIndex,
    ) -> Seen {
        let at_tip = previous.into_iter().flat_map(|seen| seen.candidates.values().flatten()).filter(|c| c.at_tip);
        let mut builder = Builder {
            repository: repository.into(),
            reference: snapshot.reference.as_str().into(),
            documents,
            owned,
            paths: accepted_paths(repository, index),
            previous: at_tip.map(|c| ((&*c.path, &*c.blob), &c.commit)).collect(),
            seen: Seen { candidates: HashMap::new(), unplanned: Vec::new() },
        };
        let mut order = 0;
        for commit in &snapshot.also {
            builder.commit(&commit.id, &commit.files, order, false);
            order += 1;
        }
        for commit in &snapshot.commits {
            builder.commit(&commit.id, &commit.files, order, false);
            order += 1;
        }
        builder.commit(&snapshot.tip, &snapshot.tip_files, order, true);
        builder.seen
    }

    /// Object names whose documents differ from what was seen last.
    pub fn changed(&self, previous: Option<&Seen>) -> BTreeSet<String> {
        let Some(previous) = previous else { return self.candidates.keys().cloned().collect() };
        let names = self.candidates.keys().chain(previous.candidates.keys());
        names.filter(|name| !same(self.candidates.get(*name), previous.candidates.get(*name))).cloned().collect()
    }
}

fn same(now: Option<&Vec<Candidate>>, before: Option<&Vec<Candidate>>) -> bool {
    let (Some(now), Some(before)) = (now, before) else { return false };
    now.len() == before.len() && now.iter().zip(before).all(|(a, b)| same_document(a, b))
}

fn same_document(a: &Candidate, b: &Candidate) -> bool {
    let verdict = match (&a.verdict, &b.verdict) {
        (Ok(a), Ok(b)) => a.fingerprint == b.fingerprint,
        (Err(a), Err(b)) => a.reason == b.reason && a.message == b.message,
        _ => false,
    };
    verdict && a.path == b.path && a.blob == b.blob && a.at_tip == b.at_tip && a.commit == b.commit
}

fn accepted_paths(repository: &str, index: &PolicyIndex) -> HashMap<String, Arc<str>> {
    let names = index.names();
    let ledgers = names.iter().filter_map(|name| index.view(name).ledger);
    let own = ledgers.filter(|ledger| ledger.spec.repository == repository && !ledger.spec.path.is_empty());
    own.map(|ledger| (ledger.spec.path, Arc::from(ledger.spec.workspace))).collect()
}

impl Builder<'_> {
    fn commit(&mut self, id: &str, files: &[File], order: usize, at_tip: bool) {
        let commit: Arc<str> = id.into();
        for file in files {
            let judged = self.documents.of(file);
            let workspace = judged.workspace.or_else(|| self.paths.get(&file.path).cloned());
            let refused = workspace.as_ref().and_then(|workspace| self.owned.refusal(workspace));
            let (Some(workspace), None) = (&workspace, &refused) else {
                let verdict = judged.verdict.as_ref().err().cloned();
                if let (true, Some(refusal)) = (at_tip, verdict.or(refused)) {
                    self.seen.unplanned.push(Finding {
                        path: file.path.clone(),
                        workspace: workspace.as_ref().map(ToString::to_string),
                        reason: refusal.reason,
                        message: refusal.message,
                    });
                }
                continue;
            };
            let first = self.previous.get(&(file.path.as_str(), file.blob.as_str())).filter(|_| at_tip);
            let candidate = Candidate {
                repository: self.repository.clone(),
                reference: self.reference.clone(),
                path: file.path.as_str().into(),
                commit: first.map_or_else(|| commit.clone(), |first| (*first).clone()),
                blob: file.blob.as_str().into(),
                order,
                at_tip,
                workspace: Some(workspace.clone()),
                verdict: judged.verdict,
            };
            self.seen.candidates.entry(object_name(workspace)).or_default().push(candidate);
        }
    }
}
