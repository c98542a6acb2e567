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
use sekuire_policy::api::Agent;
use serde_json::{Value, json};
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

/// What the webhook's own refusal begins with, as the API server passes it on. When the webhook does not answer, it says something
/// else.
const OWN_DENIAL: &str = "denied the request: Agent ";

/// A version of the document that moves on: of each kind of rules one, and its own tool.
fn moving(site: &Site, version: u32) -> Value {
    let content = json!({
        "agent": {
            "capabilities": {"denied_tools": [DENIED, denied_by(version)]},
            "models": {"denied_models": ["gpt-4"]},
        },
        "permissions": {
            "network": {"enabled": true, "blocked_domains": ["evil.example.com"]},
            "filesystem": {"enabled": true, "allowed_paths": ["/data/*"]},
        },
    });
    serde_json::from_str(&site.signer.document(MOVING, &version.to_string(), "active", content)).unwrap()
}

/// What a replica is asked: an agent, and the rule that it must be refused by, if any.
struct Question {
    agent: Agent,
    rule: Option<&'static str>,
}

/// The agent with one tool, and something else of its spec replaced.
fn asking(namespace: &str, tool: &str, member: &str, value: Value) -> Agent {
    let mut agent = serde_json::to_value(agent(namespace, "probe", &[tool])).unwrap();
    agent["spec"][member] = value;
    serde_json::from_value(agent).unwrap()
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
            agent: agent(namespace, "probe", &[tool]),
            rule: refused.then_some("[tool.blocked]"),
        };
        let mut all = vec![
            question(&self.moving, DENIED, true),
            question(&self.moving, "search", false),
            question(&self.still, DENIED, true),
            question(&self.still, "search", false),
        ];
        all.extend((1..=version).map(|of| question(&self.moving, &denied_by(of), of == version)));
        all.push(Question { agent: agent("default", "probe", &["search"]), rule: Some("[workspace.unbound]") });
        // of each kind of rules one, as each has code of its own
        let moving = |member: &str, value: Value| asking(&self.moving, "search", member, value);
        let network = |host: &str| json!({"network": {"allowedHosts": [host], "requireTls": true}});
        let files = |path: &str| json!({"filesystem": {"allowedPaths": [path]}});
        let model = |name: &str| json!({"provider": "anthropic", "name": name});
        all.extend([
            Question { agent: moving("model", model("gpt-4")), rule: Some("[model.blocked]") },
            Question { agent: moving("model", model("claude-sonnet")), rule: None },
            Question { agent: moving("permissions", network("evil.example.com")), rule: Some("[network.blocked]") },
            Question { agent: moving("permissions", network("good.example.com")), rule: None },
            Question { agent: moving("permissions", files("/etc/passwd")), rule: Some("[filesystem.not_allowed]") },
            Question { agent: moving("permissions", files("/data/in")), rule: None },
            Question { agent: moving("workspace", STILL.into()), rule: Some("[workspace.mismatch]") },
        ]);
        all
    }

    async fn commit(&self, version: u32) {
        self.site.commit([&moving(&self.site, version)]).await;
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
            let (allowed, why) = probes::review(replica, &question.agent).await?;
            question.judge((!allowed).then_some(why.as_str()))?;
        }
        Ok(())
    }

    /// Whether the API server does, which asks the replica that leads.
    async fn admits(&self, version: u32) -> Result<(), String> {
        for question in self.questions(version) {
            let namespace = question.agent.metadata.namespace.as_deref().unwrap_or_default();
            let created = self.site.agents(namespace).create(&dry_run(), &question.agent).await;
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
        let Question { agent, rule } = self;
        let asked = json!([agent.metadata.namespace, agent.spec]);
        if right { Ok(()) } else { Err(format!("{asked}, ought to be {rule:?}: {refused:?}")) }
    }
}

/// Tries agents that no version admits, and agents that every version does, without a pause, through the API server. While one
/// replica hands over to another, the API server may ask one that has gone; at any other time each answer has to be the webhook's
/// own, and right.
struct Guard {
    stop: Arc<AtomicBool>,
    handing_over: Arc<AtomicBool>,
    task: JoinHandle<Watched>,
}

