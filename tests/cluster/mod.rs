//! A real Kubernetes API server for tests and for the demo: etcd and kube-apiserver on free loopback ports, in a
//! folder of their own, ready in about three seconds; a user needs no rights on the machine for it.
//!
//! ```ignore
//! let cluster = cluster::shared().await;            // one server that tests use side by side …
//! let namespace = cluster.namespace("agents").await; // … each in a namespace of its own
//! let own = Cluster::start().await;                  // or a server of one's own, 2.5 s, to break
//! ```
//! Nothing outlives the test process, however that ends: see [`guard`].
#![allow(dead_code, reason = "the tests and the demo each use a part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what cannot be set up ends the test that asked for it"
)]

pub(crate) mod command;
pub(crate) mod controller;
pub(crate) mod git;
pub(crate) mod gitea;
pub(crate) mod guard;
pub(crate) mod leaks;
mod pki;
pub(crate) mod ports;
pub(crate) mod programs;
pub(crate) mod sdk;
pub(crate) mod server;
pub(crate) mod signer;
pub(crate) mod skip;

#[allow(unused_imports, reason = "the tests and the demo each use a part of it")]
pub(crate) use {
    command::Ran,
    controller::{Controller, ControllerOptions},
    git::GitRepo,
    pki::User,
    server::{Cluster, ClusterOptions},
    signer::Signer,
};

use tokio::sync::OnceCell;

static SHARED: OnceCell<Cluster> = OnceCell::const_new();

/// The API server that all tests of this process may use at once, started by the first that asks. Whoever changes
/// what others see (a cluster-scoped object, a webhook configuration, the server itself) starts its own instead.
/// A client is bound to the runtime of the test that made it, so every test makes its own: `shared().await.client()`.
pub(crate) async fn shared() -> &'static Cluster {
    SHARED.get_or_init(Cluster::start).await
}
