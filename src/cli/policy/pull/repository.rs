//! A Git repository as the controller reads it: by the fetch child, into a folder that is thrown away.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use clap::Args;
use jiff::Timestamp;
use url::Url;

use super::Failure;
use super::access::{AccessArgs, Credential, in_options};
use crate::admission::index::WorkspaceView;
use crate::cli::source::Found;
use crate::cli::terminal::Progress;
use crate::cli::{Usage, warn};
use crate::controller::candidate::Candidate;
use crate::controller::documents::Documents;
use crate::controller::plan::{Place, plan};
use crate::controller::revision;
use crate::git::{Access, Git, GitError, Limits, Login, Reference, Request, Snapshot, one_line, shown};
use crate::policy::{KeyRing, Reason};

/// How long it may take to fetch, unless the user says otherwise.
const FETCH: Duration = Duration::from_secs(60);
/// How often so much is verified as a controller does in one look.
const MOST_ROUNDS: usize = 20;
/// The folder of the clone, below one of its own.
const CLONE: &str = "pull";

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Repository")]
pub(super) struct RepositoryArgs {
    /// Read a Git repository: its https:// or ssh:// URL, also as user@host:path, or its folder on this machine.
    #[arg(long, value_name = "URL|PATH", conflicts_with = "backend")]
    repo: Option<String>,
    /// Branch of the repository. Default: the one that its HEAD names.
    #[arg(long = "ref", value_name = "REF", requires = "repo")]
    branch: Option<String>,
    /// Folder of the documents in the repository.
    #[arg(long, value_name = "DIR", default_value = "policies")]
    path: String,
}

/// A repository that nothing was fetched of yet.
pub(super) struct Repository {
    url: String,
    branch: Option<String>,
    path: String,
    access: Access,
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

impl RepositoryArgs {
    /// The repository, if one is named. `files`: of --ca-file and --token-file.
    pub(super) fn repository(
        &self,
        access: &AccessArgs,
        (ca_file, token_file): (Option<&Path>, Option<&Path>),
    ) -> anyhow::Result<Option<Repository>> {
        let Some(repo) = &self.repo else { return Ok(None) };
        let url = match of_ssh(repo) {
            Some(url) => url,
            None if repo.contains("://") => repo.clone(),
            None => of_folder(repo)?,
        };
        // here, since every message about a repository names its URL
        if Url::parse(&url).is_ok_and(|url| url.password().is_some() || has_user(&url)) {
            let usage = "--repo has a user name or password in it; expected https://host/path or ssh://git@host/path";
            return Err(Usage(usage.to_owned()).into());
        }
        let access = match Url::parse(&url) {
            Ok(url) => access.access(&url, ca_file, token_file)?,
            // which is said where it is fetched
            Err(_) => Access::default(),
        };
        Ok(Some(Repository { url, branch: self.branch.clone(), path: self.path.clone(), access }))
    }
}

/// Over ssh a user name is no secret; elsewhere it may be a token.
fn has_user(url: &Url) -> bool {
    url.scheme() != "ssh" && !url.username().is_empty()
}

/// `user@host:path`, as Git writes it for ssh. A folder of such a name is one.
fn of_ssh(text: &str) -> Option<String> {
    let (place, path) = text.split_once(':')?;
    let (user, host) = place.split_once('@')?;
    let plain = |part: &str| !part.is_empty() && !part.contains(['/', '@', ':']);
    let is = plain(user) && plain(host) && !path.starts_with("//") && !path.is_empty() && !Path::new(text).exists();
    is.then(|| format!("ssh://{user}@{host}/{}", path.trim_start_matches('/')))
}

fn of_folder(path: &str) -> anyhow::Result<String> {
    let folder = std::fs::canonicalize(path)
        .with_context(|| format!("cannot read {path}; --repo takes https://, ssh://, or a folder of this machine"))?;
    let url = Url::from_file_path(&folder).map_err(|()| anyhow!("{path} cannot be written as a file:// URL"))?;
    Ok(url.into())
}

impl Repository {
    /// What a controller would enforce in the workspace that sees this repository and nothing else.
    pub(super) fn enforced(
        &self,
        workspace: &str,
        keys: &KeyRing,
        now: Timestamp,
        timeout: Option<Duration>,
    ) -> Result<Found, Failure> {
        let _progress = Progress::new(format!("fetching {self}"));
        let folder =
            tempfile::Builder::new().prefix("sekuire-pull-").tempdir().context("cannot make a folder to fetch into")?;
        let exe = std::env::current_exe().context("cannot find this program, which the fetch child is started from")?;
        let local = self.url.starts_with("file://");
        let git = Git::new(exe, folder.path().to_owned(), Limits::default(), local);
        let mut request = Request::new(CLONE, self.url.clone());
        request.reference = self.branch.clone().map_or(Reference::Default, Reference::Branch);
        request.path.clone_from(&self.path);
        request.timeout = timeout.unwrap_or(FETCH);
        request.access = self.access.clone();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(anyhow::Error::from)?;
        let mut documents = Documents::default();
        let snapshot = runtime
            .block_on(async {
                let snapshot = self.snapshot(&git, &mut request).await?;
                let files: Vec<_> = snapshot.tip_files.iter().collect();
                // one call does so much and no more; here nobody else waits for it
                for _ in 0..MOST_ROUNDS {
                    if documents.judge(&git, CLONE, &files, keys, now).await? == 0 {
                        return Ok::<_, GitError>(Some(snapshot));
                    }
                }
                Ok(None)
            })
            .map_err(|error| anyhow!("cannot read {self}: {}", in_options(&error.to_string())))?;
        let Some(snapshot) = snapshot else {
            return Err(anyhow!("{self} has more documents to verify than is sensible (LimitExceeded)").into());
        };
        self.choose(&snapshot, &documents, workspace, now)
    }

