//! The metrics that every program has in Prometheus: `process_*`.
//!
//! The crate `prometheus` has them too, and brings an old `procfs` and with it a second `rustix`.

use procfs::process::{LimitValue, Process, Stat};
use prometheus::core::Collector as _;
use prometheus::proto::MetricFamily;

use super::metrics::built;
use super::state::gauges;

/// What the kernel says of this process; nothing, where it says nothing.
pub(super) fn families() -> Vec<MetricFamily> {
    let Ok(process) = Process::myself() else { return Vec::new() };
    let mut all = Vec::new();
    if let Ok(stat) = process.stat() {
        all.extend(of_stat(&stat));
    }
    let mut gauge = |name: &str, help: &str, value: f64| all.extend(gauges(name, help, &[], [(Vec::new(), value)]));
    if let Ok(count) = process.fd_count() {
        gauge("process_open_fds", "Number of open file descriptors.", number(count as u64));
    }
    if let Ok(limits) = process.limits()
        && let LimitValue::Value(most) = limits.max_open_files.soft_limit
    {
        gauge("process_max_fds", "Maximum number of open file descriptors.", number(most));
    }
    all
}

fn of_stat(stat: &Stat) -> Vec<MetricFamily> {
    let ticks = procfs::ticks_per_second();
    let cpu = built(prometheus::Counter::new(
        "process_cpu_seconds_total",
        "Total user and system CPU time spent in seconds.",
    ));
    cpu.inc_by(number(stat.utime + stat.stime) / number(ticks));
    let mut all = cpu.collect();
    let mut gauge = |name: &str, help: &str, value: f64| all.extend(gauges(name, help, &[], [(Vec::new(), value)]));
    gauge("process_resident_memory_bytes", "Resident memory size in bytes.", number(stat.rss * procfs::page_size()));
    gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.", number(stat.vsize));
    gauge("process_threads", "Number of OS threads in the process.", number(stat.num_threads.unsigned_abs()));
    if let Ok(boot) = procfs::boot_time_secs() {
        let start = number(boot) + number(stat.starttime) / number(ticks);
        gauge("process_start_time_seconds", "Start time of the process since unix epoch in seconds.", start);
    }
    all
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus knows no other numbers")]
fn number(value: u64) -> f64 {
    value as f64
}
