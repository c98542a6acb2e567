//! The Secrets of one repository, followed for as long as it names them.

use std::time::Duration;

use tokio::sync::watch::Receiver;

use super::access::{self, Named};
use super::secrets::{Secrets, State};
use crate::api::PolicyRepositorySpec;
use crate::api::policy_repository::SecretReference;
use crate::git::{Access, GitError};

/// How long the API server may take to say what a Secret holds.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the Secrets of one repository say.
pub struct Credentials {
    secrets: Secrets,
    login: Option<Followed>,
    proxy: Option<Followed>,
    keys: Option<Followed>,
}

struct Followed {
    name: String,
    state: Receiver<State>,
}

impl Credentials {
    /// Of a repository that names none yet.
    pub fn new(secrets: Secrets) -> Self {
        Credentials { secrets, login: None, proxy: None, keys: None }
    }

    /// How the repository is reached, as its Secrets say now.
    ///
    /// # Errors
    /// [`GitError::Authentication`] if a Secret is not there or cannot be read, which may change by itself;
    /// [`GitError::Credentials`] if it has to be changed.
    pub async fn access(&mut self, spec: &PolicyRepositorySpec) -> Result<Access, GitError> {
        self.login = follow(&self.secrets, self.login.take(), spec.secret_ref.as_ref());
        self.proxy = follow(&self.secrets, self.proxy.take(), spec.proxy_secret_ref.as_ref());
        let namespace = self.secrets.namespace();
        let login = read(self.login.as_mut(), "spec.secretRef", namespace).await?;
        let proxy = read(self.proxy.as_mut(), "spec.proxySecretRef", namespace).await?;
        access::access(&spec.url, login.as_ref(), proxy.as_ref())
    }

    /// The Secret with the keys that commits or tags have to be signed with; `None`: they need not be.
    ///
    /// # Errors
    /// A sentence, if there are no keys although some are asked for.
    pub async fn signature_keys(&mut self, spec: &PolicyRepositorySpec) -> Result<Option<Named>, String> {
        let secret = spec.verify.as_ref().and_then(|verify| verify.secret_ref.as_ref());
        let asked = spec.signed().is_some();
        self.keys = follow(&self.secrets, self.keys.take(), secret.filter(|_| asked));
        let read = read(self.keys.as_mut(), "spec.verify.secretRef", self.secrets.namespace());
        match read.await.map_err(|error| error.to_string())? {
            None if asked => Err("spec.verify.secretRef names no Secret with keys".to_owned()),
            named => Ok(named),
        }
    }

    /// Resolves when one of them is no longer as it was when it was asked for.
    pub async fn changed(&mut self) {
        tokio::select! {
            () = changed(self.login.as_mut()) => {}
            () = changed(self.proxy.as_mut()) => {}
            () = changed(self.keys.as_mut()) => {}
        }
    }
}

fn follow(secrets: &Secrets, before: Option<Followed>, named: Option<&SecretReference>) -> Option<Followed> {
    let name = &named?.name;
    let same = before.filter(|before| before.name == *name);
    same.or_else(|| Some(Followed { name: name.clone(), state: secrets.follow(name) }))
}

async fn read(
    followed: Option<&mut Followed>,
    field: &'static str,
    namespace: &str,
) -> Result<Option<Named>, GitError> {
    let Some(Followed { name, state }) = followed else { return Ok(None) };
    // what is not said in time is looked at as it is
    drop(tokio::time::timeout(PATIENCE, state.wait_for(|state| *state != State::Waiting)).await);
    let name = format!("{namespace}/{name}");
    let refuse = |what: &str| Err(GitError::Authentication(format!("Secret {name} ({field}) {what}")));
    match state.borrow_and_update().clone() {
        State::Present(content) => Ok(Some(Named { field, name, content })),
        State::Absent => refuse("does not exist; Secrets are read from the namespace of the controller"),
        State::Unreadable(why) => refuse(&format!("cannot be read: {why}")),
        State::Waiting => refuse("cannot be read: the API server does not answer"),
    }
}

async fn changed(followed: Option<&mut Followed>) {
    let Some(Followed { state, .. }) = followed else { return std::future::pending().await };
    if state.changed().await.is_err() {
        // cannot be: it is watched for as long as it is followed
        std::future::pending::<()>().await;
    }
}
