//! Lists and watches of the API server.
//!
//! Hand-written beside `kube::runtime::watcher` for one reason: that one keeps bookmarks to itself, and a bookmark is
//! the only sign that a watch without events is alive. A replica whose watches are dead must not answer.
//!
//! A watch that has ended is never resumed: everything is listed again. Where etcd was restored from a backup, the cluster is
//! at an older resourceVersion than the one to resume from, and the API server would say nothing at all until it has caught
//! up, about all that was taken back. It costs a list of each kind where a watch ends, which is asked for
//! every ten minutes or so, and one every ten seconds at most where something cuts every connection.
//!
//! Nothing is waited for without end: a page of a list and the start of a watch for as long as any request, and a watch for
//! its next bookmark.
//!
//! Nothing is read but through [`Sent`], so that no part of an object that nobody needs keeps it from being seen. That one
//! cannot look at all is a gauge (`sekuire_watch_up`), and told to whoever watches a single object.

use std::collections::HashSet;
use std::fmt::Debug;
use std::time::Duration;

use futures::channel::mpsc;
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::core::Request;
use kube::{Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::answer::in_time;
use super::retry::jittered;
use crate::api::sent::SentList;
use crate::api::{Sent, Unreadable, is_older};
use crate::telemetry::{WatchUp, metrics};

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
/// A watch is ended by the API server after so long, or up to a tenth more, so that not all are listed again at once. That it is
/// alive is told by its bookmarks, and that the cluster was taken back by versions; the list finds what a fault, of the API
/// server or of ours, kept from us. The client's default, not five minutes, is twice what that costs with 10 000 policies.
const WATCH: Duration = Duration::from_secs(10 * 60);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// After a watch that ends sooner the pauses grow: everything is listed again after each.
const SHORT: Duration = Duration::from_secs(10);
/// The same for a single object, which costs next to nothing.
const WATCH_ONE: Duration = Duration::from_secs(300);

/// Lists and watches all objects of a kind, for ever. Faults are logged and tried again, with growing pauses.
pub async fn list_watch<K>(client: Client, sink: impl FnMut(Seen<K>))
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    follow(client, Scope::default(), sink, |_| ()).await;
}

/// The same of the one object of this name, for which a right to that name alone is enough.
pub async fn list_watch_one<K>(client: Client, name: &str, sink: impl FnMut(Seen<K>))
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    follow(client, Scope { name: Some(name.to_owned()), ..Scope::default() }, sink, |_| ()).await;
}

/// What an object of a namespace, or (`None`) one of the cluster, is now and each time when it changes, as far as it can be
/// read; `None`: there is none. An error: nobody knows, until the next item. It never ends, and does something only while it
/// is waited for.
pub fn watch_object<K>(
    client: Client,
    namespace: Option<&str>,
    name: &str,
) -> impl Stream<Item = Result<Option<Sent<K>>, kube::Error>> + Send + use<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let scope = Scope { namespace: namespace.map(str::to_owned), name: Some(name.to_owned()) };
    let (sender, receiver) = mpsc::unbounded();
    let failures = sender.clone();
    // who does not listen any more drops the sender's side too
    let tell = |sender: &mpsc::UnboundedSender<_>, said| drop(sender.unbounded_send(said));
    let sink = move |seen: Seen<K>| match seen {
        Seen::Now(object) => {
            tell(&sender, Ok(Some(Sent { metadata: object.meta().clone(), object: Ok(object) })));
        }
        Seen::Unreadable(unreadable) => {
            tell(&sender, Ok(Some(Sent { metadata: unreadable.metadata.clone(), object: Err(unreadable) })));
        }
        Seen::Gone(_) => tell(&sender, Ok(None)),
        Seen::All(names) if names.is_empty() => tell(&sender, Ok(None)),
        Seen::All(_) | Seen::Alive => {}
    };
    let following = follow(client, scope, sink, move |error| tell(&failures, Err(error)));
    stream::select(receiver, stream::once(following).filter_map(|()| std::future::ready(None)))
}

/// Which objects of a kind.
#[derive(Clone, Default)]
struct Scope {
    /// Those of one namespace; `None`: of all, or of the cluster.
    namespace: Option<String>,
    /// The one of this name.
    name: Option<String>,
}

impl Scope {
    fn request<K: Resource<DynamicType = ()>>(&self) -> Request {
        Request::new(K::url_path(&(), self.namespace.as_deref()))
    }

