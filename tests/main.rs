//! Everything but the pure core, one module a surface.
#![cfg(feature = "operator")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    unreachable_pub,
    reason = "a test that cannot go on ends"
)]

mod admission;
mod chart;
mod cli;
mod cluster;
mod example;
mod git;
mod harness;
mod image;
mod leaks;
mod observe;
mod pitfalls;
mod reconcile;
mod resilience;
mod rollout;
