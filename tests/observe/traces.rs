//! Traces, at a collector that takes the protocol apart.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::{Request, Response, service::service_fn};
use hyper_util::rt::TokioIo;
use kube::{Client, Config};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use tokio::net::TcpListener;

use super::support::{World, eventually};
use crate::admission::world::{compliant, review};
use crate::cluster::ports::Port;
use crate::cluster::{Controller, ControllerOptions};

/// A collector: OTLP over HTTP, as protobuf.
#[derive(Clone, Default)]
struct Collector {
    requests: Arc<Mutex<Vec<ExportTraceServiceRequest>>>,
}

impl Collector {
    async fn start() -> (Collector, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let collector = Collector::default();
        let served = collector.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let collector = served.clone();
                let service = service_fn(move |request| collector.clone().take(request));
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        (collector, url)
    }

    async fn take(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        assert_eq!((request.method().as_str(), request.uri().path()), ("POST", "/v1/traces"));
        assert_eq!(request.headers()["content-type"], "application/x-protobuf");
        assert_eq!(request.headers()["x-tenant"], "platform", "OTEL_EXPORTER_OTLP_HEADERS");
        let body = request.into_body().collect().await.unwrap().to_bytes();
        self.requests.lock().unwrap().push(ExportTraceServiceRequest::decode(body).unwrap());
        Ok(Response::builder().header("content-type", "application/x-protobuf").body(Full::default()).unwrap())
    }

    fn spans(&self) -> Vec<Span> {
        let requests = self.requests.lock().unwrap();
        let resources = requests.iter().flat_map(|request| &request.resource_spans);
        resources.flat_map(|resource| &resource.scope_spans).flat_map(|scope| scope.spans.clone()).collect()
    }

    /// The first span that is so.
    async fn span(&self, what: &str, is: impl Fn(&Span) -> bool) -> Span {
        eventually(what, async || {
            let spans = self.spans();
            let names: Vec<_> = spans.iter().map(|span| span.name.clone()).collect();
            spans.into_iter().find(&is).ok_or_else(|| format!("{names:?}"))
        })
        .await
    }

    /// The child of this name.
    async fn child(&self, parent: &Span, name: &str) -> Span {
        let is = |span: &Span| span.parent_span_id == parent.span_id && span.name == name;
        let child = self.span(&format!("{name} below {}", parent.name), is).await;
        assert_eq!(child.trace_id, parent.trace_id);
        child
    }

    fn resource(&self, name: &str) -> Option<String> {
        let requests = self.requests.lock().unwrap();
        let resource = requests.first()?.resource_spans.first()?.resource.clone()?;
        let found = resource.attributes.into_iter().find(|attribute| attribute.key == name)?;
        text(found.value?.value?)
    }
}

fn text(value: Any) -> Option<String> {
    match value {
        Any::StringValue(text) => Some(text),
        _ => None,
    }
}

fn attribute(span: &Span, name: &str) -> Option<String> {
    let found = span.attributes.iter().find(|attribute| attribute.key == name)?;
    text(found.value.clone()?.value?)
}

fn options(endpoint: &str) -> ControllerOptions {
    named("a", endpoint)
}

fn named(replica: &str, endpoint: &str) -> ControllerOptions {
    ControllerOptions::new(replica)
        .flags(["--otlp-endpoint", endpoint])
        .env("OTEL_BSP_SCHEDULE_DELAY", "100")
        .env("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=platform")
        .env("SEKUIRE_REVISION", "0123abcd")
}

/// Sends a review as an API server does that traces itself.
async fn validate(controller: &Controller, namespace: &str, traceparent: &str) -> String {
    let mut config = Config::new(controller.url().parse().unwrap());
    config.accept_invalid_certs = true;
    let request = http::Request::post("/validate")
        .header("content-type", "application/json")
        .header("traceparent", traceparent)
        .body(review(namespace, &compliant()))
        .unwrap();
    Client::try_from(config).unwrap().request_text(request).await.unwrap()
}