    /// Fetches, and asks Git's credential helpers where the server wants to know who asks, as Git does.
    async fn snapshot(&self, git: &Git, request: &mut Request) -> Result<Snapshot, GitError> {
        let first = git.snapshot(request).await;
        let (Err(GitError::Authentication(_)), Login::None, Ok(url)) =
            (&first, &request.access.login, Url::parse(&self.url))
        else {
            return first;
        };
        if url.scheme() != "https" {
            return first;
        }
        let Some((credential, login)) = Credential::of(&url) else { return first };
        request.access.login = login;
        let second = git.snapshot(request).await;
        match &second {
            Ok(_) => credential.was(true),
            Err(GitError::Authentication(_)) => credential.was(false),
            Err(_) => {}
        }
        second
    }

    /// The document among those at the tip that would be accepted.
    fn choose(
        &self,
        snapshot: &Snapshot,
        documents: &Documents,
        workspace: &str,
        now: Timestamp,
    ) -> Result<Found, Failure> {
        let at = format!("{self} at {}", revision(&snapshot.reference, &snapshot.tip));
        if !snapshot.path_exists {
            return Err(anyhow!("there is no folder {} in {at}; see --path", self.path).into());
        }
        let candidates = self.candidates(snapshot, documents, workspace);
        if candidates.is_empty() {
            return Err(Failure::Refused(format!(
                "no document in {} of {at} is for the workspace {workspace}",
                self.path
            )));
        }
        let plan = plan(&WorkspaceView::default(), &candidates, now);
        for (candidate, outcome) in candidates.iter().zip(&plan.outcomes) {
            if !matches!(outcome.reason, Reason::Verified | Reason::Superseded) {
                warn(&format!(
                    "{} is refused: {}: {}",
                    shown(&candidate.path),
                    outcome.reason,
                    one_line(&outcome.message)
                ));
            }
        }
        let accepted = plan.base.and_then(|base| match base.place {
            Place::Candidate(index) => candidates.get(index),
            _ => None,
        });
        let policy = accepted.and_then(|candidate| documents.fresh(&candidate.blob, &candidate.path));
        let Some(policy) = policy else {
            let many = candidates.len();
            return Err(Failure::Refused(format!(
                "none of the documents for {workspace} in {at} ({many}) can be enforced: they are drafts, or refused"
            )));
        };
        Ok(Found::of(&policy, Some(snapshot.tip.clone())))
    }

    /// The documents at the tip that are for the workspace, or say so.
    fn candidates(&self, snapshot: &Snapshot, documents: &Documents, workspace: &str) -> Vec<Candidate> {
        let (repository, reference): (Arc<str>, Arc<str>) =
            (self.url.as_str().into(), snapshot.reference.as_str().into());
        let commit: Arc<str> = snapshot.tip.as_str().into();
        let candidate = |file: &crate::git::File| {
            let judged = documents.of(file);
            (judged.workspace.as_deref() == Some(workspace)).then(|| Candidate {
                repository: Arc::clone(&repository),
                reference: Arc::clone(&reference),
                path: file.path.as_str().into(),
                commit: Arc::clone(&commit),
                blob: file.blob.as_str().into(),
                order: 0,
                at_tip: true,
                workspace: judged.workspace,
                verdict: judged.verdict,
            })
        };
        snapshot.tip_files.iter().filter_map(candidate).collect()
    }
}
