//! Tests that cannot run everywhere.

use std::{env, fs::File, io::Write, thread};

/// Ends the test here, as skipped: `skip!("needs root")`. It is said on the terminal, also where the test runner keeps
/// what tests print, and counted at the end of `make test`. Where `CI` is `true` everything has to run: there it fails.
#[allow(unused_macros, reason = "the tests and the demo each use a part of it")]
macro_rules! skip {
    ($why:expr) => {{
        $crate::cluster::skip::skipped(&$why);
        return;
    }};
}
#[allow(unused_imports, reason = "the tests and the demo each use a part of it")]
pub(crate) use skip;

/// What `skip!` does before it returns.
pub(crate) fn skipped(why: &dyn std::fmt::Display) {
    let current = thread::current();
    let line = format!("SKIPPED {}: {why}\n", current.name().unwrap_or("a test"));
    assert!(env::var("CI").as_deref() != Ok("true"), "nothing may be skipped here: {line}");
    // Unlike `eprint!` this is not held back by the test runner. A closed terminal is no reason to fail.
    let _ = std::io::stderr().write_all(line.as_bytes());
    if let Some(list) = env::var_os("SEKUIRE_SKIPS") {
        File::options()
            .create(true)
            .append(true)
            .open(&list)
            .and_then(|mut file| file.write_all(line.as_bytes()))
            .unwrap_or_else(|e| panic!("append to {}: {e}", list.display()));
    }
}
