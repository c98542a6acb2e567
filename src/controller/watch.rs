//! Lists and watches of the API server.
//!
//! Hand-written beside `kube::runtime::watcher` for one reason: that one keeps bookmarks to itself, and a bookmark is
//! the only sign that a watch without events is alive. A replica whose watches are dead must not answer.

use std::collections::HashSet;
use std::fmt::Debug;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::core::Request;
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;

use crate::api::sent::SentList;
use crate::api::{Sent, Unreadable};
use crate::telemetry::metrics;

/// What a watch says.
pub enum Seen<K> {
    /// The object is so now.
    Now(Box<K>),
    /// The object is so now that it cannot be read. That is said in the log already.
    Unreadable(Box<Unreadable>),
    /// The object of this name is gone.
    Gone(String),
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
/// A watch that ends sooner is not asked for again without a pause.
const SHORT: Duration = Duration::from_secs(1);

/// Lists and watches all objects of a kind, for ever. Faults are logged and tried again, with growing pauses.
pub async fn list_watch<K>(client: Client, sink: impl FnMut(Seen<K>))
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    follow(client, None, sink).await;
}

/// The same of the one object of this name, for which a right to that name alone is enough.
pub async fn list_watch_one<K>(client: Client, name: &str, sink: impl FnMut(Seen<K>))
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    follow(client, Some(format!("metadata.name={name}")), sink).await;
}

async fn follow<K>(client: Client, fields: Option<String>, mut sink: impl FnMut(Seen<K>))
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let resource = K::plural(&()).into_owned();
    let mut pause = FIRST_PAUSE;
    let mut from: Option<String> = None;
    loop {
        let start = tokio::time::Instant::now();
        let result = match from.take() {
            None => match list(&client, fields.as_deref(), &mut sink).await {
                Ok(version) => {
                    from = Some(version);
                    continue;
                }
                Err(error) => Err((None, error)),
            },
            Some(version) => watch(&client, fields.as_deref(), version, &mut sink).await,
        };
        match result {
            Ok(next) => from = next,
            Err((_, kube::Error::Api(status))) if status.code == 404 => {
                let advice = "the cluster does not know this kind, and nothing is answered without it: apply the CRDs \
                              (`sekuire crds | kubectl apply -f -`)";
                metrics().watch_failed(&resource);
                tracing::error!(resource, advice, "watch failed, trying again");
            }
            Err((version, error)) => {
                metrics().watch_failed(&resource);
                tracing::warn!(resource, %error, "watch failed, trying again");
                from = version;
            }
        }
        if start.elapsed() > SHORT {
            pause = FIRST_PAUSE;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Hands an object on, as it is or as one that cannot be read.
fn tell<K: Resource<DynamicType = ()>>(sent: Sent<K>, sink: &mut impl FnMut(Seen<K>)) {
    match sent.object {
        Ok(object) => sink(Seen::Now(object)),
        Err(unreadable) => {
            tracing::error!(kind = %K::kind(&()), name = unreadable.name(), error = %unreadable.why, "object not readable");
            sink(Seen::Unreadable(unreadable));
        }
    }
}

async fn list<K>(client: &Client, fields: Option<&str>, sink: &mut impl FnMut(Seen<K>)) -> Result<String, kube::Error>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + 'static,
{
    let mut names = HashSet::new();
    let mut params = ListParams { field_selector: fields.map(str::to_owned), ..ListParams::default() }.limit(PAGE);
    let request = Request::new(K::url_path(&(), None));
    loop {
        let page = request.list(&params).map_err(kube::Error::BuildRequest)?;
        let page: SentList<K> = client.request(page).await?;
        for object in page.items.unwrap_or_default() {
            names.insert(object.name_any());
            tell(object, sink);
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

/// A fault, and the resourceVersion from which watching can go on, if it can.
type Fault = (Option<String>, kube::Error);

/// Watches until the server ends it. `Ok(None)`: the version is too old, list again.
async fn watch<K>(
    client: &Client,
    fields: Option<&str>,
    mut version: String,
    sink: &mut impl FnMut(Seen<K>),
) -> Result<Option<String>, Fault>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + 'static,
{
    let api: Api<Sent<K>> = Api::all(client.clone());
    let params = WatchParams { field_selector: fields.map(str::to_owned), ..WatchParams::default() };
    let stream = match api.watch(&params, &version).await {
        Err(kube::Error::Api(status)) if status.code == 410 => return Ok(None),
        other => other.map_err(|error| (Some(version.clone()), error))?,
    };
    let mut stream = stream.boxed();
    loop {
        let event = match tokio::time::timeout(SILENCE, stream.try_next()).await {
            Err(_silent) => return Ok(Some(version)),
            Ok(Ok(None)) => return Ok(Some(version)),
            // no event: asked for again from the same version, it would come again
            Ok(Err(error @ kube::Error::SerdeError(_))) => return Err((None, error)),
            Ok(Err(error)) => return Err((Some(version), error)),
            Ok(Ok(Some(event))) => event,
        };
        match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                version = object.resource_version().unwrap_or(version);
                tell(object, sink);
            }
            WatchEvent::Deleted(object) => {
                version = object.resource_version().unwrap_or(version);
                sink(Seen::Gone(object.name_any()));
            }
            WatchEvent::Bookmark(bookmark) => version = bookmark.metadata.resource_version,
            WatchEvent::Error(status) if status.code == 410 => return Ok(None),
            WatchEvent::Error(status) => return Err((None, kube::Error::Api(status))),
        }
        sink(Seen::Alive);
    }
}
