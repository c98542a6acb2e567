//! The pure core, through its public surface.

#![allow(unreachable_pub, reason = "a test binary has no callers outside")]

mod decisions;
mod keys;
mod naive;
mod parsing;
mod parsing_yaml;
mod properties;
mod rules;
mod signing;
mod small_types;
mod support;
mod vectors;
mod verification;
