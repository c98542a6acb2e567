//! What the controller would say of each document, and what of it is a fault of the change.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jiff::Timestamp;

use super::contents::Contents;
use super::report::{DocumentResult, Finding, Level, Remark};
use crate::admission::hold;
use crate::admission::index::{PolicyIndex, WorkspaceView};
use crate::api::object_name;
use crate::cli::checkout::Checkout;
use crate::controller::candidate::{Candidate, Summary};
use crate::controller::documents::readable;
use crate::controller::observe::Ownership;
use crate::controller::plan::{Outcome, Place, Plan, is_base, plan};
use crate::git::{File, Limits};
use crate::policy::document::{peek, place_of};
use crate::policy::{AdviceKind, Document, Format, KeyRing, Reason, Refusal, Status, VerifiedPolicy, advise, verify};

/// What documents are judged by.
pub(super) struct Ground<'a> {
    pub(super) contents: &'a Contents,
    pub(super) checkout: Option<&'a Checkout>,
    pub(super) keys: &'a KeyRing,
    /// What the repository may publish.
    pub(super) owned: Ownership,
    /// What the cluster holds; empty where none was asked.
    pub(super) index: PolicyIndex,
    pub(super) now: Timestamp,
}

/// What was found.
#[derive(Default)]
pub(super) struct Found {
    pub(super) documents: Vec<DocumentResult>,
    pub(super) findings: Vec<Finding>,
    pub(super) advice: Vec<Remark>,
    /// Policies by workspace.
    pub(super) workspaces: BTreeMap<String, Policies>,
}

/// The policy of a workspace, if it has one.
#[derive(Clone, Default)]
pub(super) struct Policies {
    pub(super) before: Option<Arc<VerifiedPolicy>>,
    pub(super) after: Option<Arc<VerifiedPolicy>>,
}

/// A document, judged by itself.
#[derive(Clone)]
struct Judged {
    workspace: Option<Arc<str>>,
    verdict: Result<(Summary, Arc<VerifiedPolicy>), Refusal>,
}

/// The documents of one workspace, in the order of their commits; those at the tip last.
#[derive(Default)]
struct Group<'a> {
    candidates: Vec<Candidate>,
    policies: Vec<Option<Arc<VerifiedPolicy>>>,
    /// The files of those at the tip.
    tip: Vec<&'a File>,
}

impl<'a> Ground<'a> {
    /// Judges everything that is at the tip, by itself and by what was there before.
    pub(super) fn judge(&self) -> anyhow::Result<Found> {
        let mut found = Found::default();
        let most = Limits::default().files;
        if let Some(error) = &self.contents.beyond {
            found.findings.push(Finding::new(Level::Error, Reason::LimitExceeded, None, error.to_string()));
            return Ok(found);
        }
        if self.contents.tip.len() > most {
            let message = format!("{} documents; the controller reads at most {most}", self.contents.tip.len());
            found.findings.push(Finding::new(Level::Error, Reason::LimitExceeded, None, message));
            return Ok(found);
        }
        let mut groups = BTreeMap::new();
        self.collect(&mut groups, &mut found)?;
        for (name, group) in &groups {
            self.workspace(&self.index.view(name), group, &mut found)?;
        }
        self.enforced(&mut found);
        found.documents.sort_by(|a, b| a.file.cmp(&b.file));
        found.findings.sort_by(|a, b| a.file.cmp(&b.file));
        found.advice.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
        Ok(found)
    }

    /// Sorts the documents of all commits by workspace, in the way of the controller.
    fn collect(&self, groups: &mut BTreeMap<String, Group<'a>>, found: &mut Found) -> anyhow::Result<()> {
        let contents = self.contents;
        let mut known: HashMap<(&str, Format), Judged> = HashMap::new();
        // who commits rubbish in the place of a policy speaks of the workspace of that policy
        let mut paths: HashMap<&str, Arc<str>> = HashMap::new();
        let base = ("base", &contents.base);
        let earlier = contents.earlier.iter().map(|(commit, files)| (commit.as_str(), files)).chain([base]);
        for (order, (commit, files)) in earlier.enumerate() {
            for file in files {
                let Some(format) = Format::of_path(&file.path) else { continue };
                let judged = match known.entry((&file.blob, format)) {
                    Entry::Occupied(known) => known.get().clone(),
                    Entry::Vacant(unknown) => unknown.insert(self.judged(file, format, true)?).clone(),
                };
                if let Some(workspace) = &judged.workspace {
                    paths.insert(&file.path, workspace.clone());
                }
                if judged.workspace.as_ref().is_some_and(|workspace| self.owned.refusal(workspace).is_none()) {
                    add(groups, file, judged, (order, commit));
                }
            }
        }
        for file in &contents.tip {
            // a folder has none, and is not read
            let format = Format::of_path(&file.path).unwrap_or(Format::Json);
            let mut judged = self.judged(file, format, false)?;
            judged.workspace = judged.workspace.or_else(|| paths.get(file.path.as_str()).cloned());
            let not_owned = judged.workspace.as_ref().and_then(|workspace| self.owned.refusal(workspace));
            let refusal = judged.verdict.as_ref().err().or(not_owned.as_ref());
            match refusal.filter(|_| judged.workspace.is_none() || not_owned.is_some()) {
                Some(refusal) => {
                    let outcome = Outcome { reason: refusal.reason, message: refusal.message.clone() };
                    self.tell(file, judged.verdict.as_ref().ok().map(|(_, policy)| policy), &outcome, found)?;
                }
                None => {
                    if let Some(group) = add(groups, file, judged, (usize::MAX, "tip")) {
                        group.tip.push(file);
                    }
                }
            }
        }
        Ok(())
    }

