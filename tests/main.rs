//! Everything but the pure core, one module a surface.
#![cfg(feature = "operator")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on ends")]

mod cluster;
mod example;
mod git;
mod resilience;
