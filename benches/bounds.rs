//! What was measured, held against what it may be: a benchmark that exceeds a bound ends with exit code 1.
//!
//! Bounds have room: they are for what is several times slower than it was, and not for a busy machine. Where two things take
//! turns in one run their ratio is bounded, which a busy machine leaves alone; times by themselves have more room.

use std::process::ExitCode;

/// The bounds that were not kept.
#[derive(Debug, Default)]
pub(crate) struct Bounds {
    exceeded: Vec<String>,
}

impl Bounds {
    /// What must not be more than `most`.
    pub(crate) fn at_most(&mut self, what: &str, measured: f64, most: f64) {
        self.hold(what, measured <= most, &format!("{measured:.2}, at most {most}"));
    }

    /// What must not be less than `least`.
    #[allow(dead_code, reason = "not every benchmark has a lower bound")]
    pub(crate) fn at_least(&mut self, what: &str, measured: f64, least: f64) {
        self.hold(what, measured >= least, &format!("{measured:.2}, at least {least}"));
    }

    fn hold(&mut self, what: &str, kept: bool, figures: &str) {
        println!("{} {what}: {figures}", if kept { "kept    " } else { "EXCEEDED" });
        if !kept {
            self.exceeded.push(what.to_owned());
        }
    }

    /// How the benchmark ends.
    pub(crate) fn end(self) -> ExitCode {
        if self.exceeded.is_empty() {
            return ExitCode::SUCCESS;
        }
        eprintln!("bounds that were not kept: {}", self.exceeded.join("; "));
        ExitCode::FAILURE
    }
}

/// As often as it is worth for a number, or, with `BENCH_QUICK=1`, for seeing that nothing is several times slower.
pub(crate) fn times(usual: usize, quick: usize) -> usize {
    if std::env::var("BENCH_QUICK").is_ok_and(|quick| quick == "1") { quick } else { usual }
}