    /// A document of an earlier commit is judged whatever the time: one that is past its time was a version too.
    fn judged(&self, file: &File, format: Format, earlier: bool) -> anyhow::Result<Judged> {
        let refused = |workspace, refusal| Ok(Judged { workspace, verdict: Err(refusal) });
        if let Err(message) = readable(file) {
            let reason = if file.kind.exceeds_limit() { Reason::LimitExceeded } else { Reason::Malformed };
            return refused(None, Refusal { reason, message, retry_at: None });
        }
        let text = self.contents.text(self.checkout, file)?;
        let document = match Document::parse(&text, format) {
            Ok(document) => document,
            Err(fault) => return refused(peek(&text, format).workspace_id.map(Arc::from), fault.into()),
        };
        let workspace = Some(Arc::from(document.workspace_id()));
        let verify = if earlier { hold::authenticate } else { verify };
        match verify(document, self.keys, self.now) {
            Ok(policy) => Ok(Judged { workspace, verdict: Ok((Summary::of(&policy), Arc::new(policy))) }),
            Err(refusal) => refused(workspace, refusal),
        }
    }

    fn workspace(&self, view: &WorkspaceView, group: &Group<'_>, found: &mut Found) -> anyhow::Result<()> {
        let Group { candidates, policies, tip: files } = group;
        let tip = candidates.len() - files.len();
        let before = plan(view, &candidates[..tip], self.now);
        let after = plan(view, candidates, self.now);
        let policy = |plan: &Plan| match plan.base.as_ref()?.place {
            Place::Candidate(index) => policies[index].clone(),
            Place::Held => view.held.as_ref().map(|held| held.policy.clone()),
            Place::Object => view.object.as_ref().and_then(|object| object.verdict.clone().ok()),
            Place::Nowhere => None,
        };
        let pair = Policies { before: policy(&before), after: policy(&after) };
        let before_findings = found.findings.len();
        for (index, file) in (tip..).zip(files) {
            self.tell(file, policies[index].as_ref(), &after.outcomes[index], found)?;
        }
        if found.findings.len() == before_findings
            && let Some(path) = deleted(&after, &candidates[..tip])
            && let Some(base) = &after.base
        {
            let version = &base.mark.version;
            let message = format!(
                "no file has version {version} any more, and it stays enforced: to retire it, sign a higher version with \
                 status archived (`sekuire policy archive`) before its file goes"
            );
            found.findings.push(Finding::new(Level::Error, Reason::SourceMissing, Some(path), message));
        }
        let workspace = candidates.iter().find_map(|candidate| candidate.workspace.as_deref());
        if let Some(workspace) = workspace {
            found.note_versions(workspace, &pair);
            found.workspaces.insert(workspace.to_owned(), pair);
        }
        Ok(())
    }

    /// Reports a document at the tip.
    fn tell(
        &self,
        file: &File,
        policy: Option<&Arc<VerifiedPolicy>>,
        outcome: &Outcome,
        found: &mut Found,
    ) -> anyhow::Result<()> {
        let (reason, message) = (outcome.reason, outcome.message.clone());
        found.documents.push(DocumentResult::new(&file.path, policy.map(|policy| &**policy), reason, &message));
        if reason == Reason::Verified {
            self.advise(file, found)?;
        }
        if !matches!(reason, Reason::Verified | Reason::Superseded) {
            let mut finding = Finding::new(Level::Error, reason, Some(file.path.clone()), message);
            (finding.line, finding.column) = self.place(file, reason)?.unzip();
            found.findings.push(finding);
        }
        Ok(())
    }

    /// What of an accepted document deserves a second look. With a base: of one that the change brings, or touches.
    fn advise(&self, file: &File, found: &mut Found) -> anyhow::Result<()> {
        if self.contents.base.iter().any(|before| before.path == file.path && before.blob == file.blob) {
            return Ok(());
        }
        let Some(format) = Format::of_path(&file.path) else { return Ok(()) };
        let text = self.contents.text(self.checkout, file)?;
        let Ok(document) = Document::parse(&text, format) else { return Ok(()) };
        for advice in advise(&document.value()["content"]) {
            let (line, column) = place_of(&text, format, &advice.path).unzip();
            found.advice.push(Remark { file: Some(file.path.clone()), line, column, object: None, advice });
        }
        Ok(())
    }