    fn fields(&self) -> Option<String> {
        self.name.as_ref().map(|name| format!("metadata.name={name}"))
    }

    fn timeout(&self) -> Duration {
        if self.name.is_some() { WATCH_ONE } else { WATCH }
    }
}

async fn follow<K>(client: Client, scope: Scope, mut sink: impl FnMut(Seen<K>), mut failed: impl FnMut(kube::Error))
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let mut pause = FIRST_PAUSE;
    let mut last = None;
    let mut up = metrics().watch_begins(&K::plural(&()));
    loop {
        let start = Instant::now();
        if let Err(error) = list_then_watch(&client, &scope, &mut last, &mut up, &mut sink).await {
            up.set(false);
            say_failed(&K::plural(&()), scope.name.as_deref(), &error);
            failed(error);
        }
        if start.elapsed() > SHORT {
            pause = FIRST_PAUSE;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Until the watch ends. `last` is the resourceVersion that was seen last.
async fn list_then_watch<K>(
    client: &Client,
    scope: &Scope,
    last: &mut Option<String>,
    up: &mut WatchUp,
    sink: &mut impl FnMut(Seen<K>),
) -> Result<(), kube::Error>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + 'static,
{
    let version = list(client, scope, sink).await?;
    up.set(true);
    if is_older(&version, last.as_deref()) {
        let resource = K::plural(&());
        tracing::warn!(%resource, "cluster is in an older state, as after a restore: everything was listed again");
    }
    watch(client, scope, last.insert(version), sink).await
}

fn say_failed(resource: &str, name: Option<&str>, error: &kube::Error) {
    metrics().watch_failed(resource);
    match error {
        kube::Error::Api(status) if status.code == 404 => {
            let advice = "the cluster does not know this kind, and nothing is answered without it: apply the CRDs \
                          (`sekuire crds | kubectl apply --server-side -f -`)";
            tracing::error!(resource, name, advice, "watch failed, trying again");
        }
        _ => tracing::warn!(resource, name, %error, "watch failed, trying again"),
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

async fn list<K>(client: &Client, scope: &Scope, sink: &mut impl FnMut(Seen<K>)) -> Result<String, kube::Error>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + 'static,
{
    let mut names = HashSet::new();
    let mut params = ListParams { field_selector: scope.fields(), ..ListParams::default() }.limit(PAGE);
    let request = scope.request::<K>();
    loop {
        let page = request.list(&params).map_err(kube::Error::BuildRequest)?;
        let page: SentList<K> = in_time(client.request(page)).await?;
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

/// Watches until the server ends it, or it is no longer worth anything. `version` is kept to be the one seen last.
async fn watch<K>(
    client: &Client,
    scope: &Scope,
    version: &mut String,
    sink: &mut impl FnMut(Seen<K>),
) -> Result<(), kube::Error>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + 'static,
{
    let timeout = u32::try_from(jittered(scope.timeout()).as_secs()).ok();
    let params = WatchParams { field_selector: scope.fields(), timeout, ..WatchParams::default() };
    let request = scope.request::<K>().watch(&params, version).map_err(kube::Error::BuildRequest)?;
    let stream = match in_time(client.request_events::<Sent<K>>(request)).await {
        Err(kube::Error::Api(status)) if status.code == 410 => return Ok(()),
        other => other?,
    };
    let mut stream = stream.boxed();
    loop {
        let event = match tokio::time::timeout(SILENCE, stream.try_next()).await {
            Err(_silent) => return Ok(()),
            Ok(event) => event?,
        };
        let now = match &event {
            None => return Ok(()),
            Some(WatchEvent::Error(status)) if status.code == 410 => return Ok(()),
            Some(WatchEvent::Error(status)) => return Err(kube::Error::Api(status.clone())),
            Some(WatchEvent::Added(object) | WatchEvent::Modified(object) | WatchEvent::Deleted(object)) => {
                object.resource_version()
            }
            Some(WatchEvent::Bookmark(bookmark)) => Some(bookmark.metadata.resource_version.clone()),
        };
        if let Some(now) = now {
            // the cluster was taken back after the list, and before the watch
            if is_older(&now, Some(version)) {
                return Ok(());
            }
            *version = now;
        }
        match event {
            Some(WatchEvent::Added(object) | WatchEvent::Modified(object)) => tell(object, sink),
            Some(WatchEvent::Deleted(object)) => sink(Seen::Gone(object.name_any())),
            _ => {}
        }
        sink(Seen::Alive);
    }
}
