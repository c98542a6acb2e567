//! What admission costs: `make bench`.
//!
//! The decision alone, then the webhook over TLS on 127.0.0.1 beside two floors: a handler in the same server that allows
//! everything, and a bare program of hyper and rustls that answers at once. All take turns in one run, so that a busy machine is
//! as busy for each; what counts are the ratios, and each has a bound. `BENCH_ROUNDS` (11; 3 with `BENCH_QUICK=1`) is how often.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what cannot be measured ends the benchmark"
)]

#[path = "../bounds.rs"]
mod bounds;
mod load;
mod servers;
#[path = "../../tests/admission/world.rs"]
#[allow(dead_code, reason = "the tests use the rest")]
mod world;

use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use sekuire_policy::admission::index::Enforced;
use sekuire_policy::admission::routes::Handler as _;
use sekuire_policy::admission::{PolicyIndex, Webhook};
use sekuire_policy::policy::{AgentSpec, Subject, decide, decision};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

use bounds::Bounds;
use load::{Load, Target};

const MANY: usize = 10_000;
const TURN: Duration = Duration::from_millis(300);

fn main() -> ExitCode {
    // `cargo test --benches` only wants to know that it builds
    if std::env::args().any(|argument| argument == "--test") {
        return ExitCode::SUCCESS;
    }
    let rounds = std::env::var("BENCH_ROUNDS").ok().and_then(|rounds| rounds.parse().ok());
    let rounds = rounds.unwrap_or_else(|| bounds::times(11, 3));
    let mut bounds = Bounds::default();
    let (one, many) = indices(&mut bounds);
    decisions(&one, &many, rounds, &mut bounds);
    webhook(&one, &many, rounds, &mut bounds);
    bounds.end()
}

/// What 10 000 policies may take of memory. Measured: 56 MB.
const MOST_MEGABYTES: f64 = 96.0;
/// By how much a decision may be slower with 10 000 workspaces than with one: what they are looked up in no longer fits into the
/// caches of a processor.
const MOST_OF_MANY: f64 = 2.5;
/// What a review may take from its body to the answer, in microseconds; the alert on slow answers names this bound.
const MOST_OF_A_REVIEW: f64 = 1_000.0;
/// p50 of one connection beside that of the bare server. Measured: 1.09.
const MOST_OF_BARE: f64 = 1.35;
/// Requests a second of 16 connections beside those of the bare server. Measured: 0.71.
const LEAST_OF_BARE: f64 = 0.5;

fn indices(bounds: &mut Bounds) -> (Arc<PolicyIndex>, Arc<PolicyIndex>) {
    let one = world::index(1);
    let before = resident();
    let many = world::index(MANY);
    let grown = resident().saturating_sub(before);
    #[expect(clippy::cast_precision_loss, reason = "megabytes")]
    bounds.at_most(&format!("MB that {MANY} policies take in memory"), grown as f64 / 1e6, MOST_MEGABYTES);
    println!();
    (one, many)
}

/// Bytes of memory of this process that are resident.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}

// === the decision alone

fn violating() -> Value {
    let mut spec = world::compliant();
    spec["model"] = json!({"provider": "acme", "name": "gpt-4-32k"});
    spec["tools"] = json!([{"name": "shell_exec"}, {"name": "mail_delete"}, {"name": "web_search"}]);
    spec
}

/// Nanoseconds of one call, by the fastest half of many batches.
struct Timed<'a> {
    name: &'static str,
    run: Box<dyn FnMut(usize) + 'a>,
    nanoseconds: Vec<f64>,
}

fn timed<'a>(name: &'static str, run: impl FnMut(usize) + 'a) -> Timed<'a> {
    Timed { name, run: Box::new(run), nanoseconds: Vec::new() }
}

fn decisions(one: &Arc<PolicyIndex>, many: &Arc<PolicyIndex>, rounds: usize, bounds: &mut Bounds) {
    const BATCH: usize = 2000;
    let (good, bad): (AgentSpec, AgentSpec) =
        (serde_json::from_value(world::compliant()).unwrap(), serde_json::from_value(violating()).unwrap());
    let decided = |index: &PolicyIndex, agent: &AgentSpec, number: usize| {
        let workspace = format!("ws_{number}");
        let Enforced::Policy { policy, source } = index.enforced(&workspace) else { panic!("no policy") };
        let enforced =
            decision::Enforced::Policy { policy: &policy, commit: source.as_ref().map(|s| s.commit.as_str()) };
        let subject = Subject { namespace: "team", workspace: Some(&workspace) };
        black_box(decide(&subject, enforced, agent, Timestamp::now()).allowed)
    };
    let whole = |index: &Arc<PolicyIndex>| {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let webhook = Webhook::new(index.clone());
        let body = bytes::Bytes::from(world::review("team-0", &world::compliant()));
        move || {
            black_box(runtime.block_on(webhook.validate(body.clone())));
        }
    };
    let (whole_one, whole_many) = (whole(one), whole(many));
    let mut all = [
        timed("look up and decide, complies, 1 workspace", |_| _ = decided(one, &good, 0)),
        timed("look up and decide, complies, 10 000 workspaces", |n| _ = decided(many, &good, n * 7919 % MANY)),
        timed("look up and decide, 4 violations, 1 workspace", |_| _ = decided(one, &bad, 0)),
        timed("body to answer, complies, 1 workspace", move |_| whole_one()),
        timed("body to answer, complies, 10 000 workspaces", move |_| whole_many()),
    ];
    for _ in 0..rounds * 4 {
        for timed in &mut all {
            let start = Instant::now();
            (0..BATCH).for_each(&mut timed.run);
            #[expect(clippy::cast_precision_loss, reason = "a time for people")]
            timed.nanoseconds.push(start.elapsed().as_nanos() as f64 / BATCH as f64);
        }
    }
    println!("{:<52}{:>9}{:>12}{:>12}", "in memory", "median", "fastest", "slowest");
    let mut medians = Vec::new();
    for timed in &mut all {
        let (median, fastest, slowest) = summary(&mut timed.nanoseconds);
        medians.push(median);
        println!("{:<52}{:>6.2} µs{:>9.2} µs{:>9.2} µs", timed.name, median / 1e3, fastest / 1e3, slowest / 1e3);
    }
    bounds.at_most("a decision with 10 000 workspaces ÷ with one", medians[1] / medians[0], MOST_OF_MANY);
    bounds.at_most("body to answer with 10 000 workspaces ÷ with one", medians[4] / medians[3], MOST_OF_MANY);
    bounds.at_most("µs from body to answer", medians[4] / 1e3, MOST_OF_A_REVIEW);
    println!();
}

