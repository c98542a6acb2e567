//! `sekuire controller`: the operator itself.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::replica::{self, Config, Tls};
use crate::admission::index::SILENCE;
use crate::telemetry::log;

/// Run the controller: watch repositories, verify policies, answer admission requests.
///
/// All replicas answer admission; the one that holds the Lease reconciles.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  sekuire controller                                   in a cluster, as the service account of its pod
  sekuire controller --kubeconfig ~/.kube/config \\
    --webhook-listen 127.0.0.1:9443 --webhook-url https://127.0.0.1:9443 --data-dir /tmp/sekuire
                                                       beside an API server on this machine")]
pub struct Controller {
    /// Kubeconfig to use. Default: KUBECONFIG, ~/.kube/config, or the service account of the pod.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Folder for clones of repositories. A cache: it may be lost. No other process may use it.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/sekuire", env = "SEKUIRE_DATA_DIR")]
    data_dir: PathBuf,
    /// Namespace of the controller's own objects: its Lease and the Secret with its certificate.
    #[arg(long, default_value = "sekuire-system", env = "POD_NAMESPACE")]
    namespace: String,
    /// Name of this replica in the Lease and in Events. Default: POD_NAME, or the host's name and a digest of the data
    /// folder.
    #[arg(long, env = "POD_NAME")]
    identity: Option<String>,
    /// Address to serve the admission webhook, /healthz and /readyz on, over HTTPS. Here and below, [::] is every address,
    /// of IPv4 too; where the machine has no IPv6, it is the same as 0.0.0.0.
    #[arg(long, value_name = "ADDRESS", default_value = "[::]:9443")]
    webhook_listen: SocketAddr,
    /// Address to serve the read API on, over HTTPS with the webhook's certificate: the policy in force in a workspace,
    /// at /api/v1/workspaces/WORKSPACE/policy/active. Whoever reaches the address may read; a policy is no secret.
    /// Default: it is not served.
    #[arg(long, value_name = "ADDRESS")]
    api_listen: Option<SocketAddr>,
    /// Address to serve the receiver on, over HTTPS with the webhook's certificate: where forges say that there is
    /// something new, at /hook/REPOSITORY for every PolicyRepository with spec.receiver. Default: it is not served.
    #[arg(long, value_name = "ADDRESS")]
    receiver_listen: Option<SocketAddr>,
    /// Address to serve metrics on, over plain HTTP: GET /metrics, in Prometheus' text format. Default: they are not served.
    #[arg(long, value_name = "ADDRESS")]
    metrics_listen: Option<SocketAddr>,
    /// URL at which the API server reaches the webhook. Default: the Service, see --webhook-service.
    #[arg(long, value_name = "URL")]
    webhook_url: Option<String>,
    /// Service in --namespace through which the API server reaches the webhook, at port 443.
    #[arg(long, value_name = "NAME", default_value = "sekuire-policy-controller", conflicts_with = "webhook_url")]
    webhook_service: String,
    /// ClusterRole that is to own the webhook configuration where the controller makes it, so that uninstalling removes both.
    /// If it is gone, none is made. Default: nothing owns it.
    #[arg(long, value_name = "CLUSTERROLE")]
    owner: Option<String>,
    /// ValidatingAdmissionPolicy, and its binding of the same name, that let only chosen groups set the labels of namespaces.
    /// The label sekuire.ai/enforcement is obeyed only while they are in force. Default: it is not obeyed.
    #[arg(long, value_name = "NAME")]
    label_policy: Option<String>,
    /// Certificate chain of the webhook, as PEM; read again when it changes. Default: one of its own, in a Secret.
    #[arg(long, value_name = "FILE", requires_all = ["tls_key_file", "tls_ca_file"])]
    tls_cert_file: Option<PathBuf>,
    /// Private key of --tls-cert-file.
    #[arg(long, value_name = "FILE", requires = "tls_cert_file")]
    tls_key_file: Option<PathBuf>,
    /// CA that signed --tls-cert-file, for the API server.
    #[arg(long, value_name = "FILE", requires = "tls_cert_file")]
    tls_ca_file: Option<PathBuf>,
    /// Accept file:// and http:// repositories. For tests and the demo: nothing protects them on their way.
    #[arg(long)]
    allow_insecure_git_urls: bool,
    /// Seconds for which a replica that was told to stop still answers, while endpoints drain.
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    shutdown_delay: u64,
    /// Seconds of silence after which a watch of the API server counts as dead. To try what follows from that; with less than
    /// the time between two bookmarks, which is about a minute, it comes without a reason.
    #[arg(long, value_name = "SECONDS", hide = true, default_value_t = SILENCE.as_secs())]
    watch_silence: u64,
    /// Form of the log.
    #[arg(long, value_enum, default_value_t = log::Format::Text)]
    log_format: log::Format,
    /// What to log: a level, or directives such as `info,sekuire_policy::git=debug`.
    #[arg(long, value_name = "FILTER", default_value = "info", env = "SEKUIRE_LOG")]
    log: String,
    /// File with the same that counts instead of --log while it is there. It is read every two seconds, so that what is logged
    /// can be changed at run time, such as by a mounted ConfigMap. A filter that is none changes nothing, and the log says so.
    #[arg(long, value_name = "FILE")]
    log_filter_file: Option<PathBuf>,
    /// Base URL of an OpenTelemetry collector to send traces to, over OTLP/HTTP, such as http://otel-collector:4318. The
    /// standard variables OTEL_* set sampling, headers and the rest. Default: no traces.
    #[arg(long, value_name = "URL", env = "OTEL_EXPORTER_OTLP_ENDPOINT")]
    otlp_endpoint: Option<String>,
}

impl Controller {
    /// Runs until a signal ends it.
    ///
    /// # Errors
    /// What keeps it from starting, or from going on.
    pub fn run(self) -> anyhow::Result<()> {
        let mut telemetry = log::start(log::Options {
            format: self.log_format,
            filter: self.log.clone(),
            filter_file: self.log_filter_file.clone(),
            otlp_endpoint: self.otlp_endpoint.clone(),
            identity: self.identity.clone(),
        })?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let ended = runtime.block_on(async {
            telemetry.follow();
            replica::run(self.config()).await
        });
        telemetry.end();
        ended
    }

    fn config(self) -> Config {
        let tls = match (self.tls_cert_file, self.tls_key_file, self.tls_ca_file) {
            (Some(certificate), Some(key), Some(ca)) => Tls::Files { certificate, key, ca },
            _ => Tls::Own,
        };
        Config {
            kubeconfig: self.kubeconfig,
            identity: self.identity,
            data_dir: self.data_dir,
            namespace: self.namespace,
            listen: self.webhook_listen,
            api_listen: self.api_listen,
            receiver_listen: self.receiver_listen,
            metrics_listen: self.metrics_listen,
            webhook_url: self.webhook_url,
            webhook_service: self.webhook_service,
            owner: self.owner,
            label_policy: self.label_policy,
            tls,
            allow_insecure_git_urls: self.allow_insecure_git_urls,
            watch_silence: Duration::from_secs(self.watch_silence),
            shutdown_delay: Duration::from_secs(self.shutdown_delay),
        }
    }
}