    /// Names what the cluster holds and this version of the program does not read, or reads as something that nothing meets:
    /// before an upgrade that is a policy that would be withdrawn.
    fn enforced(&self, found: &mut Found) {
        let mut names = self.index.names();
        names.sort_unstable();
        for name in names {
            let view = self.index.view(&name);
            let Some(object) = &view.object else { continue };
            let workspace = &object.workspace;
            let place = format!("WorkspacePolicy {name} (workspace {workspace}) of the cluster");
            match &object.verdict {
                Err(refusal) if refusal.reason == Reason::Malformed => {
                    // the change itself may be what brings a version that can be read
                    let mended = found.workspaces.get(workspace).is_some_and(|policies| policies.after.is_some());
                    let level = if mended { Level::Warning } else { Level::Error };
                    let message = format!(
                        "{place}: this version of sekuire cannot read it, and with it the workspace would have no policy and \
                         admit no agent: {}; publish a version that it reads before the controller is upgraded",
                        refusal.message
                    );
                    found.findings.push(Finding::new(level, Reason::Malformed, None, message));
                }
                Err(_) => {}
                Ok(policy) => {
                    let document: Option<serde_json::Value> = serde_json::from_str(policy.document_json()).ok();
                    let advice = document.map(|document| advise(&document["content"])).unwrap_or_default();
                    for advice in advice.into_iter().filter(|advice| advice.kind == AdviceKind::IdleEntry) {
                        let object = Some(place.clone());
                        found.advice.push(Remark { file: None, line: None, column: None, object, advice });
                    }
                }
            }
        }
    }

    /// Line and column of what a refusal speaks of.
    fn place(&self, file: &File, reason: Reason) -> anyhow::Result<Option<(u32, u32)>> {
        let (Some(format), Ok(())) = (Format::of_path(&file.path), readable(file)) else { return Ok(None) };
        let text = self.contents.text(self.checkout, file)?;
        let member = match reason {
            Reason::Malformed => {
                let fault = Document::parse(&text, format).err();
                return Ok(fault.and_then(|fault| Some((fault.line?, fault.column.unwrap_or(1)))));
            }
            Reason::UnknownSigningKey
            | Reason::KeyNotAuthorized
            | Reason::KeyRevoked
            | Reason::KeyNotYetValid
            | Reason::KeyExpired => "signing_key_id",
            Reason::HashMismatch => "hash",
            Reason::SignatureMissing | Reason::SignatureInvalid => "signature",
            Reason::DocumentSignatureMissing | Reason::DocumentSignatureInvalid => "document_signature",
            Reason::ThresholdNotMet => "co_signatures",
            Reason::PolicyExpired => "expires_at",
            Reason::VersionRollback | Reason::VersionReused => "version",
            Reason::ConflictingPolicies => "policy_id",
            Reason::WorkspaceNotOwned => "workspace_id",
            _ => return Ok(None),
        };
        Ok(place_of(&text, format, member))
    }
}

fn add<'g, 'a>(
    groups: &'g mut BTreeMap<String, Group<'a>>,
    file: &File,
    judged: Judged,
    (order, commit): (usize, &str),
) -> Option<&'g mut Group<'a>> {
    let workspace = judged.workspace?;
    let group = groups.entry(object_name(&workspace)).or_default();
    let (verdict, policy) = match judged.verdict {
        Ok((summary, policy)) => (Ok(summary), Some(policy)),
        Err(refusal) => (Err(refusal), None),
    };
    group.policies.push(policy);
    group.candidates.push(Candidate {
        repository: "this repository".into(),
        reference: "".into(),
        path: file.path.as_str().into(),
        commit: commit.into(),
        blob: file.blob.as_str().into(),
        order,
        at_tip: order == usize::MAX,
        workspace: Some(workspace),
        verdict,
    });
    Some(group)
}

/// The file that held the enforced version in the base, where no file holds it after the change.
fn deleted(after: &Plan, earlier: &[Candidate]) -> Option<String> {
    let base = after.base.as_ref().filter(|base| base.mark.lifecycle == Status::Active)?;
    // what stands at the tip comes first as the place of an accepted version
    let in_base = |candidate: &&Candidate| {
        *candidate.commit == *"base" && candidate.verdict.as_ref().is_ok_and(|summary| is_base(base, summary))
    };
    let at_tip = matches!(base.place, Place::Candidate(index) if index >= earlier.len());
    earlier.iter().find(in_base).filter(|_| !at_tip).map(|candidate| candidate.path.to_string())
}

impl Found {
    /// Says which version the accepted documents of a workspace follow.
    fn note_versions(&mut self, workspace: &str, policies: &Policies) {
        let Some(before) = &policies.before else { return };
        let of_it = |document: &&mut DocumentResult| {
            document.workspace_id.as_deref() == Some(workspace) && document.result == Reason::Verified
        };
        for document in self.documents.iter_mut().filter(of_it) {
            document.follows = Some(before.version().to_string());
        }
    }
}