fn summary(values: &mut [f64]) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    (values[values.len() / 2], values[0], values[values.len() - 1])
}

// === the webhook

fn runtime(threads: usize) -> Runtime {
    Builder::new_multi_thread().worker_threads(threads).enable_all().build().unwrap()
}

fn webhook(one: &Arc<PolicyIndex>, many: &Arc<PolicyIndex>, rounds: usize, bounds: &mut Bounds) {
    // as the controller runs: as many threads as cores
    let servers = runtime(std::thread::available_parallelism().map_or(2, std::num::NonZero::get));
    let clients = runtime(1);
    let certified = servers::Certified::new();
    let good = |namespaces: usize| -> Vec<Vec<u8>> {
        let step = MANY / 64;
        (0..64).map(|n| world::review(&format!("team-{}", n * step % namespaces), &world::compliant())).collect()
    };
    let bad = vec![world::review("team-0", &violating())];
    let target = |name, address, bodies, allowed| Target { name, address, bodies, allowed };
    let (bare, null) = (servers.block_on(certified.bare()), servers.block_on(certified.allowing()));
    let (ours, ours_many) =
        (servers.block_on(certified.webhook(one.clone())), servers.block_on(certified.webhook(many.clone())));
    let targets = [
        target("bare hyper + rustls, answers at once", bare, good(1), true),
        target("same server, allows everything", null, good(1), true),
        target("webhook, complies, 1 workspace", ours, good(1), true),
        target("webhook, complies, 10 000 workspaces", ours_many, good(MANY), true),
        target("webhook, 4 violations, 1 workspace", ours, bad, false),
    ];
    for connections in [1, 16] {
        let mut loads: Vec<Load> = targets
            .iter()
            .map(|target| clients.block_on(Load::open(target, connections, certified.trusting())))
            .collect();
        let mut results: Vec<Result> = targets.iter().map(|_| Result::default()).collect();
        for round in 0..=rounds {
            for (load, result) in loads.iter_mut().zip(&mut results) {
                let (median, per_second) = clients.block_on(load.turn(TURN));
                // the first round is for warming up
                if round > 0 {
                    result.median.push(median.as_secs_f64() * 1e6);
                    result.per_second.push(per_second);
                }
            }
        }
        report(connections, &targets, &mut results, bounds);
    }
}

#[derive(Default)]
struct Result {
    median: Vec<f64>,
    per_second: Vec<f64>,
}

fn report(connections: usize, targets: &[Target], results: &mut [Result], bounds: &mut Bounds) {
    let s = if connections == 1 { "" } else { "s" };
    println!(
        "{:<40}{:>12}{:>20}{:>12}{:>9}{:>9}",
        format!("HTTP/1.1 over TLS, {connections} connection{s}"),
        "p50",
        "(of the rounds)",
        "a second",
        "÷ bare",
        "÷ same"
    );
    let summaries: Vec<_> =
        results.iter_mut().map(|result| (summary(&mut result.median), summary(&mut result.per_second).0)).collect();
    let mut of_bare = Vec::new();
    for (target, ((median, fastest, slowest), per_second)) in targets.iter().zip(&summaries) {
        let ratio = |floor: usize| match connections {
            1 => median / summaries[floor].0.0,
            _ => per_second / summaries[floor].1,
        };
        of_bare.push(ratio(0));
        println!(
            "{:<40}{:>9.1} µs{:>20}{:>12.0}{:>9.2}{:>9.2}",
            target.name,
            median,
            format!("{fastest:.1} to {slowest:.1}"),
            per_second,
            ratio(0),
            ratio(1)
        );
    }
    println!("ratios are of {}", if connections == 1 { "p50" } else { "requests a second" });
    // the two that comply: what a refusal says is longer
    for (target, ratio) in targets.iter().zip(of_bare).skip(2).take(2) {
        let what = format!("{}, {connections} connection{s} ÷ bare", target.name);
        match connections {
            1 => bounds.at_most(&what, ratio, MOST_OF_BARE),
            _ => bounds.at_least(&what, ratio, LEAST_OF_BARE),
        }
    }
    println!();
}
