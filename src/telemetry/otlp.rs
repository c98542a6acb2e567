//! Sends spans to a collector: OTLP over HTTP, as protobuf.
//!
//! Over `ureq`, which is here for Git already: the clients that the crate offers bring a second HTTP client, and with it a
//! second choice of TLS. Batches are made and sent by a thread of the SDK, which alone waits for the collector: one that is
//! down costs its spans and nothing else.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_http::{HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::{EnvResourceDetector, TelemetryResourceDetector};
use opentelemetry_sdk::trace::{SdkTracerProvider, Tracer};
use tracing::Subscriber;
use tracing_opentelemetry::OpenTelemetryLayer;
use tracing_subscriber::registry::LookupSpan;
use ureq::Agent;
use ureq::tls::{Certificate, TlsConfig, TlsProvider};
use url::Url;

use super::metrics::metrics;

/// The service, unless `OTEL_SERVICE_NAME` names another.
const SERVICE: &str = "sekuire-policy-controller";
/// Longest wait for the collector, unless `OTEL_EXPORTER_OTLP_TIMEOUT` (milliseconds) says otherwise.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for it at the end of the process.
const LAST: Duration = Duration::from_secs(3);
/// Longest answer that is read.
const MAX_ANSWER_BYTES: u64 = 64 * 1024;

/// The way to the collector.
pub(super) struct Otlp {
    provider: SdkTracerProvider,
}

impl Otlp {
    /// Sampling, batches, headers and attributes of the resource are set by the standard variables `OTEL_*`.
    pub(super) fn new(endpoint: &str, identity: Option<&str>) -> anyhow::Result<Otlp> {
        let url = traces_url(endpoint)?;
        let exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_http_client(Client::new())
            .with_endpoint(url)
            .build()
            .with_context(|| format!("--otlp-endpoint {endpoint}"))?;
        let provider =
            SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource(identity)).build();
        super::trace::activate();
        Ok(Otlp { provider })
    }

    pub(super) fn layer<S: Subscriber + for<'span> LookupSpan<'span>>(&self) -> OpenTelemetryLayer<S, Tracer> {
        tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer(SERVICE))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_level(false)
            .with_tracked_inactivity(false)
    }

    pub(super) fn end(self) {
        if let Err(error) = self.provider.shutdown_with_timeout(LAST) {
            tracing::warn!(%error, "the last spans were not sent");
        }
    }
}

fn resource(identity: Option<&str>) -> Resource {
    let instance = identity.map(|identity| KeyValue::new("service.instance.id", identity.to_owned()));
    let ours = [
        KeyValue::new("service.name", SERVICE),
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("vcs.ref.head.revision", super::revision()),
    ];
    let resource = Resource::builder_empty()
        .with_detector(Box::new(TelemetryResourceDetector))
        .with_attributes(ours.into_iter().chain(instance))
        .with_detector(Box::new(EnvResourceDetector::new()));
    match std::env::var("OTEL_SERVICE_NAME").ok().filter(|name| !name.is_empty()) {
        Some(name) => resource.with_service_name(name).build(),
        None => resource.build(),
    }
}

/// Where traces go at a collector, as the specification has it.
fn traces_url(endpoint: &str) -> anyhow::Result<String> {
    let wrong =
        || format!("--otlp-endpoint {endpoint}: give the URL of a collector, such as http://otel-collector:4318");
    // before anything else: what is said below names the endpoint as it was given
    ensure!(
        !endpoint.contains('@'),
        "--otlp-endpoint: a URL with a user name or password is refused; set OTEL_EXPORTER_OTLP_HEADERS"
    );
    let url = Url::parse(endpoint).with_context(wrong)?;
    ensure!(matches!(url.scheme(), "http" | "https") && url.has_host(), wrong());
    Ok(format!("{}/v1/traces", url.as_str().trim_end_matches('/')))
}

/// `ureq`, as the SDK asks for it.
#[derive(Debug)]
struct Client {
    agent: Agent,
    /// So that a collector that is down is told of once, and not every few seconds.
    down: AtomicBool,
}

impl Client {
    fn new() -> Client {
        let authorities = rustls_native_certs::load_native_certs().certs;
        let authorities: Vec<_> = authorities.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .unversioned_rustls_crypto_provider(std::sync::Arc::new(rustls::crypto::ring::default_provider()))
            .root_certs(authorities.into())
            .build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .user_agent(concat!("sekuire/", env!("CARGO_PKG_VERSION")))
            .max_redirects(0)
            .http_status_as_error(false)
            .timeout_global(Some(timeout()))
            .build();
        Client { agent: config.into(), down: AtomicBool::new(false) }
    }

    fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, ureq::Error> {
        let (parts, body) = request.into_parts();
        let response = self.agent.run(Request::from_parts(parts, &body[..]))?;
        let (parts, body) = response.into_parts();
        let body = body.into_with_config().limit(MAX_ANSWER_BYTES).read_to_vec()?;
        Ok(Response::from_parts(parts, body.into()))
    }

    fn report(&self, fault: Option<&str>) {
        let was_down = self.down.swap(fault.is_some(), Ordering::Relaxed);
        match fault {
            Some(error) => {
                metrics().trace_export_failed();
                if !was_down {
                    tracing::warn!(error, "spans cannot be sent to the collector");
                }
            }
            None if was_down => tracing::info!("spans are sent to the collector again"),
            None => {}
        }
    }
}

fn timeout() -> Duration {
    let set = std::env::var("OTEL_EXPORTER_OTLP_TIMEOUT").ok().and_then(|text| text.parse().ok());
    set.filter(|milliseconds| *milliseconds > 0).map_or(TIMEOUT, Duration::from_millis)
}

#[async_trait::async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        // It blocks, as it may: the thread that is here is the SDK's own, and has nothing else to do.
        match self.send(request) {
            Ok(response) => {
                let status = response.status();
                self.report((!status.is_success()).then(|| format!("it answers {status}")).as_deref());
                Ok(response)
            }
            Err(error) => {
                self.report(Some(&error.to_string()));
                Err(error.into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_the_base_url_of_a_collector() {
        assert_eq!(traces_url("http://collector:4318").unwrap(), "http://collector:4318/v1/traces");
        assert_eq!(traces_url("https://example.com/otlp/").unwrap(), "https://example.com/otlp/v1/traces");
        for bad in ["collector:4318", "grpc://collector:4317", "http://u:p@collector", "", "http://"] {
            let error = traces_url(bad).unwrap_err().to_string();
            assert!(error.starts_with("--otlp-endpoint"), "{bad}: {error}");
        }
    }

    #[test]
    fn a_password_is_in_no_error() {
        for bad in
            ["http://u:secret@collector", "grpc://u:secret@collector:4317", "u:secret@collector:4318", "http://secret@"]
        {
            let error = format!("{:#}", traces_url(bad).unwrap_err());
            assert!(!error.contains("secret") && error.contains("OTEL_EXPORTER_OTLP_HEADERS"), "{bad}: {error}");
        }
    }
}
