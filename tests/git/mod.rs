//! Repository access, through the real program, real `git` and real connections.

mod access;
mod child;
mod clone;
mod crowd;
mod files;
mod gate;
mod github;
mod history;
pub(crate) mod real;
mod references;
#[cfg(debug_assertions)]
mod sandbox;
pub(crate) mod server;
mod servers;
mod signatures;
pub(crate) mod signing;
mod support;
