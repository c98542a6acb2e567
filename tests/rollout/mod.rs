//! Introducing policies on a running cluster, stopping their enforcement, and taking the controller away again.

mod break_glass;
mod clock;
mod labels;
mod modes;
mod owner;
mod silent;
pub(crate) mod support;
mod writers;
