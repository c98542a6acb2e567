//! The Secrets that repositories name. Each is watched by its name alone, in the controller's namespace, for as long as
//! a repository names it: nothing has to be allowed to list Secrets, and one that is rotated is used at once.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt as _;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use tokio::sync::watch::{Receiver, Sender};

use super::hosts::HOSTS;
use super::watch::watch_object;
use crate::api::Sent;

/// What a Secret holds.
pub type Data = BTreeMap<String, ByteString>;

/// What counts of a Secret.
#[derive(Debug, Default, PartialEq)]
pub struct Content {
    /// What it holds.
    pub data: Data,
    /// For which hosts it is, as its annotation says; see [`super::hosts`].
    pub hosts: Option<String>,
}

/// What is known of a Secret.
#[derive(Clone, PartialEq)]
pub enum State {
    /// The API server has not said yet.
    Waiting,
    /// It was never read, and this is why.
    Unreadable(String),
    /// There is none.
    Absent,
    /// It holds this.
    Present(Arc<Content>),
}

/// The Secrets of one namespace. Cheap to clone.
#[derive(Clone)]
pub struct Secrets {
    client: Client,
    namespace: Arc<str>,
    watched: Arc<Mutex<HashMap<String, Arc<Sender<State>>>>>,
}

impl Secrets {
    /// Those of the controller's namespace.
    pub fn new(client: Client, namespace: &str) -> Self {
        Secrets { client, namespace: namespace.into(), watched: Arc::default() }
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// What a Secret holds, now and from now on. It is watched until the last receiver is dropped.
    pub fn follow(&self, name: &str) -> Receiver<State> {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = watched.get(name) {
            return sender.subscribe();
        }
        let (sender, receiver) = tokio::sync::watch::channel(State::Waiting);
        let sender = Arc::new(sender);
        watched.insert(name.to_owned(), sender.clone());
        tokio::spawn(self.clone().watch(name.to_owned(), sender));
        receiver
    }

    async fn watch(self, name: String, sender: Arc<Sender<State>>) {
        let mut events = std::pin::pin!(watch_object(self.client.clone(), Some(&self.namespace), &name));
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(event) => { sender.send_if_modified(|state| take(state, event)); }
                    None => return,
                },
                () = sender.closed() => {
                    let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
                    // somebody may have come while the last one went
                    if sender.receiver_count() == 0 {
                        watched.remove(&name);
                        return;
                    }
                }
            }
        }
    }
}

/// Takes over what the watch says. Returns whether that is something new.
fn take(state: &mut State, event: Result<Option<Sent<Secret>>, kube::Error>) -> bool {
    let new = match event {
        Ok(Some(Sent { object: Ok(secret), .. })) => {
            let hosts = secret.metadata.annotations.unwrap_or_default().remove(HOSTS);
            State::Present(Arc::new(Content { data: secret.data.unwrap_or_default(), hosts }))
        }
        Ok(Some(Sent { object: Err(unreadable), .. })) => State::Unreadable(unreadable.why),
        Ok(None) => State::Absent,
        Err(error) => {
            match state {
                State::Waiting | State::Unreadable(_) => State::Unreadable(error.to_string()),
                // what was read last counts until something else is read
                State::Absent | State::Present(_) => return false,
            }
        }
    };
    let changed = *state != new;
    *state = new;
    changed
}
