//! A way to the API server on which requests can be left unanswered, as a server leaves them that loses power after it has
//! acknowledged them: the connection stays, and nothing comes.

use std::{
    collections::HashSet,
    convert::Infallible,
    fs,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use http::{Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use kube::{Client, client::Body};
use serde_json::json;
use tokio::{
    net::TcpListener,
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
pub(super) struct Proxy {
    pub(super) kubeconfig: PathBuf,
    silence: Arc<Mutex<Silence>>,
    task: JoinHandle<()>,
}

impl Proxy {
    pub(super) async fn start(site: &Site) -> Proxy {
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
        let task = tokio::spawn(serve(listener, site.client.clone(), silence.clone()));
        Proxy { kubeconfig, silence, task }
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

async fn serve(listener: TcpListener, client: Client, silence: Arc<Mutex<Silence>>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (client, silence) = (client.clone(), silence.clone());
        let service = service_fn(move |request| answer(request, client.clone(), silence.clone()));
        // whoever gives up closes the connection
        connections
            .spawn(async move { drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await) });
    }
}

async fn answer(
    request: Request<Incoming>,
    client: Client,
    silence: Arc<Mutex<Silence>>,
) -> Result<Response<Body>, Infallible> {
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
    Ok(pass_on(request, &client).await.unwrap_or_else(|why| {
        let mut answer = Response::new(Body::from(why.into_bytes()));
        *answer.status_mut() = StatusCode::BAD_GATEWAY;
        answer
    }))
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
