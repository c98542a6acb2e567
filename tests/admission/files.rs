//! A certificate in files, swapped as the kubelet swaps them, with clients that come and go meanwhile.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use sekuire_policy::admission::certificates::{Certificates, follow_files};
use sekuire_policy::admission::routes::{Bodies, VALIDATE_PATH};
use sekuire_policy::admission::server::{self, Limits};
use sekuire_policy::admission::{Names, Routes, Webhook};
use tokio_util::sync::CancellationToken;

use super::client::{Connection, blind, trusting};
use super::server::{NAME, files, write_certificate};
use super::world;
use crate::cluster::{Cluster, ControllerOptions};
use crate::resilience::support::{DENIED, Site, agent, dry_run, until};

/// What the kubelet does with a Secret's volume: the files are symlinks through `..data`, which is swapped whole.
fn mount(folder: &Path, generation: &str) {
    let versioned = folder.join(format!("..{generation}"));
    write_certificate(&versioned);
    symlink(format!("..{generation}"), folder.join("..data_tmp")).unwrap();
    std::fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
    for file in ["tls.crt", "tls.key", "ca.crt"] {
        let link = folder.join(file);
        if !link.is_symlink() {
            symlink(Path::new("..data").join(file), link).unwrap();
        }
    }
}

fn served_by(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("tls.crt")).unwrap()
}

