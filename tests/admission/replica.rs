//! The admission side of one replica, within the test, against a real API server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use kube::{Api, Client};
use sekuire_policy::admission::certificates::{Certificates, SecretSource, keep_secret};
use sekuire_policy::admission::registration::{self, CONFIGURATION_NAME, Registration, Target};
use sekuire_policy::admission::routes::Bodies;
use sekuire_policy::admission::server::{self, Limits};
use sekuire_policy::admission::{Names, PolicyIndex, Routes, Webhook};
use sekuire_policy::controller::events::Events;
use sekuire_policy::controller::installation::Installation;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

/// How long what takes milliseconds may take on a busy machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// Stands for the time in which API servers hear of a new bundle; the one here takes a few milliseconds, or seconds on a
/// busy machine.
pub(super) const SETTLE: Duration = Duration::from_secs(5);
pub(super) const SECRET: &str = "webhook-certificate";

/// Whether a replica leads: as told.
pub(super) struct Office(watch::Sender<Option<Instant>>);

impl Office {
    pub(super) fn send_replace(&self, leads: bool) {
        self.0.send_replace(leads.then(|| Instant::now() + Duration::from_secs(3600)));
    }
}

/// One replica.
pub(super) struct Replica {
    pub(super) certificates: Arc<Certificates>,
    pub(super) leader: Office,
    pub(super) listener: Option<TcpListener>,
    pub(super) address: SocketAddr,
    client: Client,
    stop: CancellationToken,
    _stop: DropGuard,
}

impl Replica {
    /// Holds an address, and does nothing yet.
    pub(super) async fn new(client: Client) -> Replica {
        let listener = server::listen("127.0.0.1:0".parse().unwrap(), "--webhook-listen").await.unwrap();
        Replica::at(client, listener)
    }

    /// The same behind an address that another replica is reached at.
    pub(super) fn at(client: Client, listener: TcpListener) -> Replica {
        let address = listener.local_addr().unwrap();
        let names = names();
        let certificates = Arc::new(Certificates::new(names, SETTLE, Timestamp::now()).unwrap());
        let stop = CancellationToken::new();
        let guard = stop.clone().drop_guard();
        let leader = Office(watch::Sender::new(None));
        Replica { certificates, leader, listener: Some(listener), address, client, stop, _stop: guard }
    }

    pub(super) fn keep_certificate(&self, namespace: &str) {
        let source = SecretSource { namespace: namespace.to_owned(), name: SECRET.to_owned() };
        tokio::spawn(keep_secret(self.client.clone(), source, self.certificates.clone(), self.stop.clone()));
    }

    /// Registers the webhook at `address` while it leads.
    pub(super) fn register(&self, address: SocketAddr) {
        let target = Target::at(&format!("https://{address}").parse().unwrap());
        let namespace = "sekuire-system".to_owned();
        let installation = Installation::new(self.client.clone(), &namespace);
        let registration = Registration { name: CONFIGURATION_NAME.to_owned(), target, owner: None, namespace };
        let events = Events::new(self.client.clone(), "test");
        let (certificates, leader) = (self.certificates.clone(), self.leader.0.subscribe().into());
        tokio::spawn(registration::run(
            self.client.clone(),
            installation,
            registration,
            certificates,
            leader,
            events,
            self.stop.clone(),
        ));
    }

    pub(super) fn serve(&mut self, index: Arc<PolicyIndex>) {
        let listener = self.listener.take().unwrap();
        let serving = self.certificates.serving();
        let routes = Routes::new(Arc::new(Webhook::new(index)), serving.clone(), &Bodies::default());
        tokio::spawn(server::serve(listener, serving, routes, Limits::default(), self.stop.clone()));
    }
}

pub(super) fn names() -> Names {
    Names::of_url(&"https://127.0.0.1".parse().unwrap()).unwrap()
}

/// The configuration, once `right` says so of it.
pub(super) async fn configuration(
    client: &Client,
    right: impl Fn(&ValidatingWebhookConfiguration) -> bool,
) -> ValidatingWebhookConfiguration {
    let api: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
    until("the webhook configuration is as it ought to be", async || {
        api.get_opt(CONFIGURATION_NAME).await.unwrap().filter(&right)
    })
    .await
}

/// Asks until there is an answer.
pub(super) async fn until<T>(what: &str, ask: impl AsyncFn() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {what}"))
}
