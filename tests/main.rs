//! Everything that needs more than the pure core, one module a surface. The pure core's tests are `tests/policy`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on ends")]

mod cluster;
