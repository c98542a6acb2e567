//! Everything but the pure core, one module a surface.
#![cfg(feature = "operator")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    unreachable_pub,
    reason = "a test fails by panicking, and nobody else uses its helpers"
)]

mod git;
