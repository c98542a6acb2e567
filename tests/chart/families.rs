//! IPv4, IPv6, or both: what the chart listens on, and whether it is reached there.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};
use serde_json::{Value, json};

use super::helm::{NAME, find, object, objects, render};
use crate::cluster::command::run;
use crate::cluster::controller::NAMESPACE;
use crate::cluster::skip::skip;
use crate::cluster::{Cluster, Controller, ControllerOptions, User};

const LISTENERS: [&str; 4] = ["webhook", "metrics", "api", "receiver"];
/// The number of the system call `socket`.
const NUMBER_OF_SOCKET: i64 = if cfg!(target_arch = "x86_64") { 41 } else { 198 };
const ALL: &str = "api.enabled=true,receiver.enabled=true";

/// The address of each listener, as the Deployment says it.
async fn listeners(program: &std::path::Path, sets: &str) -> BTreeMap<String, String> {
    let rendered = render(program, &["--set", ALL, "--set", sets]).await.ok();
    let pods = object(&rendered, "Deployment", NAME)["spec"]["template"]["spec"].clone();
    let args = pods["containers"][0]["args"].as_array().unwrap().clone();
    let flags = args.iter().filter_map(|arg| arg.as_str().unwrap().strip_prefix("--")?.split_once("-listen="));
    flags.map(|(name, address)| (name.to_owned(), address.rsplit_once(':').unwrap().0.to_owned())).collect()
}

#[tokio::test]
async fn every_listener_of_the_chart_is_on_both_families_unless_its_value_says_ipv4() {
    let program = match find() {
        Ok(program) => program,
        Err(why) => skip!(why),
    };
    let all = |address: &str| LISTENERS.map(|name| (name.to_owned(), address.to_owned()));
    assert_eq!(listeners(&program, "replicas=2").await, BTreeMap::from(all("[::]")));
    for name in LISTENERS {
        let mut expected = BTreeMap::from(all("[::]"));
        expected.insert(name.to_owned(), "0.0.0.0".to_owned());
        assert_eq!(listeners(&program, &format!("{name}.listenAddress=0.0.0.0")).await, expected);
    }
}

/// What each listener answers at an address: the status of its HTTP.
async fn answers(controller: &Controller, host: &str) -> BTreeMap<&'static str, String> {
    let mut said = BTreeMap::new();
    for (name, url) in [
        ("webhook", format!("{}/readyz", controller.url())),
        ("metrics", format!("http://{}/metrics", controller.metrics_address())),
        ("api", controller.api_url()),
        ("receiver", controller.receiver_url()),
    ] {
        let mut curl = tokio::process::Command::new("curl");
        curl.args(["--silent", "--globoff", "--insecure", "--max-time", "20", "--output", "/dev/null"]);
        curl.args(["--write-out", "%{http_code}"]).arg(url.replace("127.0.0.1", host));
        said.insert(name, run(curl, b"").await.stdout);
    }
    said
}

fn expected() -> BTreeMap<&'static str, String> {
    [("webhook", "200"), ("metrics", "200"), ("api", "404"), ("receiver", "404")]
        .map(|(name, status)| (name, status.to_owned()))
        .into()
}

#[tokio::test]
async fn all_four_are_reached_over_ipv4_and_over_ipv6() {
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        skip!("no IPv6 on this machine");
    }
    let cluster = Cluster::start().await;
    cluster.install_crds().await;
    let options = ControllerOptions::new("a").api().receiver().metrics();
    let controller = options.listen("[::]").start(&cluster).await;
    assert_eq!(answers(&controller, "127.0.0.1").await, expected());
    assert_eq!(answers(&controller, "[::1]").await, expected());
}

/// From here on neither this thread nor what it starts can have a socket of IPv6, as with a kernel that has none.
fn without_ipv6() {
    let family = 10; // AF_INET6
    let ipv6 = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, family).unwrap();
    let rules = [(NUMBER_OF_SOCKET, vec![SeccompRule::new(vec![ipv6]).unwrap()])].into();
    let refused = SeccompAction::Errno(rustix::io::Errno::AFNOSUPPORT.raw_os_error().unsigned_abs());
    let arch: TargetArch = std::env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refused, arch).unwrap();
    let program: BpfProgram = filter.try_into().unwrap();
    seccompiler::apply_filter(&program).unwrap();
    assert!(TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).is_err(), "the filter is in force");
    assert!(TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).is_ok());
}

#[test]
fn all_four_are_reached_over_ipv4_where_the_kernel_has_no_ipv6() {
    let thread = std::thread::spawn(|| {
        without_ipv6();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let cluster = Cluster::start().await;
            cluster.install_crds().await;
            let options = ControllerOptions::new("a").api().receiver().metrics();
            let controller = options.listen("[::]").start(&cluster).await;
            assert_eq!(answers(&controller, "127.0.0.1").await, expected());
            let log = controller.log();
            assert_eq!(log.matches("no IPv6 here: IPv4 alone is listened on").count(), LISTENERS.len(), "{log}");
        });
    });
    thread.join().unwrap();
}

#[tokio::test]
async fn the_families_of_services_are_what_the_values_say_and_a_dual_stack_api_server_takes_them() {
    let program = match find() {
        Ok(program) => program,
        Err(why) => skip!(why),
    };
    let cluster = Cluster::options().api_server_flag("--service-cluster-ip-range=10.0.0.0/24,fd00::/112").start().await;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
    cluster.apply(&namespace.to_string()).await.ok();
    for (policy, families) in [
        ("", &[][..]),
        ("", &["IPv6"]),
        ("SingleStack", &["IPv6"]),
        ("PreferDualStack", &[]),
        ("PreferDualStack", &["IPv6", "IPv4"]),
        ("RequireDualStack", &["IPv4", "IPv6"]),
    ] {
        let service = json!({"ipFamilyPolicy": policy, "ipFamilies": families}).to_string();
        let (own, receiver) = (format!("service={service}"), format!("receiver.service={service}"));
        let rendered = render(&program, &["--set", ALL, "--set-json", &own, "--set-json", &receiver]).await.ok();
        let services: Vec<Value> = objects(&rendered).into_iter().filter(|o| o["kind"] == "Service").collect();
        assert_eq!(services.len(), 3);
        for service in services {
            let args = ["create", "--dry-run=server", "--validate=strict", "-o", "json", "-f", "-"];
            let made = cluster.kubectl_as(User::ADMIN, &args, &service.to_string()).await.ok();
            let made: Value = serde_json::from_str(&made).unwrap();
            if !policy.is_empty() {
                assert_eq!(made["spec"]["ipFamilyPolicy"], policy);
            }
            if !families.is_empty() {
                assert_eq!(made["spec"]["ipFamilies"], json!(families));
            }
        }
    }
}
