//! A way to the API server on which requests can be left unanswered, as a server leaves them that loses power after it has
//! acknowledged them: the connection stays, and nothing comes. Or all of it falls silent, with what is under way.

use std::{
    collections::HashSet,
    convert::Infallible,
    fs,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use futures::StreamExt as _;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, BodyStream, StreamBody, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use kube::{Client, client::Body};
use serde_json::json;
use tokio::{
    net::TcpListener,
    sync::watch,
    task::{JoinHandle, JoinSet},
};

use super::support::{Site, until};

/// Which requests are left unanswered, by method and path: `watch` and the path for the start of a watch.
type Which = fn(&str) -> bool;

#[derive(Default)]
struct Silence {
    which: Option<Which>,
    /// What was left unanswered, each the first time that it came.
    met: HashSet<String>,
    /// What nobody waits for any more.
    given_up: HashSet<String>,
}

/// Such a way; it ends when it is dropped.
pub(crate) struct Proxy {
    pub(crate) kubeconfig: PathBuf,
    silence: Arc<Mutex<Silence>>,
    muted: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Proxy {
    pub(crate) async fn start(site: &Site) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let kubeconfig = site.cluster.folder().join("proxy.kubeconfig");
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": format!("http://{}", listener.local_addr().unwrap())}}],
            "users": [{"name": "nobody", "user": {}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "nobody"}}],
        });
        fs::write(&kubeconfig, config.to_string()).unwrap();
        let silence = Arc::<Mutex<Silence>>::default();
        let muted = watch::Sender::new(false);
        let way = Way { client: site.client.clone(), silence: silence.clone(), muted: muted.subscribe() };
        let task = tokio::spawn(serve(listener, way));
        Proxy { kubeconfig, silence, muted, task }
    }

    /// Whether nothing comes through any more, neither to what is asked nor of what was begun to be answered.
    pub(crate) fn mute(&self, muted: bool) {
        self.muted.send_replace(muted);
    }

    /// From now on, requests of this kind are not answered when they come first, and are when they come again.
    pub(super) fn leave_unanswered(&self, which: Which) {
        *self.silence.lock().unwrap() = Silence { which: Some(which), ..Silence::default() };
    }

    /// Waits until such a request, with this in its path, is waiting for its answer.
    pub(super) async fn keeps_waiting(&self, part: &str) {
        self.until("is left unanswered", part, |silence| &silence.met).await;
    }

    /// Waits until such a request, with this in its path, is no longer waited for.
    pub(super) async fn given_up(&self, part: &str) {
        self.until("is given up", part, |silence| &silence.given_up).await;
    }

    async fn until(&self, what: &str, part: &str, of: impl Fn(&Silence) -> &HashSet<String>) {
        until(&format!("{part} {what}"), async || {
            let silence = self.silence.lock().unwrap();
            let found = of(&silence).iter().any(|met| met.contains(part));
            if found { Ok(()) } else { Err((silence.met.clone(), silence.given_up.clone())) }
        })
        .await;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Clone)]
struct Way {
    client: Client,
    silence: Arc<Mutex<Silence>>,
    muted: watch::Receiver<bool>,
}

/// What is passed on, piece by piece.
type Passed = UnsyncBoxBody<Bytes, <Body as hyper::body::Body>::Error>;

/// Waits while nothing comes through.
async fn unmuted(mut muted: watch::Receiver<bool>) {
    if muted.wait_for(|muted| !*muted).await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn serve(listener: TcpListener, way: Way) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let way = way.clone();
        let service = service_fn(move |request| answer(request, way.clone()));
        // whoever gives up closes the connection
        connections
            .spawn(async move { drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await) });
    }
}

async fn answer(
    request: Request<Incoming>,
    Way { client, silence, muted }: Way,
) -> Result<Response<Passed>, Infallible> {
    unmuted(muted.clone()).await;
    let watches = request.uri().query().is_some_and(|query| query.contains("watch=true"));
    let verb = if watches { "watch" } else { request.method().as_str() };
    let asked = format!("{verb} {}", request.uri().path());
    let met = {
        let mut silence = silence.lock().unwrap();
        silence.which.is_some_and(|which| which(&asked)) && silence.met.insert(asked.clone())
    };
    if met {
        let _waits = Waits(asked, silence);
        std::future::pending::<()>().await;
    }
    let answer = pass_on(request, &client).await.unwrap_or_else(|why| {
        let mut answer = Response::new(Body::from(why.into_bytes()));
        *answer.status_mut() = StatusCode::BAD_GATEWAY;
        answer
    });
    let piece = move |piece| {
        let muted = muted.clone();
        async move {
            unmuted(muted).await;
            piece
        }
    };
    Ok(answer.map(|body| StreamBody::new(BodyStream::new(body).then(piece)).boxed_unsync()))
}

async fn pass_on(request: Request<Incoming>, client: &Client) -> Result<Response<Body>, String> {
    let (mut parts, body) = request.into_parts();
    parts.headers.remove(header::HOST);
    let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
    let request = Request::from_parts(parts, Body::from(body.to_vec()));
    let mut answer = client.send(request).await.map_err(|error| error.to_string())?;
    // these are of one connection
    for name in [header::TRANSFER_ENCODING, header::CONNECTION] {
        answer.headers_mut().remove(name);
    }
    Ok(answer)
}

/// A request that is not answered, for as long as somebody waits for it.
struct Waits(String, Arc<Mutex<Silence>>);

impl Drop for Waits {
    fn drop(&mut self) {
        self.1.lock().unwrap().given_up.insert(self.0.clone());
    }
}