#[tokio::test]
async fn a_request_is_traced_from_the_api_server_to_the_decision() {
    let world = World::new("traced").await;
    let (collector, url) = Collector::start().await;
    let controller = world.controller(options(&url)).await;
    let (trace, parent) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
    validate(&controller, &world.namespace, &format!("00-{trace}-{parent}-01")).await;
    let ours = |span: &Span| span.name == "admission.review" && hex::encode(&span.trace_id) == trace;
    let span = collector.span("the request", ours).await;
    assert_eq!(hex::encode(&span.parent_span_id), parent);
    assert_eq!(span.kind(), opentelemetry_proto::tonic::trace::v1::span::SpanKind::Server);
    for (name, value) in [
        ("namespace", world.namespace.as_str()),
        ("workspace", "ws_traced"),
        ("decision", "allowed"),
        ("mode", "enforce"),
        ("policy_id", "policy_traced"),
        ("version", "1"),
    ] {
        assert_eq!(attribute(&span, name).as_deref(), Some(value), "{name}");
    }
    let decide = collector.child(&span, "policy.decide").await;
    assert!(span.start_time_unix_nano <= decide.start_time_unix_nano);
    assert_eq!(collector.resource("service.name").as_deref(), Some("sekuire-policy-controller"));
    assert_eq!(collector.resource("service.instance.id").as_deref(), Some("a"));
    assert_eq!(collector.resource("vcs.ref.head.revision").as_deref(), Some("0123abcd"));

    // the caller decides whether it is sampled
    let unsampled = "5bf92f3577b34da6a3ce929d0e0e4736";
    validate(&controller, &world.namespace, &format!("00-{unsampled}-{parent}-00")).await;
    world.ask("scout", "shell").await.unwrap_err();
    let denied = |span: &Span| attribute(span, "decision").as_deref() == Some("denied");
    let denied = collector.span("the denial that came after it", denied).await;
    assert!(collector.spans().iter().all(|span| hex::encode(&span.trace_id) != unsampled));
    assert!(
        controller.log().contains(&format!("\"trace_id\":\"{}\"", hex::encode(&denied.trace_id))),
        "the line names it"
    );
}

#[tokio::test]
async fn a_look_is_traced_from_the_fetch_to_what_was_written() {
    let world = World::new("fetched").await;
    let (collector, url) = Collector::start().await;
    let _controller = world.controller(options(&url)).await;
    let commit = world.repo.head().await;
    let wrote = collector.span("the policy is written", |span| {
        span.name == "workspace.apply" && attribute(span, "kind").as_deref() == Some("WorkspacePolicy")
    });
    let wrote = wrote.await;
    let workspace = collector.span("its workspace", |span| span.span_id == wrote.parent_span_id).await;
    assert_eq!(workspace.name, "workspace.reconcile");
    assert_eq!(attribute(&workspace, "name").as_deref(), Some("ws-fetched"));
    collector.child(&workspace, "workspace.plan").await;
    let look = collector.span("the look", |span| span.span_id == workspace.parent_span_id).await;
    assert_eq!((look.name.as_str(), look.parent_span_id.as_slice()), ("repository.look", &[][..]));
    assert_eq!(attribute(&look, "repository").as_deref(), Some("fetched"));
    assert_eq!(attribute(&look, "reason").as_deref(), Some("Succeeded"));
    let revision = attribute(&look, "commit").unwrap();
    assert!(revision.ends_with(commit.trim()), "{revision}");
    let fetch = collector.child(&look, "git.fetch").await;
    let verify = collector.child(&look, "documents.verify").await;
    assert!(fetch.end_time_unix_nano <= verify.start_time_unix_nano);
    assert!(verify.end_time_unix_nano <= wrote.start_time_unix_nano);
}

#[tokio::test]
async fn a_collector_that_is_down_or_hangs_loses_spans_and_nothing_else() {
    let world = World::new("down").await;
    let hangs = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let refuses = Port::reserve(); // nobody else gets it meanwhile
    for (replica, address) in
        [("a", format!("127.0.0.1:{}", refuses.number())), ("b", hangs.local_addr().unwrap().to_string())]
    {
        let options = named(replica, &format!("http://{address}")).env("OTEL_EXPORTER_OTLP_TIMEOUT", "500");
        let mut controller = world.controller(options).await;
        eventually("it says so", async || {
            world.ask("good", "calculator").await?;
            let log = controller.log();
            let said = log.matches("spans cannot be sent to the collector").count();
            if said == 1 { Ok(()) } else { Err(log) }
        })
        .await;
        world.ask("bad", "shell").await.unwrap_err();
        assert!(controller.terminate().await.success());
    }
}

#[tokio::test]
async fn the_last_spans_are_sent_before_the_end() {
    let world = World::new("last").await;
    let (collector, url) = Collector::start().await;
    let options = options(&url).env("OTEL_BSP_SCHEDULE_DELAY", "3600000");
    let mut controller = world.controller(options).await;
    world.ask("last", "shell").await.unwrap_err();
    assert!(controller.terminate().await.success());
    let last = |span: &Span| attribute(span, "name").as_deref() == Some("last");
    collector.span("the last request", last).await;
}

#[tokio::test]
async fn the_standard_variables_set_sampling() {
    let world = World::new("sampled").await;
    let (collector, url) = Collector::start().await;
    let options = options(&url).env("OTEL_TRACES_SAMPLER", "parentbased_always_off").env("OTEL_SERVICE_NAME", "other");
    let controller = world.controller(options).await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4737";
    world.ask("bad", "shell").await.unwrap_err();
    validate(&controller, &world.namespace, &format!("00-{trace}-00f067aa0ba902b7-01")).await;
    collector.span("the one that its caller samples", |span| span.name == "admission.review").await;
    assert!(collector.spans().iter().all(|span| hex::encode(&span.trace_id) == trace));
    assert_eq!(collector.resource("service.name").as_deref(), Some("other"));
}
