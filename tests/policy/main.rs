//! The pure core, through its public surface.

#![allow(unreachable_pub, reason = "a test binary has no callers outside")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on ends")]
#![allow(clippy::too_many_lines, clippy::needless_pass_by_value, reason = "tables of cases, made in place by json!")]

mod advice;
mod copies;
mod decisions;
mod keys;
mod naive;
mod names;
mod parsing;
mod parsing_yaml;
mod properties;
mod rules;
mod signing;
mod small_types;
mod summary;
mod support;
mod thresholds;
mod vectors;
mod verification;
