//! The pure core, through its public surface.

#![allow(unreachable_pub, reason = "a test binary has no callers outside")]

mod support;
mod vectors;
