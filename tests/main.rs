//! Everything but the pure core, one module a surface.
#![cfg(feature = "operator")]

mod git;