/// What a guard has seen.
#[derive(Debug, Default)]
struct Watched {
    denied: usize,
    admitted: usize,
    /// Without an answer of the webhook, while one replica handed over to another.
    unanswered: usize,
    faults: Vec<String>,
}

impl Watched {
    fn note(&mut self, what: &str, good: bool, answer: Result<Agent, kube::Error>, handing_over: bool) {
        match answer {
            Ok(_) if good => self.admitted += 1,
            Ok(_) => self.faults.push(format!("{what} was admitted")),
            Err(error) => {
                let why = error.to_string();
                if !why.contains(OWN_DENIAL) && handing_over {
                    self.unanswered += 1;
                } else if !good && why.contains(OWN_DENIAL) && why.contains("[tool.blocked]") {
                    self.denied += 1;
                } else {
                    self.faults.push(format!("{what}: {why}"));
                }
            }
        }
    }
}

impl Guard {
    fn start(site: &Site, namespaces: [&str; 2]) -> Guard {
        let (stop, handing_over) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let tries = namespaces.map(|namespace| {
            let bad = agent(namespace, "bad", &["search", DENIED]);
            (site.agents(namespace), [(bad, false), (agent(namespace, "good", &["search"]), true)])
        });
        let (stopped, between) = (stop.clone(), handing_over.clone());
        let task = tokio::spawn(async move {
            let mut watched = Watched::default();
            while !stopped.load(Ordering::Relaxed) {
                for (api, agents) in &tries {
                    for (agent, good) in agents {
                        let before = between.load(Ordering::Relaxed);
                        let answer = api.create(&dry_run(), agent).await;
                        let what = format!("{:?} in {:?}", agent.metadata.name, agent.metadata.namespace);
                        watched.note(&what, *good, answer, before || between.load(Ordering::Relaxed));
                    }
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            watched
        });
        Guard { stop, handing_over, task }
    }

    /// Until it is said otherwise, answers may be missing.
    fn hands_over(&self, yes: bool) {
        self.handing_over.store(yes, Ordering::Relaxed);
    }

    async fn stop(self) -> Watched {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}

/// A cluster as the version before left it, its one replica leading.
async fn installed(previous: &Path) -> (Upgrade, Controller) {
    let site = Site::with_kinds(Cluster::options(), &previous.join("crds")).await;
    let before = ControllerOptions::new("before").program(previous.join("sekuire")).start(&site.cluster).await;
    site.led_by("before").await;
    let documents: [Value; 2] = [moving(&site, 1), site.document(STILL, "1", &[DENIED])];
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
    upgrade.guard.hands_over(true);
    assert!(before.terminate().await.success(), "{}", before.log());
    site.led_by("present").await;
    upgrade.agree(2, &[&present]).await;
    upgrade.guard.hands_over(false);
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
    upgrade.guard.hands_over(true);
    assert!(present.terminate().await.success(), "{}", present.log());
    site.led_by("before").await;
    upgrade.agree(4, &[&before]).await;
    upgrade.guard.hands_over(false);
    upgrade.publish(5, &[&before]).await;
    present.start_again();
    present.ready().await;
    upgrade.agree(5, &[&before, &present]).await;
    upgrade.publish(6, &[&before, &present]).await;
    site.led_by("before").await;
    upgrade.rest("the version before leads again").await;

    // until the next try; what an earlier commit said is not taken from either
    site.cluster.apply_crds(Path::new(CRDS)).await;
    upgrade.guard.hands_over(true);
    assert!(before.terminate().await.success(), "{}", before.log());
    site.led_by("present").await;
    upgrade.agree(6, &[&present]).await;
    upgrade.guard.hands_over(false);
    upgrade.publish(7, &[&present]).await;
    upgrade.rest("this version is alone").await;
    let watched = upgrade.guard.stop().await;
    assert!(watched.denied > 0 && watched.admitted > 0 && watched.faults.is_empty(), "{watched:?}");
}
