//! An upgrade: a replica of this version beside one of the version before, with the kinds of either.
//!
//! `SEKUIRE_PREVIOUS` names the folder of the version before, which `tests/previous/build.sh` makes.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use kube::Client;
use serde_json::Value;
use tokio::task::JoinHandle;

use super::{
    probes,
    support::{DENIED, History, Site, agent, dry_run, until},
};
use crate::cluster::{Cluster, Controller, ControllerOptions, server::CRDS, skip::skip};

/// The workspace that gets every version, and one that stays as it is.
const MOVING: &str = "ws_moving";
const STILL: &str = "ws_still";
/// For how long nothing may be written: two looks at the repository and more than one renewal of the Lease.
const REST: Duration = Duration::from_secs(5);

/// The tool that the document of this version denies, beside the one that all deny.
fn denied_by(version: u32) -> String {
    format!("tool-{version}")
}

/// What a replica is asked: by its namespace, the tool of an agent, and the rule that it must be refused by, if any.
struct Question {
    namespace: String,
    tool: String,
    rule: Option<&'static str>,
}

struct Upgrade {
    site: Site,
    moving: String,
    still: String,
    guard: Guard,
    history: History,
}

impl Upgrade {
    /// What is right while this version is enforced: of the versions, each denies its own tool and no other's.
    fn questions(&self, version: u32) -> Vec<Question> {
        let question = |namespace: &str, tool: &str, refused: bool| Question {
            namespace: namespace.to_owned(),
            tool: tool.to_owned(),
            rule: refused.then_some("[tool.blocked]"),
        };
        let mut all = vec![
            question(&self.moving, DENIED, true),
            question(&self.moving, "search", false),
            question(&self.still, DENIED, true),
            question(&self.still, "search", false),
        ];
        all.extend((1..=version).map(|of| question(&self.moving, &denied_by(of), of == version)));
        let workspace = Some("[workspace.unbound]");
        all.push(Question { namespace: "default".to_owned(), tool: "search".to_owned(), rule: workspace });
        all
    }

    async fn commit(&self, version: u32) {
        let denied = denied_by(version);
        let document = self.site.document(MOVING, &version.to_string(), &[DENIED, &denied]);
        self.site.commit([&document]).await;
    }

    /// Publishes a version, and waits until it is enforced and all these replicas, and the API server, say so.
    async fn publish(&self, version: u32, replicas: &[&Controller]) {
        self.commit(version).await;
        self.agree(version, replicas).await;
    }

    async fn agree(&self, version: u32, replicas: &[&Controller]) {
        self.site.enforced("ws-moving", &version.to_string()).await;
        self.site.enforced("ws-still", "1").await;
        for replica in replicas {
            let (client, who) = (probes::direct(replica), replica.identity());
            until(&format!("{who} judges by version {version}"), async || self.right(&client, version).await).await;
        }
        until(&format!("the API server judges by version {version}"), async || self.admits(version).await).await;
        // having agreed, they go on to
        for replica in replicas {
            let answer = self.right(&probes::direct(replica), version).await;
            assert_eq!(answer, Ok(()), "{}\n{}", replica.identity(), replica.log());
        }
    }

    /// Whether a replica answers every question as is right.
    async fn right(&self, replica: &Client, version: u32) -> Result<(), String> {
        for question in self.questions(version) {
            let agent = agent(&question.namespace, "probe", &[&question.tool]);
            let (allowed, why) = probes::review(replica, &agent).await?;
            question.judge((!allowed).then_some(why.as_str()))?;
        }
        Ok(())
    }

    /// Whether the API server does, which asks the replica that leads.
    async fn admits(&self, version: u32) -> Result<(), String> {
        for question in self.questions(version) {
            let agent = agent(&question.namespace, "probe", &[&question.tool]);
            let created = self.site.agents(&question.namespace).create(&dry_run(), &agent).await;
            question.judge(created.err().map(|error| error.to_string()).as_deref())?;
        }
        Ok(())
    }

    /// That the replicas do not write against each other, and what everything is at then.
    async fn rest(&self, when: &str) -> BTreeMap<String, String> {
        let rest = self.site.at_rest().await;
        self.site.stays_at(&rest, REST, when).await;
        self.no_faults(when);
        rest
    }

    fn no_faults(&self, when: &str) {
        assert_eq!(self.history.faults(), Vec::<String>::new(), "{when}");
    }
}

impl Question {
    fn judge(&self, refused: Option<&str>) -> Result<(), String> {
        let right = match (refused, self.rule) {
            (None, None) => true,
            (Some(why), Some(rule)) => why.contains(rule),
            _ => false,
        };
        let Question { namespace, tool, rule } = self;
        if right { Ok(()) } else { Err(format!("{tool} in {namespace}, ought to be {rule:?}: {refused:?}")) }
    }
}

