//! Lists and watches of the API server.
//!
//! Hand-written beside `kube::runtime::watcher` for one reason: that one keeps bookmarks to itself, and a bookmark is
//! the only sign that a watch without events is alive. A replica whose watches are dead must not answer.

use std::collections::HashSet;
use std::fmt::Debug;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::{Api, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;

/// What a watch says.
pub enum Seen<K> {
    /// The object is so now.
    Now(Box<K>),
    /// The object is gone.
    Gone(Box<K>),
    /// A full list was read: there are no other names than these.
    All(HashSet<String>),
    /// Nothing happened, and the watch is alive.
    Alive,
}

/// Objects a page of a list.
const PAGE: u32 = 500;
/// The API server sends bookmarks about once a minute: after this silence the connection is made anew.
const SILENCE: Duration = Duration::from_secs(130);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Lists and watches all objects of a kind, for ever. Faults are logged and tried again, with growing pauses.
pub async fn list_watch<K>(api: Api<K>, mut sink: impl FnMut(Seen<K>))
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let kind = K::plural(&()).into_owned();
    let mut pause = FIRST_PAUSE;
    let mut from: Option<String> = None;
    loop {
        let start = tokio::time::Instant::now();
        let result = match from.take() {
            None => list(&api, &mut sink).await.map(Some),
            Some(version) => watch(&api, version, &mut sink).await,
        };
        match result {
            Ok(next) => {
                from = next;
                pause = FIRST_PAUSE;
                continue;
            }
            Err((version, error)) => {
                tracing::warn!(%kind, %error, "watch failed, trying again");
                from = version;
            }
        }
        if start.elapsed() > LONGEST_PAUSE {
            pause = FIRST_PAUSE;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// A fault, and the resourceVersion from which watching can go on, if it can.
type Fault = (Option<String>, kube::Error);

async fn list<K>(api: &Api<K>, sink: &mut impl FnMut(Seen<K>)) -> Result<String, Fault>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + 'static,
{
    let mut names = HashSet::new();
    let mut params = ListParams::default().limit(PAGE);
    loop {
        let page = api.list(&params).await.map_err(|error| (None, error))?;
        for object in page.items {
            names.insert(object.name_any());
            sink(Seen::Now(Box::new(object)));
        }
        sink(Seen::Alive);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => {
                sink(Seen::All(names));
                return Ok(page.metadata.resource_version.unwrap_or_default());
            }
        }
    }
}

/// Watches until the server ends it. `Ok(None)`: the version is too old, list again.
async fn watch<K>(api: &Api<K>, mut version: String, sink: &mut impl FnMut(Seen<K>)) -> Result<Option<String>, Fault>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + 'static,
{
    let params = WatchParams::default();
    let stream = api.watch(&params, &version).await.map_err(|error| (Some(version.clone()), error))?;
    let mut stream = stream.boxed();
    loop {
        let event = match tokio::time::timeout(SILENCE, stream.try_next()).await {
            Err(_silent) => return Ok(Some(version)),
            Ok(Ok(None)) => return Ok(Some(version)),
            Ok(Err(error)) => return Err((Some(version), error)),
            Ok(Ok(Some(event))) => event,
        };
        match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                version = object.resource_version().unwrap_or(version);
                sink(Seen::Now(Box::new(object)));
            }
            WatchEvent::Deleted(object) => {
                version = object.resource_version().unwrap_or(version);
                sink(Seen::Gone(Box::new(object)));
            }
            WatchEvent::Bookmark(bookmark) => version = bookmark.metadata.resource_version,
            WatchEvent::Error(status) if status.code == 410 => return Ok(None),
            WatchEvent::Error(status) => return Err((None, kube::Error::Api(status))),
        }
        sink(Seen::Alive);
    }
}