fn pem(text: &str) -> rustls::pki_types::CertificateDer<'static> {
    rustls::pki_types::pem::PemObject::from_pem_slice(text.as_bytes()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_never_ends_is_served_by_a_replica_that_is_ready_and_asked() {
    let folder = tempfile::tempdir().unwrap();
    // cert-manager's authority of a hundred centuries: 99991231235959Z
    let never = rcgen::date_time_ymd(9999, 12, 31) + Duration::from_secs(86_399);
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    authority.not_after = never;
    let authority = rcgen::CertifiedIssuer::self_signed(authority, rcgen::KeyPair::generate().unwrap()).unwrap();
    let mut leaf = rcgen::CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    leaf.not_after = never;
    let key = rcgen::KeyPair::generate().unwrap();
    crate::cluster::leaks::secret("the key of a webhook", key.serialize_pem());
    let files = [
        ("cert", leaf.signed_by(&key, &authority).unwrap().pem()),
        ("key", key.serialize_pem()),
        ("ca", authority.pem()),
    ];
    let flags = files.map(|(name, pem)| {
        let path = folder.path().join(name);
        std::fs::write(&path, pem).unwrap();
        format!("--tls-{name}-file={}", path.display())
    });
    let site = Site::new(Cluster::options()).await;
    site.commit([&site.document("ws_a", "1", &[DENIED])]).await;
    let namespace = site.namespace("ws_a").await;
    let options = ControllerOptions::new("a").metrics().flags(flags.each_ref().map(String::as_str));
    let controller = options.start(&site.cluster).await;
    until("the API server asks it", async || {
        let refused = site.agents(&namespace).create(&dry_run(), &agent(&namespace, "bad", &[DENIED])).await;
        let why = refused.map_or_else(|error| error.to_string(), |_| "admitted".to_owned());
        if why.contains("[tool.blocked]") { Ok(()) } else { Err(why) }
    })
    .await;
    let scraped = crate::observe::support::scrape(&controller).await;
    let series = crate::observe::support::series(&scraped);
    let last = 253_402_207_200.0;
    for which in ["serving", "authority"] {
        let end = series[&format!("sekuire_certificate_expiry_timestamp_seconds{{certificate=\"{which}\"}}")];
        assert!((last..=last + 1.0).contains(&end), "{which}: {end}");
    }
}

#[tokio::test]
async fn a_certificate_that_the_kubelet_swaps_twice_is_served_each_time_and_no_request_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    mount(folder.path(), "one");
    let names = Names::of_service("webhook", "sekuire");
    // a busy machine may take long between reading what is believed and the end of a handshake
    let certificates = Arc::new(Certificates::new(names, Duration::from_secs(2), Timestamp::now()).unwrap());
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    tokio::spawn(follow_files(files(folder.path()), certificates.clone(), stop.clone()));
    let mut bundle = certificates.bundle();
    bundle.wait_for(Option::is_some).await.unwrap();
    let listener = server::listen("127.0.0.1:0".parse().unwrap(), "--webhook-listen").await.unwrap();
    let address = listener.local_addr().unwrap();
    let webhook = Arc::new(Webhook::new(world::index(1)));
    let routes = Routes::new(webhook, certificates.serving(), &Bodies::default());
    tokio::spawn(server::serve(listener, certificates.serving(), routes, Limits::default(), stop));

    // The API server: it hears of a new bundle a little after it was published.
    let believed = Arc::new(arc_swap::ArcSwap::from_pointee(bundle.borrow().as_deref().unwrap().to_owned()));
    certificates.saw_published(Some(&believed.load()));
    let (hearing, published) = (believed.clone(), certificates.clone());
    tokio::spawn(async move {
        while bundle.changed().await.is_ok() {
            let new = bundle.borrow_and_update().as_deref().unwrap().to_owned();
            published.saw_published(Some(&new));
            tokio::time::sleep(Duration::from_millis(100)).await;
            hearing.store(Arc::new(new));
        }
    });

    let (done, requests) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (over, count, trusted) = (done.clone(), requests.clone(), believed.clone());
    let load = tokio::spawn(async move {
        let mut kept = Connection::open(address, NAME, trusting(&trusted.load(), "http/1.1")).await.unwrap();
        while !over.load(Ordering::SeqCst) {
            let mut fresh = Connection::open(address, NAME, trusting(&trusted.load(), "h2")).await.unwrap();
            for connection in [&mut kept, &mut fresh] {
                let reply = connection.post(VALIDATE_PATH, world::review("team-0", &world::compliant())).await.unwrap();
                assert_eq!(reply.json()["response"]["allowed"], true);
                count.fetch_add(1, Ordering::SeqCst);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    for generation in ["two", "three"] {
        mount(folder.path(), generation);
        let expected = pem(&served_by(folder.path()));
        // it takes a poll of the files, and the time in which the API server hears of it
        loop {
            let connection = Connection::open(address, NAME, trusting(&believed.load(), "h2")).await.unwrap();
            if *connection.certificate() == expected {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    done.store(true, Ordering::SeqCst);
    load.await.unwrap();
    assert!(requests.load(Ordering::SeqCst) > 20);
}

#[tokio::test]
async fn files_that_do_not_belong_together_leave_what_is_served() {
    let folder = tempfile::tempdir().unwrap();
    write_certificate(folder.path());
    let before = pem(&served_by(folder.path()));
    let names = Names::of_service("webhook", "sekuire");
    let certificates = Arc::new(Certificates::new(names, Duration::ZERO, Timestamp::now()).unwrap());
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    let task = tokio::spawn(follow_files(files(folder.path()), certificates.clone(), stop.clone()));
    let mut bundle = certificates.bundle();
    let authority = bundle.wait_for(Option::is_some).await.unwrap().as_deref().unwrap().to_owned();
    let listener = server::listen("127.0.0.1:0".parse().unwrap(), "--webhook-listen").await.unwrap();
    let address = listener.local_addr().unwrap();
    let webhook = Arc::new(Webhook::new(world::index(0)));
    let routes = Routes::new(webhook, certificates.serving(), &Bodies::default());
    tokio::spawn(server::serve(listener, certificates.serving(), routes, Limits::default(), stop));
    // another certificate, the old key; then nothing at all
    let key = std::fs::read(folder.path().join("tls.key")).unwrap();
    write_certificate(folder.path());
    std::fs::write(folder.path().join("tls.key"), key).unwrap();
    tokio::time::sleep(Duration::from_millis(2500)).await;
    std::fs::remove_file(folder.path().join("tls.crt")).unwrap();
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let connection = Connection::open(address, NAME, trusting(&authority, "h2")).await.unwrap();
    assert_eq!(*connection.certificate(), before);
    assert!(!task.is_finished());
}

#[tokio::test]
async fn a_replica_that_starts_with_newer_files_than_what_is_published_waits_and_takes_nothing_from_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let (of_the_others, own) = (write_certificate(folder.path()), write_certificate(folder.path()));
    let names = Names::of_service("webhook", "sekuire");
    let certificates = Arc::new(Certificates::new(names, Duration::ZERO, Timestamp::now()).unwrap());
    certificates.saw_published(Some(&of_the_others));
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    tokio::spawn(follow_files(files(folder.path()), certificates.clone(), stop.clone()));
    // if it leads, it publishes both: the others go on serving what they have
    let mut bundle = certificates.bundle();
    let both = bundle.wait_for(Option::is_some).await.unwrap().as_deref().unwrap().to_owned();
    assert!(both.contains(own.trim()) && both.contains(of_the_others.trim()), "{both}");
    let listener = server::listen("127.0.0.1:0".parse().unwrap(), "--webhook-listen").await.unwrap();
    let address = listener.local_addr().unwrap();
    let webhook = Arc::new(Webhook::new(world::index(0)));
    let routes = Routes::new(webhook, certificates.serving(), &Bodies::default());
    tokio::spawn(server::serve(listener, certificates.serving(), routes, Limits::default(), stop));
    let probe = async |path: &str| {
        let mut connection = Connection::open(address, NAME, blind()).await.unwrap();
        connection.get(path).await.unwrap()
    };
    assert_eq!(probe("/healthz").await.status, 200);
    let unready = probe("/readyz").await;
    assert_eq!((unready.status.as_u16(), unready.text().as_str()), (503, "waiting for a certificate\n"));

    certificates.saw_published(Some(&both));
    while probe("/readyz").await.status != 200 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let connection = Connection::open(address, NAME, trusting(&own, "h2")).await.unwrap();
    assert_eq!(*connection.certificate(), pem(&served_by(folder.path())));
}