/// Tries agents that no version admits, without a pause, and notes it when one is admitted.
struct Guard {
    stop: Arc<AtomicBool>,
    task: JoinHandle<(u32, Vec<String>)>,
}

impl Guard {
    fn start(site: &Site, namespaces: [&str; 2]) -> Guard {
        let stop = Arc::new(AtomicBool::new(false));
        let tries = namespaces.map(|namespace| (site.agents(namespace), agent(namespace, "bad", &["search", DENIED])));
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let (mut tried, mut admitted) = (0, Vec::new());
            while !stopped.load(Ordering::Relaxed) {
                for (api, agent) in &tries {
                    tried += 1;
                    if api.create(&dry_run(), agent).await.is_ok() {
                        admitted.push(format!("{:?} was admitted", agent.metadata.namespace));
                    }
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            (tried, admitted)
        });
        Guard { stop, task }
    }

    async fn stop(self) -> (u32, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}

/// A cluster as the version before left it, its one replica leading.
async fn installed(previous: &Path) -> (Upgrade, Controller) {
    let site = Site::with_kinds(Cluster::options(), &previous.join("crds")).await;
    let before = ControllerOptions::new("before").program(previous.join("sekuire")).start(&site.cluster).await;
    site.led_by("before").await;
    let documents: [Value; 2] =
        [site.document(MOVING, "1", &[DENIED, &denied_by(1)]), site.document(STILL, "1", &[DENIED])];
    let (moving, still) = (site.namespace(MOVING).await, site.namespace(STILL).await);
    site.commit(&documents).await;
    site.enforced("ws-moving", "1").await;
    site.enforced("ws-still", "1").await;
    // a namespace that is only just made is not known yet
    for namespace in [&moving, &still] {
        let agent = agent(namespace, "good", &["search"]);
        until("admitted", async || site.agents(namespace).create(&dry_run(), &agent).await.map(drop)).await;
    }
    let guard = Guard::start(&site, [&moving, &still]);
    let history = History::record(&site.client);
    let upgrade = Upgrade { site, moving, still, guard, history };
    upgrade.agree(1, &[&before]).await;
    (upgrade, before)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_of_this_version_and_the_one_before_agree_whichever_of_them_leads() {
    let previous = std::env::var_os("SEKUIRE_PREVIOUS").filter(|path| !path.is_empty()).map(PathBuf::from);
    let Some(previous) = previous else {
        skip!(
            "SEKUIRE_PREVIOUS is not set: run with SEKUIRE_PREVIOUS=$(tests/previous/build.sh), which says why it may not be"
        )
    };
    let (upgrade, mut before) = installed(&previous).await;
    let site = &upgrade.site;

    // the kinds first, then a replica that stands by, as docs/install.md has it
    site.cluster.apply_crds(Path::new(CRDS)).await;
    let mut present = ControllerOptions::new("present").start(&site.cluster).await;
    upgrade.agree(1, &[&before, &present]).await;
    upgrade.publish(2, &[&before, &present]).await;
    site.led_by("before").await;
    upgrade.rest("the version before leads").await;

    // the upgrade goes on
    assert!(before.terminate().await.success(), "{}", before.log());
    site.led_by("present").await;
    upgrade.agree(2, &[&present]).await;
    upgrade.publish(3, &[&present]).await;
    before.start_again();
    before.ready().await;
    upgrade.agree(3, &[&before, &present]).await;
    upgrade.publish(4, &[&before, &present]).await;
    site.led_by("present").await;
    upgrade.rest("this version leads").await;

    // and is taken back: the kinds first again, as by `helm rollback`
    site.cluster.apply_crds(&previous.join("crds")).await;
    upgrade.agree(4, &[&before, &present]).await;
    assert!(present.terminate().await.success(), "{}", present.log());
    site.led_by("before").await;
    upgrade.publish(5, &[&before]).await;
    present.start_again();
    present.ready().await;
    upgrade.agree(5, &[&before, &present]).await;
    upgrade.publish(6, &[&before, &present]).await;
    site.led_by("before").await;
    upgrade.rest("the version before leads again").await;

    // until the next try; what an earlier commit said is not taken from either
    site.cluster.apply_crds(Path::new(CRDS)).await;
    assert!(before.terminate().await.success(), "{}", before.log());
    site.led_by("present").await;
    upgrade.publish(7, &[&present]).await;
    upgrade.rest("this version is alone").await;
    let (tried, admitted) = upgrade.guard.stop().await;
    assert!(tried > 0 && admitted.is_empty(), "of {tried} agents that no version admits: {admitted:?}");
}
